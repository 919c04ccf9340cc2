//! A write sent again with its `Idempotency-Key` is done once: at the same time, later, after a restart, and when
//! nobody knows what became of the first one.

use std::time::{Duration, Instant};

use miroir_testkit::client::{Answer, Client};
use miroir_testkit::cluster::{Cluster, Shape};
use miroir_testkit::corpus::Dice;
use miroir_testkit::proxy::Fault;
use reqwest::Method;
use serde_json::{Value, json};

const SHAPE: Shape = Shape { nodes: 2, replication_factor: 1, replica_groups: 1, shards: 6 };
/// Longest wait for a cluster to be whole again.
const PATIENCE: Duration = Duration::from_secs(60);

async fn send(client: &Client, method: Method, path: &str, key: &str, body: Option<&Value>) -> Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let body = body.map(|body| body.to_string().into_bytes());
    client.send(method, path, &headers, body).await
}

async fn post(client: &Client, path: &str, key: &str, body: &Value) -> Answer {
    send(client, Method::POST, path, key, Some(body)).await
}

/// How many there are; `MAX`, which nothing equals, when that is not said.
async fn total(client: &Client, path: &str) -> u64 {
    client.get(path).await.ok()["total"].as_u64().unwrap_or(u64::MAX)
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{}", answer.body);
    if code.starts_with("miroir_") {
        assert_eq!(answer.body["link"], format!("docs/errors.md#{code}"));
    }
}

#[tokio::test]
async fn every_write_is_done_once_and_answered_twice() {
    let mut cluster = Cluster::start(SHAPE).await;
    let documents = json!([{ "id": 1, "kind": "a" }, { "id": 2, "kind": "b" }, { "id": 3, "kind": "c" }]);
    let writes = [
        (Method::POST, "/indexes", Some(json!({ "uid": "films", "primaryKey": "id" }))),
        // There is one by now: a task that has ended as it begins.
        (Method::POST, "/indexes", Some(json!({ "uid": "films" }))),
        (Method::PATCH, "/indexes/films", Some(json!({ "primaryKey": "id" }))),
        (Method::PATCH, "/indexes/films/settings", Some(json!({ "filterableAttributes": ["kind"] }))),
        (Method::PUT, "/indexes/films/settings/stop-words", Some(json!(["the"]))),
        (Method::DELETE, "/indexes/films/settings/synonyms", None),
        (Method::POST, "/indexes/films/documents", Some(documents.clone())),
        (Method::PUT, "/indexes/films/documents", Some(json!([{ "id": 4, "kind": "d" }]))),
        (Method::DELETE, "/indexes/films/documents/4", None),
        (Method::POST, "/indexes/films/documents/delete-batch", Some(json!([1]))),
        (Method::POST, "/indexes/films/documents/delete", Some(json!({ "filter": "kind = b" }))),
        (Method::DELETE, "/indexes/films/documents", None),
        (Method::DELETE, "/indexes/films", None),
    ];
    let mut answers = Vec::new();
    for (number, (method, path, body)) in writes.iter().enumerate() {
        let key = format!("key-{number}");
        let first = send(cluster.client(), method.clone(), path, &key, body.as_ref()).await;
        assert_eq!(first.status, 202, "{method} {path}: {}", first.body);
        assert_eq!(first.task_uid(), Some(number as u64), "{method} {path}");
        let at_once = send(cluster.client(), method.clone(), path, &key, body.as_ref()).await;
        assert_eq!((at_once.status, &at_once.body), (202, &first.body), "{method} {path}");
        cluster.client().wait_task(number as u64).await;
        let afterwards = send(cluster.client(), method.clone(), path, &key, body.as_ref()).await;
        assert_eq!((afterwards.status, &afterwards.body), (202, &first.body), "{method} {path}");
        answers.push(first.body);
    }
    for graceful in [true, false] {
        if graceful {
            assert_eq!(cluster.miroir.terminate(), Some(0));
        }
        cluster.miroir.restart().await;
        for (number, (method, path, body)) in writes.iter().enumerate() {
            let key = format!("key-{number}");
            let again = send(cluster.client(), method.clone(), path, &key, body.as_ref()).await;
            assert_eq!((again.status, &again.body), (202, &answers[number]), "{method} {path}");
        }
    }
    assert_eq!(total(cluster.client(), "/tasks").await, writes.len() as u64);
    assert_eq!(total(cluster.client(), "/indexes").await, 0, "a write was done again");
}

#[tokio::test]
async fn a_key_is_for_one_request() {
    let cluster = Cluster::start(SHAPE).await;
    let client = cluster.client();
    let path = "/indexes/films/documents?primaryKey=id";
    let body = json!([{ "id": 1 }]);
    let first = post(client, path, "k", &body).await;
    assert_eq!(first.status, 202, "{}", first.body);
    let others = [
        (Method::POST, path, json!([{ "id": 2 }])),
        (Method::PUT, path, body.clone()),
        (Method::POST, "/indexes/films/documents", body.clone()),
        (Method::POST, "/indexes/books/documents?primaryKey=id", body.clone()),
        (Method::POST, "/indexes", json!({ "uid": "books" })),
    ];
    for (method, path, body) in others {
        let refused = send(client, method.clone(), path, "k", Some(&body)).await;
        assert_refused(&refused, 409, "miroir_idempotency_key_reused");
        let message = refused.body["message"].as_str().unwrap();
        assert!(message.contains("`k`") && message.contains("task 0"), "{message}");
    }
    assert_eq!(total(client, "/tasks").await, 1);
    assert_eq!(post(client, path, "k", &body).await.body, first.body);
    client.wait_success(first).await;
    assert_eq!(total(client, "/indexes/films/documents").await, 1);
    assert_eq!(total(client, "/indexes").await, 1);
}

