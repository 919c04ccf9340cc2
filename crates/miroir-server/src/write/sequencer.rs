//! The sequencer: the one way a write takes, so that all replicas apply the same writes in the same order.
//!
//! A write waits for its index's queue, is judged against the index as the writes before it leave it, recorded
//! together with its task, sent to every node concerned, and acknowledged. Only then is the next one sent: what
//! could not be acknowledged is sent again first (`recovery`). While documents are being sent, the next documents are
//! judged and recorded, because the disk and the nodes are not the same, and waiting for both in turn takes longer.
//! It runs in a task of its own: a client that hangs up in the middle does not leave half a write behind.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use miroir_core::error::ApiError;
use miroir_core::settings::{overlay_with_change, overlay_with_embedders_of};
use miroir_core::shard::ShardId;
use miroir_store::{IndexChange, IndexRecord, Intent, NewTask, TaskOutcome, TaskStatus, WriteMarks};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::clock::now;
use crate::cluster::Cluster;
use crate::index::{Index, IndexView};
use crate::store_error;

use crate::write::operation::{Operation, Payload};
use crate::write::outcome::with_changes_of_others;
use crate::write::positions::{MOST_PENDING_DOCUMENTS, PendingWrites};
use crate::write::recovery::Interrupted;
use crate::write::refusal::{not_acknowledged, unavailable};
use crate::write::request::{Prepared, ToSend, WriteRequest};
use crate::write::sending::{NotAccepted, Recorded, accepted};

/// How long a write may wait for those before it.
pub(super) const QUEUE_WAIT: Duration = Duration::from_secs(60);
/// How long a write may wait for what an earlier life of this process sent.
const EARLIER_WRITES_WAIT: Duration = Duration::from_secs(60);
/// How often to look meanwhile whether they can come to their end at all.
const REACH_CHECK_EVERY: Duration = Duration::from_millis(500);

/// What a client gets with a 202.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskSummary {
    /// Uid of the Miroir task.
    pub task_uid: u64,
    /// Index it is about, if it is about one.
    pub index_uid: Option<String>,
    /// Always `enqueued`, as Meilisearch has it.
    pub status: &'static str,
    /// Kind of task.
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    /// When it was accepted.
    pub enqueued_at: String,
}

/// An accepted write.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// For the body of the answer.
    pub summary: TaskSummary,
    /// Shards of which some active replica missed the write: for `X-Miroir-Degraded`.
    pub missed_shards: Vec<ShardId>,
}

/// What became of a write in the queue.
enum Judged {
    /// Its task has ended as it began.
    Ended(Accepted),
    /// It is to be sent.
    Recorded(Box<Recorded>),
}

impl Cluster {
    /// Carries a write out up to its acknowledgement.
    pub async fn submit(
        self: &Arc<Self>,
        uid: &str,
        request: WriteRequest,
        marks: WriteMarks,
    ) -> Result<Accepted, ApiError> {
        let (cluster, uid) = (Arc::clone(self), uid.to_owned());
        let (answer, answered) = oneshot::channel();
        let turn = async move { cluster.take_turn(&uid, request, marks, answer).await };
        self.tasks.spawn_on(turn, &self.runtime);
        answered.await.unwrap_or_else(|_| Err(ApiError::internal("the write was interrupted; send it again")))
    }

    /// Waits for the queue, records a write and sends it. One that only a part of the nodes took is answered, and then
    /// sent again before anything else is.
    async fn take_turn(
        &self,
        uid: &str,
        request: WriteRequest,
        marks: WriteMarks,
        answer: oneshot::Sender<Result<Accepted, ApiError>>,
    ) {
        let index = self.handle(uid);
        // Whoever sends something twice is told what came of the first.
        let overlaps = matches!(request, WriteRequest::AddDocuments { .. }) && marks.idempotency.is_none();
        let turn = match overlaps {
            true => index.turn_to_record(QUEUE_WAIT).await,
            false => index.turn(QUEUE_WAIT).await,
        };
        if let Some(answered_before) = self.repeated(marks.idempotency.as_ref()).await.transpose() {
            return reply(answer, answered_before);
        }
        let mut pending = match turn {
            Ok(pending) => pending,
            Err(reason) => return reply(answer, Err(unavailable(&reason))),
        };
        let write = match self.judge_and_record(&index, &mut pending, request, marks).await {
            Ok(Judged::Recorded(write)) => *write,
            Ok(Judged::Ended(accepted)) => return reply(answer, Ok(accepted)),
            Err(error) => return reply(answer, Err(error)),
        };
        let _sending = match index.turn_to_send(QUEUE_WAIT).await {
            Ok(sending) => sending,
            Err(reason) => {
                reply(answer, Err(not_acknowledged(write.task_uid, &reason)));
                // That may take long, so the documents are read again then.
                drop(write.payload);
                let recorded = Interrupted::new(write.task_uid, write.operation, Vec::new());
                if let Some(_sending) = index.turn_to_send_at_last().await {
                    self.send_again(&index, recorded).await;
                }
                return;
            }
        };
        // What may be taken back as if it had never been is followed by nothing before that is known.
        let _queue = (!write.operation.only_adds()).then_some(pending);
        match self.send(&index, write).await {
            Ok(accepted) => reply(answer, Ok(accepted)),
            Err(NotAccepted::Refused(error)) => reply(answer, Err(error)),
            Err(NotAccepted::Interrupted(error, write)) => {
                // First, so that whoever reads the answer finds the queue closed.
                index.interrupt(write.to_string());
                reply(answer, Err(error));
                self.send_again(&index, *write).await;
            }
        }
    }

