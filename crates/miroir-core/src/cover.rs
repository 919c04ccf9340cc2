//! Which nodes one search asks, and for which shards: a cover takes each shard from exactly one replica.
//!
//! Asking fewer nodes is cheaper than asking them for equal numbers of shards, so a cover uses the fewest
//! nodes possible. A node asked for all it holds of the index needs no shard filter, which saves it about a
//! tenth of its time, so shards that several chosen nodes hold are dealt out to leave as many nodes as possible
//! without a filter. All equally good covers are listed; the caller rotates through them to spread the load.

use std::collections::BTreeSet;

use crate::shard::ShardId;

/// What one node is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoverPart {
    /// The node.
    pub node: usize,
    /// The shards to take from it, ascending, at least one.
    pub shards: Vec<ShardId>,
    /// Whether the node holds nothing of the index but these shards, so that no filter is needed.
    pub whole: bool,
}

/// The choice, for one search, of one replica per shard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cover {
    /// The nodes to ask, ascending.
    pub parts: Vec<CoverPart>,
    /// The shards that no readable replica holds, ascending.
    pub missing: Vec<ShardId>,
}

/// Up to this many nodes every choice of nodes is tried; above, a greedy search is good enough.
const EXACT_NODES: usize = 12;

/// All covers with the fewest nodes, at least one and at most `limit`, in an order that depends on nothing else.
///
/// `readable[shard]` lists the nodes with a readable replica, `held[shard]` those with a replica in any state,
/// `group_of[node]` the node's group. Among equally small choices of nodes, those inside one group are kept
/// when there are any. Above 12 nodes, the smallest cover inside one group is taken when there is one, and
/// "fewest" is as good as a greedy search finds.
pub fn minimal_covers(
    readable: &[Vec<usize>],
    held: &[Vec<usize>],
    group_of: &[usize],
    limit: usize,
) -> Vec<Cover> {
    let fleet = Fleet::new(readable, held, group_of);
    let limit = limit.max(1);
    let choices = spread(fleet.smallest_choices(), limit);
    let covers = choices.iter().flat_map(|choice| fleet.covers_with(choice)).collect();
    spread(covers, limit)
}

/// The same for the wanted shards only: a node that holds no other of these is asked without a filter, because what
/// it holds besides cannot match.
pub fn narrowed_covers(
    readable: &[Vec<usize>],
    held: &[Vec<usize>],
    group_of: &[usize],
    limit: usize,
    wanted: &BTreeSet<ShardId>,
) -> Vec<Cover> {
    let only_wanted = |holders: &[Vec<usize>]| -> Vec<Vec<usize>> {
        let of_shard = |(shard, nodes): (usize, &Vec<usize>)| match wanted.contains(&shard_id(shard)) {
            true => nodes.clone(),
            false => Vec::new(),
        };
        holders.iter().enumerate().map(of_shard).collect()
    };
    let mut covers = minimal_covers(&only_wanted(readable), &only_wanted(held), group_of, limit);
    for cover in &mut covers {
        cover.missing.retain(|shard| wanted.contains(shard));
    }
    covers
}

/// At most `limit` of the items, evenly spaced, so that no node is favoured by a cut list.
fn spread<T>(items: Vec<T>, limit: usize) -> Vec<T> {
    let count = items.len();
    if count <= limit {
        return items;
    }
    let kept: BTreeSet<usize> = (0..limit).map(|slot| slot * count / limit).collect();
    items.into_iter().enumerate().filter(|(at, _)| kept.contains(at)).map(|(_, item)| item).collect()
}

/// The replicas of one index, seen from the nodes.
struct Fleet<'a> {
    readable: &'a [Vec<usize>],
    group_of: &'a [usize],
    /// Per node, the shards it can be read for.
    readable_on: Vec<BTreeSet<usize>>,
    /// Per node, whether it can be read for all it holds.
    all_readable: Vec<bool>,
    /// Nodes that can be read for something, ascending.
    candidates: Vec<usize>,
    /// The different sets of nodes that shards can be read from: what a choice of nodes has to meet.
    distinct_holders: Vec<BTreeSet<usize>>,
    missing: Vec<ShardId>,
}