#[tokio::test]
async fn a_request_that_was_refused_leaves_its_key_free() {
    let cluster = Cluster::start(SHAPE).await;
    let client = cluster.client();
    client.wait_success(client.post("/indexes", &json!({ "uid": "films", "primaryKey": "id" })).await).await;
    // Refused before there is a task, and by a node after there was one.
    let wrong = post(client, "/indexes/films/documents", "a", &json!([1])).await;
    assert_refused(&wrong, 400, "malformed_payload");
    let path = "/indexes/films/settings";
    let wrong = send(client, Method::PATCH, path, "b", Some(&json!({ "rankingRules": ["tpyo"] }))).await;
    assert_refused(&wrong, 400, "invalid_settings_ranking_rules");
    let wrong = post(client, "/indexes/books/documents/delete", "c", &json!({ "filter": 3 })).await;
    assert!(wrong.status == 400, "{}", wrong.body);

    let right = post(client, "/indexes/films/documents", "a", &json!([{ "id": 1 }])).await;
    client.wait_success(right).await;
    let right = send(client, Method::PATCH, path, "b", Some(&json!({ "rankingRules": ["typo"] }))).await;
    client.wait_success(right).await;
    let right = post(client, "/indexes/books/documents", "c", &json!([{ "id": 1 }])).await;
    client.wait_success(right).await;

    let long = "x".repeat(256);
    for key in ["", "two words", long.as_str()] {
        let refused = post(client, "/indexes/films/documents", key, &json!([{ "id": 2 }])).await;
        assert_refused(&refused, 400, "miroir_invalid_idempotency_key");
    }
    let longest = post(client, "/indexes/films/documents", &long[1..], &json!([{ "id": 2 }])).await;
    assert_eq!(longest.status, 202, "{}", longest.body);
}

#[tokio::test]
async fn requests_at_the_same_time_make_one_task() {
    let cluster = Cluster::start(SHAPE).await;
    let client = cluster.client();
    for round in 0..5 {
        let before = total(client, "/tasks").await;
        let key = format!("round-{round}");
        let body: Vec<Value> = (0..500).map(|id| json!({ "id": id, "round": round })).collect();
        let body = json!(body);
        // The first round makes the index.
        let sends = (0..12).map(|_| post(client, "/indexes/films/documents", &key, &body));
        let answers = futures_util::future::join_all(sends).await;
        for answer in &answers {
            assert_eq!((answer.status, &answer.body), (202, &answers[0].body), "round {round}");
        }
        assert_eq!(total(client, "/tasks").await, before + 1);
        client.wait_success(answers.into_iter().next().unwrap()).await;

        // To different indexes these are different requests, which do not wait for each other.
        let key = format!("round-{round}-indexes");
        let paths: Vec<String> = (0..8).map(|number| format!("/indexes/of-{number}/documents")).collect();
        let sends = paths.iter().map(|path| post(client, path, &key, &body));
        let answers = futures_util::future::join_all(sends).await;
        let (done, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 202);
        assert_eq!((done.len(), refused.len()), (1, 7));
        for answer in refused {
            assert_refused(&answer, 409, "miroir_idempotency_key_reused");
        }
        assert_eq!(total(client, "/tasks").await, before + 2);
    }
}

