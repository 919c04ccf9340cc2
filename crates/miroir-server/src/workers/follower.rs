//! The follower: watches the node tasks that writes became, and ends each Miroir task when they have ended.
//!
//! A node that stays away, or answers nothing but errors, while the others have finished does not hold a task up for
//! ever: its replicas become stale, unless they are the last.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use miroir_node::{NodeTaskState, NodeTaskStatus};
use miroir_store::{StoreError, TaskRecord, TaskStatus};
use serde_json::json;
use tokio::sync::mpsc;

use super::task_end::{TaskEnd, end_tasks};
use crate::clock::now;
use crate::cluster::Cluster;
use crate::index::Index;

const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
const NODE_LIMIT: Duration = Duration::from_secs(5);
/// Node tasks asked for at once, the oldest first: a node works in that order.
const WATCHED_PER_NODE: usize = 200;
/// For how long a node may be unable to tell of its tasks before they go on without it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the store is asked for tasks that no message announced.
const RESCAN_EVERY: Duration = Duration::from_secs(2);

/// A task that has not ended, and what is known of it.
pub(super) struct Followed {
    /// As the store has it.
    pub record: TaskRecord,
    /// By node and uid on that node.
    pub states: HashMap<(String, u64), NodeTaskState>,
    /// Nodes that are not waited for any more, each with the reason.
    pub lost: BTreeMap<String, String>,
    /// How far its end has come.
    pub end: TaskEnd,
    /// Since when what is known means something (see `Index::untroubled`).
    since: u64,
}

impl Followed {
    pub fn new(record: TaskRecord, since: u64) -> Self {
        Self { record, states: HashMap::new(), lost: BTreeMap::new(), end: TaskEnd::default(), since }
    }

    /// Whether what is known means anything: not when tasks of its index have been canceled meanwhile.
    pub fn is_untroubled(&self, cluster: &Cluster) -> bool {
        index_of(cluster, &self.record).untroubled() == Some(self.since)
    }

    /// The node tasks that have not ended.
    pub fn outstanding(&self) -> impl Iterator<Item = (&str, u64)> {
        let ended = |node: &str, uid: u64| {
            self.lost.contains_key(node)
                || self.states.get(&(node.to_owned(), uid)).is_some_and(|state| state.status.is_final())
        };
        (self.record.node_tasks.iter())
            .map(|task| (task.node.as_str(), task.task_uid))
            .filter(move |(node, uid)| !ended(node, *uid))
    }
}