impl<'a> Fleet<'a> {
    fn new(readable: &'a [Vec<usize>], held: &'a [Vec<usize>], group_of: &'a [usize]) -> Self {
        let node_count = readable.iter().chain(held).flatten().max().map_or(0, |last| last + 1);
        let mut readable_on = vec![BTreeSet::new(); node_count];
        for (shard, holders) in readable.iter().enumerate() {
            for node in holders {
                readable_on[*node].insert(shard);
            }
        }
        let mut all_readable = vec![true; node_count];
        for (shard, holders) in held.iter().enumerate() {
            for node in holders {
                all_readable[*node] &= readable_on[*node].contains(&shard);
            }
        }
        let distinct_holders: BTreeSet<BTreeSet<usize>> = readable
            .iter()
            .filter(|holders| !holders.is_empty())
            .map(|holders| holders.iter().copied().collect())
            .collect();
        Self {
            readable,
            group_of,
            candidates: (0..node_count).filter(|node| !readable_on[*node].is_empty()).collect(),
            readable_on,
            all_readable,
            distinct_holders: distinct_holders.into_iter().collect(),
            missing: (0..readable.len()).filter(|s| readable[*s].is_empty()).map(shard_id).collect(),
        }
    }

    fn group(&self, node: usize) -> usize {
        self.group_of.get(node).copied().unwrap_or(0)
    }

    /// The smallest sets of nodes from which everything readable can be read.
    fn smallest_choices(&self) -> Vec<Vec<usize>> {
        if self.candidates.len() <= EXACT_NODES {
            let choices = self.smallest_choices_exactly(&self.candidates);
            let inside_one_group: Vec<Vec<usize>> = choices
                .iter()
                .filter(|choice| choice.windows(2).all(|pair| self.group(pair[0]) == self.group(pair[1])))
                .cloned()
                .collect();
            return if inside_one_group.is_empty() { choices } else { inside_one_group };
        }
        let groups: BTreeSet<usize> = self.candidates.iter().map(|node| self.group(*node)).collect();
        let mut choices: Vec<Vec<usize>> = Vec::new();
        for group in groups {
            let nodes: Vec<usize> =
                self.candidates.iter().copied().filter(|node| self.group(*node) == group).collect();
            if self.is_covered_by(&nodes) {
                choices.extend(if nodes.len() <= EXACT_NODES {
                    self.smallest_choices_exactly(&nodes)
                } else {
                    self.small_choices_greedily(&nodes)
                });
            }
        }
        if choices.is_empty() {
            choices = self.small_choices_greedily(&self.candidates);
        }
        keep_smallest(choices)
    }

    fn is_covered_by(&self, nodes: &[usize]) -> bool {
        self.distinct_holders.iter().all(|holders| nodes.iter().any(|node| holders.contains(node)))
    }

    /// Tries all subsets of `nodes`, which are few and cover everything, the smallest first.
    fn smallest_choices_exactly(&self, nodes: &[usize]) -> Vec<Vec<usize>> {
        let to_meet: Vec<u32> = self
            .distinct_holders
            .iter()
            .map(|holders| {
                (0..nodes.len()).filter(|bit| holders.contains(&nodes[*bit])).map(|bit| 1 << bit).sum()
            })
            .collect();
        for size in 0..=nodes.len() {
            let choices: Vec<Vec<usize>> = (0u32..1 << nodes.len())
                .filter(|mask| mask.count_ones() as usize == size)
                .filter(|mask| to_meet.iter().all(|holders| holders & mask != 0))
                .map(|mask| {
                    (0..nodes.len()).filter(|bit| mask >> bit & 1 == 1).map(|bit| nodes[bit]).collect()
                })
                .collect();
            if !choices.is_empty() {
                return choices;
            }
        }
        Vec::new()
    }

    /// From each node in turn, adds the node that covers most of what is left; then drops what is not needed.
    fn small_choices_greedily(&self, nodes: &[usize]) -> Vec<Vec<usize>> {
        let mut choices = Vec::new();
        for first in 0..nodes.len() {
            let from_first: Vec<usize> = nodes[first..].iter().chain(&nodes[..first]).copied().collect();
            let mut chosen: Vec<usize> = from_first.iter().take(1).copied().collect();
            loop {
                let left: Vec<&BTreeSet<usize>> = self
                    .distinct_holders
                    .iter()
                    .filter(|holders| !chosen.iter().any(|node| holders.contains(node)))
                    .collect();
                let gain = |node: usize| left.iter().filter(|holders| holders.contains(&node)).count();
                // `rev`, because the last of equal maxima is taken and the first is wanted.
                let best = from_first.iter().rev().copied().max_by_key(|node| gain(*node));
                match best {
                    Some(node) if gain(node) > 0 => chosen.push(node),
                    _ => break,
                }
            }
            for node in chosen.clone() {
                let rest: Vec<usize> = chosen.iter().copied().filter(|other| *other != node).collect();
                if self.is_covered_by(&rest) {
                    chosen = rest;
                }
            }
            chosen.sort_unstable();
            choices.push(chosen);
        }
        keep_smallest(choices)
    }

