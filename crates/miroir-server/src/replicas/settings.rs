//! The settings that the nodes of an index agree on: reading them, giving them to a node that has others, and
//! comparing all nodes with them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use miroir_core::replica::ReplicaState;
use miroir_core::settings::{NodeNeeds, breaks_ties, canonical_hash, repair_node_form};
use miroir_node::{Call, Node, NodeError};
use miroir_store::{ReplicaKey, ReplicaStatus};
use serde_json::{Value, json};
use tokio::sync::MutexGuard;

use super::ensure::{RepairError, hold};
use super::node_tasks::{carry_out, enqueue};
use crate::cluster::Cluster;
use crate::index::{Index, IndexView};
use crate::write::{PendingWrites, encode};

const READ_LIMIT: Duration = Duration::from_secs(10);
/// How long a node may take to apply settings once more, where no write has to wait for it.
pub(crate) const APPLY_LIMIT: Duration = Duration::from_secs(120);
/// The same where writes wait: less than they may be held up, so that there is time for what follows.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

impl Cluster {
    /// Gives a node the agreed settings if it holds the last readable replica of some shard, which could not be put
    /// aside for repair to do it. `on_their_way` are the changes of settings that are known to be so.
    pub(crate) async fn set_right_if_last(
        &self,
        index: &Index,
        node: &Arc<Node>,
        settings: &Value,
        hash: &str,
        on_their_way: usize,
    ) {
        let Some((_queue, view)) = turn_unless_changing(index, on_their_way) else { return };
        let name = node.id().as_str();
        if !view.is_read_on(name) {
            return;
        }
        let needs = self.needs_of_one_behind(&view);
        let agreed = Agreed { user: settings, overlay: &view.record.overlay, needs, hash };
        if let Err(error) = agreed.apply(node, &view.record.node_uid, SETTLE_LIMIT).await {
            tracing::error!(index = %index.uid, node = name, %error, "settings still differ");
        }
    }

    /// Tells nodes that have the agreed settings in all else how many values to list for each facet. It is not waited
    /// for: documents may come first there, and anti-entropy looks whether it was done.
    pub(crate) async fn tell_facet_values(
        &self,
        index: &Index,
        nodes: &[Arc<Node>],
        wanted: &Value,
        on_their_way: usize,
    ) {
        let Some((_queue, view)) = turn_unless_changing(index, on_their_way) else { return };
        let uid = encode(&view.record.node_uid);
        let change = json!({ "maxValuesPerFacet": wanted["faceting"]["maxValuesPerFacet"] });
        let call = Call::new(http::Method::PATCH, format!("/indexes/{uid}/settings/faceting"), SETTLE_LIMIT)
            .json(change.to_string());
        let telling = nodes.iter().map(async |node| (node, enqueue(node, &call).await));
        for (node, told) in futures_util::future::join_all(telling).await {
            if let Err(error) = told {
                tracing::warn!(index = %index.uid, node = %node.id(), %error, "facet settings still differ");
            }
        }
    }

    /// Compares the settings of the nodes that an index is read from with those agreed, and mends them if asked to. On
    /// others, repair does. Returns the nodes that differ, each with what is wrong. A node without the index loses its
    /// replicas, unless they are the last, to be filled anew.
    pub(crate) async fn verify_settings(
        &self,
        index: &Index,
        mend: bool,
    ) -> Result<BTreeMap<String, String>, RepairError> {
        let Some(view) = index.view() else { return Ok(BTreeMap::new()) };
        if self.settings_that_differ(&view).await.is_empty() {
            return Ok(BTreeMap::new());
        }
        // A change may have been on its way.
        hold(self, index, self.settle_settings(index, mend)).await
    }

