//! The sequencer: the one way a write takes, so that all replicas apply the same writes in the same order.
//!
//! A write waits for its index's queue, is judged against the index as the writes before it leave it, recorded
//! together with its task, sent to every node concerned, and acknowledged. Only then may the next one go.
//! It runs in a task of its own: a client that hangs up in the middle does not leave half a write behind.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use miroir_core::error::{ApiError, ErrorType};
use miroir_core::replica::ReplicaState;
use miroir_core::shard::ShardId;
use miroir_store::{
    Acknowledgement, IndexChange, IndexRecord, Intent, NewTask, ReplicaStatus, TaskOutcome, TaskStatus,
};
use serde::Serialize;
use serde_json::Value;

use crate::clock::now;
use crate::cluster::Cluster;
use crate::index::{Index, IndexView};
use crate::store_error;
use crate::write::dispatch::{Dispatch, Dispatched};
use crate::write::operation::{Operation, Payload};
use crate::write::positions::{MOST_PENDING_DOCUMENTS, PendingWrites};
use crate::write::prepare::{Prepared, ToSend, WriteRequest, unavailable};

/// How long a write may wait for those before it.
const QUEUE_WAIT: Duration = Duration::from_secs(60);
/// How long a write may wait for what an earlier life of this process sent.
const EARLIER_WRITES_WAIT: Duration = Duration::from_secs(60);

/// What a client gets with a 202.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskSummary {
    /// Uid of the Miroir task.
    pub task_uid: u64,
    /// Index it is about.
    pub index_uid: String,
    /// Always `enqueued`, as Meilisearch has it.
    pub status: &'static str,
    /// Kind of task.
    #[serde(rename = "type")]
    pub kind: &'static str,
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

impl Cluster {
    /// Carries a write out up to its acknowledgement.
    pub async fn submit(self: &Arc<Self>, uid: &str, request: WriteRequest) -> Result<Accepted, ApiError> {
        let (cluster, uid) = (Arc::clone(self), uid.to_owned());
        let carried_out = async move { cluster.carry_out(&uid, request).await };
        let writing = self.tasks.spawn_on(carried_out, &self.runtime);
        writing.await.unwrap_or_else(|_| Err(ApiError::internal("the write was interrupted; send it again")))
    }

