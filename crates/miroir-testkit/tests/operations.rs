//! Operations beside documents and settings, next to one Meilisearch: experimental features, the primary key, the names
//! of indexes, functions that edit documents, and exports. Both servers get the same requests one after the other, so that tasks
//! have the same uids; only clocks differ.

#![allow(clippy::expect_used)]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use miroir_testkit::client::{Answer, Client};
use miroir_testkit::cluster::Shape;
use miroir_testkit::compare::{INCIDENTAL_TO_SEARCH, INCIDENTAL_TO_TASKS, compare_answers};
use miroir_testkit::oracle::Oracle;
use miroir_testkit::process::MeilisearchProcess;
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

const SWAP: &str = "/swap-indexes";

fn films(count: usize, genre: &str) -> Value {
    let film = |number: usize| {
        json!({ "id": number, "title": format!("{genre} film {number}"), "genre": genre, "year": 1950 + number % 60,
                "secret": number })
    };
    (0..count).map(film).collect()
}

async fn load_genres(oracle: &Oracle) {
    for (index, genre) in [("drama", "drama"), ("horror", "horror"), ("spare", "none")] {
        oracle.apply_ok(Method::POST, &format!("/indexes/{index}/documents"), &films(60, genre)).await;
    }
    let settings = json!({
        "filterableAttributes": ["genre", "year"], "sortableAttributes": ["year"],
        "displayedAttributes": ["id", "title", "genre", "year"], "faceting": { "maxValuesPerFacet": 70 },
    });
    oracle.apply_ok(Method::PATCH, "/indexes/drama/settings", &settings).await;
    oracle
        .apply_ok(
            Method::PATCH,
            "/indexes/horror/settings",
            &json!({ "filterableAttributes": ["year", "genre"] }),
        )
        .await;
}

/// Reads all indexes in every way.
async fn compare_reads(oracle: &Oracle, differences: &mut Differences) {
    let get = Method::GET;
    differences.read(oracle, get.clone(), "/indexes", None).await;
    differences
        .read(oracle, get.clone(), "/tasks?limit=100&types=documentAdditionOrUpdate,settingsUpdate", None)
        .await;
    for index in ["drama", "horror", "spare", "other"] {
        for path in ["", "/settings", "/documents?limit=7&offset=30", "/documents/7", "/documents/700"] {
            differences.read(oracle, get.clone(), &format!("/indexes/{index}{path}"), None).await;
        }
        for body in [
            json!({ "q": "film 3", "limit": 5, "facets": ["genre"] }),
            json!({ "filter": "genre = drama", "sort": ["year:desc"] }),
            json!({ "filter": "secret = 1" }),
            json!({ "q": "drama horor", "matchingStrategy": "frequency", "limit": 3 }),
        ] {
            differences.read(oracle, Method::POST, &format!("/indexes/{index}/search"), Some(body)).await;
        }
        let facet = json!({ "facetName": "genre", "facetQuery": "d" });
        differences.read(oracle, Method::POST, &format!("/indexes/{index}/facet-search"), Some(facet)).await;
    }
    for (first, second) in [("drama", "horror"), ("horror", "spare")] {
        for facets in [
            json!({ first: ["genre"] }),
            json!({ first: ["secret"] }),
            json!({ first: ["year"], second: [] }),
        ] {
            let body = json!({
                "federation": { "limit": 6, "facetsByIndex": facets },
                "queries": [{ "indexUid": first, "q": "film 4" }, { "indexUid": second, "q": "film 5" }],
            });
            differences.read(oracle, Method::POST, "/multi-search", Some(body)).await;
        }
        let body = json!({ "queries": [{ "indexUid": first, "q": "film" }, { "indexUid": second, "filter": "x = 1" }] });
        differences.read(oracle, Method::POST, "/multi-search", Some(body)).await;
    }
}

