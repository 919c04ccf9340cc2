//! One part of a cover: asked of its node, and elsewhere when that node fails or is late.
//!
//! A late node's shards are asked of other replicas as well, and the first complete answer counts. That costs the
//! nodes more work, so it is done for searches only, and no more often than a budget allows: nodes that are all slow
//! because they have too much to do must not be given more.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use miroir_core::cover::{Cover, CoverPart};
use miroir_core::hidden::shard_filter;
use miroir_core::latency::patience;
use miroir_core::shard::ShardId;
use miroir_node::{Call, Node, NodeAnswer};

use super::gather::{Ask, Asked, Reading, restrict};
use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::write::parse_refusal;

/// One round of a read: nodes asked at the same time.
pub(super) struct Round<'a, F> {
    pub cluster: &'a Cluster,
    pub index: &'a IndexView,
    pub reading: &'a Reading,
    pub fleet: &'a [&'a Arc<Node>],
    /// Nodes that failed in the rounds before.
    pub failed: &'a HashSet<usize>,
    pub calls: &'a F,
    /// How many shards are asked for in this round.
    pub covered: usize,
    /// One node is asked for all that matters.
    pub alone: bool,
    /// What 95 of 100 searches do not exceed on the fastest node.
    pub fastest: Option<Duration>,
}

/// What became of one part.
#[derive(Default)]
pub(super) struct PartOutcome {
    /// By one node, or by several in its place.
    pub answered: Vec<AnsweredPart>,
    /// Nodes that failed.
    pub failed: Vec<usize>,
    /// The shards of the part when it was not answered, and nothing otherwise.
    pub unanswered: Vec<ShardId>,
}

/// What one node was asked for and said.
pub(super) struct AnsweredPart {
    pub part: CoverPart,
    pub answers: Vec<NodeAnswer>,
    /// It was asked for all that matters.
    pub alone: bool,
}

