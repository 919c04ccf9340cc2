//! Cancelling tasks: a task that is about other tasks, carried out in the background once it is recorded.
//!
//! Writes of documents can be canceled, with the queue of their index held, for as long as no node has done its part
//! (`core::taking_back`). What makes or changes an index cannot, nor what comes before it. Once a node has been told to cancel
//! anything, it must come to a decision: so a cancelation that was interrupted is taken up again, and until then nobody
//! looks at what the nodes tell of that index.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use miroir_core::error::ApiError;
use miroir_core::taking_back::{Decision, SentWrite, decide};
use miroir_node::NodeTaskStatus;
use miroir_store::{
    NewTask, NodeTask, StoreError, TaskOutcome, TaskQuery, TaskRecord, TaskStatus, TaskUid, WriteMarks,
};
use serde_json::{Value, json};

use crate::backoff::Backoff;
use crate::clock::now;
use crate::cluster::Cluster;
use crate::index::Index;
use crate::replicas::node_tasks;
use crate::store_error;
use crate::write::nothing_done;
use crate::write::recovery::Interrupted;
use crate::write::sequencer::{QUEUE_WAIT, TaskSummary};

const KIND: &str = "taskCancelation";
/// Where the details of the task keep the uids of those to cancel.
pub(super) const WANTED: &str = "tasksToCancel";
/// How long a node may take: it brings what it is doing for others to its end before.
const NODE_LIMIT: Duration = Duration::from_secs(600);
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// Tasks that a node is told to cancel in one request: all or nothing, and short enough for an address.
const MOST_AT_ONCE: usize = 5_000;
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A cancelation that has been recorded and has not ended.
pub(crate) struct Cancelation {
    task: TaskUid,
    details: Value,
    wanted: BTreeSet<TaskUid>,
    /// Indexes about which nodes may have been told, perhaps by an earlier life of this process.
    told: BTreeSet<String>,
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
        let mut cancelations = Vec::new();
        for task in unfinished.iter().filter(|task| task.kind == KIND) {
            let wanted = task.details.get(WANTED).cloned().unwrap_or_default();
            let wanted: BTreeSet<TaskUid> = serde_json::from_value(wanted).unwrap_or_default();
            let told = indexes_of(&unfinished, &wanted);
            told.iter().for_each(|index| self.handle(index).begin_canceling());
            let details = task.details.clone();
            cancelations.push(Cancelation { task: task.uid, details, wanted, told });
        }
        Ok(cancelations)
    }

    /// Takes them up again.
    pub(crate) fn resume_cancelations(self: &Arc<Self>, cancelations: Vec<Cancelation>) {
        cancelations.into_iter().for_each(|cancelation| self.start_cancelation(cancelation));
    }

    fn start_cancelation(self: &Arc<Self>, mut cancelation: Cancelation) {
        let cluster = Arc::clone(self);
        let work = async move {
            let mut backoff = Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE);
            while let Err(error) = cluster.carry_out_cancelation(&mut cancelation).await {
                let pause = backoff.fail();
                if backoff.is_worth_telling() {
                    tracing::error!(task = cancelation.task, %error, "cannot cancel tasks yet");
                }
                tokio::time::sleep(pause).await;
            }
        };
        let stop = self.stop.clone();
        let until_stopped = async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = work => {}
            }
        };
        self.tasks.spawn_on(until_stopped, &self.runtime);
    }

    async fn carry_out_cancelation(&self, cancelation: &mut Cancelation) -> Result<(), StoreError> {
        self.store.set_processing(vec![cancelation.task], now()).await?;
        let mut indexes = indexes_of(&self.store.unfinished().await?, &cancelation.wanted);
        indexes.extend(cancelation.told.iter().cloned());
        for index in indexes {
            self.cancel_in(&self.handle(&index), cancelation).await?;
        }
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
        self.store.finish(cancelation.task, outcome).await?;
        self.task_finished.notify_waiters();
        Ok(())
    }

    /// Cancels what it can of one index. One whose queue cannot be had is left as it is, unless nodes have been told.
    async fn cancel_in(&self, index: &Index, cancelation: &mut Cancelation) -> Result<(), StoreError> {
        let mut pending = match cancelation.told.contains(&index.uid) {
            true => index.queue.lock().await,
            false => match index.turn(QUEUE_WAIT).await {
                Ok(pending) => pending,
                Err(reason) => {
                    tracing::info!(task = cancelation.task, reason, "tasks are not canceled");
                    return Ok(());
                }
            },
        };
        index.begin_canceling();
        cancelation.told.insert(index.uid.clone());
        let canceled = self.decide_in(index, cancelation).await?;
        pending.finished(&canceled);
        // What was remembered of the canceled ones may have hidden what others will have done to a document.
        let left = of_index(self.store.unfinished().await?, &index.uid);
        pending.unknown.extend(left.iter().map(|task| task.uid));
        let open = self.store.open_intents().await?;
        index.end_canceling();
        cancelation.told.remove(&index.uid);
        self.task_finished.notify_waiters();
        for (task, operation) in open {
            if task.index_uid.as_deref() != Some(&index.uid) {
                continue;
            }
            let Ok(operation) = serde_json::from_value(operation) else { continue };
            let write = Interrupted::new(task.uid, operation, task.node_tasks);
            if !self.send_again(index, &mut pending, write).await {
                break;
            }
        }
        Ok(())
    }

    /// Tells the nodes, and records what comes of it: tasks that are canceled, which it returns, and writes that are to
    /// be sent again. With the queue held.
    async fn decide_in(&self, index: &Index, cancelation: &Cancelation) -> Result<Vec<TaskUid>, StoreError> {
        let writes = self.last_writes(index, &cancelation.wanted).await?;
        let sent = self.cancel_on_nodes(&writes).await;
        let Decision { canceled, send_again } = decide(&sent, &cancelation.wanted);
        let send_again = send_again.into_iter().map(|(uid, having)| {
            let task = writes.iter().find(|task| task.uid == uid);
            let mut node_tasks = task.map_or(Vec::new(), |task| task.node_tasks.clone());
            node_tasks.retain(|task| having.contains(&task.node));
            (uid, node_tasks)
        });
        let send_again = send_again.collect();
        let ended = writes.into_iter().filter(|write| canceled.contains(&write.uid));
        let finished_at = now();
        let outcome = |write: TaskRecord| {
            let outcome = TaskOutcome {
                status: TaskStatus::Canceled,
                error: None,
                details: Some(nothing_done(write.details)),
                canceled_by: Some(cancelation.task),
                started_at: None,
                finished_at: finished_at.clone(),
            };
            (write.uid, outcome)
        };
        self.store.cancel(ended.map(outcome).collect(), send_again).await?;
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

    /// Tells every node to cancel its part of these writes, and asks what became of it.
    async fn cancel_on_nodes(&self, writes: &[TaskRecord]) -> Vec<SentWrite> {
        let mut parts: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for task in writes.iter().flat_map(|write| &write.node_tasks) {
            parts.entry(&task.node).or_default().push(task.task_uid);
        }
        let tell = async |(name, tasks): (&str, Vec<u64>)| {
            let Some(node) = self.fleet.get(name) else { return Vec::new() };
            let deadline = tokio::time::Instant::now() + NODE_LIMIT;
            // It may have been told when the answer was lost, and must not cancel anything after this.
            while let Err(error) = node_tasks::cancel(node, &tasks, NODE_LIMIT).await {
                if !node.health().is_up() || tokio::time::Instant::now() > deadline {
                    tracing::warn!(%error, "a node cannot be told to cancel tasks");
                    break;
                }
                tokio::time::sleep(LONGEST_PAUSE).await;
            }
            let states = node.tasks(&tasks, ASK_LIMIT).await.unwrap_or_default();
            let canceled = states.into_iter().filter(|state| state.status == NodeTaskStatus::Canceled);
            canceled.map(|state| (name.to_owned(), state.uid)).collect()
        };
        let told = futures_util::future::join_all(parts.into_iter().map(tell)).await;
        let canceled: BTreeSet<(String, u64)> = told.into_iter().flatten().collect();
        let sent = |write: &TaskRecord| {
            let part = |task: &NodeTask| {
                let is_canceled = canceled.contains(&(task.node.clone(), task.task_uid));
                (task.node.clone(), task.task_uid, is_canceled)
            };
            SentWrite { uid: write.uid, parts: write.node_tasks.iter().map(part).collect() }
        };
        writes.iter().map(sent).collect()
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
