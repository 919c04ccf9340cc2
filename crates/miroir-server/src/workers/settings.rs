//! Committing a settings change: once the nodes have applied it, they are read back and compared.
//!
//! The view clients see changes only then, so `GET /settings` never shows what searches do not use yet. A node
//! whose settings differ from the others' is given the agreed ones again; if that does not help, its replicas
//! become stale and the repair worker takes over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use miroir_core::replica::ReplicaState;
use miroir_core::settings::{
    canonical_hash, committed_overlay, overlay_with_change, to_user, with_facet_values_needed,
};
use miroir_node::{Node, NodeError};
use miroir_store::{IndexRecord, NodeTask, StoreError, TaskQuery, TaskRecord, TaskStatus, TaskUid};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::index::{Index, IndexView};
use crate::replicas::node_tasks::wait_for;
use crate::replicas::settings::{APPLY_LIMIT, Agreed, read_settings, replicas_of};
use crate::write::SETTINGS_UPDATE;

impl Cluster {
    /// Reads the settings back from the nodes, makes them agree, and publishes them with the next version. `change` are
    /// the details of the task that changed them, if it did.
    pub(crate) async fn commit_settings(
        &self,
        index: &Index,
        nodes: &BTreeSet<&str>,
        change: Option<&Value>,
    ) -> Result<(), String> {
        let Some(view) = index.view() else { return Ok(()) };
        let counted = usize::from(change.is_some());
        // A node that missed earlier changes has no say in what they were. Where only such ones took this one, it is lost,
        // as promotions say, and those that are read tell what is so.
        let is_read = |node: &&str| view.is_read_on(node);
        let holders = view.nodes();
        let taken: Vec<&str> = nodes.iter().copied().filter(is_read).collect();
        let (readable, change) = match taken.is_empty() {
            true => {
                tracing::warn!(index = %index.uid, ?nodes, "no replica that is read has this change of settings");
                (holders.iter().map(String::as_str).filter(is_read).collect(), None)
            }
            false => (taken, change),
        };
        let reads = readable
            .iter()
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
        if !index.view().is_some_and(|now| now.is_of_the_index_of(&view)) {
            return Ok(());
        }
        let Some((agreed, _)) = by_hash.values().max_by_key(|(_, nodes)| nodes.len()) else {
            return Err("no node can be asked for its settings".to_owned());
        };
        let needs = self.needs(&view.record);
        // Without the changes that were accepted after this one.
        let committed = committed_overlay(&view.record.settings, &view.record.overlay);
        let overlay = match change {
            Some(details) => overlay_with_change(&committed, details, needs),
            None => committed,
        };
        let settings = to_user(agreed, &overlay);
        // With another change on its way, nodes differ by right, and what is set here would undo it there: the last
        // change is the one to compare after.
        let is_last = view.settings_in_flight.load(Ordering::Acquire) <= counted;
        let majority = canonical_hash(agreed);
        let wanted = with_facet_values_needed(agreed, &settings, needs);
        let hash = canonical_hash(&wanted);
        for (held, (_, nodes)) in by_hash.iter().filter(|(held, _)| is_last && **held != hash) {
            if *held == majority {
                self.tell_facet_values(index, nodes, &wanted, counted).await;
                continue;
            }
            for node in nodes {
                tracing::warn!(index = %index.uid, node = %node.id(), "settings differ");
                let stale =
                    replicas_of(&view, node.id().as_str(), ReplicaState::Stale, "its settings differ");
                self.put_aside(index, stale).await.map_err(|error| error.to_string())?;
                self.set_right_if_last(index, node, &settings, &hash, counted).await;
            }
        }
        let _recording = index.recording.lock().await;
        let Some(view) = index.view().filter(|now| now.is_of_the_index_of(&view)) else { return Ok(()) };
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
    pub(crate) async fn restore_settings(
        &self,
        index: &Index,
        task: TaskUid,
        taken: &[NodeTask],
    ) -> Result<(), String> {
        let Some(view) = index.view() else { return Ok(()) };
        if view.settings_in_flight.load(Ordering::Acquire) > 1 {
            return Err("earlier settings changes are still being applied".to_owned());
        }
        self.forget_settings_change(index, task).await.map_err(|error| error.to_string())?;
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
                Ok(()) | Err(NodeError::TaskFailed { .. }) => {}
                Err(error) => return Err(error.to_string()),
            }
            agreed
                .apply(node, &view.record.node_uid, APPLY_LIMIT)
                .await
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// A settings change failed on the nodes: what Miroir holds of it goes as well, and what it holds of other changes
    /// on their way stays.
    pub(crate) async fn forget_settings_change(
        &self,
        index: &Index,
        task: TaskUid,
    ) -> Result<(), StoreError> {
        let _recording = index.recording.lock().await;
        let Some(view) = index.view() else { return Ok(()) };
        let overlay = self.overlay_without(index, &view, task).await?;
        let record = IndexRecord { overlay, ..view.record.clone() };
        self.store.put_index(record.clone()).await?;
        index.set_view(Some(IndexView::new(record, view.exceptions.clone(), Some(&view))));
        Ok(())
    }

    /// The overlay as it is without one of the changes that have not ended.
    pub(crate) async fn overlay_without(
        &self,
        index: &Index,
        view: &IndexView,
        task: TaskUid,
    ) -> Result<Value, StoreError> {
        let needs = self.needs(&view.record);
        let mut overlay = committed_overlay(&view.record.settings, &view.record.overlay);
        for other in self.settings_changes(index, None).await?.iter().filter(|other| other.uid != task) {
            overlay = overlay_with_change(&overlay, &other.details, needs);
        }
        Ok(overlay)
    }

    /// Whether a settings change that was accepted before a task has not ended.
    pub(crate) async fn waits_for_settings(&self, index: &Index, task: TaskUid) -> Result<bool, StoreError> {
        let first = self.settings_changes(index, Some(1)).await?;
        Ok(first.first().is_some_and(|change| change.uid < task))
    }

    /// The tasks that change the settings of an index and have not ended, in the order in which they were accepted.
    async fn settings_changes(
        &self,
        index: &Index,
        limit: Option<u64>,
    ) -> Result<Vec<TaskRecord>, StoreError> {
        let query = TaskQuery {
            index_uids: Some(vec![index.uid.clone()]),
            types: Some(vec![SETTINGS_UPDATE.to_owned()]),
            statuses: Some(vec![TaskStatus::Enqueued, TaskStatus::Processing]),
            from: Some(index.first_task()),
            limit,
            reverse: true,
            ..TaskQuery::default()
        };
        Ok(self.store.tasks(query).await?.tasks)
    }
}
