//! Cancelling tasks: as one Meilisearch answers, and each task done by all nodes or by none, whatever happens meanwhile.

#![allow(clippy::expect_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use miroir_testkit::client::{Answer, Client};
use miroir_testkit::cluster::{Cluster, Shape};
use miroir_testkit::compare::{Difference, compare_answers, compare_values, without};
use miroir_testkit::copies::assert_copies_agree;
use miroir_testkit::corpus::{Corpus, Dice, catalogue};
use miroir_testkit::oracle::Oracle;
use miroir_testkit::profile::Profile;
use reqwest::Method;
use serde_json::{Value, json};

const SEED: u64 = 11;
const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };
/// Clocks, and what Meilisearch counts in its own way.
const CLOCKS: [&str; 5] = ["enqueuedAt", "startedAt", "finishedAt", "duration", "batchUid"];
/// Documents that keep every node busy while tasks behind them are canceled.
const BUSY: usize = 20_000;

/// Tasks behind a long one are canceled before they begin, so that one Meilisearch does the same.
#[tokio::test]
async fn what_waits_is_canceled_as_by_one_meilisearch() {
    let oracle = Oracle::start(SHAPE).await;
    let corpus = catalogue(SEED, BUSY);
    for uid in ["busy", "films"] {
        oracle.apply_ok(Method::POST, "/indexes", &json!({ "uid": uid, "primaryKey": "id" })).await;
    }
    let first = json!([{ "id": 1, "t": "one" }, { "id": 2, "t": "two" }, { "id": 3, "t": "three" }]);
    oracle.apply_ok(Method::POST, "/indexes/films/documents", &first).await;
    let filterable = json!(["n", "t"]);
    oracle.apply_ok(Method::PUT, "/indexes/films/settings/filterable-attributes", &filterable).await;
    // The first deletion also tells nodes how to break ties, which is not to be taken back.
    let third = json!({ "filter": "t = three" });
    oracle.apply_ok(Method::POST, "/indexes/films/documents/delete", &third).await;

    let films = "/indexes/films/documents";
    let busy = oracle.both(Method::POST, "/indexes/busy/documents", Some(&json!(corpus.documents))).await;
    let busy = busy.0.task_uid().expect("a task");
    let mut tasks = Vec::new();
    for (method, path, body) in [
        (Method::POST, films.to_owned(), json!([{ "id": 1, "t": "canceled" }, { "id": 4 }])),
        (Method::PUT, films.to_owned(), json!([{ "id": 2, "n": 2 }])),
        (Method::POST, format!("{films}/delete-batch"), json!([1])),
        (Method::POST, format!("{films}/delete"), json!({ "filter": "n = 2" })),
        (Method::POST, films.to_owned(), json!([{ "id": 5, "n": 5 }])),
        (Method::DELETE, films.to_owned(), Value::Null),
    ] {
        let (expected, found) = oracle.both(method, &path, Some(&body)).await;
        assert_eq!(expected.task_uid(), found.task_uid());
        tasks.push(expected.task_uid().expect("a task"));
    }
    // All but an update in part and an addition, which are done after what was before them has gone.
    let canceled = [tasks[0], tasks[2], tasks[3], tasks[5]];
    let uids = canceled.map(|uid| uid.to_string()).join(",");
    let path = format!("/tasks/cancel?uids={uids},0,9999&statuses=enqueued,processing,succeeded");
    let (expected, found) = oracle.both(Method::POST, &path, None).await;
    let difference = compare_answers(&expected, &found, &CLOCKS);
    assert!(difference.is_empty(), "{difference}");
    let cancelation = expected.task_uid().expect("a task");

    for client in [oracle.reference_client(), oracle.subject_client()] {
        client.wait_task(cancelation).await;
    }
    let mut differences = String::new();
    for uid in tasks.iter().chain([&busy, &cancelation]) {
        let (expected, found) =
            (oracle.reference_client().wait_task(*uid).await, oracle.subject_client().wait_task(*uid).await);
        let (expected, found) = (without(&expected, &CLOCKS), without(&found, &CLOCKS));
        if expected != found {
            differences += &format!("- task {uid}\n  expected {expected}\n  found    {found}\n");
        }
    }
    assert!(differences.is_empty(), "{differences}");
    let canceled_by = format!("/tasks?canceledBy={cancelation}");
    let difference = oracle.compare_get(&canceled_by, &CLOCKS).await;
    assert!(difference.is_empty(), "{difference}");
    let difference = oracle.compare_documents("films").await;
    assert!(difference.is_empty(), "{difference}");
    let searched = json!({ "q": "", "filter": "n EXISTS" });
    let difference = oracle.both(Method::POST, "/indexes/films/search", Some(&searched)).await;
    let difference = compare_answers(&difference.0, &difference.1, &["processingTimeMs"]);
    assert!(difference.is_empty(), "{difference}");
}

