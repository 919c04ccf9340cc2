//! Webhooks, next to those of one Meilisearch: the routes answer alike, and a real receiver hears of each task once, with
//! its headers, also when it refuses at first and when Miroir is killed in between.
#![allow(clippy::expect_used)]

use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flate2::read::GzDecoder;
use miroir_testkit::client::Answer;
use miroir_testkit::cluster::{Cluster, Shape};
use miroir_testkit::compare::{INCIDENTAL_TO_TASKS, compare_answers};
use miroir_testkit::oracle::Oracle;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const SHAPE: Shape = Shape { nodes: 2, replication_factor: 2, replica_groups: 1, shards: 3 };
/// Of a wait for something that must come.
const LIMIT: Duration = Duration::from_secs(60);

/// One request as it arrived.
#[derive(Debug)]
struct Told {
    path: String,
    head: String,
    tasks: Vec<Value>,
    taken: bool,
}

impl Told {
    fn uids(&self) -> Vec<u64> {
        self.tasks.iter().filter_map(|task| task["uid"].as_u64()).collect()
    }
}

/// What webhooks point at: an HTTP server of a few lines, so that nothing is understood that was not sent.
struct Receiver {
    address: String,
    told: mpsc::UnboundedReceiver<Told>,
    refuses: Arc<AtomicBool>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (sender, told) = mpsc::unbounded_channel();
        let refuses = Arc::new(AtomicBool::new(false));
        let refusing = Arc::clone(&refuses);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let taken = !refusing.load(Ordering::SeqCst);
                let sender = sender.clone();
                tokio::spawn(async move {
                    if let Some(told) = take(stream, taken).await {
                        let _ = sender.send(told);
                    }
                });
            }
        });
        Self { address, told, refuses }
    }

    async fn next(&mut self) -> Told {
        let told = tokio::time::timeout(LIMIT, self.told.recv()).await;
        told.expect("a webhook is told in time").expect("the receiver lives")
    }

    /// Everything a path is told until it has heard of so many tasks.
    async fn hear(&mut self, path: &str, tasks: usize) -> Vec<Value> {
        let mut heard = Vec::new();
        while heard.len() < tasks {
            let told = self.next().await;
            if told.path == path {
                heard.extend(told.tasks);
            }
        }
        heard
    }
}

/// Reads one request and answers it.
async fn take(mut stream: TcpStream, taken: bool) -> Option<Told> {
    let mut bytes = Vec::new();
    let (head, mut body) = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            break (String::from_utf8_lossy(&bytes).into_owned(), body);
        }
        let mut part = [0; 4096];
        let length = stream.read(&mut part).await.ok().filter(|length| *length > 0)?;
        bytes.extend_from_slice(&part[..length]);
    };
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let is_whole = |body: &[u8]| length.map_or(body.ends_with(b"0\r\n\r\n"), |length| body.len() >= length);
    while !is_whole(&body) {
        let mut part = [0; 4096];
        let length = stream.read(&mut part).await.ok().filter(|length| *length > 0)?;
        body.extend_from_slice(&part[..length]);
    }
    let compressed = if length.is_some() { body } else { unchunked(&body) };
    let mut lines = String::new();
    GzDecoder::new(&compressed[..]).read_to_string(&mut lines).expect("it is compressed with gzip");
    let tasks = lines.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    let path = head.split(' ').nth(1)?.to_owned();
    let status = if taken { "204 No Content" } else { "503 Service Unavailable" };
    let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.ok()?;
    Some(Told { path, head: lower, tasks, taken })
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(&String::from_utf8_lossy(&body[..end]), 16).unwrap_or(0);
        whole.extend_from_slice(&body[end + 2..end + 2 + length]);
        body = &body[(end + 4 + length).min(body.len())..];
    }
    whole
}

/// The answer without uuids, which each server makes for itself, and without the webhook of the configuration.
fn without_uuids(mut answer: Answer) -> Answer {
    if let Some(results) = answer.body["results"].as_array_mut() {
        results.retain(|webhook| webhook["isEditable"] == true);
        results.sort_by_key(|webhook| webhook["url"].to_string());
    }
    let text = answer.body.to_string();
    let is_uuid = |word: &str| word.len() == 36 && word.matches('-').count() == 4;
    let words = text.split_inclusive(['"', '`', ' ']);
    let replaced: String = words
        .map(|word| match word.split_at_checked(36) {
            Some((uuid, rest)) if is_uuid(uuid) => format!("UUID{rest}"),
            _ => word.to_owned(),
        })
        .collect();
    answer.body = serde_json::from_str(&replaced).expect("it stays JSON");
    answer
}

