//! What is accepted at once and carried out when all that came before it has been applied: giving indexes other names,
//! and having a function edit documents.
//!
//! It takes its place in the queues of all its indexes, is recorded as an intent, and answered; the queues stay held
//! until it is done, so later writes wait for it and see what it did. Begun again after a crash, it is done once: what it
//! finds out changes nothing, and what it changes is changed in one transaction, with its end or with the write that it
//! becomes.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use miroir_core::error::ApiError;
use miroir_core::export::Export;
use miroir_node::NodeError;
use miroir_store::{IndexSwap, Intent, NewTask, StoreError, TaskOutcome, TaskRecord, TaskStatus, WriteMarks};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{MutexGuard, oneshot};
use tokio::time::Instant;

use crate::archives::NotMade;
use crate::backoff::Backoff;
use crate::clock::now;
use crate::cluster::Cluster;
use crate::index::Index;
use crate::store_error;
use crate::write::edit::Edit;
use crate::write::outcome::failed_outcome;
use crate::write::positions::PendingWrites;
use crate::write::recovery::Interrupted;
use crate::write::refusal::unavailable;
use crate::write::sequencer::{Accepted, QUEUE_WAIT, TaskSummary, reply};

/// Pauses between two tries.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// How often to look whether what came before has been applied, besides when some task has ended.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is to be done. Its JSON form is what an intent holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "later", rename_all = "camelCase")]
pub enum Later {
    /// Exchange the names of indexes, or give them others.
    SwapIndexes {
        /// One after the other.
        swaps: Vec<IndexSwap>,
    },
    /// Have a function edit documents.
    EditDocuments {
        /// The index.
        index: String,
        /// What is asked for.
        edit: Edit,
    },
    /// Export indexes to another server.
    Export {
        /// What is asked for.
        export: Export,
    },
    /// Give one index another name.
    RenameIndex {
        /// Its name.
        from: String,
        /// Its name from then on.
        to: String,
    },
}

/// Something to be carried out later, with how its task looks.
pub struct LaterRequest {
    /// What to do.
    pub later: Later,
    /// The index that the task is about, if it is about one.
    pub index_uid: Option<String>,
    /// Meilisearch's name for the kind of task.
    pub kind: &'static str,
    /// Meilisearch's `details`.
    pub details: Value,
}

/// What came of carrying it out.
pub(super) enum Done {
    /// The task has ended.
    Ended,
    /// It has become a write to one index, which is recorded in its place and to be sent.
    ToSend(Box<Interrupted>),
}

/// Why it could not be carried out yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaterError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    NotNow(String),
}

/// The queues of the indexes concerned, in the order of their names, which nobody else takes in another.
pub(super) struct Turns<'a> {
    indexes: &'a [Arc<Index>],
    pending: Vec<MutexGuard<'a, PendingWrites>>,
}

impl Later {
    /// The names of the indexes concerned, whether or not there are such.
    pub(super) fn index_uids(&self) -> BTreeSet<&str> {
        match self {
            Self::SwapIndexes { swaps } => {
                swaps.iter().flat_map(|swap| [swap.indexes.0.as_str(), swap.indexes.1.as_str()]).collect()
            }
            // It is about what there is, and holds nobody up.
            Self::Export { .. } => BTreeSet::new(),
            Self::EditDocuments { index, .. } => [index.as_str()].into(),
            Self::RenameIndex { from, to } => [from.as_str(), to.as_str()].into(),
        }
    }
}

impl Cluster {
    /// Accepts something to be carried out when its turn comes.
    pub async fn submit_later(
        self: &Arc<Self>,
        request: LaterRequest,
        marks: WriteMarks,
    ) -> Result<Accepted, ApiError> {
        let cluster = Arc::clone(self);
        let (answer, answered) = oneshot::channel();
        let turn = async move { cluster.take_turns(request, marks, answer).await };
        self.tasks.spawn_on(turn, &self.runtime);
        answered
            .await
            .unwrap_or_else(|_| Err(ApiError::internal("the request was interrupted; send it again")))
    }

