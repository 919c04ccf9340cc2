//! Bringing the scores of several nodes to one scale.
//!
//! A score is a rank among as many ranks as are possible, and how many are possible (of matching words, of
//! typos) depends on the words a node knows. One server knowing all words would use the largest of those maxima,
//! so scores are worked out again with it. A score nests one rank per rule, each refining the one before:
//! `((outer - 1) * inner_max + inner) / (outer_max * inner_max)`, and ends in one division of two integers. The
//! integers are recovered from the float, the ranks with a new maximum are replaced, and one division gives the
//! very float that the one server would have computed.

use std::collections::HashMap;

use super::details::{Details, Rule, SortValue};

/// The largest maxima seen, for each set of hits that agree on all rules before.
#[derive(Debug, Default)]
pub(super) struct Maxima {
    by_bucket: HashMap<Vec<u8>, u32>,
}

/// The maxima that one hit's rules should have had; `None` where they are right or there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rescaled {
    maxima: Vec<Option<u32>>,
}

impl Maxima {
    /// Takes a hit into account, whether or not it will be shown.
    pub(super) fn observe(&mut self, details: &Details) {
        let mut bucket = Vec::new();
        for rule in &details.rules {
            if let Some(max) = maximum_of(rule) {
                match self.by_bucket.get_mut(&bucket) {
                    Some(known) => *known = max.max(*known),
                    None => {
                        self.by_bucket.insert(bucket.clone(), max);
                    }
                }
            }
            enter_bucket(&mut bucket, rule);
        }
    }

    /// What to change in a hit; `None` when its scores are on the common scale already.
    pub(super) fn rescale(&self, details: &Details) -> Option<Rescaled> {
        if self.by_bucket.is_empty() {
            return None;
        }
        let mut bucket = Vec::new();
        let mut maxima = Vec::with_capacity(details.rules.len());
        for rule in &details.rules {
            let own = maximum_of(rule);
            let common = own.and_then(|_| self.by_bucket.get(&bucket).copied());
            maxima.push(common.filter(|_| common != own));
            enter_bucket(&mut bucket, rule);
        }
        maxima.iter().any(Option::is_some).then_some(Rescaled { maxima })
    }
}

fn maximum_of(rule: &Rule) -> Option<u32> {
    match rule {
        Rule::Words { max, .. } | Rule::Typo { max, .. } | Rule::Exactness { words: Some((_, max)), .. } => {
            Some(*max)
        }
        _ => None,
    }
}

/// Extends the name of a bucket by one rule's verdict. Every verdict starts with a tag and has a fixed length or
/// an end mark, so that different verdicts never spell the same name.
fn enter_bucket(bucket: &mut Vec<u8>, rule: &Rule) {
    let (tag, bits) = match rule {
        Rule::Words { matching, .. } => (b'w', u64::from(*matching)),
        Rule::Typo { count, .. } => (b't', u64::from(*count)),
        Rule::Exactness { match_type, words, .. } => {
            (b'e', u64::from(*match_type) << 32 | u64::from(words.unwrap_or_default().0))
        }
        Rule::Attribute { score, .. } | Rule::Score(score) => (b's', score.to_bits()),
        Rule::Geo { distance, .. } => (b'g', distance.unwrap_or(f64::NAN).to_bits()),
        Rule::Vector(similarity) => (b'v', similarity.unwrap_or(f64::NAN).to_bits()),
        Rule::Pin(position) => (b'p', u64::from(*position)),
        Rule::Skipped => (b'k', 0),
        Rule::Sort { value: SortValue::Number(number), .. } => (b'n', number.to_bits()),
        Rule::Sort { value: SortValue::Missing, .. } => (b'm', 0),
        Rule::Sort { value: SortValue::Text(text), .. } => {
            bucket.push(b'x');
            bucket.extend_from_slice(text.as_bytes());
            (0xff, 0)
        }
    };
    bucket.push(tag);
    bucket.extend_from_slice(&bits.to_le_bytes());
}

/// One rule's place among those possible: from 1, the last, to `max`.
type Rank = (i128, i128);

impl Rescaled {
    /// The maximum to show for the rule at this place, if it changes.
    pub(super) fn maximum(&self, index: usize) -> Option<u32> {
        self.maxima.get(index).copied().flatten()
    }

    /// A rule's own score under the new maximum.
    pub(super) fn local_score(&self, index: usize, rule: &Rule) -> Option<f64> {
        let ranks = ranks_of(rule, Some(self.maximum(index)?))?;
        Some(combine(&ranks, Fraction::ONE)?.to_f64())
    }

