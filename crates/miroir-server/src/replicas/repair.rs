//! The repair of one node's replicas of one index: stale and joining ones are made equal to active ones, then active.
//!
//! Repair copies from active to stale and removes what the source does not have, so deletions need no tombstones.
//! Most is copied while writes go on, in rounds, until little is left; then the index's writes wait for the last
//! difference, some shards at a time, and the copy is exact when it ends.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use miroir_core::replica::ReplicaState;
use miroir_core::shard::ShardId;
use miroir_node::{Node, NodeError};

use super::copy::{Copy, Wanted};
use super::ensure::{DRAIN_LIMIT, Ensured, RepairError, ensure_index, hold, note_disorder};
use super::holdings::{Compare, Selection};
use super::make_way::Refusal;
use super::node_tasks::{failed_since, is_idle, newest, tasks_since, wait_until_idle};
use super::settings::replicas_of;
use super::verify::{is_same, strays_of};
use crate::cluster::Cluster;
use crate::index::{Index, IndexView};
use crate::workers::Report;

/// Documents that are compared while writes wait: a second or two of reading.
const DOCUMENTS_AT_ONCE: u64 = 100_000;
/// Rounds of copying while writes go on. More would never catch up.
const ROUNDS: usize = 4;
/// A difference of so many documents is small enough to let writes wait for it.
const SMALL_DIFFERENCE: usize = 500;

/// The repair of some replicas of one index on one node.
pub(crate) struct Repair<'a> {
    pub cluster: &'a Arc<Cluster>,
    pub index: &'a Index,
    pub target: &'a Arc<Node>,
    pub shards: &'a [ShardId],
    pub report: &'a Report,
}

/// Replicas that are copied from the same node and compared in the same way.
pub(super) struct Way {
    source: Arc<Node>,
    shards: Vec<ShardId>,
    compare: Compare,
}

/// What follows each other in the order of insertion: from each source, a part of what it is to give.
pub(super) type Part = Vec<(Arc<Node>, Compare, Selection)>;

/// What the target lacks of a part, in the order of insertion, and what it has too much.
pub(super) type Lack = (Vec<Wanted>, Vec<String>);

/// What a comparison found while writes went on, on a target that was idle. It still holds once writes have to wait, if
/// none was done in between.
pub(super) struct Seen {
    /// Of the index, before the comparison.
    generation: u64,
    /// The newest task of the target about the index, before the comparison.
    newest: Option<u64>,
    /// How many times nodes of the index had gone down, before the comparison.
    downs: u64,
    /// What was compared, and what was found.
    parts: Vec<(Part, Lack)>,
}

impl Seen {
    /// Whether what was found still holds after that was done to the index: other settings change no numbers of writes.
    fn holds_after(&self, ensured: &Ensured) -> bool {
        let by_write = || self.parts.iter().flat_map(|(part, _)| part).all(|part| part.1 == Compare::ByWrite);
        ensured.tasks.is_empty() || (!ensured.made && by_write())
    }

    /// What was found of a part, if that was compared.
    fn take(&mut self, part: &Part) -> Option<Lack> {
        let is_same = |seen: &Part| {
            let pairs = seen.iter().zip(part);
            seen.len() == part.len()
                && pairs
                    .into_iter()
                    .all(|(seen, part)| (seen.0.id(), seen.1, &seen.2) == (part.0.id(), part.1, &part.2))
        };
        let place = self.parts.iter().position(|(seen, _)| is_same(seen))?;
        Some(self.parts.swap_remove(place).1)
    }
}

/// Name under which the store remembers the newest task of a node when a replica of an index, by its name on nodes, was
/// last made active there: what failed since then may have left documents that are not those of any moment. Empty after the operator
/// accepted another disk, where numbers begin elsewhere.
pub(crate) fn activated_key(uid: &str, node: &str) -> String {
    format!("activated-at:{node}:{uid}")
}

/// Ways are made in one repair: for places, and then for vectors as well.
const REFUSALS: usize = 2;

