//! Sending again what was recorded and not acknowledged: after a crash of this process, and after a dispatch that
//! a part of the nodes missed.
//!
//! Nodes may then differ, and nobody was told that the write is done: either outcome is right, but all nodes must
//! share it. Sending it again, whole, does that whether or not a node had it already, because no later write of
//! that index has been sent. Nothing overtakes it: the index's queue is held until it is done, or the turn to send.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use miroir_core::documents::StampedDocuments;
use miroir_core::shard::ShardId;
use miroir_store::{IndexChange, NodeTask, StoreError};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::cluster::Cluster;
use crate::index::{Index, IndexView};
use crate::write::cancelation::Cancelation;
use crate::write::dispatch::{Dispatch, Dispatched};
use crate::write::judgement::Judgement;
use crate::write::later::Later;
use crate::write::operation::{Operation, Payload};
use crate::write::outcome::{failed_outcome, settle_settings};

/// Pauses between two tries: nodes that stay away cost nothing, and one that keeps failing is left in peace.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// A write that was recorded and has not come to its end.
pub struct Interrupted {
    /// Its task.
    pub task_uid: u64,
    /// What to do.
    pub operation: Operation,
    /// What came of it so far. A node that took it is not sent it again.
    pub dispatched: Dispatched,
    /// No more nodes are needed, as far as is known.
    pub decided: bool,
}

impl Interrupted {
    /// A recorded write that nodes must be sent, except those that have these tasks of it; the others have none.
    pub fn new(task_uid: u64, operation: Operation, node_tasks: Vec<NodeTask>) -> Self {
        let acknowledged = node_tasks.iter().map(|task| task.node.clone()).collect();
        let dispatched = Dispatched { node_tasks, acknowledged, ..Dispatched::default() };
        Self { task_uid, operation, dispatched, decided: true }
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dispatched.reasons() {
            reasons if reasons.is_empty() => write!(formatter, "task {}", self.task_uid),
            reasons => write!(formatter, "task {}: {reasons}", self.task_uid),
        }
    }
}

impl Cluster {
    /// Takes up the intents an earlier life left open. Returns once every queue concerned is held, so that no
    /// new write can overtake; the sending itself goes on in the background until the nodes are there.
    ///
    /// The same for what an earlier life began to cancel (`cancelations`): it is decided after what was open has been
    /// sent, before anything new.
    pub(crate) async fn recover_writes(
        self: &Arc<Self>,
        cancelations: Vec<Cancelation>,
    ) -> Result<(), StoreError> {
        let mut by_index: BTreeMap<String, Vec<Interrupted>> = BTreeMap::new();
        for (task, operation) in self.store.open_intents().await? {
            if let Ok(later) = serde_json::from_value::<Later>(operation.clone()) {
                self.recover_later(task, later).await;
                continue;
            }
            let operation = serde_json::from_value(operation).map_err(|error| {
                let advice = "start the Miroir version that recorded it once more";
                StoreError::Invalid(format!(
                    "the write of task {} is not understood ({error}): {advice}",
                    task.uid
                ))
            })?;
            let mut write = Interrupted::new(task.uid, operation, task.node_tasks);
            // Whatever the others said to the earlier life is not known.
            write.dispatched.may_have_more = true;
            by_index.entry(task.index_uid.unwrap_or_default()).or_default().push(write);
        }
        for uid in cancelations.iter().flat_map(|cancelation| &cancelation.told) {
            by_index.entry(uid.clone()).or_default();
        }
        let mut decided: BTreeMap<String, CancellationToken> = BTreeMap::new();
        for (uid, writes) in by_index {
            let (cluster, index) = (Arc::clone(self), self.handle(&uid));
            let told: Vec<Cancelation> =
                cancelations.iter().filter(|cancelation| cancelation.told.contains(&uid)).cloned().collect();
            let is_decided = decided.entry(uid).or_default().clone();
            let (held, is_held) = tokio::sync::oneshot::channel();
            self.tasks.spawn(async move {
                let mut pending = index.queue.lock().await;
                // The receiver waits right below.
                let _ = held.send(());
                for write in writes {
                    if !cluster.send_again(&index, write).await {
                        return;
                    }
                }
                if told.is_empty() || cluster.cancel_in(&index, &mut pending, &told).await {
                    is_decided.cancel();
                }
            });
            // An error would mean that the task ended early, which leaves nothing to wait for.
            let _ = is_held.await;
        }
        for cancelation in cancelations {
            let waited_for = cancelation.told.iter().filter_map(|uid| decided.get(uid).cloned()).collect();
            self.finish_cancelation_after(cancelation, waited_for);
        }
        Ok(())
    }

