//! Recording which replicas are read: putting some aside, and making some active.
//!
//! Whoever finds something wrong with a replica found it by a picture of the index that may be old by then. So it is
//! decided here, with the record held: the last readable replica of a shard is never put aside, and a joining one,
//! which may hold anything, never becomes stale, which is compared less closely.

use std::collections::BTreeMap;

use miroir_core::replica::ReplicaState;
use miroir_core::shard::ShardId;
use miroir_store::{ReplicaKey, ReplicaStatus, StoreError};

use crate::cluster::Cluster;
use crate::index::{Exceptions, Index, IndexView};

impl Cluster {
    /// Puts replicas aside, in the store and then for all to see, as far as they may be.
    pub(crate) async fn put_aside(
        &self,
        index: &Index,
        changes: Vec<ReplicaStatus>,
    ) -> Result<(), StoreError> {
        let _recording = index.recording.lock().await;
        let Some(view) = index.view() else { return Ok(()) };
        let changes = admissible(&view, changes);
        if !changes.is_empty() {
            self.store.set_replica_states(changes.clone()).await?;
            self.publish_aside(index, &changes);
        }
        Ok(())
    }

    /// Publishes replicas that are put aside and wakes whoever repairs them. The record must be held.
    pub(crate) fn publish_aside(&self, index: &Index, changes: &[ReplicaStatus]) {
        if changes.is_empty() {
            return;
        }
        let mut told: BTreeMap<(&str, &str), (ReplicaState, Vec<u16>)> = BTreeMap::new();
        for status in changes {
            let cause = (status.key.node.as_str(), status.reason.as_str());
            told.entry(cause).or_insert((status.state, Vec::new())).1.push(status.key.shard.0);
        }
        for ((node, reason), (state, shards)) in told {
            tracing::warn!(index = %index.uid, node, ?shards, ?state, reason, "replicas are put aside");
        }
        index.update(|view| {
            let mut exceptions = view.exceptions.clone();
            let states =
                changes.iter().map(|status| ((status.key.shard, status.key.node.clone()), status.state));
            exceptions.extend(states);
            IndexView::new(view.record.clone(), exceptions, Some(view))
        });
        self.repair_wanted.notify_one();
    }

    /// Makes replicas of a node active: for all to see, so that writes go there, and then in the store. Cut off in
    /// between, they are repaired once more. Nothing is done when a node of the index has gone down since `downs` of
    /// them had: whoever puts its replicas aside waits for the same lock. Returns whether it was done.
    pub(crate) async fn activate(
        &self,
        index: &Index,
        node: &str,
        shards: &[ShardId],
        downs: u64,
    ) -> Result<bool, StoreError> {
        let _recording = index.recording.lock().await;
        let before = index.view();
        if before.as_ref().is_some_and(|view| self.downs(view) != downs) {
            return Ok(false);
        }
        index.update(|view| {
            let mut exceptions = view.exceptions.clone();
            exceptions.retain(|(shard, name), _| name != node || !shards.contains(shard));
            IndexView::new(view.record.clone(), exceptions, Some(view))
        });
        let active = |shard: &ShardId| ReplicaStatus {
            key: ReplicaKey { index_uid: index.uid.clone(), shard: *shard, node: node.to_owned() },
            state: ReplicaState::Active,
            reason: String::new(),
        };
        let stored = self.store.set_replica_states(shards.iter().map(active).collect()).await;
        if let (Err(_), Some(before)) = (&stored, before) {
            index.update(|view| IndexView::new(view.record.clone(), before.exceptions.clone(), Some(view)));
        }
        stored.map(|()| true)
    }
}

/// Of these changes, those that may be made to the index as it is.
pub(crate) fn admissible(view: &IndexView, changes: Vec<ReplicaStatus>) -> Vec<ReplicaStatus> {
    let mut exceptions: Exceptions = view.exceptions.clone();
    let mut admitted = Vec::new();
    for change in changes {
        let replica = (change.key.shard, change.key.node.clone());
        let state = |node: &str| {
            exceptions.get(&(change.key.shard, node.to_owned())).copied().unwrap_or(ReplicaState::Active)
        };
        let nodes = view.record.placement.get(usize::from(change.key.shard.0));
        let nodes = nodes.map(Vec::as_slice).unwrap_or_default();
        let has_other = nodes.iter().any(|other| *other != replica.1 && state(other).is_readable());
        let current = state(&replica.1);
        let is_last = current.is_readable() && !has_other;
        let is_known = current == change.state || current == ReplicaState::Joining;
        if !is_last && !is_known {
            exceptions.insert(replica, change.state);
            admitted.push(change);
        }
    }
    admitted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::tests::view;

    fn change(shard: u16, node: &str, state: ReplicaState) -> ReplicaStatus {
        let key = ReplicaKey { index_uid: "movies".to_owned(), shard: ShardId(shard), node: node.to_owned() };
        ReplicaStatus { key, state, reason: "late".to_owned() }
    }

    fn admitted(view: &IndexView, changes: Vec<ReplicaStatus>) -> Vec<(u16, String, ReplicaState)> {
        let told = |status: ReplicaStatus| (status.key.shard.0, status.key.node, status.state);
        admissible(view, changes).into_iter().map(told).collect()
    }

    #[test]
    fn the_last_readable_replica_stays_whoever_asks() {
        use ReplicaState::{Joining, Stale};
        let both = view(&[&["a", "b"]], Exceptions::new());
        let found = admitted(&both, vec![change(0, "a", Stale), change(0, "b", Stale)]);
        assert_eq!(found, [(0, "a".to_owned(), Stale)], "one of them, and then the other is the last");
        let one = view(&[&["a", "b"]], Exceptions::from([((ShardId(0), "b".to_owned()), Stale)]));
        assert!(admitted(&one, vec![change(0, "a", Stale)]).is_empty());
        assert_eq!(admitted(&one, vec![change(0, "b", Joining)]), [(0, "b".to_owned(), Joining)]);
    }

    #[test]
    fn what_may_hold_anything_is_not_taken_for_stale() {
        use ReplicaState::{Joining, Stale};
        let doubtful = view(&[&["a", "b"]], Exceptions::from([((ShardId(0), "b".to_owned()), Joining)]));
        assert!(admitted(&doubtful, vec![change(0, "b", Stale)]).is_empty());
    }
}
