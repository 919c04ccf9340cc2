//! The ranking of a hit, rule by rule, as `_rankingScoreDetails` tells it, and which of two hits comes first.
//!
//! The one number `_rankingScore` cannot order hits of different nodes: its scale depends on the words each node
//! happens to know. The details can. Counts (matching words, typos) mean the same everywhere, so they are compared
//! and not the scores made of them; sort values are compared by Meilisearch's own type order.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::scan::{Cursor, Malformed, number, string_content, unescape, unsigned};
use crate::hidden::TIE_BREAK_RULE;

/// The verdict of one ranking rule on one hit.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rule<'a> {
    /// How many words of the query match.
    Words { matching: u32, max: u32 },
    /// How many typos it took.
    Typo { count: u32, max: u32 },
    /// Whether words or a whole attribute match exactly; `words` when the answer tells how many of how many.
    Exactness { match_type: u8, words: Option<(u32, u32)>, score: f64 },
    /// The attribute rule: its two parts, as of a rule in two steps.
    Attribute { field: f64, position: Option<f64>, score: f64 },
    /// Any other rule with a score between 0 and 1.
    Score(f64),
    /// A sort on a field.
    Sort { ascending: bool, value: SortValue<'a> },
    /// A sort on the distance to a point; the distance is missing for documents without coordinates.
    Geo { ascending: bool, distance: Option<f64> },
    /// Similarity to the query's vector; missing for documents without one.
    Vector(Option<f64>),
    /// The node ran out of time before the rule.
    Skipped,
    /// The document was given a fixed place.
    Pin(u32),
}

/// What a sort rule compared.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum SortValue<'a> {
    Number(f64),
    Text(Cow<'a, str>),
    Missing,
}

/// All verdicts on one hit.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Details<'a> {
    pub(super) rules: Vec<Rule<'a>>,
}

impl<'a> Details<'a> {
    /// Reads a raw `_rankingScoreDetails` object.
    pub(super) fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(raw);
        cursor.begin_object()?;
        let mut rules = Vec::with_capacity(8);
        let mut is_in_order = true;
        let mut last_order = 0;
        while let Some(name) = cursor.next_key()? {
            let fields = RuleFields::read(&mut cursor)?;
            // Not every node applies it; the place of insertion is read from the hit.
            if name == TIE_BREAK_RULE.as_bytes() {
                continue;
            }
            is_in_order &= last_order <= fields.order;
            last_order = fields.order;
            rules.push((fields.order, fields.rule(name)));
        }
        if !is_in_order {
            rules.sort_by_key(|(order, _)| *order);
        }
        Ok(Self { rules: rules.into_iter().map(|(_, rule)| rule).collect() })
    }

    /// How near the hit's vector is to that of the query; `None` when it has none.
    pub(super) fn similarity(&self) -> Option<f64> {
        self.rules.iter().find_map(|rule| match rule {
            Rule::Vector(similarity) => *similarity,
            _ => None,
        })
    }

    /// `Less` when this hit comes before the other; `Equal` when no rule tells them apart.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        for (left, right) in self.rules.iter().zip(&other.rules) {
            let verdict = left.compare(right);
            // Where documents have vectors, their distance leaves nothing for rules after it to decide.
            if verdict.is_ne() || matches!(left, Rule::Vector(Some(_))) {
                return verdict;
            }
        }
        Ordering::Equal
    }
}

/// The members of one rule's object, whichever are there.
#[derive(Default)]
struct RuleFields<'a> {
    order: u64,
    score: Option<f64>,
    matching_words: Option<u64>,
    max_matching_words: Option<u64>,
    typo_count: Option<u64>,
    max_typo_count: Option<u64>,
    field_score: Option<f64>,
    position_score: Option<f64>,
    match_type: Option<&'a [u8]>,
    similarity: Option<f64>,
    distance: Option<f64>,
    position: Option<u64>,
    value: Option<&'a [u8]>,
}

