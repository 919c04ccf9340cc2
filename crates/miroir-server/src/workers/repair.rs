//! The repair worker: makes stale and joining replicas equal to an active one, then active.
//!
//! Repair copies from active to stale and removes what the source does not have, so deletions need no tombstones.
//! Most is copied while writes go on, in rounds, until little is left; then the index's writes wait for the last
//! difference, and the copy is exact when it ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use miroir_core::replica::ReplicaState;
use miroir_core::shard::ShardId;
use miroir_node::{Call, Node, NodeError};
use miroir_store::{ReplicaKey, ReplicaStatus};
use serde_json::json;
use tokio::sync::Notify;

use super::settings::Agreed;
use super::worker::{Report, Worker};
use crate::backoff::Backoff;
use crate::cluster::Cluster;
use crate::index::{Index, IndexView};
use crate::replicas::copy::{Copy, Wanted};
use crate::replicas::holdings::{Compare, Selection, holdings};
use crate::replicas::node_tasks::{carry_out, newest, wait_until_idle};
use crate::write::encode;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest pause after repairs that failed. Short enough for a node that is well again.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
const CALL_LIMIT: Duration = Duration::from_secs(30);
const TASK_LIMIT: Duration = Duration::from_secs(600);
/// How long a repair waits for its turn among the writes.
const QUEUE_LIMIT: Duration = Duration::from_secs(60);
/// How long a repair that holds the writes up waits until those before it have been applied.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
/// How long a repair may hold the writes up in all. What it sent until then is not lost; the next try has less to do.
const HOLD_LIMIT: Duration = Duration::from_secs(20);
/// Rounds of copying while writes go on. More would never catch up.
const ROUNDS: usize = 4;
/// A difference of so many documents is small enough to let writes wait for it.
const SMALL_DIFFERENCE: usize = 500;

/// Why a repair did not come to its end this time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepairError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Store(#[from] miroir_store::StoreError),
    #[error("{0}")]
    NotNow(String),
}

/// The repair worker.
#[derive(Default)]
pub(crate) struct RepairWorker {
    /// Repairs that failed, by index and node, and when to try again.
    put_off: HashMap<(String, String), (Backoff, Instant)>,
}

#[async_trait]
impl Worker for RepairWorker {
    fn name(&self) -> &'static str {
        "repair"
    }

    async fn step(&mut self, cluster: &Arc<Cluster>, report: &Report) -> Duration {
        self.put_off.retain(|(uid, _), _| cluster.handle(uid).view().is_some());
        for view in cluster.indexes() {
            for (name, shards) in waiting(&view) {
                let key = (view.record.uid.clone(), name.clone());
                if self.put_off.get(&key).is_some_and(|(_, until)| Instant::now() < *until) {
                    continue;
                }
                let Some(target) = cluster.fleet.get(&name).filter(|node| node.health().is_up()) else {
                    continue;
                };
                let index = cluster.handle(&view.record.uid);
                let begun = Instant::now();
                let repair = Repair { cluster, index: &index, target, shards: &shards, report };
                match repair.run().await {
                    Ok(copied) => {
                        self.put_off.remove(&key);
                        report.finished();
                        tracing::info!(
                            index = %index.uid, node = %name, shards = shards.len(), documents = copied,
                            seconds = begun.elapsed().as_secs_f64(), "repaired"
                        );
                    }
                    Err(error) => {
                        report.failed(&error.to_string());
                        let new = || (Backoff::new(LOOK_EVERY, LONGEST_PAUSE), Instant::now());
                        let (backoff, until) = self.put_off.entry(key).or_insert_with(new);
                        *until = Instant::now() + backoff.fail();
                        if backoff.is_worth_telling() {
                            tracing::warn!(index = %index.uid, node = %name, %error, "not repaired yet");
                        }
                    }
                }
            }
        }
        LOOK_EVERY
    }

    fn woken_by<'a>(&self, cluster: &'a Cluster) -> Option<&'a Notify> {
        Some(&cluster.repair_wanted)
    }
}

