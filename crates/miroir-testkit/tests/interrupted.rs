//! A write that a node missed in the middle, with no other copy to take it: it is refused, and then every node shares
//! its outcome all the same, whatever happened to the node or to Miroir in between.

use std::time::{Duration, Instant};

use miroir_testkit::cluster::{Cluster, NODE_MASTER_KEY, Shape};
use miroir_testkit::compare::{INCIDENTAL_TO_SEARCH, INCIDENTAL_TO_TASKS, compare_answers};
use miroir_testkit::corpus::catalogue;
use miroir_testkit::oracle::Oracle;
use miroir_testkit::profile::Profile;
use miroir_testkit::proxy::Fault;
use reqwest::Method;
use serde_json::{Value, json};

const SEED: u64 = 7;
const SHAPE: Shape = Shape { nodes: 3, replication_factor: 1, replica_groups: 1, shards: 7 };
const TIMEOUTS: &str = "scatter: { node_timeout_ms: 1000 }\n";
/// Which node misses the write.
const BAD: usize = 1;
/// Longest wait for a cluster to be whole again.
const PATIENCE: Duration = Duration::from_secs(60);

async fn start() -> Oracle {
    Oracle::with_cluster(Cluster::start_with_proxies(SHAPE, TIMEOUTS).await).await
}

