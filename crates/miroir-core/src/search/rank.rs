//! One order out of several: hits of all nodes, best first.
//!
//! Every node's list is in order already, so the best of the lists' heads comes next, and only as many hits are
//! taken, and have their details read, as are needed. Of hits that no rule tells apart, the one inserted first
//! comes first, as in one Meilisearch.

use std::cmp::Ordering;

use super::details::{Details, Rule};
use super::hits::{Answer, RawHit};
use super::scan::{Malformed, unsigned};

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

    /// `Less` when this hit comes before the other.
    fn compare(&self, other: &Self) -> Ordering {
        self.details.compare(&other.details).then_with(|| {
            match (self.hit.inserted_at, other.hit.inserted_at) {
                (Some(left), Some(right)) => left.cmp(right),
                _ => Ordering::Equal,
            }
        })
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

/// One node's hits, best first.
struct List<'a, 'h> {
    hits: std::slice::Iter<'h, RawHit<'a>>,
    /// The node was asked for fewer hits than are wanted and may have more.
    may_go_on: bool,
}

impl<'a, 'h> List<'a, 'h> {
    fn new(answer: &'h Answer<'a>, reach: usize) -> Self {
        let asked_for = answer.member("limit").or_else(|| answer.member("hitsPerPage")).and_then(unsigned);
        let asked_for = asked_for.and_then(|hits| usize::try_from(hits).ok()).unwrap_or(reach);
        let may_go_on = asked_for > 0 && asked_for < reach && answer.hits.len() >= asked_for;
        Self { hits: answer.hits.iter(), may_go_on }
    }
}

/// Draws hits from several lists, each best first, in the order of all.
pub(super) struct BestFirst<'a, 'h> {
    lists: Vec<List<'a, 'h>>,
    heads: Vec<Option<RankedHit<'a>>>,
    accepts: fn(&RankedHit<'a>) -> bool,
    /// Hits with a fixed place, in order of place; they take no part in ranking.
    pinned: Vec<(usize, RankedHit<'a>)>,
}

impl<'a, 'h> BestFirst<'a, 'h> {
    /// Over the hits of these answers that are accepted, of which `reach` are wanted at most.
    pub(super) fn new(
        answers: &'h [Answer<'a>],
        accepts: fn(&RankedHit<'a>) -> bool,
        reach: usize,
    ) -> Result<Self, Malformed> {
        let lists: Vec<List> = answers.iter().map(|answer| List::new(answer, reach)).collect();
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
        for hit in list.hits.by_ref() {
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

    /// Whether a list is at its end that may go on on its node, so that the next best hit cannot be told.
    pub(super) fn ran_dry(&self) -> bool {
        self.lists.iter().zip(&self.heads).any(|(list, head)| head.is_none() && list.may_go_on)
    }

    /// The next best hit. Of equals, the one of the earlier list.
    pub(super) fn next(&mut self) -> Result<Option<RankedHit<'a>>, Malformed> {
        let mut best: Option<(usize, &RankedHit)> = None;
        for (index, head) in self.heads.iter().enumerate() {
            let Some(head) = head else { continue };
            if best.is_none_or(|(_, best)| head.compare(best).is_lt()) {
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
    fn the_last_tie_goes_to_the_first_inserted() {
        let hit = |place: &str| {
            format!(
                r#"{{"_miroir_inserted_at":"{place}","_rankingScoreDetails":{{"a":{{"order":0,"score":0.5}}}}}}"#
            )
        };
        let answers = [vec!["!)", "%!"], vec!["!%", "!'"]].map(|places| {
            format!(r#"{{"hits":[{}]}}"#, places.into_iter().map(hit).collect::<Vec<_>>().join(","))
        });
        let answers: Vec<Answer> =
            answers.iter().map(|answer| Answer::parse(answer.as_bytes()).unwrap()).collect();
        let mut best_first = BestFirst::new(&answers, |_| true, 4).unwrap();
        let mut places = Vec::new();
        while let Some(ranked) = best_first.next().unwrap() {
            places.push(ranked.hit.inserted_at.unwrap());
        }
        assert_eq!(places, [b"!%", b"!'", b"!)", b"%!"]);
    }

    #[test]
    fn pinned_hits_take_their_places() {
        assert_eq!(
            place_pinned(vec!["a", "b"], vec![(0, "p"), (2, "q"), (9, "r")]),
            ["p", "a", "q", "b", "r"]
        );
        assert_eq!(place_pinned(vec!["a"], vec![]), ["a"]);
    }
}