    async fn judge_and_record(
        &self,
        index: &Index,
        pending: &mut PendingWrites,
        request: WriteRequest,
        marks: WriteMarks,
    ) -> Result<Judged, ApiError> {
        match request {
            WriteRequest::AddDocuments { .. } => self.wait_for_room(index, pending).await?,
            _ => index.forget_ended(pending),
        }
        let (kind, enqueued_at) = (request.kind(), now());
        let view = index.view();
        match self.prepare(&index.uid, view.as_deref(), pending, request, &enqueued_at).await? {
            Prepared::Ended { details, error } => {
                let ended = self.record_ended(&index.uid, kind, enqueued_at, details, error, marks).await?;
                Ok(Judged::Ended(ended))
            }
            Prepared::Send(_) if index.is_interrupted() => {
                Err(unavailable(&format!("an earlier write to index `{}` was interrupted", index.uid)))
            }
            Prepared::Send(write) => {
                let recorded =
                    self.record(index, pending, view.as_deref(), kind, enqueued_at, *write, marks).await?;
                Ok(Judged::Recorded(Box::new(recorded)))
            }
        }
    }

    async fn record_ended(
        &self,
        uid: &str,
        kind: &'static str,
        enqueued_at: String,
        details: Value,
        error: Option<ApiError>,
        marks: WriteMarks,
    ) -> Result<Accepted, ApiError> {
        let status = if error.is_some() { TaskStatus::Failed } else { TaskStatus::Succeeded };
        let outcome = TaskOutcome {
            status,
            error: error.map(|error| serde_json::to_value(error.body()).unwrap_or_default()),
            details: None,
            canceled_by: None,
            started_at: Some(enqueued_at.clone()),
            finished_at: enqueued_at.clone(),
        };
        let task = NewTask {
            index_uid: Some(uid.to_owned()),
            kind: kind.to_owned(),
            details,
            enqueued_at: enqueued_at.clone(),
            outcome: Some(outcome),
            marks,
        };
        let task_uid = self.store.begin(task, None).await.map_err(store_error)?;
        self.tasks_have_ended();
        Ok(accepted(task_uid, uid, kind, enqueued_at, Vec::new()))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one write, named where it is taken apart")]
    async fn record(
        &self,
        index: &Index,
        pending: &mut PendingWrites,
        judged_by: Option<&IndexView>,
        kind: &'static str,
        enqueued_at: String,
        write: ToSend,
        marks: WriteMarks,
    ) -> Result<Recorded, ApiError> {
        let ToSend { operation, details, payload, record } = write;
        let uid = index.uid.as_str();
        // What the write is judged by: the index as it is, or as the write makes it.
        let view = match (index.view(), &record) {
            (Some(view), _) => view,
            (None, Some(record)) => Arc::new(IndexView::new(record.clone(), Default::default(), None)),
            (None, None) => return Err(ApiError::internal("a write without an index")),
        };
        let concerned = operation.shards_concerned(view.record.shards, &payload);
        self.check_reachable(&view, &concerned, self.config.min_write_acks.max(1))?;

        let recording = index.recording.lock().await;
        let before = index.view();
        let mut record = record.map(|record| with_changes_of_others(record, judged_by, before.as_deref()));
        if let (Operation::ChangeSettings { .. }, Some(record), Some(before)) =
            (&operation, &mut record, &before)
        {
            // One that it was judged by may have failed since.
            let needs = self.needs(&before.record);
            let overlay = overlay_with_change(&before.record.overlay, &details, needs);
            record.overlay = overlay_with_embedders_of(&overlay, &record.overlay);
        }
        let task = NewTask {
            index_uid: Some(uid.to_owned()),
            kind: kind.to_owned(),
            details,
            enqueued_at: enqueued_at.clone(),
            outcome: None,
            marks,
        };
        let operation_json = serde_json::to_value(&operation)
            .map_err(|error| ApiError::internal(format!("the write cannot be recorded: {error}")))?;
        let every_shard: Arc<[bool]> = vec![true; usize::from(view.record.shards)].into();
        let intent = Intent {
            operation: operation_json,
            payload: Box::new(payload.chunks(every_shard).map(Ok)),
            index_changes: vec![index_change(before.as_deref(), record.as_ref(), uid)],
        };
        let task_uid = self.store.begin(task, Some(intent)).await.map_err(store_error)?;
        if before.is_none() {
            index.begins_with(task_uid);
        }
        index.set_view(record.map(|record| {
            let exceptions = index.view().map(|view| view.exceptions.clone()).unwrap_or_default();
            IndexView::new(record, exceptions, before.as_deref())
        }));
        // Before anyone else may change the record: nodes are compared only where no other change is on its way.
        let after = index.view();
        if let (Operation::ChangeSettings { .. }, Some(view)) = (&operation, &after) {
            view.settings_in_flight.fetch_add(1, Ordering::AcqRel);
        }
        drop(recording);
        if before.as_ref().is_none_or(|view| view.record.next_position == 0) {
            pending.begin_anew();
        }
        remember(pending, task_uid, &operation, &payload);
        Ok(Recorded { task_uid, kind, enqueued_at, operation, payload, before, after, view, concerned })
    }

    /// Waits until the outcomes of earlier writes are known or applied, so that positions can be told. Not while some
    /// shard is out of reach: they would not come to their end before it is back.
    async fn wait_for_room(&self, index: &Index, pending: &mut PendingWrites) -> Result<(), ApiError> {
        let deadline = tokio::time::Instant::now() + EARLIER_WRITES_WAIT;
        loop {
            let finished = self.task_finished.notified();
            tokio::pin!(finished);
            finished.as_mut().enable();
            index.forget_ended(pending);
            if pending.unknown.is_empty() && pending.len() < MOST_PENDING_DOCUMENTS {
                return Ok(());
            }
            if let Some(view) = index.view() {
                let every_shard: Vec<ShardId> = view.shards().map(|(shard, _)| shard).collect();
                self.check_reachable(&view, &every_shard, 1)?;
            }
            let look_again = deadline.min(tokio::time::Instant::now() + REACH_CHECK_EVERY);
            let has_finished = tokio::time::timeout_at(look_again, finished).await.is_ok();
            if !has_finished && look_again == deadline {
                return Err(unavailable(&format!("index `{}` is still applying earlier writes", index.uid)));
            }
        }
    }
}

pub(super) fn reply(
    answer: oneshot::Sender<Result<Accepted, ApiError>>,
    outcome: Result<Accepted, ApiError>,
) {
    // A client that went away does not need its answer.
    let _ = answer.send(outcome);
}

pub(super) fn index_change(
    before: Option<&IndexView>,
    record: Option<&IndexRecord>,
    uid: &str,
) -> IndexChange {
    match (before, record) {
        (_, None) => IndexChange::Delete(uid.to_owned()),
        // Most writes only move the position on; the settings need not be written again.
        (Some(before), Some(record))
            if before.record.overlay == record.overlay
                && before.record.primary_key == record.primary_key
                && before.record.disordered == record.disordered
                && before.record.capital_ids == record.capital_ids =>
        {
            IndexChange::Advance {
                uid: uid.to_owned(),
                next_position: record.next_position,
                updated_at: record.updated_at.clone(),
            }
        }
        (_, Some(record)) => IndexChange::Put(Box::new(record.clone())),
    }
}

/// Remembers what a write does to positions until it is applied.
pub(super) fn remember(pending: &mut PendingWrites, task_uid: u64, operation: &Operation, payload: &Payload) {
    match (operation, payload) {
        (Operation::AddDocuments { .. }, Payload::Batch(batch)) => {
            pending.placed(task_uid, batch.positions())
        }
        (Operation::EditDocuments { dropped, .. }, payload) => {
            if let Payload::Batch(batch) = payload {
                pending.placed(task_uid, batch.positions());
            }
            pending.deleted(task_uid, dropped.iter().map(String::as_str));
        }
        (Operation::DeleteDocuments { ids, .. }, _) => {
            pending.deleted(task_uid, ids.iter().map(String::as_str))
        }
        (Operation::ClearDocuments | Operation::DeleteIndex { .. }, _) => pending.cleared(task_uid),
        _ => {}
    }
}
