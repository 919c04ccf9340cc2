//! Anti-entropy: a slow pass over all replicas that looks for what no write can explain, and mends it.
//!
//! Somebody may write to a node directly, a disk may lie, a node may come up with other settings. None of that is
//! noticed by anything that Miroir does for its clients. So all replicas are compared by content now and then, so
//! slowly that nobody feels it; `miroir verify` does the same at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use miroir_core::shard::ShardId;

use super::worker::{Report, Worker};
use crate::cluster::Cluster;

/// Shards compared in one step: what nodes hold of them is in memory.
const SHARDS_PER_STEP: usize = 4;
/// The share of the time in which nodes are asked is one in so many.
const ONE_IN: u32 = 50;
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The worker that looks for silent drift.
pub(crate) struct AntiEntropyWorker {
    /// What is left of this pass: index uids, and shards, none for the index's settings.
    left: VecDeque<(String, Vec<ShardId>)>,
    next_pass: Instant,
    /// From the end of one pass to the beginning of the next.
    interval: Duration,
}

impl AntiEntropyWorker {
    /// The first pass does not begin with the process, which has better things to do then.
    pub fn new(interval: Duration) -> Self {
        Self { left: VecDeque::new(), next_pass: Instant::now() + interval, interval }
    }
}

#[async_trait]
impl Worker for AntiEntropyWorker {
    fn name(&self) -> &'static str {
        "anti-entropy"
    }

    async fn step(&mut self, cluster: &Arc<Cluster>, report: &Report) -> Duration {
        let Some((uid, shards)) = self.left.pop_front() else {
            if Instant::now() >= self.next_pass {
                self.left = everything(cluster);
                self.next_pass = Instant::now() + self.interval;
            }
            return SHORTEST_PAUSE
                .max(self.next_pass.saturating_duration_since(Instant::now()).min(LONGEST_PAUSE));
        };
        let begun = Instant::now();
        let index = cluster.handle(&uid);
        let outcome = if shards.is_empty() {
            report.doing(format!("index `{uid}`: comparing settings"));
            cluster.verify_settings(&index, true).await.map(|differing| !differing.is_empty())
        } else {
            report.doing(format!("index `{uid}`: comparing {} shards", shards.len()));
            cluster.verify(&index, &shards, true).await.map(|found| found.differing > 0)
        };
        match outcome {
            Ok(false) => {}
            Ok(true) => report.failed(&format!("index `{uid}`: replicas differed and were mended")),
            Err(error) => report.failed(&format!("index `{uid}`: {error}")),
        }
        if self.left.is_empty() {
            report.finished();
            self.next_pass = Instant::now() + self.interval;
        }
        (begun.elapsed() * ONE_IN).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
    }
}

/// A pass over everything there is.
fn everything(cluster: &Cluster) -> VecDeque<(String, Vec<ShardId>)> {
    let mut pass = VecDeque::new();
    for view in cluster.readable_indexes() {
        let uid = &view.record.uid;
        pass.push_back((uid.clone(), Vec::new()));
        let shards: Vec<ShardId> = view.shards().map(|(shard, _)| shard).collect();
        pass.extend(shards.chunks(SHARDS_PER_STEP).map(|some| (uid.clone(), some.to_vec())));
    }
    pass
}