impl<'a> RuleFields<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Malformed> {
        let mut fields = Self::default();
        cursor.begin_object()?;
        while let Some(key) = cursor.next_key()? {
            let value = cursor.value()?;
            match key {
                b"order" => fields.order = unsigned(value).unwrap_or_default(),
                b"score" => fields.score = number(value),
                b"matchingWords" => fields.matching_words = unsigned(value),
                b"maxMatchingWords" => fields.max_matching_words = unsigned(value),
                b"typoCount" => fields.typo_count = unsigned(value),
                b"maxTypoCount" => fields.max_typo_count = unsigned(value),
                b"attributeRankingOrderScore" => fields.field_score = number(value),
                b"queryWordDistanceScore" => fields.position_score = number(value),
                b"matchType" => fields.match_type = string_content(value),
                b"similarity" => fields.similarity = number(value),
                b"distance" => fields.distance = number(value),
                b"position" => fields.position = unsigned(value),
                b"value" => fields.value = Some(value),
                _ => {}
            }
        }
        Ok(fields)
    }

    fn rule(self, name: &'a [u8]) -> Rule<'a> {
        let count = |value: Option<u64>| u32::try_from(value.unwrap_or_default()).unwrap_or(u32::MAX);
        let score = self.score.unwrap_or_default();
        match name {
            b"words" if self.matching_words.is_some() => {
                Rule::Words { matching: count(self.matching_words), max: count(self.max_matching_words) }
            }
            b"typo" if self.typo_count.is_some() => {
                Rule::Typo { count: count(self.typo_count), max: count(self.max_typo_count) }
            }
            b"exactness" => Rule::Exactness {
                match_type: match self.match_type {
                    Some(b"exactMatch") => 3,
                    Some(b"matchesStart") => 2,
                    _ => 1,
                },
                words: self
                    .matching_words
                    .map(|_| (count(self.matching_words), count(self.max_matching_words))),
                score,
            },
            b"attribute" if self.field_score.is_some() => Rule::Attribute {
                field: self.field_score.unwrap_or_default(),
                position: self.position_score,
                score,
            },
            b"vectorSort" => Rule::Vector(self.similarity),
            b"skipped" => Rule::Skipped,
            b"pin" => Rule::Pin(count(self.position)),
            _ => match (self.value, self.score) {
                (Some(_), _) if name.starts_with(b"_geoPoint(") => {
                    Rule::Geo { ascending: name.ends_with(b":asc"), distance: self.distance }
                }
                (Some(value), _) => {
                    Rule::Sort { ascending: name.ends_with(b":asc"), value: SortValue::read(value) }
                }
                (None, score) => Rule::Score(score.unwrap_or_default()),
            },
        }
    }
}

impl<'a> SortValue<'a> {
    fn read(raw: &'a [u8]) -> Self {
        match string_content(raw) {
            Some(text) => Self::Text(unescape(text)),
            None => number(raw).map_or(Self::Missing, Self::Number),
        }
    }
}

impl Rule<'_> {
    /// `Less` when the first hit comes before the second by this rule.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Rule::Words { matching: left, .. }, Rule::Words { matching: right, .. }) => right.cmp(left),
            (Rule::Typo { count: left, .. }, Rule::Typo { count: right, .. }) => left.cmp(right),
            (
                Rule::Exactness { match_type: left_type, words: left, score: left_score },
                Rule::Exactness { match_type: right_type, words: right, score: right_score },
            ) => right_type.cmp(left_type).then_with(|| match (left, right) {
                (Some((left, _)), Some((right, _))) => right.cmp(left),
                _ => right_score.total_cmp(left_score),
            }),
            (
                Rule::Attribute { field: left_field, position: left, .. },
                Rule::Attribute { field: right_field, position: right, .. },
            ) => right_field
                .total_cmp(left_field)
                .then_with(|| right.unwrap_or_default().total_cmp(&left.unwrap_or_default())),
            (Rule::Sort { ascending, value: left }, Rule::Sort { value: right, .. }) => {
                compare_sort_values(*ascending, left, right)
            }
            (Rule::Geo { ascending, distance: left }, Rule::Geo { distance: right, .. }) => {
                compare_present_first(*left, *right, |left, right| {
                    if *ascending { left.total_cmp(&right) } else { right.total_cmp(&left) }
                })
            }
            (Rule::Vector(left), Rule::Vector(right)) => {
                compare_present_first(*left, *right, |left, right| right.total_cmp(&left))
            }
            (Rule::Pin(left), Rule::Pin(right)) => left.cmp(right),
            // Only a node that ran out of time, or one of another version, brings two kinds together.
            (left, right) => right.score_or_zero().total_cmp(&left.score_or_zero()),
        }
    }

    /// The verdict as a number from 0 to 1, as far as it is one.
    fn score_or_zero(&self) -> f64 {
        match self {
            Rule::Words { matching, max } => f64::from(*matching) / f64::from((*max).max(1)),
            Rule::Typo { count, max } => {
                f64::from((max + 1).saturating_sub(*count)) / f64::from(max.saturating_add(1))
            }
            Rule::Exactness { score, .. } | Rule::Attribute { score, .. } | Rule::Score(score) => *score,
            Rule::Vector(similarity) => similarity.unwrap_or_default(),
            Rule::Sort { .. } | Rule::Geo { .. } | Rule::Skipped | Rule::Pin(_) => 0.0,
        }
    }
}

/// Numbers, then strings, then documents without the field: the last in both directions.
pub(super) fn compare_sort_values(ascending: bool, left: &SortValue, right: &SortValue) -> Ordering {
    let directed = |order: Ordering| if ascending { order } else { order.reverse() };
    match (left, right) {
        (SortValue::Number(left), SortValue::Number(right)) => directed(left.total_cmp(right)),
        (SortValue::Text(left), SortValue::Text(right)) => directed(left.as_bytes().cmp(right.as_bytes())),
        _ => left.type_rank().cmp(&right.type_rank()),
    }
}

