//! One index as the serving process sees it.
//!
//! `Index` is the place where writes queue; `IndexView` is an immutable picture that reads work on, replaced as
//! a whole when anything changes, so that a search never sees half a change.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use miroir_core::cover::{Cover, minimal_covers, narrowed_covers};
use miroir_core::latency::choose_cover;
use miroir_core::pinning::Ids;
use miroir_core::replica::ReplicaState;
use miroir_core::search::SearchSettings;
use miroir_core::shard::ShardId;
use miroir_node::Fleet;
use miroir_store::IndexRecord;
use tokio::sync::{MutexGuard, watch};

use crate::write::PendingWrites;

/// The place where the writes of one index uid queue.
pub struct Index {
    /// The uid.
    pub uid: String,
    /// The queue: whoever holds it may dispatch a write. Fair, so writes keep their order of arrival.
    pub(crate) queue: tokio::sync::Mutex<PendingWrites>,
    /// Held for the moment in which the record is stored and published, so that two changes of different parts
    /// of it (a write moving the position on, a settings commit) do not undo each other.
    pub(crate) recording: tokio::sync::Mutex<()>,
    /// Which write has been sent to a part of the nodes only, and why. Nothing may overtake it, and nobody knows
    /// for how long, so nobody should wait either.
    interrupted: watch::Sender<Option<String>>,
    view: RwLock<Option<Arc<IndexView>>>,
    generation: AtomicU64,
    /// The task that made the index, if that was in this life of the process.
    first_task: AtomicU64,
    /// Tasks that ended while the queue was held; whoever holds it takes note before it relies on them.
    ended: Mutex<Vec<u64>>,
    /// Odd while tasks are being canceled.
    canceling: AtomicU64,
}

impl Index {
    pub(crate) fn new(uid: &str) -> Self {
        Self {
            uid: uid.to_owned(),
            queue: tokio::sync::Mutex::default(),
            recording: tokio::sync::Mutex::default(),
            interrupted: watch::Sender::default(),
            view: RwLock::default(),
            generation: AtomicU64::new(new_generation()),
            first_task: AtomicU64::new(0),
            ended: Mutex::default(),
            canceling: AtomicU64::new(0),
        }
    }

    /// From here on, what nodes tell of tasks of this index means nothing, because some are being canceled. To be
    /// called with the queue held, or before anybody could have it.
    pub(crate) fn begin_canceling(&self) {
        self.canceling.fetch_or(1, Ordering::AcqRel);
    }

    /// What nodes tell means something again; what they told before does not.
    pub(crate) fn end_canceling(&self) {
        let end = |count: u64| (count % 2 == 1).then(|| count + 1);
        // Nothing has begun when it is even.
        let _ = self.canceling.fetch_update(Ordering::AcqRel, Ordering::Acquire, end);
    }

    /// What has been told of tasks means something for as long as this stays the same; `None` while tasks are being
    /// canceled.
    pub(crate) fn untroubled(&self) -> Option<u64> {
        Some(self.canceling.load(Ordering::Acquire)).filter(|count| count % 2 == 0)
    }

