//! One order out of several: hits of all nodes, best first.
//!
//! Every node's list is in order already, so the best of the lists' heads comes next, and only as many hits are
//! taken, and have their details read, as are needed.

use super::details::{Details, Rule};
use super::hits::{Answer, RawHit};
use super::scan::Malformed;

/// A hit with its ranking read.
#[derive(Debug, Clone)]
pub(super) struct RankedHit<'a> {
    pub(super) hit: RawHit<'a>,
    pub(super) details: Details<'a>,
}

impl<'a> RankedHit<'a> {
    pub(super) fn read(hit: &RawHit<'a>) -> Result<Self, Malformed> {
        Ok(Self { hit: *hit, details: hit.parse_details()? })
    }

    /// The place a rule outside of ranking gave to this hit.
    fn pinned_at(&self) -> Option<usize> {
        match self.details.rules.first() {
            Some(Rule::Pin(position)) => usize::try_from(*position).ok(),
            _ => None,
        }
    }

    pub(super) fn is_semantic(&self) -> bool {
        self.details.rules.iter().any(|rule| matches!(rule, Rule::Vector(_)))
    }
}

/// Draws hits from several lists, each best first, in the order of all.
pub(super) struct BestFirst<'a, 'h> {
    lists: Vec<std::slice::Iter<'h, RawHit<'a>>>,
    heads: Vec<Option<RankedHit<'a>>>,
    accepts: fn(&RankedHit<'a>) -> bool,
    /// Hits with a fixed place, in order of place; they take no part in ranking.
    pinned: Vec<(usize, RankedHit<'a>)>,
}

impl<'a, 'h> BestFirst<'a, 'h> {
    /// Over the hits of these answers that are accepted.
    pub(super) fn new(
        answers: &'h [Answer<'a>],
        accepts: fn(&RankedHit<'a>) -> bool,
    ) -> Result<Self, Malformed> {
        let lists: Vec<_> = answers.iter().map(|answer| answer.hits.iter()).collect();
        let mut merged = Self { heads: vec![None; lists.len()], lists, accepts, pinned: Vec::new() };
        for index in 0..merged.lists.len() {
            merged.advance(index)?;
        }
        Ok(merged)
    }

    fn advance(&mut self, index: usize) -> Result<(), Malformed> {
        let (Some(list), Some(head)) = (self.lists.get_mut(index), self.heads.get_mut(index)) else {
            return Ok(());
        };
        *head = None;
        for hit in list.by_ref() {
            let hit = RankedHit::read(hit)?;
            if !(self.accepts)(&hit) {
                continue;
            }
            match hit.pinned_at() {
                Some(position) => self.pinned.push((position, hit)),
                None => {
                    *head = Some(hit);
                    break;
                }
            }
        }
        Ok(())
    }

    /// The next best hit. Of equals, the one of the earlier list.
    pub(super) fn next(&mut self) -> Result<Option<RankedHit<'a>>, Malformed> {
        let mut best: Option<(usize, &RankedHit)> = None;
        for (index, head) in self.heads.iter().enumerate() {
            let Some(head) = head else { continue };
            if best.is_none_or(|(_, best)| head.details.compare(&best.details).is_lt()) {
                best = Some((index, head));
            }
        }
        let Some((index, _)) = best else { return Ok(None) };
        let hit = self.heads.get_mut(index).and_then(Option::take);
        self.advance(index)?;
        Ok(hit)
    }

    /// The hits with a fixed place met so far, by place.
    pub(super) fn into_pinned(self) -> Vec<(usize, RankedHit<'a>)> {
        let mut pinned = self.pinned;
        pinned.sort_by_key(|(position, _)| *position);
        pinned
    }
}

/// Puts hits with a fixed place at it, or after the last ranked hit where there are too few.
pub(super) fn place_pinned<T>(ranked: Vec<T>, pinned: Vec<(usize, T)>) -> Vec<T> {
    if pinned.is_empty() {
        return ranked;
    }
    let mut placed = Vec::with_capacity(ranked.len() + pinned.len());
    let mut ranked = ranked.into_iter();
    for (position, hit) in pinned {
        while placed.len() < position {
            let Some(next) = ranked.next() else { break };
            placed.push(next);
        }
        placed.push(hit);
    }
    placed.extend(ranked);
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_hits_take_their_places() {
        assert_eq!(
            place_pinned(vec!["a", "b"], vec![(0, "p"), (2, "q"), (9, "r")]),
            ["p", "a", "q", "b", "r"]
        );
        assert_eq!(place_pinned(vec!["a"], vec![]), ["a"]);
    }
}