async fn ask(oracle: &Oracle, method: Method, paths: [&str; 2], body: Option<Value>) -> [Answer; 2] {
    let (expected, found) = tokio::join!(
        oracle.reference_client().call(method.clone(), paths[0], body.as_ref()),
        oracle.subject_client().call(method.clone(), paths[1], body.as_ref())
    );
    let difference = compare_answers(&without_uuids(expected.clone()), &without_uuids(found.clone()), &[]);
    assert!(difference.is_empty(), "{method} {paths:?} {body:?}\n{difference}");
    [expected, found]
}

/// The same paths for both.
async fn ask_both(oracle: &Oracle, method: Method, path: &str, body: Option<Value>) -> [Answer; 2] {
    ask(oracle, method, [path, path], body).await
}

/// The routes, with everything that can be wrong.
async fn the_routes_answer_alike(oracle: &Oracle, quiet: &str) {
    let unknown = "627ea538-733d-4545-8d2d-03526eb381ce";
    let many: Value = (0..201).map(|number| (format!("h{number}"), json!("v"))).collect();
    for body in [
        json!({}),
        json!({ "url": null }),
        json!({ "url": "" }),
        json!({ "url": 7 }),
        json!({ "url": "not an address" }),
        json!({ "url": "http://" }),
        json!({ "url": quiet, "headers": ["a"] }),
        json!({ "url": quiet, "headers": { "a": 7 } }),
        json!({ "url": quiet, "headers": { "a b": "c" } }),
        json!({ "url": quiet, "headers": { "a": "b\nc" } }),
        json!({ "url": quiet, "headers": many }),
        json!({ "url": quiet, "uuid": unknown }),
        json!({ "url": quiet, "isEditable": false }),
        json!({ "url": quiet, "other": 1 }),
        json!([]),
    ] {
        ask_both(oracle, Method::POST, "/webhooks", Some(body)).await;
    }
    ask_both(oracle, Method::POST, "/webhooks", None).await;
    for path in
        [unknown, "seven", "00000000-0000-0000-0000-00000000000"].map(|uuid| format!("/webhooks/{uuid}"))
    {
        ask_both(oracle, Method::GET, &path, None).await;
        ask_both(oracle, Method::PATCH, &path, Some(json!({ "url": 7 }))).await;
        ask_both(oracle, Method::PATCH, &path, Some(json!({ "url": quiet }))).await;
        ask_both(oracle, Method::DELETE, &path, None).await;
    }
    let nil = "/webhooks/00000000-0000-0000-0000-000000000000";
    ask_both(oracle, Method::PATCH, nil, Some(json!({ "url": quiet }))).await;
    ask_both(oracle, Method::DELETE, nil, None).await;

    let body = json!({ "url": quiet, "headers": { "Authorization": "Bearer very-secret", "x": null } });
    let made = ask_both(oracle, Method::POST, "/webhooks", Some(body)).await;
    let paths = made.map(|answer| format!("/webhooks/{}", answer.body["uuid"].as_str().unwrap_or_default()));
    let paths = [paths[0].as_str(), paths[1].as_str()];
    ask(oracle, Method::GET, paths, None).await;
    for body in [
        json!({ "headers": { "Authorization": "other", "x": null, "y": "z" } }),
        json!({ "headers": many }),
        json!({ "headers": { "a b": "c" } }),
        json!({ "url": null }),
        json!({ "url": "http://:7" }),
        json!({ "url": quiet, "headers": null }),
        json!({ "uuid": unknown }),
        json!({}),
    ] {
        ask(oracle, Method::PATCH, paths, Some(body)).await;
        ask_both(oracle, Method::GET, "/webhooks", None).await;
    }
    for number in 1..=20 {
        let body = json!({ "url": format!("{quiet}{number}") });
        ask_both(oracle, Method::POST, "/webhooks", Some(body)).await;
    }
    let all = ask_both(oracle, Method::GET, "/webhooks", None).await;
    let uuids = all.map(|answer| {
        let results = answer.body["results"].as_array().cloned().unwrap_or_default();
        let editable = results.into_iter().filter(|webhook| webhook["isEditable"] == true);
        let path = |webhook: Value| format!("/webhooks/{}", webhook["uuid"].as_str().unwrap_or_default());
        editable.map(path).collect::<Vec<_>>()
    });
    assert_eq!((uuids[0].len(), uuids[1].len()), (20, 20));
    for (one, other) in uuids[0].iter().zip(&uuids[1]) {
        let deleted = ask(oracle, Method::DELETE, [one, other], None).await;
        assert_eq!(deleted[1].status, 204);
    }
    ask_both(oracle, Method::GET, "/webhooks", None).await;
}

