//! The nemesis: injures nodes and Miroir as planned, and heals them again.
//!
//! A full disk is made by forbidding a node's process to let files grow (`prlimit --fsize`): it needs no rights, no
//! file system of its own, can be done to a running node, and ends at once. A write past the limit fails as on a
//! full disk, with another number: indexing fails as a task, and with a limit near zero the node refuses what it is
//! sent. Clocks are shifted by libfaketime where it is installed; only the wall clock, as by a wrong time server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::RwLockWriteGuard;

use super::Stage;
use super::plan::{Fault, FaultKind, Injury};
use super::report::Violation;
use crate::cluster::Cluster;
use crate::process::MeilisearchProcess;
use crate::proxy;

/// Longest wait for all copies to be whole before one of them is destroyed.
const WHOLE_LIMIT: Duration = Duration::from_secs(60);
/// How long clients only read after a node came back with another disk.
const READ_ONLY: Duration = Duration::from_secs(3);
/// How long a node whose database is broken is left so before it is started again.
const LEFT_BROKEN: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(100);

/// Carries out one injury, and heals it.
pub async fn injure(stage: &Stage, cluster: &mut Cluster, injury: &Injury) {
    let mut done: Vec<&Fault> = Vec::new();
    for fault in &injury.faults {
        stage.report.note(format_args!("NEMESIS {} {fault:?} for {:?}", fault.kind.name(), injury.hold));
        if begin(stage, cluster, fault, injury.hold).await {
            stage.report.count("faults", fault.kind.name());
            done.push(fault);
        } else {
            stage.report.note(format_args!("NEMESIS left {} out", fault.kind.name()));
            stage
                .report
                .count("faults", format!("{}, left out because copies were not whole", fault.kind.name()));
        }
    }
    tokio::time::sleep(injury.hold).await;
    for fault in done {
        heal(stage, cluster, fault).await;
        stage.report.note(format_args!("NEMESIS healed {} of {}", fault.kind.name(), fault.node));
    }
    tokio::time::sleep(injury.pause).await;
}

async fn begin(stage: &Stage, cluster: &mut Cluster, fault: &Fault, hold: Duration) -> bool {
    let number = fault.node;
    match fault.kind {
        FaultKind::Kill => cluster.nodes[number].kill(),
        FaultKind::KillMiroir => cluster.miroir.kill(),
        FaultKind::Freeze => cluster.nodes[number].freeze(),
        FaultKind::FullDisk => limit_files(cluster, number, Some(fault.amount)),
        FaultKind::Latency => {
            let late = Duration::from_millis(fault.amount.unsigned_abs());
            cluster.proxies[number].set(proxy::Fault::Latency(late));
        }
        FaultKind::Reset => cluster.proxies[number].set(proxy::Fault::Reset),
        FaultKind::HalfOpen => cluster.proxies[number].set(proxy::Fault::HalfOpen),
        FaultKind::BlackHole => cluster.proxies[number].set(proxy::Fault::Blackhole),
        FaultKind::Wipe => {
            let Some(gate) = wait_whole(stage, cluster).await else { return false };
            cluster.nodes[number].kill();
            cluster.nodes[number].empty_disk();
            end_unnoticed(cluster, fault, gate).await;
        }
        FaultKind::OldCopy => {
            cluster.nodes[number].kill();
            cluster.nodes[number].save_disk();
            cluster.nodes[number].restart().await;
            stage.report.note(format_args!("NEMESIS copied the data of {number}"));
            // Long enough for the copy to be outdated.
            tokio::time::sleep(hold.max(Duration::from_secs(2))).await;
            let Some(gate) = wait_whole(stage, cluster).await else { return false };
            cluster.nodes[number].kill();
            cluster.nodes[number].restore_disk();
            end_unnoticed(cluster, fault, gate).await;
        }
        FaultKind::Clock => {
            let environment = shifted_clock(fault.amount);
            cluster.nodes[number].restart_with(&environment).await;
        }
        FaultKind::ClockMiroir => cluster.miroir.restart_with(&shifted_clock(fault.amount)).await,
    }
    true
}

async fn heal(stage: &Stage, cluster: &mut Cluster, fault: &Fault) {
    let number = fault.node;
    match fault.kind {
        FaultKind::Freeze => cluster.nodes[number].thaw(),
        FaultKind::FullDisk => {
            if cluster.nodes[number].has_ended() {
                stage.report.count("faults", "full-disk, which ended the node");
                cluster.nodes[number].restart().await;
            }
            limit_files(cluster, number, None);
            // Meilisearch's database does not recover from a write that failed in the wrong place (`MDB_PANIC`):
            // whoever runs the node has to start it again, and Miroir to keep all promises until then.
            if is_broken(&cluster.nodes[number]).await {
                stage.report.count("faults", "full-disk, which broke the node until it was started again");
                tokio::time::sleep(LEFT_BROKEN).await;
                cluster.nodes[number].restart().await;
            }
        }
        FaultKind::Latency | FaultKind::Reset | FaultKind::HalfOpen | FaultKind::BlackHole => {
            cluster.proxies[number].set(proxy::Fault::None);
        }
        FaultKind::Wipe | FaultKind::OldCopy if fault.amount == 1 => {}
        FaultKind::Kill | FaultKind::Wipe | FaultKind::OldCopy | FaultKind::Clock => {
            cluster.nodes[number].restart_with(&[]).await;
        }
        FaultKind::KillMiroir | FaultKind::ClockMiroir => cluster.miroir.restart_with(&[]).await,
    }
}

