//! Merged facet searches: the values, their counts and their order are those of one Meilisearch.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::facet_search::FacetSearchPlan;
use super::facets::{FacetConflict, Spelling};
use super::plan::PlanError;
use super::settings::SearchSettings;
use super::spelling::SpellingChoices;

fn plan(body: Value, settings: Value) -> FacetSearchPlan {
    let settings = SearchSettings::from_settings(&settings);
    FacetSearchPlan::new(body.to_string().as_bytes(), &settings).unwrap()
}

fn answer(hits: &[(&str, u64)]) -> Bytes {
    let hits: Vec<Value> =
        hits.iter().map(|(value, count)| json!({ "value": value, "count": count })).collect();
    json!({ "facetHits": hits, "facetQuery": null, "processingTimeMs": 9 }).to_string().into()
}

fn merged(plan: &FacetSearchPlan, answers: &[Bytes]) -> Vec<(String, u64)> {
    let merged = plan.merge(answers, 1, &SpellingChoices::default()).unwrap();
    let body: Value = serde_json::from_slice(&merged.body).unwrap();
    let hit = |hit: &Value| (hit["value"].as_str().unwrap().to_owned(), hit["count"].as_u64().unwrap());
    body["facetHits"].as_array().unwrap().iter().map(hit).collect()
}

fn owned(hits: &[(&str, u64)]) -> Vec<(String, u64)> {
    hits.iter().map(|(value, count)| ((*value).to_owned(), *count)).collect()
}

#[test]
fn counts_add_up_in_order_and_are_cut() {
    let answers = [answer(&[("a", 1), ("c", 2)]), answer(&[("b", 1), ("C", 3), ("d", 1)])];
    let plan = plan(json!({ "facetName": "g" }), json!({ "faceting": { "maxValuesPerFacet": 3 } }));
    assert_eq!(merged(&plan, &answers), owned(&[("a", 1), ("b", 1), ("C", 5)]));
    let conflicts = plan.merge(&answers, 1, &SpellingChoices::default()).unwrap().facet_conflicts;
    let spelling = |text: &str, node| Spelling { text: text.to_owned(), nodes: vec![node] };
    let spellings = vec![spelling("C", 1), spelling("c", 0)];
    assert_eq!(conflicts, [FacetConflict { attribute: "g".to_owned(), spellings }]);
}

#[test]
fn what_a_list_says_goes_before_what_values_look_like() {
    let plan = plan(json!({ "facetName": "g", "facetQuery": "x" }), json!({}));
    let answers = [answer(&[("z", 1), ("a", 2)]), answer(&[("a", 3), ("b", 1)])];
    assert_eq!(merged(&plan, &answers), owned(&[("z", 1), ("a", 5), ("b", 1)]));
    let contradicting = [answer(&[("z", 1), ("a", 2)]), answer(&[("a", 3), ("z", 1)])];
    assert_eq!(merged(&plan, &contradicting), owned(&[("a", 5), ("z", 2)]));
}

#[test]
fn a_search_goes_by_another_form() {
    let hits = [answer(&[("éb", 1)]), answer(&[("ea", 1)]), answer(&[("ez", 1)])];
    let in_all = plan(json!({ "facetName": "g" }), json!({}));
    assert_eq!(merged(&in_all, &hits), owned(&[("ea", 1), ("ez", 1), ("éb", 1)]));
    let searched = plan(json!({ "facetName": "g", "facetQuery": "e" }), json!({}));
    assert_eq!(merged(&searched, &hits), owned(&[("ea", 1), ("éb", 1), ("ez", 1)]));
}

