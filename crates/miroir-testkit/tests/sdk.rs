//! An official SDK, pointed at Miroir instead of Meilisearch and otherwise unchanged, sees the same.

// Without node there is nothing to test.
#![allow(clippy::expect_used)]

use std::path::Path;

use miroir_testkit::client::Client;
use miroir_testkit::cluster::{MASTER_KEY, Shape};
use miroir_testkit::oracle::Oracle;
use miroir_testkit::process::repository_root;

/// Runs the script and returns its lines.
fn quick_start(client: &Client) -> Vec<String> {
    let root = repository_root();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/quick_start.mjs");
    let output = std::process::Command::new("node")
        .arg(script)
        .args([client.base_url(), MASTER_KEY])
        .arg(root.join("node_modules/vega-datasets/data/movies.json"))
        .current_dir(root)
        .output()
        .expect("node runs the SDK: run ./scripts/test, which installs it");
    let (shown, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{} broke the SDK after:\n{shown}\n{errors}", client.base_url());
    shown.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_official_sdk_sees_no_difference() {
    let shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };
    let against_itself = std::env::var_os("MIROIR_TEST_AGAINST_ITSELF").is_some();
    let oracle = if against_itself { Oracle::against_itself().await } else { Oracle::start(shape).await };
    let expected = quick_start(oracle.reference_client());
    let found = quick_start(oracle.subject_client());
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected, found);
    }
    assert_eq!(expected.len(), found.len());
}
