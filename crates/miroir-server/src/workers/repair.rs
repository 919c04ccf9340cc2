//! The repair worker: finds stale and joining replicas, has them repaired, and tries again later what failed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::select_all;
use miroir_core::shard::ShardId;
use tokio::sync::Notify;

use super::worker::{Report, Worker};
use crate::backoff::Backoff;
use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::replicas::repair::Repair;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same while something waits for its node to come back.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Longest pause after repairs that failed. Short enough for a node that is well again.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The repair worker.
#[derive(Default)]
pub(crate) struct RepairWorker {
    /// Repairs that failed, by index and node, and when to try again.
    put_off: HashMap<(String, String), (Backoff, Instant)>,
}

#[async_trait]
impl Worker for RepairWorker {
    fn name(&self) -> &'static str {
        "repair"
    }

    async fn step(&mut self, cluster: &Arc<Cluster>, report: &Report) -> Duration {
        self.put_off.retain(|(uid, _), _| cluster.handle(uid).view().is_some());
        let mut pause = LOOK_EVERY;
        let mut awaited = HashMap::new();
        for view in cluster.indexes() {
            for (name, shards) in waiting(&view) {
                pause = LOOK_AGAIN;
                let key = (view.record.uid.clone(), name.clone());
                if self.put_off.get(&key).is_some_and(|(_, until)| Instant::now() < *until) {
                    continue;
                }
                let Some(target) = cluster.fleet.get(&name) else { continue };
                if !target.health().is_up() {
                    awaited.entry(name).or_insert_with(|| Box::pin(target.health().until_up()));
                    continue;
                }
                let index = cluster.handle(&view.record.uid);
                let begun = Instant::now();
                let repair = Repair { cluster, index: &index, target, shards: &shards, report };
                match repair.run().await {
                    Ok(copied) => {
                        self.put_off.remove(&key);
                        report.finished();
                        tracing::info!(
                            index = %index.uid, node = %name, shards = shards.len(), documents = copied,
                            seconds = begun.elapsed().as_secs_f64(), "repaired"
                        );
                    }
                    Err(error) => {
                        report.failed(&error.to_string());
                        let new = || (Backoff::new(LOOK_EVERY, LONGEST_PAUSE), Instant::now());
                        let (backoff, until) = self.put_off.entry(key).or_insert_with(new);
                        *until = Instant::now() + backoff.fail();
                        if backoff.is_worth_telling() {
                            tracing::warn!(index = %index.uid, node = %name, %error, "not repaired yet");
                        }
                    }
                }
            }
        }
        if awaited.is_empty() {
            return pause;
        }
        report.doing("waiting for nodes".to_owned());
        // However that ends, it is time to look again.
        tokio::select! {
            _ = select_all(awaited.into_values()) => {}
            () = cluster.repair_wanted.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        Duration::ZERO
    }

    fn woken_by<'a>(&self, cluster: &'a Cluster) -> Option<&'a Notify> {
        Some(&cluster.repair_wanted)
    }
}

/// By node, the replicas that wait for repair.
fn waiting(view: &IndexView) -> BTreeMap<String, Vec<ShardId>> {
    let mut waiting: BTreeMap<String, Vec<ShardId>> = BTreeMap::new();
    for ((shard, node), state) in &view.exceptions {
        if state.needs_repair() {
            waiting.entry(node.clone()).or_default().push(*shard);
        }
    }
    waiting
}