    /// The score of the whole hit under the new maxima, given the node's. `None` when the node's cannot be taken
    /// apart, and has to do.
    pub(super) fn global_score(&self, details: &Details, node_score: f64) -> Option<f64> {
        let last_changed = self.maxima.iter().rposition(Option::is_some)?;
        let mut rest = Fraction::recover(node_score)?;
        let mut new_ranks = Vec::new();
        for (index, rule) in details.rules.iter().enumerate().take(last_changed + 1) {
            match rule {
                // The similarity alone is the score.
                Rule::Vector(_) => return None,
                Rule::Skipped => break,
                // Older versions count only the ranks before the first sort that follows any.
                Rule::Sort { .. } | Rule::Geo { .. } | Rule::Pin(_) => {
                    if !new_ranks.is_empty() && rest == Fraction::ONE {
                        break;
                    }
                }
                rule => {
                    for (rank, max) in ranks_of(rule, None)? {
                        rest = rest.inside(rank, max)?;
                    }
                    new_ranks.extend(ranks_of(rule, self.maximum(index))?);
                }
            }
        }
        let is_plausible = rest.numerator >= 0 && rest.numerator <= rest.denominator;
        is_plausible.then(|| combine(&new_ranks, rest).map(Fraction::to_f64)).flatten()
    }
}

/// The score of a hit when another number of words matches, out of another maximum, and all else is the same.
/// `None` when the score cannot be taken apart.
pub(super) fn with_words(details: &Details, score: f64, matching: u32, max: u32) -> Option<f64> {
    // What comes before the words can only be a sort, which has no part in the score.
    let words = details.rules.iter().find(|rule| !matches!(rule, Rule::Sort { .. } | Rule::Geo { .. }))?;
    let Rule::Words { matching: old_matching, max: old_max } = words else { return None };
    let inside = Fraction::recover(score)?.inside(i128::from(*old_matching), i128::from(*old_max))?;
    Some(inside.outside(i128::from(matching), i128::from(max))?.to_f64())
}

/// The ranks of a rule, outermost first; with another maximum if one is given.
fn ranks_of(rule: &Rule, maximum: Option<u32>) -> Option<Vec<Rank>> {
    let from_score = |score: f64| Fraction::recover(score).map(|score| (score.numerator, score.denominator));
    Some(match rule {
        Rule::Words { matching, max } => {
            vec![(i128::from(*matching), i128::from(maximum.unwrap_or(*max)))]
        }
        Rule::Typo { count, max } => {
            let ranks = i128::from(maximum.unwrap_or(*max)) + 1;
            vec![((ranks - i128::from(*count)).max(0), ranks)]
        }
        Rule::Exactness { match_type, words, .. } => {
            let words = words
                .map(|(matching, max)| (i128::from(matching) + 1, i128::from(maximum.unwrap_or(max)) + 1));
            [(i128::from(*match_type), 3)].into_iter().chain(words).collect()
        }
        Rule::Attribute { field, position, .. } => {
            let position = position.map(from_score);
            let mut ranks = vec![from_score(*field)?];
            if let Some(position) = position {
                ranks.push(position?);
            }
            ranks
        }
        Rule::Score(score) => vec![from_score(*score)?],
        _ => vec![],
    })
}

/// Nests ranks, outermost first, around what is inside the innermost.
fn combine(ranks: &[Rank], inside: Fraction) -> Option<Fraction> {
    ranks.iter().rev().try_fold(inside, |inside, (rank, max)| inside.outside(*rank, *max))
}

/// The score of one unbroken run of rules, each with its place among all, under new maxima.
pub(super) fn rescaled_run_score<'r>(
    rules: impl Iterator<Item = (usize, &'r Rule<'r>)>,
    rescaled: Option<&Rescaled>,
) -> Option<f64> {
    let ranks = |(index, rule): (usize, &Rule)| match rule {
        Rule::Skipped => Some(vec![(0, 1)]),
        rule => ranks_of(rule, rescaled.and_then(|rescaled| rescaled.maximum(index))),
    };
    let ranks: Vec<Vec<Rank>> = rules.map(ranks).collect::<Option<_>>()?;
    Some(combine(&ranks.concat(), Fraction::ONE)?.to_f64())
}

/// An exact fraction in lowest terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fraction {
    numerator: i128,
    denominator: i128,
}

impl Fraction {
    const ONE: Self = Self { numerator: 1, denominator: 1 };

    fn new(numerator: i128, denominator: i128) -> Option<Self> {
        if denominator == 0 {
            return None;
        }
        let divisor = gcd(numerator.unsigned_abs(), denominator.unsigned_abs());
        let divisor = i128::try_from(divisor).ok().filter(|divisor| *divisor != 0)?;
        Some(Self { numerator: numerator / divisor, denominator: denominator / divisor })
    }

    /// The simplest fraction whose division gives this float: its first convergent that does.
    fn recover(value: f64) -> Option<Self> {
        if value == 0.0 {
            return Some(Self { numerator: 0, denominator: 1 });
        }
        // Below 2^-60 the exact value would not fit, and no score is that small.
        if !(value > 1e-18 && value <= 1.0) {
            return None;
        }
        let bits = value.to_bits();
        let exponent = i32::try_from((bits >> 52) & 0x7ff).ok()? - 1075;
        let mantissa = i128::from((bits & ((1 << 52) - 1)) | (1 << 52));
        let (mut numerator, mut denominator) = (mantissa, 1i128.checked_shl(u32::try_from(-exponent).ok()?)?);
        let (mut before, mut last) = ((0i128, 1i128), (1i128, 0i128));
        while denominator != 0 {
            let whole = numerator / denominator;
            let next = (
                whole.checked_mul(last.0)?.checked_add(before.0)?,
                whole.checked_mul(last.1)?.checked_add(before.1)?,
            );
            (before, last) = (last, next);
            if next.1 > 1 << 53 {
                return None;
            }
            if next.0 as f64 / next.1 as f64 == value {
                return Self::new(next.0, next.1);
            }
            (numerator, denominator) = (denominator, numerator % denominator);
        }
        None
    }

