//! Asking for a dump or a snapshot: a task that is about no index, left to the background job.

use std::borrow::Cow;

use miroir_core::error::ApiError;
use miroir_store::{NewTask, WriteMarks};
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
}

impl ArchiveKind {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Dump];

    /// Meilisearch's name for the kind of task.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dump => "dumpCreation",
        }
    }

    /// The kind of a task of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn details(self) -> Value {
        match self {
            Self::Dump => json!({ "dumpUid": null }),
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
        let task = NewTask {
            index_uid: None,
            kind: kind.name().to_owned(),
            details: kind.details(),
            enqueued_at: enqueued_at.clone(),
            outcome: None,
            marks,
        };
        let task_uid = self.store.begin(task, None).await.map_err(store_error)?;
        self.archive_wanted.notify_one();
        let kind = Cow::Borrowed(kind.name());
        Ok(TaskSummary { task_uid, index_uid: None, status: "enqueued", kind, enqueued_at })
    }
}
