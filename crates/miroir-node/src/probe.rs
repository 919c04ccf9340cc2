//! The probe: asks every node now and then whether it is there, so that a dead one comes back into service, and
//! one that died is noticed before anybody needs it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use miroir_core::health::{HealthEvent, TICK_EVERY};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::call::Call;
use crate::fleet::Fleet;
use crate::node::Node;

const PROBE_EVERY: Duration = Duration::from_millis(500);
/// Longer than the silence after which a node is down: a late answer is life, if not health.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// How long one check of a recovering node may take.
const CHECK_LIMIT: Duration = Duration::from_secs(30);

/// Says whether a node may be read and written.
pub trait NodeCheck: Send + Sync {
    /// Asked after every probe of a node in service, so it must be cheap: whether it is still the same as when it was
    /// checked. A node can be stopped, given another disk and started again between two probes. A reason to doubt it
    /// takes it out of service, to be checked.
    fn recognise<'a>(&'a self, node: &'a Arc<Node>) -> BoxFuture<'a, Option<String>>;

    /// `Err` with the reason keeps the node out of service; it is asked again after the next probe. Calls to the
    /// node are possible meanwhile.
    fn check<'a>(&'a self, node: &'a Arc<Node>) -> BoxFuture<'a, Result<(), String>>;
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    pkg_version: String,
}

impl Fleet {
    /// Probes every node once, at the same time, and waits for all.
    pub async fn probe_once(&self, check: &dyn NodeCheck) {
        futures_util::future::join_all(self.iter().map(|node| probe(node, check))).await;
    }

    /// Keeps probing until told to stop. The tasks belong to `tasks`.
    pub fn keep_probing(&self, tasks: &TaskTracker, stop: &CancellationToken, check: &Arc<dyn NodeCheck>) {
        for node in self.iter() {
            let (node, stop, check) = (Arc::clone(node), stop.clone(), Arc::clone(check));
            tasks.spawn(async move {
                let probing = async {
                    loop {
                        // Either way it is time for a probe.
                        let _ = tokio::time::timeout(PROBE_EVERY, node.health().probe_wanted()).await;
                        probe(&node, check.as_ref()).await;
                    }
                };
                // Not in turn with the probes: silence is to be noticed while one is waiting.
                let ticking = async {
                    loop {
                        tokio::time::sleep(TICK_EVERY).await;
                        node.health().note(HealthEvent::Tick);
                    }
                };
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = probing => {}
                    () = ticking => {}
                }
            });
        }
    }
}

/// `/version` needs the key, so it also tells whether the key is right; `/health` would not.
async fn probe(node: &Arc<Node>, check: &dyn NodeCheck) {
    let answer = node.probe(&Call::get("/version", PROBE_LIMIT)).await;
    let version = answer.and_then(|answer| {
        serde_json::from_slice::<Version>(&answer.body)
            .map_err(|_| node.unintelligible(format!("/version was answered with status {}", answer.status)))
    });
    match version {
        Ok(version) => node.health().set_version(version.pkg_version),
        Err(error) => return node.note_bad_probe(&error),
    }
    if node.health().is_up() {
        match tokio::time::timeout(PROBE_LIMIT, check.recognise(node)).await {
            Ok(Some(doubt)) => node.disown(&doubt),
            // A node that is too slow to be recognised is late, not another one.
            Ok(None) | Err(_) => node.health().note(HealthEvent::Probed),
        }
        return;
    }
    node.health().note(HealthEvent::Probed);
    if !node.health().wants_check() {
        return;
    }
    let checked = match tokio::time::timeout(CHECK_LIMIT, check.check(node)).await {
        Ok(checked) => checked,
        Err(_elapsed) => Err(format!("its check took longer than {} s", CHECK_LIMIT.as_secs())),
    };
    match checked {
        Ok(()) => node.health().note(HealthEvent::Checked),
        Err(reason) => {
            if node.health().set_error(&reason) {
                warn!(node = %node.id(), reason, "node answers and stays out of service");
            }
        }
    }
}
