//! Promotion: the operator declares that what a node holds is what there is.
//!
//! The last active replica of a shard never becomes stale by itself, so when its disk is gone for good the shard
//! stays unavailable until somebody decides. Writes that only the lost replica had are lost by this, which is why
//! nothing does it by itself, and why the operator is told first what is given up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use miroir_core::error::{ApiError, ErrorType};
use miroir_core::replica::ReplicaState;
use miroir_core::shard::ShardId;
use miroir_node::Node;
use miroir_store::{ReplicaKey, ReplicaStatus};
use serde::Serialize;

use super::ensure::ensure_index;
use super::identity::token_key;
use super::node_tasks::newest;
use super::repair::activated_key;
use crate::cluster::Cluster;
use crate::index::{Index, IndexView};
use crate::store_error;
use crate::write::unavailable;

const QUEUE_LIMIT: Duration = Duration::from_secs(10);
/// How long a node may take to be let into service once its disk is accepted.
const SERVICE_LIMIT: Duration = Duration::from_secs(60);
const SERVICE_POLL: Duration = Duration::from_millis(50);

/// A shard for which a promotion would decide.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Promotion {
    /// The index.
    pub index: String,
    /// The shard.
    pub shard: ShardId,
    /// Why the replica is not read now.
    pub reason: String,
    /// The nodes whose replicas would be put aside. They are active and cannot be reached; whatever only they
    /// have is lost.
    pub gives_up: Vec<String>,
}

impl Cluster {
    /// What a promotion of the replicas of a node would decide: the shards that nobody else can serve.
    pub(crate) async fn promotions(
        &self,
        node: &Arc<Node>,
        only: Option<&str>,
    ) -> Result<Vec<Promotion>, ApiError> {
        let reasons = self.store.replica_states().await.map_err(store_error)?;
        let name = node.id().as_str();
        let mut promotions = Vec::new();
        for view in self.indexes().into_iter().filter(|view| only.is_none_or(|uid| uid == view.record.uid)) {
            for shard in self.undecided_shards(&view, node) {
                let key = ReplicaKey { index_uid: view.record.uid.clone(), shard, node: name.to_owned() };
                let reason =
                    reasons.iter().find(|status| status.key == key).map(|status| status.reason.clone());
                promotions.push(Promotion {
                    index: view.record.uid.clone(),
                    shard,
                    reason: reason.or_else(|| node.health().last_error()).unwrap_or_default(),
                    gives_up: readable_elsewhere(&view, shard, name),
                });
            }
        }
        Ok(promotions)
    }

    /// Promotes: from now on the replicas of the node are the active ones of the shards that nobody else can serve.
    pub(crate) async fn promote(
        &self,
        node: &Arc<Node>,
        only: Option<&str>,
    ) -> Result<Vec<Promotion>, ApiError> {
        let promotions = self.promotions(node, only).await?;
        let name = node.id().as_str();
        // Before the node is read: its disk may be an empty one.
        for uid in promotions.iter().map(|promotion| promotion.index.as_str()).collect::<BTreeSet<_>>() {
            let Some(view) = self.handle(uid).view() else { continue };
            ensure_index(self, node, &view).await.map_err(|error| unreachable(name, &error.to_string()))?;
            self.store
                .put_meta(&activated_key(&view.record.node_uid, name), "")
                .await
                .map_err(store_error)?;
            self.decide(&self.handle(uid), node).await?;
        }
        if !node.health().is_up() {
            newest(node, None).await.map_err(|error| unreachable(name, &error.to_string()))?;
            // It answers, so it is kept out because it has another disk: from now on this is its disk. The next probe
            // lets it in; nobody else checks a node, or two would give it two markers.
            self.store.put_meta(&token_key(name), "").await.map_err(store_error)?;
            self.wait_for_service(node).await?;
        }
        self.repair_wanted.notify_one();
        Ok(promotions)
    }

    async fn wait_for_service(&self, node: &Arc<Node>) -> Result<(), ApiError> {
        let deadline = tokio::time::Instant::now() + SERVICE_LIMIT;
        while !node.health().is_up() {
            if tokio::time::Instant::now() > deadline {
                let reason = node.health().last_error().unwrap_or_default();
                return Err(unreachable(node.id().as_str(), &reason));
            }
            tokio::time::sleep(SERVICE_POLL).await;
        }
        Ok(())
    }

    /// The shards on a node that no other node can serve: the others are not active, or cannot be reached.
    fn undecided_shards(&self, view: &IndexView, node: &Arc<Node>) -> Vec<ShardId> {
        let name = node.id().as_str();
        let is_up = |node: &String| self.fleet.get(node).is_some_and(|node| node.health().is_up());
        let served = |shard: &ShardId| {
            readable_elsewhere(view, *shard, name).iter().any(is_up)
                || (view.replica_state(*shard, name).is_readable() && node.health().is_up())
        };
        view.shards_on(name).into_iter().filter(|shard| !served(shard)).collect()
    }

    async fn decide(&self, index: &Index, node: &Arc<Node>) -> Result<(), ApiError> {
        // A write that was interrupted holds the queue until the lost node is back, and goes on with what is decided
        // here; any other has to be over first.
        let queue = index.turn(QUEUE_LIMIT).await;
        if let (Err(reason), false) = (&queue, index.is_interrupted()) {
            return Err(unavailable(reason));
        }
        let _recording = index.recording.lock().await;
        let Some(view) = index.view() else { return Ok(()) };
        // As it is now: the others may have come back meanwhile.
        let shards = self.undecided_shards(&view, node);
        let node = node.id().as_str();
        tracing::warn!(index = %index.uid, node, ?shards, "promoted by the operator");
        let status = |shard: ShardId, node: &str, state, reason: &str| ReplicaStatus {
            key: ReplicaKey { index_uid: index.uid.clone(), shard, node: node.to_owned() },
            state,
            reason: reason.to_owned(),
        };
        let mut changes = Vec::new();
        for shard in &shards {
            let given_up = readable_elsewhere(&view, *shard, node);
            let aside = format!("given up by the operator in favour of node `{node}`");
            changes.extend(given_up.iter().map(|other| status(*shard, other, ReplicaState::Joining, &aside)));
            changes.push(status(*shard, node, ReplicaState::Active, ""));
        }
        self.store.set_replica_states(changes.clone()).await.map_err(store_error)?;
        index.update(|view| {
            let mut exceptions = view.exceptions.clone();
            for ReplicaStatus { key, state, .. } in &changes {
                let replica = (key.shard, key.node.clone());
                match state {
                    ReplicaState::Active => drop(exceptions.remove(&replica)),
                    state => drop(exceptions.insert(replica, *state)),
                }
            }
            IndexView::new(view.record.clone(), exceptions, Some(view))
        });
        Ok(())
    }
}

fn readable_elsewhere(view: &IndexView, shard: ShardId, node: &str) -> Vec<String> {
    let nodes = view.record.placement.get(usize::from(shard.0)).map(Vec::as_slice).unwrap_or_default();
    let others = nodes.iter().filter(|other| *other != node);
    others.filter(|other| view.replica_state(shard, other).is_readable()).cloned().collect()
}

fn unreachable(node: &str, reason: &str) -> ApiError {
    let message = format!("Node `{node}` cannot be promoted: {reason}. Start it first.");
    ApiError::new(409, "miroir_cannot_promote", ErrorType::InvalidRequest, message)
}
