//! Changes of settings that follow each other without waiting, some of which fail on the nodes, next to one Meilisearch.

use std::time::{Duration, Instant};

use miroir_core::settings::{NodeNeeds, full_node_form, to_user};
use miroir_testkit::client::Client;
use miroir_testkit::cluster::Shape;
use miroir_testkit::compare::compare_answers;
use miroir_testkit::oracle::Oracle;
use reqwest::Method;
use serde_json::{Value, json};

const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };
/// So many that they are being indexed while the changes after them are accepted.
const DOCUMENTS: usize = 5_000;

/// How long a node may take to be given other settings.
const MENDED_WITHIN: Duration = Duration::from_secs(30);

/// A change that nodes accept and then fail to make, because quantization cannot be undone.
fn failing(mut change: Value) -> Value {
    change["embedders"] = json!({ "given": { "binaryQuantized": false } });
    change
}

/// Names, the changes of a sequence, and which of them fail.
fn sequences() -> Vec<(&'static str, Vec<Value>, Vec<usize>)> {
    vec![
        (
            "the-last-fails",
            vec![
                json!({ "filterableAttributes": ["year"] }),
                failing(json!({ "displayedAttributes": ["title"], "rankingRules": ["words"] })),
            ],
            vec![1],
        ),
        (
            "the-first-fails",
            vec![
                failing(json!({ "displayedAttributes": ["title"], "faceting": { "maxValuesPerFacet": 1 } })),
                json!({ "filterableAttributes": ["year"] }),
            ],
            vec![0],
        ),
        (
            "every-other-fails",
            vec![
                failing(json!({ "displayedAttributes": ["title"], "faceting": { "maxValuesPerFacet": 7 } })),
                json!({ "faceting": { "maxValuesPerFacet": 5 }, "filterableAttributes": ["year"] }),
                failing(json!({ "rankingRules": ["words"], "faceting": { "maxValuesPerFacet": 9 } })),
                json!({ "displayedAttributes": ["id", "title"] }),
                failing(json!({ "displayedAttributes": null, "faceting": null })),
            ],
            vec![0, 2, 4],
        ),
        // Nodes are told how many values to list with each of these.
        (
            "facet-values",
            vec![
                failing(json!({ "faceting": { "maxValuesPerFacet": 5000 } })),
                json!({ "faceting": { "sortFacetValuesBy": { "genre": "alpha" } }, "filterableAttributes": ["year"] }),
            ],
            vec![0],
        ),
        (
            "facet-order",
            vec![
                failing(json!({ "faceting": { "sortFacetValuesBy": { "year": "count" } } })),
                json!({ "faceting": { "maxValuesPerFacet": 4 }, "filterableAttributes": ["year"] }),
            ],
            vec![0],
        ),
    ]
}

async fn create(oracle: &Oracle, index: &str) {
    let creation = json!({ "uid": index, "primaryKey": "id" });
    oracle.apply_ok(Method::POST, "/indexes", &creation).await;
    let embedder = json!({ "source": "userProvided", "dimensions": 2, "binaryQuantized": true });
    let settings = json!({ "embedders": { "given": embedder } });
    oracle.apply_ok(Method::PATCH, &format!("/indexes/{index}/settings"), &settings).await;
}

/// Sends documents and then the changes, and returns the tasks of the changes. One document comes between two changes,
/// because Meilisearch carries out adjacent ones as one, and all of them fail then.
async fn send(client: &Client, index: &str, changes: &[Value]) -> Vec<u64> {
    let document = |id: usize| json!({ "id": id, "title": format!("film {id}"), "year": 1950 + id % 60, "_vectors": { "given": null } });
    let documents: Vec<Value> = (0..DOCUMENTS).map(document).collect();
    let path = format!("/indexes/{index}");
    client.post(&format!("{path}/documents"), &json!(documents)).await.ok();
    let mut tasks = Vec::new();
    for change in changes {
        tasks.extend(client.patch(&format!("{path}/settings"), change).await.task_uid());
        client.post(&format!("{path}/documents"), &json!([document(1)])).await.ok();
    }
    tasks
}

