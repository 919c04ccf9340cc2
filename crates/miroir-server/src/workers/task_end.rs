//! The end of a task, once its node tasks have ended: replicas are compared, settings committed, the outcome recorded.
//!
//! A task succeeds once every readable replica has applied it, so that "succeeded" means visible (G2).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use miroir_core::replica::ReplicaState;
use miroir_core::shard::ShardId;
use miroir_node::{NodeTaskState, NodeTaskStatus};
use miroir_store::{ReplicaKey, ReplicaStatus, TaskOutcome, TaskStatus};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::follower::Followed;
use crate::backoff::Backoff;
use crate::clock::now;
use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::write::{FORETOLD_ERROR, INDEX_DELETION, SETTINGS_UPDATE, nothing_done, settle_settings};

/// Pauses before it is tried again to end a task that could not be ended.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Meilisearch's code for an index that is to be made and is there.
const INDEX_EXISTS: &str = "index_already_exists";

/// How far the end of a task has come.
pub(super) struct TaskEnd {
    /// The settings change has been counted as done, which must not happen twice.
    settled: bool,
    /// It could not be ended; it is not tried again before this moment.
    not_before: Option<Instant>,
    backoff: Backoff,
}

impl Default for TaskEnd {
    fn default() -> Self {
        Self { settled: false, not_before: None, backoff: Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE) }
    }
}

impl TaskEnd {
    fn is_due(&self) -> bool {
        self.not_before.is_none_or(|moment| moment <= Instant::now())
    }

    /// Takes note that the task could not be ended; true when the log should say so.
    fn put_off(&mut self) -> bool {
        self.not_before = Some(Instant::now() + self.backoff.fail());
        self.backoff.is_worth_telling()
    }
}

/// Ends the tasks whose node tasks have all ended; true when there were any. One that cannot be ended, because
/// the store is full for example, is left for later and holds up no other.
pub(super) async fn end_tasks(cluster: &Cluster, followed: &mut BTreeMap<u64, Followed>) -> bool {
    let complete: Vec<u64> = followed
        .iter()
        .filter(|(_, task)| task.outstanding().next().is_none() && task.end.is_due())
        .map(|(uid, _)| *uid)
        .collect();
    let mut ended = false;
    for uid in complete {
        let Some(mut task) = followed.remove(&uid) else { continue };
        if !task.is_untroubled(cluster) {
            continue;
        }
        match end_task(cluster, &mut task).await {
            Ok(true) => ended = true,
            Ok(false) => {
                followed.insert(uid, task);
            }
            Err(error) => {
                let is_worth_telling = task.end.put_off();
                if is_worth_telling {
                    tracing::error!(task = uid, error, "cannot end a task yet; it is tried again");
                }
                followed.insert(uid, task);
            }
        }
    }
    if ended {
        cluster.tasks_have_ended();
    }
    ended
}

/// False when it has to wait for another one.
async fn end_task(cluster: &Cluster, task: &mut Followed) -> Result<bool, String> {
    let uid = task.record.index_uid.clone().unwrap_or_default();
    let handle = cluster.handle(&uid);
    // An index of the same name may have been made since.
    let view = handle.view().filter(|_| handle.has_begun_by(task.record.uid));
    let changes_settings = task.record.kind == SETTINGS_UPDATE;
    let is_new = view.as_ref().is_some_and(|view| view.record.settings_version == 0);
    if view.is_some() && (changes_settings || is_new) {
        // What each change makes of the settings can be told only in their order.
        let waits = cluster.waits_for_settings(&handle, task.record.uid).await;
        if waits.map_err(|error| error.to_string())? {
            return Ok(false);
        }
    }
    let failures = failures(task);
    let nodes: BTreeSet<&str> = task.record.node_tasks.iter().map(|task| task.node.as_str()).collect();
    let succeeded: BTreeSet<&str> = nodes
        .iter()
        .copied()
        .filter(|node| !failures.contains_key(*node) && !task.lost.contains_key(*node))
        .collect();

    let mut error = None;
    if let Some(view) = &view {
        let compared = compare_replicas(view, task, &failures, &succeeded);
        let Compared { mut stale, failed_everywhere, unknown } = compared;
        if unknown {
            // All that took it went away, one after the other. They have to be asked again.
            task.lost.clear();
            return Err("the nodes that took it have been away".to_owned());
        }
        stale.extend(existed_before(view, task));
        if failed_everywhere {
            error = failures.values().next().cloned();
        }
        cluster.put_aside(&handle, stale).await.map_err(|error| error.to_string())?;
        if error.is_none() && (changes_settings || is_new) && !task.end.settled {
            let change = changes_settings.then_some(&task.record.details);
            cluster.commit_settings(&handle, &succeeded, change).await?;
        }
        if changes_settings && !task.end.settled {
            if error.is_some() {
                cluster
                    .forget_settings_change(&handle, task.record.uid)
                    .await
                    .map_err(|error| error.to_string())?;
            }
            // Before the task is seen to have ended, and once: recording the end below may fail.
            settle_settings(view);
            task.end.settled = true;
        }
    } else if succeeded.is_empty() {
        error = failures.values().next().cloned();
    }
    let outcome = outcome(cluster, task, &view, error);
    handle.begin_generation();
    // Before it is seen to have ended: the next write may ask the nodes what it did.
    handle.task_ended(task.record.uid);
    cluster.store.finish(task.record.uid, outcome).await.map_err(|error| error.to_string())?;
    Ok(true)
}

