//! Cancelling tasks: a task that is about other tasks, carried out in the background once it is recorded.
//!
//! Writes of documents can be canceled, with the queue of their index held, for as long as no node has done its part
//! (`core::taking_back`). What makes or changes an index cannot, nor what comes before it. Once a node has been told to cancel
//! anything, it must come to a decision: so a cancelation that was interrupted is taken up again, and until then nobody
//! looks at what the nodes tell of that index.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use miroir_core::error::ApiError;
use miroir_core::taking_back::{Decision, decide};
use miroir_store::{
    NewTask, StoreError, TaskOutcome, TaskQuery, TaskRecord, TaskStatus, TaskUid, WriteMarks,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::clock::now;
use crate::cluster::Cluster;
use crate::index::Index;
use crate::store_error;
use crate::write::later::Later;
use crate::write::nothing_done;
use crate::write::positions::PendingWrites;
use crate::write::recovery::Interrupted;
use crate::write::sequencer::{QUEUE_WAIT, TaskSummary};

const KIND: &str = "taskCancelation";
/// Where the details of the task keep the uids of those to cancel.
pub(super) const WANTED: &str = "tasksToCancel";
/// Tasks that a node is told to cancel in one request: all or nothing, and short enough for an address.
const MOST_AT_ONCE: usize = 5_000;
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A cancelation that has been recorded and has not ended.
#[derive(Debug, Clone)]
pub(crate) struct Cancelation {
    task: TaskUid,
    details: Value,
    wanted: BTreeSet<TaskUid>,
    /// Indexes about which an earlier life of this process may have told nodes.
    pub told: BTreeSet<String>,
}

impl Cluster {
    /// Cancels the tasks that match, as far as that is possible. `filter` is what the client asked for, in its own words.
    pub async fn cancel_tasks(
        self: &Arc<Self>,
        query: TaskQuery,
        filter: &str,
        marks: WriteMarks,
    ) -> Result<TaskSummary, ApiError> {
        if let Some(before) = self.repeated(marks.idempotency.as_ref()).await? {
            return Ok(before.summary);
        }
        let count = TaskQuery { limit: Some(0), ..query.clone() };
        let matched = self.store.tasks(count).await.map_err(store_error)?.total;
        let unfinished = |status: &TaskStatus| !status.is_finished();
        let all = vec![TaskStatus::Enqueued, TaskStatus::Processing];
        let statuses = query.statuses.clone().unwrap_or(all).into_iter().filter(unfinished).collect();
        let open = TaskQuery { statuses: Some(statuses), limit: None, ..query };
        let open = self.store.tasks(open).await.map_err(store_error)?.tasks;
        let wanted: BTreeSet<TaskUid> = open.into_iter().map(|task| task.uid).collect();
        let details = json!({
            "matchedTasks": matched, "canceledTasks": null, "originalFilter": filter, WANTED: wanted
        });
        let enqueued_at = now();
        let key = marks.idempotency.clone();
        let task = NewTask {
            index_uid: None,
            kind: KIND.to_owned(),
            details: details.clone(),
            enqueued_at: enqueued_at.clone(),
            outcome: None,
            marks,
        };
        let cluster = Arc::clone(self);
        let begin = async move {
            let task = match cluster.store.begin(task, None).await {
                Ok(task) => task,
                // No queue holds the second of two equal requests back until the first is done.
                Err(error @ StoreError::KeyTaken { .. }) => {
                    let before = cluster.repeated(key.as_ref()).await?;
                    return before.map(|before| before.summary).ok_or_else(|| store_error(error));
                }
                Err(error) => return Err(store_error(error)),
            };
            cluster.start_cancelation(Cancelation { task, details, wanted, told: BTreeSet::new() });
            let kind = Cow::Borrowed(KIND);
            Ok(TaskSummary { task_uid: task, index_uid: None, status: "enqueued", kind, enqueued_at })
        };
        self.undisturbed(begin).await
    }

    /// What an earlier life of this process did not bring to its end. From here on, nobody looks at what nodes tell of
    /// the indexes concerned, until that is done.
    pub(crate) async fn unfinished_cancelations(&self) -> Result<Vec<Cancelation>, StoreError> {
        let unfinished = self.store.unfinished().await?;
        // What is to be done later has the queue of its indexes, so nobody has been told of these; and it waits for the
        // tasks before it, which somebody must follow.
        let open = self.store.open_intents().await?;
        let later = open.into_iter().filter_map(|(_, intent)| serde_json::from_value::<Later>(intent).ok());
        let held: BTreeSet<String> = later
            .flat_map(|later| later.index_uids().into_iter().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let mut cancelations = Vec::new();
        for task in unfinished.iter().filter(|task| task.kind == KIND) {
            let wanted = task.details.get(WANTED).cloned().unwrap_or_default();
            let wanted: BTreeSet<TaskUid> = serde_json::from_value(wanted).unwrap_or_default();
            let told: BTreeSet<String> = &indexes_of(&unfinished, &wanted) - &held;
            told.iter().for_each(|index| self.handle(index).begin_canceling());
            let details = task.details.clone();
            cancelations.push(Cancelation { task: task.uid, details, wanted, told });
        }
        Ok(cancelations)
    }

    fn start_cancelation(self: &Arc<Self>, cancelation: Cancelation) {
        let cluster = Arc::clone(self);
        let work = async move {
            let indexes = cluster.until_stopped(cluster.begin_cancelation(&cancelation)).await;
            for uid in indexes.into_iter().flatten() {
                let index = cluster.handle(&uid);
                // One whose queue cannot be had is left as it is.
                match index.turn(QUEUE_WAIT).await {
                    Ok(mut pending) => {
                        if !cluster.cancel_in(&index, &mut pending, std::slice::from_ref(&cancelation)).await
                        {
                            return;
                        }
                    }
                    Err(reason) => {
                        tracing::info!(task = cancelation.task, reason, "tasks are not canceled");
                    }
                }
            }
            cluster.finish_cancelation(&cancelation).await;
        };
        self.tasks.spawn_on(work, &self.runtime);
    }

    /// Ends one that an earlier life began, once all has been decided that it is about.
    pub(super) fn finish_cancelation_after(
        self: &Arc<Self>,
        cancelation: Cancelation,
        decided: Vec<CancellationToken>,
    ) {
        let cluster = Arc::clone(self);
        let work = async move {
            for index in decided {
                tokio::select! {
                    biased;
                    () = cluster.stop.cancelled() => return,
                    () = index.cancelled() => {}
                }
            }
            cluster.finish_cancelation(&cancelation).await;
        };
        self.tasks.spawn_on(work, &self.runtime);
    }

    /// The indexes it is about.
    async fn begin_cancelation(&self, cancelation: &Cancelation) -> BTreeSet<String> {
        let mut tries = Tries::of(cancelation.task);
        loop {
            let begun = self.store.set_processing(vec![cancelation.task], now()).await;
            match begun.and(self.store.unfinished().await) {
                Ok(unfinished) => return indexes_of(&unfinished, &cancelation.wanted),
                Err(error) => tries.failed(&error).await,
            }
        }
    }

    async fn finish_cancelation(&self, cancelation: &Cancelation) {
        let mut tries = Tries::of(cancelation.task);
        let finish = async {
            while let Err(error) = self.try_to_finish(cancelation).await {
                tries.failed(&error).await;
            }
        };
        // When the process is to stop, the next life ends it.
        let _ = self.until_stopped(finish).await;
        self.tasks_have_ended();
    }

    async fn try_to_finish(&self, cancelation: &Cancelation) -> Result<bool, StoreError> {
        // Counted at the end, because some may have been canceled in an earlier life.
        let canceled =
            TaskQuery { canceled_by: Some(vec![cancelation.task]), limit: Some(0), ..TaskQuery::default() };
        let canceled = self.store.tasks(canceled).await?.total;
        let mut details = cancelation.details.clone();
        if let Some(fields) = details.as_object_mut() {
            fields.remove(WANTED);
            fields.insert("canceledTasks".to_owned(), canceled.into());
        }
        let outcome = TaskOutcome {
            status: TaskStatus::Succeeded,
            error: None,
            details: Some(details),
            canceled_by: None,
            started_at: None,
            finished_at: now(),
        };
        self.store.finish(cancelation.task, outcome).await
    }

    /// Cancels what it can of one index, with its queue held from before nodes are told until everything is decided
    /// and sent; false when the process is to stop before that.
    pub(super) async fn cancel_in(
        &self,
        index: &Index,
        pending: &mut PendingWrites,
        cancelations: &[Cancelation],
    ) -> bool {
        index.begin_canceling();
        let mut canceled = Vec::new();
        let decided = self.until_stopped(self.decide_at_last(index, cancelations, &mut canceled)).await;
        let Some((left, open)) = decided else {
            // The queue is let go with it undecided: the next life begins with it.
            index.interrupt("Miroir is stopping".to_owned());
            return false;
        };
        pending.finished(&canceled);
        // What was remembered of the canceled ones may have hidden what earlier ones will have done to a document.
        if let Some(newest) = canceled.iter().max() {
            pending.unknown.extend(left.iter().map(|task| task.uid).filter(|uid| uid < newest));
        }
        index.end_canceling();
        index.resume();
        self.tasks_have_ended();
        for (task, operation) in open {
            if task.index_uid.as_deref() != Some(&index.uid) {
                continue;
            }
            let Ok(operation) = serde_json::from_value(operation) else { continue };
            let write = Interrupted::new(task.uid, operation, task.node_tasks);
            if !self.send_again(index, write).await {
                return false;
            }
        }
        true
    }

    /// Decides, adds what is canceled to `canceled`, and returns the tasks of the index that are left, and the open
    /// intents of all.
    async fn decide_at_last(
        &self,
        index: &Index,
        cancelations: &[Cancelation],
        canceled: &mut Vec<TaskUid>,
    ) -> (Vec<TaskRecord>, Vec<(TaskRecord, Value)>) {
        let mut tries = Tries::of(cancelations.first().map_or(0, |cancelation| cancelation.task));
        loop {
            match self.decide_in(index, cancelations).await {
                Ok(more) => canceled.extend(more),
                Err(error) => {
                    tries.failed(&error).await;
                    continue;
                }
            }
            match (self.store.unfinished().await, self.store.open_intents().await) {
                (Ok(left), Ok(open)) => return (of_index(left, &index.uid), open),
                (Err(error), _) | (_, Err(error)) => tries.failed(&error).await,
            }
        }
    }

    /// What comes of something; `None` when the process is to stop before that.
    async fn until_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            done = work => Some(done),
        }
    }

    /// Tells the nodes, and records what comes of it: tasks that are canceled, which it returns, and writes that are to
    /// be sent again.
    async fn decide_in(
        &self,
        index: &Index,
        cancelations: &[Cancelation],
    ) -> Result<Vec<TaskUid>, StoreError> {
        let wanted: BTreeSet<TaskUid> =
            cancelations.iter().flat_map(|cancelation| &cancelation.wanted).copied().collect();
        let writes = self.last_writes(index, &wanted).await?;
        let sent = self.cancel_on_nodes(index, &writes).await?;
        let Decision { canceled, send_again } = decide(&sent, &wanted);
        let send_again = send_again.into_iter().map(|(uid, having)| {
            let task = writes.iter().find(|task| task.uid == uid);
            let mut node_tasks = task.map_or(Vec::new(), |task| task.node_tasks.clone());
            node_tasks.retain(|task| having.contains(&task.node));
            (uid, node_tasks)
        });
        let send_again = send_again.collect();
        let finished_at = now();
        let outcome = |write: &TaskRecord| {
            let canceler = cancelations.iter().find(|cancelation| cancelation.wanted.contains(&write.uid));
            let outcome = TaskOutcome {
                status: TaskStatus::Canceled,
                error: None,
                details: Some(nothing_done(write.details.clone())),
                canceled_by: canceler.map(|cancelation| cancelation.task),
                started_at: None,
                finished_at: finished_at.clone(),
            };
            (write.uid, outcome)
        };
        let ended = writes.iter().filter(|write| canceled.contains(&write.uid)).map(outcome).collect();
        self.store.cancel(ended, send_again).await?;
        Ok(canceled)
    }

    /// The writes of an index that can be taken back, from the first that is wanted on; none where what came later
    /// cannot be.
    async fn last_writes(
        &self,
        index: &Index,
        wanted: &BTreeSet<TaskUid>,
    ) -> Result<Vec<TaskRecord>, StoreError> {
        let tasks = of_index(self.store.unfinished().await?, &index.uid);
        let mut writes = Vec::new();
        for task in tasks.into_iter().rev().take(MOST_AT_ONCE) {
            if task.node_tasks.is_empty() || self.store.kept_intent(task.uid).await?.is_none() {
                break;
            }
            writes.push(task);
        }
        writes.reverse();
        let first = writes.iter().position(|write| wanted.contains(&write.uid));
        Ok(first.map_or(Vec::new(), |first| writes.split_off(first)))
    }
}

/// Tries of something about one task that must be done in the end.
struct Tries {
    task: TaskUid,
    backoff: Backoff,
}

impl Tries {
    fn of(task: TaskUid) -> Self {
        Self { task, backoff: Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE) }
    }

    /// Waits before the next.
    async fn failed(&mut self, error: &StoreError) {
        let pause = self.backoff.fail();
        if self.backoff.is_worth_telling() {
            tracing::error!(task = self.task, %error, "cannot cancel tasks yet; it is tried again");
        }
        tokio::time::sleep(pause).await;
    }
}

/// The indexes of tasks that are wanted and have not ended.
fn indexes_of(unfinished: &[TaskRecord], wanted: &BTreeSet<TaskUid>) -> BTreeSet<String> {
    let wanted = unfinished.iter().filter(|task| wanted.contains(&task.uid));
    wanted.filter_map(|task| task.index_uid.clone()).collect()
}

fn of_index(tasks: Vec<TaskRecord>, uid: &str) -> Vec<TaskRecord> {
    tasks.into_iter().filter(|task| task.index_uid.as_deref() == Some(uid)).collect()
}