/// Writes to an index in every way.
async fn change(oracle: &Oracle, differences: &mut Differences, index: &str) {
    let path = format!("/indexes/{index}");
    for (method, suffix, body) in [
        (
            Method::POST,
            "/documents",
            json!([{ "id": 7, "title": "new film" }, { "id": 100, "title": "newer film" }]),
        ),
        (Method::PUT, "/documents", json!([{ "id": 8, "genre": "drama" }])),
        (Method::POST, "/documents/delete-batch", json!([9, 10, 1000])),
        (Method::POST, "/documents/delete", json!({ "filter": "genre = horror AND year < 1955" })),
        (Method::POST, "/documents/delete", json!({ "filter": "secret = 1" })),
        (Method::PATCH, "/settings", json!({ "stopWords": [index] })),
        (Method::PATCH, "", json!({ "primaryKey": "title" })),
    ] {
        differences.apply(oracle, method, &format!("{path}{suffix}"), body).await;
    }
}

#[tokio::test]
async fn indexes_are_swapped_and_renamed_as_meilisearch_does() {
    let mut oracle = Oracle::start(SHAPE).await;
    load_genres(&oracle).await;
    let mut differences = Differences::default();
    let pair = |left: &str, right: &str| json!({ "indexes": [left, right] });
    let renamed = |left: &str, right: &str| json!({ "indexes": [left, right], "rename": true });
    for wrong in [
        json!({}),
        json!("x"),
        json!([{}]),
        json!([[]]),
        json!([[["drama", "horror"], false]]),
        json!([{ "indexes": ["drama"] }]),
        json!([pair("drama", "horror"), { "indexes": ["a", "b", "c"] }]),
        json!([pair("drama", "drama")]),
        json!([pair("drama", "horror"), pair("horror", "drama")]),
        json!([pair("drama", "no spaces")]),
        json!([{ "indexes": ["drama", 1] }]),
        json!([{ "indexes": ["drama", "horror"], "rename": 1 }]),
        json!([{ "indexes": ["drama", "horror"], "later": 1 }]),
        // These become tasks that fail, with nothing changed.
        json!([pair("drama", "nowhere")]),
        json!([pair("drama", "horror"), pair("nowhere", "neither")]),
        json!([renamed("drama", "horror")]),
        json!([renamed("drama", "horror"), pair("spare", "nowhere")]),
        json!([renamed("spare", "horror"), renamed("nowhere", "elsewhere")]),
    ] {
        differences.apply(&oracle, Method::POST, SWAP, wrong).await;
    }
    for (index, body) in [
        ("drama", json!({ "uid": "no spaces" })),
        ("drama", json!({ "uid": 1 })),
        ("drama", json!({ "uid": "horror" })),
        ("drama", json!({ "uid": "drama" })),
        ("nowhere", json!({ "uid": "elsewhere" })),
    ] {
        differences.apply(&oracle, Method::PATCH, &format!("/indexes/{index}"), body).await;
    }
    compare_reads(&oracle, &mut differences).await;

    differences.apply(&oracle, Method::POST, SWAP, json!([])).await;
    differences.apply(&oracle, Method::POST, SWAP, json!([pair("drama", "horror")])).await;
    compare_reads(&oracle, &mut differences).await;
    for index in ["drama", "horror"] {
        change(&oracle, &mut differences, index).await;
    }
    compare_reads(&oracle, &mut differences).await;
    differences
        .apply(&oracle, Method::POST, SWAP, json!([pair("horror", "spare"), renamed("drama", "other")]))
        .await;
    // The name is free again: another index on the nodes.
    differences.apply(&oracle, Method::POST, "/indexes/drama/documents", films(20, "drama")).await;
    compare_reads(&oracle, &mut differences).await;
    differences.apply(&oracle, Method::DELETE, "/indexes/other", Value::Null).await;
    differences
        .apply(&oracle, Method::PATCH, "/indexes/drama", json!({ "uid": "other", "primaryKey": "id" }))
        .await;
    change(&oracle, &mut differences, "other").await;

    // All of it survives Miroir and a disk.
    let cluster = oracle.cluster();
    cluster.miroir.kill();
    cluster.nodes[0].restart_empty().await;
    cluster.miroir.restart().await;
    miroir_testkit::copies::wait_until_whole(cluster).await;
    compare_reads(&oracle, &mut differences).await;
    for index in ["spare", "other", "horror"] {
        assert_verified(&mut oracle, index).await;
    }
    differences.finish();
    a_swap_that_was_accepted_is_done_by_the_next_life(&mut oracle).await;
}

