//! Asking a cover of nodes: every shard is answered by exactly one replica, and a node that fails is replaced.
//!
//! The nodes of a cover are asked at the same time. The shards of one that fails or, in a search, is late are asked
//! elsewhere (`part`). What is still unanswered then is covered anew without the nodes that failed, until it is
//! answered, nobody is left to ask, or the time of the read is over.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use miroir_core::cover::{Cover, CoverPart};
use miroir_core::error::ApiError;
use miroir_core::health::HealthState;
use miroir_core::pinning::Narrowing;
use miroir_core::shard::ShardId;
use miroir_node::{Call, Node, NodeAnswer};

use super::part::{AnsweredPart, Round};
use crate::cluster::Cluster;
use crate::config::UnavailableShardPolicy;
use crate::index::IndexView;
use crate::read::shard_unavailable;

/// Rounds of asking before the shards left count as missing.
const ROUNDS: usize = 3;

/// How one read goes about it.
#[derive(Debug, Clone)]
pub struct Reading {
    deadline: Instant,
    /// Reads with the same number are asked of the same nodes while these are equally good.
    pub(super) affinity: Option<u64>,
    /// Searches are alike enough for one to tell how long another should take.
    pub(super) is_search: bool,
    /// The shards to ask for, when not all.
    pub(super) wanted: Option<Arc<BTreeSet<ShardId>>>,
    /// What one node says is merged as if there were others.
    merges_one: bool,
    /// Where to write down who was asked, when somebody wants to know.
    pub(super) journal: Option<Arc<Journal>>,
}

/// What was asked of a node, and how long that took.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The node's place in the fleet's order.
    pub node: usize,
    /// How many shards it was asked for.
    pub shards: usize,
    /// How many requests that were.
    pub requests: usize,
    /// Until it had answered all of them, or failed.
    pub took: Duration,
    /// Whether it answered.
    pub answered: bool,
}

/// Who was asked in one read.
pub type Journal = Mutex<Vec<Asked>>;

impl Reading {
    /// A read whose calls have this limit: there is time for one call and its repetition elsewhere.
    pub fn with_limit(limit: Duration) -> Self {
        Self {
            deadline: Instant::now() + Self::longest(limit),
            affinity: None,
            is_search: false,
            wanted: None,
            merges_one: false,
            journal: None,
        }
    }

    /// How long a read whose calls have this limit may take.
    pub fn longest(limit: Duration) -> Duration {
        limit * 2
    }

    /// The same for a search.
    pub fn of_search(limit: Duration, affinity: u64) -> Self {
        Self { affinity: Some(affinity), is_search: true, ..Self::with_limit(limit) }
    }

    /// The same for the shards that matter. When these are on one node, its answer is merged as one of several if
    /// `merges_one`: with none, but knowing that the node does not hold everything.
    pub fn narrowed(self, narrowing: Narrowing, merges_one: bool) -> Self {
        match narrowing {
            Narrowing::To(shards) => Self { wanted: Some(Arc::new(shards)), merges_one, ..self },
            Narrowing::Nothing(_) => self,
        }
    }

    /// Whether the answer of the one node of a cover, which leaves no shard out, is the client's.
    pub fn is_answered_by(&self, cover: &Cover) -> bool {
        cover.parts.len() == 1 && !self.merges_one
    }

    /// The same, written down.
    pub fn noted_in(self, journal: &Arc<Journal>) -> Self {
        Self { journal: Some(Arc::clone(journal)), ..self }
    }

    pub(super) fn note(&self, asked: impl FnOnce() -> Asked) {
        if let Some(journal) = &self.journal {
            match journal.lock() {
                Ok(mut journal) => journal.push(asked()),
                Err(poisoned) => poisoned.into_inner().push(asked()),
            }
        }
    }

    /// The same for all shards.
    pub fn of_everything(&self) -> Self {
        Self { wanted: None, merges_one: false, ..self.clone() }
    }

    /// The limit for a call made now.
    pub fn limit(&self, limit: Duration) -> Duration {
        limit.min(self.deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether there is no time left.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }
}

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
    /// The node answers for all that matters, so nothing will be merged.
    pub alone: bool,
}

