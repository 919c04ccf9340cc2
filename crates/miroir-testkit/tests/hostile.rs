//! Bad input: whatever is sent, Miroir answers as one Meilisearch does, in bounded memory, and stays well.

#![allow(clippy::expect_used)]

use std::time::Duration;

use miroir_testkit::client::{Answer, Client};
use miroir_testkit::cluster::Shape;
use miroir_testkit::compare::{INCIDENTAL_TO_TASKS, compare_answers};
use miroir_testkit::oracle::{Oracle, Subject};
use reqwest::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };
const JSON: (&str, &str) = ("content-type", "application/json");
const DOCUMENTS: &str = "/indexes/films/documents";
/// Meilisearch takes bodies of 100 MB, unless told otherwise.
const TOO_LARGE: usize = 100_000_001;
/// Most memory of Miroir, with several bodies of the largest size on their way through it.
const MOST_MEMORY_KIB: u64 = 1024 * 1024;

/// Sends the same to both; what differs is added to `differences`. The answer of the one Meilisearch.
async fn ask(
    oracle: &Oracle,
    differences: &mut String,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Answer {
    let send = async |client: &Client| {
        let says_who = headers.iter().any(|(name, _)| *name == "authorization");
        let client = if says_who { client.with_key(None) } else { client.clone() };
        let answer = client.send(method.clone(), path, headers, Some(body.clone())).await;
        if let Some(uid) = answer.task_uid() {
            client.wait_task(uid).await;
        }
        answer
    };
    let (expected, found) = tokio::join!(send(oracle.reference_client()), send(oracle.subject_client()));
    let difference = compare_answers(&expected, &found, INCIDENTAL_TO_TASKS);
    if !difference.is_empty() {
        let start = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        *differences += &format!("- {method} {path}, {} bytes: {start}\n{difference}", body.len());
    }
    expected
}

async fn bodies_that_are_too_large(oracle: &Oracle, differences: &mut String) {
    let mut large = vec![b' '; TOO_LARGE - 2];
    large.extend(b"[]");
    // One Meilisearch leaves the rest unread and the connection open, on which nothing is answered then.
    let headers = [JSON, ("connection", "close")];
    let answer = ask(oracle, differences, Method::POST, DOCUMENTS, &headers, large.clone()).await;
    assert_eq!((answer.status, &answer.body["code"]), (413, &json!("payload_too_large")));
    // One Meilisearch stops reading such a body, and its client may find the connection closed before it gets the answer.
    for path in ["/indexes/films/search", "/multi-search", "/keys"] {
        if matches!(oracle.subject, Subject::Meilisearch(_)) {
            break;
        }
        let sent = oracle.subject_client().try_send(Method::POST, path, &headers, Some(large.clone())).await;
        let refused = sent.map(|answer| (answer.status, answer.body["code"].clone()));
        assert!(
            refused.is_err() || refused.is_ok_and(|refused| refused == (413, json!("payload_too_large")))
        );
    }
}

async fn more_fields_than_an_index_can_have(oracle: &Oracle, differences: &mut String) {
    let fields: serde_json::Map<String, Value> = (0..65_600).map(|n| (format!("f{n}"), json!(1))).collect();
    let mut document = Value::Object(fields);
    document["id"] = json!(99);
    let body = document.to_string();
    let (one, other) = tokio::join!(
        oracle.reference_client().call(Method::POST, DOCUMENTS, Some(&document)),
        oracle.subject_client().call(Method::POST, DOCUMENTS, Some(&document))
    );
    let (one, other) = (one.task_uid().expect("a task"), other.task_uid().expect("a task"));
    let (one, other) =
        tokio::join!(oracle.reference_client().wait_task(one), oracle.subject_client().wait_task(other));
    assert_eq!(one["error"]["code"], "max_fields_limit_exceeded", "{} bytes", body.len());
    if one["error"] != other["error"] {
        *differences +=
            &format!("- a document of too many fields: {} and {}\n", one["error"], other["error"]);
    }
}

async fn bodies_that_are_no_text_and_too_deep(oracle: &Oracle, differences: &mut String) {
    let (open, close) = ("[".repeat(5_000), "]".repeat(5_000));
    for (method, path, around) in [
        (Method::POST, "/indexes", ("{\"uid\":", "}")),
        (Method::POST, "/indexes/films/search", ("{\"filter\":", "}")),
        (Method::POST, "/indexes/films/documents/fetch", ("{\"filter\":", "}")),
        (Method::POST, "/indexes/films/documents/delete", ("{\"filter\":", "}")),
        (Method::POST, "/indexes/films/documents/delete-batch", ("", "")),
        (Method::POST, "/indexes/films/facet-search", ("{\"facetName\":\"a\",\"filter\":", "}")),
        (Method::PATCH, "/indexes/films/settings", ("{\"stopWords\":", "}")),
        (Method::PUT, "/indexes/films/settings/stop-words", ("", "")),
        (Method::POST, "/keys", ("{\"actions\":", "}")),
        (Method::PATCH, "/keys/nobody", ("{\"name\":", "}")),
    ] {
        let deep = format!("{}{open}{close}{}", around.0, around.1);
        ask(oracle, differences, method.clone(), path, &[JSON], deep.into_bytes()).await;
        let no_text = [around.0.as_bytes(), b"\"\xff\xfe\"", around.1.as_bytes()].concat();
        ask(oracle, differences, method, path, &[JSON], no_text).await;
    }
}

async fn keys_that_are_none(oracle: &Oracle, differences: &mut String) {
    let search = "/indexes/films/search";
    for presented in [
        format!("Bearer {}", "x".repeat(50_000)),
        format!("Bearer {}.{}.{}", "e".repeat(9_000), "y".repeat(9_000), "z".repeat(9_000)),
        format!("Bearer {}", ".".repeat(9_000)),
        "Bearer ..".to_owned(),
        "Bearer eyJhbGciOiJub25lIn0..".to_owned(),
        "Bearer \u{e9}".to_owned(),
        "Bearer\tx".to_owned(),
        String::new(),
    ] {
        let headers = [JSON, ("authorization", presented.as_str())];
        let answer = ask(oracle, differences, Method::POST, search, &headers, b"{}".to_vec()).await;
        assert!(matches!(answer.status, 400..=403), "{}", answer.status);
    }
}

/// A key is good until it expires, and not any longer.
async fn a_key_that_expires(oracle: &Oracle) {
    let expires = OffsetDateTime::now_utc() + Duration::from_secs(2);
    let body = json!({
        "uid": "77777777-aaaa-4bbb-8ccc-000000000001", "actions": ["search"], "indexes": ["*"],
        "expiresAt": expires.format(&Rfc3339).expect("a moment can be written down"),
    });
    let (expected, found) = oracle.both(Method::POST, "/keys", Some(&body)).await;
    let until_refused = async |client: &Client, made: Answer| {
        let client = client.with_key(made.ok()["key"].as_str());
        let mut searches = 0;
        loop {
            let answer = client.post("/indexes/films/search", &json!({})).await;
            if answer.status != 200 {
                assert!(OffsetDateTime::now_utc() >= expires && searches > 0, "after {searches} searches");
                return answer;
            }
            searches += 1;
        }
    };
    let (expected, found) = tokio::join!(
        until_refused(oracle.reference_client(), expected),
        until_refused(oracle.subject_client(), found)
    );
    assert_eq!(expected.body["code"], "invalid_api_key");
    assert_eq!((expected.status, expected.body), (found.status, found.body));
}

/// Answers are compressed for who says he can read that, in the same way.
async fn answers_that_are_compressed(oracle: &Oracle) {
    for accepted in
        ["gzip", "br", "deflate", "gzip, deflate", "gzip, deflate, br", "br;q=0.5, gzip", "nonsense"]
    {
        for path in ["/indexes/films/documents", "/health", "/nowhere", "/indexes/nowhere"] {
            let headers = [("accept-encoding", accepted)];
            let (expected, found) = tokio::join!(
                oracle.reference_client().send(Method::GET, path, &headers, None),
                oracle.subject_client().send(Method::GET, path, &headers, None)
            );
            let encoding = |answer: &Answer| answer.header("content-encoding").map(str::to_owned);
            assert_eq!(encoding(&expected), encoding(&found), "{path} for {accepted}");
        }
    }
}

#[tokio::test]
async fn nothing_is_bad_enough() {
    let against_itself = std::env::var_os("MIROIR_TEST_AGAINST_ITSELF").is_some();
    let oracle = if against_itself { Oracle::against_itself().await } else { Oracle::start(SHAPE).await };
    let films: Vec<Value> = (0..40).map(|id| json!({ "id": id, "title": format!("film {id}") })).collect();
    oracle.apply_ok(Method::POST, DOCUMENTS, &json!(films)).await;
    let mut differences = String::new();
    answers_that_are_compressed(&oracle).await;
    keys_that_are_none(&oracle, &mut differences).await;
    bodies_that_are_no_text_and_too_deep(&oracle, &mut differences).await;
    more_fields_than_an_index_can_have(&oracle, &mut differences).await;
    bodies_that_are_too_large(&oracle, &mut differences).await;
    a_key_that_expires(&oracle).await;
    assert!(differences.is_empty(), "the servers differ:\n{differences}");

    let documents = oracle.compare_documents("films").await;
    assert!(documents.is_empty(), "what was refused left something behind:\n{documents}");
    assert_eq!(oracle.subject_client().get("/health").await.status, 200);
    if let Subject::Cluster(cluster) = &oracle.subject {
        let memory = most_memory_kib(cluster.miroir.pid());
        assert!(memory < MOST_MEMORY_KIB, "Miroir took {memory} KiB of memory");
    }
}

/// The most memory a process has had so far.
fn most_memory_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux tells of processes");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux tells of memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("it is a number")
}
