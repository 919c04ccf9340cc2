//! The fuzzer: requests that nobody would send, drawn from a seed for every route there is, to Miroir over real nodes.
//! It looks for what no request may ever cause: an internal error, a body that is not JSON, an answer that never
//! comes, a process that ends.
//!
//! Half of what is drawn is nearly right (`body`, `path`), because what is all wrong is refused at the door.

mod body;
mod judge;
mod path;
mod words;

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use self::judge::{Verdict, judge};
use self::path::Drawer;
use self::words::INDEXES;
use crate::client::Client;
use crate::cluster::{ADMIN_API_KEY, Cluster, Shape};
use crate::corpus::Dice;

/// How many send at the same time.
const SENDERS: u64 = 4;
/// Within this, each answer must be there: searches end within twice `node_timeout_ms`, and writes wait for a few more.
const ANSWER_LIMIT: Duration = Duration::from_secs(45);
/// What is wrong that is told; then the run ends.
const ENOUGH: usize = 10;
/// Requests of one sender after which everything is put in order again.
const REQUESTS_BETWEEN_REPAIRS: u64 = 150;

/// What to do, and for how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of all that is drawn.
    pub seed: u64,
    /// For how long requests are sent.
    pub duration: Duration,
    /// The cluster.
    pub shape: Shape,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was wrong, each with the request that caused it; empty is good.
    pub wrong: Vec<String>,
    /// How many requests were answered, by status.
    pub summary: String,
}

/// One request as it is sent.
#[derive(Debug)]
struct Request {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
    /// The key presented, if any.
    key: Option<String>,
}

/// What the senders share.
struct Stage {
    client: Client,
    until: Instant,
    wrong: Mutex<Vec<String>>,
    stop: AtomicBool,
    statuses: [AtomicU64; 600],
}

/// Sends what is drawn until the time is over or enough is wrong.
pub async fn run(options: Options) -> Outcome {
    let mut cluster = Cluster::start(options.shape).await;
    let stage = Stage {
        client: cluster.client().clone(),
        until: Instant::now() + options.duration,
        wrong: Mutex::default(),
        stop: AtomicBool::new(false),
        statuses: std::array::from_fn(|_| AtomicU64::new(0)),
    };
    put_in_order(&stage.client).await;
    futures_util::future::join_all((0..SENDERS).map(|sender| send(&stage, options.seed, sender))).await;
    let mut wrong = stage.wrong.into_inner().unwrap_or_default();
    if cluster.miroir.has_ended() {
        wrong.push(format!("Miroir has ended:\n{}", cluster.miroir.log_tail()));
    } else if wrong.is_empty() {
        still_works(&stage.client, &mut wrong).await;
    }
    for (number, node) in cluster.nodes.iter_mut().enumerate() {
        if node.has_ended() {
            wrong.push(format!("node {number} has ended"));
        }
    }
    let log = std::fs::read_to_string(cluster.directory().join("miroir.log")).unwrap_or_default();
    wrong.extend(log.lines().filter(|line| line.contains("panicked")).map(str::to_owned));
    let mut summary = String::new();
    for (status, count) in stage.statuses.iter().enumerate() {
        let count = count.load(Ordering::Relaxed);
        if count > 0 {
            let _ = write!(summary, "{status}: {count}  ");
        }
    }
    Outcome { wrong, summary }
}

async fn send(stage: &Stage, seed: u64, sender: u64) {
    let mut drawer = Drawer::new(Dice::new(seed.wrapping_mul(SENDERS).wrapping_add(sender)));
    let mut sent = 0;
    while Instant::now() < stage.until && !stage.stop.load(Ordering::Relaxed) {
        let request = drawer.draw();
        let verdict = one(stage, &request).await;
        if let Verdict::Wrong(why) = verdict {
            let text = format!("{why}\n{}", describe(&request));
            if let Ok(mut wrong) = stage.wrong.lock() {
                wrong.push(text);
                stage.stop.store(wrong.len() >= ENOUGH, Ordering::Relaxed);
            }
        }
        sent += 1;
        if sender == 0 && sent % REQUESTS_BETWEEN_REPAIRS == 0 {
            put_in_order(&stage.client).await;
        }
    }
}

async fn one(stage: &Stage, request: &Request) -> Verdict {
    let client = stage.client.with_key(request.key.as_deref());
    let headers: Vec<(&str, &str)> =
        request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let send = || client.try_send(request.method.clone(), &request.path, &headers, request.body.clone());
    let mut sent = tokio::time::timeout(ANSWER_LIMIT, send()).await;
    // A kept connection may be closed by Miroir at the moment in which it is used again.
    if matches!(&sent, Ok(Err(error)) if error.is_request() && !error.is_timeout()) {
        sent = tokio::time::timeout(ANSWER_LIMIT, send()).await;
    }
    match sent {
        Err(_) => Verdict::Wrong(format!("no answer within {ANSWER_LIMIT:?}")),
        // What cannot be sent is not Miroir's fault.
        Ok(Err(error)) if error.is_builder() => Verdict::Right,
        Ok(Err(error)) => Verdict::Wrong(format!("no answer: {error:?}")),
        Ok(Ok(answer)) => {
            if let Some(count) = stage.statuses.get(usize::from(answer.status)) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            judge(&answer, request.method != Method::HEAD)
        }
    }
}

/// Makes the indexes again, with settings and documents, whatever has become of them. Nothing is waited for.
async fn put_in_order(client: &Client) {
    for index in &INDEXES[..2] {
        let documents: Vec<Value> = (0..40).map(body::document).collect();
        client.patch(&format!("/indexes/{index}/settings"), &body::settings()).await;
        client.put(&format!("/indexes/{index}/documents?primaryKey=id"), &json!(documents)).await;
    }
}

/// After all that, a document that is added can be found.
async fn still_works(client: &Client, wrong: &mut Vec<String>) {
    let answer = client.post("/indexes/afterwards/documents", &json!([{ "id": 1, "title": "last" }])).await;
    let Some(uid) = answer.task_uid() else {
        return wrong.push(format!("no document can be added afterwards: {answer:?}"));
    };
    let task = client.wait_task(uid).await;
    let found = client.post("/indexes/afterwards/search", &json!({ "q": "last" })).await;
    if found.body["hits"][0]["id"] != 1 {
        wrong.push(format!("what is added afterwards is not found: {task} {found:?}"));
    }
}

/// A request as somebody would repeat it.
fn describe(request: &Request) -> String {
    let mut text = format!("{} {}", request.method, request.path);
    for (name, value) in &request.headers {
        let _ = write!(text, "\n  {name}: {value:?}");
    }
    let key = match request.key.as_deref() {
        Some(ADMIN_API_KEY) => "the admin key",
        Some(key) if Some(key) == Some(crate::cluster::MASTER_KEY) => "the master key",
        Some(key) => key,
        None => "none",
    };
    let _ = write!(text, "\n  key: {key}");
    if let Some(body) = &request.body {
        let _ = write!(text, "\n  body of {} bytes: {}", body.len(), body.escape_ascii());
    }
    text
}
