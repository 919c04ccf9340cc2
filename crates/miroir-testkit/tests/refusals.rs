//! Nodes that refuse what other nodes hold are repaired all the same, searches are right meanwhile, and nothing is given up
//! that cannot be made up for.
//!
//! Meilisearch 1.21 lets places become sortable whatever its documents hold. From then on it refuses documents whose place
//! is none: it takes no new ones, and cannot replace or delete those that it has. An embedder that comes with another
//! setting is taken whatever the length of the vectors, too.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use miroir_core::shard::shard_of;
use miroir_testkit::cluster::Shape;
use miroir_testkit::copies::{assert_copies_agree, replicas_behind, wait_until_whole};
use miroir_testkit::oracle::Oracle;
use reqwest::Method;
use serde_json::{Value, json};

const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };
const WRONG: u64 = 300;
/// Of those, the ones that are given a place; all others are deleted.
const RIGHT: u64 = 200;
const PATH: &str = "/indexes/places/documents";
const SORTABLE: &str = "/indexes/places/settings/sortable-attributes";
/// The node that goes away, and another one.
const LOST: usize = 0;
const OTHER: usize = 2;
const NO_PLACE: &str = "invalid_document_geo_field";
/// Longest wait for something to be noticed, or repaired: twice 10 s are waited for searches to end, at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// An index with documents whose place is none.
async fn with_wrong_places() -> Oracle {
    let oracle = Oracle::start(SHAPE).await;
    let documents: Vec<Value> = (0..WRONG).map(|id| json!({ "id": id, "_geo": "nowhere" })).collect();
    oracle.apply_ok(Method::POST, PATH, &json!(documents)).await;
    oracle
}

/// Replaces some of them and deletes the others, and lets places become sortable.
async fn set_right(oracle: &Oracle) {
    oracle.apply_ok(Method::DELETE, PATH, &Value::Null).await;
    oracle.apply_ok(Method::PUT, SORTABLE, &json!(["_geo"])).await;
    let place = |id: u64| json!({ "lat": id % 80, "lng": id });
    let documents: Vec<Value> = (0..RIGHT).map(|id| json!({ "id": id, "_geo": place(id % 90) })).collect();
    oracle.apply_ok(Method::POST, PATH, &json!(documents)).await;
}

/// The documents on a node, by id.
async fn held_by(oracle: &mut Oracle, node: usize) -> BTreeMap<u64, Value> {
    let page = oracle.cluster().nodes[node].client().get(&format!("{PATH}?limit=1000")).await.ok();
    let documents = page["results"].as_array().cloned().unwrap_or_default();
    documents.into_iter().filter_map(|document| Some((document["id"].as_u64()?, document))).collect()
}

/// The nodes with replicas that are not read, and their shards.
async fn behind(oracle: &mut Oracle) -> Vec<(String, u64)> {
    let replica = |replica: &Value| Some((replica["node"].as_str()?.to_owned(), replica["shard"].as_u64()?));
    replicas_behind(&oracle.cluster().admin()).await.iter().filter_map(replica).collect()
}