/// By node, the replicas that wait for repair.
fn waiting(view: &IndexView) -> BTreeMap<String, Vec<ShardId>> {
    let mut waiting: BTreeMap<String, Vec<ShardId>> = BTreeMap::new();
    for ((shard, node), state) in &view.exceptions {
        if state.needs_repair() {
            waiting.entry(node.clone()).or_default().push(*shard);
        }
    }
    waiting
}

/// The repair of some replicas of one index on one node.
struct Repair<'a> {
    cluster: &'a Cluster,
    index: &'a Index,
    target: &'a Arc<Node>,
    shards: &'a [ShardId],
    report: &'a Report,
}

/// Replicas that are copied from the same node and compared in the same way.
struct Way {
    source: Arc<Node>,
    shards: Vec<ShardId>,
    compare: Compare,
}

/// What follows each other in the order of insertion: from each source, a part of what it is to give.
type Part = Vec<(Arc<Node>, Compare, Selection)>;

impl Repair<'_> {
    /// Returns how many documents were copied or removed.
    async fn run(&self) -> Result<usize, RepairError> {
        let Some(view) = self.index.view() else { return Ok(0) };
        if view.record.settings_version == 0 {
            return Err(RepairError::NotNow("the index is still being created".to_owned()));
        }
        self.report.doing(format!("index `{}` on node `{}`: comparing", self.index.uid, self.target.id()));
        self.make_index(&view).await?;
        let mut copied = 0;
        for _ in 0..ROUNDS {
            let round = self.copy_meanwhile(&view).await?;
            copied += round;
            if round == 0 {
                break;
            }
        }
        drain(self.cluster, &self.index.uid).await?;
        let _queue = self.index.turn(QUEUE_LIMIT).await.map_err(RepairError::NotNow)?;
        self.report.doing(format!(
            "index `{}` on node `{}`: last difference",
            self.index.uid,
            self.target.id()
        ));
        match tokio::time::timeout(HOLD_LIMIT, self.finish()).await {
            Ok(finished) => Ok(copied + finished?),
            Err(_elapsed) => {
                let reason = format!("the last difference took longer than {} s", HOLD_LIMIT.as_secs());
                Err(RepairError::NotNow(reason))
            }
        }
    }

    /// Makes the index on a node that has none, so that documents can be copied before writes have to wait.
    async fn make_index(&self, view: &IndexView) -> Result<(), RepairError> {
        let path = format!("/indexes/{}", encode(&view.record.uid));
        let is_there = self.target.send(&Call::get(path, CALL_LIMIT)).await?.status.is_success();
        if !is_there {
            let _queue = self.index.turn(QUEUE_LIMIT).await.map_err(RepairError::NotNow)?;
            ensure_index(self.cluster, self.target, view).await?;
            note_disorder(self.cluster, self.index, self.target).await?;
        }
        Ok(())
    }

    /// Copies what is missing or old, while writes go on, where that is much: a small difference can wait for the
    /// last round. What is too much is left: a page may have been missed. Returns how many documents it copied.
    async fn copy_meanwhile(&self, view: &IndexView) -> Result<usize, RepairError> {
        let mut copied = 0;
        for part in parts(view, &self.ways(view)) {
            let (missing, _) = self.difference(view, &part).await?;
            if missing.len() >= SMALL_DIFFERENCE {
                note_disorder(self.cluster, self.index, self.target).await?;
                let copy = Copy { index: view, target: self.target };
                copy.copy(&missing, self.progress(missing.len())).await?;
                copied += missing.len();
            }
        }
        Ok(copied)
    }

    /// The last difference. The index's queue is held.
    async fn finish(&self) -> Result<usize, RepairError> {
        drain(self.cluster, &self.index.uid).await?;
        let Some(view) = self.index.view() else { return Ok(0) };
        wait_until_idle(self.target, &self.index.uid, DRAIN_LIMIT).await?;
        ensure_index(self.cluster, self.target, &view).await?;
        note_disorder(self.cluster, self.index, self.target).await?;
        let mut changed = 0;
        let copy = Copy { index: &view, target: self.target };
        // A write that Miroir gave up on long ago may still be on its way to the node.
        let mut last_seen = newest(self.target, Some(&self.index.uid)).await?;
        let mut last_own = last_seen;
        let ways = self.ways(&view);
        let strays = holdings(self.target, &view, &Selection::strays(), Compare::ByWrite).await?;
        let strays: Vec<String> = strays.into_keys().collect();
        last_own = last_own.max(copy.remove(&strays).await?);
        for part in parts(&view, &ways) {
            let (to_copy, to_remove) = self.difference(&view, &part).await?;
            last_own = last_own.max(copy.copy(&to_copy, self.progress(to_copy.len())).await?);
            last_own = last_own.max(copy.remove(&to_remove).await?);
            changed += to_copy.len() + to_remove.len();
        }
        last_seen = last_seen.max(newest(self.target, Some(&self.index.uid)).await?);
        let repaired: Vec<ReplicaStatus> = (ways.into_iter())
            .flat_map(|way| way.shards)
            .map(|shard| ReplicaStatus {
                key: ReplicaKey {
                    index_uid: self.index.uid.clone(),
                    shard,
                    node: self.target.id().to_string(),
                },
                state: ReplicaState::Active,
                reason: String::new(),
            })
            .collect();
        if repaired.is_empty() {
            return Err(RepairError::NotNow("no active replica to copy from can be reached".to_owned()));
        }
        if last_seen != last_own {
            return Err(RepairError::NotNow("somebody else wrote to the node meanwhile".to_owned()));
        }
        self.cluster.note_newest_task(self.target).await.map_err(RepairError::NotNow)?;
        self.cluster.store.set_replica_states(repaired.clone()).await?;
        self.index.update(|view| {
            let mut exceptions = view.exceptions.clone();
            for status in &repaired {
                exceptions.remove(&(status.key.shard, status.key.node.clone()));
            }
            IndexView::new(view.record.clone(), exceptions, Some(view))
        });
        Ok(changed)
    }

    /// What the target lacks of a part, in the order of insertion, and what it has too much.
    async fn difference(
        &self,
        view: &IndexView,
        part: &Part,
    ) -> Result<(Vec<Wanted>, Vec<String>), NodeError> {
        let copy = Copy { index: view, target: self.target };
        let (mut to_copy, mut to_remove) = (Vec::new(), Vec::new());
        for (source, compare, selection) in part {
            let difference = copy.difference(source, selection, *compare).await?;
            let wanted =
                difference.to_copy.into_iter().map(|(position, id)| (position, (Arc::clone(source), id)));
            to_copy.extend(wanted);
            to_remove.extend(difference.to_remove);
        }
        to_copy.sort_by_key(|(position, _)| *position);
        Ok((to_copy.into_iter().map(|(_, wanted)| wanted).collect(), to_remove))
    }

    /// The shards that have an active replica within reach, by where and how they are copied.
    fn ways(&self, view: &IndexView) -> Vec<Way> {
        let mut by_way: BTreeMap<(&str, bool), Vec<ShardId>> = BTreeMap::new();
        for shard in self.shards {
            let nodes =
                view.record.placement.get(usize::from(shard.0)).map(Vec::as_slice).unwrap_or_default();
            let mut sources = (nodes.iter())
                .filter(|node| view.replica_state(*shard, node).is_readable())
                .filter(|node| self.cluster.fleet.get(node).is_some_and(|node| node.health().is_up()));
            let is_doubtful = view.replica_state(*shard, self.target.id().as_str()).is_doubtful();
            if let Some(source) = sources.next() {
                by_way.entry((source, is_doubtful)).or_default().push(*shard);
            }
        }
        let way = |((source, is_doubtful), shards): ((&str, bool), Vec<ShardId>)| {
            let compare = if is_doubtful { Compare::ByContent } else { Compare::ByWrite };
            Some(Way { source: Arc::clone(self.cluster.fleet.get(source)?), shards, compare })
        };
        by_way.into_iter().filter_map(way).collect()
    }

    /// Tells how far a copy is, and when it will likely be done.
    fn progress(&self, total: usize) -> impl FnMut(usize) {
        let (begun, mut done) = (Instant::now(), 0);
        let what = format!("index `{}` on node `{}`", self.index.uid, self.target.id());
        let report = self.report.clone();
        move |documents| {
            done += documents;
            let left = begun.elapsed().as_secs_f64() * (total - done.min(total)) as f64 / done.max(1) as f64;
            report.doing(format!("{what}: {done} of {total} documents copied, about {left:.0} s left"));
        }
    }
}

