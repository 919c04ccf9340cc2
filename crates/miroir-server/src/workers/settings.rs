//! Committing a settings change: once the nodes have applied it, they are read back and compared.
//!
//! The view clients see changes only then, so `GET /settings` never shows what searches do not use yet. A node
//! whose settings differ from the others' is given the agreed ones again; if that does not help, its replicas
//! become stale and the repair worker takes over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use miroir_core::replica::ReplicaState;
use miroir_core::settings::{
    NodeNeeds, breaks_ties, canonical_hash, overlay_after_failure, repair_node_form, to_user,
};
use miroir_node::{Call, Node, NodeError};
use miroir_store::{IndexRecord, NodeTask, ReplicaKey, ReplicaStatus, StoreError};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::index::{Index, IndexView};
use crate::replicas::ensure::{RepairError, drain};
use crate::replicas::node_tasks::{carry_out, wait_for};
use crate::write::encode;

/// How long a comparison waits for its turn among the writes.
const QUEUE_LIMIT: Duration = Duration::from_secs(60);
const READ_LIMIT: Duration = Duration::from_secs(10);
/// How long a node may take to apply settings once more.
const APPLY_LIMIT: Duration = Duration::from_secs(120);

impl Cluster {
    /// Reads the settings back from the nodes, makes them agree, and publishes them with the next version.
    pub(crate) async fn commit_settings(&self, index: &Index, nodes: &BTreeSet<&str>) -> Result<(), String> {
        let Some(view) = index.view() else { return Ok(()) };
        // A node that missed earlier changes has no say in what they were.
        let is_read = |node: &str| {
            view.shards_on(node).into_iter().any(|shard| view.replica_state(shard, node).is_readable())
        };
        let reads = nodes
            .iter()
            .filter(|name| is_read(name))
            .filter_map(|name| self.fleet.get(name))
            .filter(|node| node.health().is_up())
            .map(async |node| (node, read_settings(node, &index.uid).await));
        let mut by_hash: BTreeMap<String, (Value, Vec<Arc<Node>>)> = BTreeMap::new();
        for (node, settings) in futures_util::future::join_all(reads).await {
            match settings {
                Ok(settings) => {
                    let entry = by_hash.entry(canonical_hash(&settings)).or_insert((settings, Vec::new()));
                    entry.1.push(Arc::clone(node));
                }
                Err(error) => tracing::warn!(%error, index = %index.uid, "cannot read settings back"),
            }
        }
        let Some((hash, (agreed, _))) = by_hash.iter().max_by_key(|(_, (_, nodes))| nodes.len()) else {
            return Err("no node can be asked for its settings".to_owned());
        };
        let (hash, agreed) = (hash.clone(), agreed.clone());
        let settings = to_user(&agreed, &view.record.overlay);
        let differing: Vec<Arc<Node>> = by_hash
            .into_iter()
            .filter(|(other, _)| *other != hash)
            .flat_map(|(_, (_, nodes))| nodes)
            .collect();
        // With another change on its way, nodes differ by right, and what is set here would undo it there: the last
        // change is the one to compare after.
        if view.settings_in_flight.load(Ordering::Acquire) <= 1 {
            for node in differing {
                tracing::warn!(index = %index.uid, node = %node.id(), "settings differ");
                let stale =
                    replicas_of(&view, node.id().as_str(), ReplicaState::Stale, "its settings differ");
                self.put_aside(index, stale).await.map_err(|error| error.to_string())?;
                self.set_right_if_last(index, &node, &settings, &hash).await;
            }
        }
        let _recording = index.recording.lock().await;
        let Some(view) = index.view() else { return Ok(()) };
        let record = IndexRecord {
            settings,
            settings_hash: hash,
            settings_version: view.record.settings_version + 1,
            ..view.record.clone()
        };
        self.store.put_index(record.clone()).await.map_err(|error| error.to_string())?;
        index.set_view(Some(IndexView::new(record, view.exceptions.clone(), Some(&view))));
        Ok(())
    }

    /// Gives a node the agreed settings if it holds the last readable replica of some shard, which could not be put
    /// aside for repair to do it. Nothing may be sent meanwhile, and whoever has the queue may be waiting for the very
    /// task that is being ended, so it is not waited for; anti-entropy will have its turn.
    async fn set_right_if_last(&self, index: &Index, node: &Arc<Node>, settings: &Value, hash: &str) {
        let (Some(view), Ok(_queue)) = (index.view(), index.queue.try_lock()) else { return };
        let name = node.id().as_str();
        let is_read = |shard| view.replica_state(shard, name).is_readable();
        if !view.shards_on(name).into_iter().any(is_read) {
            return;
        }
        let needs = self.needs_of_one_behind(&view);
        let agreed = Agreed { user: settings, overlay: &view.record.overlay, needs, hash };
        if let Err(error) = agreed.apply(node, &index.uid).await {
            tracing::error!(index = %index.uid, node = name, %error, "settings still differ");
        }
    }

