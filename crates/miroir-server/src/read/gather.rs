//! Asking a cover of nodes: every shard is answered by exactly one replica, and a node that fails is replaced.
//!
//! The nodes of a cover are asked at the same time. The shards of one that fails are covered anew without it,
//! until they are answered or nobody is left to ask.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use miroir_core::cover::{Cover, CoverPart};
use miroir_core::error::ApiError;
use miroir_core::hidden::shard_filter;
use miroir_core::shard::ShardId;
use miroir_node::{Call, Node, NodeAnswer};

use crate::cluster::Cluster;
use crate::config::UnavailableShardPolicy;
use crate::index::IndexView;
use crate::read::shard_unavailable;
use crate::write::parse_refusal;

/// Rounds of asking before the shards left count as missing.
const ROUNDS: usize = 3;

/// What one node is to be asked.
pub struct Ask<'a> {
    /// The node's part of the cover.
    pub part: &'a CoverPart,
    /// How many shards are asked for in this round, of this node and all others.
    pub covered: usize,
    /// Only these shards; `None` when the node holds nothing else.
    pub shards: Option<&'a [ShardId]>,
    /// The same as a filter expression.
    pub filter: Option<&'a str>,
    /// The node answers for the whole index, so nothing will be merged.
    pub alone: bool,
}

/// What the nodes said.
pub struct Gathered {
    /// Per node, the answers to its calls in order.
    pub answers: Vec<Vec<NodeAnswer>>,
    /// Per node, what it was asked for.
    pub parts: Vec<CoverPart>,
    /// One node answered for the whole index.
    pub alone: bool,
    /// Shards nobody answered for.
    pub missing: Vec<ShardId>,
}

impl Gathered {
    /// Takes off each node's answer to its last call.
    pub fn take_last(&mut self) -> Vec<NodeAnswer> {
        self.answers.iter_mut().filter_map(Vec::pop).collect()
    }

    /// The bodies of successful answers; a refusal by one node is everybody's answer.
    pub fn bodies(&self, cluster: &Cluster, index: &IndexView) -> Result<Vec<Vec<Bytes>>, ApiError> {
        let body = |answer: &NodeAnswer| match answer.status.is_success() {
            true => Ok(answer.body.clone()),
            false => Err(cluster.node_refusal(Some(index), answer.status, &answer.body)),
        };
        self.answers.iter().map(|answers| answers.iter().map(body).collect()).collect()
    }
}

impl Cluster {
    /// Asks the nodes of a cover with the calls that `calls` makes for each. A 4xx counts as an answer, except
    /// that the index is unknown: it does exist, so that node is the one that is wrong.
    pub(crate) async fn gather(
        &self,
        index: &IndexView,
        calls: impl Fn(Ask<'_>) -> Vec<Call>,
    ) -> Result<Gathered, ApiError> {
        let fleet: Vec<&Arc<Node>> = self.fleet.iter().collect();
        let mut failed: HashSet<String> = HashSet::new();
        let mut gathered =
            Gathered { answers: Vec::new(), parts: Vec::new(), alone: false, missing: Vec::new() };
        let mut cover = self.cover_without(index, &failed);
        for _ in 0..ROUNDS {
            let missing = std::mem::take(&mut cover.missing);
            let alone = gathered.answers.is_empty() && cover.parts.len() == 1 && missing.is_empty();
            let covered = cover.parts.iter().map(|part| part.shards.len()).sum();
            let asks = cover.parts.into_iter().map(|part| {
                let filter = (!part.whole).then(|| shard_filter(part.shards.iter().copied()));
                let shards = (!part.whole).then_some(part.shards.as_slice());
                let calls = calls(Ask { part: &part, covered, shards, filter: filter.as_deref(), alone });
                self.ask_part(index, fleet.get(part.node).copied(), part, calls)
            });
            let mut unanswered: HashSet<ShardId> = HashSet::new();
            for (part, answers) in futures_util::future::join_all(asks).await {
                match answers {
                    Some(answers) => {
                        gathered.answers.push(answers);
                        gathered.parts.push(part);
                        gathered.alone = alone;
                    }
                    None => {
                        failed.extend(fleet.get(part.node).map(|node| node.id().to_string()));
                        unanswered.extend(part.shards);
                    }
                }
            }
            cover = restrict(self.cover_without(index, &failed), &unanswered);
            cover.missing.extend(missing);
            if unanswered.is_empty() {
                break;
            }
        }
        // Whatever is still to be asked when the rounds are over is missing as well.
        gathered.missing = cover.missing;
        gathered.missing.extend(cover.parts.into_iter().flat_map(|part| part.shards));
        gathered.missing.sort_unstable();
        gathered.missing.dedup();
        let refuse = self.config.unavailable_shard_policy == UnavailableShardPolicy::Error;
        if gathered.answers.is_empty() || (refuse && !gathered.missing.is_empty()) {
            return Err(shard_unavailable(&gathered.missing));
        }
        Ok(gathered)
    }

    fn cover_without(&self, index: &IndexView, failed: &HashSet<String>) -> Cover {
        index.cover(&self.fleet, |name| {
            !failed.contains(name) && self.fleet.get(name).is_some_and(|node| node.health().is_up())
        })
    }

    /// `None` when the node failed.
    async fn ask_part(
        &self,
        index: &IndexView,
        node: Option<&Arc<Node>>,
        part: CoverPart,
        calls: Vec<Call>,
    ) -> (CoverPart, Option<Vec<NodeAnswer>>) {
        let Some(node) = node else { return (part, None) };
        let answers = futures_util::future::join_all(calls.iter().map(|call| node.send(call))).await;
        let answers: Result<Vec<NodeAnswer>, _> = answers.into_iter().collect();
        match answers {
            Ok(answers) if answers.iter().any(lost_the_index) => {
                tracing::warn!(index = %index.record.uid, node = %node.id(), "the node lost the index");
                (part, None)
            }
            Ok(answers) => (part, Some(answers)),
            Err(error) => {
                tracing::warn!(index = %index.record.uid, %error, "asking other replicas");
                (part, None)
            }
        }
    }
}

fn lost_the_index(answer: &NodeAnswer) -> bool {
    answer.status == http::StatusCode::NOT_FOUND
        && parse_refusal(answer.status, &answer.body).code == "index_not_found"
}

/// The part of a cover that concerns the wanted shards.
fn restrict(cover: Cover, wanted: &HashSet<ShardId>) -> Cover {
    let parts = cover.parts.into_iter().filter_map(|part| {
        let shards: Vec<ShardId> =
            part.shards.iter().copied().filter(|shard| wanted.contains(shard)).collect();
        let whole = part.whole && shards.len() == part.shards.len();
        (!shards.is_empty()).then_some(CoverPart { node: part.node, shards, whole })
    });
    let missing = cover.missing.into_iter().filter(|shard| wanted.contains(shard)).collect();
    Cover { parts: parts.collect(), missing }
}