/// Whatever moment it is killed at, Miroir does what it accepted, in that order.
async fn a_swap_that_was_accepted_is_done_by_the_next_life(oracle: &mut Oracle) {
    for index in ["left", "right"] {
        oracle.apply_ok(Method::POST, &format!("/indexes/{index}/documents"), &films(60, index)).await;
    }
    for round in 0..2 {
        let batch = films(400 + round, ["new", "newer"][round]);
        let (documents, _) = oracle.both(Method::POST, "/indexes/left/documents", Some(&batch)).await;
        let body = json!([{ "indexes": ["left", "right"] }]);
        let (expected, found) = oracle.both(Method::POST, SWAP, Some(&body)).await;
        assert_eq!((expected.status, found.status), (202, 202));
        let cluster = oracle.cluster();
        cluster.miroir.kill();
        cluster.miroir.restart().await;
        for task in [documents.task_uid(), expected.task_uid()].into_iter().flatten() {
            oracle.reference_client().wait_task(task).await;
        }
        let ended = oracle.subject_client().wait_task(found.task_uid().expect("a task")).await;
        assert_eq!(ended["status"], "succeeded", "{ended}");
        for index in ["left", "right"] {
            let difference = oracle.compare_documents(index).await;
            assert!(difference.is_empty(), "round {round}, {index}:\n{difference}");
        }
    }
}

const EDIT: &str = "/indexes/shop/documents/edit";

fn shop() -> Value {
    let item = |number: usize| {
        json!({
            "sku": format!("s{number}"), "n": number, "title": format!("lamp {number}"), "price": number as f64 * 1.5,
            "nested": { "z": [1, { "b": null }], "a": "é" }, "_vectors": { "mine": [number, 1] },
        })
    };
    (0..1_200).map(item).collect()
}