    /// Compares the settings of all nodes of an index with those agreed, and mends them if asked to. Returns the
    /// nodes that differ, each with what is wrong. A node without the index loses its replicas, unless they are the
    /// last, to be filled anew.
    pub(crate) async fn verify_settings(
        &self,
        index: &Index,
        mend: bool,
    ) -> Result<BTreeMap<String, String>, RepairError> {
        let Some(view) = index.view() else { return Ok(BTreeMap::new()) };
        if self.settings_that_differ(&view).await.is_empty() {
            return Ok(BTreeMap::new());
        }
        // A change may have been on its way.
        drain(self, &index.uid).await?;
        let _queue = index.turn(QUEUE_LIMIT).await.map_err(RepairError::NotNow)?;
        drain(self, &index.uid).await?;
        let Some(view) = index.view() else { return Ok(BTreeMap::new()) };
        let differing = self.settings_that_differ(&view).await;
        for (name, reason) in differing.iter().filter(|_| mend) {
            let Some(node) = self.fleet.get(name) else { continue };
            tracing::warn!(index = %index.uid, node = name, reason, "applying the agreed settings");
            let agreed = Agreed {
                user: &view.record.settings,
                overlay: &view.record.overlay,
                needs: self.needs_of_one_behind(&view),
                hash: &view.record.settings_hash,
            };
            if agreed.apply(node, &index.uid).await.is_err() {
                self.put_aside(index, replicas_of(&view, name, ReplicaState::Joining, reason)).await?;
            }
        }
        Ok(differing)
    }

    async fn settings_that_differ(&self, view: &IndexView) -> BTreeMap<String, String> {
        let names = view.nodes();
        let reads = (names.iter())
            .filter_map(|name| self.fleet.get(name))
            .filter(|node| node.health().is_up())
            .map(async |node| (node, read_settings(node, &view.record.uid).await));
        let mut differing = BTreeMap::new();
        for (node, settings) in futures_util::future::join_all(reads).await {
            let reason = match settings {
                Ok(settings) if canonical_hash(&settings) == view.record.settings_hash => continue,
                Ok(_) => "its settings differ".to_owned(),
                // It answered, so it is there, but the index is not as it should be.
                Err(NodeError::Unintelligible { reason, .. }) => reason,
                Err(_) => continue,
            };
            differing.insert(node.id().to_string(), reason);
        }
        differing
    }

    /// A settings change that some nodes took and others found wrong: those that took it get back what was agreed
    /// before.
    pub(crate) async fn restore_settings(&self, index: &Index, taken: &[NodeTask]) -> Result<(), String> {
        let Some(view) = index.view() else { return Ok(()) };
        if view.settings_in_flight.load(Ordering::Acquire) > 1 {
            return Err("earlier settings changes are still being applied".to_owned());
        }
        self.forget_settings_change(index).await.map_err(|error| error.to_string())?;
        let Some(view) = index.view() else { return Ok(()) };
        let agreed = Agreed {
            user: &view.record.settings,
            overlay: &view.record.overlay,
            needs: self.needs(&view.record),
            hash: &view.record.settings_hash,
        };
        for NodeTask { node, task_uid } in taken {
            let Some(node) = self.fleet.get(node) else { continue };
            match wait_for(node, *task_uid, APPLY_LIMIT).await {
                // One that failed on the node changed nothing there.
                Ok(()) | Err(NodeError::Unintelligible { .. }) => {}
                Err(error) => return Err(error.to_string()),
            }
            agreed.apply(node, &index.uid).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// A settings change failed on the nodes: what Miroir holds of it goes as well, unless other changes are on
    /// their way, which were judged with it in mind.
    pub(crate) async fn forget_settings_change(&self, index: &Index) -> Result<(), StoreError> {
        let _recording = index.recording.lock().await;
        let Some(view) = index.view() else { return Ok(()) };
        if view.settings_in_flight.load(Ordering::Acquire) > 1 {
            return Ok(());
        }
        let overlay = overlay_after_failure(&view.record.settings, &view.record.overlay);
        let record = IndexRecord { overlay, ..view.record.clone() };
        self.store.put_index(record.clone()).await?;
        index.set_view(Some(IndexView::new(record, view.exceptions.clone(), Some(&view))));
        Ok(())
    }
}

/// The settings of an index as a node holds them.
async fn read_settings(node: &Node, uid: &str) -> Result<Value, NodeError> {
    node.fetch(&Call::get(format!("/indexes/{}/settings", encode(uid)), READ_LIMIT)).await
}

/// The settings that the nodes of an index are to have.
pub(crate) struct Agreed<'a> {
    /// As users see them.
    pub user: &'a Value,
    /// What only Miroir holds of them.
    pub overlay: &'a Value,
    /// What nodes need besides.
    pub needs: NodeNeeds,
    /// Hash of the form nodes have them in.
    pub hash: &'a str,
}

impl Agreed<'_> {
    fn is_held(&self, found: &Value) -> bool {
        canonical_hash(found) == self.hash && (breaks_ties(found) || !self.needs.breaks_ties)
    }

    /// Makes a node's settings the agreed ones, and checks that they are.
    pub(crate) async fn apply(&self, node: &Node, uid: &str) -> Result<(), NodeError> {
        let found = read_settings(node, uid).await?;
        if self.is_held(&found) {
            return Ok(());
        }
        let form = repair_node_form(self.user, self.overlay, self.needs, &found);
        let call = Call::new(http::Method::PATCH, format!("/indexes/{}/settings", encode(uid)), READ_LIMIT)
            .json(form.to_string());
        carry_out(node, &call, APPLY_LIMIT).await?;
        if self.is_held(&read_settings(node, uid).await?) {
            return Ok(());
        }
        Err(node.unintelligible("its settings are not what they were set to".to_owned()))
    }
}

/// All replicas of a node, to be put aside as far as they may be.
fn replicas_of(view: &IndexView, node: &str, state: ReplicaState, reason: &str) -> Vec<ReplicaStatus> {
    let replica = |shard| ReplicaStatus {
        key: ReplicaKey { index_uid: view.record.uid.clone(), shard, node: node.to_owned() },
        state,
        reason: reason.to_owned(),
    };
    view.shards_on(node).into_iter().map(replica).collect()
}
