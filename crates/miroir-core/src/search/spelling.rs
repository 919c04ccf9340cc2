//! Which of several spellings of a facet value one Meilisearch would show.
//!
//! `New` and `new` are one value, shown as the oldest matching document writes it. A node shows the spelling of its
//! own oldest one. So each node that showed the value is asked for the position of that document, and the node with
//! the lowest position is right. This takes one more round of requests, only when nodes disagree.
//!
//! To a node, the oldest document is the one it was given first. That is the one inserted first as long as nodes
//! are given documents in the order of insertion, which a copy made to repair or to move a shard cannot keep.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::facets::FacetConflict;
use super::plan::{SHOWING_MORE, SearchPlan};
use super::request::{Changes, filter_with_shards};
use super::scan::write_json;
use crate::hidden::{INSERTED_AT_FIELD, decode};

/// Values settled per search at most, because each costs every node a search of its own. Of those beyond, the
/// spelling that sorts first is shown.
const MAX_SETTLED: usize = 50;

/// The spellings to show, by facet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpellingChoices {
    by_attribute: HashMap<String, HashSet<String>>,
}

impl SpellingChoices {
    /// Whether this spelling is the one to show. No two values have a spelling in common.
    pub(super) fn has(&self, attribute: &str, spelling: &str) -> bool {
        self.by_attribute.get(attribute).is_some_and(|spellings| spellings.contains(spelling))
    }
}

/// The round of requests that settles how values are spelt.
#[derive(Debug)]
pub struct SpellingRound<'a> {
    plan: &'a SearchPlan,
    conflicts: &'a [FacetConflict],
    /// Per conflict, the lowest position known and who told it.
    oldest: Vec<Option<(u64, usize)>>,
}

impl<'a> SpellingRound<'a> {
    /// Begins with what [`SearchPlan::merge`] could not decide.
    pub fn new(plan: &'a SearchPlan, conflicts: &'a [FacetConflict]) -> Self {
        let conflicts = conflicts.get(..MAX_SETTLED).unwrap_or(conflicts);
        Self { plan, conflicts, oldest: vec![None; conflicts.len()] }
    }

    /// The body of the `POST /multi-search` for the node with this place among the merged answers, restricted to
    /// the shards it answered for. `None` when it has nothing to tell.
    pub fn body(&self, node: usize, index_uid: &str, shard_filter: Option<&str>) -> Option<Vec<u8>> {
        let queries: Vec<Box<RawValue>> = self
            .asked_of(node)
            .filter_map(|(_, filter)| self.plan.body_of_oldest(index_uid, shard_filter, &filter))
            .collect();
        if queries.is_empty() {
            return None;
        }
        let mut body = Vec::new();
        write_json(&mut body, &BTreeMap::from([("queries", queries)]));
        Some(body)
    }

    /// Takes in a node's answer. What cannot be read tells nothing.
    ///
    /// Nodes list the lowest positions first, except where facets are sorted by count: there they list up to
    /// 20,000 in any order, and beyond that the lowest may be missing.
    pub fn learn(&mut self, node: usize, answer: &[u8]) {
        let Ok(answer) = serde_json::from_slice::<MultiAnswer>(answer) else { return };
        let asked: Vec<usize> = self.asked_of(node).map(|(conflict, _)| conflict).collect();
        for (conflict, result) in asked.into_iter().zip(answer.results) {
            let positions = result.distribution.get(INSERTED_AT_FIELD).into_iter().flat_map(BTreeMap::keys);
            let Some(position) = positions.filter_map(|text| decode(text)).min() else { continue };
            if let Some(oldest) = self.oldest.get_mut(conflict)
                && oldest.is_none_or(|(lowest, _)| position < lowest)
            {
                *oldest = Some((position, node));
            }
        }
    }

    /// What to show.
    pub fn choices(&self) -> SpellingChoices {
        let mut choices = SpellingChoices::default();
        for (conflict, oldest) in self.conflicts.iter().zip(&self.oldest) {
            let Some((_, node)) = oldest else { continue };
            if let Some(spelling) = conflict.spelling_of(*node) {
                let spellings = choices.by_attribute.entry(conflict.attribute.clone()).or_default();
                spellings.insert(spelling.to_owned());
            }
        }
        choices
    }

    /// The conflicts that concern a node, each with the filter for its value. The order is always the same.
    fn asked_of(&self, node: usize) -> impl Iterator<Item = (usize, String)> {
        self.conflicts.iter().enumerate().filter_map(move |(index, conflict)| {
            let spelling = conflict.spelling_of(node)?;
            Some((index, format!("{} = {}", quoted(&conflict.attribute)?, quoted(spelling)?)))
        })
    }
}

impl SearchPlan {
    /// The query for the positions of the documents that match this search and `filter`.
    fn body_of_oldest(
        &self,
        index_uid: &str,
        shard_filter: Option<&str>,
        filter: &str,
    ) -> Option<Box<RawValue>> {
        let mut changes = Changes::default();
        SHOWING_MORE.into_iter().for_each(|name| changes.remove(name));
        let client_filter = self.filter();
        let in_shards = match shard_filter {
            Some(shards) => Some(filter_with_shards(client_filter, shards)?),
            None => client_filter.map(str::to_owned),
        };
        changes.set("filter", filter_with_shards(in_shards.as_deref(), filter)?);
        // How many hits are wanted matters only where some matches are left out for better ones.
        let leaves_out_matches = self.distinct.is_some() || self.threshold.is_some();
        self.ask_from_the_first(&mut changes, if leaves_out_matches { self.reach() } else { 0 });
        changes.set_list("attributesToRetrieve", &[]);
        changes.set_list("facets", &[INSERTED_AT_FIELD.to_owned()]);
        let mut uid = Vec::new();
        write_json(&mut uid, index_uid);
        changes.set("indexUid", String::from_utf8(uid).ok()?);
        RawValue::from_string(String::from_utf8(self.body.write_with(&changes)).ok()?).ok()
    }
}

