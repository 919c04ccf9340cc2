//! Federated searches: what nodes are asked, and how the hits and facets of several queries become one answer.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Value, json};

use super::federated::FederatedPlan;
use super::multi::MultiSearch;
use super::settings::SearchSettings;

fn multi(federation: Value, queries: Value) -> MultiSearch {
    MultiSearch::parse(json!({ "federation": federation, "queries": queries }).to_string().as_bytes())
        .unwrap()
}

fn settings() -> HashMap<String, SearchSettings> {
    ["a", "b"].map(|uid| (uid.to_owned(), SearchSettings::default())).into()
}

fn plan(federation: Value, queries: Value) -> FederatedPlan {
    FederatedPlan::new(&multi(federation, queries), &settings()).unwrap()
}

fn read(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

/// A node's hit: its id, its place in the order of insertion, and the score of its one rule.
fn hit(id: &str, place: &str, score: f64) -> Value {
    json!({ "id": id, "_miroir_inserted_at": place, "_federation": { "indexUid": "x" }, "_rankingScore": score,
            "_rankingScoreDetails": { "proximity": { "order": 0, "score": score } } })
}

fn node(hits: Vec<Value>) -> Vec<Bytes> {
    let answer = json!({ "hits": hits, "limit": 20, "offset": 0, "estimatedTotalHits": hits.len() });
    vec![answer.to_string().into()]
}

fn summary(total: u64, facets: Value) -> Vec<Bytes> {
    let answer = json!({ "hits": [], "estimatedTotalHits": total, "facetsByIndex": facets });
    vec![answer.to_string().into()]
}

/// The ids and the places of the queries of an answer.
fn shown(answer: &Value) -> Vec<(String, u64)> {
    let of_hit = |hit: &Value| {
        let position = hit["_federation"]["queriesPosition"].as_u64().unwrap();
        (hit["id"].as_str().unwrap().to_owned(), position)
    };
    answer["hits"].as_array().unwrap().iter().map(of_hit).collect()
}

fn answer(
    plan: &FederatedPlan,
    of_queries: Vec<Vec<Vec<Bytes>>>,
    of_indexes: &[(&str, Vec<Bytes>)],
) -> Value {
    let hits = plan.queries().iter().zip(of_queries).map(|(query, nodes)| query.merge(&nodes).unwrap());
    let summaries: Vec<_> = of_indexes
        .iter()
        .map(|(uid, answers)| plan.summarise(uid, &SearchSettings::default(), answers).unwrap())
        .collect();
    read(&plan.answer(hits.collect(), &summaries, 3).unwrap())
}

#[test]
fn each_query_is_a_federated_search_of_its_own() {
    let plan = plan(
        json!({ "limit": 3000, "offset": 4, "facetsByIndex": { "a": ["g"] } }),
        json!([{ "q": "x", "indexUid": "a", "limit": null, "federationOptions": { "weight": 2 } },
               { "indexUid": "a", "filter": "f = 1", "showRankingScore": true }]),
    );
    let sent = read(&plan.queries()[0].bodies(Some("s = 1"))[0]);
    let query = json!({ "indexUid": "a", "q": "x", "filter": ["s = 1"], "showRankingScore": true,
                        "showRankingScoreDetails": true });
    assert_eq!(sent, json!({ "federation": { "offset": 0, "limit": 3004 }, "queries": [query] }));
    let sent = read(&plan.summary_body("a", None));
    let federation = json!({ "offset": 0, "limit": 3004, "facetsByIndex": { "a": ["g"] } });
    assert_eq!(sent["federation"], federation);
    assert_eq!(sent["queries"][0], json!({ "indexUid": "a", "q": "x", "attributesToRetrieve": [] }));
    assert_eq!(sent["queries"][1]["filter"], json!("f = 1"));
    assert_eq!(plan.summary_bodies_apart("a", None).len(), 2);
}

#[test]
fn a_document_is_listed_once_for_its_best_query_and_ties_go_to_the_first() {
    let plan = plan(
        json!({ "limit": 3, "offset": 1 }),
        json!([{ "indexUid": "a", "q": "x" },
               { "indexUid": "a", "q": "y", "federationOptions": { "weight": 0.5 } },
               { "indexUid": "b", "q": "x", "showRankingScore": true }]),
    );
    let found = answer(
        &plan,
        vec![
            vec![
                node(vec![hit("best", "!!", 1.0), hit("both", "!#", 0.25)]),
                node(vec![hit("last", "!%", 0.125)]),
            ],
            vec![node(vec![hit("both", "!#", 1.0)]), node(vec![])],
            vec![node(vec![hit("other", "!!", 0.5)])],
        ],
        &[("a", [summary(4, json!({})), summary(3, json!({}))].concat()), ("b", summary(1, json!({})))],
    );
    assert_eq!(shown(&found), [("both".to_owned(), 1), ("other".to_owned(), 2), ("last".to_owned(), 0)]);
    assert_eq!(
        (&found["estimatedTotalHits"], &found["limit"], &found["offset"]),
        (&json!(8), &json!(3), &json!(1))
    );
    let other = json!({ "id": "other", "_rankingScore": 0.5, "_federation":
                        { "indexUid": "b", "queriesPosition": 2, "weightedRankingScore": 0.5 } });
    assert_eq!(found["hits"][1], other);
    assert_eq!(found["hits"][0]["_federation"]["weightedRankingScore"], json!(0.5));
    assert_eq!(found.get("facetsByIndex"), None);
    assert_eq!(found.get("semanticHitCount"), None);
}

#[test]
fn facets_are_shown_by_index_or_as_one() {
    let facets = |uid: &str, distribution: Value, stats: Value| {
        summary(2, json!({ uid: { "distribution": { "g": distribution }, "stats": { "g": stats } } }))
    };
    let of_indexes = [
        ("a", facets("a", json!({ "z": 1, "n": 4 }), json!({ "min": 1, "max": 2 }))),
        ("b", facets("b", json!({ "z": 2, "b": 1 }), json!({ "min": 0.5, "max": 1 }))),
    ];
    let asked = |merging: Value| {
        let federation = json!({ "facetsByIndex": { "a": ["g"], "b": ["g"] }, "mergeFacets": merging });
        let plan = plan(federation, json!([{ "indexUid": "a" }, { "indexUid": "b" }]));
        answer(&plan, vec![vec![node(vec![])], vec![node(vec![])]], &of_indexes)
    };
    let apart = asked(Value::Null);
    assert_eq!(apart["facetsByIndex"]["a"]["distribution"].to_string(), r#"{"g":{"n":4,"z":1}}"#);
    assert_eq!(apart["facetsByIndex"]["b"]["stats"]["g"]["min"], json!(0.5));
    let merged = asked(json!({}));
    assert_eq!(merged["facetDistribution"].to_string(), r#"{"g":{"b":1,"n":4,"z":3}}"#);
    assert_eq!(merged["facetStats"], json!({ "g": { "min": 0.5, "max": 2.0 } }));
    let cut = asked(json!({ "maxValuesPerFacet": 2 }));
    assert_eq!(cut["facetDistribution"].to_string(), r#"{"g":{"b":1,"n":4}}"#);
}

#[test]
fn what_a_node_refuses_is_not_planned() {
    for (federation, query) in [
        (json!({ "limit": -1 }), json!({ "indexUid": "a" })),
        (json!({ "page": 1 }), json!({ "indexUid": "a" })),
        (json!({}), json!({ "indexUid": "nowhere" })),
        (json!({}), json!({ "indexUid": "a", "federationOptions": { "weight": -1 } })),
        (json!({}), json!({ "indexUid": "a", "federationOptions": { "remote": "r" } })),
        (json!({}), json!({ "indexUid": "a", "federationOptions": { "queryPosition": 1 } })),
        (json!({}), json!({ "indexUid": "a", "q": 1 })),
    ] {
        let multi = multi(federation, json!([query]));
        assert!(FederatedPlan::new(&multi, &settings()).is_err(), "{query}");
    }
    let checked =
        read(&multi(json!({ "limit": 5, "new": 1 }), json!([{ "indexUid": "a" }])).federated_body_to_check());
    assert_eq!(checked["federation"], json!({ "limit": 0, "new": 1, "offset": 0 }));
    let checked = read(&multi(json!({ "limit": "x" }), json!([])).federated_body_to_check());
    assert_eq!(checked["federation"], json!({ "limit": "x", "offset": 0 }));
    let reserved = plan(json!({ "facetsByIndex": { "a": ["_miroir_shard"] } }), json!([{ "indexUid": "a" }]));
    assert_eq!(reserved.names_reserved_field(), Some("_miroir_shard"));
}
