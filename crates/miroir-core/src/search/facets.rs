//! Adding up the facets of several nodes.
//!
//! Values are one value when they are equal after normalisation, and are listed as Meilisearch lists them:
//! numbers, then strings, each by value or by count. Which of several spellings of a value one Meilisearch would
//! show depends on which document is oldest, which the counts do not tell; such values are reported, and merged
//! again once that is settled.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::facet_list::{NumbersFirst, list};
use super::facet_values::{RawFacets, SpeltBy, Stats, Values, read_distribution, read_stats};
use super::scan::{Cursor, Malformed, ObjectWriter, string_content, unescape, unsigned, write_json};
use super::settings::{FacetOrder, SearchSettings};
use super::spelling::SpellingChoices;
use crate::hidden::is_reserved;

/// From this many matching documents on, Meilisearch lists facet values in another way: see [`list`].
const MANY_DOCUMENTS: u64 = 3000;

/// One way in which a facet value is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spelling {
    /// The value as written.
    pub text: String,
    /// The nodes that show it so, by their place among the merged answers.
    pub nodes: Vec<usize>,
}

/// A facet value that nodes spell differently, so that the spelling shown was a choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacetConflict {
    /// The facet.
    pub attribute: String,
    /// The spellings, the one shown first.
    pub spellings: Vec<Spelling>,
}

impl FacetConflict {
    /// How a node spells the value.
    pub(super) fn spelling_of(&self, node: usize) -> Option<&str> {
        let spelling = self.spellings.iter().find(|spelling| spelling.nodes.contains(&node))?;
        Some(&spelling.text)
    }
}

/// What the user and the client asked of the shape of facets.
#[derive(Debug, Clone)]
pub(super) struct FacetShape {
    max_values: usize,
    /// Nodes list more values than that.
    has_surplus: bool,
    default_order: FacetOrder,
    /// Orders of the facets named in the request.
    orders: HashMap<String, FacetOrder>,
}

/// The merged facets, as JSON.
#[derive(Debug, Default)]
pub(super) struct MergedFacets {
    pub(super) distribution: Vec<u8>,
    pub(super) stats: Vec<u8>,
    pub(super) conflicts: Vec<FacetConflict>,
}

impl FacetShape {
    /// An order set for an attribute counts only when the request names that very attribute.
    pub(super) fn new(settings: &SearchSettings, requested: Option<&[String]>) -> Self {
        let named = requested.filter(|names| !names.iter().any(|name| name == "*")).unwrap_or_default();
        Self {
            max_values: settings.max_values_per_facet,
            has_surplus: settings.is_split,
            default_order: settings.order_of("*"),
            orders: named.iter().map(|name| (name.clone(), settings.order_of(name))).collect(),
        }
    }

    pub(super) fn order_of(&self, attribute: &str) -> FacetOrder {
        self.orders.get(attribute).copied().unwrap_or(self.default_order)
    }
}

/// Merges facets. `documents` is how many documents match, as far as known.
pub(super) fn merge(
    shape: &FacetShape,
    nodes: &[RawFacets],
    documents: u64,
    choices: &SpellingChoices,
) -> Result<MergedFacets, Malformed> {
    let mut values: BTreeMap<Cow<str>, Values> = BTreeMap::new();
    let mut stats: BTreeMap<Cow<str>, Stats> = BTreeMap::new();
    for (place, node) in nodes.iter().enumerate() {
        let node_stats = node.stats.map(read_stats).transpose()?.unwrap_or_default();
        if let Some(distribution) = node.distribution {
            read_distribution(shape, distribution, &node_stats, place, &mut values)?;
        }
        for (attribute, node_stats) in node_stats {
            match stats.get_mut(&attribute) {
                Some(stats) => stats.widen(node_stats),
                None => {
                    stats.insert(attribute, node_stats);
                }
            }
        }
    }
    let mut merged = MergedFacets::default();
    let mut writer = ObjectWriter::begin(&mut merged.distribution);
    for (attribute, values) in values {
        let out = writer.key(escaped(&attribute).as_bytes());
        write_values(shape, &attribute, values, documents, choices, out, &mut merged.conflicts);
    }
    writer.end();
    let mut writer = ObjectWriter::begin(&mut merged.stats);
    for (attribute, stats) in stats {
        let out = writer.key(escaped(&attribute).as_bytes());
        let mut members = ObjectWriter::begin(out);
        members.member(b"min", stats.min.1);
        members.member(b"max", stats.max.1);
        members.end();
    }
    writer.end();
    Ok(merged)
}

