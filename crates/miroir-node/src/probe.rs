//! The probe: asks every node now and then whether it is there, so that a dead one comes back into service.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::call::Call;
use crate::error::NodeError;
use crate::fleet::Fleet;
use crate::node::Node;

const PROBE_EVERY: Duration = Duration::from_millis(500);
const PROBE_LIMIT: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    pkg_version: String,
}

impl Fleet {
    /// Probes every node once, at the same time, and waits for all.
    pub async fn probe_once(&self) {
        futures_util::future::join_all(self.iter().map(probe)).await;
    }

    /// Keeps probing until told to stop. The tasks belong to `tasks`.
    pub fn keep_probing(&self, tasks: &TaskTracker, stop: &CancellationToken) {
        for node in self.iter() {
            let (node, stop) = (Arc::clone(node), stop.clone());
            tasks.spawn(async move {
                loop {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(PROBE_EVERY) => probe(&node).await,
                    }
                }
            });
        }
    }
}

/// `/version` needs the key, so it also tells whether the key is right; `/health` would not.
async fn probe(node: &Arc<Node>) {
    match node.fetch::<Version>(&Call::get("/version", PROBE_LIMIT)).await {
        Ok(version) => {
            node.health().set_version(version.pkg_version);
            node.mark_up();
        }
        // The call itself has taken note.
        Err(NodeError::TimedOut { .. }) => {}
        Err(error) => node.mark_down(&error),
    }
}
