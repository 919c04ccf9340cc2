//! What a dispatch came to: acknowledged, taken back as if it had never been, or left open to be sent again.

use std::sync::atomic::Ordering;

use miroir_core::error::{ApiError, ErrorType};
use miroir_core::settings::overlay_with_embedders_of;
use miroir_store::{Acknowledgement, IndexChange, IndexRecord, StoreError, TaskOutcome, TaskStatus};
use serde_json::Value;

use crate::clock::now;
use crate::cluster::Cluster;
use crate::index::{Index, IndexView};
use crate::replicas::states::admissible;
use crate::store_error;
use crate::write::FORETOLD_ERROR;
use crate::write::dispatch::Dispatched;
use crate::write::judgement::Judgement;
use crate::write::operation::Operation;
use crate::write::refusal::not_acknowledged;

/// The details of a write that did nothing, because it failed or was canceled.
pub(crate) fn nothing_done(mut details: Value) -> Value {
    if let Some(fields) = details.as_object_mut() {
        fields.remove("distinctDocuments");
        fields.remove(FORETOLD_ERROR);
        for count in ["indexedDocuments", "deletedDocuments"] {
            fields.entry(count).and_modify(|count| *count = 0.into());
        }
    }
    details
}

impl Cluster {
    /// Records what a dispatch came to. After an error the intent is still open: nodes may differ, and the write
    /// must be sent again before any other write of the index.
    pub(crate) async fn acknowledge(
        &self,
        index: &Index,
        task_uid: u64,
        operation: &Operation,
        dispatched: &Dispatched,
        judgement: &Judgement,
    ) -> Result<(), ApiError> {
        if !judgement.decided {
            self.put_aside(index, judgement.stale.clone()).await.map_err(store_error)?;
            return Err(not_acknowledged(task_uid, &dispatched.reasons()));
        }
        // The next write may hold the record for as long as its documents take, and mostly there is nothing to change.
        let recording = match judgement.stale.is_empty() {
            true => None,
            false => Some(index.recording.lock().await),
        };
        // An index that has been dropped has no replicas any more.
        let stale = index.view().map_or(Vec::new(), |view| admissible(&view, judgement.stale.clone()));
        let acknowledgement = Acknowledgement {
            task_uid,
            node_tasks: dispatched.node_tasks.clone(),
            replica_changes: stale.clone(),
            index_changes: Vec::new(),
            keeps_intent: operation.can_be_taken_back() && !dispatched.may_have_more,
        };
        self.store.acknowledged(acknowledgement).await.map_err(store_error)?;
        self.publish_aside(index, &stale);
        drop(recording);
        // The follower finds unfinished tasks in the store as well, so a full channel only costs a little time.
        if self.acknowledged.try_send(task_uid).is_err() {
            tracing::debug!(task_uid, "the follower is behind");
        }
        Ok(())
    }

    /// A node found the request itself wrong: nothing was done anywhere, so nothing is left of it. After an error
    /// the intent is still open.
    pub(super) async fn take_back(
        &self,
        index: &Index,
        task_uid: u64,
        before: Option<&IndexView>,
        after: Option<&IndexView>,
        operation: &Operation,
    ) -> Result<(), StoreError> {
        let _recording = index.recording.lock().await;
        if operation.only_adds() {
            // The next write may have been recorded, and counts positions from where this one ended.
            self.store.take_back(task_uid, Vec::new()).await?;
        } else {
            self.restore(index, task_uid, before, after, operation).await?;
        }
        index.task_ended(task_uid);
        // A read of its session may have begun to wait for it.
        self.task_finished.notify_waiters();
        Ok(())
    }

    /// Takes a write back and makes the index's record what it was before, but for what others changed since.
    async fn restore(
        &self,
        index: &Index,
        task_uid: u64,
        before: Option<&IndexView>,
        after: Option<&IndexView>,
        operation: &Operation,
    ) -> Result<(), StoreError> {
        let current = index.view();
        let mut record =
            before.map(|view| with_changes_of_others(view.record.clone(), after, current.as_deref()));
        if let (Operation::ChangeSettings { .. }, Some(record), Some(current)) =
            (operation, &mut record, &current)
        {
            let overlay = self.overlay_without(index, current, task_uid).await?;
            record.overlay = overlay_with_embedders_of(&overlay, &record.overlay);
        }
        let undo = match &record {
            Some(record) => IndexChange::Put(Box::new(record.clone())),
            None => IndexChange::Delete(index.uid.clone()),
        };
        self.store.take_back(task_uid, vec![undo]).await?;
        if let (Operation::ChangeSettings { .. }, Some(view)) = (operation, &current) {
            settle_settings(view);
        }
        index.set_view(record.map(|record| {
            let exceptions = current.as_deref().or(before).map(|view| view.exceptions.clone());
            IndexView::new(record, exceptions.unwrap_or_default(), before)
        }));
        Ok(())
    }
}

