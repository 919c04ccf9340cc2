//! Interleaving keyword and semantic hits as Meilisearch does, over the hits of all nodes.
//!
//! Each kind's score is weighted by the semantic ratio and the two ordered lists are merged, the semantic hit
//! first on a tie, each document once. When keyword hits alone fill the page and are all good enough, semantic
//! ones are not looked at.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::details::Rule;
use super::rank::RankedHit;
use super::score::{Maxima, Rescaled, rescaled_run_score};

/// A keyword score times its weight from which a hit is good enough not to look for semantic ones.
const GOOD_ENOUGH_SCORE: f64 = 0.45;

/// One step of the comparison between hits of different kinds.
#[derive(Debug, Clone, Copy)]
enum Step<'d> {
    /// A weighted score: of a run of ranking rules, or a similarity.
    Score(f64),
    /// A sort, compared by its own order.
    Sort(&'d Rule<'d>),
}

/// A hit, its kind, and its score on the common scale.
pub(super) struct HybridHit<'a> {
    pub(super) ranked: RankedHit<'a>,
    pub(super) is_semantic: bool,
    pub(super) score: f64,
    /// The maxima of the common scale, where the node's are others.
    rescaled: Option<Rescaled>,
}

impl<'a> HybridHit<'a> {
    pub(super) fn new(ranked: RankedHit<'a>, is_semantic: bool, maxima: &Maxima) -> Self {
        let score = common_score(&ranked, maxima).unwrap_or(1.0);
        let rescaled = maxima.rescale(&ranked.details);
        Self { ranked, is_semantic, score, rescaled }
    }

    /// A run of ranks is one step.
    fn steps(&self) -> Vec<Step<'_>> {
        let rules: Vec<(usize, &Rule)> = self.ranked.details.rules.iter().enumerate().collect();
        let runs = rules.chunk_by(|(_, left), (_, right)| is_rank(left) && is_rank(right));
        // The first of them is what is called the hit's score. It cannot be worked out from the details, which do not
        // tell of all rules how many ranks there are; of those that follow, they have to do.
        let mut first = Some(self.score);
        runs.map(|run| match run {
            [(_, rule)] if is_sort(rule) => Step::Sort(rule),
            [(_, Rule::Vector(similarity))] => {
                first = None;
                Step::Score(similarity.unwrap_or_default())
            }
            run => {
                let worked_out = || rescaled_run_score(run.iter().copied(), self.rescaled.as_ref());
                Step::Score(first.take().or_else(worked_out).unwrap_or(self.score))
            }
        })
        .collect()
    }
}

fn is_sort(rule: &Rule) -> bool {
    matches!(rule, Rule::Sort { .. } | Rule::Geo { .. })
}

fn is_rank(rule: &Rule) -> bool {
    !is_sort(rule) && !matches!(rule, Rule::Vector(_))
}

/// A hit's score on the scale common to all nodes.
pub(super) fn common_score(ranked: &RankedHit, maxima: &Maxima) -> Option<f64> {
    let node_score = ranked.hit.score?;
    let rescaled = maxima.rescale(&ranked.details);
    Some(
        rescaled
            .and_then(|rescaled| rescaled.global_score(&ranked.details, node_score))
            .unwrap_or(node_score),
    )
}

/// Whether keyword hits alone make the page.
pub(super) fn are_good_enough(keyword: &[HybridHit], wanted: usize, semantic_ratio: f32) -> bool {
    let weight = f64::from(1.0 - semantic_ratio);
    // Not the other way round: a score that is not a number is no reason to look further.
    keyword.len() >= wanted && !keyword.iter().any(|hit| hit.score * weight < GOOD_ENOUGH_SCORE)
}