    async fn take_turns(
        &self,
        request: LaterRequest,
        marks: WriteMarks,
        answer: oneshot::Sender<Result<Accepted, ApiError>>,
    ) {
        let indexes: Vec<Arc<Index>> =
            request.later.index_uids().into_iter().map(|uid| self.handle(uid)).collect();
        let mut turns = Turns { indexes: &indexes, pending: Vec::new() };
        let mut busy = None;
        for index in &indexes {
            match index.turn(QUEUE_WAIT).await {
                Ok(pending) => turns.pending.push(pending),
                Err(reason) => {
                    busy = Some(reason);
                    break;
                }
            }
        }
        if let Some(answered_before) = self.repeated(marks.idempotency.as_ref()).await.transpose() {
            return reply(answer, answered_before);
        }
        if let Some(reason) = busy {
            return reply(answer, Err(unavailable(&reason)));
        }
        match self.record_later(&request, marks).await {
            Ok(accepted) => {
                let task = accepted.summary.task_uid;
                reply(answer, Ok(accepted));
                self.finish_later(turns, task, request.later).await;
            }
            Err(error) => reply(answer, Err(error)),
        }
    }

    async fn record_later(&self, request: &LaterRequest, marks: WriteMarks) -> Result<Accepted, ApiError> {
        let enqueued_at = now();
        let LaterRequest { later, index_uid, kind, details } = request;
        let task = NewTask {
            index_uid: index_uid.clone(),
            kind: (*kind).to_owned(),
            details: details.clone(),
            enqueued_at: enqueued_at.clone(),
            outcome: None,
            marks,
        };
        let operation = serde_json::to_value(later)
            .map_err(|error| ApiError::internal(format!("the request cannot be recorded: {error}")))?;
        let intent = Intent::without_payload(operation, Vec::new());
        let task_uid = self.store.begin(task, Some(intent)).await.map_err(store_error)?;
        let summary = TaskSummary {
            task_uid,
            index_uid: index_uid.clone(),
            status: "enqueued",
            kind: Cow::Borrowed(kind),
            enqueued_at,
        };
        Ok(Accepted { summary, missed_shards: Vec::new() })
    }

    /// Takes up what an earlier life accepted. Returns once the queues are held.
    pub(super) async fn recover_later(self: &Arc<Self>, task: TaskRecord, later: Later) {
        let cluster = Arc::clone(self);
        let (held, is_held) = oneshot::channel();
        self.tasks.spawn(async move {
            let indexes: Vec<Arc<Index>> =
                later.index_uids().into_iter().map(|uid| cluster.handle(uid)).collect();
            let mut turns = Turns { indexes: &indexes, pending: Vec::new() };
            for index in &indexes {
                turns.pending.push(index.queue.lock().await);
            }
            // The receiver waits right below.
            let _ = held.send(());
            cluster.finish_later(turns, task.uid, later).await;
        });
        // An error would mean that the task ended early, which leaves nothing to wait for.
        let _ = is_held.await;
    }

