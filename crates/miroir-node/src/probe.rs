//! The probe: asks every node now and then whether it is there, so that a dead one comes back into service, and
//! one that died is noticed before anybody needs it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use miroir_core::health::{HealthEvent, TICK_EVERY};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::call::Call;
use crate::error::NodeError;
use crate::fleet::Fleet;
use crate::node::Node;
use crate::version::refusal;

const PROBE_EVERY: Duration = Duration::from_millis(500);
/// The same for a node that is not in service: it may have come back, and what it missed is waiting for it.
const PROBE_EVERY_WHILE_OUT: Duration = Duration::from_millis(50);
/// Longer than the silence after which a node is down: a late answer is life, if not health.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// Before a node that answers well and failed its check is probed again, in addition.
const PAUSE_AFTER_CHECK: Duration = Duration::from_millis(150);
/// How long one check of a recovering node may take.
const CHECK_LIMIT: Duration = Duration::from_secs(30);

/// Says whether a node may be read and written.
pub trait NodeCheck: Send + Sync {
    /// Asked after every probe of a node in service, so it must be cheap: whether it is still the same as when it was
    /// checked. A node can be stopped, given another disk and started again between two probes. A reason to doubt it
    /// takes it out of service, to be checked. An error is a bad probe: it answers, and cannot read its own data.
    fn recognise<'a>(&'a self, node: &'a Arc<Node>) -> BoxFuture<'a, Result<Option<String>, NodeError>>;

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
                        let pause = if node.health().is_up() { PROBE_EVERY } else { PROBE_EVERY_WHILE_OUT };
                        let doubtful = async {
                            // One that stays doubtful is not asked all the time.
                            tokio::time::sleep(PROBE_EVERY_WHILE_OUT).await;
                            node.health().until_doubtful().await;
                        };
                        tokio::select! {
                            () = tokio::time::sleep(pause) => {}
                            () = node.health().probe_wanted() => {}
                            () = doubtful => {}
                        }
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
                node.health().stop_recognising();
            });
        }
    }
}

/// `/version` needs the key, so it also tells whether the key is right; `/health` would not.
async fn probe(node: &Arc<Node>, check: &dyn NodeCheck) {
    let begun = Instant::now();
    let answer = node.probe(&Call::get("/version", PROBE_LIMIT)).await;
    let mut connection = None;
    let version = answer.and_then(|answer| {
        connection = answer.connection.filter(|_| !answer.closes);
        serde_json::from_slice::<Version>(&answer.body)
            .map_err(|_| node.unintelligible(format!("/version was answered with status {}", answer.status)))
    });
    let version = version.and_then(|Version { pkg_version }| match refusal(&pkg_version) {
        Some(reason) => Err(node.unintelligible(reason)),
        None => Ok(pkg_version),
    });
    match version {
        Ok(version) => node.health().set_version(version),
        Err(error) => return node.note_bad_probe(&error),
    }
    if node.health().is_up() {
        match tokio::time::timeout(PROBE_LIMIT, check.recognise(node)).await {
            Ok(Ok(Some(doubt))) => node.disown(&doubt),
            Ok(Err(error)) => node.note_bad_probe(&error),
            Ok(Ok(None)) => {
                node.health().recognise(begun, connection);
                node.health().note(HealthEvent::Probed);
            }
            // A node that is too slow to be recognised is late, not another one.
            Err(_elapsed) => node.health().note(HealthEvent::Probed),
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
        Ok(()) => {
            node.health().recognise(begun, connection);
            node.health().note(HealthEvent::Checked);
        }
        Err(reason) => {
            if node.health().set_error(&reason) {
                warn!(node = %node.id(), reason, "node answers and stays out of service");
            }
            // A check costs more than a probe, and may fail until somebody does something.
            tokio::time::sleep(PAUSE_AFTER_CHECK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Lets everything in.
    struct Anybody;

    impl NodeCheck for Anybody {
        fn recognise<'a>(&'a self, _: &'a Arc<Node>) -> BoxFuture<'a, Result<Option<String>, NodeError>> {
            Box::pin(async { Ok(None) })
        }

        fn check<'a>(&'a self, _: &'a Arc<Node>) -> BoxFuture<'a, Result<(), String>> {
            Box::pin(async { Ok(()) })
        }
    }

    /// A stub, since no real server says that it is of another version than it is.
    async fn node_of_version(version: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = connection.read(&mut request).await;
                let body = format!(r#"{{"pkgVersion":"{version}"}}"#);
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
                let _ = connection.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn a_node_of_a_version_that_is_too_old_stays_out_of_service() {
        let (old, good) = (node_of_version("1.12.8").await, node_of_version("1.21.0").await);
        let nodes = [("old", 0, old.as_str()), ("good", 0, good.as_str())];
        let fleet = Fleet::new(nodes.into_iter(), None).unwrap();
        let is_up = |name: &str| fleet.get(name).unwrap().health().is_up();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !is_up("good") {
            assert!(tokio::time::Instant::now() < deadline, "the good one is not in service");
            fleet.probe_once(&Anybody).await;
        }
        assert!(!is_up("old"));
        let reason = fleet.get("old").unwrap().health().last_error().unwrap();
        assert!(reason.contains("it runs Meilisearch 1.12.8; upgrade it to 1.21 or newer"), "{reason}");
        assert_eq!(fleet.oldest_version(), (1, 21), "one that is not used has no say");
    }

    #[tokio::test]
    async fn a_node_whose_connections_break_is_probed_in_its_turn() {
        // A stub, since what breaks connections is something else in the place of a node: a proxy that has none behind it.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let fleet = Fleet::new([("broken", 0, address.as_str())].into_iter(), None).unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let check: Arc<dyn NodeCheck> = Arc::new(Anybody);
        fleet.keep_probing(&tasks, &stop, &check);
        let mut probes = 0;
        let listening = async {
            while let Ok((connection, _)) = listener.accept().await {
                drop(connection);
                probes += 1;
            }
        };
        assert!(tokio::time::timeout(PROBE_EVERY_WHILE_OUT * 20, listening).await.is_err());
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        assert!((2..=60).contains(&probes), "{probes} connections in the time of 20 probes");
    }
}