#[derive(Deserialize)]
struct MultiAnswer {
    results: Vec<FacetAnswer>,
}

#[derive(Deserialize)]
struct FacetAnswer {
    #[serde(rename = "facetDistribution", default)]
    distribution: HashMap<String, BTreeMap<String, u64>>,
}

/// A string as a filter expression quotes it; `None` when none of the two quotes can.
///
/// Only the quote itself can be escaped. A backslash is a plain character, yet the character after it never ends
/// the string, so an odd one cannot stand before the end or before an escaped quote.
fn quoted(text: &str) -> Option<String> {
    ['"', '\''].into_iter().find_map(|quote| {
        let mut follows_backslash = false;
        for character in text.chars() {
            if follows_backslash && character == quote {
                return None;
            }
            follows_backslash = character == '\\' && !follows_backslash;
        }
        let escaped = text.replace(quote, &format!("\\{quote}"));
        (!follows_backslash).then(|| format!("{quote}{escaped}{quote}"))
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::hidden::encode_position;
    use crate::search::SearchSettings;

    fn answer(facets: Value) -> Vec<Bytes> {
        vec![Bytes::from(json!({ "hits": [], "facetDistribution": facets }).to_string())]
    }

    fn positions(per_query: &[&[u64]]) -> Vec<u8> {
        let distribution = |positions: &&[u64]| {
            let counts: BTreeMap<String, u64> =
                positions.iter().map(|position| (encode_position(*position), 1)).collect();
            json!({ "facetDistribution": { INSERTED_AT_FIELD: counts } })
        };
        json!({ "results": per_query.iter().map(distribution).collect::<Vec<_>>() }).to_string().into_bytes()
    }

    #[test]
    fn the_spelling_of_the_oldest_document_is_shown() {
        let body = br#"{"q":"x","filter":"a = 1","limit":5,"facets":["g","h"],"showRankingScore":true}"#;
        let plan = SearchPlan::new(body, &SearchSettings::default()).unwrap();
        let answers = [
            answer(json!({ "g": { "New": 1, "Old": 1 }, "h": { "A": 1 } })),
            answer(json!({ "g": { "new": 2, "Old": 4 }, "h": { "a": 1 } })),
            answer(json!({ "g": { "New": 2, "old": 4 } })),
        ];
        let merged = plan.merge(&answers, 0).unwrap();
        let mut round = SpellingRound::new(&plan, &merged.facet_conflicts);
        let asked: Value = serde_json::from_slice(&round.body(1, "books", Some("s = 1")).unwrap()).unwrap();
        let query = |value: &str| {
            json!({
                "q": "x", "filter": ["a = 1", "s = 1", value], "limit": 0, "offset": 0, "indexUid": "books",
                "facets": [INSERTED_AT_FIELD], "attributesToRetrieve": [],
            })
        };
        let values = [r#""g" = "new""#, r#""g" = "Old""#, r#""h" = "a""#];
        assert_eq!(asked, json!({ "queries": values.map(query) }));

        round.learn(0, &positions(&[&[70, 40], &[8], &[9]]));
        round.learn(1, &positions(&[&[30, 50], &[9], &[3, 300]]));
        round.learn(2, &positions(&[&[31], &[7, 77]]));
        let settled = plan.merge_settled(&answers, 0, &round.choices()).unwrap();
        assert_eq!(settled.facet_conflicts, []);
        let settled: Value = serde_json::from_slice(&settled.body).unwrap();
        assert_eq!(settled["facetDistribution"], json!({ "g": { "new": 5, "old": 9 }, "h": { "a": 2 } }));
    }

    #[test]
    fn nodes_that_showed_nothing_are_not_asked_and_bad_answers_change_nothing() {
        let plan = SearchPlan::new(br#"{"facets":["g"]}"#, &SearchSettings::default()).unwrap();
        let answers =
            [answer(json!({ "g": { "b": 1 } })), answer(json!({ "g": { "B": 1 } })), answer(json!({}))];
        let merged = plan.merge(&answers, 0).unwrap();
        let mut round = SpellingRound::new(&plan, &merged.facet_conflicts);
        assert_eq!(round.body(2, "i", None), None);
        round.learn(0, b"<html>");
        round.learn(1, br#"{"results":[{}]}"#);
        assert_eq!(plan.merge_settled(&answers, 0, &round.choices()).unwrap(), merged);
    }

    #[test]
    fn matches_left_out_for_better_ones_are_left_out_again() {
        let settings = SearchSettings::from_settings(&json!({ "distinctAttribute": "sku" }));
        let plan = SearchPlan::new(br#"{"page":3,"hitsPerPage":4}"#, &settings).unwrap();
        let query: Value =
            serde_json::from_str(plan.body_of_oldest("i", None, "g = 1").unwrap().get()).unwrap();
        assert_eq!((&query["page"], &query["hitsPerPage"]), (&json!(1), &json!(12)));
    }

    #[test]
    fn values_are_quoted_as_filters_read_them() {
        assert_eq!(quoted("a b").as_deref(), Some(r#""a b""#));
        assert_eq!(quoted(r#"1" 'x'"#).as_deref(), Some(r#""1\" 'x'""#));
        assert_eq!(quoted(r#"a\b"#).as_deref(), Some(r#""a\b""#));
        assert_eq!(quoted(r#"a\"b"#).as_deref(), Some(r#"'a\"b'"#));
        assert_eq!(quoted(r#"a\\"#).as_deref(), Some(r#""a\\""#));
        assert_eq!(quoted(r#"a\"#), None);
    }
}
