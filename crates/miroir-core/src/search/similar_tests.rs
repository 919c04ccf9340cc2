//! Similar documents: what nodes are asked, and the order of what they answer.

use bytes::Bytes;
use serde_json::{Value, json};

use super::plan::PlanError;
use super::settings::SearchSettings;
use super::similar::SimilarPlan;

fn plan(body: Value, settings: &SearchSettings) -> Result<SimilarPlan, PlanError> {
    SimilarPlan::new(body.to_string().as_bytes(), settings)
}

fn hit(place: &str, similarity: Option<f64>) -> String {
    json!({
        "id": place, "_miroir_inserted_at": place, "_federation": {},
        "_rankingScoreDetails": { "year:desc": { "order": 0, "value": 3 },
                                  "vectorSort": { "order": 1, "similarity": similarity } },
    })
    .to_string()
}

fn answer(hits: &[String], total: usize) -> Vec<Bytes> {
    vec![format!("{{\"hits\":[{}],\"estimatedTotalHits\":{total}}}", hits.join(",")).into()]
}

fn merged(body: Value, answers: &[Vec<Bytes>]) -> Value {
    let plan = plan(body, &SearchSettings::default()).unwrap();
    serde_json::from_slice(&plan.merge(answers, 3).unwrap()).unwrap()
}

#[test]
fn the_nearest_come_first_and_ties_by_place() {
    let one = answer(&[hit("b", Some(0.9)), hit("d", Some(0.5)), hit("x", None)], 3);
    let other = answer(&[hit("c", Some(0.9)), hit("a", Some(0.9))], 4);
    let answers = [one, other];
    let found = merged(json!({ "id": 1, "embedder": "e", "limit": 3, "offset": 1 }), &answers);
    assert_eq!(
        found,
        json!({ "hits": [{ "id": "b" }, { "id": "c" }, { "id": "d" }], "id": "1", "processingTimeMs": 3,
                "limit": 3, "offset": 1, "estimatedTotalHits": 7 })
    );
    let body =
        json!({ "id": 1, "embedder": "e", "rankingScoreThreshold": 0.6, "showRankingScoreDetails": true });
    let found = merged(body, &answers);
    assert_eq!(found["estimatedTotalHits"], 3);
    assert_eq!(
        found["hits"][0],
        json!({ "id": "a", "_rankingScoreDetails": { "vectorSort": { "order": 0, "similarity": 0.9 } } })
    );
}

#[test]
fn nodes_are_asked_by_vector_without_the_document() {
    let settings = SearchSettings { distinct: Some("sku".to_owned()), ..SearchSettings::default() };
    let body =
        json!({ "id": "7", "embedder": "e", "filter": "a = 1", "limit": 2, "attributesToRetrieve": ["a"] });
    let plan = plan(body, &settings).unwrap();
    let fetched = br#"{"results":[{"_miroir_inserted_at":"!","_vectors":{"e":{"embeddings":[[1.0,2.50]],"regenerate":false}}}]}"#;
    let reference = plan.reference(fetched).unwrap().unwrap();
    assert!(reference.has_vector());
    let bodies = plan.bodies("films", &reference, Some("s = 1"));
    let body: Value = serde_json::from_slice(&bodies[0]).unwrap();
    assert_eq!(
        body,
        json!({ "federation": { "offset": 0, "limit": 3 }, "queries": [{
            "filter": ["a = 1", "_miroir_inserted_at != \"!\"", "s = 1"],
            "attributesToRetrieve": ["a", "_miroir_inserted_at"], "showRankingScoreDetails": true,
            "distinct": "_miroir_inserted_at", "hybrid": { "embedder": "e", "semanticRatio": 1.0 },
            "indexUid": "films", "vector": [1.0, 2.5] }] })
    );
    assert_eq!(plan.reference(br#"{"results":[]}"#), Ok(None));
}

#[test]
fn what_cannot_be_read_is_for_a_node() {
    for body in [
        json!({}),
        json!({ "id": 1 }),
        json!({ "embedder": "e" }),
        json!({ "id": "a b", "embedder": "e" }),
        json!({ "id": 1.5, "embedder": "e" }),
        json!({ "id": 1, "embedder": 3 }),
        json!({ "id": 1, "embedder": "e", "limit": -1 }),
    ] {
        assert!(plan(body.clone(), &SearchSettings::default()).is_err(), "{body}");
    }
}