/// One Meilisearch and Miroir tell their receivers the same.
async fn both_tell_the_same(oracle: &Oracle) {
    let (mut of_reference, mut of_subject) = (Receiver::start().await, Receiver::start().await);
    for (client, receiver) in
        [(oracle.reference_client(), &of_reference), (oracle.subject_client(), &of_subject)]
    {
        let headers = json!({ "Authorization": "Bearer very-secret", "X-Shop": "one" });
        let body = json!({ "url": format!("{}/all?of=them", receiver.address), "headers": headers });
        client.post("/webhooks", &body).await.ok();
    }
    oracle.apply(Method::POST, "/indexes", Some(&json!({ "uid": "films", "primaryKey": "id" }))).await;
    let films = json!([{ "id": 1, "title": "Heat" }, { "id": 2, "title": "Alien" }]);
    oracle.apply(Method::POST, "/indexes/films/documents", Some(&films)).await;
    oracle.apply(Method::POST, "/indexes/films/documents", Some(&json!([{ "title": "no id" }]))).await;
    oracle.apply(Method::PATCH, "/indexes/films/settings", Some(&json!({ "stopWords": ["the"] }))).await;
    oracle.apply(Method::DELETE, "/indexes/nowhere", None).await;
    oracle.apply(Method::DELETE, "/tasks?statuses=canceled", None).await;

    let heard = [of_reference.next().await, of_subject.next().await];
    for Told { path, head, .. } in &heard {
        assert_eq!(path, "/all?of=them");
        for line in [
            "content-type: application/x-ndjson",
            "content-encoding: gzip",
            "authorization: bearer very-secret",
            "x-shop: one",
        ] {
            assert!(head.contains(line), "{line} is missing in {head}");
        }
    }
    let [first_of_reference, first_of_subject] = heard.map(|told| told.tasks);
    let mut expected = first_of_reference;
    expected.extend(of_reference.hear("/all?of=them", 6 - expected.len()).await);
    let mut found = first_of_subject;
    found.extend(of_subject.hear("/all?of=them", 6 - found.len()).await);
    for tasks in [&mut expected, &mut found] {
        tasks.sort_by_key(|task| task["uid"].as_u64());
    }
    let answer =
        |tasks: Vec<Value>| Answer { status: 200, headers: Vec::new(), body: json!({ "tasks": tasks }) };
    let difference = compare_answers(&answer(expected), &answer(found), INCIDENTAL_TO_TASKS);
    assert!(difference.is_empty(), "the receivers heard something else:\n{difference}");
}

/// Each task is told once, in whatever way the receiver and Miroir go on and off.
async fn nothing_is_lost_and_nothing_told_twice(oracle: &mut Oracle, configured: &mut Receiver) {
    let path = "/configured";
    let created = configured.next().await;
    assert!(created.head.contains("authorization: secret of the configuration"), "{}", created.head);
    let mut heard: Vec<u64> = created.uids();
    let mut expected = BTreeSet::new();
    let note = |answer: Answer| answer.task_uid().expect("it is a task");

    // It refuses what it is told, and is told again.
    configured.refuses.store(true, Ordering::SeqCst);
    let client = oracle.subject_client().clone();
    expected.insert(note(client.post("/indexes/films/documents", &json!([{ "id": 3 }])).await));
    let refused = loop {
        let told = configured.next().await;
        if told.taken {
            heard.extend(told.uids());
        } else {
            break told;
        }
    };
    assert!(!refused.tasks.is_empty());
    // What ends while it does not listen waits, also when Miroir is killed.
    let uid = note(client.post("/indexes/films/documents", &json!([{ "id": 4 }])).await);
    expected.insert(uid);
    client.wait_task(uid).await;
    oracle.cluster().miroir.kill();
    configured.refuses.store(false, Ordering::SeqCst);
    oracle.cluster().miroir.restart().await;
    expected.insert(note(client.post("/indexes/films/documents", &json!([{ "id": 5 }])).await));
    while !expected.iter().all(|uid| heard.contains(uid)) {
        let told = configured.next().await;
        assert_eq!(told.path, path);
        if told.taken {
            heard.extend(told.uids());
        }
    }
    let last = expected.iter().max().copied().unwrap_or_default();
    let all: Vec<u64> = (0..=last).collect();
    heard.sort_unstable();
    assert_eq!(heard, all, "each task once");
}

#[tokio::test]
async fn webhooks_are_those_of_meilisearch() {
    let mut configured = Receiver::start().await;
    let extra = format!(
        "task_webhook_url: {}/configured\ntask_webhook_authorization_header: Secret of the configuration\n",
        configured.address
    );
    let cluster = Cluster::start_with_proxies(SHAPE, &extra).await;
    let mut oracle = Oracle::with_cluster(cluster).await;
    the_routes_answer_alike(&oracle, "http://127.0.0.1:9/").await;
    both_tell_the_same(&oracle).await;
    nothing_is_lost_and_nothing_told_twice(&mut oracle, &mut configured).await;

    let nil = "/webhooks/00000000-0000-0000-0000-000000000000";
    let webhook = oracle.subject_client().get(nil).await.ok();
    let found = json!({
        "uuid": "00000000-0000-0000-0000-000000000000", "isEditable": false,
        "url": format!("{}/configured", configured.address),
        "headers": { "Authorization": "Secret of the configuration" },
    });
    assert_eq!(webhook, found);
}
