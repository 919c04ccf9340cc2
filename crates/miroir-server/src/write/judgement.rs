//! What the answers of nodes to a write mean for each replica and for the client.

use std::collections::BTreeSet;

use miroir_core::replica::ReplicaState;
use miroir_core::shard::ShardId;
use miroir_store::{ReplicaKey, ReplicaStatus};

use crate::index::IndexView;
use crate::write::dispatch::Dispatched;

/// What the answers to a write mean.
#[derive(Debug)]
pub struct Judgement {
    /// Replicas that missed what another active replica of their shard took.
    pub stale: Vec<ReplicaStatus>,
    /// Enough active replicas of every shard took it for the client to be told so.
    pub confirmed: bool,
    /// Every shard has an active replica that took it, from which the others can be repaired: it is done,
    /// whatever the client is told.
    pub decided: bool,
}

impl Judgement {
    /// For the deletion of an index whose placement is not known any more: no node may keep remains of it, for
    /// they would be found in the next index of that name.
    pub fn of_deletion(dispatched: &Dispatched) -> Self {
        let decided = dispatched.missed.is_empty();
        Self { stale: Vec::new(), confirmed: decided, decided }
    }

    /// Shards of which some active replica missed the write.
    pub fn missed_shards(&self) -> Vec<ShardId> {
        let shards: BTreeSet<ShardId> = self.stale.iter().map(|status| status.key.shard).collect();
        shards.into_iter().collect()
    }
}

impl Dispatched {
    /// What the answers mean for the shards concerned, when `needed` active replicas of each are wanted.
    ///
    /// An active replica that missed a write which another active one took gets the state `of_missed`. Where none
    /// took it, nothing becomes stale: the write is sent again, and the first to take it decides.
    pub fn judge(
        &self,
        index: &IndexView,
        concerned: &[ShardId],
        needed: usize,
        of_missed: ReplicaState,
    ) -> Judgement {
        let mut judgement = Judgement { stale: Vec::new(), confirmed: true, decided: true };
        for shard in concerned {
            let Some(nodes) = index.record.placement.get(usize::from(shard.0)) else { continue };
            let active = nodes.iter().filter(|node| index.replica_state(*shard, node).counts_for_quorum());
            let (took, missed): (Vec<&String>, Vec<&String>) =
                active.partition(|node| self.acknowledged.contains(*node));
            judgement.confirmed &= took.len() >= needed.min(took.len() + missed.len()).max(1);
            if took.is_empty() {
                judgement.decided = false;
                continue;
            }
            judgement.stale.extend(missed.into_iter().map(|node| ReplicaStatus {
                key: ReplicaKey { index_uid: index.record.uid.clone(), shard: *shard, node: node.clone() },
                state: of_missed,
                reason: self.missed.get(node).cloned().unwrap_or_else(|| "missed a write".to_owned()),
            }));
        }
        judgement
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Exceptions;
    use crate::index::tests::view as index;

    fn dispatched(took: &[&str], missed: &[&str]) -> Dispatched {
        Dispatched {
            acknowledged: took.iter().map(|node| (*node).to_owned()).collect(),
            missed: missed.iter().map(|node| ((*node).to_owned(), format!("{node} is down"))).collect(),
            ..Dispatched::default()
        }
    }

    fn stale(judgement: &Judgement) -> Vec<(u16, &str)> {
        judgement.stale.iter().map(|status| (status.key.shard.0, status.key.node.as_str())).collect()
    }

    const BOTH: [ShardId; 2] = [ShardId(0), ShardId(1)];

    #[test]
    fn who_missed_what_another_took_is_stale() {
        let index = index(&[&["a", "b"], &["a", "c"]], Exceptions::new());
        let judgement = dispatched(&["a", "c"], &["b"]).judge(&index, &BOTH, 1, ReplicaState::Stale);
        assert!(judgement.confirmed && judgement.decided);
        assert_eq!(stale(&judgement), [(0, "b")]);
        assert_eq!(judgement.stale[0].reason, "b is down");
        assert_eq!(judgement.missed_shards(), [ShardId(0)]);
    }

    #[test]
    fn a_shard_that_nobody_took_is_undecided_and_loses_no_replica() {
        let index = index(&[&["a", "b"], &["b", "c"]], Exceptions::new());
        let mut so_far = dispatched(&["a"], &["b", "c"]);
        let judgement = so_far.judge(&index, &BOTH, 1, ReplicaState::Stale);
        assert!(!judgement.confirmed && !judgement.decided);
        assert_eq!(stale(&judgement), [(0, "b")], "b and c may both still decide shard 1");

        so_far.extend(dispatched(&["c"], &["b"]));
        let judgement = so_far.judge(&index, &BOTH, 1, ReplicaState::Stale);
        assert!(judgement.confirmed && judgement.decided);
        assert_eq!(stale(&judgement), [(0, "b"), (1, "b")]);
    }

    #[test]
    fn one_copy_less_than_wanted_decides_but_does_not_confirm() {
        let full = index(&[&["a", "b"]], Exceptions::new());
        let judgement = dispatched(&["a"], &["b"]).judge(&full, &[ShardId(0)], 2, ReplicaState::Stale);
        assert!(!judgement.confirmed && judgement.decided);
        assert_eq!(stale(&judgement), [(0, "b")]);

        // One that is stale already counts for nothing, neither for nor against.
        let exceptions = Exceptions::from([((ShardId(0), "b".to_owned()), ReplicaState::Stale)]);
        let degraded = index(&[&["a", "b"]], exceptions);
        let judgement = dispatched(&["b"], &["a"]).judge(&degraded, &[ShardId(0)], 1, ReplicaState::Stale);
        assert!(!judgement.decided, "b cannot decide for a");
    }

    #[test]
    fn a_deletion_is_decided_when_no_node_keeps_remains() {
        assert!(!Judgement::of_deletion(&dispatched(&["a"], &["b"])).decided);
        assert!(Judgement::of_deletion(&dispatched(&["a", "b"], &[])).decided);
    }
}
