//! How many hits to ask each node for.
//!
//! Any of the best hits may be on any node, so to be sure, every node would have to be asked for all of them. But
//! documents are spread by a hash: of the best `n`, a node that answers for a share `p` of the shards holds about
//! `n * p`, binomially distributed. Asking for three standard deviations more than that makes a page of 20 over
//! three nodes cost each node 13 hits, and fails less than once in a hundred searches. Failing is noticed, never
//! guessed: a node whose hits were all taken while it may have more has said too little, and then all nodes are
//! asked for everything.

/// Standard deviations above the expected number of hits.
const MARGIN: f64 = 3.0;

/// How far down a node's list to ask.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Depth {
    /// As far as the answer could possibly reach.
    Whole,
    /// As far as it most likely does for a node that answers for this share of the index, from 0 to 1.
    Likely {
        /// The part of all shards that the node answers for.
        share: f64,
    },
}

impl Depth {
    /// How many of the best `reach` hits to ask a node for.
    pub(super) fn hits(self, reach: usize) -> usize {
        let Depth::Likely { share } = self else { return reach };
        let expected = reach as f64 * share;
        let deviation = (expected * (1.0 - share)).max(0.0).sqrt();
        // At least one more than expected of very few: an empty list tells nothing.
        let likely = (expected + MARGIN * deviation).ceil() as usize;
        likely.max(1).min(reach)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_asked_for_its_share_and_a_margin() {
        let hits = |share, reach| Depth::Likely { share }.hits(reach);
        assert_eq!((hits(1.0 / 3.0, 20), hits(0.2, 20), hits(1.0 / 3.0, 1_000)), (13, 10, 379));
        assert_eq!((hits(0.5, 1), hits(0.1, 2), hits(1.0, 20), hits(0.01, 0)), (1, 2, 20, 0));
        assert_eq!(Depth::Whole.hits(20), 20);
    }
}
