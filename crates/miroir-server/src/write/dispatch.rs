//! Sending one recorded write to every node concerned, and gathering what they answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use miroir_core::error::{ApiError, ErrorType};
use miroir_core::replica::ReplicaState;
use miroir_core::shard::ShardId;
use miroir_node::{Call, Node, NodeError};
use miroir_store::NodeTask;

use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::replicas::node_tasks::Enqueued;
use crate::write::operation::{Operation, Payload};
use crate::write::outcome::parse_refusal;
use crate::write::refusal::unavailable;

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
    /// A node refused it as wrong: its status and body. Nodes of one version agree on what is wrong, so one is
    /// enough.
    pub rejected: Option<(http::StatusCode, bytes::Bytes)>,
    /// Of the nodes that missed it, those that cannot have any of it: never sent to, or refused.
    pub untouched: BTreeSet<String>,
    /// Of these, the nodes that had made what was needed before they refused it.
    pub prepared: Vec<String>,
    /// Some node may have tasks of it that are not among these: it was sent something twice, or its answer was lost.
    pub may_have_more: bool,
}

enum NodeOutcome {
    /// Its tasks, and whether it may have others, because a call was sent twice.
    Took(Vec<Enqueued>, bool),
    NotSent(String),
    Missed(String),
    Rejected {
        status: http::StatusCode,
        body: bytes::Bytes,
        taken: Taken,
    },
}

/// What a node had taken of a write before it refused the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Nothing,
    Preparations,
    Documents,
}

/// Everything needed to send one write.
pub struct Dispatch<'a> {
    /// What nodes call the index.
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
    /// Refuses a write if some of these shards have fewer than `needed` active replicas that can be reached: it could
    /// not be acknowledged anyway.
    pub(super) fn check_reachable(
        &self,
        view: &IndexView,
        concerned: &[ShardId],
        needed: usize,
    ) -> Result<(), ApiError> {
        let reachable = |shard: &ShardId| {
            let nodes =
                view.record.placement.get(usize::from(shard.0)).map(Vec::as_slice).unwrap_or_default();
            let active = nodes.iter().filter(|node| view.replica_state(*shard, node) == ReplicaState::Active);
            let up = active.filter(|node| self.fleet.get(node).is_some_and(|node| node.health().is_up()));
            up.count() >= needed
        };
        let lost: Vec<String> =
            concerned.iter().filter(|shard| !reachable(shard)).map(|shard| shard.0.to_string()).collect();
        if lost.is_empty() {
            return Ok(());
        }
        let down: Vec<String> = self
            .fleet
            .iter()
            .filter(|node| !node.health().is_up())
            .map(|node| node.id().to_string())
            .collect();
        Err(unavailable(&format!(
            "too few active replicas of shards {} can be reached (nodes down: {})",
            lost.join(","),
            down.join(", ")
        )))
    }

    /// The nodes a write goes to, each with the shards it holds.
    pub(super) fn targets(
        &self,
        view: &IndexView,
        operation: &Operation,
        concerned: &[ShardId],
    ) -> Vec<(String, Vec<ShardId>)> {
        let narrow = matches!(
            operation,
            Operation::AddDocuments { create: None, .. }
                | Operation::EditDocuments { .. }
                | Operation::DeleteDocuments { .. }
        );
        // Documents are only sent for replicas that are written; what concerns the index as a whole goes to all.
        (view.nodes().into_iter())
            .map(|node| {
                let mut shards = view.shards_on(&node);
                shards.retain(|shard| view.replica_state(*shard, &node).is_written());
                (node, shards)
            })
            .filter(|(_, shards)| !narrow || shards.iter().any(|shard| concerned.contains(shard)))
            .collect()
    }

    /// Sends a write to its targets.
    pub(crate) async fn dispatch(&self, write: &Dispatch<'_>) -> Dispatched {
        let mut dispatched = Dispatched::default();
        let mut rest = write.targets.as_slice();
        if write.try_one_first {
            while let Some(((node, shards), others)) = rest.split_first() {
                rest = others;
                let outcome = self.send_to(write, node, shards).await;
                let decided = !matches!(outcome, NodeOutcome::Missed(_) | NodeOutcome::NotSent(_));
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
            return NodeOutcome::NotSent(format!("node `{node}` is not in the configuration"));
        };
        if !node.health().is_up() {
            return NodeOutcome::NotSent(format!("node `{}` is down", node.id()));
        }
        // A node only queues what it is sent, which takes little more than a read.
        let limit = self.config.node_timeout * 2;
        let (mut tasks, mut may_have_more) = (Vec::new(), false);
        for call in
            write.operation.calls(write.uid, node.id().as_str(), write.shards, shards, write.payload, limit)
        {
            let (attempts, outcome) = send_persistently(node, &call).await;
            may_have_more |= attempts > 1;
            match outcome {
                Ok(answer) if answer.status.is_success() => {
                    match serde_json::from_slice::<Enqueued>(&answer.body) {
                        Ok(enqueued) => tasks.push(enqueued),
                        Err(error) => {
                            return NodeOutcome::Missed(node.unintelligible(error.to_string()).to_string());
                        }
                    }
                }
                Ok(answer) => {
                    let refusal = parse_refusal(answer.status, &answer.body);
                    if is_about_the_request(&refusal) {
                        let taken = match tasks.len() {
                            0 => Taken::Nothing,
                            calls if calls <= write.operation.preparations() => Taken::Preparations,
                            _ => Taken::Documents,
                        };
                        return NodeOutcome::Rejected { status: answer.status, body: answer.body, taken };
                    }
                    let reason = format!("node `{}` cannot take it now: {}", node.id(), refusal.message);
                    return NodeOutcome::Missed(reason);
                }
                Err(error) => return NodeOutcome::Missed(error.to_string()),
            }
        }
        NodeOutcome::Took(tasks, may_have_more)
    }
}