/// Runs until told to stop.
pub(crate) async fn follow_tasks(cluster: Arc<Cluster>, mut acknowledged: mpsc::Receiver<u64>) {
    let mut followed: BTreeMap<u64, Followed> = BTreeMap::new();
    let mut failing: BTreeMap<String, Instant> = BTreeMap::new();
    let mut pause = SHORTEST_PAUSE;
    let mut last_scan: Option<tokio::time::Instant> = None;
    loop {
        if last_scan.is_none_or(|at| at.elapsed() > RESCAN_EVERY) {
            last_scan = Some(tokio::time::Instant::now());
            adopt_unfinished(&cluster, &mut followed).await;
        }
        let wait = if followed.is_empty() { RESCAN_EVERY } else { pause };
        tokio::select! {
            () = cluster.stop.cancelled() => return,
            uid = acknowledged.recv() => {
                let Some(uid) = uid else { return };
                adopt(&cluster, &mut followed, uid).await;
                while let Ok(uid) = acknowledged.try_recv() {
                    adopt(&cluster, &mut followed, uid).await;
                }
                pause = SHORTEST_PAUSE;
            }
            () = tokio::time::sleep(wait) => {}
        }
        followed.retain(|_, task| task.is_untroubled(&cluster));
        if followed.is_empty() {
            continue;
        }
        let moved = ask_nodes(&cluster, &mut followed, &mut failing).await;
        let ended = end_tasks(&cluster, &mut followed).await;
        pause = if moved || ended { SHORTEST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
    }
}

fn index_of(cluster: &Cluster, task: &TaskRecord) -> Arc<Index> {
    cluster.handle(task.index_uid.as_deref().unwrap_or_default())
}

/// Follows a task from now on, if it has not ended and has been sent.
async fn follow(cluster: &Cluster, followed: &mut BTreeMap<u64, Followed>, record: TaskRecord) {
    let uid = record.uid;
    if followed.contains_key(&uid) {
        return;
    }
    let Some(since) = index_of(cluster, &record).untroubled() else { return };
    // What was read before tasks were canceled may be out of date.
    let read = if since == 0 { Ok(Some(record)) } else { cluster.store.task(uid).await };
    match read {
        // Without node tasks it is still being dispatched.
        Ok(record) => {
            let is_on_its_way =
                |record: &TaskRecord| !record.status.is_finished() && !record.node_tasks.is_empty();
            followed.extend(record.filter(is_on_its_way).map(|record| (uid, Followed::new(record, since))));
        }
        Err(error) => cannot_read(uid, &error),
    }
}

fn cannot_read(task: u64, error: &StoreError) {
    tracing::error!(%error, task, "cannot read a task; it is taken up again later");
}

async fn adopt(cluster: &Cluster, followed: &mut BTreeMap<u64, Followed>, uid: u64) {
    match cluster.store.task(uid).await {
        Ok(Some(record)) => follow(cluster, followed, record).await,
        Ok(None) => {}
        Err(error) => cannot_read(uid, &error),
    }
}

async fn adopt_unfinished(cluster: &Cluster, followed: &mut BTreeMap<u64, Followed>) {
    match cluster.store.unfinished().await {
        Ok(records) => {
            for record in records {
                follow(cluster, followed, record).await;
            }
        }
        Err(error) => tracing::error!(%error, "cannot read the unfinished tasks"),
    }
}

/// Asks every node about its oldest outstanding tasks; true when anything had changed. `failing` are the nodes that
/// cannot tell, since when: down, or in service with a database that broke on a full disk.
async fn ask_nodes(
    cluster: &Cluster,
    followed: &mut BTreeMap<u64, Followed>,
    failing: &mut BTreeMap<String, Instant>,
) -> bool {
    let mut questions: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    for (uid, task) in followed.iter() {
        for (node, node_uid) in task.outstanding() {
            let list = questions.entry(node.to_owned()).or_default();
            if list.len() < WATCHED_PER_NODE {
                list.push((*uid, node_uid));
            }
        }
    }
    failing.retain(|name, _| questions.contains_key(name));
    let asks = questions.iter().map(async |(name, list)| {
        let Some(node) = cluster.fleet.get(name) else {
            return (name, list, Err(format!("node `{name}` is not in the configuration")));
        };
        let uids: Vec<u64> = list.iter().map(|(_, node_uid)| *node_uid).collect();
        match node.tasks(&uids, NODE_LIMIT).await {
            Ok(states) => (name, list, Ok(states)),
            Err(error) => (name, list, Err(error.to_string())),
        }
    });
    let answers = futures_util::future::join_all(asks).await;

    let mut moved = false;
    let mut started: BTreeSet<u64> = BTreeSet::new();
    for (name, list, answer) in answers {
        match answer {
            Err(reason) => {
                let since = *failing.entry(name.clone()).or_insert_with(Instant::now);
                for (uid, _) in list.iter().filter(|_| since.elapsed() > PATIENCE) {
                    let Some(task) = followed.get_mut(uid) else { continue };
                    // The last replica is waited for: without it, nothing can be read anyway.
                    if cluster.can_do_without(&task.record, name) {
                        task.lost.insert(name.clone(), reason.clone());
                    }
                }
            }
            Ok(states) => {
                failing.remove(name);
                for (uid, node_uid) in list {
                    let Some(task) = followed.get_mut(uid) else { continue };
                    let state = states.iter().find(|state| state.uid == *node_uid).cloned();
                    let state = state.unwrap_or_else(|| forgotten(name, *node_uid));
                    if state.status != NodeTaskStatus::Enqueued && task.record.status == TaskStatus::Enqueued
                    {
                        task.record.status = TaskStatus::Processing;
                        task.record.started_at = state.started_at.clone();
                        started.insert(*uid);
                    }
                    let previous = task.states.insert((name.clone(), state.uid), state.clone());
                    moved |= previous.is_none_or(|previous| previous.status != state.status);
                }
            }
        }
    }
    if !started.is_empty()
        && let Err(error) = cluster.store.set_processing(started.into_iter().collect(), now()).await
    {
        tracing::error!(%error, "cannot record that tasks have started");
    }
    moved
}

/// A node answers and does not know a task it had acknowledged: what it held is gone.
fn forgotten(node: &str, task: u64) -> NodeTaskState {
    let message = format!("node `{node}` no longer knows its task {task}: was its data directory replaced?");
    NodeTaskState {
        uid: task,
        status: NodeTaskStatus::Failed,
        details: None,
        error: Some(json!({
            "message": message, "code": "miroir_node_lost_task", "type": "internal",
            "link": "docs/errors.md#miroir_node_lost_task",
        })),
        started_at: None,
        finished_at: None,
    }
}

impl Cluster {
    /// Whether every shard that a node holds of a task's index can be read elsewhere.
    fn can_do_without(&self, task: &TaskRecord, node: &str) -> bool {
        let Some(view) = self.handle(task.index_uid.as_deref().unwrap_or_default()).view() else {
            return true;
        };
        let is_up = |name: &str| self.fleet.get(name).is_some_and(|node| node.health().is_up());
        view.shards().filter(|(_, nodes)| nodes.iter().any(|name| name == node)).all(|(shard, nodes)| {
            let mut others = nodes.iter().filter(|other| *other != node);
            others.any(|other| is_up(other) && view.replica_state(shard, other).is_readable())
        })
    }
}