const ROUNDS: usize = 6;
const WRITES: usize = 10;
/// Of the catalogue.
const DOCUMENTS: usize = 3_000;

/// A write of a round.
fn write(dice: &mut Dice, corpus: &Corpus) -> (Method, &'static str, Value) {
    let begin = dice.below(DOCUMENTS - 400);
    let some = &corpus.documents[begin..begin + 400];
    let id = |document: &Value| document["id"].clone();
    match dice.below(5) {
        0 => (Method::POST, "", json!(some)),
        1 | 2 => {
            let change =
                |document| json!({ "id": id(document), "title": format!("changed {begin}"), "n": begin });
            (Method::PUT, "", json!(some.iter().map(change).collect::<Vec<Value>>()))
        }
        3 => (Method::POST, "/delete-batch", json!(some[..40].iter().map(id).collect::<Vec<Value>>())),
        _ => {
            let filter = format!("n >= {begin} AND n < {}", begin + 600);
            (Method::POST, "/delete", json!({ "filter": filter }))
        }
    }
}

/// Writes are canceled while nodes are at different places in their queues, and Miroir is killed in every second
/// round: what became of each task is what one Meilisearch did that was sent only those that were not canceled.
#[tokio::test]
async fn every_task_is_done_by_all_nodes_or_by_none() {
    let mut oracle = Oracle::start(SHAPE).await;
    let corpus = catalogue(SEED, DOCUMENTS);
    let mut dice = Dice::new(SEED);
    oracle.load("load", &corpus, Profile::Default).await;
    let mut filterable = Profile::Default.settings(&corpus)["filterableAttributes"].clone();
    filterable.as_array_mut().expect("a list").push(json!("n"));
    let path = "/indexes/load/settings/filterable-attributes";
    oracle.apply_ok(Method::PUT, path, &filterable).await;
    // Else an update of a document whose addition was canceled would fail for want of a vector.
    oracle.apply_ok(Method::DELETE, "/indexes/load/settings/embedders", &Value::Null).await;
    let nothing = json!({ "filter": "n = 0" });
    oracle.apply_ok(Method::POST, "/indexes/load/documents/delete", &nothing).await;

    let mut canceled = 0;
    let mut done = 0;
    for round in 0..ROUNDS {
        let mut writes = Vec::new();
        for _ in 0..WRITES {
            let (method, end, body) = write(&mut dice, &corpus);
            let path = format!("/indexes/load/documents{end}");
            let answer = oracle.subject_client().call(method.clone(), &path, Some(&body)).await;
            writes.push((answer.task_uid().expect("a task"), method, path, body));
        }
        let wanted: Vec<String> =
            writes.iter().filter(|_| dice.below(3) > 0).map(|(uid, ..)| uid.to_string()).collect();
        let path = format!("/tasks/cancel?uids={}", wanted.join(","));
        let cancelation = cancel(oracle.subject_client(), &path).await.task_uid().expect("a task");
        if round % 2 == 1 {
            tokio::time::sleep(Duration::from_millis(dice.below(120) as u64)).await;
            oracle.cluster().miroir.kill();
            oracle.cluster().miroir.restart().await;
        }
        let cancelation = oracle.subject_client().wait_task(cancelation).await;
        assert_eq!(cancelation["status"], "succeeded", "{cancelation}");
        let mut counted = 0;
        for (uid, method, path, body) in writes {
            let task = oracle.subject_client().wait_task(uid).await;
            match task["status"].as_str() {
                Some("canceled") => {
                    assert!(wanted.contains(&uid.to_string()), "{task}");
                    assert_eq!((&task["canceledBy"], &task["error"]), (&cancelation["uid"], &Value::Null));
                    counted += 1;
                }
                Some("succeeded") => {
                    done += 1;
                    let answer = oracle.reference_client().call(method, &path, Some(&body)).await;
                    oracle.reference_client().wait_success(answer).await;
                }
                _ => panic!("a task neither done nor canceled: {task}"),
            }
        }
        assert_eq!(cancelation["details"]["canceledTasks"], counted, "{cancelation}");
        canceled += counted;
        let (expected, found) =
            (documents(oracle.reference_client()).await, documents(oracle.subject_client()).await);
        let mut difference = Difference::default();
        compare_values("documents", &json!(expected), &json!(found), &mut difference);
        assert!(difference.is_empty(), "the documents differ after round {round}:\n{difference}");
    }
    let documents = documents(oracle.reference_client()).await.len();
    assert_copies_agree(oracle.cluster(), "load", documents, SHAPE.replication_factor).await;
    assert!(canceled > 0 && done > 0, "{canceled} tasks were canceled and {done} done");
}