    /// What is inside a rank of which this is the whole.
    fn inside(self, rank: i128, max: i128) -> Option<Self> {
        let taken = (rank - 1).max(0).checked_mul(self.denominator)?;
        Self::new(self.numerator.checked_mul(max)?.checked_sub(taken)?, self.denominator)
    }

    /// The whole of a rank around this.
    fn outside(self, rank: i128, max: i128) -> Option<Self> {
        let taken = (rank - 1).max(0).checked_mul(self.denominator)?;
        Self::new(taken.checked_add(self.numerator)?, self.denominator.checked_mul(max)?)
    }

    fn to_f64(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }
}

fn gcd(left: u128, right: u128) -> u128 {
    if right == 0 { left } else { gcd(right, left % right) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The score as one server computes it: ranks nested in integers, one division.
    fn reference(ranks: &[(u32, u32)]) -> f64 {
        let (mut rank, mut max) = (1u32, 1u32);
        for (inner, inner_max) in ranks {
            rank = rank.saturating_sub(1) * inner_max + inner;
            max *= inner_max;
        }
        f64::from(rank) / f64::from(max)
    }

    fn rank(max: u32) -> impl Strategy<Value = (u32, u32)> {
        (1..=max).prop_flat_map(|max| (1..=max, Just(max)))
    }

    proptest! {
        #[test]
        fn any_score_of_modest_size_is_recovered(denominator in 1u32..(1 << 26), part in 0.0f64..1.0) {
            let numerator = (f64::from(denominator) * part) as i128;
            let value = numerator as f64 / f64::from(denominator);
            let recovered = Fraction::recover(value).unwrap();
            prop_assert_eq!(recovered, Fraction::new(numerator, i128::from(denominator)).unwrap());
        }

        #[test]
        fn a_rescaled_score_is_bit_for_bit_the_one_of_a_single_server(
            words in rank(6), more_words in 0u32..4,
            typos in rank(8), more_typos in 0u32..6,
            proximity in rank(30), field in rank(8), position in rank(40),
            match_type in 1u32..4, exact in rank(7),
        ) {
            let tail = [proximity, field, position, (match_type, 3), exact];
            let score = |words: (u32, u32), typos: (u32, u32)| reference(&[&[words, typos][..], &tail].concat());
            let on_node = score(words, typos);
            let typo_count = typos.1 - typos.0;
            let details = |words_max: u32, typo_max: u32| Details {
                rules: vec![
                    Rule::Words { matching: words.0, max: words_max },
                    Rule::Typo { count: typo_count, max: typo_max },
                    Rule::Score(f64::from(proximity.0) / f64::from(proximity.1)),
                ],
            };
            let mut maxima = Maxima::default();
            let here = details(words.1, typos.1 - 1);
            maxima.observe(&here);
            maxima.observe(&details(words.1 + more_words, typos.1 - 1 + more_typos));
            let expected = score(
                (words.0, words.1 + more_words),
                (typos.0 + more_typos, typos.1 + more_typos),
            );
            match maxima.rescale(&here) {
                Some(rescaled) => {
                    let found = rescaled.global_score(&here, on_node).unwrap();
                    prop_assert_eq!(found.to_bits(), expected.to_bits());
                }
                None => prop_assert_eq!(more_words + more_typos, 0),
            }
        }
    }

    #[test]
    fn maxima_are_shared_only_among_hits_alike_so_far() {
        let details = |matching, max_typos| Details {
            rules: vec![Rule::Words { matching, max: 3 }, Rule::Typo { count: 0, max: max_typos }],
        };
        let mut maxima = Maxima::default();
        maxima.observe(&details(3, 5));
        maxima.observe(&details(2, 2));
        assert_eq!(maxima.rescale(&details(2, 2)), None);
        let rescaled = maxima.rescale(&details(3, 2)).unwrap();
        assert_eq!((rescaled.maximum(0), rescaled.maximum(1)), (None, Some(5)));
        assert_eq!(rescaled.local_score(1, &Rule::Typo { count: 2, max: 2 }), Some(4.0 / 6.0));
    }

    #[test]
    fn a_similarity_is_left_alone() {
        let rescaled = Rescaled { maxima: vec![None, Some(3)] };
        let details = Details { rules: vec![Rule::Vector(Some(0.5)), Rule::Words { matching: 1, max: 1 }] };
        assert_eq!(rescaled.global_score(&details, 0.5), None);
    }
}
