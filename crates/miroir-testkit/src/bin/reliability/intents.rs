//! What it costs to record a write before it is sent: the same server in the same process, each side with nodes and
//! a store of its own, one of which leaves out just that.

use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use miroir_server::{Config, NodeConfig, Secret, Server, UnavailableShardPolicy};
use miroir_store::{SqliteStore, Store};
use miroir_testkit::client::Client;
use miroir_testkit::cluster::{MASTER_KEY, NODE_MASTER_KEY};
use miroir_testkit::figures::connection::{Line, Part};
use miroir_testkit::figures::statistics::{median, median_ratio};
use miroir_testkit::figures::workload::{INDEX, Workload};
use miroir_testkit::process::{MeilisearchProcess, free_port};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::options::Options;
use crate::without_intents::WithoutIntents;

const NODES: usize = 3;
/// Documents in a large body.
pub const LARGE: usize = 1_000;
/// Documents in the bodies of each size.
const SIZES: [usize; 2] = [1, LARGE];
/// Longest wait until what was written has been applied.
const APPLIED_LIMIT: Duration = Duration::from_secs(600);

/// Until when writes are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The last is acknowledged: how fast a burst is taken.
    Acknowledged,
    /// The last has been carried out: what can be kept up.
    CarriedOut,
}

impl Until {
    /// Both, in the order of [`Rates`].
    pub const ALL: [Self; 2] = [Self::Acknowledged, Self::CarriedOut];

    /// For the tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::CarriedOut => "carried out",
        }
    }
}

/// Writes in a second, in the order of [`Until::ALL`].
type Rates = [f64; 2];

/// Writes in a second, with and without, per round.
pub struct Writing {
    /// Documents in each body.
    pub size: usize,
    /// Intents recorded.
    with: Vec<Rates>,
    /// Not recorded.
    without: Vec<Rates>,
}

impl Writing {
    /// With to without.
    pub fn ratio(&self, until: Until) -> f64 {
        let of = |rates: &[Rates]| rates.iter().map(|one| one[until as usize]).collect::<Vec<_>>();
        median_ratio(&of(&self.with), &of(&self.without))
    }

    /// The medians of the rounds, with and without.
    pub fn typical(&self, until: Until) -> [f64; 2] {
        [&self.with, &self.without].map(|rates| median(rates.iter().map(|one| one[until as usize])))
    }
}

/// A server in this process, and its nodes.
struct Side {
    client: Client,
    // In the order in which they are to end.
    _serving: AbortOnDropHandle<()>,
    _nodes: Vec<MeilisearchProcess>,
    _directory: TempDir,
}

