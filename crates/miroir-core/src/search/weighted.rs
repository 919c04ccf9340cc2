//! How hits of different queries compare in a federated search.
//!
//! Rules without a sort among them make one score between 0 and 1; sorts and vectors stand alone. Each query has a
//! weight, by which its scores are multiplied, and hits are compared score by score, in their order. Scores are those
//! that one Meilisearch would have given: on the scale of all nodes together.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::details::{Details, Rule, SortValue, compare_sort_values};
use super::score::{Rescaled, rescaled_run_score};

/// What decides the place of a hit among those of other queries.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WeightedScore {
    steps: Vec<Step>,
    /// `weightedRankingScore`.
    pub(super) whole: f64,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Score(f64),
    Vector(f64),
    Sort { ascending: bool, value: SortValue<'static> },
    Geo { ascending: bool, distance: Option<f64> },
}

impl WeightedScore {
    /// Of a hit with these details, on the scale of all nodes, that a node gave this score.
    pub(super) fn new(
        details: &Details,
        rescaled: Option<&Rescaled>,
        node_score: Option<f64>,
        weight: f64,
    ) -> Self {
        let common = rescaled.zip(node_score).and_then(|(new, score)| new.global_score(details, score));
        let whole = common.or(node_score).unwrap_or(1.0);
        let mut steps = Vec::new();
        let mut run: Vec<(usize, &Rule)> = Vec::new();
        // The first score of a hit is what is called its score.
        let mut first = Some(whole);
        let end_run = |run: &mut Vec<(usize, &Rule)>, steps: &mut Vec<Step>, first: &mut Option<f64>| {
            if run.is_empty() {
                return;
            }
            let score = first.take().or_else(|| rescaled_run_score(run.drain(..), rescaled)).unwrap_or(1.0);
            run.clear();
            steps.push(Step::Score(score * weight));
        };
        for (index, rule) in details.rules.iter().enumerate() {
            let step = match rule {
                Rule::Vector(similarity) => Step::Vector(similarity.unwrap_or_default() * weight),
                Rule::Sort { ascending, value } => Step::Sort { ascending: *ascending, value: owned(value) },
                Rule::Geo { ascending, distance } => Step::Geo { ascending: *ascending, distance: *distance },
                Rule::Pin(_) => continue,
                _ => {
                    run.push((index, rule));
                    continue;
                }
            };
            end_run(&mut run, &mut steps, &mut first);
            if matches!(step, Step::Vector(_)) {
                first = None;
            }
            steps.push(step);
        }
        end_run(&mut run, &mut steps, &mut first);
        Self { steps, whole: whole * weight }
    }

    /// Whether the vector of the query had a part in it.
    pub(super) fn is_semantic(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Vector(_)))
    }

    /// `Greater` when this hit comes before the other.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let by_whole = || self.whole.total_cmp(&other.whole);
        let mut left = self.steps.iter();
        let mut right = other.steps.iter();
        loop {
            let (one, two) = match (left.next(), right.next()) {
                (None, None) => return Ordering::Equal,
                (None, Some(_)) => return Ordering::Less,
                (Some(_), None) => return Ordering::Greater,
                (Some(one), Some(two)) => (one, two),
            };
            let verdict = match (one, two) {
                (Step::Score(one) | Step::Vector(one), Step::Score(two) | Step::Vector(two)) => {
                    compare_numbers(*one, *two)
                }
                (Step::Sort { ascending, value: one }, Step::Sort { ascending: other, value: two }) => {
                    if ascending != other {
                        return by_whole();
                    }
                    compare_sort_values(*ascending, one, two).reverse()
                }
                // Nothing but the direction counts here: of two distances the longer one wins in both.
                (Step::Geo { ascending, distance: one }, Step::Geo { ascending: other, distance: two }) => {
                    match (one, two) {
                        _ if ascending != other => Ordering::Equal,
                        (Some(one), Some(two)) => compare_numbers(*one, *two),
                        (one, two) => one.is_some().cmp(&two.is_some()),
                    }
                }
                // Of what cannot be compared, whichever is judged by more comes first.
                _ => return left.len().cmp(&right.len()).then_with(by_whole),
            };
            if verdict.is_ne() {
                return verdict;
            }
        }
    }
}

/// As Meilisearch compares floats: almost equal is equal.
fn compare_numbers(left: f64, right: f64) -> Ordering {
    if (left - right).abs() <= f64::EPSILON { Ordering::Equal } else { left.total_cmp(&right) }
}

fn owned(value: &SortValue) -> SortValue<'static> {
    match value {
        SortValue::Number(number) => SortValue::Number(*number),
        SortValue::Text(text) => SortValue::Text(Cow::Owned(text.clone().into_owned())),
        SortValue::Missing => SortValue::Missing,
    }
}