impl<F: Fn(Ask<'_>) -> Vec<Call> + Sync> Round<'_, F> {
    /// Has a part answered, by its node or by others.
    pub async fn answer(&self, part: CoverPart) -> PartOutcome {
        let Some(node) = self.fleet.get(part.node).copied() else { return PartOutcome::failed(part) };
        let begun = Instant::now();
        let mut first = pin!(self.ask(&part, self.alone));
        if self.could_be_asked_elsewhere() {
            // Whoever is not late costs no more than this timer.
            let patience = patience(node.speed().percentile, self.fastest);
            match tokio::time::timeout(patience, &mut first).await {
                Ok(Some(answered)) => return PartOutcome::answered(vec![answered]),
                Ok(None) => return self.answer_elsewhere(&part).await,
                Err(_elapsed) => {}
            }
            if let Some(others) = self.others_for_late(node, &part) {
                let second = pin!(self.ask_all(&others));
                match select(first, second).await {
                    Either::Left((Some(answered), _)) => return PartOutcome::answered(vec![answered]),
                    Either::Left((None, second)) => return second.await.or_failed(&part),
                    Either::Right((outcome, first)) => {
                        if outcome.unanswered.is_empty() {
                            node.note_search(begun.elapsed());
                            return outcome;
                        }
                        return match first.await {
                            Some(answered) => PartOutcome::answered(vec![answered]),
                            None => outcome.or_failed(&part),
                        };
                    }
                }
            }
        }
        match first.await {
            Some(answered) => PartOutcome::answered(vec![answered]),
            None => self.answer_elsewhere(&part).await,
        }
    }

    /// The answer of other nodes to a part whose own has failed. When they do not cover it, it is left to the next
    /// round, which knows what else has failed.
    async fn answer_elsewhere(&self, part: &CoverPart) -> PartOutcome {
        match self.others(part) {
            Some(others) => {
                let mut outcome = self.ask_all(&others).await;
                outcome.failed.push(part.node);
                outcome
            }
            None => PartOutcome::failed(part.clone()),
        }
    }

    fn could_be_asked_elsewhere(&self) -> bool {
        self.reading.is_search && self.index.record.placement.iter().any(|nodes| nodes.len() > 1)
    }

    /// Who to ask besides a late node, when there is somebody and the budget allows it.
    fn others_for_late(&self, node: &Node, part: &CoverPart) -> Option<Cover> {
        let others = self.others(part)?;
        if !self.cluster.reads.hedge_budget().spend(others.parts.len()) {
            return None;
        }
        node.note_hedge();
        Some(others)
    }

    /// A cover of a part's shards without its node.
    fn others(&self, part: &CoverPart) -> Option<Cover> {
        let mut failed = self.failed.clone();
        failed.insert(part.node);
        let cover = self.cluster.cover_without(self.index, self.reading, &failed);
        let wanted: HashSet<ShardId> = part.shards.iter().copied().collect();
        Some(restrict(cover, &wanted)).filter(|cover| cover.missing.is_empty())
    }

    async fn ask_all(&self, cover: &Cover) -> PartOutcome {
        let alone = self.alone && cover.parts.len() == 1;
        let asks = cover.parts.iter().map(|part| self.ask(part, alone));
        let mut outcome = PartOutcome::default();
        for (part, answered) in cover.parts.iter().zip(futures_util::future::join_all(asks).await) {
            match answered {
                Some(answered) => outcome.answered.push(answered),
                None => outcome.failed.push(part.node),
            }
        }
        if !outcome.failed.is_empty() {
            outcome.answered.clear();
            outcome.unanswered = cover.parts.iter().flat_map(|part| part.shards.iter().copied()).collect();
        }
        outcome
    }

    /// `None` when the node failed.
    async fn ask(&self, part: &CoverPart, alone: bool) -> Option<AnsweredPart> {
        let node = self.fleet.get(part.node)?;
        let filter = (!part.whole).then(|| shard_filter(part.shards.iter().copied()));
        let shards = (!part.whole).then_some(part.shards.as_slice());
        let ask = Ask { part, covered: self.covered, shards, filter: filter.as_deref(), alone };
        let mut calls = (self.calls)(ask);
        for call in &mut calls {
            call.limit = self.reading.limit(call.limit);
        }
        let begun = Instant::now();
        let answers = futures_util::future::join_all(calls.iter().map(|call| node.send_trusted(call))).await;
        let answers: Result<Vec<NodeAnswer>, _> = answers.into_iter().collect();
        self.reading.note(|| Asked {
            node: part.node,
            shards: part.shards.len(),
            requests: calls.len(),
            took: begun.elapsed(),
            answered: answers.is_ok(),
        });
        match answers {
            Ok(answers) if answers.iter().any(lost_the_index) => {
                // Not what it was when it was checked. It need not be said by more than one search.
                let record = &self.index.record;
                let now = self.cluster.handle(&record.uid).view();
                // Or it was deleted after the search began, as it should be, or is still to be made.
                let is_there = record.settings_version > 0
                    && now.is_some_and(|now| now.record.created_at == record.created_at);
                if is_there && node.health().is_up() {
                    node.disown(&format!("it does not have index `{}`", self.index.record.uid));
                }
                None
            }
            Ok(answers) => {
                if self.reading.is_search {
                    node.note_search(begun.elapsed());
                }
                Some(AnsweredPart { part: part.clone(), answers, alone })
            }
            Err(error) => {
                tracing::warn!(index = %self.index.record.uid, %error, "asking other replicas");
                None
            }
        }
    }
}

impl PartOutcome {
    fn answered(answered: Vec<AnsweredPart>) -> Self {
        Self { answered, ..Self::default() }
    }

    fn failed(part: CoverPart) -> Self {
        Self { failed: vec![part.node], unanswered: part.shards, ..Self::default() }
    }

    /// The same, given that the part's own node has failed.
    fn or_failed(mut self, part: &CoverPart) -> Self {
        self.failed.push(part.node);
        self
    }
}

fn lost_the_index(answer: &NodeAnswer) -> bool {
    answer.status == http::StatusCode::NOT_FOUND
        && parse_refusal(answer.status, &answer.body).code == "index_not_found"
}