    async fn carry_out(&self, uid: &str, request: WriteRequest) -> Result<Accepted, ApiError> {
        let index = self.handle(uid);
        let mut pending = tokio::time::timeout(QUEUE_WAIT, index.queue.lock())
            .await
            .map_err(|_| unavailable(&format!("index `{uid}` is busy with earlier writes")))?;
        if matches!(request, WriteRequest::AddDocuments { .. }) {
            self.wait_for_room(&index, &mut pending).await?;
        }
        let (kind, enqueued_at) = (request.kind(), now());
        let view = index.view();
        match self.prepare(uid, view.as_deref(), &pending, request, &enqueued_at).await? {
            Prepared::Ended { details, error } => {
                self.record_ended(uid, kind, enqueued_at, details, error).await
            }
            Prepared::Send(write) => {
                self.record_and_send(&index, &mut pending, kind, enqueued_at, *write).await
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
        };
        let task_uid = self.store.begin(task, None).await.map_err(store_error)?;
        Ok(accepted(task_uid, uid, kind, enqueued_at, Vec::new()))
    }

    async fn record_and_send(
        &self,
        index: &Index,
        pending: &mut PendingWrites,
        kind: &'static str,
        enqueued_at: String,
        write: ToSend,
    ) -> Result<Accepted, ApiError> {
        let ToSend { operation, details, payload, record } = write;
        let uid = index.uid.as_str();
        let before = index.view();
        // What the write is judged by: the index as it is, or as the write makes it.
        let view = match (&before, &record) {
            (Some(view), _) => Arc::clone(view),
            (None, Some(record)) => Arc::new(IndexView::new(record.clone(), Default::default(), None)),
            (None, None) => return Err(ApiError::internal("a write without an index")),
        };
        let concerned = operation.shards_concerned(view.record.shards, &payload);
        self.check_reachable(&view, &concerned)?;

        let task = NewTask {
            index_uid: Some(uid.to_owned()),
            kind: kind.to_owned(),
            details,
            enqueued_at: enqueued_at.clone(),
            outcome: None,
        };
        let recording = index.recording.lock().await;
        let record = record.map(|record| with_committed_settings(record, index.view().as_deref()));
        let operation_json = serde_json::to_value(&operation)
            .map_err(|error| ApiError::internal(format!("the write cannot be recorded: {error}")))?;
        let every_shard: Arc<[bool]> = vec![true; usize::from(view.record.shards)].into();
        let intent = Intent {
            operation: operation_json,
            payload: Box::new(payload.chunks(every_shard).map(Ok)),
            index_changes: vec![index_change(before.as_deref(), record.as_ref(), uid)],
        };
        let task_uid = self.store.begin(task, Some(intent)).await.map_err(store_error)?;

        index.set_view(record.map(|record| {
            let exceptions = index.view().map(|view| view.exceptions.clone()).unwrap_or_default();
            IndexView::new(record, exceptions, before.as_deref())
        }));
        drop(recording);
        if let (Operation::ChangeSettings { .. }, Some(view)) = (&operation, index.view()) {
            view.settings_in_flight.fetch_add(1, Ordering::AcqRel);
        }
        if before.as_ref().is_none_or(|view| view.record.next_position == 0) {
            pending.begin_anew();
        }
        remember(pending, task_uid, &operation, &payload);
        let targets = self.targets(&view, &operation, &concerned);
        let dispatched = self
            .dispatch(&Dispatch {
                uid,
                shards: view.record.shards,
                operation: &operation,
                payload: &payload,
                targets,
                try_one_first: operation.touches_settings()
                    || matches!(operation, Operation::DeleteByFilter { .. }),
            })
            .await;
        if let Some((status, body)) = &dispatched.rejected
            && dispatched.acknowledged.is_empty()
        {
            return Err(self.take_back(index, pending, task_uid, before, *status, body).await);
        }
        let acknowledged = self.acknowledge(index, pending, task_uid, &dispatched, &view, &concerned).await;
        if acknowledged.is_err() && before.is_none() {
            self.undo_creation(index, &dispatched).await;
        }
        let missed = acknowledged?;
        Ok(accepted(task_uid, uid, kind, enqueued_at, missed))
    }

    /// Records the outcome of a dispatch: who has it, who became stale, and whether that is enough.
    pub(crate) async fn acknowledge(
        &self,
        index: &Index,
        pending: &mut PendingWrites,
        task_uid: u64,
        dispatched: &Dispatched,
        view: &IndexView,
        concerned: &[ShardId],
    ) -> Result<Vec<ShardId>, ApiError> {
        let (stale, unconfirmed) = dispatched.judge(view, concerned, self.config.min_write_acks);
        if !unconfirmed.is_empty() {
            let reasons: Vec<&str> = dispatched.missed.values().map(String::as_str).collect();
            let error = unavailable(&reasons.join("; "));
            self.store.set_replica_states(stale.clone()).await.map_err(store_error)?;
            self.store.abandon_intent(task_uid, failed_outcome(&error)).await.map_err(store_error)?;
            pending.finished(&[task_uid]);
            self.note_stale(index, &stale);
            return Err(error);
        }
        let acknowledgement = Acknowledgement {
            task_uid,
            node_tasks: dispatched.node_tasks.clone(),
            replica_changes: stale.clone(),
            index_changes: Vec::new(),
        };
        self.store.acknowledged(acknowledgement).await.map_err(store_error)?;
        self.note_stale(index, &stale);
        // The follower finds unfinished tasks in the store as well, so a full channel only costs a little time.
        if self.acknowledged.try_send(task_uid).is_err() {
            tracing::debug!(task_uid, "the follower is behind");
        }
        let mut missed: Vec<ShardId> = stale.iter().map(|status| status.key.shard).collect();
        missed.sort_unstable();
        missed.dedup();
        Ok(missed)
    }

    /// A node found the request itself wrong: nothing was done anywhere, so nothing is left of it.
    async fn take_back(
        &self,
        index: &Index,
        pending: &mut PendingWrites,
        task_uid: u64,
        before: Option<Arc<IndexView>>,
        status: http::StatusCode,
        body: &[u8],
    ) -> ApiError {
        let _recording = index.recording.lock().await;
        let record =
            before.as_ref().map(|view| with_committed_settings(view.record.clone(), index.view().as_deref()));
        let undo = match &record {
            Some(record) => IndexChange::Put(Box::new(record.clone())),
            None => IndexChange::Delete(index.uid.clone()),
        };
        let error = self.node_refusal(before.as_deref(), status, body);
        pending.finished(&[task_uid]);
        if let Some(view) = index.view() {
            settle_settings(&view);
        }
        index.set_view(record.map(|record| {
            let exceptions = before.as_ref().map(|view| view.exceptions.clone()).unwrap_or_default();
            IndexView::new(record, exceptions, before.as_deref())
        }));
        let undone = async {
            self.store.change_indexes(vec![undo]).await?;
            self.store.abandon_intent(task_uid, failed_outcome(&error)).await?;
            self.store.delete_tasks(vec![task_uid]).await
        };
        if let Err(store) = undone.await {
            return store_error(store);
        }
        error
    }

    /// An index that came into being on some nodes only, in a write that was refused: nothing is left of it.
    async fn undo_creation(&self, index: &Index, dispatched: &Dispatched) {
        let _recording = index.recording.lock().await;
        index.set_view(None);
        if let Err(error) = self.store.delete_index(&index.uid).await {
            tracing::error!(%error, index = %index.uid, "cannot forget an index that was not created");
        }
        let targets = dispatched.acknowledged.iter().map(|node| (node.clone(), Vec::new())).collect();
        let operation = Operation::DeleteIndex;
        let payload = Payload::None;
        let deletion = Dispatch {
            uid: &index.uid,
            shards: 1,
            operation: &operation,
            payload: &payload,
            targets,
            try_one_first: false,
        };
        let undone = self.dispatch(&deletion).await;
        if !undone.missed.is_empty() {
            tracing::warn!(index = %index.uid, nodes = ?undone.missed, "remains of an index stay on nodes");
        }
    }

    /// Publishes replicas that became stale and wakes whoever repairs them.
    pub(crate) fn note_stale(&self, index: &Index, stale: &[ReplicaStatus]) {
        if stale.is_empty() {
            return;
        }
        for status in stale {
            tracing::warn!(
                index = %status.key.index_uid, shard = status.key.shard.0, node = %status.key.node,
                reason = %status.reason, "replica is stale"
            );
        }
        index.update(|view| {
            let mut exceptions = view.exceptions.clone();
            exceptions.extend(
                stale.iter().map(|status| ((status.key.shard, status.key.node.clone()), status.state)),
            );
            IndexView::new(view.record.clone(), exceptions, Some(view))
        });
        self.repair_wanted.notify_one();
    }

    /// Refuses a write that could not be acknowledged anyway, before anything is recorded.
    fn check_reachable(&self, view: &IndexView, concerned: &[ShardId]) -> Result<(), ApiError> {
        let reachable = |shard: &ShardId| {
            let nodes =
                view.record.placement.get(usize::from(shard.0)).map(Vec::as_slice).unwrap_or_default();
            let active = nodes.iter().filter(|node| view.replica_state(*shard, node) == ReplicaState::Active);
            let up = active.filter(|node| self.fleet.get(node).is_some_and(|node| node.health().is_up()));
            up.count() >= self.config.min_write_acks.max(1)
        };
        let lost: Vec<String> =
            concerned.iter().filter(|shard| !reachable(shard)).map(|shard| shard.0.to_string()).collect();
        if lost.is_empty() {
            return Ok(());
        }
        let down: Vec<String> = self
            .fleet
            .iter()
            .filter(|node| !node.health().is_up())
            .map(|node| node.id().to_string())
            .collect();
        Err(unavailable(&format!(
            "too few active replicas of shards {} can be reached (nodes down: {})",
            lost.join(","),
            down.join(", ")
        )))
    }

    /// The nodes a write goes to, each with the shards it holds.
    pub(crate) fn targets(
        &self,
        view: &IndexView,
        operation: &Operation,
        concerned: &[ShardId],
    ) -> Vec<(String, Vec<ShardId>)> {
        let narrow = matches!(
            operation,
            Operation::AddDocuments { create: None, .. } | Operation::DeleteDocuments { .. }
        );
        (view.nodes().into_iter())
            .map(|node| {
                let shards = view.shards_on(&node);
                (node, shards)
            })
            .filter(|(_, shards)| !narrow || shards.iter().any(|shard| concerned.contains(shard)))
            .collect()
    }

    /// Waits until the outcomes of earlier writes are known or applied, so that positions can be told.
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
            if tokio::time::timeout_at(deadline, finished).await.is_err() {
                return Err(unavailable(&format!("index `{}` is still applying earlier writes", index.uid)));
            }
        }
    }
}