    /// The covers that use exactly these nodes and filter on the fewest of them.
    fn covers_with(&self, chosen: &[usize]) -> Vec<Cover> {
        self.unfiltered_choices(chosen).iter().map(|unfiltered| self.deal(chosen, unfiltered)).collect()
    }

    /// The largest sets of chosen nodes that can all be asked for everything they hold: no shard in common.
    fn unfiltered_choices(&self, chosen: &[usize]) -> Vec<Vec<usize>> {
        let eligible: Vec<usize> = chosen.iter().copied().filter(|node| self.all_readable[*node]).collect();
        let compatible =
            |left: usize, right: usize| self.readable_on[left].is_disjoint(&self.readable_on[right]);
        if eligible.len() > EXACT_NODES {
            let mut unfiltered: Vec<usize> = Vec::new();
            for node in eligible {
                if unfiltered.iter().all(|other| compatible(*other, node)) {
                    unfiltered.push(node);
                }
            }
            return vec![unfiltered];
        }
        let conflicts: Vec<u32> = eligible
            .iter()
            .map(|node| {
                (0..eligible.len())
                    .filter(|bit| eligible[*bit] != *node && !compatible(*node, eligible[*bit]))
                    .map(|bit| 1 << bit)
                    .sum()
            })
            .collect();
        let members = |mask: u32| (0..eligible.len()).filter(move |bit| mask >> bit & 1 == 1);
        let sets: Vec<u32> = (0u32..1 << eligible.len())
            .filter(|mask| members(*mask).all(|bit| conflicts[bit] & mask == 0))
            .collect();
        let largest = sets.iter().map(|mask| mask.count_ones()).max().unwrap_or(0);
        sets.into_iter()
            .filter(|mask| mask.count_ones() == largest)
            .map(|mask| members(mask).map(|bit| eligible[bit]).collect())
            .collect()
    }

    /// Deals the shards out: an unfiltered node gets all it holds, the others share the rest evenly.
    fn deal(&self, chosen: &[usize], unfiltered: &[usize]) -> Cover {
        let mut dealt: Vec<Vec<usize>> = vec![Vec::new(); chosen.len()];
        let mut open: Vec<(usize, Vec<usize>)> = Vec::new();
        for (shard, holders) in self.readable.iter().enumerate() {
            let on: Vec<usize> = (0..chosen.len()).filter(|at| holders.contains(&chosen[*at])).collect();
            match on.iter().find(|at| unfiltered.contains(&chosen[**at])) {
                Some(at) => dealt[*at].push(shard),
                None if on.is_empty() => {}
                None => open.push((shard, on)),
            }
        }
        // Shards with one possible node first, so that the even share takes them into account.
        open.sort_by_key(|(shard, on)| (on.len(), *shard));
        for (shard, on) in open {
            if let Some(at) = on.into_iter().min_by_key(|at| dealt[*at].len()) {
                dealt[at].push(shard);
            }
        }
        let parts = chosen
            .iter()
            .zip(dealt)
            .filter(|(_, shards)| !shards.is_empty())
            .map(|(node, mut shards)| {
                shards.sort_unstable();
                CoverPart {
                    node: *node,
                    whole: self.all_readable[*node] && shards.len() == self.readable_on[*node].len(),
                    shards: shards.into_iter().map(shard_id).collect(),
                }
            })
            .collect();
        Cover { parts, missing: self.missing.clone() }
    }
}

fn keep_smallest(mut choices: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    let smallest = choices.iter().map(Vec::len).min().unwrap_or(0);
    choices.retain(|choice| choice.len() == smallest);
    choices.sort_unstable();
    choices.dedup();
    choices
}

