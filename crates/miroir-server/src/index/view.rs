//! An immutable picture of an index: what it is, where its replicas are and in which state, and which nodes to ask.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use miroir_core::cover::{Cover, minimal_covers, narrowed_covers};
use miroir_core::latency::choose_cover;
use miroir_core::pinning::Ids;
use miroir_core::replica::ReplicaState;
use miroir_core::search::SearchSettings;
use miroir_core::shard::ShardId;
use miroir_node::Fleet;
use miroir_store::IndexRecord;

/// Whether some node does not hold the whole index, so that answers may have to be merged.
pub(crate) fn is_split(record: &IndexRecord) -> bool {
    let mut holdings: HashMap<&String, usize> = HashMap::new();
    for node in record.placement.iter().flatten() {
        *holdings.entry(node).or_default() += 1;
    }
    holdings.values().any(|shards| *shards < record.placement.len())
}

/// States of the replicas that are not active: (shard, node) -> state.
pub type Exceptions = HashMap<(ShardId, String), ReplicaState>;

/// An immutable picture of one index.
pub struct IndexView {
    /// What the store holds of it.
    pub record: IndexRecord,
    /// The part of the settings that searches need.
    pub search: SearchSettings,
    /// Replicas that are not active.
    pub exceptions: Exceptions,
    /// Settings changes sent to nodes and not yet committed. Shared between the pictures of one index.
    pub settings_in_flight: Arc<AtomicUsize>,
    rotation: Arc<AtomicU64>,
    covers: Mutex<HashMap<Vec<bool>, Arc<Vec<Cover>>>>,
}

/// Sets of usable nodes whose covers are remembered; a fleet has few at a time.
const REMEMBERED_COVERS: usize = 64;
/// Reads without an affinity that go to the same one of equally good covers before it is the next one's turn.
const READS_PER_TURN: u64 = 1_024;
/// Equally good covers that are chosen from.
const ROTATED_COVERS: usize = 64;

impl IndexView {
    /// Makes a picture of what the store holds.
    pub fn new(record: IndexRecord, exceptions: Exceptions, previous: Option<&IndexView>) -> Self {
        let settings = SearchSettings::from_settings(&record.settings);
        let node_uid = (record.node_uid != record.uid).then(|| record.node_uid.as_str().into());
        let search = SearchSettings { is_split: is_split(&record), node_uid, ..settings };
        let (settings_in_flight, rotation) = match previous {
            Some(view) => (Arc::clone(&view.settings_in_flight), Arc::clone(&view.rotation)),
            None => Default::default(),
        };
        Self { record, search, exceptions, settings_in_flight, rotation, covers: Mutex::default() }
    }

    /// Whether a change of settings is on its way, so that nodes may differ by right.
    pub fn settings_are_changing(&self) -> bool {
        self.settings_in_flight.load(Ordering::Acquire) > 0
    }