impl Repair<'_> {
    /// Returns how many documents were copied or removed.
    pub async fn run(&self) -> Result<usize, RepairError> {
        let Some(view) = self.index.view() else { return Ok(0) };
        if view.record.settings_version == 0 {
            return Err(RepairError::NotNow("the index is still being created".to_owned()));
        }
        let mut outcome = self.attempt(&view).await;
        for _ in 0..REFUSALS {
            let Some(refusal) = outcome.as_ref().err().and_then(Refusal::of) else { break };
            let shards = view.shards_on(self.target.id().as_str());
            outcome = Repair { shards: &shards, ..*self }.make_way(&view, refusal).await;
        }
        outcome
    }

    pub(super) async fn attempt(&self, view: &IndexView) -> Result<usize, RepairError> {
        // What the node holds may be all there is: nothing is done to it while there is nothing to make up for that.
        if self.ways(view, self.shards, Compare::ByWrite).is_empty() {
            return Err(RepairError::NotNow("no active replica to copy from can be reached".to_owned()));
        }
        self.prepare(view).await?;
        self.tell("comparing");
        let compare = self.comparison(view).await?;
        let (mut copied, mut seen) = self.copy_in_rounds(view, compare, SMALL_DIFFERENCE).await?;
        let documents_per_shard = view.record.next_position / u64::from(view.record.shards.max(1)) + 1;
        let at_once = (DOCUMENTS_AT_ONCE / documents_per_shard).max(1) as usize;
        let ways = self.ways(view, self.shards, compare);
        let within_reach: Vec<ShardId> = ways.into_iter().flat_map(|way| way.shards).collect();
        for shards in within_reach.chunks(at_once) {
            self.wait_until_idle(view).await?;
            copied += hold(self.cluster, self.index, self.finish(view, shards, compare, &mut seen)).await?;
        }
        match self.shards.len() - within_reach.len() {
            0 => Ok(copied),
            left => Err(RepairError::NotNow(format!("of {left} shards no active replica can be reached"))),
        }
    }

    pub(super) fn tell(&self, what: &str) {
        tracing::debug!(index = %self.index.uid, node = %self.target.id(), what, "repairing");
        self.report.doing(format!("index `{}` on node `{}`: {what}", self.index.uid, self.target.id()));
    }

    /// How stale replicas are compared: by content where some task failed on the node, because what it did after that
    /// was done to other documents than elsewhere.
    pub(super) async fn comparison(&self, view: &IndexView) -> Result<Compare, RepairError> {
        let uid = &view.record.node_uid;
        let key = activated_key(uid, self.target.id().as_str());
        let since = self.cluster.store.meta(&key).await?.and_then(|task| task.parse().ok());
        let has_failed = failed_since(self.target, uid, since).await?;
        Ok(if has_failed { Compare::ByContent } else { Compare::ByWrite })
    }

    /// Whether these replicas of the same index are still to be repaired. One of the same name may have been made
    /// since, with its replicas active: then nothing of this may go on.
    pub(super) fn still_wanted(&self, view: &IndexView, shards: &[ShardId]) -> bool {
        let target = self.target.id().as_str();
        self.index.view().is_some_and(|now| {
            is_same(&now, view) && shards.iter().all(|shard| now.replica_state(*shard, target).needs_repair())
        })
    }

    /// The index as it is now, if these replicas of it are still to be repaired.
    pub(super) fn now(&self, begun: &IndexView) -> Result<Arc<IndexView>, RepairError> {
        let now = self.index.view().filter(|_| self.still_wanted(begun, self.shards));
        now.ok_or_else(|| RepairError::NotNow("the replicas have changed meanwhile".to_owned()))
    }

    /// Copies what is missing or old, while writes go on, until that is fewer documents than `least` in every part: a
    /// small difference can wait for the last round. What is too much is left: a page may have been missed. Returns how
    /// many documents it copied, and what it found if that may still hold.
    pub(super) async fn copy_in_rounds(
        &self,
        view: &IndexView,
        compare: Compare,
        least: usize,
    ) -> Result<(usize, Option<Seen>), RepairError> {
        let (mut copied, mut seen) = (0, None);
        for _ in 0..ROUNDS {
            let round;
            (round, seen) = self.copy_meanwhile(view, compare, least).await?;
            copied += round;
            if round == 0 {
                break;
            }
        }
        Ok((copied, seen))
    }

    /// One such round.
    async fn copy_meanwhile(
        &self,
        view: &IndexView,
        compare: Compare,
        least: usize,
    ) -> Result<(usize, Option<Seen>), RepairError> {
        let mut copied = 0;
        let (generation, downs) = (self.index.generation(), self.cluster.downs(view));
        // In this order: a task that comes in between is a newer one.
        let newest = newest(self.target, Some(&view.record.node_uid)).await?;
        let mut was_idle = is_idle(self.target, &view.record.node_uid).await?;
        let mut seen = Seen { generation, newest, downs, parts: Vec::new() };
        for part in parts(view, &self.ways(view, self.shards, compare)) {
            let lack = self.difference(view, &part).await?;
            let missing = &lack.0;
            if missing.len() >= least {
                note_disorder(self.cluster, self.index, self.target).await?;
                let copy = Copy { index: view, target: self.target };
                let mut progress = self.progress(missing.len());
                let go_on = |documents| {
                    progress(documents);
                    self.still_wanted(view, self.shards)
                };
                let copying = copy.copy(missing, go_on).await;
                self.disavow(view).await?;
                copy.wait(&copying?).await?;
                copied += missing.len();
            } else {
                seen.parts.push((part, lack));
            }
        }
        // Of a source as well: what it was about to do would be missed.
        for source in sources_of(&seen.parts) {
            was_idle = was_idle && is_idle(source, &view.record.node_uid).await?;
        }
        Ok((copied, (copied == 0 && was_idle).then_some(seen)))
    }

    /// What was sent last may have reached another index of the same name, made meanwhile: then its replicas on the
    /// target may hold anything.
    pub(super) async fn disavow(&self, begun: &IndexView) -> Result<(), RepairError> {
        let Some(now) = self.index.view().filter(|now| !is_same(now, begun)) else { return Ok(()) };
        if now.record.node_uid != begun.record.node_uid {
            return Err(RepairError::NotNow("the index has another name by now".to_owned()));
        }
        let reason = "documents of an earlier index of this name may have come in between";
        let doubtful = replicas_of(&now, self.target.id().as_str(), ReplicaState::Joining, reason);
        self.cluster.put_aside(self.index, doubtful).await?;
        Err(RepairError::NotNow("the index was made anew meanwhile".to_owned()))
    }

    /// The last difference of some shards. The index's queue is held.
    async fn finish(
        &self,
        begun: &IndexView,
        shards: &[ShardId],
        compare: Compare,
        seen: &mut Option<Seen>,
    ) -> Result<usize, RepairError> {
        let downs = self.cluster.downs(begun);
        let Some(view) = self.index.view() else { return Ok(0) };
        if !self.still_wanted(begun, shards) {
            return Err(RepairError::NotNow("the replicas have changed meanwhile".to_owned()));
        }
        self.tell("preparing the node");
        let (uid, name) = (view.record.node_uid.as_str(), self.target.id().as_str());
        // In this order: a task that comes in between is a newer one.
        let before = newest(self.target, Some(uid)).await?;
        wait_until_idle(self.target, uid, DRAIN_LIMIT).await?;
        if compare == Compare::ByWrite && self.comparison(&view).await? != Compare::ByWrite {
            return Err(RepairError::NotNow("a task failed on the node meanwhile".to_owned()));
        }
        let ensured = ensure_index(self.cluster, self.target, &view).await?;
        note_disorder(self.cluster, self.index, self.target).await?;
        let copy = Copy { index: &view, target: self.target };
        let mut own: BTreeSet<u64> = ensured.tasks.iter().copied().collect();
        let strays = strays_of(&view, self.target, |all| all).await?;
        let tasks = copy.remove(&strays).await?;
        copy.wait(&tasks).await?;
        own.extend(tasks);
        self.tell("last difference");
        let ways = self.ways(&view, shards, compare);
        let mut changed = strays.len();
        // A page is missed only where documents are deleted meanwhile, which no write did then either.
        let mut seen = (seen.as_mut())
            .filter(|seen| seen.generation == self.index.generation() && seen.newest == before)
            .filter(|seen| seen.downs == downs && seen.holds_after(&ensured));
        for part in parts(&view, &ways) {
            let (to_copy, to_remove) = match seen.as_mut().and_then(|seen| seen.take(&part)) {
                Some(lack) => lack,
                None => self.difference(&view, &part).await?,
            };
            self.tell("copying and removing");
            let mut progress = self.progress(to_copy.len());
            let go_on = |documents| {
                progress(documents);
                true
            };
            let (mut tasks, removals) =
                futures_util::future::try_join(copy.copy(&to_copy, go_on), copy.remove(&to_remove)).await?;
            tasks.extend(removals);
            // Before the next part is compared: a document may have moved from one to the other.
            copy.wait(&tasks).await?;
            own.extend(tasks);
            changed += to_copy.len() + to_remove.len();
        }
        let repaired: Vec<ShardId> = ways.into_iter().flat_map(|way| way.shards).collect();
        if repaired.is_empty() {
            return Err(RepairError::NotNow("no active replica to copy from can be reached".to_owned()));
        }
        // A write that Miroir gave up on long ago may still have been on its way to the node.
        let seen = tasks_since(self.target, uid, before, own.len() + 1).await?;
        if seen.iter().any(|task| !own.contains(task)) {
            return Err(RepairError::NotNow("somebody else wrote to the node meanwhile".to_owned()));
        }
        self.cluster.note_newest_task(self.target).await.map_err(RepairError::NotNow)?;
        if !self.cluster.activate(self.index, name, &repaired, downs).await? {
            // What was compared with and what was copied may be of two disks.
            return Err(RepairError::NotNow("a node went down meanwhile".to_owned()));
        }
        let last = own.last().copied().or(before).map_or(String::new(), |task| task.to_string());
        self.cluster.store.put_meta(&activated_key(uid, name), &last).await?;
        Ok(changed)
    }

    /// Compares a part.
    pub(super) async fn difference(&self, view: &IndexView, part: &Part) -> Result<Lack, NodeError> {
        let copy = Copy { index: view, target: self.target };
        let (mut to_copy, mut to_remove) = (Vec::new(), Vec::new());
        for (source, compare, selection) in part {
            let difference = copy.difference(source, selection, *compare).await?;
            let wanted =
                difference.to_copy.into_iter().map(|(position, id)| (position, (Arc::clone(source), id)));
            to_copy.extend(wanted);
            to_remove.extend(difference.to_remove);
        }
        // One that is somewhere it does not belong is replaced as a whole, wherever it was.
        let copied: HashSet<&str> = to_copy.iter().map(|(_, (_, id))| id.as_str()).collect();
        to_remove.retain(|id: &String| !copied.contains(id.as_str()));
        to_copy.sort_by_key(|(position, _)| *position);
        Ok((to_copy.into_iter().map(|(_, wanted)| wanted).collect(), to_remove))
    }

    /// Whether everything that the node is to hold of the index can be copied.
    pub(super) fn is_complete_elsewhere(&self, view: &IndexView) -> bool {
        let shards = view.shards_on(self.target.id().as_str());
        let ways = self.ways(view, &shards, Compare::ByWrite);
        ways.iter().map(|way| way.shards.len()).sum::<usize>() == shards.len()
    }

    /// The shards that have an active replica within reach, by where and how they are copied.
    pub(super) fn ways(&self, view: &IndexView, shards: &[ShardId], of_stale: Compare) -> Vec<Way> {
        let target = self.target.id().as_str();
        let mut by_way: BTreeMap<(&str, bool), Vec<ShardId>> = BTreeMap::new();
        for shard in shards {
            let nodes =
                view.record.placement.get(usize::from(shard.0)).map(Vec::as_slice).unwrap_or_default();
            let mut sources = (nodes.iter())
                .filter(|node| *node != target && view.replica_state(*shard, node).is_readable())
                .filter(|node| self.cluster.fleet.get(node).is_some_and(|node| node.health().is_up()));
            let is_doubtful = view.replica_state(*shard, target).is_doubtful();
            if let Some(source) = sources.next() {
                by_way.entry((source, is_doubtful)).or_default().push(*shard);
            }
        }
        let way = |((source, is_doubtful), shards): ((&str, bool), Vec<ShardId>)| {
            let compare = if is_doubtful { Compare::ByContent } else { of_stale };
            Some(Way { source: Arc::clone(self.cluster.fleet.get(source)?), shards, compare })
        };
        by_way.into_iter().filter_map(way).collect()
    }

    /// Tells how far a copy is, and when it will likely be done.
    fn progress(&self, total: usize) -> impl FnMut(usize) {
        let (begun, mut done) = (Instant::now(), 0);
        let what = format!("index `{}` on node `{}`", self.index.uid, self.target.id());
        let report = self.report.clone();
        move |documents| {
            done += documents;
            let left = begun.elapsed().as_secs_f64() * (total - done.min(total)) as f64 / done.max(1) as f64;
            report.doing(format!("{what}: {done} of {total} documents copied, about {left:.0} s left"));
        }
    }
}

/// The nodes that were compared with.
fn sources_of(parts: &[(Part, Lack)]) -> Vec<&Node> {
    let mut sources: Vec<&Node> =
        parts.iter().flat_map(|(part, _)| part).map(|(source, ..)| source.as_ref()).collect();
    sources.sort_by_key(|source| source.id());
    sources.dedup_by_key(|source| source.id());
    sources
}

/// Everything to compare, in parts that fit into memory.
pub(super) fn parts(view: &IndexView, ways: &[Way]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for way in ways {
        for (place, selection) in
            Selection::in_order(&way.shards, view.record.next_position).into_iter().enumerate()
        {
            if parts.len() <= place {
                parts.push(Part::new());
            }
            if let Some(part) = parts.get_mut(place) {
                part.push((Arc::clone(&way.source), way.compare, selection));
            }
        }
    }
    parts
}
