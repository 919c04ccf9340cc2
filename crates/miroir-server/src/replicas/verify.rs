//! Comparing the active replicas of shards by content, and mending what differs.
//!
//! Replicas are compared while writes go on, which shows differences that are only writes on their way. So what
//! differs is compared once more while the index's writes wait, some documents at a time: what differs then is real,
//! and is judged document by document (`core::reconcile`).

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_core::reconcile::{Verdict, Version, judge};
use miroir_core::shard::{ShardId, shard_of};
use miroir_node::{Node, NodeError};
use serde::Serialize;

use super::copy::Copy;
use super::ensure::{RepairError, hold};
use super::holdings::{Compare, Holdings, Selection, holdings};
use crate::cluster::Cluster;
use crate::index::{Index, IndexView};

/// Documents that are compared once more and mended while writes wait.
const DOCUMENTS_AT_ONCE: usize = 1_000;
/// Differing documents that are told one by one.
const MOST_TOLD: usize = 100;

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
struct Group {
    nodes: Vec<Arc<Node>>,
    shards: Vec<ShardId>,
}

impl Cluster {
    /// Compares all active replicas of some shards, and mends them if asked to.
    pub(crate) async fn verify(
        &self,
        index: &Index,
        shards: &[ShardId],
        mend: bool,
    ) -> Result<Verification, RepairError> {
        let mut verification = Verification::default();
        let Some(view) = index.view().filter(|view| view.record.settings_version > 0) else {
            return Ok(verification);
        };
        for group in self.groups(&view, shards) {
            if group.nodes.len() < 2 {
                verification.shards_alone += group.shards.len();
                continue;
            }
            verification.shards_compared += group.shards.len();
            let held = read(&view, &group, &Selection::shards(&group.shards)).await?;
            verification.documents += held.first().map_or(0, Holdings::len);
            let suspicious: Vec<String> = differing(&held).into_keys().collect();
            drop(held);
            for some in suspicious.chunks(DOCUMENTS_AT_ONCE) {
                hold(self, index, self.settle(index, &view, &group.shards, some, mend, &mut verification))
                    .await?;
            }
        }
        // Strays belong to no shard, so they are looked for with the first.
        if shards.contains(&ShardId(0)) {
            for (node, strays) in self.strays(&view).await? {
                for some in strays.chunks(DOCUMENTS_AT_ONCE) {
                    hold(self, index, settle_strays(index, &view, &node, some, mend, &mut verification))
                        .await?;
                }
            }
        }
        for finding in &verification.findings {
            tracing::warn!(
                index = %index.uid, shard = finding.shard.0, document = finding.document, held = ?finding.held,
                right = finding.right, repaired = verification.repaired, "replicas differ"
            );
        }
        Ok(verification)
    }

    /// Compares documents that seemed to differ once more, and mends them if asked to. No write is on its way.
    async fn settle(
        &self,
        index: &Index,
        begun: &IndexView,
        shards: &[ShardId],
        ids: &[String],
        mend: bool,
        verification: &mut Verification,
    ) -> Result<(), RepairError> {
        let Some(view) = index.view().filter(|view| is_same(view, begun)) else { return Ok(()) };
        // Somebody else may have written a document into a shard that is not its own.
        for group in self.groups(&view, shards) {
            let held = read(&view, &group, &Selection::shards(&group.shards).among(ids)).await?;
            let differing = differing(&held);
            verification.differing += differing.len();
            for (id, verdict) in &differing {
                if verification.findings.len() < MOST_TOLD {
                    verification.findings.push(finding(&view, &group, &held, id, *verdict));
                }
            }
            if mend && !differing.is_empty() {
                mend_group(&view, &group, &held, &differing).await?;
                verification.repaired = true;
            }
        }
        Ok(())
    }

    /// Documents that belong to no shard, by the node that holds them.
    async fn strays(&self, view: &IndexView) -> Result<Vec<(Arc<Node>, Vec<String>)>, NodeError> {
        let mut found = Vec::new();
        for node in view.nodes().iter().filter_map(|name| self.fleet.get(name)) {
            if node.health().is_up() {
                let strays = strays_of(view, node, |all| all).await?;
                found.push((Arc::clone(node), strays));
            }
        }
        found.retain(|(_, ids)| !ids.is_empty());
        Ok(found)
    }

