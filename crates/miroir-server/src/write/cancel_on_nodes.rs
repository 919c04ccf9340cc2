//! Telling nodes to cancel their parts of some writes, and learning what became of each.
//!
//! A node that was told may cancel at any time after, so nothing can be decided before it has said what it did: it may be
//! busy with something else for long, which it brings to its end first. Only a node that is down is not waited for, and
//! only where other nodes have all that it has: its replicas are put aside then, and compared with theirs when it is back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use miroir_core::replica::ReplicaState;
use miroir_core::taking_back::SentWrite;
use miroir_node::{Node, NodeError, NodeTaskStatus};
use miroir_store::{NodeTask, StoreError, TaskRecord};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::cluster::Cluster;
use crate::index::{Index, IndexView};
use crate::replicas::node_tasks;
use crate::replicas::settings::replicas_of;

/// After so long a node is told once more.
const NODE_LIMIT: Duration = Duration::from_secs(60);
const ASK_LIMIT: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// From then on, nobody is made to wait in the queue any more.
const PATIENCE: Duration = Duration::from_secs(10);
const REASON: &str = "it was told to cancel tasks, and whether it did is not sure";

/// What nodes said.
#[derive(Default)]
struct Told {
    /// The tasks that each canceled, of those that have said.
    canceled: BTreeMap<String, BTreeSet<u64>>,
    /// Nodes that could not be told, or asked, at the first try. They may have been started again in between.
    doubtful: BTreeSet<String>,
}

impl Cluster {
    /// Tells every node to cancel its part of these writes of an index, whose queue is held. Returns once it is known
    /// what became of each part.
    pub(super) async fn cancel_on_nodes(
        &self,
        index: &Index,
        writes: &[TaskRecord],
    ) -> Result<Vec<SentWrite>, StoreError> {
        let mut parts: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for task in writes.iter().flat_map(|write| &write.node_tasks) {
            parts.entry(&task.node).or_default().push(task.task_uid);
        }
        let (mut told, begun) = (Told::default(), Instant::now());
        let mut backoff = Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE);
        loop {
            let silent = parts.iter().filter(|(name, _)| !told.canceled.contains_key(**name));
            let answers = silent.map(async |(name, tasks)| match self.fleet.get(name) {
                Some(node) => (*name, tell(node, tasks).await.map_err(|error| error.to_string())),
                None => (*name, Err(format!("node `{name}` is not in the configuration"))),
            });
            let mut missing = Vec::new();
            for (name, answer) in futures_util::future::join_all(answers).await {
                match answer {
                    Ok(canceled) => _ = told.canceled.insert(name.to_owned(), canceled),
                    Err(reason) => {
                        told.doubtful.insert(name.to_owned());
                        missing.push((name, reason));
                    }
                }
            }
            let view = index.view();
            let can_do_without = |name: &str| {
                let is_up = self.fleet.get(name).is_some_and(|node| node.health().is_up());
                !is_up && view.as_ref().is_none_or(|view| told.has_all_of(view, name))
            };
            if missing.iter().all(|(name, _)| can_do_without(name)) {
                break;
            }
            let reasons: Vec<&str> = missing.iter().map(|(_, reason)| reason.as_str()).collect();
            let reasons = reasons.join("; ");
            let pause = backoff.fail();
            if backoff.is_worth_telling() {
                tracing::warn!(index = %index.uid, reasons, "nodes have not canceled tasks yet");
            }
            if begun.elapsed() > PATIENCE {
                index.interrupt(format!("tasks are being canceled: {reasons}"));
            }
            tokio::time::sleep(pause).await;
        }
        if let Some(view) = index.view() {
            let aside = |name: &String| replicas_of(&view, name, ReplicaState::Joining, REASON);
            let doubtful = told.doubtful.iter().filter(|name| told.has_all_of(&view, name));
            self.put_aside(index, doubtful.flat_map(aside).collect()).await?;
        }
        Ok(writes.iter().map(|write| told.sent(write)).collect())
    }
}

impl Told {
    /// Whether nodes that have said, without any doubt, have readable copies of all that a node has of an index.
    fn has_all_of(&self, view: &IndexView, name: &str) -> bool {
        let is_sure = |other: &String| self.canceled.contains_key(other) && !self.doubtful.contains(other);
        view.shards().filter(|(_, nodes)| nodes.iter().any(|node| node == name)).all(|(shard, nodes)| {
            let mut others = nodes.iter().filter(|other| *other != name);
            others.any(|other| is_sure(other) && view.replica_state(shard, other).is_readable())
        })
    }

    /// What became of a write. Of a node that was not waited for, nothing is known and nothing matters, unless it is
    /// the only one that was sent the write.
    fn sent(&self, write: &TaskRecord) -> SentWrite {
        let has_said = |task: &&NodeTask| self.canceled.contains_key(&task.node);
        let part = |task: &NodeTask| {
            let canceled = self.canceled.get(&task.node);
            let is_canceled = canceled.is_some_and(|canceled| canceled.contains(&task.task_uid));
            (task.node.clone(), task.task_uid, is_canceled)
        };
        let mut parts: Vec<_> = write.node_tasks.iter().filter(has_said).map(part).collect();
        if parts.is_empty() {
            parts = write.node_tasks.iter().map(part).collect();
        }
        SentWrite { uid: write.uid, parts }
    }
}

/// Tells one node, and returns the tasks that it canceled, now or before.
async fn tell(node: &Node, tasks: &[u64]) -> Result<BTreeSet<u64>, NodeError> {
    node_tasks::cancel(node, tasks, NODE_LIMIT).await?;
    let states = node.tasks(tasks, ASK_LIMIT).await?;
    let canceled = states.into_iter().filter(|state| state.status == NodeTaskStatus::Canceled);
    Ok(canceled.map(|state| state.uid).collect())
}