/// Waits until Miroir uses every node.
async fn wait_whole(oracle: &mut Oracle) {
    let started = Instant::now();
    loop {
        let topology = oracle.cluster().admin().get("/_miroir/topology").await.ok();
        let nodes = topology["nodes"].as_array().cloned().unwrap_or_default();
        if nodes.len() == SHAPE.nodes && nodes.iter().all(|node| node["health"] == "healthy") {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "not whole: {topology}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn heal(oracle: &mut Oracle) {
    oracle.cluster().proxies[BAD].set(Fault::None);
    wait_whole(oracle).await;
}

/// Sends a write of which the bad node is to miss its part; returns the task.
async fn send_interrupted(
    oracle: &mut Oracle,
    fault: Fault,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> u64 {
    let started = Instant::now();
    loop {
        oracle.cluster().proxies[BAD].set(fault);
        let answer = oracle.subject_client().call(method.clone(), path, body).await;
        assert_eq!(answer.status, 503, "{fault:?}: {}", answer.body);
        assert_eq!(answer.body["code"], "miroir_no_quorum", "{fault:?}");
        if answer.body["message"].as_str().unwrap_or_default().contains("may still be carried out") {
            let newest = oracle.subject_client().get("/tasks?limit=1").await.ok()["results"][0].clone();
            assert_eq!(newest["status"], "enqueued", "{newest}");
            // There is no task of that number: waiting for it fails.
            return newest["uid"].as_u64().unwrap_or(u64::MAX);
        }
        // A probe was faster, so nothing was sent.
        assert!(started.elapsed() < PATIENCE, "{fault:?} never hit a write: {}", answer.body);
        heal(oracle).await;
    }
}

async fn assert_succeeds(oracle: &Oracle, task: u64) {
    let ended = oracle.subject_client().wait_task(task).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
}

/// The same on all nodes, by their own account.
async fn settings_of_nodes(oracle: &mut Oracle, index: &str) -> Value {
    let mut all = Vec::new();
    for node in &oracle.cluster().nodes {
        all.push(node.client().get(&format!("/indexes/{index}/settings")).await.ok());
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "the settings of the nodes differ: {all:#?}");
    all.swap_remove(0)
}

async fn assert_refused_at_once(oracle: &Oracle, path: &str) {
    let started = Instant::now();
    let later = oracle.subject_client().post(path, &json!([{ "id": 1 }])).await;
    assert_eq!(later.status, 503, "{}", later.body);
    let message = later.body["message"].as_str().unwrap_or_default();
    assert!(message.contains("waits for an earlier write") && message.contains("meili-1"), "{message}");
    assert!(started.elapsed() < Duration::from_secs(1), "refused after {:?}", started.elapsed());
}

const FAULTS: [Fault; 3] = [Fault::Reset, Fault::Blackhole, Fault::HalfOpen];

#[tokio::test]
async fn settings_and_documents_reach_every_node_when_it_is_back() {
    let corpus = catalogue(SEED, 300);
    let mut oracle = start().await;
    oracle.load("shop", &corpus, Profile::Default).await;
    for (round, fault) in FAULTS.into_iter().enumerate() {
        let path = "/indexes/shop/settings";
        let stop_word = ["garden", "lamp", "kitchen"][round];
        let change = json!({
            "stopWords": [stop_word],
            "faceting": { "maxValuesPerFacet": 50 + round },
        });
        let before = oracle.subject_client().get(path).await.ok();
        let task = send_interrupted(&mut oracle, fault, Method::PATCH, path, Some(&change)).await;
        let search = oracle.subject_client().post("/indexes/shop/search", &json!({ "q": "red" })).await;
        assert_eq!(search.header("x-miroir-settings-inconsistent"), Some("true"), "{fault:?}");
        assert_eq!(oracle.subject_client().get(path).await.ok(), before, "not yet agreed, and shown");
        assert_refused_at_once(&oracle, "/indexes/shop/documents").await;
        heal(&mut oracle).await;
        assert_succeeds(&oracle, task).await;
        let answer = oracle.reference_client().patch(path, &change).await;
        oracle.reference_client().wait_success(answer).await;
        settings_of_nodes(&mut oracle, "shop").await;
        let difference = oracle.compare_get(path, &[]).await;
        assert!(difference.is_empty(), "{fault:?}: the settings differ:\n{difference}");
        let search = oracle.subject_client().post("/indexes/shop/search", &json!({ "q": "red" })).await;
        assert_eq!(search.header("x-miroir-settings-inconsistent"), None, "{fault:?}");

        let batch: Vec<Value> = (0..100)
            .map(|number| {
                json!({ "id": 7_000_000 + round * 1_000 + number, "title": format!("red lamp {round}"),
                                  "_vectors": { "manual": null } })
            })
            .collect();
        let path = "/indexes/shop/documents";
        let task = send_interrupted(&mut oracle, fault, Method::POST, path, Some(&json!(batch))).await;
        heal(&mut oracle).await;
        assert_succeeds(&oracle, task).await;
        let answer = oracle.reference_client().post(path, &json!(batch)).await;
        oracle.reference_client().wait_success(answer).await;
        let documents = oracle.compare_documents("shop").await;
        assert!(documents.is_empty(), "{fault:?}: the documents differ:\n{documents}");
        for words in ["", "red lamp", "the kitchen lamp", "garden"] {
            let search = json!({ "q": words, "limit": 1_000, "attributesToRetrieve": ["id", "title"] });
            let path = "/indexes/shop/search";
            let (expected, found) = oracle.both(Method::POST, path, Some(&search)).await;
            let difference = compare_answers(&expected, &found, INCIDENTAL_TO_SEARCH);
            assert!(difference.is_empty(), "{fault:?}: the search for `{words}` differs:\n{difference}");
        }
    }
}

#[tokio::test]
async fn an_index_is_made_and_dropped_whole() {
    let documents: Vec<Value> =
        (0..50).map(|number| json!({ "id": number, "title": format!("film {number}") })).collect();
    let mut oracle = start().await;
    wait_whole(&mut oracle).await;
    let path = "/indexes/films/documents";
    let task =
        send_interrupted(&mut oracle, Fault::Blackhole, Method::POST, path, Some(&json!(documents))).await;
    let not_yet = oracle.subject_client().get("/indexes/films").await;
    assert_eq!(not_yet.body["code"], "index_not_found", "half an index is shown");
    heal(&mut oracle).await;
    assert_succeeds(&oracle, task).await;
    let answer = oracle.reference_client().post(path, &json!(documents)).await;
    oracle.reference_client().wait_success(answer).await;
    let task_difference = oracle
        .compare_get("/tasks?limit=1", &[INCIDENTAL_TO_TASKS, &["from", "next", "total"]].concat())
        .await;
    assert!(task_difference.is_empty(), "the tasks differ:\n{task_difference}");
    let difference = oracle.compare_documents("films").await;
    assert!(difference.is_empty(), "the documents differ:\n{difference}");
    settings_of_nodes(&mut oracle, "films").await;

    let dropped = "/indexes/films";
    let task = send_interrupted(&mut oracle, Fault::Blackhole, Method::DELETE, dropped, None).await;
    assert_refused_at_once(&oracle, path).await;
    heal(&mut oracle).await;
    assert_succeeds(&oracle, task).await;
    for node in &oracle.cluster().nodes {
        assert_eq!(node.client().get(dropped).await.status, 404, "remains of a dropped index");
    }
}

#[tokio::test]
async fn the_next_life_of_miroir_finishes_it() {
    let mut oracle = start().await;
    let creation = json!({ "uid": "films", "primaryKey": "id" });
    oracle.apply_ok(Method::POST, "/indexes", &creation).await;
    let path = "/indexes/films/settings";
    for (round, graceful) in [true, false].into_iter().enumerate() {
        let change = json!({ "stopWords": [format!("round{round}")] });
        let task = send_interrupted(&mut oracle, Fault::Blackhole, Method::PATCH, path, Some(&change)).await;
        if graceful {
            let started = Instant::now();
            assert_eq!(oracle.cluster().miroir.terminate(), Some(0));
            assert!(started.elapsed() < Duration::from_secs(5), "stopped after {:?}", started.elapsed());
        } else {
            oracle.cluster().miroir.kill();
        }
        oracle.cluster().miroir.restart().await;
        let status = oracle.subject_client().get(&format!("/tasks/{task}")).await.ok()["status"].clone();
        assert_eq!(status, "enqueued", "the bad node cannot have it yet");
        let search = oracle.subject_client().post("/indexes/films/search", &json!({})).await;
        assert_eq!(search.header("x-miroir-settings-inconsistent"), Some("true"));
        heal(&mut oracle).await;
        assert_succeeds(&oracle, task).await;
        assert_eq!(settings_of_nodes(&mut oracle, "films").await["stopWords"], change["stopWords"]);
        let search = oracle.subject_client().post("/indexes/films/search", &json!({})).await;
        assert_eq!(search.header("x-miroir-settings-inconsistent"), None);
    }
}

/// As with nodes of different versions: one finds wrong what the others have taken.
#[tokio::test]
async fn a_settings_change_that_nodes_disagree_about_ends_the_same_on_all() {
    const WRONG: &[u8] = b"PATCH /indexes/films/settings HTTP/1.1\r\nhost: node\r\n\
        authorization: Bearer a-node-master-key-for-tests\r\n\
        content-type: application/json\r\ncontent-length: 16\r\n\r\n{\"unknown\":true}";
    assert!(WRONG.windows(NODE_MASTER_KEY.len()).any(|text| text == NODE_MASTER_KEY.as_bytes()));
    let mut oracle = start().await;
    let creation = json!({ "uid": "films", "primaryKey": "id" });
    oracle.apply_ok(Method::POST, "/indexes", &creation).await;
    let path = "/indexes/films/settings";
    let before = oracle.subject_client().get(path).await.ok();
    let change = json!({ "stopWords": ["the"], "displayedAttributes": ["id"] });
    let task = send_interrupted(&mut oracle, Fault::Request(WRONG), Method::PATCH, path, Some(&change)).await;
    // Found wrong once more, unless a probe has taken the node out: then it takes the change when it is back.
    let started = Instant::now();
    let is_over = async |oracle: &Oracle| {
        oracle.subject_client().get(&format!("/tasks/{task}")).await.ok()["status"] != "enqueued"
    };
    while !is_over(&oracle).await && started.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    heal(&mut oracle).await;
    let ended = oracle.subject_client().wait_task(task).await;
    let nodes = settings_of_nodes(&mut oracle, "films").await;
    let shown = oracle.subject_client().get(path).await.ok();
    match ended["status"].as_str() {
        Some("failed") => {
            assert_eq!(ended["error"]["code"], "bad_request", "{ended}");
            assert_eq!((&nodes["stopWords"], shown), (&json!([]), before));
        }
        Some("succeeded") => {
            assert_eq!(nodes["stopWords"], json!(["the"]));
            assert_eq!(shown["displayedAttributes"], json!(["id"]));
        }
        status => panic!("ended as {status:?}: {ended}"),
    }
    let search = oracle.subject_client().post("/indexes/films/search", &json!({})).await;
    assert_eq!(search.header("x-miroir-settings-inconsistent"), None);
    // The queue is free again.
    oracle.apply_ok(Method::POST, "/indexes/films/documents", &json!([{ "id": 1 }])).await;
}