/// Draws from lists that are each in order, always the best of their heads.
pub(super) fn best_of_heads<T>(
    lists: Vec<Vec<T>>,
    comes_before: impl Fn(&T, &T) -> bool,
) -> impl Iterator<Item = T> {
    let mut lists: Vec<_> = lists.into_iter().map(|list| list.into_iter().peekable()).collect();
    std::iter::from_fn(move || {
        let mut best: Option<(usize, &T)> = None;
        for (index, list) in lists.iter_mut().enumerate() {
            let Some(head) = list.peek() else { continue };
            if best.is_none_or(|(_, best)| comes_before(head, best)) {
                best = Some((index, head));
            }
        }
        let index = best?.0;
        lists.get_mut(index)?.next()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn score(details: &str, whole: f64, weight: f64) -> WeightedScore {
        WeightedScore::new(&Details::parse(details.as_bytes()).unwrap(), None, Some(whole), weight)
    }

    const WORDS: &str = r#"{"words":{"order":0,"matchingWords":1,"maxMatchingWords":2,"score":0.5},
        "typo":{"order":1,"typoCount":1,"maxTypoCount":1,"score":0.5},
        "price:desc":{"order":2,"value":3},
        "exactness":{"order":3,"matchType":"noExactMatch","matchingWords":0,"maxMatchingWords":1,"score":0.16}}"#;

    #[test]
    fn rules_between_sorts_are_one_score() {
        let found = score(WORDS, 0.25, 2.0);
        let sort = Step::Sort { ascending: false, value: SortValue::Number(3.0) };
        assert_eq!(found.steps, [Step::Score(0.5), sort, Step::Score(2.0 / 6.0)]);
        assert_eq!(found.whole, 0.5);
        assert!(!found.is_semantic());
        let vector = score(r#"{"vectorSort":{"order":0,"similarity":0.5}}"#, 0.5, 3.0);
        assert_eq!(vector.steps, [Step::Vector(1.5)]);
        assert!(vector.is_semantic());
    }

    #[test]
    fn weights_decide_and_what_is_almost_equal_is_equal() {
        let one = r#"{"words":{"order":0,"matchingWords":1,"maxMatchingWords":1,"score":1.0}}"#;
        assert_eq!(score(one, 0.5, 1.0).compare(&score(one, 0.5, 2.0)), Ordering::Less);
        assert_eq!(score(one, 0.5, 2.0).compare(&score(one, 1.0, 1.0)), Ordering::Equal);
        assert_eq!(score(one, 1.0, 1.0).compare(&score("{}", 1.0, 1.0)), Ordering::Greater);
    }

    #[test]
    fn sorts_compare_by_value_and_directions_by_score() {
        let sort = |direction: &str, value: &str, whole| {
            score(&format!(r#"{{"a:{direction}":{{"order":0,"value":{value}}}}}"#), whole, 1.0)
        };
        assert_eq!(sort("asc", "1", 1.0).compare(&sort("asc", "2", 1.0)), Ordering::Greater);
        assert_eq!(sort("desc", "1", 1.0).compare(&sort("desc", "2", 1.0)), Ordering::Less);
        assert_eq!(sort("asc", "1", 1.0).compare(&sort("asc", "null", 1.0)), Ordering::Greater);
        assert_eq!(sort("asc", "1", 0.5).compare(&sort("desc", "1", 0.7)), Ordering::Less);
    }

    proptest! {
        #[test]
        fn sorted_lists_make_one_sorted_list(lists in prop::collection::vec(prop::collection::vec(0u8..20, 0..8), 0..5)) {
            let mut all: Vec<u8> = lists.iter().flatten().copied().collect();
            all.sort_unstable();
            let sorted = lists.into_iter().map(|mut list| { list.sort_unstable(); list }).collect();
            let merged: Vec<u8> = best_of_heads(sorted, |left, right| left < right).collect();
            prop_assert_eq!(merged, all);
        }

        #[test]
        fn one_order_from_both_sides(left in 0.0f64..1.0, right in 0.0f64..1.0, value in -2i8..2, other in -2i8..2) {
            let hit = |score_: f64, value: i8| {
                let first = format!(r#""words":{{"order":0,"matchingWords":1,"maxMatchingWords":1,"score":{score_}}}"#);
                score(&format!(r#"{{{first},"a:asc":{{"order":1,"value":{value}}}}}"#), score_, 1.0)
            };
            let (one, two) = (hit(left, value), hit(right, other));
            prop_assert_eq!(one.compare(&two), two.compare(&one).reverse());
        }
    }
}
