//! The torture test: clients write and search while a nemesis injures nodes and Miroir. Whatever was acknowledged
//! must be there, whatever was answered must have been right, and when all is well again, everything must be equal:
//! copies to each other, the cluster to the model, and every answer to that of one Meilisearch.
//!
//! What clients do and what breaks is drawn from a seed (`plan`, `write`); a run goes in rounds of trouble, each
//! followed by a quiet point at which everything is checked (`quiet`). The first round that leaves something wrong
//! is the last, because all that follows would be its consequence.

mod model;
mod nemesis;
mod plan;
mod quiet;
mod reader;
mod report;
mod write;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

pub use self::plan::FaultKind;

use self::model::Model;
use self::plan::Injuries;
use self::reader::Reader;
use self::report::{Report, Violation};
use self::write::{Writes, first_settings};
use self::writer::Writer;
use crate::client::Client;
use crate::cluster::{Cluster, MASTER_KEY, Shape};
use crate::corpus::Dice;
use crate::process::MeilisearchProcess;

/// The index everything happens in.
const INDEX: &str = "torture";
/// Nodes are given up soon, so that much happens in little time.
const CONFIGURATION: &str = "scatter: { node_timeout_ms: 1000 }\n";

/// What to do, and for how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of all that is drawn.
    pub seed: u64,
    /// How long there is trouble in all; quiet points come on top.
    pub trouble: Duration,
    /// Trouble between two quiet points.
    pub round: Duration,
    /// The longest a fault lasts.
    pub longest_fault: Duration,
    /// The cluster.
    pub shape: Shape,
    /// Ways to injure.
    pub faults: Vec<FaultKind>,
    /// Clients that write documents.
    pub writers: u64,
    /// Ids each of them writes to.
    pub ids: u64,
    /// Clients that read.
    pub readers: u64,
    /// Documents that are never changed.
    pub sealed: u64,
    /// Keep logs, data and history whatever the outcome.
    pub keep: bool,
}

impl Options {
    /// A seed's run as `cargo test` does it.
    pub fn short(seed: u64) -> Self {
        Self {
            seed,
            trouble: Duration::from_secs(100),
            round: Duration::from_secs(50),
            longest_fault: Duration::from_secs(12),
            shape: Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 8 },
            faults: FaultKind::ALL.to_vec(),
            writers: 3,
            ids: 400,
            readers: 2,
            sealed: 600,
            keep: false,
        }
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Every promise was kept.
    pub kept: bool,
    /// Counts, and what went wrong.
    pub text: String,
    /// Where logs, data and history are, when they were kept: those of Miroir first.
    pub kept_directories: Vec<PathBuf>,
}

/// What all who take part share.
#[derive(Debug)]
struct Stage {
    options: Options,
    client: Client,
    model: Mutex<Model>,
    report: Report,
    /// Held by each write until its acknowledgement; taken to hold writes back.
    gate: RwLock<()>,
    broken: AtomicBool,
}

