//! The follower: watches the node tasks that writes became, and ends each Miroir task when they have ended.
//!
//! A task succeeds once every readable replica has applied it, so that "succeeded" means visible (G2). A node
//! that stays away while the others have finished does not hold a task up for ever: its replicas become stale,
//! unless they are the last.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use miroir_core::replica::ReplicaState;
use miroir_core::shard::ShardId;
use miroir_node::{NodeTaskState, NodeTaskStatus};
use miroir_store::{ReplicaKey, ReplicaStatus, TaskOutcome, TaskRecord, TaskStatus};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::clock::now;
use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::write::settle_settings;

const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
const NODE_LIMIT: Duration = Duration::from_secs(5);
/// Node tasks asked for at once, the oldest first: a node works in that order.
const WATCHED_PER_NODE: usize = 200;
/// How long a node may be down before tasks go on without it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the store is asked for tasks that no message announced.
const RESCAN_EVERY: Duration = Duration::from_secs(2);

struct Followed {
    record: TaskRecord,
    states: HashMap<(String, u64), NodeTaskState>,
    lost: BTreeMap<String, String>,
}

impl Followed {
    fn outstanding(&self) -> impl Iterator<Item = (&str, u64)> {
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
        if followed.is_empty() {
            continue;
        }
        let moved = ask_nodes(&cluster, &mut followed).await;
        let ended = end_tasks(&cluster, &mut followed).await;
        pause = if moved || ended { SHORTEST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
    }
}

async fn adopt(cluster: &Cluster, followed: &mut BTreeMap<u64, Followed>, uid: u64) {
    match cluster.store.task(uid).await {
        Ok(Some(record)) if !record.status.is_finished() => {
            followed.entry(uid).or_insert_with(|| Followed {
                record,
                states: HashMap::new(),
                lost: BTreeMap::new(),
            });
        }
        Ok(_) => {}
        Err(error) => tracing::error!(%error, task = uid, "cannot read a task; it is taken up again later"),
    }
}

async fn adopt_unfinished(cluster: &Cluster, followed: &mut BTreeMap<u64, Followed>) {
    match cluster.store.unfinished().await {
        Ok(records) => {
            // Without node tasks it is still being dispatched.
            for record in records.into_iter().filter(|record| !record.node_tasks.is_empty()) {
                followed.entry(record.uid).or_insert_with(|| Followed {
                    record,
                    states: HashMap::new(),
                    lost: BTreeMap::new(),
                });
            }
        }
        Err(error) => tracing::error!(%error, "cannot read the unfinished tasks"),
    }
}

/// Asks every node about its oldest outstanding tasks; true when anything had changed.
async fn ask_nodes(cluster: &Cluster, followed: &mut BTreeMap<u64, Followed>) -> bool {
    let mut questions: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    for (uid, task) in followed.iter() {
        for (node, node_uid) in task.outstanding() {
            let list = questions.entry(node.to_owned()).or_default();
            if list.len() < WATCHED_PER_NODE {
                list.push((*uid, node_uid));
            }
        }
    }
    let asks = questions.iter().map(async |(name, list)| {
        let Some(node) = cluster.fleet.get(name) else {
            return (name, list, Err(format!("node `{name}` is not in the configuration")));
        };
        let uids: Vec<u64> = list.iter().map(|(_, node_uid)| *node_uid).collect();
        match node.tasks(&uids, NODE_LIMIT).await {
            Ok(states) => (name, list, Ok(Some(states))),
            Err(_) if node.health().down_for().is_none_or(|down| down < PATIENCE) => (name, list, Ok(None)),
            Err(error) => (name, list, Err(error.to_string())),
        }
    });
    let answers = futures_util::future::join_all(asks).await;

    let mut moved = false;
    let mut started: BTreeSet<u64> = BTreeSet::new();
    for (name, list, answer) in answers {
        match answer {
            Err(reason) => {
                for (uid, _) in list {
                    let Some(task) = followed.get_mut(uid) else { continue };
                    // The last replica is waited for: without it, nothing can be read anyway.
                    if cluster.can_do_without(&task.record, name) {
                        task.lost.insert(name.clone(), reason.clone());
                    }
                }
            }
            Ok(Some(states)) => {
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
            Ok(None) => {}
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

/// Ends the tasks whose node tasks have all ended; true when there were any.
async fn end_tasks(cluster: &Cluster, followed: &mut BTreeMap<u64, Followed>) -> bool {
    let complete: Vec<u64> = followed
        .iter()
        .filter(|(_, task)| task.outstanding().next().is_none())
        .map(|(uid, _)| *uid)
        .collect();
    for uid in &complete {
        if let Some(task) = followed.remove(uid)
            && let Err(error) = end_task(cluster, &task).await
        {
            tracing::error!(task = uid, error, "cannot end a task; it is tried again");
            followed.insert(*uid, task);
            return false;
        }
    }
    if !complete.is_empty() {
        cluster.task_finished.notify_waiters();
    }
    !complete.is_empty()
}

async fn end_task(cluster: &Cluster, task: &Followed) -> Result<(), String> {
    let uid = task.record.index_uid.clone().unwrap_or_default();
    let handle = cluster.handle(&uid);
    let view = handle.view();
    let failures = failures(task);
    let nodes: BTreeSet<&str> = task.record.node_tasks.iter().map(|task| task.node.as_str()).collect();
    let succeeded: BTreeSet<&str> = nodes
        .iter()
        .copied()
        .filter(|node| !failures.contains_key(*node) && !task.lost.contains_key(*node))
        .collect();

    let mut error = None;
    if let Some(view) = &view {
        let (stale, failed_everywhere) = compare_replicas(view, task, &failures, &succeeded);
        if failed_everywhere {
            error = failures.values().next().cloned();
        }
        if !stale.is_empty() {
            cluster.store.set_replica_states(stale.clone()).await.map_err(|error| error.to_string())?;
            cluster.note_stale(&handle, &stale);
        }
        let kind = task.record.kind.as_str();
        let is_new = view.record.settings_version == 0;
        if error.is_none() && (kind == "settingsUpdate" || is_new) {
            cluster.commit_settings(&handle, &succeeded).await?;
        }
        if kind == "settingsUpdate" {
            if error.is_some() {
                cluster.forget_settings_change(&handle).await.map_err(|error| error.to_string())?;
            }
            settle_settings(view);
        }
    } else if succeeded.is_empty() {
        error = failures.values().next().cloned();
    }
    let outcome = outcome(cluster, task, &view, error);
    cluster.store.finish(task.record.uid, outcome).await.map_err(|error| error.to_string())?;
    handle.task_ended(task.record.uid);
    Ok(())
}

/// Nodes on which a part of the task failed for a reason that matters, with Meilisearch's error.
fn failures(task: &Followed) -> BTreeMap<String, Value> {
    let mut failures = BTreeMap::new();
    for ((node, _), state) in &task.states {
        if state.status == NodeTaskStatus::Succeeded {
            continue;
        }
        let error =
            state.error.clone().unwrap_or_else(|| json!({ "message": "the task was canceled on the node" }));
        let code = error.get("code").and_then(Value::as_str).unwrap_or_default().to_owned();
        // Sent twice, around a crash: the first one did it.
        let done_before = match task.record.kind.as_str() {
            "indexDeletion" => code == "index_not_found",
            _ => code == "index_already_exists",
        };
        if !done_before {
            failures.insert(node.clone(), error);
        }
    }
    failures
}

/// Replicas that differ from others which took the write, and whether some shard has none that took it.
fn compare_replicas(
    view: &IndexView,
    task: &Followed,
    failures: &BTreeMap<String, Value>,
    succeeded: &BTreeSet<&str>,
) -> (Vec<ReplicaStatus>, bool) {
    let mut stale = Vec::new();
    let mut failed_everywhere = false;
    for (shard, nodes) in view.shards() {
        let active: Vec<&String> =
            nodes.iter().filter(|node| view.replica_state(shard, node).is_readable()).collect();
        let concerned = |node: &&&String| task.record.node_tasks.iter().any(|task| task.node == ***node);
        let took = active.iter().filter(|node| succeeded.contains(node.as_str())).count();
        let bad: Vec<&&String> =
            active.iter().filter(concerned).filter(|node| !succeeded.contains(node.as_str())).collect();
        if bad.is_empty() {
            continue;
        }
        if took == 0 {
            failed_everywhere |= bad.iter().any(|node| failures.contains_key(node.as_str()));
            continue;
        }
        stale.extend(bad.into_iter().map(|node| stale_replica(view, shard, node, task, failures)));
    }
    (stale, failed_everywhere)
}

fn stale_replica(
    view: &IndexView,
    shard: ShardId,
    node: &str,
    task: &Followed,
    failures: &BTreeMap<String, Value>,
) -> ReplicaStatus {
    let reason = match (failures.get(node), task.lost.get(node)) {
        (Some(error), _) => {
            error.get("message").and_then(Value::as_str).unwrap_or("a write failed").to_owned()
        }
        (None, Some(reason)) => reason.clone(),
        (None, None) => "a write was lost".to_owned(),
    };
    ReplicaStatus {
        key: ReplicaKey { index_uid: view.record.uid.clone(), shard, node: node.to_owned() },
        state: ReplicaState::Stale,
        reason,
    }
}

fn outcome(
    cluster: &Cluster,
    task: &Followed,
    view: &Option<Arc<IndexView>>,
    error: Option<Value>,
) -> TaskOutcome {
    let started = task.states.values().filter_map(|state| state.started_at.clone()).min();
    let finished = task.states.values().filter_map(|state| state.finished_at.clone()).max();
    let error = error.map(|error| cluster.visible_error(view.as_deref(), error));
    TaskOutcome {
        status: if error.is_some() { TaskStatus::Failed } else { TaskStatus::Succeeded },
        details: Some(details(cluster, task, error.is_some())),
        error,
        canceled_by: None,
        started_at: started.or_else(|| task.record.started_at.clone()),
        finished_at: finished.unwrap_or_else(now),
    }
}

/// Fills in the counts that are only known at the end. Copies of a document count once.
fn details(cluster: &Cluster, task: &Followed, failed: bool) -> Value {
    let mut details = task.record.details.clone();
    let Some(fields) = details.as_object_mut() else { return details };
    let sum = |name: &str| -> u64 {
        let counts = task.states.values().filter_map(|state| state.details.as_ref()?.get(name)?.as_u64());
        counts.sum()
    };
    if fields.contains_key("deletedDocuments") {
        let deleted = sum("deletedDocuments");
        let copies = cluster.copies().max(1) as u64;
        let counted = if failed { 0 } else { (deleted + copies / 2) / copies };
        fields.insert("deletedDocuments".to_owned(), json!(counted));
    }
    if fields.contains_key("indexedDocuments") {
        let indexed = if failed {
            0
        } else {
            fields
                .remove("distinctDocuments")
                .and_then(|count| count.as_u64())
                .unwrap_or_else(|| sum("indexedDocuments"))
        };
        fields.insert("indexedDocuments".to_owned(), json!(indexed));
    }
    details
}