#[tokio::test]
async fn functions_edit_documents_as_meilisearch_does() {
    let mut oracle = Oracle::start(SHAPE).await;
    let mut differences = Differences::default();
    let function = |function: &str| json!({ "function": function });
    differences.apply(&oracle, Method::POST, EDIT, function("doc.n = 1")).await;
    differences
        .read(&oracle, Method::PATCH, FEATURES, Some(json!({ "editDocumentsByFunction": true })))
        .await;
    // Refused, or about an index that is not there or empty.
    for body in [
        json!({}),
        json!([]),
        function("doc.n ="),
        function("doc.n = 1"),
        json!({ "function": 1 }),
        json!({ "function": "doc.n = 1", "filter": "n =" }),
        json!({ "function": "doc.n = 1", "filter": "" }),
        json!({ "function": "doc.n = 1", "filter": [] }),
        json!({ "function": "doc.n = 1", "context": 1 }),
        json!({ "function": "doc.n = 1", "context": null, "filter": null }),
        json!({ "function": "doc.n = 1", "later": 1 }),
    ] {
        differences.apply(&oracle, Method::POST, EDIT, body.clone()).await;
        differences.apply(&oracle, Method::POST, "/indexes/no%20spaces/documents/edit", body).await;
    }
    oracle.apply_ok(Method::POST, "/indexes", &json!({ "uid": "shop", "primaryKey": "sku" })).await;
    differences.apply(&oracle, Method::POST, EDIT, function("doc.n = 1")).await;
    differences
        .apply(&oracle, Method::POST, EDIT, json!({ "function": "doc.n = 1", "filter": "n = 1" }))
        .await;
    let settings = json!({
        "filterableAttributes": ["n"], "sortableAttributes": ["n"],
        "embedders": { "mine": { "source": "userProvided", "dimensions": 2 } },
    });
    oracle.apply_ok(Method::PATCH, "/indexes/shop/settings", &settings).await;
    oracle.apply_ok(Method::POST, "/indexes/shop/documents", &shop()).await;
    for (function, filter, context) in [
        ("doc.title = `good ${doc.title}`", json!("n < 30"), Value::Null),
        ("doc.title = `good ${doc.title}`", json!("n < 30"), Value::Null),
        (
            "doc.price = context.factor * doc.price; doc.tags = context.tags",
            json!(["n < 5"]),
            json!({ "factor": 2, "tags": ["x", { "y": 1.0 }] }),
        ),
        ("doc.names = doc.keys()", json!([["n = 3", "n = 4"], "n < 100"]), Value::Null),
        ("if doc.n % 7 == 0 { doc = () }", Value::Null, Value::Null),
        ("doc = #{ sku: doc.sku, n: doc.n }", json!("n = 40"), Value::Null),
        ("doc.n = 12345", json!("n = 50"), Value::Null),
        ("doc._vectors = #{ mine: [9.0, 9.0] }", json!("n = 51"), Value::Null),
        ("doc.seen = doc._vectors", json!("n = 52"), Value::Null),
        ("let x = 1;", Value::Null, Value::Null),
        ("doc.x = 1", json!("n = 99999"), Value::Null),
        // All or nothing.
        ("doc.sku = `${doc.sku}x`", Value::Null, Value::Null),
        ("doc.remove(\"sku\")", json!("n = 41"), Value::Null),
        ("doc = 7", Value::Null, Value::Null),
        ("if doc.n == 1100 { throw \"no\" } doc.y = 1", Value::Null, Value::Null),
        ("doc.y = nothing", Value::Null, Value::Null),
        ("doc._vectors = #{ mine: [1.0] }", json!("n = 53"), Value::Null),
        ("doc.y = 1", json!("title = lamp"), Value::Null),
    ] {
        let body = json!({ "function": function, "filter": filter, "context": context });
        differences.apply(&oracle, Method::POST, EDIT, body).await;
    }
    for sort in [json!(null), json!(["n:desc"])] {
        let body = json!({ "limit": 2_000, "retrieveVectors": true, "sort": sort });
        differences.read(&oracle, Method::POST, "/indexes/shop/documents/fetch", Some(body)).await;
    }
    for search in [json!({ "q": "good lamp", "limit": 50 }), json!({ "filter": "n > 1000", "limit": 100 })] {
        differences.read(&oracle, Method::POST, "/indexes/shop/search", Some(search)).await;
    }
    let reserved = oracle
        .subject_client()
        .post(EDIT, &json!({ "function": "doc._miroir_shard = 1", "filter": "n = 1" }))
        .await;
    let task = oracle.subject_client().wait_task(reserved.task_uid().expect("a task")).await;
    assert_eq!(task["error"]["code"], "miroir_reserved_field", "{task}");
    differences.finish();

    // Every copy is the same, and no scratch index is left.
    for node in &oracle.cluster().nodes {
        let indexes = node.client().get("/indexes").await.ok();
        let names: Vec<&str> = indexes["results"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|index| index["uid"].as_str())
            .collect();
        assert_eq!(names, ["_miroir_node", "shop"]);
    }
    assert_verified(&mut oracle, "shop").await;
    an_edit_that_was_accepted_is_done_once_by_the_next_life(&mut oracle).await;
}