async fn ends_of(client: &Client, tasks: &[u64]) -> Vec<(Value, Value)> {
    let mut ends = Vec::new();
    for task in tasks {
        let task = client.wait_task(*task).await;
        ends.push((task["status"].clone(), task["error"].clone()));
    }
    ends
}

/// Both show the same, and nodes hold what goes with that.
async fn assert_alike(oracle: &mut Oracle, shape: Shape, index: &str) {
    let settings = oracle.compare_get(&format!("/indexes/{index}/settings"), &[]).await;
    assert!(settings.is_empty(), "{index}: {settings}");
    let search = json!({ "q": "film 12", "limit": 5, "facets": ["*"] });
    let path = format!("/indexes/{index}/search");
    let (expected, found) = oracle.both(Method::POST, &path, Some(&search)).await;
    let difference = compare_answers(&expected, &found, &["processingTimeMs"]);
    assert!(difference.is_empty(), "{index}: {difference}");

    let shown = oracle.subject_client().get(&format!("/indexes/{index}/settings")).await.ok();
    let merges = shape.nodes > shape.replication_factor;
    let needs = NodeNeeds { version: (1, 21), merges, breaks_ties: false };
    let wanted = full_node_form(&shown, &Value::Null, needs)["faceting"]["maxValuesPerFacet"].clone();
    let path = format!("/indexes/{index}/settings/faceting");
    let deadline = Instant::now() + MENDED_WITHIN;
    for node in &oracle.cluster().nodes {
        let mut held = node.client().get(&path).await.ok();
        while held["maxValuesPerFacet"] != wanted && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
            held = node.client().get(&path).await.ok();
        }
        assert_eq!(held["maxValuesPerFacet"], wanted, "{index}: {held}");
    }

    // With the first deletion nodes are given ranking rules anew, of the change accepted last that did not fail.
    oracle.apply_ok(Method::DELETE, &format!("/indexes/{index}/documents/7"), &Value::Null).await;
    for node in &oracle.cluster().nodes {
        let held = node.client().get(&format!("/indexes/{index}/settings")).await.ok();
        assert_eq!(to_user(&held, &Value::Null)["rankingRules"], shown["rankingRules"], "{index}: {held}");
    }
}

/// Sends the changes to both and waits for their ends, through which Miroir may have to live twice.
async fn assert_nothing_is_left_of_failures(shape: Shape, is_killed: bool) {
    let mut oracle = Oracle::start(shape).await;
    for (index, changes, failures) in sequences() {
        create(&oracle, index).await;
        let (expected, found) = tokio::join!(
            send(oracle.reference_client(), index, &changes),
            send(oracle.subject_client(), index, &changes)
        );
        if is_killed {
            oracle.cluster().miroir.kill();
            oracle.cluster().miroir.restart().await;
        }
        let (expected, found) = tokio::join!(
            ends_of(oracle.reference_client(), &expected),
            ends_of(oracle.subject_client(), &found)
        );
        let failed: Vec<usize> = (0..found.len()).filter(|change| found[*change].0 == "failed").collect();
        assert_eq!(failed, failures, "{index}");
        assert_eq!(found, expected, "{index}");
        assert_alike(&mut oracle, shape, index).await;
    }
}

#[tokio::test]
async fn of_a_change_that_failed_nothing_is_left_whatever_came_before_and_after_it() {
    assert_nothing_is_left_of_failures(SHAPE, false).await;
}

#[tokio::test]
async fn nor_where_every_node_holds_everything() {
    assert_nothing_is_left_of_failures(Shape { nodes: 2, ..SHAPE }, false).await;
}

#[tokio::test]
async fn nor_when_miroir_is_killed_before_they_have_ended() {
    assert_nothing_is_left_of_failures(SHAPE, true).await;
}

