//! Asking for a dump or a snapshot: a task that is about no index, left to the background job.

use std::borrow::Cow;

use miroir_core::error::ApiError;
use miroir_store::{NewTask, StoreError, WriteMarks};
use serde_json::{Value, json};

use crate::clock::now;
use crate::cluster::Cluster;
use crate::store_error;
use crate::write::TaskSummary;

/// What is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArchiveKind {
    /// One file that a Meilisearch can be started from.
    Dump,
    /// What each node and Miroir have, as it is on their disks.
    Snapshot,
}

impl ArchiveKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Dump, Self::Snapshot];

    /// Meilisearch's name for the kind of task.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dump => "dumpCreation",
            Self::Snapshot => "snapshotCreation",
        }
    }

    /// The kind of a task of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn details(self) -> Value {
        match self {
            Self::Dump => json!({ "dumpUid": null }),
            // It has none, in Meilisearch either.
            Self::Snapshot => Value::Null,
        }
    }
}

impl Cluster {
    /// Records that something is to be made. It begins once all tasks before it have ended.
    pub(crate) async fn request_archive(
        &self,
        kind: ArchiveKind,
        marks: WriteMarks,
    ) -> Result<TaskSummary, ApiError> {
        if let Some(before) = self.repeated(marks.idempotency.as_ref()).await? {
            return Ok(before.summary);
        }
        let enqueued_at = now();
        let key = marks.idempotency.clone();
        let task = NewTask {
            index_uid: None,
            kind: kind.name().to_owned(),
            details: kind.details(),
            enqueued_at: enqueued_at.clone(),
            outcome: None,
            marks,
        };
        let task_uid = match self.store.begin(task, None).await {
            Ok(task) => task,
            // No queue holds the second of two equal requests back until the first is recorded.
            Err(error @ StoreError::KeyTaken { .. }) => {
                let before = self.repeated(key.as_ref()).await?;
                return before.map(|before| before.summary).ok_or_else(|| store_error(error));
            }
            Err(error) => return Err(store_error(error)),
        };
        self.archive_wanted.notify_one();
        let kind = Cow::Borrowed(kind.name());
        Ok(TaskSummary { task_uid, index_uid: None, status: "enqueued", kind, enqueued_at })
    }
}