/// What the nodes said.
pub struct Gathered {
    /// Per node, the answers to its calls in order.
    pub answers: Vec<Vec<NodeAnswer>>,
    /// Per node, what it was asked for.
    pub parts: Vec<CoverPart>,
    /// One node answered for all that matters.
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
        reading: &Reading,
        calls: impl Fn(Ask<'_>) -> Vec<Call> + Sync,
    ) -> Result<Gathered, ApiError> {
        let gathered = self.gather_wanted(index, reading, &calls).await;
        let is_partial = self.config.unavailable_shard_policy == UnavailableShardPolicy::Partial;
        match gathered {
            // Others cannot have what is wanted either, but with them there is an answer to say so.
            Err(_) if is_partial && reading.wanted.is_some() => {
                self.gather_wanted(index, &reading.of_everything(), &calls).await
            }
            gathered => gathered,
        }
    }

    async fn gather_wanted(
        &self,
        index: &IndexView,
        reading: &Reading,
        calls: &(impl Fn(Ask<'_>) -> Vec<Call> + Sync),
    ) -> Result<Gathered, ApiError> {
        let fleet: Vec<&Arc<Node>> = self.fleet.iter().collect();
        let fastest = fleet.iter().filter_map(|node| node.speed().percentile).min();
        let mut failed: HashSet<usize> = HashSet::new();
        let mut gathered =
            Gathered { answers: Vec::new(), parts: Vec::new(), alone: false, missing: Vec::new() };
        let mut cover = self.cover_without(index, reading, &failed);
        for _ in 0..ROUNDS {
            if cover.parts.is_empty() || reading.is_over() {
                break;
            }
            let missing = std::mem::take(&mut cover.missing);
            let round = Round {
                cluster: self,
                index,
                reading,
                fleet: &fleet,
                failed: &failed,
                calls,
                covered: cover.parts.iter().map(|part| part.shards.len()).sum(),
                alone: gathered.answers.is_empty() && missing.is_empty() && reading.is_answered_by(&cover),
                fastest,
            };
            if reading.is_search {
                self.reads.hedge_budget().earn(cover.parts.len());
            }
            let asks = cover.parts.into_iter().map(|part| round.answer(part));
            let mut newly_failed = Vec::new();
            let mut unanswered: HashSet<ShardId> = HashSet::new();
            for outcome in futures_util::future::join_all(asks).await {
                for AnsweredPart { part, answers, alone } in outcome.answered {
                    gathered.alone = alone;
                    gathered.answers.push(answers);
                    gathered.parts.push(part);
                }
                newly_failed.extend(outcome.failed);
                unanswered.extend(outcome.unanswered);
            }
            failed.extend(newly_failed);
            cover = match unanswered.is_empty() {
                true => Cover::default(),
                false => restrict(self.cover_without(index, reading, &failed), &unanswered),
            };
            cover.missing.extend(missing);
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

    /// A cover of healthy nodes if there is one, else of whatever may be read.
    pub(super) fn cover_without(
        &self,
        index: &IndexView,
        reading: &Reading,
        failed: &HashSet<usize>,
    ) -> Cover {
        let usable = |with_suspects: bool| -> Vec<bool> {
            let nodes = self.fleet.iter().enumerate();
            let is_usable = |(place, node): (usize, &Arc<Node>)| match node.health().state() {
                HealthState::Healthy => !failed.contains(&place),
                HealthState::Suspect => with_suspects && !failed.contains(&place),
                HealthState::Down | HealthState::Recovering => false,
            };
            nodes.map(is_usable).collect()
        };
        let healthy = usable(false);
        let wanted = reading.wanted.as_deref();
        let cover = index.cover(&self.fleet, reading.affinity, healthy.clone(), wanted);
        if cover.missing.is_empty() {
            return cover;
        }
        let readable = usable(true);
        if readable == healthy {
            return cover;
        }
        index.cover(&self.fleet, reading.affinity, readable, wanted)
    }
}

/// The part of a cover that concerns the wanted shards.
pub(super) fn restrict(cover: Cover, wanted: &HashSet<ShardId>) -> Cover {
    let parts = cover.parts.into_iter().filter_map(|part| {
        let shards: Vec<ShardId> =
            part.shards.iter().copied().filter(|shard| wanted.contains(shard)).collect();
        let whole = part.whole && shards.len() == part.shards.len();
        (!shards.is_empty()).then_some(CoverPart { node: part.node, shards, whole })
    });
    let missing = cover.missing.into_iter().filter(|shard| wanted.contains(shard)).collect();
    Cover { parts: parts.collect(), missing }
}