impl Stage {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something does not end: there is no sense in going on.
    fn give_up(&self, what: String) {
        if !self.broken.swap(true, Ordering::AcqRel) {
            self.report.violation(Violation::NeverEnded, what);
        }
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

/// Runs the torture.
pub async fn run(options: Options) -> Outcome {
    let shifts_clocks = options.faults.iter().any(|kind| kind.shifts_a_clock());
    assert!(
        !shifts_clocks || nemesis::faketime_library().is_some(),
        "libfaketime, which lets clocks jump, is not there: install the package faketime, or leave out the faults \
         clock and clock-miroir"
    );
    let (mut cluster, mut reference) = tokio::join!(
        Cluster::start_with_proxies(options.shape, CONFIGURATION),
        MeilisearchProcess::start(Some(MASTER_KEY))
    );
    // Also when this process is killed, or panics.
    cluster.keep_directories(true);
    reference.keep_directory(true);
    let stage = Arc::new(Stage {
        client: cluster.client().clone(),
        model: Mutex::default(),
        report: Report::new(&cluster.directory().join("history.log")),
        gate: RwLock::default(),
        broken: AtomicBool::new(false),
        options,
    });
    load(&stage).await;

    let mut cast = Cast::new(&stage.options);
    let mut dice = Dice::new(stage.options.seed);
    let mut troubled = Duration::ZERO;
    let mut rounds = 0;
    while troubled < stage.options.trouble && !stage.is_broken() && !stage.report.has_violations() {
        let trouble = stage.options.round.min(stage.options.trouble - troubled);
        cast.round(&stage, &mut cluster, trouble).await;
        troubled += trouble;
        rounds += 1;
        if !stage.is_broken() {
            quiet::check(&stage, &mut cluster, &reference, &mut dice).await;
        }
        let (writes, reads) = (stage.report.total("writes"), stage.report.total("reads"));
        println!(
            "round {rounds}: {} faults, {writes} writes, {reads} reads so far",
            stage.report.total("faults")
        );
    }
    let kept = !stage.report.has_violations();
    let mut kept_directories = Vec::new();
    if kept && !stage.options.keep {
        cluster.keep_directories(false);
        reference.keep_directory(false);
    } else {
        kept_directories.push(cluster.directory().to_owned());
        kept_directories.extend(cluster.nodes.iter().map(|node| node.directory().to_owned()));
        kept_directories.push(reference.directory().to_owned());
    }
    Outcome { kept, text: stage.report.text(), kept_directories }
}

/// Makes the index with the documents that stay as they are.
async fn load(stage: &Stage) {
    let client = &stage.client;
    let creation = client.post("/indexes", &json!({ "uid": INDEX, "primaryKey": "id" })).await;
    client.wait_success(creation).await;
    let settings = client.patch(&format!("/indexes/{INDEX}/settings"), &first_settings()).await;
    client.wait_success(settings).await;
    let sealed = Writes::sealed(stage.options.seed, stage.options.sealed);
    stage.model().seal(&sealed);
    let documents = client.post(&format!("/indexes/{INDEX}/documents"), &json!(sealed)).await;
    client.wait_success(documents).await;
}

/// Everyone who does something, from round to round.
struct Cast {
    writers: Vec<Writer>,
    readers: Vec<Reader>,
    injuries: Injuries,
}

impl Cast {
    fn new(options: &Options) -> Self {
        let Options { seed, writers, ids, readers, .. } = *options;
        let mut all: Vec<Writer> = (0..writers)
            .map(|number| {
                let writes = Writes::to_documents(seed, number, writers, ids);
                Writer::new(format!("writer {number}"), writes, seed ^ number, 60)
            })
            .collect();
        all.push(Writer::new("settings".to_owned(), Writes::to_settings(seed), seed, 4_000));
        let readers = (0..readers).map(|number| Reader::new(seed.wrapping_add(1_000 + number))).collect();
        let injuries =
            Injuries::new(seed, options.shape.nodes, options.faults.clone(), options.longest_fault);
        Self { writers: all, readers, injuries }
    }

    /// One round of trouble; at its end all is healed and all that was written is over.
    async fn round(&mut self, stage: &Arc<Stage>, cluster: &mut Cluster, trouble: Duration) {
        let stop = CancellationToken::new();
        let writing =
            futures_util::future::join_all(self.writers.iter_mut().map(|writer| writer.run(stage, &stop)));
        let reading =
            futures_util::future::join_all(self.readers.iter_mut().map(|reader| reader.run(stage, &stop)));
        let injuring = async {
            let started = Instant::now();
            while started.elapsed() < trouble && !stage.is_broken() {
                let Some(injury) = self.injuries.next() else {
                    // Without faults, which is a test of the test.
                    tokio::time::sleep(trouble).await;
                    break;
                };
                nemesis::injure(stage, cluster, &injury).await;
            }
            nemesis::revive(stage, cluster).await;
            stop.cancel();
        };
        tokio::join!(writing, reading, injuring);
    }
}
