//! Looking again at what seemed to differ, while no write is on its way, and mending it.
//!
//! What is mended is active, and may be read. So whoever is cut off in the middle of it, and does not know what became
//! of the last request, has the replicas put aside that it was changing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use miroir_core::reconcile::{Verdict, Version};
use miroir_core::replica::ReplicaState;
use miroir_core::shard::{ShardId, shard_of};
use miroir_node::Node;

use super::copy::Copy;
use super::ensure::{RepairError, ensure_index, note_disorder};
use super::holdings::{Holdings, Selection};
use super::settings::replicas_of;
use super::verify::{Finding, Group, Verification, differing, is_same, read, strays_of, versions};
use crate::cluster::Cluster;
use crate::index::{Index, IndexView};

/// Differing documents that are told one by one.
const MOST_TOLD: usize = 100;

/// What is found and mended in one comparison.
pub(super) struct Settle<'a> {
    cluster: &'a Cluster,
    index: &'a Index,
    /// The index, as it was when the comparison began.
    begun: &'a IndexView,
    mend: bool,
    /// What was found.
    pub verification: Verification,
    /// The nodes that are being changed.
    changing: BTreeSet<String>,
}

impl<'a> Settle<'a> {
    /// A comparison that has found nothing yet.
    pub fn new(cluster: &'a Cluster, index: &'a Index, begun: &'a IndexView, mend: bool) -> Self {
        let (verification, changing) = (Verification::default(), BTreeSet::new());
        Self { cluster, index, begun, mend, verification, changing }
    }

    fn view(&self) -> Option<Arc<IndexView>> {
        self.index.view().filter(|view| is_same(view, self.begun))
    }

    /// Compares documents of some shards once more, and mends them if asked to. No write is on its way.
    pub async fn documents(&mut self, shards: &[ShardId], ids: &[String]) -> Result<(), RepairError> {
        let Some(view) = self.view() else { return Ok(()) };
        for group in self.cluster.groups(&view, shards) {
            let held = read(&view, &group, &Selection::shards(&group.shards).among(ids)).await?;
            let mut differing = differing(&held);
            // Somebody else may have written a document into a shard that is not its own.
            for (id, verdict) in &mut differing {
                if !group.shards.contains(&shard_of(id, view.record.shards)) {
                    *verdict = Verdict::Remove;
                }
            }
            let findings = differing.iter().map(|(id, verdict)| finding(&view, &group, &held, id, *verdict));
            self.tell(findings.collect());
            if self.mend && !differing.is_empty() {
                self.mend_group(&view, &group, &held, &differing).await?;
            }
        }
        Ok(())
    }

    /// Tells of documents on a node that belong to no shard there, and removes them if asked to. No write is on its
    /// way.
    pub async fn strays(&mut self, node: &Arc<Node>, ids: &[String]) -> Result<(), RepairError> {
        let Some(view) = self.view().filter(|view| view.is_read_on(node.id().as_str())) else {
            return Ok(());
        };
        let ids = strays_of(&view, node, |strays| strays.among(ids)).await?;
        let finding = |id: &String| Finding {
            shard: shard_of(id, view.record.shards),
            document: id.clone(),
            held: BTreeMap::from([(node.id().to_string(), "foreign".to_owned())]),
            right: None,
        };
        self.tell(ids.iter().map(finding).collect());
        if self.mend && !ids.is_empty() {
            self.change(&view, node, &[], &ids).await?;
        }
        Ok(())
    }

    /// To be called with the outcome of each of these: puts aside what was being changed when it was cut off.
    pub async fn conclude(&mut self, outcome: Result<(), RepairError>) -> Result<(), RepairError> {
        if self.changing.is_empty() {
            return outcome;
        }
        let _names = self.cluster.names.read().await;
        // It may have got another name since its queue was let go.
        let now = self.cluster.indexes().into_iter().find(|view| is_same(view, self.begun));
        for name in std::mem::take(&mut self.changing) {
            let Some(view) = &now else { break };
            let doubtful = replicas_of(view, &name, ReplicaState::Joining, "mending it was cut off");
            self.cluster.put_aside(&self.cluster.handle(&view.record.uid), doubtful).await?;
        }
        outcome
    }

    fn tell(&mut self, findings: Vec<Finding>) {
        self.verification.differing += findings.len();
        for finding in findings.into_iter().take(MOST_TOLD.saturating_sub(self.verification.findings.len())) {
            tracing::warn!(
                index = %self.index.uid, shard = finding.shard.0, document = finding.document,
                held = ?finding.held, right = finding.right, mend = self.mend, "replicas differ"
            );
            self.verification.findings.push(finding);
        }
    }

    /// Gives each node the right version of what differs.
    async fn mend_group(
        &mut self,
        view: &IndexView,
        group: &Group,
        held: &[Holdings],
        differing: &BTreeMap<String, Verdict>,
    ) -> Result<(), RepairError> {
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
            if !to_copy.is_empty() || !to_remove.is_empty() {
                self.change(view, target, &to_copy, &to_remove).await?;
            }
        }
        Ok(())
    }

    /// Copies documents to a node and removes others. It gives their numbers anew, so it must break ties by the rule.
    async fn change(
        &mut self,
        view: &IndexView,
        target: &Arc<Node>,
        to_copy: &[(Arc<Node>, String)],
        to_remove: &[String],
    ) -> Result<(), RepairError> {
        ensure_index(self.cluster, target, view).await?;
        note_disorder(self.cluster, self.index, target).await?;
        self.changing.insert(target.id().to_string());
        let copy = Copy { index: view, target };
        let mut tasks = copy.copy(to_copy, |_| true).await?;
        tasks.extend(copy.remove(to_remove).await?);
        copy.wait(&tasks).await?;
        self.index.begin_generation();
        self.changing.remove(target.id().as_str());
        self.verification.repaired = true;
        Ok(())
    }
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
