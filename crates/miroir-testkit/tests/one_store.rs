//! Two Miroir processes on one SQLite file would both believe that they are the only sequencer: the second refuses to
//! start, and the death of the first is enough for it to be let in.

use std::process::Stdio;
use std::time::Duration;

use miroir_testkit::cluster::{Cluster, Shape};
use miroir_testkit::process::{free_port, miroir_binary};

/// Longest wait for a process that must end by itself.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_second_miroir_on_the_same_store_refuses_to_start() {
    let shape = Shape { nodes: 1, replication_factor: 1, replica_groups: 1, shards: 1 };
    let mut cluster = Cluster::start(shape).await;
    let second = tokio::process::Command::new(miroir_binary())
        .arg("serve")
        .arg("--config")
        .arg(cluster.directory().join("miroir.yaml"))
        .env("MIROIR_BIND", format!("127.0.0.1:{}", free_port()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let second = tokio::time::timeout(PATIENCE, second).await.expect("the second Miroir serves").unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    let store = cluster.store_path();
    let expected = format!("{} is in use by another process: stop the other Miroir", store.display());
    assert!(said.contains(&expected), "{said}");

    assert_eq!(cluster.client().get("/indexes").await.status, 200, "the first one is not disturbed");
    // SIGKILL leaves no time to tidy up.
    cluster.miroir.kill();
    cluster.miroir.restart().await;
    assert_eq!(cluster.client().get("/indexes").await.status, 200);
}