impl Side {
    async fn start(records_intents: bool) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let nodes = join_all((0..NODES).map(|_| MeilisearchProcess::start(Some(NODE_MASTER_KEY)))).await;
        let config = config(&nodes, &directory);
        let client = Client::new(format!("http://{}", config.bind), Some(MASTER_KEY));
        let store = SqliteStore::open(&config.store_path).expect("a new store can be opened");
        let store: Arc<dyn Store> =
            if records_intents { Arc::new(store) } else { Arc::new(WithoutIntents::new(store)) };
        let server = Server::start_on(store, config, CancellationToken::new()).await;
        let server = server.expect("a server can be started on a free port");
        let serving = tokio::spawn(async move { server.serve().await.expect("the server goes on") });
        Self { client, _serving: AbortOnDropHandle::new(serving), _nodes: nodes, _directory: directory }
    }

    /// Makes an index, writes, and leaves nothing behind.
    async fn write(&self, bodies: &Arc<Vec<Vec<u8>>>, clients: usize, settings: &Value) -> Rates {
        let index = json!({ "uid": INDEX, "primaryKey": "id" });
        self.client.wait_success(self.client.post("/indexes", &index).await).await;
        let changed = self.client.patch(&format!("/indexes/{INDEX}/settings"), settings).await;
        self.client.wait_success(changed).await;

        let address = self.client.base_url().trim_start_matches("http://");
        let path = format!("/indexes/{INDEX}/documents");
        let parts: Vec<Part> =
            bodies.iter().map(|body| Part::post(address, &path, MASTER_KEY, body)).collect();
        let writing = tokio::task::spawn_blocking(move || closed_loop(&parts, clients));
        let begun = writing.await.expect("the clients end well");
        let acknowledged = begun.elapsed();
        self.wait_applied().await;
        let carried_out = begun.elapsed();
        self.client.wait_success(self.client.delete(&format!("/indexes/{INDEX}")).await).await;
        [acknowledged, carried_out].map(|time| bodies.len() as f64 / time.as_secs_f64())
    }

    async fn wait_applied(&self) {
        let begun = Instant::now();
        loop {
            let tasks = self.client.get("/tasks?statuses=enqueued,processing,failed&limit=1").await.ok();
            match tasks["results"].get(0) {
                None => return,
                Some(task) if task["status"] == "failed" => panic!("a write failed: {task}"),
                Some(task) => assert!(begun.elapsed() < APPLIED_LIMIT, "not applied in time: {task}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn config(nodes: &[MeilisearchProcess], directory: &TempDir) -> Config {
    let node = |(number, node): (usize, &MeilisearchProcess)| NodeConfig {
        id: format!("meili-{number}"),
        address: node.address(),
        replica_group: 0,
    };
    Config {
        bind: ([127, 0, 0, 1], free_port()).into(),
        master_key: Some(Secret::new(MASTER_KEY)),
        node_master_key: Some(Secret::new(NODE_MASTER_KEY)),
        admin_api_key: None,
        default_shards: 64,
        replication_factor: 2,
        min_write_acks: 1,
        nodes: nodes.iter().enumerate().map(node).collect(),
        store_path: directory.path().join("miroir.db"),
        dump_dir: directory.path().join("dumps"),
        snapshot_dir: directory.path().join("snapshots"),
        node_timeout: Duration::from_secs(5),
        unavailable_shard_policy: UnavailableShardPolicy::Partial,
        max_body_bytes: 100 * 1024 * 1024,
        shutdown_grace: Duration::from_secs(10),
        anti_entropy_interval: Duration::from_secs(600),
        task_webhook: None,
    }
}

/// With and without in turns, beginning with the one and with the other.
pub async fn measure(workload: &Workload, options: &Options) -> Vec<Writing> {
    let (with, without) = (Side::start(true).await, Side::start(false).await);
    let mut results = Vec::new();
    for size in SIZES {
        let writes = if size == 1 { options.small_writes } else { options.large_writes };
        let bodies = Arc::new(bodies(workload, size, writes));
        let mut writing = Writing { size, with: Vec::new(), without: Vec::new() };
        for round in 0..options.write_rounds {
            for turn in 0..2 {
                let (side, rates) = match (round + turn) % 2 {
                    0 => (&with, &mut writing.with),
                    _ => (&without, &mut writing.without),
                };
                rates.push(side.write(&bodies, options.clients, &workload.settings).await);
            }
            let (with, without) = (writing.with[round], writing.without[round]);
            println!("bodies of {size}, round {}: {with:.1?} with, {without:.1?} without", round + 1);
        }
        results.push(writing);
    }
    results
}

/// So many bodies, each document once.
fn bodies(workload: &Workload, size: usize, count: usize) -> Vec<Vec<u8>> {
    let batches = workload.corpus.documents.chunks(size).take(count);
    let bodies: Vec<Vec<u8>> =
        batches.map(|batch| serde_json::to_vec(batch).expect("documents are JSON")).collect();
    assert_eq!(bodies.len(), count, "there are too few documents");
    bodies
}

/// Writes until the last is acknowledged. Returns when the first began.
fn closed_loop(writes: &[Part], clients: usize) -> Instant {
    let (next, ready) = (AtomicUsize::new(0), Barrier::new(clients));
    let client = || {
        let mut line = Line::default();
        ready.wait();
        let begun = Instant::now();
        while let Some(write) = writes.get(next.fetch_add(1, Ordering::Relaxed)) {
            line.exchange(std::slice::from_ref(write)).unwrap_or_else(|error| panic!("{error}"));
        }
        begun
    };
    let first = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().expect("a client ends well")).min()
    });
    first.expect("there are clients")
}