/// Merges the two lists, best first, each document once.
pub(super) fn interleave<'a>(
    semantic: Vec<HybridHit<'a>>,
    keyword: Vec<HybridHit<'a>>,
    semantic_ratio: f32,
) -> Vec<HybridHit<'a>> {
    let (semantic_weight, keyword_weight) = (f64::from(semantic_ratio), f64::from(1.0 - semantic_ratio));
    let mut merged = Vec::with_capacity(semantic.len() + keyword.len());
    let mut seen = HashSet::new();
    let mut semantic = semantic.into_iter().peekable();
    let mut keyword = keyword.into_iter().peekable();
    loop {
        let next = match (semantic.peek(), keyword.peek()) {
            (Some(left), Some(right)) => {
                let order = compare(&left.steps(), semantic_weight, &right.steps(), keyword_weight);
                if order.is_ge() { semantic.next() } else { keyword.next() }
            }
            (Some(_), None) => semantic.next(),
            (None, _) => keyword.next(),
        };
        let Some(hit) = next else { return merged };
        let is_new = hit.ranked.hit.inserted_at.is_none_or(|document| seen.insert(document));
        if is_new {
            merged.push(hit);
        }
    }
}

/// `Greater` when the left hit is better.
fn compare(left: &[Step], left_weight: f64, right: &[Step], right_weight: f64) -> Ordering {
    let (mut left, mut right) = (left.iter(), right.iter());
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(Step::Score(left)), Some(Step::Score(right))) => {
                let (left, right) = (left * left_weight, right * right_weight);
                if (left - right).abs() > f64::EPSILON {
                    return left.partial_cmp(&right).unwrap_or(Ordering::Equal);
                }
            }
            (Some(Step::Sort(left)), Some(Step::Sort(right))) => {
                // Rules order hits by place, where the better is less.
                let order = left.compare(right).reverse();
                if order.is_ne() {
                    return order;
                }
            }
            (Some(Step::Score(score)), Some(Step::Sort(_))) => {
                return if *score == 0.0 { Ordering::Less } else { Ordering::Greater };
            }
            (Some(Step::Sort(_)), Some(Step::Score(score))) => {
                return if *score == 0.0 { Ordering::Greater } else { Ordering::Less };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::details::Details;
    use super::super::hits::RawHit;
    use super::*;

    fn hit(document: &'static str, score: f64, is_semantic: bool) -> HybridHit<'static> {
        let rule = if is_semantic { Rule::Vector(Some(score)) } else { Rule::Score(score) };
        let details = Details { rules: vec![rule] };
        let inserted_at = Some(document.as_bytes());
        let hit = RawHit { raw: b"{}", details: None, score: Some(score), inserted_at };
        HybridHit::new(RankedHit { hit, details }, is_semantic, &Maxima::default())
    }

    fn order(semantic: &[(&'static str, f64)], keyword: &[(&'static str, f64)], ratio: f32) -> String {
        let list = |hits: &[(&'static str, f64)], is_semantic| {
            hits.iter().map(|(document, score)| hit(document, *score, is_semantic)).collect()
        };
        let merged = interleave(list(semantic, true), list(keyword, false), ratio);
        let name = |hit: HybridHit| {
            let name = String::from_utf8_lossy(hit.ranked.hit.inserted_at.unwrap()).into_owned();
            if hit.is_semantic { name.to_uppercase() } else { name }
        };
        merged.into_iter().map(name).collect()
    }

    #[test]
    fn weighted_scores_interleave_and_documents_appear_once() {
        let semantic = [("a", 0.9), ("b", 0.8), ("c", 0.1)];
        let keyword = [("b", 0.95), ("d", 0.85), ("a", 0.2)];
        assert_eq!(order(&semantic, &keyword, 0.5), "bAdC");
        assert_eq!(order(&semantic, &keyword, 0.9), "ABCd");
        assert_eq!(order(&semantic, &keyword, 0.1), "bdaC");
    }

    #[test]
    fn a_tie_goes_to_the_semantic_hit() {
        assert_eq!(order(&[("a", 0.5)], &[("b", 0.5)], 0.5), "Ab");
    }

    #[test]
    fn a_hit_without_a_vector_comes_after_any_keyword_hit() {
        assert_eq!(order(&[("a", 0.9), ("x", 0.0)], &[("b", 0.01)], 0.5), "AbX");
    }

    #[test]
    fn good_keyword_hits_suffice_only_if_there_are_enough() {
        let keyword = [hit("a", 0.95, false), hit("b", 0.9, false)];
        assert!(are_good_enough(&keyword, 2, 0.5));
        assert!(!are_good_enough(&keyword, 3, 0.5));
        assert!(!are_good_enough(&keyword, 2, 0.6));
        assert!(are_good_enough(&[], 0, 0.9));
    }
}