/// Sends until the answer is not that the write is still held up.
async fn send_until_acknowledged(client: &Client, path: &str, key: &str, body: &Value) -> Answer {
    let started = Instant::now();
    loop {
        let answer = post(client, path, key, body).await;
        if answer.status != 503 {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "still refused: {}", answer.body);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_interrupted_write_is_told_until_it_is_done() {
    let mut cluster = Cluster::start_with_proxies(SHAPE, "scatter: { node_timeout_ms: 1000 }\n").await;
    let path = "/indexes/films/documents";
    let creation = json!({ "uid": "films", "primaryKey": "id" });
    cluster.client().wait_success(cluster.client().post("/indexes", &creation).await).await;
    let body: Vec<Value> = (0..100).map(|id| json!({ "id": id })).collect();
    let body = json!(body);
    let before = total(cluster.client(), "/tasks").await;

    let started = Instant::now();
    let first = loop {
        cluster.proxies[1].set(Fault::Blackhole);
        let answer = post(cluster.client(), path, "k", &body).await;
        assert_refused(&answer, 503, "miroir_no_quorum");
        if answer.body["message"].as_str().unwrap().contains("may still be carried out") {
            break answer;
        }
        // A probe was faster, so nothing was sent, and the key is free.
        assert_eq!(total(cluster.client(), "/tasks").await, before);
        assert!(started.elapsed() < PATIENCE, "the fault never hit a write: {}", answer.body);
        cluster.proxies[1].set(Fault::None);
        wait_whole(&cluster).await;
    };
    let said = format!("as task {before}");
    assert!(first.body["message"].as_str().unwrap().contains(&said), "{}", first.body);
    for killed in [false, true] {
        if killed {
            cluster.miroir.restart().await;
        }
        let again = post(cluster.client(), path, "k", &body).await;
        assert_refused(&again, 503, "miroir_no_quorum");
        assert!(again.body["message"].as_str().unwrap().contains(&said), "{}", again.body);
        let other = post(cluster.client(), path, "k", &json!([{ "id": 7 }])).await;
        assert_refused(&other, 409, "miroir_idempotency_key_reused");
    }

    cluster.proxies[1].set(Fault::None);
    let done = send_until_acknowledged(cluster.client(), path, "k", &body).await;
    assert_eq!((done.status, done.task_uid()), (202, Some(before)), "{}", done.body);
    cluster.client().wait_success(done).await;
    assert_eq!(total(cluster.client(), "/tasks").await, before + 1);
    assert_eq!(total(cluster.client(), path).await, 100);
}

async fn wait_whole(cluster: &Cluster) {
    let started = Instant::now();
    loop {
        let topology = cluster.admin().get("/_miroir/topology").await.ok();
        let nodes = topology["nodes"].as_array().cloned().unwrap_or_default();
        if nodes.len() == SHAPE.nodes && nodes.iter().all(|node| node["health"] == "healthy") {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "not whole: {topology}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The client of a killed Miroir cannot know what became of its request, sends it again, and has it done once.
#[tokio::test]
async fn a_write_sent_again_after_a_kill_is_done_once() {
    const ROUNDS: u64 = 12;
    let mut cluster = Cluster::start(SHAPE).await;
    let mut dice = Dice::new(11);
    let path = "/indexes/films/documents";
    let mut was_recorded_before = 0;
    for round in 0..ROUNDS {
        let body: Vec<Value> = (0..300).map(|id| json!({ "id": round * 1_000 + id })).collect();
        let (body, key) = (json!(body), format!("round-{round}"));
        let client = cluster.client().clone();
        let sending = tokio::spawn({
            let (bytes, key) = (serde_json::to_vec(&body).unwrap(), key.clone());
            async move {
                let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
                client.try_send(Method::POST, path, &headers, Some(bytes)).await.ok()
            }
        });
        // At any moment between its first byte and its acknowledgement, or just after it.
        tokio::time::sleep(Duration::from_millis(dice.below(15) as u64)).await;
        cluster.miroir.kill();
        let told = sending.await.unwrap().filter(|answer| answer.status == 202);
        cluster.miroir.restart().await;
        was_recorded_before += u64::from(total(cluster.client(), "/tasks").await > round);
        let again = send_until_acknowledged(cluster.client(), path, &key, &body).await;
        assert_eq!((again.status, again.task_uid()), (202, Some(round)), "{}", again.body);
        assert!(told.is_none_or(|told| told.body == again.body));
        cluster.client().wait_success(again).await;
    }
    println!("{was_recorded_before} of {ROUNDS} requests had been recorded when Miroir was killed");
    assert_eq!(total(cluster.client(), "/tasks").await, ROUNDS);
    assert_eq!(total(cluster.client(), path).await, ROUNDS * 300);
}

/// Deleting a task does not give its key free: what it stands for has been done.
#[tokio::test]
async fn a_key_outlives_its_deleted_task() {
    let mut cluster = Cluster::start(SHAPE).await;
    let path = "/indexes/films/documents";
    let documents = json!([{ "id": 1 }, { "id": 2 }]);
    let first = post(cluster.client(), path, "documents", &documents).await;
    cluster.client().wait_success(first.clone()).await;
    let answer = cluster.client().delete(&format!("{path}/1")).await;
    cluster.client().wait_success(answer).await;

    let everything = "/tasks?uids=*";
    let deletion = send(cluster.client(), Method::DELETE, everything, "deletion", None).await;
    assert_eq!((deletion.status, deletion.task_uid()), (200, Some(2)), "{}", deletion.body);
    assert_eq!(total(cluster.client(), "/tasks").await, 1);
    for round in 0..2 {
        let again = post(cluster.client(), path, "documents", &documents).await;
        assert_eq!((again.status, &again.body), (202, &first.body), "round {round}");
        let other = post(cluster.client(), path, "documents", &json!([{ "id": 3 }])).await;
        assert_refused(&other, 409, "miroir_idempotency_key_reused");
        let again = send(cluster.client(), Method::DELETE, everything, "deletion", None).await;
        assert_eq!((again.status, &again.body), (200, &deletion.body), "round {round}");
        assert_eq!(total(cluster.client(), path).await, 1, "document 1 came back");
        assert_eq!(total(cluster.client(), "/tasks").await, 1, "the deletion deleted itself");
        cluster.miroir.restart().await;
    }
}