    /// Whether another picture is of the same index, and not of one of the same name that was deleted or swapped.
    pub fn is_of_the_index_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.settings_in_flight, &other.settings_in_flight)
    }

    /// What is known of the ids of its documents.
    pub fn ids(&self) -> Ids<'_> {
        let IndexRecord { primary_key, shards, capital_ids, .. } = &self.record;
        Ids { primary_key: primary_key.as_deref(), shards: *shards, capitals: *capital_ids }
    }

    /// The state of one replica of the placement.
    pub fn replica_state(&self, shard: ShardId, node: &str) -> ReplicaState {
        self.exceptions.get(&(shard, node.to_owned())).copied().unwrap_or(ReplicaState::Active)
    }

    /// Shards placed on a node, in any state.
    pub fn shards_on(&self, node: &str) -> Vec<ShardId> {
        self.shards().filter(|(_, nodes)| nodes.iter().any(|id| id == node)).map(|(shard, _)| shard).collect()
    }

    /// Whether some replica on a node is read.
    pub fn is_read_on(&self, node: &str) -> bool {
        self.shards_on(node).into_iter().any(|shard| self.replica_state(shard, node).is_readable())
    }

    /// Every shard with the nodes it is placed on.
    pub fn shards(&self) -> impl Iterator<Item = (ShardId, &Vec<String>)> {
        (0u16..).map(ShardId).zip(self.record.placement.iter())
    }

    /// The names of the nodes that hold some of these shards, sorted.
    pub fn holders(&self, shards: impl Iterator<Item = ShardId>) -> Vec<String> {
        let names: BTreeSet<&String> =
            shards.filter_map(|shard| self.record.placement.get(usize::from(shard.0))).flatten().collect();
        names.into_iter().cloned().collect()
    }

    /// The names of all nodes of the placement, sorted.
    pub fn nodes(&self) -> Vec<String> {
        let names: BTreeSet<&String> = self.record.placement.iter().flatten().collect();
        names.into_iter().cloned().collect()
    }

    /// One cover for one read: of the fewest nodes among the `usable`, which are given in the fleet's order, as are
    /// the nodes in the cover. Of equals, the one that `affinity` falls on, so that the nodes' caches are warm and
    /// pages of one search come from the same nodes; without, the same one for a while and then the next. But one
    /// whose nodes are busy or slow gives way to others. Of the `wanted` shards only, if only some are.
    pub fn cover(
        &self,
        fleet: &Fleet,
        affinity: Option<u64>,
        usable: Vec<bool>,
        wanted: Option<&BTreeSet<ShardId>>,
    ) -> Cover {
        let covers = match wanted {
            None => self.remembered_covers(fleet, usable),
            // There are too many sets of shards to remember.
            Some(_) => Arc::new(self.compute_covers(fleet, &usable, wanted)),
        };
        let chosen = match covers.as_slice() {
            [only] => Some(only),
            covers => {
                let turn = affinity
                    .unwrap_or_else(|| self.rotation.fetch_add(1, Ordering::Relaxed) / READS_PER_TURN);
                let costs: Vec<f64> = fleet.iter().map(|node| node.cost()).collect();
                // A cover has answered when its last node has.
                let cost = |cover: &Cover| {
                    cover.parts.iter().filter_map(|part| costs.get(part.node)).copied().fold(0.0, f64::max)
                };
                let costs: Vec<f64> = covers.iter().map(cost).collect();
                choose_cover(&costs, turn).and_then(|chosen| covers.get(chosen))
            }
        };
        match chosen {
            Some(cover) => cover.clone(),
            None => Cover { parts: Vec::new(), missing: self.shards().map(|(shard, _)| shard).collect() },
        }
    }

    fn remembered_covers(&self, fleet: &Fleet, usable: Vec<bool>) -> Arc<Vec<Cover>> {
        let mut remembered = match self.covers.lock() {
            Ok(remembered) => remembered,
            Err(poisoned) => poisoned.into_inner(),
        };
        if remembered.len() > REMEMBERED_COVERS {
            remembered.clear();
        }
        let covers = remembered
            .entry(usable)
            .or_insert_with_key(|usable| Arc::new(self.compute_covers(fleet, usable, None)));
        Arc::clone(covers)
    }

    fn compute_covers(
        &self,
        fleet: &Fleet,
        usable: &[bool],
        wanted: Option<&BTreeSet<ShardId>>,
    ) -> Vec<Cover> {
        let position: HashMap<&str, usize> =
            fleet.iter().enumerate().map(|(position, node)| (node.id().as_str(), position)).collect();
        let groups: Vec<usize> = fleet.iter().map(|node| node.group() as usize).collect();
        let held: Vec<Vec<usize>> = self
            .shards()
            .map(|(_, nodes)| nodes.iter().filter_map(|node| position.get(node.as_str()).copied()).collect())
            .collect();
        let readable: Vec<Vec<usize>> = self
            .shards()
            .map(|(shard, nodes)| {
                let readable = nodes.iter().filter(|node| self.replica_state(shard, node).is_readable());
                readable
                    .filter_map(|node| position.get(node.as_str()).copied())
                    .filter(|node| usable[*node])
                    .collect()
            })
            .collect();
        match wanted {
            Some(wanted) => narrowed_covers(&readable, &held, &groups, ROTATED_COVERS, wanted),
            None => minimal_covers(&readable, &held, &groups, ROTATED_COVERS),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An index `movies` whose shards are on these nodes.
    pub(crate) fn view(placement: &[&[&str]], exceptions: Exceptions) -> IndexView {
        let owned = |nodes: &&[&str]| nodes.iter().map(|node| (*node).to_owned()).collect();
        let record = IndexRecord {
            uid: "movies".to_owned(),
            node_uid: "movies".to_owned(),
            primary_key: None,
            shards: placement.len() as u16,
            created_at: String::new(),
            updated_at: String::new(),
            next_position: 0,
            settings: serde_json::Value::Null,
            overlay: serde_json::Value::Null,
            settings_version: 1,
            settings_hash: String::new(),
            placement: placement.iter().map(owned).collect(),
            placement_epoch: 0,
            disordered: Vec::new(),
            capital_ids: true,
        };
        IndexView::new(record, exceptions, None)
    }
}