/// Nobody compares nodes when the last change has failed, but what they are to hold is known.
#[tokio::test]
async fn what_a_failed_change_left_on_nodes_is_found_and_mended() {
    let mut oracle = Oracle::start(SHAPE).await;
    let index = "films";
    create(&oracle, index).await;
    let changes = [
        failing(json!({ "faceting": { "maxValuesPerFacet": 5000 } })),
        json!({ "faceting": { "sortFacetValuesBy": { "year": "alpha" } }, "filterableAttributes": ["year"] }),
        failing(json!({ "stopWords": ["the"] })),
    ];
    let (expected, found) = tokio::join!(
        send(oracle.reference_client(), index, &changes),
        send(oracle.subject_client(), index, &changes)
    );
    let (expected, found) =
        tokio::join!(ends_of(oracle.reference_client(), &expected), ends_of(oracle.subject_client(), &found));
    assert_eq!(found, expected);
    let verify = json!({ "index": index, "repair": true });
    oracle.cluster().admin().post("/_miroir/verify", &verify).await.ok();
    assert_alike(&mut oracle, SHAPE, index).await;
}

/// A node goes down that has the first change and not the second, which so could end before it.
#[tokio::test]
async fn the_last_change_stays_whichever_node_is_waited_for() {
    let mut oracle = Oracle::start(SHAPE).await;
    let index = "films";
    create(&oracle, index).await;
    let (first, last) =
        (json!({ "displayedAttributes": ["title"] }), json!({ "displayedAttributes": ["id"] }));
    let first = [first];
    let (mut expected, mut found) = tokio::join!(
        send(oracle.reference_client(), index, &first),
        send(oracle.subject_client(), index, &first)
    );
    oracle.cluster().nodes[1].kill();
    let (one, other) = oracle.both(Method::PATCH, &format!("/indexes/{index}/settings"), Some(&last)).await;
    expected.extend(one.task_uid());
    found.extend(other.task_uid());
    let (expected, ended) =
        tokio::join!(ends_of(oracle.reference_client(), &expected), ends_of(oracle.subject_client(), &found));
    assert_eq!(ended, expected);
    let settings = oracle.compare_get(&format!("/indexes/{index}/settings"), &[]).await;
    assert!(settings.is_empty(), "{settings}");
    oracle.cluster().nodes[1].restart().await;
    let found = settings_of(&oracle, index).await;
    assert_eq!(found["displayedAttributes"], json!(["id"]));
}

/// An index deleted and made anew has nothing of the changes of the earlier one, whichever life of Miroir ends them.
#[tokio::test]
async fn an_index_made_anew_has_nothing_of_the_changes_before() {
    let mut oracle = Oracle::start(SHAPE).await;
    for is_killed in [false, true] {
        let index = "films";
        create(&oracle, index).await;
        let changes = [json!({ "displayedAttributes": ["title"], "stopWords": ["the"] })];
        let mut tasks = send(oracle.subject_client(), index, &changes).await;
        let client = oracle.subject_client().clone();
        let path = format!("/indexes/{index}");
        let creation = json!({ "uid": index, "primaryKey": "id" });
        for answer in [client.delete(&path).await, client.post("/indexes", &creation).await] {
            tasks.extend(answer.task_uid());
        }
        if is_killed {
            oracle.cluster().miroir.kill();
            oracle.cluster().miroir.restart().await;
        }
        for (status, error) in ends_of(&client, &tasks).await {
            assert_eq!(status, "succeeded", "{error}");
        }
        let settings = settings_of(&oracle, index).await;
        assert_eq!(
            (&settings["displayedAttributes"], &settings["stopWords"]),
            (&json!(["*"]), &json!([])),
            "killed: {is_killed}"
        );
        oracle.reference_client().delete(&path).await.ok();
        let deletion = client.delete(&path).await;
        client.wait_success(deletion).await;
    }
}

async fn settings_of(oracle: &Oracle, index: &str) -> Value {
    oracle.subject_client().get(&format!("/indexes/{index}/settings")).await.ok()
}