    /// Waits for the queue; the error says why it cannot be had.
    pub(crate) async fn turn(&self, limit: Duration) -> Result<MutexGuard<'_, PendingWrites>, String> {
        let mut interrupted = self.interrupted.subscribe();
        tokio::select! {
            // In this order: a queue let go by a process that is about to stop must not be taken.
            biased;
            Ok(write) = interrupted.wait_for(Option::is_some) => {
                let write = write.as_deref().unwrap_or_default();
                Err(format!("index `{}` waits for an earlier write that was interrupted ({write})", self.uid))
            }
            pending = self.queue.lock() => Ok(pending),
            () = tokio::time::sleep(limit) => Err(format!("index `{}` is busy with earlier writes", self.uid)),
        }
    }

    /// Whether an interrupted write has the queue.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.borrow().is_some()
    }

    /// Makes those who wait for the queue give up, and those who come later. To be called by whoever holds it.
    pub(crate) fn interrupt(&self, write: String) {
        self.interrupted.send_replace(Some(write));
    }

    /// The interrupted write has come to its end.
    pub(crate) fn resume(&self) {
        self.interrupted.send_replace(None);
    }

    /// Takes note of the task that makes the index.
    pub(crate) fn begins_with(&self, task: u64) {
        self.first_task.store(task, Ordering::Release);
    }

    /// Whether a task is about this index, not about an earlier one of the same name. True of all tasks from before
    /// the process started.
    pub(crate) fn has_begun_by(&self, task: u64) -> bool {
        self.first_task.load(Ordering::Acquire) <= task
    }

    /// Grows before a task is seen to have ended, and when an active replica was mended. Two reads that began in the same generation may have the same
    /// answer; no other index has the same generation, nor has this one when it is made anew.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// To be called when active replicas have changed, before anybody is told.
    pub(crate) fn begin_generation(&self) {
        self.generation.store(new_generation(), Ordering::Release);
    }

    /// Takes note that a task has ended: nodes can be asked what it did.
    pub(crate) fn task_ended(&self, task: u64) {
        match self.queue.try_lock() {
            Ok(mut pending) => pending.finished(&[task]),
            Err(_) => match self.ended.lock() {
                Ok(mut ended) => ended.push(task),
                Err(poisoned) => poisoned.into_inner().push(task),
            },
        }
    }

    /// Drops what is remembered of tasks that have ended.
    pub(crate) fn forget_ended(&self, pending: &mut PendingWrites) {
        let ended = match self.ended.lock() {
            Ok(mut ended) => std::mem::take(&mut *ended),
            Err(poisoned) => std::mem::take(&mut *poisoned.into_inner()),
        };
        if !ended.is_empty() {
            pending.finished(&ended);
        }
    }

    /// The current picture; `None` when there is no such index.
    pub fn view(&self) -> Option<Arc<IndexView>> {
        self.view.read().ok().and_then(|view| view.clone())
    }

    pub(crate) fn set_view(&self, view: Option<IndexView>) {
        let mut current = match self.view.write() {
            Ok(current) => current,
            Err(poisoned) => poisoned.into_inner(),
        };
        *current = view.map(Arc::new);
    }

    /// Replaces the picture by one made from it; nothing when there is no such index.
    pub(crate) fn update(&self, change: impl FnOnce(&IndexView) -> IndexView) {
        let mut current = match self.view.write() {
            Ok(current) => current,
            Err(poisoned) => poisoned.into_inner(),
        };
        if let Some(view) = current.as_ref() {
            *current = Some(Arc::new(change(view)));
        }
    }
}

fn new_generation() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

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

    const SOON: Duration = Duration::from_millis(50);
    const NEVER: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn an_interrupted_write_sends_away_who_waits_and_who_comes() {
        let index = Arc::new(Index::new("movies"));
        let held = index.turn(NEVER).await.unwrap();
        let busy = index.turn(SOON).await.err();
        assert_eq!(busy.as_deref(), Some("index `movies` is busy with earlier writes"));

        let waiter = Arc::clone(&index);
        let waiting = tokio::spawn(async move { waiter.turn(NEVER).await.err() });
        tokio::task::yield_now().await;
        index.interrupt("task 7: node `b` is down".to_owned());
        let reason =
            "index `movies` waits for an earlier write that was interrupted (task 7: node `b` is down)";
        assert_eq!(waiting.await.unwrap().as_deref(), Some(reason));
        assert_eq!(index.turn(NEVER).await.err().as_deref(), Some(reason));

        // Let go with the write undone, as by a process that stops: still nobody may overtake it.
        drop(held);
        assert_eq!(index.turn(NEVER).await.err().as_deref(), Some(reason));
        index.resume();
        assert!(index.turn(NEVER).await.is_ok());
    }
}
