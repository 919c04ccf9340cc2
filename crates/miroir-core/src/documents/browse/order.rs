//! The order of listed documents: by the values of sorted fields, then by position.
//!
//! A field's values are all the scalars found under it, in arrays too. Numbers come before strings, whichever
//! the direction; ascending uses the least value, descending the greatest; documents without a value come
//! last both ways. A document with both numbers and strings is listed twice by Meilisearch, once among each,
//! and so it is here: a node's page says which of its occurrences are there.
//!
//! `_geoPoint` orders by distance. Documents within a metre of the first of a group are equally far, and which
//! one is first depends on how many there are: below a thousand, Meilisearch compares whole metres.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde_json::Value;
use serde_json::value::RawValue;
use unicode_normalization::UnicodeNormalization;

use super::super::content::coordinate;
use super::super::json::for_each_field;
use crate::hidden::INSERTED_AT_FIELD;

/// Longest string Meilisearch compares, in bytes.
const LONGEST_COMPARED: usize = 468;
/// Documents whose distances differ by no more are equally far, in metres.
const GEO_MARGIN: f64 = 1.0;
/// Most documents that can be equally far.
const GEO_GROUP: usize = 1000;
/// From how many documents on Meilisearch compares distances exactly.
const GEO_EXACT_FROM: u64 = 1000;
/// Mean radius of the Earth, in metres.
const EARTH_RADIUS: f64 = 6_371_000.0;

/// One expression of `sort`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SortRule {
    pub(super) by: SortBy,
    pub(super) ascending: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum SortBy {
    Field(String),
    DistanceTo([f64; 2]),
}

impl SortRule {
    /// The field sorted by: the one to fetch (a node finds it in every spelling) and the one errors name.
    pub(super) fn sorted_name(&self) -> &str {
        match &self.by {
            SortBy::Field(name) => name,
            SortBy::DistanceTo(_) => "_geo",
        }
    }
}

/// What a document is compared by, for one rule.
#[derive(Debug, Clone, PartialEq)]
enum Key {
    Number(f64),
    Text(String),
    Distance(f64),
    Missing,
}

/// One occurrence of a document in the merged list.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    /// The page it comes from, and its place there.
    pub(super) page: usize,
    pub(super) result: usize,
    /// Its position, encoded: compared as bytes.
    pub(super) position: String,
    keys: Vec<Key>,
}

/// Reads what orders the documents of one page.
pub(super) fn collect_candidates(
    page: usize,
    results: &[&RawValue],
    rules: &[SortRule],
    candidates: &mut Vec<Candidate>,
) -> Result<(), serde_json::Error> {
    // How often each document was already met in this page.
    let mut met: HashMap<String, usize> = HashMap::new();
    for (result, document) in results.iter().enumerate() {
        let (position, mut occurrences) = read_document(document, rules)?;
        let rank = if rules.is_empty() {
            0
        } else {
            let count = met.entry(position.clone()).or_default();
            *count += 1;
            *count - 1
        };
        let keys = if rank < occurrences.len() { occurrences.swap_remove(rank) } else { Vec::new() };
        candidates.push(Candidate { page, result, position, keys });
    }
    Ok(())
}

/// The position of a document, and the keys of each of its occurrences, in order.
fn read_document(
    document: &RawValue,
    rules: &[SortRule],
) -> Result<(String, Vec<Vec<Key>>), serde_json::Error> {
    let mut position = String::new();
    let mut values: Vec<Vec<Value>> = vec![Vec::new(); rules.len()];
    let mut failure = None;
    for_each_field(document.get(), |name, value| {
        if name == INSERTED_AT_FIELD {
            position = serde_json::from_str(value.get()).unwrap_or_default();
            return;
        }
        for (rule, values) in rules.iter().zip(&mut values) {
            if !is_at_or_above(name, rule.sorted_name()) {
                continue;
            }
            match serde_json::from_str::<Value>(value.get()) {
                Ok(value) => collect_values(name, value, rule.sorted_name(), values),
                Err(error) => failure = Some(error),
            }
        }
    })?;
    if let Some(error) = failure {
        return Err(error);
    }
    let mut occurrences: Vec<Vec<Key>> = vec![Vec::new()];
    for (rule, values) in rules.iter().zip(&values) {
        let keys = rule.keys(values);
        let with_each = |occurrence: Vec<Key>| {
            keys.iter().map(move |key| occurrence.iter().chain([key]).cloned().collect::<Vec<Key>>())
        };
        occurrences = occurrences.into_iter().flat_map(with_each).collect();
    }
    Ok((position, occurrences))
}