/// Whether a node that has room again cannot tell of its tasks, or of what it holds, all the same.
async fn is_broken(node: &MeilisearchProcess) -> bool {
    let reads = async |path: &str| {
        let answer = node.client().try_send(reqwest::Method::GET, path, &[], None).await;
        answer.is_ok_and(|answer| answer.status < 500)
    };
    let index = format!("/indexes/{}/documents?limit=1", super::INDEX);
    !(reads("/tasks?limit=1").await && reads(&index).await)
}

/// Starts again what ended by itself, which nothing should.
pub async fn revive(stage: &Stage, cluster: &mut Cluster) {
    if cluster.miroir.has_ended() {
        let what = format!("Miroir; its log ends with:\n{}", cluster.miroir.log_tail());
        stage.report.violation(Violation::Crashed, what);
        cluster.miroir.restart().await;
    }
    for number in 0..cluster.nodes.len() {
        if cluster.nodes[number].has_ended() {
            stage.report.violation(Violation::Crashed, format_args!("node {number}"));
            cluster.nodes[number].restart().await;
        }
    }
}

/// Lets writers go on: right away, so that the node misses writes, or once it is back with the other disk and clients
/// have read for a while, since a write might give it away.
async fn end_unnoticed(cluster: &mut Cluster, fault: &Fault, gate: RwLockWriteGuard<'_, ()>) {
    if fault.amount == 1 {
        cluster.nodes[fault.node].restart().await;
        tokio::time::sleep(READ_ONLY).await;
    }
    drop(gate);
}

/// Waits with all writers held back until nothing is on its way and every copy is whole.
async fn wait_whole<'stage>(stage: &'stage Stage, cluster: &Cluster) -> Option<RwLockWriteGuard<'stage, ()>> {
    let started = Instant::now();
    let gate = tokio::time::timeout(WHOLE_LIMIT, stage.gate.write()).await.ok()?;
    while started.elapsed() < WHOLE_LIMIT {
        match unrest(cluster).await {
            None => return Some(gate),
            Some(_) => tokio::time::sleep(POLL).await,
        }
    }
    None
}

/// What is not in order yet: a node down, a task not over, a copy not active.
pub async fn unrest(cluster: &Cluster) -> Option<String> {
    let get = async |path: &str| -> Result<Value, String> {
        let answer = cluster.admin().try_send(reqwest::Method::GET, path, &[], None).await;
        match answer {
            Ok(answer) if answer.status == 200 => Ok(answer.body),
            Ok(answer) => Err(format!("{path} is answered {}: {}", answer.status, answer.body)),
            Err(error) => Err(format!("{path}: {error}")),
        }
    };
    let look = async || -> Result<Option<String>, String> {
        let topology = get("/_miroir/topology").await?;
        let nodes = topology["nodes"].as_array().cloned().unwrap_or_default();
        if let Some(node) = nodes.iter().find(|node| node["health"] != "healthy") {
            return Ok(Some(format!("a node is not healthy: {node}")));
        }
        let shards = get("/_miroir/shards").await?;
        let indexes = shards["indexes"].as_array().cloned().unwrap_or_default();
        let shards = indexes.iter().flat_map(|index| index["shards"].as_array().cloned().unwrap_or_default());
        for shard in shards {
            let replicas = shard["replicas"].as_array().cloned().unwrap_or_default();
            if replicas.iter().any(|replica| replica["state"] != "active") {
                return Ok(Some(format!("a copy is not active: {shard}")));
            }
        }
        let client = cluster.client();
        let tasks =
            client.try_send(reqwest::Method::GET, "/tasks?statuses=enqueued,processing&limit=1", &[], None);
        let tasks = tasks.await.map_err(|error| error.to_string())?;
        Ok((tasks.body["total"] != 0).then(|| format!("tasks are not over: {}", tasks.body)))
    };
    look().await.unwrap_or_else(Some)
}

/// Forbids files to grow beyond a share of the size of the largest one, or allows it again.
fn limit_files(cluster: &Cluster, number: usize, share: Option<i64>) {
    let node = &cluster.nodes[number];
    let limit = match share {
        None => "unlimited".to_owned(),
        Some(0) => "4096".to_owned(),
        Some(share) => {
            let largest = largest_file(&node.directory().join("data").join("indexes"));
            (largest * share.unsigned_abs() / 100).max(4096).to_string()
        }
    };
    let status = Command::new("prlimit")
        .args(["--pid", &node.pid().to_string(), &format!("--fsize={limit}:unlimited")])
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "prlimit (of util-linux) cannot limit a node's files"
    );
}

fn largest_file(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => largest_file(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.max().unwrap_or_default()
}

/// The library that shifts the clock of a process, where it is installed.
pub fn faketime_library() -> Option<PathBuf> {
    let places = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let places = places.chain([PathBuf::from("/usr/lib"), PathBuf::from("/usr/local/lib")]);
    places.map(|place| place.join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file())
}

fn shifted_clock(hours: i64) -> Vec<(String, String)> {
    let Some(library) = faketime_library() else { return Vec::new() };
    [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME", format!("{hours:+}h")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}