    /// No write is on its way. What takes a node longer than writes may be held up goes on there; its replicas are put
    /// aside until it is done.
    async fn settle_settings(
        &self,
        index: &Index,
        mend: bool,
    ) -> Result<BTreeMap<String, String>, RepairError> {
        let Some(view) = index.view() else { return Ok(BTreeMap::new()) };
        let differing = self.settings_that_differ(&view).await;
        let agreed = Agreed {
            user: &view.record.settings,
            overlay: &view.record.overlay,
            needs: self.needs_of_one_behind(&view),
            hash: &view.record.settings_hash,
        };
        let to_mend = differing.iter().filter(|_| mend);
        let mending = to_mend.filter_map(|(name, reason)| Some((self.fleet.get(name)?, reason))).map(
            async |(node, reason)| {
                tracing::warn!(index = %index.uid, node = %node.id(), reason, "applying the agreed settings");
                let applying = agreed.apply(node, &view.record.node_uid, SETTLE_LIMIT);
                let applied = tokio::time::timeout(SETTLE_LIMIT, applying).await;
                (node, reason, matches!(applied, Ok(Ok(_))))
            },
        );
        for (node, reason, is_mended) in futures_util::future::join_all(mending).await {
            if !is_mended {
                let name = node.id().as_str();
                self.put_aside(index, replicas_of(&view, name, ReplicaState::Joining, reason)).await?;
            }
        }
        Ok(differing)
    }

    async fn settings_that_differ(&self, view: &IndexView) -> BTreeMap<String, String> {
        let names = view.nodes();
        let reads = (names.iter())
            .filter(|name| view.is_read_on(name))
            .filter_map(|name| self.fleet.get(name))
            .filter(|node| node.health().is_up())
            .map(async |node| (node, read_settings(node, &view.record.node_uid).await));
        let mut differing = BTreeMap::new();
        for (node, settings) in futures_util::future::join_all(reads).await {
            let reason = match settings {
                Ok(settings) if canonical_hash(&settings) == view.record.settings_hash => continue,
                Ok(_) => "its settings differ".to_owned(),
                // It answered, so it is there, but the index is not as it should be.
                Err(NodeError::Unintelligible { reason, .. }) => reason,
                Err(_) => continue,
            };
            differing.insert(node.id().to_string(), reason);
        }
        differing
    }
}

/// A turn among the writes of an index, in which nothing else is sent and no more changes of settings are on their way
/// than are known to be. Whoever has the queue may be waiting for the very task that is being ended, so it is not waited
/// for; anti-entropy will have its turn.
fn turn_unless_changing(
    index: &Index,
    on_their_way: usize,
) -> Option<(MutexGuard<'_, PendingWrites>, Arc<IndexView>)> {
    let queue = index.try_turn()?;
    let view = index.view()?;
    (view.settings_in_flight.load(Ordering::Acquire) <= on_their_way).then_some((queue, view))
}

/// The settings of an index as a node holds them.
pub(crate) async fn read_settings(node: &Node, uid: &str) -> Result<Value, NodeError> {
    node.fetch(&Call::get(format!("/indexes/{}/settings", encode(uid)), READ_LIMIT)).await
}

/// The settings that the nodes of an index are to have.
pub(crate) struct Agreed<'a> {
    /// As users see them.
    pub user: &'a Value,
    /// What only Miroir holds of them.
    pub overlay: &'a Value,
    /// What nodes need besides.
    pub needs: NodeNeeds,
    /// Hash of the form nodes have them in.
    pub hash: &'a str,
}

impl Agreed<'_> {
    fn is_held(&self, found: &Value) -> bool {
        canonical_hash(found) == self.hash && (breaks_ties(found) || !self.needs.breaks_ties)
    }

    /// Makes a node's settings the agreed ones within a limit, and checks that they are. Returns its task, if there was
    /// anything to do.
    pub(crate) async fn apply(
        &self,
        node: &Node,
        uid: &str,
        limit: Duration,
    ) -> Result<Option<u64>, NodeError> {
        let found = read_settings(node, uid).await?;
        if self.is_held(&found) {
            return Ok(None);
        }
        let form = repair_node_form(self.user, self.overlay, self.needs, &found);
        let call = Call::new(http::Method::PATCH, format!("/indexes/{}/settings", encode(uid)), READ_LIMIT)
            .json(form.to_string());
        let task = carry_out(node, &call, limit).await?;
        if self.is_held(&read_settings(node, uid).await?) {
            return Ok(Some(task));
        }
        Err(node.unintelligible("its settings are not what they were set to".to_owned()))
    }
}

/// All replicas of a node, to be put aside as far as they may be.
pub(crate) fn replicas_of(
    view: &IndexView,
    node: &str,
    state: ReplicaState,
    reason: &str,
) -> Vec<ReplicaStatus> {
    let replica = |shard| ReplicaStatus {
        key: ReplicaKey { index_uid: view.record.uid.clone(), shard, node: node.to_owned() },
        state,
        reason: reason.to_owned(),
    };
    view.shards_on(node).into_iter().map(replica).collect()
}