    /// The readable replicas within reach, by the nodes that they are on.
    fn groups(&self, view: &IndexView, shards: &[ShardId]) -> Vec<Group> {
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

/// Tells of documents on a node that belong to no shard there, and removes them if asked to. No write is on its way.
async fn settle_strays(
    index: &Index,
    begun: &IndexView,
    node: &Arc<Node>,
    ids: &[String],
    mend: bool,
    verification: &mut Verification,
) -> Result<(), RepairError> {
    let Some(view) = index.view().filter(|view| is_same(view, begun)) else { return Ok(()) };
    let ids = strays_of(&view, node, |strays| strays.among(ids)).await?;
    verification.differing += ids.len();
    let finding = |id: &String| Finding {
        shard: shard_of(id, view.record.shards),
        document: id.clone(),
        held: BTreeMap::from([(node.id().to_string(), "foreign".to_owned())]),
        right: None,
    };
    let room = MOST_TOLD.saturating_sub(verification.findings.len());
    verification.findings.extend(ids.iter().take(room).map(finding));
    if mend {
        let copy = Copy { index: &view, target: node };
        copy.wait(&copy.remove(&ids).await?).await?;
        verification.repaired = true;
    }
    Ok(())
}

/// What each node of a group holds, in the order of the nodes.
async fn read(view: &IndexView, group: &Group, selection: &Selection) -> Result<Vec<Holdings>, NodeError> {
    let reads = group.nodes.iter().map(|node| holdings(node, view, selection, Compare::ByContent));
    futures_util::future::join_all(reads).await.into_iter().collect()
}

fn versions(held: &[Holdings], id: &str) -> Vec<Option<Version>> {
    held.iter().map(|held| held.get(id).map(|held| held.version)).collect()
}

/// The documents that are not the same everywhere.
fn differing(held: &[Holdings]) -> BTreeMap<String, Verdict> {
    let mut differing = BTreeMap::new();
    for id in held.iter().flat_map(Holdings::keys) {
        match judge(&versions(held, id)) {
            Verdict::Equal => {}
            verdict => drop(differing.insert(id.clone(), verdict)),
        }
    }
    differing
}

fn finding(view: &IndexView, group: &Group, held: &[Holdings], id: &str, verdict: Verdict) -> Finding {
    let name = |node: &Arc<Node>| node.id().to_string();
    let what = |version: Option<Version>| match version {
        None => "missing".to_owned(),
        Some(Version { write: None, .. }) => "foreign".to_owned(),
        Some(Version { write: Some(write), content }) => {
            format!("write {write}, content {:08x}", content as u32)
        }
    };
    Finding {
        shard: shard_of(id, view.record.shards),
        document: id.to_owned(),
        held: group.nodes.iter().map(name).zip(versions(held, id).into_iter().map(what)).collect(),
        right: match verdict {
            Verdict::Keep(place) => group.nodes.get(place).map(name),
            Verdict::Equal | Verdict::Remove => None,
        },
    }
}

/// Gives each node the right version of what differs. The index's queue is held.
async fn mend_group(
    view: &IndexView,
    group: &Group,
    held: &[Holdings],
    differing: &BTreeMap<String, Verdict>,
) -> Result<(), NodeError> {
    for (place, target) in group.nodes.iter().enumerate() {
        let mut to_copy = Vec::new();
        let mut to_remove = Vec::new();
        for (id, verdict) in differing {
            let versions = versions(held, id);
            match *verdict {
                Verdict::Keep(right) if versions.get(right) != versions.get(place) => {
                    let source = group.nodes.get(right).cloned();
                    to_copy.extend(source.map(|source| (source, id.clone())));
                }
                Verdict::Remove if versions.get(place).is_some_and(Option::is_some) => {
                    to_remove.push(id.clone())
                }
                _ => {}
            }
        }
        let copy = Copy { index: view, target };
        let mut tasks = copy.copy(&to_copy, |_| true).await?;
        tasks.extend(copy.remove(&to_remove).await?);
        copy.wait(&tasks).await?;
    }
    Ok(())
}
