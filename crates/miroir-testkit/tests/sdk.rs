//! An official SDK, pointed at Miroir instead of Meilisearch and otherwise unchanged, sees the same.

// Without node there is nothing to test.
#![allow(clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use miroir_testkit::client::Client;
use miroir_testkit::cluster::{MASTER_KEY, Shape};
use miroir_testkit::oracle::Oracle;
use miroir_testkit::process::repository_root;

const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };

/// Runs a script and returns its lines.
fn lines(script: &str, interpreter: &mut Command) -> Vec<String> {
    let output = interpreter.output().expect("the interpreter runs: use ./scripts/test, which installs it");
    let (shown, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} breaks after:\n{shown}\n{errors}");
    shown.lines().map(str::to_owned).collect()
}

/// The same script against both servers.
fn compare(oracle: &Oracle, script: &str, interpreter: &Command) {
    let root = repository_root();
    let run = |client: &Client| {
        let mut command = Command::new(interpreter.get_program());
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(script));
        command.args([client.base_url(), MASTER_KEY]);
        command.arg(root.join("node_modules/vega-datasets/data/movies.json")).current_dir(&root);
        lines(script, &mut command)
    };
    let (expected, found) = (run(oracle.reference_client()), run(oracle.subject_client()));
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected, found, "{script}");
    }
    assert_eq!(expected.len(), found.len(), "{script}");
}

#[tokio::test]
async fn the_official_sdk_sees_no_difference() {
    let against_itself = std::env::var_os("MIROIR_TEST_AGAINST_ITSELF").is_some();
    let oracle = if against_itself { Oracle::against_itself().await } else { Oracle::start(SHAPE).await };
    compare(&oracle, "quick_start.mjs", &Command::new("node"));
}
