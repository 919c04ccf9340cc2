//! Finding the document at an offset of the insertion order by counting, not by listing.
//!
//! Listing up to a far offset costs every node `offset` documents, so that reading a whole index page after
//! page costs the square of its size. Counting the documents before a position is cheap, and positions are
//! nearly evenly used: guessing by proportion finds the position in a few rounds.

/// The search for the smallest position having exactly `target` documents before it.
#[derive(Debug, Clone)]
pub struct OffsetSearch {
    target: u64,
    /// Largest position known to have at most `target` documents before it, and how many.
    low: (u64, u64),
    /// Smallest position known to have more than `target` documents before it, and how many.
    high: (u64, u64),
    rounds: u32,
}

impl OffsetSearch {
    /// Begins the search, given the number of documents and the first position that is free.
    /// `None` when the offset is past the last document: the page is empty.
    pub fn new(target: u64, total: u64, first_free: u64) -> Option<Self> {
        (target < total).then_some(Self { target, low: (0, 0), high: (first_free, total), rounds: 0 })
    }

    /// The position before which to count next, or `None` when the search is over.
    pub fn probe(&self) -> Option<u64> {
        let (low, below_low) = self.low;
        let (high, below_high) = self.high;
        if below_low == self.target || high.saturating_sub(low) <= 1 {
            return None;
        }
        let width = high - low;
        // A guess by proportion, or the middle every other round, so that bad luck costs a logarithm at most.
        let step = if self.rounds.is_multiple_of(2) {
            let share = u128::from(self.target - below_low) * u128::from(width);
            u64::try_from(share / u128::from((below_high - below_low).max(1))).unwrap_or(width / 2)
        } else {
            width / 2
        };
        Some(low + step.clamp(1, width - 1))
    }

    /// Tells how many documents lie before the position last probed.
    pub fn learn(&mut self, position: u64, documents_before: u64) {
        self.rounds += 1;
        if documents_before <= self.target {
            self.low = (position.max(self.low.0), documents_before);
        } else {
            self.high = (position.min(self.high.0), documents_before);
        }
    }

    /// The position from which the page is to be read, once [`Self::probe`] has nothing more to ask.
    pub fn position(&self) -> u64 {
        self.low.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_page_begins_at_the_document_at_the_offset(
            positions in prop::collection::btree_set(0u64..1_000_000, 1..200),
            choice: prop::sample::Index,
        ) {
            let positions: BTreeSet<u64> = positions;
            let offset = choice.index(positions.len());
            let first_free = positions.last().unwrap() + 1;
            let mut search = OffsetSearch::new(offset as u64, positions.len() as u64, first_free).unwrap();
            let mut rounds = 0;
            while let Some(position) = search.probe() {
                search.learn(position, positions.range(..position).count() as u64);
                rounds += 1;
                prop_assert!(rounds <= 45);
            }
            let found = positions.range(search.position()..).next();
            prop_assert_eq!(found, positions.iter().nth(offset));
        }
    }

    #[test]
    fn dense_positions_are_found_at_once_and_the_end_is_known() {
        let mut search = OffsetSearch::new(600_000, 1_000_000, 1_000_000).unwrap();
        let guess = search.probe().unwrap();
        search.learn(guess, guess);
        assert_eq!((search.probe(), search.position()), (None, 600_000));
        assert!(OffsetSearch::new(10, 10, 50).is_none());
    }
}