/// Nodes on which a part of the task failed for a reason that matters, with Meilisearch's error.
fn failures(task: &Followed) -> BTreeMap<String, Value> {
    let mut failures = BTreeMap::new();
    for ((node, _), state) in &task.states {
        // One that has not ended is on a node that is not waited for any more, and may well succeed there.
        if state.status == NodeTaskStatus::Succeeded || !state.status.is_final() {
            continue;
        }
        let error =
            state.error.clone().unwrap_or_else(|| json!({ "message": "the task was canceled on the node" }));
        let code = error.get("code").and_then(Value::as_str).unwrap_or_default().to_owned();
        // Sent twice, around a crash: the first one did it. (An index that was there before it was made is found by
        // `existed_before`.)
        let done_before = match task.record.kind.as_str() {
            INDEX_DELETION => code == "index_not_found",
            _ => code == INDEX_EXISTS,
        };
        if !done_before {
            failures.insert(node.clone(), error);
        }
    }
    failures
}

/// Replicas on nodes that had an index of this name before it was made: what is left of an earlier one, deleted
/// while the node was away, or what the same write made before it was sent again. They are compared with the others.
fn existed_before(view: &IndexView, task: &Followed) -> Vec<ReplicaStatus> {
    let existed = |((node, _), state): (&(String, u64), &NodeTaskState)| {
        let code = state.error.as_ref()?.get("code")?;
        (code == INDEX_EXISTS).then(|| node.clone())
    };
    let nodes: BTreeSet<String> = task.states.iter().filter_map(existed).collect();
    let replica = |node: &String, shard| ReplicaStatus {
        key: ReplicaKey { index_uid: view.record.uid.clone(), shard, node: node.clone() },
        state: ReplicaState::Joining,
        reason: "it had an index of this name before".to_owned(),
    };
    nodes
        .iter()
        .flat_map(|node| view.shards_on(node).into_iter().map(move |shard| replica(node, shard)))
        .collect()
}

/// What became of a task on the replicas concerned.
#[derive(Default)]
struct Compared {
    /// Replicas that differ from others which took the write.
    stale: Vec<ReplicaStatus>,
    /// Some shard has no replica that took it.
    failed_everywhere: bool,
    /// Of some shard it is not known whether any replica took it.
    unknown: bool,
}

/// Compares what became of a task on the replicas of each shard.
fn compare_replicas(
    view: &IndexView,
    task: &Followed,
    failures: &BTreeMap<String, Value>,
    succeeded: &BTreeSet<&str>,
) -> Compared {
    let Compared { mut stale, mut failed_everywhere, mut unknown } = Compared::default();
    for (shard, nodes) in view.shards() {
        let active: Vec<&String> =
            nodes.iter().filter(|node| view.replica_state(shard, node).is_readable()).collect();
        let concerned = |node: &&&String| task.record.node_tasks.iter().any(|task| task.node == ***node);
        let took = active.iter().filter(|node| succeeded.contains(node.as_str())).count();
        let bad: Vec<&&String> =
            active.iter().filter(concerned).filter(|node| !succeeded.contains(node.as_str())).collect();
        // One that is behind already and failed on what it had is not what it was at any moment of the past.
        let behind = nodes.iter().filter(|node| view.replica_state(shard, node) == ReplicaState::Stale);
        let failed_behind = behind.filter(|node| failures.contains_key(node.as_str()));
        stale.extend(failed_behind.map(|node| stale_replica(view, shard, node, task, failures)));
        if bad.is_empty() {
            continue;
        }
        if took == 0 && bad.iter().any(|node| failures.contains_key(node.as_str())) {
            failed_everywhere = true;
            // The task has failed; whoever is away may still carry it out.
            let away = bad.into_iter().filter(|node| !failures.contains_key(node.as_str()));
            stale.extend(away.map(|node| stale_replica(view, shard, node, task, failures)));
            continue;
        }
        if took == 0 {
            unknown = true;
            continue;
        }
        stale.extend(bad.into_iter().map(|node| stale_replica(view, shard, node, task, failures)));
    }
    Compared { stale, failed_everywhere, unknown }
}

