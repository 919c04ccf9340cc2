//! Nodes that are killed or frozen while clients search.

use std::time::Duration;

use miroir_testkit::cluster::{Cluster, Shape};
use miroir_testkit::figures::statistics::{percentile, sorted};
use miroir_testkit::figures::workload::Workload;

use crate::clients::{Clients, Outcome, Sample, Searches};
use crate::options::Options;
use crate::recovery::{Answered, back_after, good_windows};
use crate::whole::{load, wait_whole};

/// Shards of the index: Miroir's default.
const SHARDS: u16 = 64;
/// Longest wait until all is well again after a round.
const HEALING_LIMIT: Duration = Duration::from_secs(120);
/// Pause before a round, for what the last one left behind.
const REST: Duration = Duration::from_secs(2);

/// What is done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// SIGKILL: connections are refused from then on.
    Kill,
    /// SIGSTOP: connections are accepted and nothing ever answers.
    Freeze,
}

/// What is done to a cluster.
#[derive(Debug, Clone, Copy)]
pub struct Injury {
    /// Nodes and copies.
    pub nodes: usize,
    /// Copies of each shard.
    pub replication_factor: usize,
    /// Nodes injured at the same time.
    pub injured: usize,
    /// What is done to them.
    pub how: How,
}

impl Injury {
    /// As the tables name it.
    pub fn label(&self) -> String {
        let how = if self.how == How::Kill { "killed" } else { "frozen" };
        format!("RF {}, {} of {} nodes {how}", self.replication_factor, self.injured, self.nodes)
    }
}

/// What one round showed.
#[derive(Debug, Clone)]
pub struct Round {
    /// Searches after the injury.
    pub searches: usize,
    /// Those that got no answer or an error.
    pub failed: usize,
    /// Answers that said that they were partial.
    pub partial: usize,
    /// Answers with other hits than before.
    pub other: usize,
    /// Median before the injury, in milliseconds.
    pub normal_p50: f64,
    /// The same of one in a hundred.
    pub normal_p99: f64,
    /// The slowest answer after the injury, in seconds.
    pub slowest: f64,
    /// Seconds until the p99 was back to twice what it had been.
    pub back: f64,
    /// Windows whose p99 was more than twice the whole p99, and all windows, before the injury: how much of that
    /// is chance.
    pub bad_before: (usize, usize),
}

/// An injury and what its rounds showed.
pub struct Injured {
    /// What was done.
    pub injury: Injury,
    /// What came of it.
    pub rounds: Vec<Round>,
}

impl Injured {
    /// All rounds together.
    pub fn sum(&self, figure: impl Fn(&Round) -> usize) -> usize {
        self.rounds.iter().map(figure).sum()
    }

    /// The worst of all rounds.
    pub fn worst(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        self.rounds.iter().map(figure).fold(f64::NAN, f64::max)
    }
}

/// All injuries.
pub async fn measure(workload: &Workload, options: &Options) -> Vec<Injured> {
    let mut results = Vec::new();
    for (nodes, replication_factor, injured) in [(3, 2, 1), (5, 3, 2)] {
        let shape = Shape { nodes, replication_factor, replica_groups: 1, shards: SHARDS };
        let mut cluster = Cluster::start(shape).await;
        load(cluster.client(), workload).await;
        let searches = Searches::learn(&cluster, workload);
        for how in [How::Kill, How::Freeze] {
            let injury = Injury { nodes, replication_factor, injured, how };
            let mut rounds = Vec::new();
            for number in 0..options.rounds {
                // Each round other nodes, so that no lucky placement decides.
                let victims: Vec<usize> = (0..injured).map(|n| (number * injured + n) % nodes).collect();
                let clients = Clients::start(&searches, options.clients);
                tokio::time::sleep(options.before).await;
                let moment = clients.now();
                victims.iter().for_each(|node| injure(&mut cluster, *node, how));
                tokio::time::sleep(options.after).await;
                let end = clients.now();
                let round = judge(&clients.finish(), moment, end);
                println!("{}, round {}: {round:?}", injury.label(), number + 1);
                rounds.push(round);
                for node in victims {
                    heal(&mut cluster, node, how).await;
                }
                let copies = replication_factor * options.documents;
                let healed = wait_whole(&cluster, copies, HEALING_LIMIT).await;
                healed.unwrap_or_else(|missing| panic!("not healed: {missing}"));
                tokio::time::sleep(REST).await;
            }
            results.push(Injured { injury, rounds });
        }
    }
    results
}

fn injure(cluster: &mut Cluster, node: usize, how: How) {
    match how {
        How::Kill => cluster.nodes[node].kill(),
        How::Freeze => cluster.nodes[node].freeze(),
    }
}

async fn heal(cluster: &mut Cluster, node: usize, how: How) {
    match how {
        How::Kill => cluster.nodes[node].restart().await,
        How::Freeze => cluster.nodes[node].thaw(),
    }
}

fn judge(samples: &[Sample], moment: f64, end: f64) -> Round {
    let answers: Vec<Answered> = samples.iter().map(|sample| (sample.ended, sample.took())).collect();
    let normal = sorted(answers.iter().filter(|(came, _)| *came < moment).map(|(_, took)| *took));
    let normal_p99 = percentile(&normal, 0.99);
    let windows = |from, to| good_windows(&answers, from, to, 2.0 * normal_p99);
    let before = windows(0.0, moment);
    // A search that was under way is concerned as well.
    let after: Vec<&Sample> = samples.iter().filter(|sample| sample.ended >= moment).collect();
    let count = |kind: fn(&Outcome) -> bool| after.iter().filter(|sample| kind(&sample.outcome)).count();
    if let Some(Outcome::Failed(error)) = after.iter().map(|sample| &sample.outcome).find(is_failure) {
        println!("the first that failed: {error}");
    }
    Round {
        searches: after.len(),
        failed: count(|outcome| is_failure(&outcome)),
        partial: count(|outcome| *outcome == Outcome::Partial),
        other: count(|outcome| *outcome == Outcome::Other),
        normal_p50: percentile(&normal, 0.50),
        normal_p99,
        slowest: after.iter().map(|sample| sample.took() / 1_000.0).fold(f64::NAN, f64::max),
        back: back_after(&windows(moment, end)),
        bad_before: (before.iter().filter(|good| !**good).count(), before.len()),
    }
}

fn is_failure(outcome: &&Outcome) -> bool {
    matches!(outcome, Outcome::Failed(_))
}
