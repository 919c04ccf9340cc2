//! Deleting tasks: a task that is about other tasks and no index, done by the store alone.

use std::borrow::Cow;

use miroir_core::error::ApiError;
use miroir_store::{NewTask, StoreError, TaskOutcome, TaskQuery, TaskStatus, WriteMarks};
use serde_json::json;

use crate::clock::now;
use crate::cluster::Cluster;
use crate::store_error;
use crate::write::sequencer::TaskSummary;

const KIND: &str = "taskDeletion";

impl Cluster {
    /// Deletes the finished tasks that match. `filter` is what the client asked for, in its own words.
    ///
    /// It is done before it is answered. A client is told that it is enqueued, as it expects, and finds it ended.
    pub async fn delete_tasks(
        &self,
        query: TaskQuery,
        filter: &str,
        marks: WriteMarks,
    ) -> Result<TaskSummary, ApiError> {
        if let Some(before) = self.repeated(marks.idempotency.as_ref()).await? {
            return Ok(before.summary);
        }
        let key = marks.idempotency.clone();
        let enqueued_at = now();
        let outcome = TaskOutcome {
            status: TaskStatus::Succeeded,
            error: None,
            details: None,
            canceled_by: None,
            started_at: Some(enqueued_at.clone()),
            finished_at: enqueued_at.clone(),
        };
        let deletion = NewTask {
            index_uid: None,
            kind: KIND.to_owned(),
            // How many there were, the store adds.
            details: json!({ "originalFilter": filter }),
            enqueued_at: enqueued_at.clone(),
            outcome: Some(outcome),
            marks,
        };
        let task_uid = match self.store.delete_tasks(deletion, query).await {
            Ok(task_uid) => task_uid,
            // No queue holds the second of two equal requests back until the first is done.
            Err(error @ StoreError::KeyTaken { .. }) => {
                let before = self.repeated(key.as_ref()).await?;
                return before.map(|before| before.summary).ok_or_else(|| store_error(error));
            }
            Err(error) => return Err(store_error(error)),
        };
        self.tasks_have_ended();
        let kind = Cow::Borrowed(KIND);
        Ok(TaskSummary { task_uid, index_uid: None, status: "enqueued", kind, enqueued_at })
    }
}