/// A string as it stands between the quotes of JSON.
fn escaped(text: &str) -> String {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    write_json(&mut quoted, text);
    String::from_utf8_lossy(string_content(&quoted).unwrap_or_default()).into_owned()
}

fn write_values(
    shape: &FacetShape,
    attribute: &str,
    values: Values,
    documents: u64,
    choices: &SpellingChoices,
    out: &mut Vec<u8>,
    conflicts: &mut Vec<FacetConflict>,
) {
    let order = shape.order_of(attribute);
    let is_listed_by_level = order == FacetOrder::Count || documents > MANY_DOCUMENTS;

    let mut numbers: Vec<(Cow<str>, f64, u64)> =
        values.numbers.into_iter().map(|(text, (value, count))| (text, value, count)).collect();
    numbers.sort_unstable_by(|left, right| match order {
        FacetOrder::Count => right.2.cmp(&left.2).then_with(|| right.1.total_cmp(&left.1)),
        FacetOrder::Alpha if is_listed_by_level => left.1.total_cmp(&right.1),
        FacetOrder::Alpha => left.0.cmp(&right.0),
    });
    let mut strings: Vec<(Cow<str>, Vec<SpeltBy>, u64)> =
        values.strings.into_iter().map(|(key, (spellings, count))| (key, spellings, count)).collect();
    if order == FacetOrder::Count {
        strings.sort_unstable_by(|left, right| right.2.cmp(&left.2).then_with(|| right.0.cmp(&left.0)));
    }

    let numbers = numbers.into_iter().map(|(text, _, count)| (text, count));
    // Only of strings that are listed is a spelling chosen.
    let strings = strings.into_iter().filter_map(|(_, mut spellings, count)| {
        spellings.sort_unstable();
        let chosen = spellings.iter().find(|(spelling, _)| choices.has(attribute, spelling));
        let is_settled = chosen.is_some();
        let shown = chosen.or(spellings.first())?.0.clone();
        if spellings.len() > 1 && !is_settled {
            let spellings = spellings.into_iter();
            let spellings =
                spellings.map(|(text, nodes)| Spelling { text: text.into_owned(), nodes }).collect();
            conflicts.push(FacetConflict { attribute: attribute.to_owned(), spellings });
        }
        Some((shown, count))
    });
    let mut writer = ObjectWriter::begin(out);
    for (value, count) in list(shape.max_values, is_listed_by_level, numbers, strings) {
        write_json(writer.key(escaped(&value).as_bytes()), &count);
    }
    writer.end();
}