/// How a task that came to nothing ends.
pub fn failed_outcome(error: &ApiError) -> TaskOutcome {
    TaskOutcome {
        status: TaskStatus::Failed,
        error: serde_json::to_value(error.body()).ok(),
        details: None,
        canceled_by: None,
        started_at: None,
        finished_at: now(),
    }
}

/// The record with the settings that were committed while the write was being prepared.
fn with_committed_settings(record: IndexRecord, current: Option<&IndexView>) -> IndexRecord {
    match current {
        None => record,
        Some(current) => IndexRecord {
            settings: current.record.settings.clone(),
            settings_hash: current.record.settings_hash.clone(),
            settings_version: current.record.settings_version,
            ..record
        },
    }
}

/// The record as it was made of `before`, with what others changed of that meanwhile.
pub(super) fn with_changes_of_others(
    mut record: IndexRecord,
    before: Option<&IndexView>,
    current: Option<&IndexView>,
) -> IndexRecord {
    if let (Some(before), Some(current)) = (before, current) {
        // A settings change may have failed on the nodes, and be forgotten.
        if record.overlay == before.record.overlay {
            record.overlay = current.record.overlay.clone();
        }
        // A repair tells which nodes it brought out of order.
        let is_known =
            |node: &String| before.record.disordered.contains(node) || record.disordered.contains(node);
        let more: Vec<String> =
            current.record.disordered.iter().filter(|node| !is_known(node)).cloned().collect();
        record.disordered.extend(more);
    }
    with_committed_settings(record, current)
}

/// One settings change less is on its way.
pub fn settle_settings(view: &IndexView) {
    let less = |count: usize| count.checked_sub(1);
    // An error means that the count is zero already: after a restart nobody counts what was sent before.
    let _ = view.settings_in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
}

/// The error that a node answered with. One without a body (a route or a verb it does not have) has no code.
pub fn parse_refusal(status: http::StatusCode, body: &[u8]) -> ApiError {
    if body.is_empty() {
        return ApiError::new(status.as_u16(), "", ErrorType::InvalidRequest, "");
    }
    match serde_json::from_slice::<miroir_core::error::ErrorBody>(body) {
        Ok(error) => ApiError::new(status.as_u16(), error.code, error.kind, error.message),
        Err(_) => ApiError::new(
            status.as_u16(),
            "bad_request",
            ErrorType::InvalidRequest,
            String::from_utf8_lossy(body).into_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(overlay: &Value, disordered: &[&str]) -> IndexRecord {
        IndexRecord {
            uid: "films".to_owned(),
            node_uid: "films".to_owned(),
            primary_key: None,
            shards: 1,
            created_at: String::new(),
            updated_at: String::new(),
            next_position: 0,
            settings: Value::Null,
            overlay: overlay.clone(),
            settings_version: 1,
            settings_hash: String::new(),
            placement: Vec::new(),
            placement_epoch: 0,
            disordered: disordered.iter().map(|node| (*node).to_owned()).collect(),
            capital_ids: true,
        }
    }

    #[test]
    fn what_others_changed_outlives_a_write_and_its_being_taken_back() {
        let view = |record| IndexView::new(record, Default::default(), None);
        let (pending, forgotten) = (json!({ "displayedAttributes": ["title"] }), json!({}));
        // A deletion brings b out of order; meanwhile a repair does so to c, and a settings change fails.
        let judged_by = view(record(&pending, &["a"]));
        let before = view(record(&forgotten, &["a", "c"]));
        let made = record(&pending, &["a", "b"]);
        let recorded = with_changes_of_others(made, Some(&judged_by), Some(&before));
        assert_eq!((&recorded.overlay, recorded.disordered.join("")), (&forgotten, "abc".to_owned()));

        // Before it is taken back, a repair brings d out of order.
        let current = view(record(&forgotten, &["a", "b", "c", "d"]));
        let undone = with_changes_of_others(before.record.clone(), Some(&view(recorded)), Some(&current));
        assert_eq!((&undone.overlay, undone.disordered.join("")), (&forgotten, "acd".to_owned()));
    }
}
