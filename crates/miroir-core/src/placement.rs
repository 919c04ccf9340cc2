//! Which nodes hold which shard: rendezvous hashing with bounded load.
//!
//! Every (index, shard, node) has a score, and a shard prefers the nodes that score highest for it, as in
//! plain rendezvous hashing. Plain rendezvous leaves nodes 20 % above the mean with 64 shards, so each node
//! has a cap, and all caps together are exactly what is to be placed: loads differ by one at most.
//!
//! A bound that tight cannot be kept cheaply by a function of the node list alone: one node more shifts every
//! cap and cascades. So a change starts from the placement in force ([`rebalance`]): what may stay stays, and
//! only when no free place suits a shard is another shard displaced, along the cheapest chain of moves
//! (shortest augmenting path in the flow from shards to nodes). The outcome moves the fewest replicas that
//! such balance allows.

use std::collections::BTreeSet;

use xxhash_rust::xxh3::xxh3_64;

/// A node as placement sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// Identifier of the node, unique in the cluster.
    pub id: &'a str,
    /// The replica group it belongs to; each group holds all shards.
    pub group: u32,
}

/// Places the shards of a new index inside one group: per shard, positions in `nodes`, best score first.
///
/// The order of `nodes` does not matter. With fewer nodes than `replication_factor`, each node gets a copy.
pub fn place(index_uid: &str, shards: u16, nodes: &[&str], replication_factor: usize) -> Vec<Vec<usize>> {
    rebalance(index_uid, &vec![Vec::new(); usize::from(shards)], nodes, replication_factor)
}

/// Adapts a placement to another list of nodes, moving as little as balance allows.
///
/// `current` holds, per shard, positions in the new `nodes`; nodes that are gone are simply left out of it.
pub fn rebalance(
    index_uid: &str,
    current: &[Vec<usize>],
    nodes: &[&str],
    replication_factor: usize,
) -> Vec<Vec<usize>> {
    if nodes.is_empty() {
        return vec![Vec::new(); current.len()];
    }
    // Work in the order of the ids, so that ties do not depend on how the configuration lists the nodes.
    let mut by_id: Vec<usize> = (0..nodes.len()).collect();
    by_id.sort_by_key(|position| nodes[*position]);
    let mut rank = vec![0; nodes.len()];
    for (sorted, original) in by_id.iter().enumerate() {
        rank[*original] = sorted;
    }
    let sorted_ids: Vec<&str> = by_id.iter().map(|original| nodes[*original]).collect();
    let sorted_current: Vec<BTreeSet<usize>> = current
        .iter()
        .map(|holders| holders.iter().filter_map(|original| rank.get(*original).copied()).collect())
        .collect();

    let plan = Plan::new(index_uid, &sorted_ids, sorted_current, replication_factor).solve();
    plan.into_iter().map(|holders| holders.into_iter().map(|sorted| by_id[sorted]).collect()).collect()
}