fn stale_replica(
    view: &IndexView,
    shard: ShardId,
    node: &str,
    task: &Followed,
    failures: &BTreeMap<String, Value>,
) -> ReplicaStatus {
    // What a node did after a task that failed there was done to other documents than elsewhere.
    let (state, reason) = match (failures.get(node), task.lost.get(node)) {
        (Some(error), _) => {
            let message = error.get("message").and_then(Value::as_str).unwrap_or("a write failed");
            (ReplicaState::Joining, message.to_owned())
        }
        (None, Some(reason)) => (ReplicaState::Stale, reason.clone()),
        (None, None) => (ReplicaState::Joining, "a write was lost".to_owned()),
    };
    ReplicaStatus {
        key: ReplicaKey { index_uid: view.record.uid.clone(), shard, node: node.to_owned() },
        state,
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
    let error = error.or_else(|| task.record.details.get(FORETOLD_ERROR).cloned());
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
    if failed {
        return nothing_done(task.record.details.clone());
    }
    let mut details = task.record.details.clone();
    let Some(fields) = details.as_object_mut() else { return details };
    let sum = |name: &str| -> u64 {
        let counts = task.states.values().filter_map(|state| state.details.as_ref()?.get(name)?.as_u64());
        counts.sum()
    };
    if fields.contains_key("editedDocuments") {
        // They were counted before anything was sent.
        if failed {
            fields.insert("editedDocuments".to_owned(), json!(0));
            fields.insert("deletedDocuments".to_owned(), Value::Null);
        }
    } else if let Some(foretold) = fields.get("deletedDocuments") {
        let deleted = sum("deletedDocuments");
        let copies = cluster.copies().max(1) as u64;
        let counted = foretold.as_u64().unwrap_or((deleted + copies / 2) / copies);
        fields.insert("deletedDocuments".to_owned(), json!(counted));
    }
    if fields.contains_key("indexedDocuments") {
        let distinct = fields.remove("distinctDocuments").and_then(|count| count.as_u64());
        let indexed = distinct.unwrap_or_else(|| sum("indexedDocuments"));
        fields.insert("indexedDocuments".to_owned(), json!(indexed));
    }
    details
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use miroir_node::Fleet;
    use miroir_store::{IndexRecord, NewTask, NodeTask, SqliteStore, TaskRecord};

    use super::*;
    use crate::config::{Config, UnavailableShardPolicy};

    fn cluster(directory: &std::path::Path) -> Cluster {
        let store_path = directory.join("miroir.db");
        let store = Arc::new(SqliteStore::open(&store_path).unwrap());
        let config = Config {
            bind: "127.0.0.1:0".parse().unwrap(),
            master_key: None,
            node_master_key: None,
            admin_api_key: None,
            default_shards: 1,
            replication_factor: 1,
            min_write_acks: 1,
            nodes: Vec::new(),
            store_path,
            dump_dir: directory.join("dumps"),
            snapshot_dir: directory.join("snapshots"),
            node_timeout: Duration::from_secs(1),
            unavailable_shard_policy: UnavailableShardPolicy::Partial,
            max_body_bytes: 0,
            shutdown_grace: Duration::from_secs(1),
            anti_entropy_interval: Duration::from_secs(600),
            task_webhook: None,
        };
        let fleet = Fleet::new([("a", 0, "http://127.0.0.1:9")], None).unwrap();
        let (acknowledged, _) = tokio::sync::mpsc::channel(1);
        Cluster::new(config, store, fleet, Default::default(), acknowledged)
    }

    /// A task that has failed on the only node.
    fn failed(mut record: TaskRecord) -> Followed {
        record.node_tasks = vec![NodeTask { node: "a".to_owned(), task_uid: 1, enqueued_at: None }];
        let state = NodeTaskState {
            uid: 1,
            status: NodeTaskStatus::Failed,
            details: None,
            error: None,
            started_at: None,
            finished_at: None,
        };
        let mut task = Followed::new(record, 0);
        task.states.insert(("a".to_owned(), 1), state);
        task
    }

    /// An index with changes of settings on their way.
    fn movies(cluster: &Cluster, changes: usize) -> Arc<AtomicUsize> {
        let record = IndexRecord {
            uid: "movies".to_owned(),
            node_uid: "movies".to_owned(),
            primary_key: None,
            shards: 1,
            created_at: now(),
            updated_at: now(),
            next_position: 0,
            settings: Value::Null,
            overlay: Value::Null,
            settings_version: 1,
            settings_hash: String::new(),
            placement: vec![vec!["a".to_owned()]],
            placement_epoch: 0,
            disordered: Vec::new(),
            capital_ids: true,
        };
        let view = IndexView::new(record, Default::default(), None);
        let in_flight = Arc::clone(&view.settings_in_flight);
        in_flight.store(changes, Ordering::Release);
        cluster.handle("movies").set_view(Some(view));
        in_flight
    }

    async fn begin(cluster: &Cluster, kind: &str) -> TaskRecord {
        let task = NewTask {
            index_uid: Some("movies".to_owned()),
            kind: kind.to_owned(),
            details: json!({}),
            enqueued_at: now(),
            outcome: None,
            marks: Default::default(),
        };
        let task = cluster.store.begin(task, None).await.unwrap();
        cluster.store.task(task).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_task_that_cannot_be_ended_waits_and_holds_up_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let cluster = cluster(directory.path());
        // This one, and two that were sent after it.
        let in_flight = movies(&cluster, 3);
        let first = begin(&cluster, "documentDeletion").await.uid;
        let known = begin(&cluster, "documentDeletion").await;
        // The store does not know the one that comes first, so it cannot be ended.
        let unknown = TaskRecord { uid: known.uid + 1, kind: SETTINGS_UPDATE.to_owned(), ..known.clone() };
        let mut followed = BTreeMap::from([(first, failed(unknown)), (known.uid, failed(known.clone()))]);

        assert!(end_tasks(&cluster, &mut followed).await);
        assert_eq!(followed.keys().copied().collect::<Vec<_>>(), [first]);
        assert_eq!(cluster.store.task(known.uid).await.unwrap().unwrap().status, TaskStatus::Failed);
        assert_eq!(in_flight.load(Ordering::Acquire), 2);
        let put_off = followed[&first].end.not_before;
        assert!(!followed[&first].end.is_due(), "it is not tried again at once");

        followed.get_mut(&first).unwrap().end.not_before = None;
        assert!(!end_tasks(&cluster, &mut followed).await);
        assert_eq!(in_flight.load(Ordering::Acquire), 2, "counted down once");
        assert!(followed[&first].end.not_before > put_off, "it is put off once more");
    }

    #[tokio::test]
    async fn changes_of_settings_end_in_their_order() {
        let directory = tempfile::tempdir().unwrap();
        let cluster = cluster(directory.path());
        let in_flight = movies(&cluster, 2);
        let first = begin(&cluster, SETTINGS_UPDATE).await;
        let between = begin(&cluster, "documentDeletion").await;
        let second = begin(&cluster, SETTINGS_UPDATE).await;
        // Nobody follows the first one at this moment.
        let mut followed = BTreeMap::from([&between, &second].map(|task| (task.uid, failed(task.clone()))));
        assert!(end_tasks(&cluster, &mut followed).await);
        assert_eq!(followed.keys().copied().collect::<Vec<_>>(), [second.uid]);
        assert_eq!(in_flight.load(Ordering::Acquire), 2);
        assert!(followed[&second.uid].end.is_due(), "it is not put off");

        followed.insert(first.uid, failed(first.clone()));
        assert!(end_tasks(&cluster, &mut followed).await);
        assert!(followed.is_empty());
        assert_eq!(in_flight.load(Ordering::Acquire), 0);
        let ends = cluster.store.ended_tasks(0, 10).await.unwrap();
        let ends: Vec<u64> = ends.iter().map(|(_, task)| task.uid).collect();
        assert_eq!(ends, [between.uid, first.uid, second.uid]);
    }
}
