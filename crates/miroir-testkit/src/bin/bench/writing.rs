//! Measuring writes: the time until everything sent can be found, and the memory that takes Miroir.

use std::time::{Duration, Instant};

use miroir_testkit::client::{Answer, Client};
use miroir_testkit::figures::workload::{INDEX, Workload};
use reqwest::Method;
use serde_json::{Value, json};

use crate::options::Options;
use crate::process_stat::{forget_peak, memory_now, memory_peak};
use crate::subject::{Servers, Subject};

/// Longest wait for one task.
const TASK_LIMIT: Duration = Duration::from_secs(1_200);
/// Time without requests before memory at rest is read.
const REST: Duration = Duration::from_secs(10);
/// The index the large body goes to.
const LARGE_INDEX: &str = "large";

/// Miroir's memory at rest, in megabytes.
#[derive(Debug, Clone)]
pub struct AtRest {
    /// Which Miroir.
    pub subject: Subject,
    /// After its start.
    pub started: f64,
    /// After documents were added.
    pub ingested: f64,
}

/// What adding the documents took.
#[derive(Debug, Clone)]
pub struct Ingest {
    /// Who took them.
    pub subject: Subject,
    /// Seconds from the first byte to the last task's success, per round.
    pub seconds: Vec<f64>,
    /// Seconds from the first byte to the last acknowledgement, per round.
    pub acknowledged: Vec<f64>,
    /// Most megabytes Miroir held.
    pub peak: Option<f64>,
}

/// What one large body took.
#[derive(Debug, Clone)]
pub struct LargeBody {
    /// Who took it.
    pub subject: Subject,
    /// Bytes and documents.
    pub size: (usize, usize),
    /// Seconds to the acknowledgement and to the success, or what went wrong.
    pub outcome: Result<(f64, f64), String>,
    /// Most megabytes Miroir held.
    pub peak: f64,
}

/// Sends the documents to everybody, in turns, and leaves them there.
pub async fn ingest(servers: &Servers, workload: &Workload, options: &Options) -> Vec<Ingest> {
    let mut results: Vec<Ingest> = Subject::WRITTEN
        .map(|subject| Ingest { subject, seconds: Vec::new(), acknowledged: Vec::new(), peak: None })
        .to_vec();
    for round in 0..options.ingest_rounds {
        for result in &mut results {
            let (client, miroir) = (servers.client(result.subject), servers.miroir(result.subject));
            if round > 0 {
                client.wait_success(client.delete(&format!("/indexes/{INDEX}")).await).await;
            }
            prepare(client, workload).await;
            miroir.inspect(|pid| forget_peak(*pid));
            let (acknowledged, seconds) = send_all(client, workload).await;
            let peak = miroir.map(memory_peak);
            result.peak = peak.map(|peak| result.peak.map_or(peak, |earlier| earlier.max(peak)));
            result.seconds.push(seconds);
            result.acknowledged.push(acknowledged);
            println!("ingest, round {}: {}: {seconds:.2} s", round + 1, result.subject.label());
        }
    }
    results
}

async fn prepare(client: &Client, workload: &Workload) {
    let index = json!({ "uid": INDEX, "primaryKey": "id" });
    client.wait_success(client.post("/indexes", &index).await).await;
    let settings = client.patch(&format!("/indexes/{INDEX}/settings"), &workload.settings).await;
    client.wait_success(settings).await;
}

async fn send_all(client: &Client, workload: &Workload) -> (f64, f64) {
    let path = format!("/indexes/{INDEX}/documents");
    let bodies = workload.batches.clone();
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for body in bodies {
        let answer = client.send(Method::POST, &path, &JSON, Some(body)).await;
        tasks.push(accepted(answer).unwrap_or_else(|error| panic!("a batch was refused: {error}")));
    }
    let acknowledged = begun.elapsed().as_secs_f64();
    // The last task first: the others are over by then, so asking for them costs the servers next to nothing.
    for task in tasks.into_iter().rev() {
        wait_success(client, task).await.unwrap_or_else(|error| panic!("a batch failed: {error}"));
    }
    (acknowledged, begun.elapsed().as_secs_f64())
}

/// Reads Miroir's memory after it had nothing to do for a while.
pub async fn at_rest(servers: &Servers) -> Vec<(Subject, f64)> {
    tokio::time::sleep(REST).await;
    Subject::WRITTEN
        .into_iter()
        .filter_map(|subject| Some((subject, memory_now(servers.miroir(subject)?))))
        .collect()
}

/// Sends one body just below the size limit.
pub async fn large_body(
    servers: &Servers,
    subject: Subject,
    workload: &Workload,
    options: &Options,
) -> Option<LargeBody> {
    let (client, pid) = (servers.client(subject), servers.miroir(subject)?);
    let (body, documents) = workload.large_body(options.large_body);
    let size = (body.len(), documents);
    let index = json!({ "uid": LARGE_INDEX, "primaryKey": "id" });
    client.wait_success(client.post("/indexes", &index).await).await;
    forget_peak(pid);
    let outcome = send_large(client, body).await;
    let peak = memory_peak(pid);
    client.wait_success(client.delete(&format!("/indexes/{LARGE_INDEX}")).await).await;
    println!("large body: {}: {outcome:?}, peak {peak:.0} MB", subject.label());
    Some(LargeBody { subject, size, outcome, peak })
}

async fn send_large(client: &Client, body: Vec<u8>) -> Result<(f64, f64), String> {
    let path = format!("/indexes/{LARGE_INDEX}/documents");
    let begun = Instant::now();
    let answer = client.try_send(Method::POST, &path, &JSON, Some(body)).await;
    let task = accepted(answer.map_err(|error| error.to_string())?)?;
    let acknowledged = begun.elapsed().as_secs_f64();
    wait_success(client, task).await?;
    Ok((acknowledged, begun.elapsed().as_secs_f64()))
}

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn accepted(answer: Answer) -> Result<u64, String> {
    answer.task_uid().ok_or_else(|| format!("status {}: {}", answer.status, answer.body))
}

/// Waits until a task is over; the error is how it ended when not well. Asks at the same pace whoever answers.
async fn wait_success(client: &Client, task: u64) -> Result<(), String> {
    const PACE: Duration = Duration::from_millis(20);
    let begun = Instant::now();
    while begun.elapsed() < TASK_LIMIT {
        let found: Value = client.get(&format!("/tasks/{task}")).await.body;
        match found["status"].as_str() {
            Some("succeeded") => return Ok(()),
            Some("enqueued" | "processing") => tokio::time::sleep(PACE).await,
            _ => return Err(found.to_string()),
        }
    }
    Err(format!("task {task} is not over after {TASK_LIMIT:?}"))
}