/// Whether a node refused a write because of what was asked. A full disk or a full queue is answered with a 4xx as
/// well, but is the state of one node, and passes.
fn is_about_the_request(refusal: &ApiError) -> bool {
    refusal.kind == ErrorType::InvalidRequest && !matches!(refusal.status, 408 | 429)
}

/// The outcome of the last attempt, and how many there were.
async fn send_persistently(
    node: &Arc<Node>,
    call: &Call,
) -> (u32, Result<miroir_node::NodeAnswer, NodeError>) {
    let mut attempt = 1;
    loop {
        // What an old disk takes must not make it look new.
        match node.send_trusted(call).await {
            Err(error @ (NodeError::Unreachable { .. } | NodeError::Failed { .. })) if attempt < ATTEMPTS => {
                attempt += 1;
                tracing::debug!(%error, "sending a write again");
                tokio::time::sleep(PAUSE_BETWEEN_ATTEMPTS).await;
            }
            outcome => return (attempt, outcome),
        }
    }
}

impl Dispatched {
    fn add(&mut self, node: &str, outcome: NodeOutcome) {
        match outcome {
            NodeOutcome::Took(tasks, may_have_more) => {
                self.may_have_more |= may_have_more;
                self.acknowledged.insert(node.to_owned());
                let tasks = tasks.into_iter().map(|Enqueued { task_uid, enqueued_at }| NodeTask {
                    node: node.to_owned(),
                    task_uid,
                    enqueued_at,
                });
                self.node_tasks.extend(tasks);
            }
            NodeOutcome::NotSent(reason) => {
                self.missed.insert(node.to_owned(), reason);
                self.untouched.insert(node.to_owned());
            }
            NodeOutcome::Missed(reason) => {
                self.may_have_more = true;
                self.missed.insert(node.to_owned(), reason);
            }
            NodeOutcome::Rejected { status, body, taken } => {
                if taken != Taken::Documents {
                    self.untouched.insert(node.to_owned());
                }
                if taken == Taken::Preparations {
                    self.prepared.push(node.to_owned());
                }
                self.missed
                    .insert(node.to_owned(), format!("the node refused the write with status {status}"));
                self.rejected.get_or_insert((status, body));
            }
        }
    }

    /// Adds what came of sending the write again to those that had missed it.
    pub fn extend(&mut self, again: Self) {
        self.node_tasks.extend(again.node_tasks);
        self.acknowledged.extend(again.acknowledged);
        self.missed = again.missed;
        self.rejected = again.rejected;
        self.untouched = again.untouched;
        self.prepared.extend(again.prepared);
        self.may_have_more |= again.may_have_more;
    }

    /// Whether it was found wrong before anything of it was done anywhere.
    pub fn came_to_nothing(&self) -> bool {
        let untouched = self.missed.keys().all(|node| self.untouched.contains(node));
        self.rejected.is_some() && self.acknowledged.is_empty() && untouched
    }

    /// Why nodes missed it, for a message.
    pub fn reasons(&self) -> String {
        self.missed.values().map(String::as_str).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_node_does_not_make_a_request_wrong() {
        let says = |status: u16, code: &str, kind: &str| {
            let body = format!(r#"{{"message":"m","code":"{code}","type":"{kind}","link":"l"}}"#);
            let status = http::StatusCode::from_u16(status).unwrap();
            is_about_the_request(&parse_refusal(status, body.as_bytes()))
        };
        assert!(says(400, "invalid_settings_ranking_rules", "invalid_request"));
        assert!(says(404, "index_not_found", "invalid_request"));
        // A full task queue or a full disk, as Meilisearch tells it.
        assert!(!says(422, "no_space_left_on_device", "system"));
        assert!(!says(429, "too_many_search_requests", "invalid_request"));
    }

    #[test]
    fn a_write_came_to_nothing_only_where_nobody_may_have_it() {
        let refused = |taken| NodeOutcome::Rejected {
            status: http::StatusCode::BAD_REQUEST,
            body: bytes::Bytes::new(),
            taken,
        };
        let after = |outcomes: Vec<NodeOutcome>| {
            let mut dispatched = Dispatched::default();
            for (number, outcome) in outcomes.into_iter().enumerate() {
                dispatched.add(&format!("n{number}"), outcome);
            }
            dispatched.came_to_nothing()
        };
        let (down, silent) =
            (|| NodeOutcome::NotSent("down".to_owned()), || NodeOutcome::Missed("late".to_owned()));
        assert!(after(vec![refused(Taken::Nothing)]) && after(vec![down(), refused(Taken::Nothing)]));
        assert!(after(vec![refused(Taken::Preparations)]));
        assert!(!after(vec![silent(), refused(Taken::Nothing)]), "who was too late to answer may have it");
        assert!(!after(vec![refused(Taken::Documents)]), "it had taken a part before");
        assert!(
            !after(vec![NodeOutcome::Took(Vec::new(), false), refused(Taken::Nothing)])
                && !after(vec![down()])
        );
    }
}