    /// Carries it out, however often it takes; ends before only when the process is to stop.
    async fn finish_later(&self, mut turns: Turns<'_>, task: u64, later: Later) {
        let mut backoff = Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE);
        let trying = async {
            self.wait_for_those_before(&turns, task).await;
            loop {
                let error = match self.carry_out_later(&mut turns, task, &later).await {
                    Ok(done) => return done,
                    Err(error) => error,
                };
                let pause = backoff.fail();
                if backoff.is_worth_telling() {
                    tracing::error!(task, %error, "cannot finish a task yet; it is tried again");
                }
                turns.interrupt(&format!("task {task}: {error}"));
                tokio::time::sleep(pause).await;
            }
        };
        let done = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            done = trying => Some(done),
        };
        match done {
            // The queues are let go with it undone: the next life begins with it.
            None => turns.interrupt("Miroir is stopping"),
            Some(Done::ToSend(write)) => {
                if let Some(index) = turns.indexes.first() {
                    self.send_again(index, *write).await;
                }
            }
            Some(Done::Ended) => {
                turns.pending.iter_mut().for_each(|pending| pending.finished(&[task]));
                turns.indexes.iter().for_each(|index| index.resume());
                self.tasks_have_ended();
            }
        }
    }

    /// Waits until all earlier tasks about these indexes have ended, however long that takes. After a while nobody is
    /// made to wait in the queues any more: it may take an operator to go on.
    async fn wait_for_those_before(&self, turns: &Turns<'_>, task: u64) {
        let begun = Instant::now();
        loop {
            let finished = self.task_finished.notified();
            tokio::pin!(finished);
            finished.as_mut().enable();
            match self.store.unfinished().await {
                Ok(unfinished) => {
                    let is_before = |other: &TaskRecord| {
                        other.uid < task && other.index_uid.as_deref().is_some_and(|uid| turns.concern(uid))
                    };
                    if !unfinished.iter().any(is_before) {
                        return;
                    }
                }
                Err(error) => tracing::error!(%error, task, "cannot read the unfinished tasks"),
            }
            if begun.elapsed() > QUEUE_WAIT {
                turns.interrupt(&format!("task {task}: earlier tasks have not ended"));
            }
            // Either way it is time to look again.
            let _ = tokio::time::timeout(LOOK_EVERY, finished).await;
        }
    }

    async fn carry_out_later(
        &self,
        turns: &mut Turns<'_>,
        task: u64,
        later: &Later,
    ) -> Result<Done, LaterError> {
        self.store.set_processing(vec![task], now()).await?;
        let judged = match later {
            Later::SwapIndexes { swaps } => self.judge_swaps(swaps).map(|()| swaps.clone()),
            Later::RenameIndex { from, to } => self.judge_rename(from, to),
            Later::Export { export } => {
                let outcome = self.outcome_of_export(export).await?;
                self.store.abandon_intent(task, outcome, Vec::new()).await?;
                return Ok(Done::Ended);
            }
            Later::EditDocuments { edit, .. } => {
                let (Some(index), Some(pending)) = (turns.indexes.first(), turns.pending.first_mut()) else {
                    return Ok(Done::Ended);
                };
                return self.edit(index, pending, task, edit).await;
            }
        };
        match judged {
            Ok(swaps) => self.swap(turns, task, swaps).await?,
            Err(error) => self.store.abandon_intent(task, failed_outcome(&error), Vec::new()).await?,
        }
        Ok(Done::Ended)
    }
}

impl Cluster {
    async fn outcome_of_export(&self, export: &Export) -> Result<TaskOutcome, LaterError> {
        match self.export(export).await {
            Ok(documents) => Ok(succeeded(Some(export.details_when_done(&documents)))),
            Err(NotMade::Now(error)) => Err(LaterError::NotNow(error.message)),
            Err(NotMade::Ever(error)) => Ok(failed_outcome(&error)),
        }
    }
}

/// How a task ends that did what was asked.
pub(super) fn succeeded(details: Option<Value>) -> TaskOutcome {
    TaskOutcome {
        status: TaskStatus::Succeeded,
        error: None,
        details,
        canceled_by: None,
        started_at: None,
        finished_at: now(),
    }
}

impl Turns<'_> {
    fn concern(&self, uid: &str) -> bool {
        self.indexes.iter().any(|index| index.uid == uid)
    }

    fn interrupt(&self, reason: &str) {
        self.indexes.iter().for_each(|index| index.interrupt(reason.to_owned()));
    }

    /// The indexes.
    pub fn indexes(&self) -> &[Arc<Index>] {
        self.indexes
    }

    /// Nothing is on its way to these indexes, and what is known of their documents is known of others from now on.
    pub fn forget_documents(&mut self) {
        self.pending.iter_mut().for_each(|pending| **pending = PendingWrites::default());
    }
}