/// Whether `field` is `attribute`, or contains it as an object contains a field.
fn is_at_or_above(field: &str, attribute: &str) -> bool {
    attribute.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Adds the values of `attribute` found in the value of the field `name`.
fn collect_values(name: &str, value: Value, attribute: &str, values: &mut Vec<Value>) {
    match value {
        Value::Object(fields) if name != attribute => {
            for (field, value) in fields {
                let name = format!("{name}.{field}");
                if is_at_or_above(&name, attribute) {
                    collect_values(&name, value, attribute, values);
                }
            }
        }
        // The object itself is only of use to the rule that sorts by place.
        object @ Value::Object(_) if name == "_geo" => values.push(object),
        Value::Array(elements) => {
            for element in elements {
                collect_values(name, element, attribute, values);
            }
        }
        Value::Null | Value::Object(_) => {}
        scalar if name == attribute => values.push(scalar),
        _ => {}
    }
}

impl SortRule {
    /// What a document with these values is compared by: one key, or two if it is listed twice.
    fn keys(&self, values: &[Value]) -> Vec<Key> {
        if let SortBy::DistanceTo(target) = &self.by {
            return vec![
                values
                    .iter()
                    .find_map(place)
                    .map_or(Key::Missing, |place| Key::Distance(distance(target, &place))),
            ];
        }
        let numbers = values.iter().filter_map(Value::as_f64);
        let number =
            if self.ascending { numbers.min_by(f64::total_cmp) } else { numbers.max_by(f64::total_cmp) };
        let texts = values.iter().filter_map(|value| match value {
            Value::String(text) if !text.is_empty() => Some(normalise(text)),
            Value::Bool(boolean) => Some(boolean.to_string()),
            _ => None,
        });
        let text = if self.ascending { texts.min() } else { texts.max() };
        let keys: Vec<Key> = number.map(Key::Number).into_iter().chain(text.map(Key::Text)).collect();
        if keys.is_empty() { vec![Key::Missing] } else { keys }
    }

    fn compare(&self, left: &Key, right: &Key) -> Ordering {
        let directed = |ordering: Ordering| if self.ascending { ordering } else { ordering.reverse() };
        match (left, right) {
            (Key::Number(left), Key::Number(right)) | (Key::Distance(left), Key::Distance(right)) => {
                directed(left.total_cmp(right))
            }
            (Key::Text(left), Key::Text(right)) => directed(left.cmp(right)),
            (left, right) => left.class().cmp(&right.class()),
        }
    }
}

impl Key {
    fn class(&self) -> u8 {
        match self {
            Self::Number(_) | Self::Distance(_) => 0,
            Self::Text(_) => 1,
            Self::Missing => 2,
        }
    }
}

/// The form in which strings are compared: trimmed, each character decomposed, lower case, cut.
fn normalise(text: &str) -> String {
    let decomposed: String =
        text.trim().chars().flat_map(|character| std::iter::once(character).nfkd()).collect();
    let mut normalised = decomposed.to_lowercase();
    normalised.truncate(normalised.floor_char_boundary(LONGEST_COMPARED));
    normalised
}

/// The coordinates in a `_geo` object.
fn place(geo: &Value) -> Option<[f64; 2]> {
    Some([coordinate(geo.get("lat")?)?, coordinate(geo.get("lng")?)?])
}

/// The great-circle distance between two places, in metres to the millimetre.
fn distance(from: &[f64; 2], to: &[f64; 2]) -> f64 {
    let [from_latitude, from_longitude] = from.map(f64::to_radians);
    let [to_latitude, to_longitude] = to.map(f64::to_radians);
    let half_latitude = ((to_latitude - from_latitude) / 2.0).sin();
    let half_longitude = ((to_longitude - from_longitude) / 2.0).sin();
    let chord = half_latitude * half_latitude
        + from_latitude.cos() * to_latitude.cos() * half_longitude * half_longitude;
    let metres = EARTH_RADIUS * 2.0 * chord.sqrt().min(1.0).asin();
    (metres * 1000.0).round() / 1000.0
}

/// Puts candidates in order. `total` is how many documents there are, on this page or not.
pub(super) fn sort_candidates(candidates: &mut [Candidate], rules: &[SortRule], total: u64) {
    sort_from_rule(candidates, rules, 0, total);
}

/// Orders by one rule, then each group of equals by the rules that follow.
fn sort_from_rule(candidates: &mut [Candidate], rules: &[SortRule], depth: usize, total: u64) {
    // The order Meilisearch finds documents in: it matters to distances, and is the last criterion.
    candidates.sort_by(|left, right| left.position.cmp(&right.position));
    let Some(rule) = rules.get(depth) else { return };
    let key = |candidate: &Candidate| candidate.keys.get(depth).cloned().unwrap_or(Key::Missing);
    let whole_metres = total < GEO_EXACT_FROM;
    if matches!(rule.by, SortBy::DistanceTo(_)) && !rule.ascending {
        // Meilisearch reads its ascending list backwards.
        candidates.reverse();
    }
    candidates.sort_by_cached_key(|candidate| {
        let key = match key(candidate) {
            Key::Distance(metres) if whole_metres => Key::Distance(metres.trunc()),
            key => key,
        };
        DirectedKey { rule, key }
    });
    let mut rest = candidates;
    while let Some(first) = rest.first() {
        let first = key(first);
        let equals = rest.iter().take_while(|candidate| is_same_group(rule, &first, &key(candidate))).count();
        let length = if matches!(first, Key::Distance(_)) { equals.min(GEO_GROUP) } else { equals };
        let (group, others) = rest.split_at_mut(length.max(1));
        if group.len() > 1 {
            let size = group.len() as u64;
            sort_from_rule(group, rules, depth + 1, size);
        }
        rest = others;
    }
}

fn is_same_group(rule: &SortRule, first: &Key, other: &Key) -> bool {
    match (first, other) {
        (Key::Distance(first), Key::Distance(other)) => (first - other).abs() <= GEO_MARGIN,
        _ => rule.compare(first, other) == Ordering::Equal,
    }
}

/// A key that knows its rule, to be sorted by.
struct DirectedKey<'a> {
    rule: &'a SortRule,
    key: Key,
}

impl Ord for DirectedKey<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rule.compare(&self.key, &other.key)
    }
}

impl PartialOrd for DirectedKey<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for DirectedKey<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for DirectedKey<'_> {}
