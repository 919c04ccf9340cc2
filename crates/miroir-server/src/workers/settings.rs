//! Committing a settings change: once the nodes have applied it, they are read back and compared.
//!
//! The view clients see changes only then, so `GET /settings` never shows what searches do not use yet. A node
//! whose settings differ from the others' is given the agreed ones again; if that does not help, its replicas
//! become stale and the repair worker takes over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use miroir_core::replica::ReplicaState;
use miroir_core::settings::{canonical_hash, overlay_after_failure, to_user};
use miroir_node::{Node, NodeError};
use miroir_store::{IndexRecord, NodeTask, StoreError};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::index::{Index, IndexView};
use crate::replicas::node_tasks::wait_for;
use crate::replicas::settings::{APPLY_LIMIT, Agreed, read_settings, replicas_of};

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
            .map(async |node| (node, read_settings(node, &view.record.node_uid).await));
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
        for NodeTask { node, task_uid, .. } in taken {
            let Some(node) = self.fleet.get(node) else { continue };
            match wait_for(node, *task_uid, APPLY_LIMIT).await {
                // One that failed on the node changed nothing there.
                Ok(()) | Err(NodeError::Unintelligible { .. }) => {}
                Err(error) => return Err(error.to_string()),
            }
            agreed
                .apply(node, &view.record.node_uid, APPLY_LIMIT)
                .await
                .map_err(|error| error.to_string())?;
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
