//! Operations beside documents and settings, next to one Meilisearch: experimental features and the primary key. Both
//! servers get the same requests one after the other, so that tasks have the same uids; only clocks differ.

#![allow(clippy::expect_used)]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use miroir_testkit::cluster::Shape;
use miroir_testkit::compare::{INCIDENTAL_TO_SEARCH, INCIDENTAL_TO_TASKS, compare_answers};
use miroir_testkit::oracle::Oracle;
use reqwest::Method;
use serde_json::{Value, json};

const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };
/// Longest wait for something to be noticed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Collects differences, to show all of them at the end.
#[derive(Default)]
struct Differences(String);

impl Differences {
    /// Does the same to both and waits for both tasks.
    async fn apply(&mut self, oracle: &Oracle, method: Method, path: &str, body: Value) {
        let difference = oracle.apply(method.clone(), path, Some(&body)).await;
        if !difference.is_empty() {
            writeln!(self.0, "- {method} {path} {body}\n{difference}").expect("a string can be written to");
        }
    }

    /// Reads the same from both.
    async fn read(&mut self, oracle: &Oracle, method: Method, path: &str, body: Option<Value>) {
        let (expected, found) = oracle.both(method, path, body.as_ref()).await;
        let incidental = [INCIDENTAL_TO_TASKS, INCIDENTAL_TO_SEARCH].concat();
        let difference = compare_answers(&expected, &found, &incidental);
        if !difference.is_empty() {
            writeln!(self.0, "- {path} {body:?}\n{difference}").expect("a string can be written to");
        }
    }

    #[track_caller]
    fn finish(self) {
        assert!(self.0.is_empty(), "Miroir does not answer as Meilisearch does:\n{}", self.0);
    }
}

const FEATURES: &str = "/experimental-features";

#[tokio::test]
async fn features_are_turned_on_as_meilisearch_does_and_on_every_node() {
    let mut oracle = Oracle::start(SHAPE).await;
    let mut differences = Differences::default();
    differences.read(&oracle, Method::GET, FEATURES, None).await;
    for body in [
        json!({}),
        json!({ "metrics": null, "network": false }),
        json!({ "metrics": "yes" }),
        json!({ "containsFilter": 1 }),
        json!({ "later": true }),
        json!({ "containsFilter": true, "later": true }),
        json!([]),
        json!("containsFilter"),
    ] {
        differences.read(&oracle, Method::PATCH, FEATURES, Some(body)).await;
    }
    differences.read(&oracle, Method::POST, FEATURES, Some(json!({}))).await;
    for name in ["metrics", "logsRoute", "network", "getTaskDocumentsRoute", "chatCompletions"] {
        let refused = oracle.subject_client().patch(FEATURES, &json!({ name: true })).await;
        assert_eq!((refused.status, &refused.body["code"]), (501, &json!("miroir_unsupported")), "{name}");
    }
    differences.read(&oracle, Method::GET, FEATURES, None).await;

    let films: Vec<Value> =
        (0..30).map(|number| json!({ "id": number, "t": format!("film {number}") })).collect();
    oracle.apply_ok(Method::POST, "/indexes/films/documents", &json!(films)).await;
    oracle.apply_ok(Method::PUT, "/indexes/films/settings/filterable-attributes", &json!(["t"])).await;
    let search = json!({ "filter": "t CONTAINS 'm 1'", "limit": 50 });
    let path = "/indexes/films/search";
    differences.read(&oracle, Method::POST, path, Some(search.clone())).await;
    let on = json!({ "containsFilter": true, "compositeEmbedders": true, "multimodal": true });
    differences.read(&oracle, Method::PATCH, FEATURES, Some(on)).await;
    differences.read(&oracle, Method::POST, path, Some(search.clone())).await;
    differences.read(&oracle, Method::PATCH, FEATURES, Some(json!({ "multimodal": false }))).await;

    // Kept over a restart of Miroir; a node that comes back empty learns of it before it is in service.
    let cluster = oracle.cluster();
    cluster.miroir.kill();
    cluster.nodes[1].restart_empty().await;
    cluster.miroir.restart().await;
    miroir_testkit::copies::wait_until_whole(cluster).await;
    for node in &cluster.nodes {
        let held = node.client().get(FEATURES).await.ok();
        assert_eq!((&held["containsFilter"], &held["multimodal"]), (&json!(true), &json!(false)));
    }
    // One that was told otherwise behind Miroir's back is told again when it comes back.
    cluster.nodes[2].client().patch(FEATURES, &json!({ "containsFilter": false })).await.ok();
    cluster.nodes[2].kill();
    let started = Instant::now();
    while cluster.admin().get("/_miroir/topology").await.ok()["nodes"][2]["health"] == "healthy" {
        assert!(started.elapsed() < PATIENCE, "nobody misses the node");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.nodes[2].restart().await;
    while cluster.nodes[2].client().get(FEATURES).await.ok()["containsFilter"] != true {
        assert!(started.elapsed() < PATIENCE, "the node was not told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    differences.read(&oracle, Method::GET, FEATURES, None).await;
    differences.read(&oracle, Method::POST, path, Some(search.clone())).await;
    differences.read(&oracle, Method::PATCH, FEATURES, Some(json!({ "containsFilter": false }))).await;
    differences.read(&oracle, Method::POST, path, Some(search)).await;

    // The primary key that an index has already, while it has documents.
    for body in [json!({ "primaryKey": "id" }), json!({ "primaryKey": "t" }), json!({})] {
        differences.apply(&oracle, Method::PATCH, "/indexes/films", body).await;
    }
    differences.finish();
}