/// Places the shards of a new index in every group: per shard, positions in `members`, group by group.
pub fn place_in_groups(
    index_uid: &str,
    shards: u16,
    members: &[Member<'_>],
    replication_factor: usize,
) -> Vec<Vec<usize>> {
    rebalance_groups(index_uid, &vec![Vec::new(); usize::from(shards)], members, replication_factor)
}

/// [`rebalance`] in every group; `current` holds positions in `members`.
pub fn rebalance_groups(
    index_uid: &str,
    current: &[Vec<usize>],
    members: &[Member<'_>],
    replication_factor: usize,
) -> Vec<Vec<usize>> {
    let groups: BTreeSet<u32> = members.iter().map(|member| member.group).collect();
    let mut placement = vec![Vec::new(); current.len()];
    for group in groups {
        let positions: Vec<usize> =
            (0..members.len()).filter(|position| members[*position].group == group).collect();
        let ids: Vec<&str> = positions.iter().map(|position| members[*position].id).collect();
        let current_in_group: Vec<Vec<usize>> = current
            .iter()
            .map(|holders| {
                holders.iter().filter_map(|holder| positions.iter().position(|p| p == holder)).collect()
            })
            .collect();
        let placed = rebalance(index_uid, &current_in_group, &ids, replication_factor);
        for (all, in_group) in placement.iter_mut().zip(placed) {
            all.extend(in_group.into_iter().map(|position| positions[position]));
        }
    }
    placement
}

/// How many replicas `to` puts on a node that did not have them in `from`.
pub fn moved_replicas(from: &[Vec<usize>], to: &[Vec<usize>]) -> usize {
    to.iter()
        .enumerate()
        .map(|(shard, holders)| {
            let before = from.get(shard).map_or(&[][..], Vec::as_slice);
            holders.iter().filter(|holder| !before.contains(holder)).count()
        })
        .sum()
}

/// The score of a node for a shard of an index: higher is preferred.
fn score(index_uid: &str, shard: usize, node_id: &str) -> u64 {
    let mut key = Vec::with_capacity(index_uid.len() + node_id.len() + 9);
    key.extend_from_slice(index_uid.as_bytes());
    // Neither an index uid nor a node id holds a zero byte, so two different triples never make one key.
    key.push(0);
    key.extend_from_slice(&(shard as u64).to_le_bytes());
    key.extend_from_slice(node_id.as_bytes());
    xxh3_64(&key)
}

/// One group being solved. Nodes are numbered in the order of their ids.
struct Plan {
    replication_factor: usize,
    /// `scores[shard][node]`.
    scores: Vec<Vec<u64>>,
    /// What each shard has now; keeping it is free.
    current: Vec<BTreeSet<usize>>,
    /// What each shard will have.
    placed: Vec<BTreeSet<usize>>,
    load: Vec<usize>,
    cap: Vec<usize>,
}

impl Plan {
    fn new(
        index_uid: &str,
        node_ids: &[&str],
        current: Vec<BTreeSet<usize>>,
        replication_factor: usize,
    ) -> Self {
        let node_count = node_ids.len();
        let shard_count = current.len();
        let replication_factor = replication_factor.clamp(1, node_count);
        let scores: Vec<Vec<u64>> = (0..shard_count)
            .map(|shard| node_ids.iter().map(|id| score(index_uid, shard, id)).collect())
            .collect();

        let mut current_load = vec![0usize; node_count];
        for node in current.iter().flatten() {
            current_load[*node] += 1;
        }
        // Everybody holds the mean rounded down; the remainder goes, one each, to those that hold most now.
        let total = shard_count * replication_factor;
        let mut cap = vec![total / node_count; node_count];
        let mut fullest_first: Vec<usize> = (0..node_count).collect();
        fullest_first.sort_by_key(|node| {
            (std::cmp::Reverse(current_load[*node]), score(index_uid, shard_count, node_ids[*node]))
        });
        for node in fullest_first.into_iter().take(total % node_count) {
            cap[node] += 1;
        }

        let placed = vec![BTreeSet::new(); shard_count];
        Self { replication_factor, scores, current, placed, load: vec![0; node_count], cap }
    }

    fn solve(mut self) -> Vec<Vec<usize>> {
        self.drop_surplus_copies();
        self.fill_in_order_of_score(true);
        self.fill_in_order_of_score(false);
        for shard in 0..self.placed.len() {
            while self.placed[shard].len() < self.replication_factor && self.displace_for(shard) {}
        }
        let scores = self.scores;
        self.placed
            .into_iter()
            .enumerate()
            .map(|(shard, holders)| {
                let mut holders: Vec<usize> = holders.into_iter().collect();
                holders.sort_by_key(|node| std::cmp::Reverse(scores[shard][*node]));
                holders
            })
            .collect()
    }

    /// When the replication factor went down: gives up the copies on the fullest nodes.
    fn drop_surplus_copies(&mut self) {
        let mut load = vec![0usize; self.cap.len()];
        for node in self.current.iter().flatten() {
            load[*node] += 1;
        }
        for holders in &mut self.current {
            while holders.len() > self.replication_factor {
                let Some(fullest) = holders.iter().copied().max_by_key(|node| load[*node]) else { break };
                holders.remove(&fullest);
                load[fullest] -= 1;
            }
        }
    }

    /// Takes the best-scoring (shard, node) pairs that fit: those in force already, or all others.
    fn fill_in_order_of_score(&mut self, in_force: bool) {
        let mut pairs: Vec<(u64, usize, usize)> = Vec::new();
        for (shard, scores) in self.scores.iter().enumerate() {
            for (node, score) in scores.iter().enumerate() {
                if self.current[shard].contains(&node) == in_force {
                    pairs.push((*score, shard, node));
                }
            }
        }
        pairs.sort_unstable_by(|left, right| right.cmp(left));
        for (_, shard, node) in pairs {
            if self.placed[shard].len() < self.replication_factor && self.load[node] < self.cap[node] {
                self.put(shard, node);
            }
        }
    }

    fn put(&mut self, shard: usize, node: usize) {
        if self.placed[shard].insert(node) {
            self.load[node] += 1;
        }
    }

    fn take(&mut self, shard: usize, node: usize) {
        if self.placed[shard].remove(&node) {
            self.load[node] -= 1;
        }
    }

    /// 1 when putting this shard on this node means copying it there.
    fn cost(&self, shard: usize, node: usize) -> i64 {
        i64::from(!self.current[shard].contains(&node))
    }

    /// Makes room for one more copy of `shard` by a cheapest chain of moves that ends on a node with a free
    /// place. `false` when there is none, which cannot be while there are as many nodes as copies.
    fn displace_for(&mut self, shard: usize) -> bool {
        let node_count = self.cap.len();
        // cheapest_hop[a][b]: the shard on `a` that costs least to move to `b`.
        let mut cheapest_hop: Vec<Vec<Option<(i64, usize)>>> = vec![vec![None; node_count]; node_count];
        for (moved, holders) in self.placed.iter().enumerate() {
            for from in holders {
                for to in (0..node_count).filter(|to| !holders.contains(to)) {
                    let hop = (self.cost(moved, to) - self.cost(moved, *from), moved);
                    let best = &mut cheapest_hop[*from][to];
                    if best.is_none_or(|known| hop < known) {
                        *best = Some(hop);
                    }
                }
            }
        }

        // Bellman-Ford, because giving back a place that had to be copied to has a negative cost.
        let mut reached: Vec<Option<(i64, Option<usize>)>> = (0..node_count)
            .map(|node| (!self.placed[shard].contains(&node)).then(|| (self.cost(shard, node), None)))
            .collect();
        for _ in 0..node_count {
            let mut improved = false;
            for from in 0..node_count {
                let Some((cost_so_far, _)) = reached[from] else { continue };
                for to in 0..node_count {
                    let Some((hop_cost, _)) = cheapest_hop[from][to] else { continue };
                    if reached[to].is_none_or(|(known, _)| cost_so_far + hop_cost < known) {
                        reached[to] = Some((cost_so_far + hop_cost, Some(from)));
                        improved = true;
                    }
                }
            }
            if !improved {
                break;
            }
        }

        let cheapest_free = (0..node_count)
            .filter(|node| self.load[*node] < self.cap[*node])
            .filter_map(|node| reached[node].map(|(cost, _)| (cost, node)))
            .min();
        let Some((_, mut node)) = cheapest_free else { return false };
        // A cheapest chain passes each node once: the placement so far is always the cheapest for what it
        // holds, so no cycle of moves makes it cheaper.
        for _ in 0..node_count {
            let Some((_, Some(from))) = reached[node] else { break };
            let Some((_, moved)) = cheapest_hop[from][node] else { return false };
            self.take(moved, from);
            self.put(moved, node);
            node = from;
        }
        self.put(shard, node);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("meili-{number}")).collect()
    }

    fn refs(ids: &[String]) -> Vec<&str> {
        ids.iter().map(String::as_str).collect()
    }

    /// Checks what every placement must be, and gives the loads.
    fn check(placement: &[Vec<usize>], node_count: usize, replication_factor: usize) -> Vec<usize> {
        let mut load = vec![0usize; node_count];
        let copies = replication_factor.min(node_count);
        for holders in placement {
            let distinct: BTreeSet<usize> = holders.iter().copied().collect();
            assert_eq!((holders.len(), distinct.len()), (copies, copies), "{placement:?}");
            for node in holders {
                load[*node] += 1;
            }
        }
        let total = placement.len() * copies;
        for node_load in &load {
            assert!((total / node_count..=total.div_ceil(node_count)).contains(node_load), "{load:?}");
        }
        load
    }

    /// Removes one node: positions after it shift down by one.
    fn without(placement: &[Vec<usize>], gone: usize) -> Vec<Vec<usize>> {
        placement
            .iter()
            .map(|holders| {
                holders.iter().filter(|n| **n != gone).map(|n| if *n > gone { *n - 1 } else { *n }).collect()
            })
            .collect()
    }

    #[test]
    fn two_indexes_are_not_placed_alike() {
        let ids = ids(5);
        assert_ne!(place("movies", 64, &refs(&ids), 2), place("books", 64, &refs(&ids), 2));
    }

    #[test]
    fn nothing_to_place_on_places_nothing() {
        assert_eq!(place("movies", 2, &[], 2), vec![Vec::<usize>::new(); 2]);
    }

    #[test]
    fn each_group_holds_every_shard() {
        let members: Vec<Member<'_>> = ["a", "b", "c", "d", "e"]
            .iter()
            .zip([7, 2, 7, 2, 7])
            .map(|(id, group)| Member { id, group })
            .collect();
        for holders in place_in_groups("movies", 37, &members, 2) {
            let groups: Vec<u32> = holders.iter().map(|node| members[*node].group).collect();
            assert_eq!(groups, [2, 2, 7, 7]);
        }
    }

    #[test]
    fn losing_a_copy_of_everything_keeps_the_rest() {
        let ids = ids(5);
        let three = place("movies", 64, &refs(&ids), 3);
        let two = rebalance("movies", &three, &refs(&ids), 2);
        check(&two, 5, 2);
        assert!(moved_replicas(&three, &two) <= 2, "{}", moved_replicas(&three, &two));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn placement_is_even_and_independent_of_the_order_of_nodes(
            shards in 1u16..200, node_count in 1usize..14, replication_factor in 1usize..5,
        ) {
            let ids = ids(node_count);
            let placement = place("movies", shards, &refs(&ids), replication_factor);
            check(&placement, node_count, replication_factor);

            let reversed: Vec<&str> = refs(&ids).into_iter().rev().collect();
            let mirrored: Vec<Vec<usize>> = place("movies", shards, &reversed, replication_factor)
                .into_iter()
                .map(|holders| holders.into_iter().map(|node| node_count - 1 - node).collect())
                .collect();
            prop_assert_eq!(placement, mirrored);
        }

        #[test]
        fn adding_a_node_moves_only_its_share(
            shards in 1u16..200, node_count in 1usize..13, replication_factor in 1usize..5,
        ) {
            let ids = ids(node_count + 1);
            let before = place("movies", shards, &refs(&ids[..node_count]), replication_factor);
            let after = rebalance("movies", &before, &refs(&ids), replication_factor);
            let load = check(&after, node_count + 1, replication_factor);
            prop_assert!(moved_replicas(&before, &after) <= unavoidable(load[node_count]));
        }

        #[test]
        fn removing_a_node_moves_only_what_it_held(
            shards in 1u16..200, node_count in 2usize..14, replication_factor in 1usize..5, gone: prop::sample::Index,
        ) {
            let mut ids = ids(node_count);
            let before = place("movies", shards, &refs(&ids), replication_factor);
            let load = check(&before, node_count, replication_factor);
            let gone = gone.index(node_count);
            ids.remove(gone);
            let before = without(&before, gone);
            let after = rebalance("movies", &before, &refs(&ids), replication_factor);
            check(&after, node_count - 1, replication_factor);
            prop_assert!(moved_replicas(&before, &after) <= unavoidable(load[gone]));
        }

        #[test]
        fn a_long_history_keeps_the_bounds(
            shards in 16u16..130, replication_factor in 1usize..4,
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..12),
        ) {
            let mut ids = ids(4);
            let mut next_id = 4;
            let mut placement = place("movies", shards, &refs(&ids), replication_factor);
            for (add, which) in steps {
                let (before, share) = if add || ids.len() == 3 {
                    ids.push(format!("meili-{next_id}"));
                    next_id += 1;
                    (placement, None)
                } else {
                    let gone = which.index(ids.len());
                    let held = placement.iter().flatten().filter(|node| **node == gone).count();
                    ids.remove(gone);
                    (without(&placement, gone), Some(held))
                };
                let after = rebalance("movies", &before, &refs(&ids), replication_factor);
                let load = check(&after, ids.len(), replication_factor);
                let least = share.unwrap_or(load[ids.len() - 1]);
                prop_assert!(moved_replicas(&before, &after) <= unavoidable(least));
                placement = after;
            }
        }
    }

    /// The bound the design allows: 1.25 times the least that has to move.
    fn unavoidable(least: usize) -> usize {
        (least * 5).div_ceil(4)
    }
}
