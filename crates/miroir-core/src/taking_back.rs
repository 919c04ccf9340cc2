//! What becomes of the writes of one index some of which are to be canceled, once their nodes were told to cancel all of
//! them.
//!
//! A write is done by all nodes concerned or by none, but each node decides on its own whether it can still cancel its
//! part. A node carries out the writes of an index in their order, so what it did comes before what it canceled. Hence:
//! the last write that any node did is the last that all must do, and what comes after it has been done by nobody. Of
//! the first, the nodes that canceled them are sent them again; of the others, those that were not meant to be canceled
//! are sent again whole. Either way nothing that comes later has been done where a write is sent.

use std::collections::BTreeSet;

/// A write that can be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentWrite {
    /// Its task.
    pub uid: u64,
    /// The tasks that it became: the node, the uid there, and whether the node canceled it. One that has not ended, or of
    /// which nothing is known, may yet be done.
    pub parts: Vec<(String, u64, bool)>,
}

/// What becomes of writes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Nobody did anything of these, and nobody will.
    pub canceled: Vec<u64>,
    /// These must be sent again, in this order, but not to these nodes, which did them, or may have, or may yet.
    pub send_again: Vec<(u64, BTreeSet<String>)>,
}

/// Decides what becomes of `writes`, which are in their order, with no other write of their index between or after
/// them. `wanted` are those that are to be canceled.
pub fn decide(writes: &[SentWrite], wanted: &BTreeSet<u64>) -> Decision {
    let mut decision = Decision::default();
    let is_taken_back = |write: &SentWrite| write.parts.iter().all(|(_, _, is_canceled)| *is_canceled);
    let last_done = writes.iter().rposition(|write| !is_taken_back(write));
    for (place, write) in writes.iter().enumerate() {
        let nodes = |canceled: bool| {
            let parts = write.parts.iter().filter(move |(_, _, is_canceled)| *is_canceled == canceled);
            parts.map(|(node, ..)| node.as_str()).collect::<BTreeSet<&str>>()
        };
        // A node that canceled a part needs the whole again.
        let lacking = nodes(true);
        let having = nodes(false).into_iter().filter(|node| !lacking.contains(node)).map(str::to_owned);
        let must_be_done = last_done.is_some_and(|last| place <= last);
        if must_be_done && lacking.is_empty() {
            continue;
        }
        if must_be_done || !wanted.contains(&write.uid) {
            decision.send_again.push((write.uid, having.collect()));
        } else {
            decision.canceled.push(write.uid);
        }
    }
    decision
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NODES: [&str; 3] = ["a", "b", "c"];

    proptest! {
        /// Nodes hold some of the writes each, have done the first few of theirs, and tell of it or not.
        #[test]
        fn every_write_is_done_by_all_or_by_nobody_and_in_order(
            holders in prop::collection::vec(1_usize..8, 1..8),
            done in prop::array::uniform3(0_usize..6),
            silent in prop::array::uniform3(prop::bool::weighted(0.1)),
            wanted in prop::collection::btree_set(0_u64..8, 0..8),
        ) {
            let holds = |holders: usize, node: usize| holders & (1 << node) != 0;
            let mut writes: Vec<SentWrite> =
                (0..holders.len()).map(|uid| SentWrite { uid: uid as u64, parts: Vec::new() }).collect();
            // What each node did, or may have done.
            let mut did: [Vec<u64>; 3] = Default::default();
            for node in 0..3 {
                let mine = (0..writes.len()).filter(|uid| holds(holders[*uid], node));
                for (place, uid) in mine.enumerate() {
                    let is_canceled = place >= done[node] && !silent[node];
                    if !is_canceled {
                        did[node].push(uid as u64);
                    }
                    writes[uid].parts.push((NODES[node].to_owned(), uid as u64, is_canceled));
                }
            }
            let decision = decide(&writes, &wanted);
            for (uid, kept) in &decision.send_again {
                for node in 0..3 {
                    let is_sent = holds(holders[*uid as usize], node)
                        && !kept.contains(NODES[node]);
                    prop_assert!(
                        !is_sent || did[node].iter().all(|done| done < uid),
                        "node {node} has done something later than what it is sent"
                    );
                    if is_sent {
                        did[node].push(*uid);
                    }
                }
            }
            for (uid, holders) in holders.iter().enumerate() {
                let uid = uid as u64;
                let is_canceled = decision.canceled.contains(&uid);
                prop_assert!(!is_canceled || wanted.contains(&uid));
                for node in (0..3).filter(|node| holds(*holders, *node)) {
                    prop_assert_eq!(did[node].contains(&uid), !is_canceled, "write {} on node {}", uid, node);
                }
            }
        }
    }

    #[test]
    fn what_is_not_wanted_is_sent_again_and_a_node_that_did_a_half_is_sent_the_whole() {
        let write = |uid, parts: &[(&str, bool)]| {
            let part = |(node, is_canceled): &(&str, bool)| ((*node).to_owned(), uid, *is_canceled);
            SentWrite { uid, parts: parts.iter().map(part).collect() }
        };
        let writes =
            [write(1, &[("a", true), ("b", true)]), write(2, &[("a", true)]), write(3, &[("b", true)])];
        let decision = decide(&writes, &BTreeSet::from([1, 3]));
        assert_eq!(decision, Decision { canceled: vec![1, 3], send_again: vec![(2, BTreeSet::new())] });

        let in_two = [("a", false), ("a", true), ("b", false)];
        let decision = decide(&[write(4, &in_two)], &BTreeSet::from([4]));
        let having = BTreeSet::from(["b".to_owned()]);
        assert_eq!(decision, Decision { canceled: vec![], send_again: vec![(4, having)] });
        let half = decide(&[write(5, &in_two[..2])], &BTreeSet::from([5]));
        assert_eq!(half, Decision { canceled: vec![], send_again: vec![(5, BTreeSet::new())] });
    }
}