/// An index has at most 65,535 shards, so its positions fit.
fn shard_id(position: usize) -> ShardId {
    ShardId(u16::try_from(position).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::placement::{Member, place_in_groups};

    const LIMIT: usize = 64;

    fn numbers(shards: &[ShardId]) -> Vec<u16> {
        shards.iter().map(|shard| shard.0).collect()
    }

    #[test]
    fn nodes_without_overlap_are_all_asked_without_a_filter() {
        let readable = vec![vec![0], vec![1], vec![0], vec![2]];
        let covers = minimal_covers(&readable, &readable, &[0; 3], LIMIT);
        assert_eq!(covers.len(), 1);
        let parts: Vec<(usize, Vec<u16>, bool)> =
            covers[0].parts.iter().map(|part| (part.node, numbers(&part.shards), part.whole)).collect();
        assert_eq!(parts, [(0, vec![0, 2], true), (1, vec![1], true), (2, vec![3], true)]);
    }

    #[test]
    fn two_copies_over_three_nodes_need_two_nodes_and_one_filter() {
        let ids = ["a", "b", "c"];
        let members: Vec<Member<'_>> = ids.iter().map(|id| Member { id, group: 0 }).collect();
        let readable = place_in_groups("movies", 64, &members, 2);
        let covers = minimal_covers(&readable, &readable, &[0; 3], LIMIT);
        // Three pairs of nodes, and in each pair either one may go without a filter.
        assert_eq!(covers.len(), 6);
        for cover in &covers {
            assert_eq!((cover.parts.len(), cover.parts.iter().filter(|p| p.whole).count()), (2, 1));
        }
    }

    #[test]
    fn an_unreadable_replica_forces_the_filter() {
        let cover = &minimal_covers(&[vec![0], vec![1]], &[vec![0, 1], vec![1]], &[0, 0], LIMIT)[0];
        assert_eq!(cover.parts.iter().map(|part| part.whole).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn one_group_is_preferred_to_a_mixture() {
        // Groups {0, 1} and {2, 3}, both split alike: four pairs cover, two of them inside a group.
        let readable = vec![vec![0, 2], vec![1, 3]];
        let chosen: Vec<Vec<usize>> = minimal_covers(&readable, &readable, &[0, 0, 1, 1], LIMIT)
            .iter()
            .map(|cover| cover.parts.iter().map(|part| part.node).collect())
            .collect();
        assert_eq!(chosen, [[0, 1], [2, 3]]);
    }

    #[test]
    fn what_is_missing_is_said() {
        let readable = vec![vec![0], vec![], vec![0], vec![]];
        let held = vec![vec![0], vec![1], vec![0], vec![]];
        let covers = minimal_covers(&readable, &held, &[0, 0], LIMIT);
        assert_eq!(covers.len(), 1);
        assert_eq!(numbers(&covers[0].missing), [1, 3]);
        assert_eq!(numbers(&covers[0].parts[0].shards), [0, 2]);
        let nothing = minimal_covers(&[vec![]], &[vec![3]], &[0], LIMIT);
        assert_eq!(nothing, [Cover { parts: vec![], missing: vec![ShardId(0)] }]);
    }

    #[test]
    fn only_what_is_wanted_is_asked_for() {
        let readable = vec![vec![0, 1], vec![1], vec![2], vec![]];
        let narrowed = |wanted: &[u16]| {
            let wanted = wanted.iter().map(|shard| ShardId(*shard)).collect();
            narrowed_covers(&readable, &readable, &[0; 3], LIMIT, &wanted)
        };
        let one = narrowed(&[0]);
        assert_eq!(one.iter().map(|cover| cover.parts[0].node).collect::<Vec<_>>(), [0, 1]);
        assert!(one.iter().all(|cover| cover.parts.len() == 1 && cover.parts[0].whole));
        assert!(one.iter().all(|cover| cover.missing.is_empty()));
        assert_eq!(numbers(&narrowed(&[0, 1])[0].parts[0].shards), [0, 1]);
        assert_eq!(numbers(&narrowed(&[2, 3])[0].missing), [3]);
        // Of the wanted shards it holds one that it may not be read for.
        let stale = narrowed_covers(
            &[vec![0], vec![1]],
            &[vec![0, 1], vec![1]],
            &[0, 0],
            LIMIT,
            &[ShardId(0), ShardId(1)].into(),
        );
        assert_eq!(stale[0].parts.iter().map(|part| part.whole).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_copy_on_every_node_lets_each_answer_alone() {
        for node_count in 1..20 {
            let readable = vec![(0..node_count).collect::<Vec<_>>(); 7];
            let covers = minimal_covers(&readable, &readable, &vec![0; node_count], LIMIT);
            let alone: Vec<usize> = covers.iter().map(|cover| cover.parts[0].node).collect();
            assert_eq!(alone, (0..node_count).collect::<Vec<_>>());
            assert!(covers.iter().all(|cover| cover.parts.len() == 1 && cover.parts[0].whole));
        }
    }

    #[test]
    fn a_cut_list_keeps_every_node_in_use() {
        let ids: Vec<String> = (0..12).map(|number| format!("meili-{number}")).collect();
        let members: Vec<Member<'_>> = ids.iter().map(|id| Member { id, group: 0 }).collect();
        let readable = place_in_groups("movies", 64, &members, 6);
        let covers = minimal_covers(&readable, &readable, &[0; 12], 16);
        assert_eq!(covers.len(), 16);
        let used: BTreeSet<usize> = covers.iter().flat_map(|c| c.parts.iter().map(|p| p.node)).collect();
        assert!(used.len() >= 10, "{used:?}");
    }

    /// Per shard: the nodes that hold it, and which of them can be read.
    fn replicas(nodes: usize) -> impl Strategy<Value = Vec<Vec<(usize, bool)>>> {
        let holders = prop::collection::btree_map(0..nodes, prop::bool::weighted(0.85), 0..5.min(nodes + 1));
        prop::collection::vec(holders.prop_map(|held| held.into_iter().collect()), 1..24)
    }

    fn check_each_shard_once(covers: &[Cover], readable: &[Vec<usize>], held: &[Vec<usize>]) {
        assert!(!covers.is_empty() && covers.len() <= LIMIT);
        for cover in covers {
            let mut seen: Vec<u16> = numbers(&cover.missing);
            for shard in &seen {
                assert!(readable[usize::from(*shard)].is_empty());
            }
            for part in &cover.parts {
                assert!(!part.shards.is_empty());
                for shard in &part.shards {
                    assert!(readable[usize::from(shard.0)].contains(&part.node));
                }
                let held_there = held.iter().filter(|holders| holders.contains(&part.node)).count();
                assert_eq!(part.whole, held_there == part.shards.len());
                seen.extend(numbers(&part.shards));
            }
            seen.sort_unstable();
            let all: Vec<u16> = (0..u16::try_from(readable.len()).unwrap()).collect();
            assert_eq!(seen, all);
        }
    }

    fn split(replicas: &[Vec<(usize, bool)>]) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
        let held = replicas.iter().map(|shard| shard.iter().map(|(node, _)| *node).collect()).collect();
        let readable = replicas
            .iter()
            .map(|shard| shard.iter().filter(|(_, readable)| *readable).map(|(node, _)| *node).collect())
            .collect();
        (readable, held)
    }

    /// The fewest nodes, by trying every assignment of shards to nodes one shard at a time.
    fn fewest_nodes(readable: &[Vec<usize>], chosen: &BTreeSet<usize>, best: usize) -> usize {
        if chosen.len() >= best {
            return best;
        }
        let open = readable.iter().find(|on| !on.is_empty() && !on.iter().any(|node| chosen.contains(node)));
        let Some(open) = open else { return chosen.len() };
        open.iter().fold(best, |best, node| {
            let mut with = chosen.clone();
            with.insert(*node);
            fewest_nodes(readable, &with, best)
        })
    }

    /// How many of the nodes of a cover could be asked for all they hold at once, by trying all sets of them.
    fn most_unfiltered(cover: &Cover, readable: &[Vec<usize>], held: &[Vec<usize>]) -> usize {
        let is_possible = |set: u32| {
            let asked = |node| cover.parts.iter().position(|part| part.node == node);
            let in_set = |node: &&usize| asked(**node).is_some_and(|part| set >> part & 1 == 1);
            held.iter().zip(readable).all(|(held, readable)| {
                let takers: Vec<&usize> = held.iter().filter(in_set).collect();
                takers.len() <= 1 && takers.iter().all(|node| readable.contains(node))
            })
        };
        let sets = 0u32..1 << cover.parts.len();
        sets.filter(|set| is_possible(*set)).map(|set| set.count_ones() as usize).max().unwrap_or(0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn every_readable_shard_is_asked_once_of_the_fewest_nodes(replicas in replicas(8)) {
            let (readable, held) = split(&replicas);
            let covers = minimal_covers(&readable, &held, &[0, 0, 0, 0, 1, 1, 1, 1], LIMIT);
            check_each_shard_once(&covers, &readable, &held);
            let fewest = fewest_nodes(&readable, &BTreeSet::new(), usize::MAX);
            prop_assert!(covers.iter().all(|cover| cover.parts.len() == fewest));
            for (at, cover) in covers.iter().enumerate() {
                prop_assert!(!covers[..at].contains(cover), "listed twice");
                let whole = cover.parts.iter().filter(|part| part.whole).count();
                prop_assert_eq!(whole, most_unfiltered(cover, &readable, &held));
            }
        }

        #[test]
        fn large_fleets_are_covered_too(replicas in replicas(40)) {
            let (readable, held) = split(&replicas);
            let group_of: Vec<usize> = (0..40).map(|node| node / 14).collect();
            let covers = minimal_covers(&readable, &held, &group_of, LIMIT);
            check_each_shard_once(&covers, &readable, &held);
        }
    }
}
