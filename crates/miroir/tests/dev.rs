//! `miroir dev` with real Meilisearch processes: what dies is restarted, what is stopped leaves nothing behind, and
//! the next start finds everything again.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use miroir_testkit::process::{free_port, meilisearch_binary};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const NODES: usize = 2;

/// A running `miroir dev`. Killed when dropped, its nodes with it.
struct Dev {
    child: Child,
    url: String,
    directory: PathBuf,
}

impl Dev {
    async fn start(directory: &Path) -> Self {
        let port = free_port();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(directory.with_extension("log"))
            .expect("the log of miroir dev can be written");
        let child = Command::new(env!("CARGO_BIN_EXE_miroir"))
            .args(["dev", "--nodes", &NODES.to_string(), "--replication-factor", "2", "--shards", "5"])
            .args(["--port", &port.to_string(), "--data-dir"])
            .arg(directory)
            .env("MEILISEARCH_BIN", meilisearch_binary())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("miroir starts");
        let dev = Self { child, url: format!("http://127.0.0.1:{port}"), directory: directory.to_owned() };
        let url = format!("{}/_miroir/ready", dev.url);
        dev.eventually("Miroir is ready", async || {
            reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        dev
    }

    async fn eventually(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let started = Instant::now();
        while !condition().await {
            if started.elapsed() > Duration::from_secs(90) {
                let log = std::fs::read_to_string(self.directory.with_extension("log")).unwrap_or_default();
                panic!("not within 90 s: {what}\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn node_process(&self, position: usize) -> Option<i32> {
        let file = self.directory.join(format!("meili-{position}/process"));
        std::fs::read_to_string(file).ok()?.parse().ok()
    }

    fn node_processes(&self) -> Vec<i32> {
        (0..NODES).filter_map(|position| self.node_process(position)).collect()
    }

    async fn hits(&self) -> (usize, bool) {
        let answer = reqwest::Client::new()
            .post(format!("{}/indexes/books/search", self.url))
            .json(&json!({ "q": "book" }))
            .send()
            .await
            .expect("a search is answered");
        let degraded = answer.headers().contains_key("x-miroir-degraded");
        let body: Value = answer.json().await.expect("the answer is JSON");
        (body["hits"].as_array().map_or(0, Vec::len), degraded)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn is_running(process: i32) -> bool {
    // A zombie is gone; it only waits for whoever adopted it.
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[tokio::test]
async fn a_cluster_survives_its_deaths_and_leaves_nothing_behind() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("cluster");
    let mut dev = Dev::start(&directory).await;

    let documents: Vec<Value> =
        (0..12).map(|id| json!({ "id": id, "title": format!("book {id}") })).collect();
    let accepted: Value = reqwest::Client::new()
        .post(format!("{}/indexes/books/documents", dev.url))
        .json(&documents)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let task = format!("{}/tasks/{}", dev.url, accepted["taskUid"]);
    dev.eventually("the documents are indexed", async || {
        let task: Value = reqwest::get(&task).await.unwrap().json().await.unwrap();
        task["status"] == "succeeded"
    })
    .await;
    assert_eq!(dev.hits().await, (12, false));

    // A node dies: the other answers alone, and the first comes back.
    let killed = dev.node_process(0).expect("node 0 runs");
    kill(Pid::from_raw(killed), Signal::SIGKILL).unwrap();
    assert_eq!(dev.hits().await, (12, false));
    dev.eventually("node 0 is restarted", async || {
        dev.node_process(0).is_some_and(|process| process != killed && is_running(process))
    })
    .await;

    // Miroir is killed without a chance to clean up: no node stays.
    let nodes = dev.node_processes();
    assert_eq!(nodes.len(), NODES);
    dev.signal(Signal::SIGKILL);
    dev.child.wait().unwrap();
    dev.eventually("no node outlives miroir dev", async || nodes.iter().all(|process| !is_running(*process)))
        .await;

    // The next start finds the data; asked to stop, it ends well and cleans up.
    let mut dev = Dev::start(&directory).await;
    assert_eq!(dev.hits().await, (12, false));
    let nodes = dev.node_processes();
    dev.signal(Signal::SIGTERM);
    assert!(dev.child.wait().unwrap().success());
    assert!(nodes.iter().all(|process| !is_running(*process)));
    assert!(dev.node_processes().is_empty());
}