/// Waits until something is so of the replicas that are not read.
async fn wait_until(oracle: &mut Oracle, is_so: impl Fn(&[(String, u64)]) -> bool, otherwise: &str) {
    let started = Instant::now();
    while !is_so(&behind(oracle).await) {
        assert!(started.elapsed() < PATIENCE, "{otherwise}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sorts by places.
fn sorted() -> Value {
    json!({ "indexUid": "places", "sort": ["_geoPoint(40, 20):asc"] })
}

/// Searches until everything is repaired, and compares. There must have been such a refusal, or nothing was tested.
async fn assert_repaired(oracle: &mut Oracle, documents: u64, query: Value, refusal: &str) {
    let searches = [json!({ "queries": [query] }), json!({ "federation": {}, "queries": [query] })];
    let hits = |answer: Value| match &answer["results"] {
        Value::Null => answer["hits"].clone(),
        results => results[0]["hits"].clone(),
    };
    let started = Instant::now();
    loop {
        // Once more when it is done.
        let is_repaired = behind(oracle).await.is_empty();
        for search in &searches {
            let (reference, subject) = oracle.both(Method::POST, "/multi-search", Some(search)).await;
            assert_eq!(hits(subject.ok()), hits(reference.ok()), "repaired: {is_repaired}");
        }
        if is_repaired {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "not repaired: {:?}", behind(oracle).await);
    }
    wait_until_whole(oracle.cluster()).await;
    assert_copies_agree(oracle.cluster(), "places", documents as usize, 2).await;
    let differing = oracle.compare_documents("places").await;
    assert!(differing.is_empty(), "the documents differ:\n{differing}");
    let failed = oracle.cluster().nodes[LOST].client().get("/tasks?statuses=failed").await.ok();
    let failed = failed["results"].as_array().cloned().unwrap_or_default();
    assert!(failed.iter().any(|task| task["error"]["code"] == refusal), "{failed:?}");
}

#[tokio::test]
async fn a_node_that_cannot_replace_or_delete_what_it_holds_is_repaired() {
    let mut oracle = with_wrong_places().await;
    // That somebody else wrote there, as well.
    let node = oracle.cluster().nodes[LOST].client().clone();
    let foreign = node.post(PATH, &json!([{ "id": WRONG, "_geo": "elsewhere" }])).await;
    node.wait_success(foreign).await;
    oracle.cluster().nodes[LOST].kill();
    set_right(&oracle).await;
    oracle.cluster().nodes[LOST].restart().await;
    assert_repaired(&mut oracle, RIGHT, sorted(), NO_PLACE).await;
}

#[tokio::test]
async fn an_empty_node_is_given_documents_that_are_against_the_settings() {
    let mut oracle = with_wrong_places().await;
    oracle.apply_ok(Method::PUT, SORTABLE, &json!(["_geo"])).await;
    let node = &mut oracle.cluster().nodes[LOST];
    node.kill();
    node.restart_empty().await;
    wait_until(&mut oracle, |behind| !behind.is_empty(), "nobody notices that the disk is empty").await;
    assert_repaired(&mut oracle, WRONG, sorted(), NO_PLACE).await;
}

#[tokio::test]
async fn an_empty_node_is_given_documents_that_are_against_more_than_one_setting() {
    let mut oracle = Oracle::start(SHAPE).await;
    let vectors = |id: u64| json!({ "right": [id, 1], "wrong": [id] });
    let document = |id: u64| json!({ "id": id, "_geo": "nowhere", "_vectors": vectors(id) });
    let documents: Vec<Value> = (0..WRONG).map(document).collect();
    oracle.apply_ok(Method::POST, PATH, &json!(documents)).await;
    let manual = json!({ "source": "userProvided", "dimensions": 2 });
    let both = json!({ "embedders": { "right": manual, "wrong": manual }, "sortableAttributes": ["_geo"] });
    oracle.apply_ok(Method::PATCH, "/indexes/places/settings", &both).await;
    let node = &mut oracle.cluster().nodes[LOST];
    node.kill();
    node.restart_empty().await;
    wait_until(&mut oracle, |behind| !behind.is_empty(), "nobody notices that the disk is empty").await;
    let mut query = sorted();
    query["retrieveVectors"] = json!(true);
    assert_repaired(&mut oracle, WRONG, query, "invalid_vector_dimensions").await;
}

/// It refuses an embedder that it missed.
#[tokio::test]
async fn a_node_whose_documents_have_no_vectors_is_repaired() {
    let mut oracle = with_wrong_places().await;
    oracle.cluster().nodes[LOST].kill();
    oracle.apply_ok(Method::DELETE, PATH, &Value::Null).await;
    let embedders = json!({ "manual": { "source": "userProvided", "dimensions": 2 } });
    oracle.apply_ok(Method::PATCH, "/indexes/places/settings", &json!({ "embedders": embedders })).await;
    let document = |id: u64| json!({ "id": id, "_vectors": { "manual": [id, 1] } });
    let documents: Vec<Value> = (0..RIGHT).map(document).collect();
    oracle.apply_ok(Method::POST, PATH, &json!(documents)).await;
    oracle.cluster().nodes[LOST].restart().await;
    let query = json!({ "indexUid": "places", "retrieveVectors": true });
    assert_repaired(&mut oracle, RIGHT, query, "vector_embedding_error").await;
}

/// With another node away, what is old may be the best there is. Once that one is back, the rest of the shards is read
/// already.
#[tokio::test]
async fn a_node_keeps_what_cannot_be_copied_until_it_can() {
    let mut oracle = with_wrong_places().await;
    let before = held_by(&mut oracle, LOST).await;
    let of_both: Vec<u64> = held_by(&mut oracle, OTHER).await.into_keys().collect();
    let of_both: Vec<u64> = of_both.into_iter().filter(|id| before.contains_key(id)).collect();
    let shards: Vec<u64> =
        of_both.iter().map(|id| u64::from(shard_of(&id.to_string(), SHAPE.shards).0)).collect();
    oracle.cluster().nodes[LOST].kill();
    set_right(&oracle).await;
    oracle.cluster().nodes[OTHER].kill();
    oracle.cluster().nodes[LOST].restart().await;
    let name = format!("meili-{LOST}");
    let is_other = |(node, shard): &(String, u64)| *node == name && !shards.contains(shard);
    wait_until(&mut oracle, |behind| !behind.iter().any(is_other), "what can be copied is not").await;
    let held = held_by(&mut oracle, LOST).await;
    assert!(!of_both.is_empty() && of_both.len() < before.len(), "{of_both:?}");
    for id in &of_both {
        assert_eq!(held.get(id), before.get(id), "document {id}, which nobody else could give");
    }
    oracle.cluster().nodes[OTHER].restart().await;
    wait_until(&mut oracle, |behind| behind.iter().any(is_other), "the others are still read").await;
    assert_repaired(&mut oracle, RIGHT, sorted(), NO_PLACE).await;
}