impl SortValue<'_> {
    fn type_rank(&self) -> u8 {
        match self {
            SortValue::Number(_) => 0,
            SortValue::Text(_) => 1,
            SortValue::Missing => 2,
        }
    }
}

fn compare_present_first(
    left: Option<f64>,
    right: Option<f64>,
    compare: impl Fn(f64, f64) -> Ordering,
) -> Ordering {
    match (left, right) {
        (Some(left), Some(right)) => compare(left, right),
        (left, right) => left.is_none().cmp(&right.is_none()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{"words":{"order":0,"matchingWords":2,"maxMatchingWords":3,"score":0.6666666666666666},
        "typo":{"order":1,"typoCount":1,"maxTypoCount":3,"score":0.75},"proximity":{"order":2,"score":0.5},
        "attribute":{"order":3,"attributeRankingOrderScore":1.0,"queryWordDistanceScore":0.8,"score":0.8},
        "price:desc":{"order":4,"value":12.5},"_geoPoint(1, 2):asc":{"order":5,"value":null,"distance":null},
        "exactness":{"order":6,"matchType":"noExactMatch","matchingWords":0,"maxMatchingWords":2,"score":0.1},
        "vectorSort":{"order":7,"similarity":0.5},"_miroir_inserted_at:asc":{"order":8,"value":"!!!!"}}"#;

    #[test]
    fn every_rule_is_recognised() {
        let details = Details::parse(FULL.as_bytes()).unwrap();
        assert_eq!(
            details.rules,
            vec![
                Rule::Words { matching: 2, max: 3 },
                Rule::Typo { count: 1, max: 3 },
                Rule::Score(0.5),
                Rule::Attribute { field: 1.0, position: Some(0.8), score: 0.8 },
                Rule::Sort { ascending: false, value: SortValue::Number(12.5) },
                Rule::Geo { ascending: true, distance: None },
                Rule::Exactness { match_type: 1, words: Some((0, 2)), score: 0.1 },
                Rule::Vector(Some(0.5)),
            ]
        );
    }

    #[test]
    fn rules_count_in_their_stated_order() {
        let details =
            Details::parse(br#"{"b":{"order":1,"score":0.1},"a":{"order":0,"score":0.9}}"#).unwrap();
        assert_eq!(details.rules, vec![Rule::Score(0.9), Rule::Score(0.1)]);
    }

    #[test]
    fn counts_decide_where_scores_would_mislead() {
        let parse = |text: &'static str| Details::parse(text.as_bytes()).unwrap();
        let one_of_one = parse(r#"{"words":{"order":0,"matchingWords":1,"maxMatchingWords":1,"score":1.0}}"#);
        let two_of_three =
            parse(r#"{"words":{"order":0,"matchingWords":2,"maxMatchingWords":3,"score":0.66}}"#);
        assert_eq!(two_of_three.compare(&one_of_one), Ordering::Less);
        let one_of_one = parse(r#"{"typo":{"order":0,"typoCount":1,"maxTypoCount":1,"score":0.5}}"#);
        let two_of_five = parse(r#"{"typo":{"order":0,"typoCount":2,"maxTypoCount":5,"score":0.66}}"#);
        assert_eq!(one_of_one.compare(&two_of_five), Ordering::Less);
    }

    #[test]
    fn nothing_is_decided_after_the_distance_of_vectors() {
        let details = |similarity, year| Details {
            rules: vec![
                Rule::Vector(similarity),
                Rule::Sort { ascending: true, value: SortValue::Number(year) },
            ],
        };
        assert_eq!(details(Some(0.5), 1.0).compare(&details(Some(0.5), 2.0)), Ordering::Equal);
        assert_eq!(details(None, 1.0).compare(&details(None, 2.0)), Ordering::Less);
        assert_eq!(details(Some(0.5), 2.0).compare(&details(None, 1.0)), Ordering::Less);
    }

    #[test]
    fn missing_values_are_last_in_both_directions() {
        let text = |text: &'static str| SortValue::Text(Cow::Borrowed(text));
        for ascending in [true, false] {
            let in_order: Vec<SortValue> = if ascending {
                vec![
                    SortValue::Number(-1.0),
                    SortValue::Number(2.0),
                    text("a"),
                    text("b"),
                    SortValue::Missing,
                ]
            } else {
                vec![
                    SortValue::Number(2.0),
                    SortValue::Number(-1.0),
                    text("b"),
                    text("a"),
                    SortValue::Missing,
                ]
            };
            for pair in in_order.windows(2) {
                assert_eq!(compare_sort_values(ascending, &pair[0], &pair[1]), Ordering::Less);
            }
            let near = Rule::Geo { ascending, distance: Some(1.0) };
            let nowhere = Rule::Geo { ascending, distance: None };
            assert_eq!(near.compare(&nowhere), Ordering::Less);
        }
    }
}