/// The facets of one node's answer without what is hidden, cut to what the user's settings allow.
///
/// Their order is right already; only a node that was set to list more than the user wants has to be cut.
pub(super) fn finish_alone(
    shape: &FacetShape,
    facets: RawFacets,
    documents: u64,
) -> Result<(Vec<u8>, Vec<u8>), Malformed> {
    let raw_stats = facets.stats.unwrap_or(b"{}");
    let stats = read_stats(raw_stats)?;
    let mut distribution = Vec::new();
    let mut writer = ObjectWriter::begin(&mut distribution);
    let mut cursor = Cursor::new(facets.distribution.unwrap_or(b"{}"));
    cursor.begin_object()?;
    while let Some(raw_attribute) = cursor.next_key()? {
        let attribute = unescape(raw_attribute);
        let start = cursor.at();
        let mut listed = Vec::new();
        cursor.begin_object()?;
        while let Some(value) = cursor.next_key()? {
            listed.push((value, cursor.value()?));
        }
        let raw_values = cursor.since(start);
        if is_reserved(&attribute) {
            continue;
        }
        if !shape.has_surplus || listed.len() <= shape.max_values {
            writer.member(raw_attribute, raw_values);
            continue;
        }
        let is_by_count = shape.order_of(&attribute) == FacetOrder::Count;
        let range = stats.get(&attribute).map(Stats::range);
        let mut numbers_first = NumbersFirst::new(range, is_by_count);
        let texts: Vec<Cow<str>> = listed.iter().map(|(value, _)| unescape(value)).collect();
        let numbers = texts.iter().map_while(|text| numbers_first.next(text)).count();
        // The total stops at what can be reached; no value is in more documents than match.
        let at_least = listed.iter().filter_map(|(_, count)| unsigned(count)).max().unwrap_or_default();
        let is_listed_by_level =
            numbers_first.is_listed_by_level().unwrap_or(documents.max(at_least) > MANY_DOCUMENTS);
        let mut strings = listed.into_iter();
        let numbers: Vec<_> = strings.by_ref().take(numbers).collect();
        let mut values = ObjectWriter::begin(writer.key(raw_attribute));
        for (value, count) in list(shape.max_values, is_listed_by_level, numbers.into_iter(), strings) {
            values.member(value, count);
        }
        values.end();
    }
    writer.end();
    let mut stats = Vec::new();
    let mut writer = ObjectWriter::begin(&mut stats);
    let mut cursor = Cursor::new(raw_stats);
    cursor.begin_object()?;
    while let Some(attribute) = cursor.next_key()? {
        let value = cursor.value()?;
        if !is_reserved(&unescape(attribute)) {
            writer.member(attribute, value);
        }
    }
    writer.end();
    Ok((distribution, stats))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shape(max: usize, order: FacetOrder) -> FacetShape {
        FacetShape { max_values: max, has_surplus: true, default_order: order, orders: HashMap::new() }
    }

    fn merged(shape: &FacetShape, nodes: &[(&str, &str)], documents: u64) -> (String, String, usize) {
        let nodes: Vec<RawFacets> = nodes
            .iter()
            .map(|(distribution, stats)| RawFacets {
                distribution: Some(distribution.as_bytes()),
                stats: Some(stats.as_bytes()),
            })
            .collect();
        let merged = merge(shape, &nodes, documents, &SpellingChoices::default()).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(merged.distribution), text(merged.stats), merged.conflicts.len())
    }

    #[test]
    fn counts_add_up_by_normalised_value() {
        let nodes = [
            (r#"{"g":{"Comedy":1,"drama":2},"_miroir_shard":{"!!!!":9}}"#, "{}"),
            (r#"{"g":{"Drama":3,"Action":1},"only":{}}"#, "{}"),
        ];
        let (distribution, stats, conflicts) = merged(&shape(100, FacetOrder::Alpha), &nodes, 10);
        assert_eq!(distribution, r#"{"g":{"Action":1,"Comedy":1,"Drama":5},"only":{}}"#);
        assert_eq!((stats.as_str(), conflicts), ("{}", 1));
    }

    #[test]
    fn numbers_come_first_by_text_or_by_size() {
        let nodes = [
            (r#"{"n":{"10":1,"9":1,"a":1}}"#, r#"{"n":{"min":9.0,"max":10.0}}"#),
            (r#"{"n":{"2.5":1,"9":1}}"#, r#"{"n":{"min":2.5,"max":9.0}}"#),
        ];
        let (distribution, stats, _) = merged(&shape(100, FacetOrder::Alpha), &nodes, 10);
        assert_eq!(distribution, r#"{"n":{"10":1,"2.5":1,"9":2,"a":1}}"#);
        assert_eq!(stats, r#"{"n":{"min":2.5,"max":10.0}}"#);
        let (distribution, _, _) = merged(&shape(100, FacetOrder::Alpha), &nodes, 3001);
        assert_eq!(distribution, r#"{"n":{"2.5":1,"9":2,"10":1,"a":1}}"#);
        let (distribution, _, _) = merged(&shape(100, FacetOrder::Count), &nodes, 10);
        assert_eq!(distribution, r#"{"n":{"9":2,"10":1,"2.5":1,"a":1}}"#);
    }

    #[test]
    fn the_cut_is_where_meilisearch_cuts() {
        let nodes = [(r#"{"n":{"1":1,"2":1,"a":1,"b":1}}"#, r#"{"n":{"min":1.0,"max":2.0}}"#)];
        let cut = |max, order| merged(&shape(max, order), &nodes, 10).0;
        assert_eq!(cut(3, FacetOrder::Alpha), r#"{"n":{"1":1,"2":1,"a":1}}"#);
        assert_eq!(cut(1, FacetOrder::Alpha), r#"{"n":{"1":1}}"#);
        assert_eq!(cut(3, FacetOrder::Count), r#"{"n":{"2":1,"1":1,"b":1}}"#);
        assert_eq!(cut(2, FacetOrder::Count), r#"{"n":{"2":1,"1":1,"b":1,"a":1}}"#);
    }

    #[test]
    fn numbers_cut_by_size_where_nodes_list_by_text() {
        let nodes = [
            (r#"{"n":{"10":1,"100":1,"9":1},"_miroir_shard":{"!":3}}"#, r#"{"n":{"min":9.0,"max":100.0}}"#),
            (r#"{"n":{"8":1,"20":2998},"_miroir_shard":{"+":2999}}"#, r#"{"n":{"min":8.0,"max":20.0}}"#),
        ];
        let cut = |documents| merged(&shape(3, FacetOrder::Alpha), &nodes, documents).0;
        assert_eq!(cut(3002), r#"{"n":{"8":1,"9":1,"10":1}}"#);
        assert_eq!(cut(3000), r#"{"n":{"10":1,"100":1,"20":2998}}"#);
        assert_eq!(merged(&shape(5000, FacetOrder::Alpha), &nodes, 3002).0.matches(':').count(), 6);
    }

    #[test]
    fn a_value_that_is_a_number_and_a_string_is_listed_once() {
        let nodes =
            [(r#"{"n":{"4":2,"5":7}}"#, r#"{"n":{"min":4.0,"max":5.0}}"#), (r#"{"n":{"5":3,"a":1}}"#, "{}")];
        for (documents, order) in [(10, FacetOrder::Alpha), (3001, FacetOrder::Alpha)] {
            let (distribution, stats, conflicts) = merged(&shape(100, order), &nodes, documents);
            assert_eq!(distribution, r#"{"n":{"4":2,"5":3,"a":1}}"#);
            assert_eq!((stats.as_str(), conflicts), (r#"{"n":{"min":4.0,"max":5.0}}"#, 0));
        }
        let by_count = merged(&shape(100, FacetOrder::Count), &nodes, 10).0;
        assert_eq!(by_count, r#"{"n":{"5":3,"4":2,"a":1}}"#);
    }

    #[test]
    fn a_lone_answer_is_cut_as_its_order_shows() {
        let cut = |values: &str, documents| {
            let distribution = format!(r#"{{"n":{values}}}"#);
            let facets = RawFacets {
                distribution: Some(distribution.as_bytes()),
                stats: Some(br#"{"n":{"min":1,"max":20}}"#),
            };
            let cut = finish_alone(&shape(2, FacetOrder::Alpha), facets, documents).unwrap().0;
            String::from_utf8(cut).unwrap()
        };
        assert_eq!(cut(r#"{"1":1,"2":1,"10":1,"a":1,"b":1}"#, 9), r#"{"n":{"1":1,"2":1,"a":1,"b":1}}"#);
        assert_eq!(cut(r#"{"1":1,"10":1,"2":1,"a":1,"b":1}"#, 9), r#"{"n":{"1":1,"10":1}}"#);
        assert_eq!(cut(r#"{"11":1,"12":1,"13":1,"a":1}"#, 3000), r#"{"n":{"11":1,"12":1}}"#);
        assert_eq!(cut(r#"{"11":1,"12":1,"13":1,"a":1}"#, 3001), r#"{"n":{"11":1,"12":1,"a":1}}"#);
        assert_eq!(cut(r#"{"11":1,"12":1,"13":3001,"a":1}"#, 9), r#"{"n":{"11":1,"12":1,"a":1}}"#);
    }

    #[test]
    fn a_node_that_lists_no_more_than_wanted_is_right() {
        let whole = FacetShape { has_surplus: false, ..shape(2, FacetOrder::Alpha) };
        let values = br#"{"n":{"1":1,"2":1,"a":1,"b":1}}"#;
        let facets = RawFacets { distribution: Some(values), stats: None };
        assert_eq!(finish_alone(&whole, facets, 9).unwrap().0, values);
    }

    #[test]
    fn an_order_is_for_the_attribute_named_in_the_request() {
        let settings = SearchSettings::from_settings(&json!({
            "faceting": { "sortFacetValuesBy": { "a": "count", "a.b": "count" } },
        }));
        let requested = ["a".to_owned(), "c".to_owned()];
        let by_name = FacetShape::new(&settings, Some(&requested));
        assert_eq!(by_name.order_of("a"), FacetOrder::Count);
        assert_eq!(by_name.order_of("a.b"), FacetOrder::Alpha);
        let all = FacetShape::new(&settings, Some(&["*".to_owned()]));
        assert_eq!(all.order_of("a"), FacetOrder::Alpha);
    }

    #[test]
    fn a_lone_answer_is_only_cut_and_stripped() {
        let facets = RawFacets {
            distribution: Some(br#"{"_miroir_shard":{"!":1},"g":{"b":2,"a":1,"c":1}}"#),
            stats: Some(br#"{"_miroir_x":{"min":1,"max":2}}"#),
        };
        let (distribution, stats) = finish_alone(&shape(2, FacetOrder::Count), facets, 10).unwrap();
        assert_eq!(distribution, br#"{"g":{"b":2,"a":1}}"#);
        assert_eq!(stats, b"{}");
    }
}