/// Everything to compare, in parts that fit into memory.
fn parts(view: &IndexView, ways: &[Way]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for way in ways {
        for (place, selection) in
            Selection::in_order(&way.shards, view.record.next_position).into_iter().enumerate()
        {
            if parts.len() <= place {
                parts.push(Part::new());
            }
            if let Some(part) = parts.get_mut(place) {
                part.push((Arc::clone(&way.source), way.compare, selection));
            }
        }
    }
    parts
}

/// Copied documents stand in the order in which they were copied, so the node must go on breaking ties.
async fn note_disorder(cluster: &Cluster, index: &Index, target: &Node) -> Result<(), RepairError> {
    let name = target.id().to_string();
    let _recording = index.recording.lock().await;
    let Some(view) = index.view().filter(|view| !view.record.disordered.contains(&name)) else {
        return Ok(());
    };
    let mut record = view.record.clone();
    record.disordered.push(name);
    cluster.store.put_index(record.clone()).await?;
    index.set_view(Some(IndexView::new(record, view.exceptions.clone(), Some(&view))));
    Ok(())
}

/// Waits until every write of the index that has been accepted by now has been applied. Whoever goes on to hold the
/// queue for the last of them calls it before as well: a task may have to wait for a node that is away.
pub(crate) async fn drain(cluster: &Cluster, uid: &str) -> Result<(), RepairError> {
    let deadline = tokio::time::Instant::now() + DRAIN_LIMIT;
    let mut newest = None;
    loop {
        let finished = cluster.task_finished.notified();
        tokio::pin!(finished);
        finished.as_mut().enable();
        let unfinished = cluster.store.unfinished().await?;
        let mut open =
            unfinished.iter().filter(|task| task.index_uid.as_deref() == Some(uid)).map(|task| task.uid);
        let newest = *newest.get_or_insert_with(|| open.clone().max());
        if newest.is_none_or(|newest| !open.any(|task| task <= newest)) {
            return Ok(());
        }
        if tokio::time::timeout_at(deadline, finished).await.is_err() {
            return Err(RepairError::NotNow("earlier writes are still being applied".to_owned()));
        }
    }
}