/// All copies of an index are equal.
async fn assert_verified(oracle: &mut Oracle, index: &str) {
    let verified = oracle.cluster().admin().post("/_miroir/verify", &json!({ "index": index })).await.ok();
    assert_eq!(
        (&verified["documents"]["differing"], &verified["settings"]),
        (&json!(0), &json!({})),
        "{verified}"
    );
}

/// Waits until a scratch index is on some node, or the task has ended.
async fn wait_for_scratch(oracle: &mut Oracle, task: Option<u64>) {
    let path = format!("/tasks/{}", task.expect("a task"));
    while !["succeeded", "failed"]
        .contains(&oracle.subject_client().get(&path).await.ok()["status"].as_str().unwrap_or_default())
    {
        for node in &oracle.cluster().nodes {
            if node.client().get("/indexes").await.ok().to_string().contains("_miroir_edit_") {
                return;
            }
        }
    }
}

/// Whatever moment it is killed at, each function is applied once, and to all copies.
async fn an_edit_that_was_accepted_is_done_once_by_the_next_life(oracle: &mut Oracle) {
    let plain: Vec<Value> = (0..900).map(|number| json!({ "id": number, "n": number })).collect();
    oracle.apply_ok(Method::POST, "/indexes/counted/documents", &json!(plain)).await;
    for round in 0..4u64 {
        let body = json!({ "function": format!("doc.n += 1; if doc.n % 50 == {round} {{ doc = () }}") });
        let (expected, found) =
            oracle.both(Method::POST, "/indexes/counted/documents/edit", Some(&body)).await;
        assert_eq!((expected.status, found.status), (202, 202), "{}", found.body);
        if round % 2 == 1 {
            wait_for_scratch(oracle, found.task_uid()).await;
        }
        let cluster = oracle.cluster();
        cluster.miroir.kill();
        if round == 3 {
            cluster.nodes[0].kill();
            cluster.nodes[0].restart().await;
        }
        cluster.miroir.restart().await;
        let (one, other) = (expected.task_uid().expect("a task"), found.task_uid().expect("a task"));
        let (expected, found) =
            tokio::join!(oracle.reference_client().wait_task(one), oracle.subject_client().wait_task(other));
        assert_eq!(found["status"], "succeeded", "{found}");
        assert_eq!(found["details"], expected["details"]);
        let difference = oracle.compare_documents("counted").await;
        assert!(difference.is_empty(), "round {round}:\n{difference}");
        miroir_testkit::copies::wait_until_whole(oracle.cluster()).await;
        assert_verified(oracle, "counted").await;
    }
}

/// All that a server has of an index, in an order of its own.
async fn everything(client: &Client, index: &str) -> (Value, Value, Value) {
    let mut fetched = client
        .post(
            &format!("/indexes/{index}/documents/fetch"),
            &json!({ "limit": 5_000, "retrieveVectors": true }),
        )
        .await
        .ok();
    let documents = fetched["results"].as_array_mut().expect("documents");
    documents.sort_by_key(|document| document["id"].as_u64());
    let settings = client.get(&format!("/indexes/{index}/settings")).await.ok();
    let key = client.get(&format!("/indexes/{index}")).await.ok()["primaryKey"].clone();
    (fetched["results"].clone(), settings, key)
}

/// Waits until a server has done what it was told.
async fn wait_idle(client: &Client) {
    let started = Instant::now();
    while client.get("/tasks?statuses=enqueued,processing").await.ok()["total"] != 0 {
        assert!(started.elapsed() < PATIENCE, "it is still busy");
    }
}

