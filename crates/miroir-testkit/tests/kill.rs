//! A Miroir killed at any instant loses nothing it acknowledged, and leaves no copy different.

use std::time::Duration;

use miroir_testkit::client::Answer;
use miroir_testkit::cluster::Shape;
use miroir_testkit::copies::assert_copies_agree;
use miroir_testkit::corpus::{Dice, catalogue};
use miroir_testkit::oracle::Oracle;
use miroir_testkit::profile::Profile;
use reqwest::Method;
use serde_json::{Value, json};

const SEED: u64 = 5;
const DOCUMENTS: usize = 20_000;
const BATCH: usize = 500;
/// Batches after whose sending Miroir is killed.
const KILLS: [usize; 4] = [3, 4, 17, 31];
const REQUESTS: usize = 300;

const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_miroir_is_killed_during_a_load() {
    let corpus = catalogue(SEED, DOCUMENTS);
    let mut oracle = Oracle::start(SHAPE).await;
    let mut dice = Dice::new(SEED);
    let creation = json!({ "uid": "load", "primaryKey": corpus.primary_key });
    oracle.apply_ok(Method::POST, "/indexes", &creation).await;
    let settings = Profile::Default.settings(&corpus);
    oracle.apply_ok(Method::PATCH, "/indexes/load/settings", &settings).await;

    let mut acknowledged = Vec::new();
    for (number, batch) in corpus.documents.chunks(BATCH).enumerate() {
        let body = serde_json::to_vec(batch).unwrap();
        if KILLS.contains(&number) {
            // While the request is anywhere between its first byte and its acknowledgement, or just after it.
            let client = oracle.subject_client().clone();
            let sending = tokio::spawn({
                let body = body.clone();
                async move { send_once(&client, body).await }
            });
            tokio::time::sleep(Duration::from_millis(dice.below(150) as u64)).await;
            oracle.cluster().miroir.kill();
            acknowledged.extend(sending.await.unwrap().and_then(|answer| answer.task_uid()));
            oracle.cluster().miroir.restart().await;
        }
        // Sent again whether it arrived or not: the client of a killed server cannot know.
        let answer = send_once(oracle.subject_client(), body).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.body);
        acknowledged.push(answer.task_uid().unwrap());
    }
    // Once more when everything is acknowledged and much of it still being indexed.
    oracle.cluster().miroir.kill();
    oracle.cluster().miroir.restart().await;

    for uid in &acknowledged {
        let task = oracle.subject_client().wait_task(*uid).await;
        assert_eq!(task["status"], "succeeded", "the acknowledged task {uid} did not succeed: {task}");
    }
    for batch in corpus.documents.chunks(5_000) {
        let answer = oracle.reference_client().post("/indexes/load/documents", &json!(batch)).await;
        oracle.reference_client().wait_success(answer).await;
    }

    let documents = oracle.compare_documents("load").await;
    assert!(documents.is_empty(), "the documents differ after the kills:\n{documents}");
    let tally = oracle.compare_generated("load", &corpus, SEED, REQUESTS).await;
    tally.assert_faithful("after the kills");
    assert_copies_agree(oracle.cluster(), "load", DOCUMENTS, SHAPE.replication_factor).await;
}

/// Sends a batch; `None` when the connection ended without an answer.
async fn send_once(client: &miroir_testkit::client::Client, body: Vec<u8>) -> Option<Answer> {
    let headers = [("content-type", "application/json")];
    client.try_send(Method::POST, "/indexes/load/documents", &headers, Some(body)).await.ok()
}

/// A node killed and started again during writes holds what it should, and nothing read in between is wrong.
#[tokio::test]
async fn a_killed_node_is_repaired_and_searches_stay_right_meanwhile() {
    let corpus = catalogue(SEED, 3_000);
    let mut oracle = Oracle::start(SHAPE).await;
    oracle.load("load", &corpus, Profile::Default).await;
    oracle.cluster().nodes[1].kill();
    let tally = oracle.compare_generated("load", &corpus, SEED, 100).await;
    tally.assert_faithful("with one node of three down, two copies");

    let updates: Vec<Value> = corpus.documents[..400]
        .iter()
        .map(|document| json!({ "id": document["id"], "title": "while down" }))
        .collect();
    oracle.apply_ok(Method::PUT, "/indexes/load/documents", &json!(updates)).await;
    let documents = oracle.compare_documents("load").await;
    assert!(documents.is_empty(), "the documents differ while a node is down:\n{documents}");

    oracle.cluster().nodes[1].restart().await;
    for round in 0..10 {
        let tally = oracle.compare_generated("load", &corpus, SEED + round, 40).await;
        tally.assert_faithful("after the node came back");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// SIGTERM: what is in flight is finished, and the process ends well.
#[tokio::test]
async fn miroir_ends_gracefully_on_sigterm() {
    let mut oracle = Oracle::start(SHAPE).await;
    let creation = json!({ "uid": "films", "primaryKey": "id" });
    oracle.apply_ok(Method::POST, "/indexes", &creation).await;
    let answer = oracle
        .subject_client()
        .post("/indexes/films/documents", &json!([{ "id": 1, "title": "kept" }]))
        .await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(oracle.cluster().miroir.terminate(), Some(0));
    oracle.cluster().miroir.restart().await;
    oracle.subject_client().wait_success(answer).await;
    let hits = oracle.subject_client().post("/indexes/films/search", &json!({ "q": "kept" })).await.ok();
    assert_eq!(hits["hits"], json!([{ "id": 1, "title": "kept" }]));
}