    /// Sends a write again until it is done or found wrong; false when the process is to stop before that. To be called by
    /// whoever holds the queue or is the one that sends.
    pub(super) async fn send_again(&self, index: &Index, mut write: Interrupted) -> bool {
        let mut backoff = Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE);
        let trying = async {
            while let Err(reason) = self.try_again(index, &mut write).await {
                let pause = backoff.fail();
                if backoff.is_worth_telling() {
                    tracing::warn!(task = write.task_uid, reason, "cannot finish an interrupted write yet");
                }
                index.interrupt(format!("task {}: {reason}", write.task_uid));
                tokio::time::sleep(pause).await;
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                // The queue is let go with the write undone: the next life begins with it.
                index.interrupt("Miroir is stopping".to_owned());
                false
            }
            () = trying => {
                tracing::info!(task = write.task_uid, index = %index.uid, "finished an interrupted write");
                index.resume();
                true
            }
        }
    }

    async fn try_again(&self, index: &Index, write: &mut Interrupted) -> Result<(), String> {
        let is_up = |node: &str| self.fleet.get(node).is_some_and(|node| node.health().is_up());
        if !write.decided && !write.dispatched.missed.keys().any(|node| is_up(node)) {
            return Err(write.dispatched.reasons());
        }
        let view = index.view();
        let payload = self.stored_payload(write.task_uid).await?;
        let (mut targets, concerned) = self.targets_again(view.as_deref(), &write.operation, &payload);
        targets.retain(|(node, _)| !write.dispatched.acknowledged.contains(node));
        let dispatch = Dispatch {
            uid: node_uid(index, view.as_deref(), &write.operation),
            shards: view.as_ref().map_or(1, |view| view.record.shards),
            operation: &write.operation,
            payload: &payload,
            targets,
            try_one_first: write.dispatched.acknowledged.is_empty()
                && write.operation.only_a_node_can_judge(),
        };
        let again = self.dispatch(&dispatch).await;
        write.dispatched.extend(again);
        let judgement = match &view {
            Some(view) => {
                let of_missed = write.operation.state_of_missed();
                write.dispatched.judge(view, &concerned, self.config.min_write_acks, of_missed)
            }
            None => Judgement::of_deletion(&write.dispatched),
        };
        write.decided = judgement.decided;
        if let Some((status, body)) = write.dispatched.rejected.clone()
            && !judgement.decided
        {
            // Whoever missed what another replica took must not be read, whatever becomes of the task.
            let stale = judgement.stale;
            self.put_aside(index, stale).await.map_err(|error| error.to_string())?;
            return self.give_up(index, write, view.as_deref(), status, &body).await;
        }
        let done =
            self.acknowledge(index, write.task_uid, &write.operation, &write.dispatched, &judgement).await;
        done.map_err(|error| if write.decided { error.message } else { write.dispatched.reasons() })
    }

    /// The nodes concerned by a write, each with its shards, and the shards concerned.
    fn targets_again(
        &self,
        view: Option<&IndexView>,
        operation: &Operation,
        payload: &Payload,
    ) -> (Vec<(String, Vec<ShardId>)>, Vec<ShardId>) {
        match view {
            Some(view) => {
                let concerned = operation.shards_concerned(view.record.shards, payload);
                (self.targets(view, operation, &concerned), concerned)
            }
            // The index is gone from the store already; its remains may be on any node.
            None => (self.fleet.iter().map(|node| (node.id().to_string(), Vec::new())).collect(), Vec::new()),
        }
    }

    /// A node found the write wrong, and some shard has nobody else who took it: the task ends as failed.
    async fn give_up(
        &self,
        index: &Index,
        write: &Interrupted,
        view: Option<&IndexView>,
        status: StatusCode,
        body: &[u8],
    ) -> Result<(), String> {
        let error = self.node_refusal(view, status, body);
        let mut index_changes = Vec::new();
        if write.operation.creates_index() {
            // Its remains would be found in the next index of that name.
            let node_uid = node_uid(index, view, &write.operation);
            self.drop_index(node_uid, view.map(IndexView::nodes).unwrap_or_default()).await?;
            index_changes.push(IndexChange::Delete(index.uid.clone()));
        } else if matches!(write.operation, Operation::ChangeSettings { .. }) {
            self.restore_settings(index, write.task_uid, &write.dispatched.node_tasks).await?;
        } else if !write.dispatched.acknowledged.is_empty() {
            let (took, refused) = (&write.dispatched.acknowledged, write.dispatched.reasons());
            tracing::error!(
                task = write.task_uid,
                ?took,
                refused,
                "nodes disagree on whether a write is wrong"
            );
        }
        let outcome = failed_outcome(&error);
        // Some nodes may have done it all the same.
        index.begin_generation();
        let abandoned = self.store.abandon_intent(write.task_uid, outcome, index_changes).await;
        abandoned.map_err(|error| error.to_string())?;
        if write.operation.creates_index() {
            index.set_view(None);
        } else if let (Operation::ChangeSettings { .. }, Some(view)) = (&write.operation, view) {
            settle_settings(view);
        }
        index.task_ended(write.task_uid);
        self.tasks_have_ended();
        Ok(())
    }

    /// Takes an index that is not to be off these nodes, by its name there.
    pub(super) async fn drop_index(&self, uid: &str, nodes: Vec<String>) -> Result<(), String> {
        let deletion = Dispatch {
            uid,
            shards: 1,
            operation: &Operation::DeleteIndex { node_uid: None },
            payload: &Payload::None,
            targets: nodes.into_iter().map(|node| (node, Vec::new())).collect(),
            try_one_first: false,
        };
        let dropped = self.dispatch(&deletion).await;
        if dropped.missed.is_empty() { Ok(()) } else { Err(dropped.reasons()) }
    }

    async fn stored_payload(&self, task: u64) -> Result<Payload, String> {
        let mut body = BytesMut::new();
        let mut last = None;
        let read =
            async |last| self.store.intent_payload(task, last).await.map_err(|error| error.to_string());
        while let Some(chunk) = read(last).await? {
            last = Some(chunk.seq);
            body.extend_from_slice(&chunk.bytes);
        }
        if body.is_empty() {
            return Ok(Payload::None);
        }
        let documents = StampedDocuments::parse(body.freeze());
        documents.map(Payload::Stored).ok_or_else(|| "the stored documents cannot be read".to_owned())
    }
}

/// What nodes call the index of a write.
fn node_uid<'a>(index: &'a Index, view: Option<&'a IndexView>, operation: &'a Operation) -> &'a str {
    match (view, operation) {
        (Some(view), _) => &view.record.node_uid,
        (None, Operation::DeleteIndex { node_uid: Some(node_uid) }) => node_uid,
        (None, _) => &index.uid,
    }
}