fn accepted(
    task_uid: u64,
    uid: &str,
    kind: &'static str,
    enqueued_at: String,
    missed_shards: Vec<ShardId>,
) -> Accepted {
    let summary = TaskSummary { task_uid, index_uid: uid.to_owned(), status: "enqueued", kind, enqueued_at };
    Accepted { summary, missed_shards }
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

/// One settings change less is on its way.
pub fn settle_settings(view: &IndexView) {
    let less = |count: usize| count.checked_sub(1);
    // An error means that the count is zero already: after a restart nobody counts what was sent before.
    let _ = view.settings_in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
}

fn index_change(before: Option<&IndexView>, record: Option<&IndexRecord>, uid: &str) -> IndexChange {
    match (before, record) {
        (_, None) => IndexChange::Delete(uid.to_owned()),
        // Most writes only move the position on; the settings need not be written again.
        (Some(before), Some(record))
            if before.record.overlay == record.overlay
                && before.record.primary_key == record.primary_key
                && before.record.disordered == record.disordered =>
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
pub fn remember(pending: &mut PendingWrites, task_uid: u64, operation: &Operation, payload: &Payload) {
    match (operation, payload) {
        (Operation::AddDocuments { .. }, Payload::Batch(batch)) => {
            pending.placed(task_uid, batch.positions())
        }
        (Operation::AddDocuments { .. }, Payload::Stored(_)) => pending.unknown.push(task_uid),
        (Operation::DeleteDocuments { ids, .. }, _) => {
            pending.deleted(task_uid, ids.iter().map(String::as_str))
        }
        (Operation::ClearDocuments | Operation::DeleteIndex, _) => pending.cleared(task_uid),
        _ => {}
    }
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
