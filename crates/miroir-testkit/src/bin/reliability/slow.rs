//! One node that answers late: how much of that clients see, and how much more the nodes are asked because of it.

use std::time::Duration;

use miroir_testkit::cluster::{Cluster, Shape};
use miroir_testkit::figures::statistics::{median, median_ratio, percentile, sorted};
use miroir_testkit::figures::workload::Workload;
use miroir_testkit::proxy::Fault;

use crate::clients::{Clients, Outcome, Sample, Searches};
use crate::options::Options;
use crate::whole::load;

const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 64 };
/// The node's answers come so much later. The proxy delays question and answer by half of it each.
pub const DELAY: Duration = Duration::from_millis(500);
/// Searching without the delay before that is measured: the cluster has to notice that the node is well again.
const SETTLING: Duration = Duration::from_secs(5);

/// One stretch of searching.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// Searches in all.
    pub searches: usize,
    /// Those that failed or were partial or gave other hits.
    pub wrong: usize,
    /// Median, in milliseconds.
    pub p50: f64,
    /// One in a hundred took longer.
    pub p99: f64,
    /// The slowest.
    pub slowest: f64,
    /// Requests that the nodes got for each search.
    pub asked: f64,
}

/// Rounds with and without a slow node.
pub struct Slow {
    /// All nodes as usual.
    pub healthy: Vec<Stretch>,
    /// One of them late.
    pub slow: Vec<Stretch>,
}

impl Slow {
    /// The p99 with a slow node to that without.
    pub fn ratio(&self) -> f64 {
        let p99 = |stretches: &[Stretch]| stretches.iter().map(|one| one.p99).collect::<Vec<f64>>();
        median_ratio(&p99(&self.slow), &p99(&self.healthy))
    }

    /// Requests to nodes beyond those without a slow node, in hundredths of them.
    pub fn extra_load(&self) -> f64 {
        let asked = |stretches: &[Stretch]| stretches.iter().map(|one| one.asked).collect::<Vec<f64>>();
        100.0 * (median_ratio(&asked(&self.slow), &asked(&self.healthy)) - 1.0)
    }
}

/// The median of the rounds.
pub fn typical(stretches: &[Stretch], figure: impl Fn(&Stretch) -> f64) -> f64 {
    median(stretches.iter().map(figure))
}

/// With and without, in turns, under the same clients.
pub async fn measure(workload: &Workload, options: &Options) -> Slow {
    let cluster = Cluster::start_with_proxies(SHAPE, "").await;
    load(cluster.client(), workload).await;
    let searches = Searches::learn(&cluster, workload);
    let clients = Clients::start(&searches, options.clients);
    // Nothing is written meanwhile, so whatever is posted to a node is posted for a search.
    let look = || {
        let asked: u64 = cluster.proxies.iter().map(|proxy| proxy.requests("POST /")).sum();
        (clients.now(), asked)
    };
    let mut moments = Vec::new();
    for round in 0..options.rounds {
        tokio::time::sleep(SETTLING).await;
        let begun = look();
        tokio::time::sleep(options.before).await;
        let proxy = &cluster.proxies[round % cluster.proxies.len()];
        let slowed = look();
        proxy.set(Fault::Latency(DELAY / 2));
        tokio::time::sleep(options.before).await;
        moments.push((begun, slowed, look()));
        proxy.set(Fault::None);
    }
    let samples = clients.finish();
    let (mut healthy, mut slow) = (Vec::new(), Vec::new());
    for (round, (begun, slowed, ended)) in moments.into_iter().enumerate() {
        let pair = (stretch(&samples, begun, slowed), stretch(&samples, slowed, ended));
        println!("slow node, round {}: {pair:?}", round + 1);
        healthy.push(pair.0);
        slow.push(pair.1);
    }
    Slow { healthy, slow }
}

/// What was sent between two moments, each with the requests that nodes had got by then.
fn stretch(samples: &[Sample], from: (f64, u64), to: (f64, u64)) -> Stretch {
    let sent: Vec<&Sample> =
        samples.iter().filter(|sample| from.0 <= sample.begun && sample.begun < to.0).collect();
    let took = sorted(sent.iter().map(|sample| sample.took()));
    Stretch {
        searches: sent.len(),
        wrong: sent.iter().filter(|sample| sample.outcome != Outcome::Same).count(),
        p50: percentile(&took, 0.50),
        p99: percentile(&took, 0.99),
        slowest: percentile(&took, 1.0),
        asked: (to.1 - from.1) as f64 / sent.len() as f64,
    }
}