/// Makes sure that the index exists on the node, with the right primary key and settings.
pub(crate) async fn ensure_index(
    cluster: &Cluster,
    target: &Node,
    view: &IndexView,
) -> Result<(), RepairError> {
    let uid = &view.record.uid;
    let path = format!("/indexes/{}", encode(uid));
    let found = target.send(&Call::get(path.clone(), CALL_LIMIT)).await?;
    let body: serde_json::Value = serde_json::from_slice(&found.body).unwrap_or_default();
    let held_key = body.get("primaryKey").and_then(|key| key.as_str());
    let key = view.record.primary_key.as_deref();
    let key_body = json!({ "uid": uid, "primaryKey": key }).to_string();
    if !found.status.is_success() {
        carry_out(target, &Call::post("/indexes", key_body, CALL_LIMIT), TASK_LIMIT).await?;
    } else if held_key.is_none() && key.is_some() {
        let body = json!({ "primaryKey": key }).to_string();
        let call = Call::new(http::Method::PATCH, path, CALL_LIMIT).json(body);
        carry_out(target, &call, TASK_LIMIT).await?;
    } else if held_key != key {
        let is_read = view
            .shards_on(target.id().as_str())
            .into_iter()
            .any(|shard| view.replica_state(shard, target.id().as_str()).is_readable());
        if is_read {
            return Err(RepairError::NotNow(format!("the index has the primary key {held_key:?} there")));
        }
        carry_out(target, &Call::new(http::Method::DELETE, path, CALL_LIMIT), TASK_LIMIT).await?;
        carry_out(target, &Call::post("/indexes", key_body, CALL_LIMIT), TASK_LIMIT).await?;
    }
    let agreed = Agreed {
        user: &view.record.settings,
        overlay: &view.record.overlay,
        needs: cluster.needs_of_one_behind(view),
        hash: &view.record.settings_hash,
    };
    agreed.apply(target, uid).await?;
    Ok(())
}