#[test]
fn of_equal_counts_the_last_stay_and_come_first() {
    let settings = json!({ "faceting": { "maxValuesPerFacet": 2, "sortFacetValuesBy": { "g": "count" } } });
    let plan = plan(json!({ "facetName": "g" }), settings);
    let answers = [answer(&[("c", 1), ("b", 1), ("a", 1)]), answer(&[("d", 1)])];
    assert_eq!(merged(&plan, &answers), owned(&[("d", 1), ("c", 1)]));
    let answers = [answer(&[("c", 1), ("b", 1), ("a", 1)]), answer(&[("c", 1), ("d", 1)])];
    assert_eq!(merged(&plan, &answers), owned(&[("c", 2), ("d", 1)]));
}

#[test]
fn the_shards_are_one_more_filter() {
    let plan = plan(json!({ "facetName": "g", "filter": "a = 1", "new": 1.50 }), json!({}));
    let sent: Value = serde_json::from_slice(&plan.body(Some("s"))).unwrap();
    assert_eq!(sent, json!({ "facetName": "g", "filter": ["a = 1", "s"], "new": 1.5 }));
    assert_eq!(plan.body(None), br#"{"facetName":"g","filter":"a = 1","new":1.5}"#);
}

#[test]
fn what_planning_cannot_read_is_forwarded_and_reserved_names_are_pointed_out() {
    for body in
        ["{}", r#"{"facetName":1}"#, r#"{"facetName":null}"#, r#"{"facetName":"g","facetQuery":1}"#, "[]"]
    {
        let planned = FacetSearchPlan::new(body.as_bytes(), &SearchSettings::default());
        assert!(matches!(planned, Err(PlanError::Forward(_))), "{body}");
    }
    let reserved = |body| plan(body, json!({})).names_reserved_field().map(str::to_owned);
    assert_eq!(reserved(json!({ "facetName": "_miroir_shard" })).as_deref(), Some("_miroir_shard"));
    assert_eq!(
        reserved(json!({ "facetName": "g", "attributesToSearchOn": ["_miroir_x"] })).as_deref(),
        Some("_miroir_x")
    );
    assert_eq!(reserved(json!({ "facetName": "g" })), None);
}

/// What one Meilisearch does with the values it comes upon, spelt out.
fn of_one(values: &[(String, u64)], max: usize, by_count: bool) -> Vec<(String, u64)> {
    if !by_count {
        return values.iter().take(max).cloned().collect();
    }
    let mut kept: Vec<(u64, String)> = Vec::new();
    for (value, count) in values {
        if kept.len() == max {
            kept.sort();
            match kept.first_mut() {
                Some(worst) if worst.0 <= *count => *worst = (*count, value.clone()),
                _ => {}
            }
        } else {
            kept.push((*count, value.clone()));
        }
    }
    kept.sort();
    kept.into_iter().rev().map(|(count, value)| (value, count)).collect()
}

proptest! {
    #[test]
    fn split_over_nodes_the_answer_is_the_same(
        counts in prop::collection::btree_map("[a-f]{1,2}", prop::collection::vec(0u64..3, 3), 0..12),
        max in 0usize..6,
        by_count: bool,
    ) {
        let node = |node: usize| -> Vec<(String, u64)> {
            let of_node = counts.iter().map(|(value, counts)| (value.clone(), counts[node]));
            let hits: Vec<_> = of_node.filter(|(_, count)| *count > 0).collect();
            of_one(&hits, usize::MAX, by_count)
        };
        let answers: Vec<Bytes> = (0..3).map(|place| {
            let hits = node(place);
            answer(&hits.iter().map(|(value, count)| (value.as_str(), *count)).collect::<Vec<_>>())
        }).collect();
        let sums: Vec<(String, u64)> = counts
            .iter()
            .map(|(value, counts)| (value.clone(), counts.iter().sum()))
            .filter(|(_, count)| *count > 0)
            .collect();
        let order = if by_count { "count" } else { "alpha" };
        let settings =
            json!({ "faceting": { "maxValuesPerFacet": max, "sortFacetValuesBy": { "g": order } } });
        let plan = plan(json!({ "facetName": "g" }), settings);
        prop_assert_eq!(merged(&plan, &answers), of_one(&sums, max, by_count));
    }
}
