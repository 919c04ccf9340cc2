//! Sending one recorded write to every node concerned, and judging what their answers mean for each replica.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use miroir_core::replica::ReplicaState;
use miroir_core::shard::ShardId;
use miroir_node::{Call, Node, NodeError};
use miroir_store::{NodeTask, ReplicaKey, ReplicaStatus};
use serde::Deserialize;

use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::write::operation::{Operation, Payload};

/// How often a broken call is tried before the node counts as having missed the write.
const ATTEMPTS: u32 = 3;
const PAUSE_BETWEEN_ATTEMPTS: Duration = Duration::from_millis(100);

/// What came of sending a write.
#[derive(Debug, Default)]
pub struct Dispatched {
    /// The node tasks it became.
    pub node_tasks: Vec<NodeTask>,
    /// Nodes that took it.
    pub acknowledged: BTreeSet<String>,
    /// Nodes that may not have it, each with the reason.
    pub missed: BTreeMap<String, String>,
    /// A node refused it as wrong: its status and body. Nodes agree on what is wrong, so one is enough.
    pub rejected: Option<(http::StatusCode, bytes::Bytes)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    task_uid: u64,
}

enum NodeOutcome {
    Took(Vec<u64>),
    Missed(String),
    Rejected(http::StatusCode, bytes::Bytes),
}

/// Everything needed to send one write.
pub struct Dispatch<'a> {
    /// Uid of the index.
    pub uid: &'a str,
    /// Its number of shards.
    pub shards: u16,
    /// What to do.
    pub operation: &'a Operation,
    /// The documents.
    pub payload: &'a Payload,
    /// Node names with the shards each holds.
    pub targets: Vec<(String, Vec<ShardId>)>,
    /// Ask one node first, because only a node can tell whether the request is right.
    pub try_one_first: bool,
}

impl Cluster {
    /// Sends a write to its targets.
    pub(crate) async fn dispatch(&self, write: &Dispatch<'_>) -> Dispatched {
        let mut dispatched = Dispatched::default();
        let mut rest = write.targets.as_slice();
        if write.try_one_first {
            while let Some(((node, shards), others)) = rest.split_first() {
                rest = others;
                let outcome = self.send_to(write, node, shards).await;
                let decided = !matches!(outcome, NodeOutcome::Missed(_));
                dispatched.add(node, outcome);
                if dispatched.rejected.is_some() {
                    return dispatched;
                }
                if decided {
                    break;
                }
            }
        }
        let sends = rest.iter().map(async |(node, shards)| (node, self.send_to(write, node, shards).await));
        for (node, outcome) in futures_util::future::join_all(sends).await {
            dispatched.add(node, outcome);
        }
        dispatched
    }

    async fn send_to(&self, write: &Dispatch<'_>, node: &str, shards: &[ShardId]) -> NodeOutcome {
        let Some(node) = self.fleet.get(node) else {
            return NodeOutcome::Missed(format!("node `{node}` is not in the configuration"));
        };
        if !node.health().is_up() {
            return NodeOutcome::Missed(format!("node `{}` is down", node.id()));
        }
        // A node only queues what it is sent, which takes little more than a read.
        let limit = self.config.node_timeout * 2;
        let mut tasks = Vec::new();
        for call in
            write.operation.calls(write.uid, node.id().as_str(), write.shards, shards, write.payload, limit)
        {
            match send_persistently(node, &call).await {
                Ok(answer) if answer.status.is_success() => {
                    match serde_json::from_slice::<Summary>(&answer.body) {
                        Ok(summary) => tasks.push(summary.task_uid),
                        Err(error) => {
                            return NodeOutcome::Missed(node.unintelligible(error.to_string()).to_string());
                        }
                    }
                }
                Ok(answer) => return NodeOutcome::Rejected(answer.status, answer.body),
                Err(error) => return NodeOutcome::Missed(error.to_string()),
            }
        }
        NodeOutcome::Took(tasks)
    }
}

async fn send_persistently(node: &Arc<Node>, call: &Call) -> Result<miroir_node::NodeAnswer, NodeError> {
    let mut attempt = 1;
    loop {
        match node.send(call).await {
            Err(error @ (NodeError::Unreachable { .. } | NodeError::Failed { .. })) if attempt < ATTEMPTS => {
                attempt += 1;
                tracing::debug!(%error, "sending a write again");
                tokio::time::sleep(PAUSE_BETWEEN_ATTEMPTS).await;
            }
            Err(error @ NodeError::TimedOut { .. }) => {
                // The writes that follow must not wait for it as long.
                node.mark_down(&error);
                return Err(error);
            }
            outcome => return outcome,
        }
    }
}

impl Dispatched {
    fn add(&mut self, node: &str, outcome: NodeOutcome) {
        match outcome {
            NodeOutcome::Took(tasks) => {
                self.acknowledged.insert(node.to_owned());
                let tasks = tasks.into_iter().map(|task_uid| NodeTask { node: node.to_owned(), task_uid });
                self.node_tasks.extend(tasks);
            }
            NodeOutcome::Missed(reason) => {
                self.missed.insert(node.to_owned(), reason);
            }
            NodeOutcome::Rejected(status, body) => {
                self.missed
                    .insert(node.to_owned(), format!("the node refused the write with status {status}"));
                self.rejected.get_or_insert((status, body));
            }
        }
    }

    /// What the answers mean: replicas to mark stale, and shards whose write did not get enough acknowledgements.
    ///
    /// An active replica that missed a write another active one took becomes stale. Where none took it, all but
    /// one of those that may have it become stale, so that whatever the outcome, the replicas share it; the one
    /// that stays is the last and never becomes stale.
    pub fn judge(
        &self,
        index: &IndexView,
        concerned: &[ShardId],
        needed: usize,
    ) -> (Vec<ReplicaStatus>, Vec<ShardId>) {
        let mut stale = Vec::new();
        let mut unconfirmed = Vec::new();
        for shard in concerned {
            let Some(nodes) = index.record.placement.get(usize::from(shard.0)) else { continue };
            let active = nodes.iter().filter(|node| index.replica_state(*shard, node).counts_for_quorum());
            let (took, missed): (Vec<&String>, Vec<&String>) =
                active.partition(|node| self.acknowledged.contains(*node));
            if took.len() < needed.min(took.len() + missed.len()).max(1) {
                unconfirmed.push(*shard);
            }
            let keep = usize::from(took.is_empty());
            stale.extend(missed.into_iter().skip(keep).map(|node| ReplicaStatus {
                key: ReplicaKey { index_uid: index.record.uid.clone(), shard: *shard, node: node.clone() },
                state: ReplicaState::Stale,
                reason: self.missed.get(node).cloned().unwrap_or_else(|| "missed a write".to_owned()),
            }));
        }
        (stale, unconfirmed)
    }
}