#[tokio::test]
async fn indexes_are_exported_as_meilisearch_does() {
    const KEY: &str = "a-key-of-the-other-server";
    let (oracle, one, other) = tokio::join!(
        Oracle::start(SHAPE),
        MeilisearchProcess::start(Some(KEY)),
        MeilisearchProcess::start(Some(KEY))
    );
    let mut differences = Differences::default();
    for body in [
        json!([]),
        json!(["http://other"]),
        json!({ "url": 1 }),
        json!({ "url": "http://other", "apiKey": 1 }),
        json!({ "url": "http://other", "payloadSize": "x" }),
        json!({ "url": "http://other", "payloadSize": -1 }),
        json!({ "url": "http://other", "indexes": 1 }),
        json!({ "url": "http://other", "indexes": { "no spaces": {} } }),
        json!({ "url": "http://other", "indexes": { "a*": { "overrideSettings": 1 } } }),
        json!({ "url": "http://other", "later": 1 }),
    ] {
        differences.apply(&oracle, Method::POST, "/export", body).await;
    }
    for index in ["films", "films-too", "books"] {
        oracle.apply_ok(Method::POST, &format!("/indexes/{index}/documents"), &films(700, index)).await;
    }
    let settings = json!({
        "filterableAttributes": ["year"], "stopWords": ["the"], "displayedAttributes": ["id", "title"],
        "embedders": { "mine": { "source": "userProvided", "dimensions": 1 } },
    });
    let vectors: Vec<Value> =
        (0..700).map(|number| json!({ "id": number, "_vectors": { "mine": [number] } })).collect();
    oracle.apply_ok(Method::PUT, "/indexes/films/documents", &json!(vectors)).await;
    oracle.apply_ok(Method::PATCH, "/indexes/films/settings", &settings).await;
    // Meilisearch retries without end where nobody listens, and fails where it has fewer documents than threads.
    for body in [
        json!({}),
        json!({ "apiKey": "a-wrong-key" }),
        json!({ "apiKey": KEY, "indexes": { "nothing*": {} } }),
        json!({ "apiKey": KEY, "indexes": { "films": { "filter": "secret = 1" } } }),
        json!({ "apiKey": KEY, "indexes": { "films": { "filter": "secret =" } } }),
        json!({ "apiKey": KEY, "payloadSize": "20 KiB", "indexes": { "films*": { "filter": null }, "x": {} } }),
        json!({ "apiKey": KEY, "payloadSize": 123_456, "indexes": { "films": { "filter": "year > 1980", "overrideSettings": true } } }),
        json!({ "apiKey": KEY }),
    ] {
        let to = |server: &MeilisearchProcess| {
            let mut body = body.clone();
            body["url"] = json!(server.address());
            body
        };
        let (expected, found) = (to(&one), to(&other));
        let (expected, found) = tokio::join!(
            oracle.reference_client().post("/export", &expected),
            oracle.subject_client().post("/export", &found)
        );
        let incidental = [INCIDENTAL_TO_TASKS, &["url"]].concat();
        let difference = compare_answers(&expected, &found, &incidental);
        assert!(difference.is_empty(), "{body}: {difference}");
        let (Some(first), Some(second)) = (expected.task_uid(), found.task_uid()) else { continue };
        let (first, second) = tokio::join!(
            oracle.reference_client().wait_task(first),
            oracle.subject_client().wait_task(second)
        );
        let answer = |body: Value| Answer { status: 200, headers: Vec::new(), body };
        let difference = compare_answers(&answer(first), &answer(second), &incidental);
        assert!(difference.is_empty(), "{body}: {difference}");
    }
    differences.finish();
    wait_idle(one.client()).await;
    wait_idle(other.client()).await;
    for index in ["films", "films-too", "books"] {
        let (expected, found) =
            (everything(one.client(), index).await, everything(other.client(), index).await);
        assert!(expected == found, "{index}: {:?}", found.1);
        assert_eq!(found.0.as_array().map(Vec::len), Some(700));
    }
    // In the order of insertion, which is what breaks ties.
    let order = other
        .client()
        .post("/indexes/books/documents/fetch", &json!({ "limit": 700, "fields": ["id"] }))
        .await
        .ok();
    let ids: Vec<u64> = order["results"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|document| document["id"].as_u64())
        .collect();
    assert_eq!(ids, (0..700).collect::<Vec<u64>>());
}
