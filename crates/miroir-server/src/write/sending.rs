//! Sending a write that has been recorded, and telling what came of it.

use std::borrow::Cow;
use std::sync::Arc;

use miroir_core::error::ApiError;
use miroir_core::shard::ShardId;

use crate::cluster::Cluster;
use crate::index::{Index, IndexView};
use crate::store_error;
use crate::write::dispatch::Dispatch;
use crate::write::operation::{Operation, Payload};
use crate::write::recovery::Interrupted;
use crate::write::refusal::{NO_QUORUM, not_acknowledged};
use crate::write::sequencer::{Accepted, TaskSummary};

/// A write that is to be sent, and will be in the end whatever happens.
pub(super) struct Recorded {
    pub task_uid: u64,
    pub kind: &'static str,
    pub enqueued_at: String,
    pub operation: Operation,
    pub payload: Payload,
    /// The index before the write, if there was one.
    pub before: Option<Arc<IndexView>>,
    /// The index as the write made it, if it left one.
    pub after: Option<Arc<IndexView>>,
    /// The index by which the write was judged.
    pub view: Arc<IndexView>,
    /// The shards whose replicas must take it.
    pub concerned: Vec<ShardId>,
}

/// Why a write was not accepted.
pub(super) enum NotAccepted {
    /// There is nothing more to do about it.
    Refused(ApiError),
    /// Nodes may differ: it must be sent again before any other write of the index.
    Interrupted(ApiError, Box<Interrupted>),
}

impl From<ApiError> for NotAccepted {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl Cluster {
    /// Sends a write, and records what came of it.
    pub(super) async fn send(&self, index: &Index, write: Recorded) -> Result<Accepted, NotAccepted> {
        let Recorded { task_uid, kind, enqueued_at, operation, payload, before, after, view, concerned } =
            write;
        let uid = index.uid.as_str();
        // The writes before it may have shown that a replica is behind.
        let view = index.view().unwrap_or(view);
        let targets = self.targets(&view, &operation, &concerned);
        let dispatched = self
            .dispatch(&Dispatch {
                uid: &view.record.node_uid,
                shards: view.record.shards,
                operation: &operation,
                payload: &payload,
                targets,
                try_one_first: operation.only_a_node_can_judge(),
            })
            .await;
        let interrupted = |error, dispatched, decided| {
            let operation = operation.clone();
            let write = Interrupted { task_uid, operation, dispatched, decided };
            NotAccepted::Interrupted(error, Box::new(write))
        };
        if let Some((status, body)) = &dispatched.rejected
            && dispatched.came_to_nothing()
        {
            let error = self.node_refusal(before.as_deref(), *status, body);
            let undone =
                self.take_back(index, task_uid, before.as_deref(), after.as_deref(), &operation).await;
            if before.is_none()
                && let Err(reasons) =
                    self.drop_index(&view.record.node_uid, dispatched.prepared.clone()).await
            {
                tracing::warn!(index = %uid, reasons, "an empty index that was not to be stays on a node");
            }
            return Err(match undone {
                Ok(()) => error.into(),
                Err(store) => {
                    interrupted(not_acknowledged(task_uid, &store_error(store).message), dispatched, false)
                }
            });
        }
        let judgement =
            dispatched.judge(&view, &concerned, self.config.min_write_acks, operation.state_of_missed());
        if let Err(error) = self.acknowledge(index, task_uid, &operation, &dispatched, &judgement).await {
            // Whatever failed, what was sent will be carried out.
            let is_said = error.code == NO_QUORUM;
            let error = if is_said { error } else { not_acknowledged(task_uid, &error.message) };
            return Err(interrupted(error, dispatched, judgement.decided));
        }
        if !judgement.confirmed {
            return Err(not_acknowledged(task_uid, &dispatched.reasons()).into());
        }
        Ok(accepted(task_uid, uid, kind, enqueued_at, judgement.missed_shards()))
    }
}

pub(super) fn accepted(
    task_uid: u64,
    uid: &str,
    kind: &'static str,
    enqueued_at: String,
    missed_shards: Vec<ShardId>,
) -> Accepted {
    let kind = Cow::Borrowed(kind);
    let summary =
        TaskSummary { task_uid, index_uid: Some(uid.to_owned()), status: "enqueued", kind, enqueued_at };
    Accepted { summary, missed_shards }
}
