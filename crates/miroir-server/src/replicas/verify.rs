//! Comparing the active replicas of shards by content, and mending what differs.
//!
//! Replicas are compared while writes go on, which shows differences that are only writes on their way. So what
//! differs is compared once more while the index's writes wait, some documents at a time: what differs then is real,
//! and is judged document by document (`core::reconcile`).

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_core::reconcile::{Verdict, Version, judge};
use miroir_core::shard::ShardId;
use miroir_node::{Node, NodeError};
use serde::Serialize;

use super::ensure::{RepairError, hold};
use super::holdings::{Compare, Holdings, Selection, holdings};
use super::settle::Settle;
use crate::cluster::Cluster;
use crate::index::{Index, IndexView};

/// Documents that are compared once more and mended while writes wait.
const DOCUMENTS_AT_ONCE: usize = 1_000;

/// A document that replicas hold differently.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    /// Its shard.
    pub shard: ShardId,
    /// Its id.
    pub document: String,
    /// The nodes compared, each with what it holds: the write it was last changed by, `foreign` without one,
    /// `missing` without the document.
    pub held: BTreeMap<String, String>,
    /// The node whose version is right; none when the document is not to be.
    pub right: Option<String>,
}

/// What a comparison found.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verification {
    /// Documents compared, each counted once.
    pub documents: usize,
    /// Shards of which there were at least two replicas to compare.
    pub shards_compared: usize,
    /// Shards that have only one readable replica, or whose nodes are away.
    pub shards_alone: usize,
    /// How many documents differ.
    pub differing: usize,
    /// The first of them.
    pub findings: Vec<Finding>,
    /// Whether they have been made equal.
    pub repaired: bool,
}

/// The replicas of some shards that are on the same nodes.
pub(super) struct Group {
    /// The nodes.
    pub nodes: Vec<Arc<Node>>,
    /// The shards.
    pub shards: Vec<ShardId>,
}

impl Cluster {
    /// Compares all active replicas of some shards, and mends them if asked to.
    pub(crate) async fn verify(
        &self,
        index: &Index,
        shards: &[ShardId],
        mend: bool,
    ) -> Result<Verification, RepairError> {
        let Some(view) = index.view().filter(|view| view.record.settings_version > 0) else {
            return Ok(Verification::default());
        };
        let mut settle = Settle::new(self, index, &view, mend);
        for group in self.groups(&view, shards) {
            if group.nodes.len() < 2 {
                settle.verification.shards_alone += group.shards.len();
                continue;
            }
            settle.verification.shards_compared += group.shards.len();
            let held = read(&view, &group, &Selection::shards(&group.shards)).await?;
            settle.verification.documents += held.first().map_or(0, Holdings::len);
            let suspicious: Vec<String> = differing(&held).into_keys().collect();
            drop(held);
            for some in suspicious.chunks(DOCUMENTS_AT_ONCE) {
                let settled = hold(self, index, settle.documents(&group.shards, some)).await;
                settle.conclude(settled).await?;
            }
        }
        // Strays belong to no shard, so they are looked for with the first.
        if shards.contains(&ShardId(0)) {
            for (node, strays) in self.strays(&view).await? {
                for some in strays.chunks(DOCUMENTS_AT_ONCE) {
                    let settled = hold(self, index, settle.strays(&node, some)).await;
                    settle.conclude(settled).await?;
                }
            }
        }
        Ok(settle.verification)
    }

    /// Documents that belong to no shard, by the node that holds them.
    async fn strays(&self, view: &IndexView) -> Result<Vec<(Arc<Node>, Vec<String>)>, NodeError> {
        let mut found = Vec::new();
        for node in view.nodes().iter().filter_map(|name| self.fleet.get(name)) {
            // Repair looks for them where nothing is read.
            if node.health().is_up() && view.is_read_on(node.id().as_str()) {
                let strays = strays_of(view, node, |all| all).await?;
                found.push((Arc::clone(node), strays));
            }
        }
        found.retain(|(_, ids)| !ids.is_empty());
        Ok(found)
    }

    /// The readable replicas within reach, by the nodes that they are on.
    pub(super) fn groups(&self, view: &IndexView, shards: &[ShardId]) -> Vec<Group> {
        let mut by_nodes: BTreeMap<Vec<&str>, Vec<ShardId>> = BTreeMap::new();
        for shard in shards {
            let nodes =
                view.record.placement.get(usize::from(shard.0)).map(Vec::as_slice).unwrap_or_default();
            let readable = nodes.iter().map(String::as_str).filter(|node| {
                view.replica_state(*shard, node).is_readable()
                    && self.fleet.get(node).is_some_and(|node| node.health().is_up())
            });
            by_nodes.entry(readable.collect()).or_default().push(*shard);
        }
        let group = |(names, shards): (Vec<&str>, Vec<ShardId>)| {
            let nodes = names.into_iter().filter_map(|name| self.fleet.get(name)).cloned().collect();
            Group { nodes, shards }
        };
        by_nodes.into_iter().map(group).collect()
    }
}

/// Whether it is still the same index, not another one of its name.
pub(super) fn is_same(now: &IndexView, begun: &IndexView) -> bool {
    now.record.created_at == begun.record.created_at
}

/// Ids of the documents on a node that belong to no shard there, of all or of some.
pub(super) async fn strays_of(
    view: &IndexView,
    node: &Arc<Node>,
    which: impl FnOnce(Selection) -> Selection,
) -> Result<Vec<String>, NodeError> {
    let strays = which(Selection::strays(&view.shards_on(node.id().as_str())));
    Ok(holdings(node, view, &strays, Compare::ByWrite).await?.into_keys().collect())
}

/// What each node of a group holds, in the order of the nodes.
pub(super) async fn read(
    view: &IndexView,
    group: &Group,
    selection: &Selection,
) -> Result<Vec<Holdings>, NodeError> {
    let reads = group.nodes.iter().map(|node| holdings(node, view, selection, Compare::ByContent));
    futures_util::future::join_all(reads).await.into_iter().collect()
}

pub(super) fn versions(held: &[Holdings], id: &str) -> Vec<Option<Version>> {
    held.iter().map(|held| held.get(id).map(|held| held.version)).collect()
}

/// The documents that are not the same everywhere.
pub(super) fn differing(held: &[Holdings]) -> BTreeMap<String, Verdict> {
    let mut differing = BTreeMap::new();
    for id in held.iter().flat_map(Holdings::keys) {
        match judge(&versions(held, id)) {
            Verdict::Equal => {}
            verdict => drop(differing.insert(id.clone(), verdict)),
        }
    }
    differing
}