/// A swap waits for an addition, and the addition is to be canceled, which takes the queue that the swap has. The next
/// life of Miroir serves all the same, and all three come to an end.
#[tokio::test]
async fn what_waits_for_a_task_to_be_canceled_does_not_keep_the_next_life_from_serving() {
    let mut cluster = Cluster::start(SHAPE).await;
    for uid in ["here", "there"] {
        let creation = json!({ "uid": uid, "primaryKey": "id" });
        cluster.client().wait_success(cluster.client().post("/indexes", &creation).await).await;
    }
    let corpus = catalogue(SEED, BUSY);
    let documents = json!(corpus.documents);
    let first = cluster.client().post("/indexes/here/documents", &json!([corpus.documents[0]])).await;
    cluster.client().wait_success(first).await;
    let addition = cluster.client().post("/indexes/here/documents", &documents).await;
    let swap = cluster.client().post("/swap-indexes", &json!([{ "indexes": ["here", "there"] }])).await;
    let addition = addition.task_uid().expect("a task");
    let cancelation = cancel(cluster.client(), &format!("/tasks/cancel?uids={addition}")).await;
    cluster.miroir.kill();
    cluster.miroir.restart().await;

    let client = cluster.client();
    for answer in [&swap, &cancelation] {
        let task = client.wait_task(answer.task_uid().expect("a task")).await;
        assert_eq!(task["status"], "succeeded", "{task}");
    }
    let task = client.wait_task(addition).await;
    let expected = match task["status"].as_str() {
        Some("succeeded") => BUSY,
        Some("canceled") => 1,
        _ => panic!("neither done nor canceled: {task}"),
    };
    let stats = client.get("/indexes/there/stats").await.ok();
    assert_eq!(stats["numberOfDocuments"], expected, "{task}");
}

/// All documents by their ids: where one Meilisearch puts a document that comes after a deletion is not the same.
async fn documents(client: &Client) -> BTreeMap<String, Value> {
    let page = client.get("/indexes/load/documents?limit=100000").await.ok();
    let documents = page["results"].as_array().expect("a list").iter();
    documents.map(|document| (document["id"].to_string(), document.clone())).collect()
}

async fn cancel(client: &Client, path: &str) -> Answer {
    client.call(Method::POST, path, None).await
}
