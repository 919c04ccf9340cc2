//! The official SDKs for JavaScript, Python and Rust, pointed at Miroir instead of Meilisearch and otherwise unchanged, see
//! the same. Each does what its own first page shows, and then more; what it shows of the answers is compared.

// Without node there is nothing to test.
#![allow(clippy::expect_used)]

mod quick_start;

use std::path::{Path, PathBuf};
use std::time::Duration;

use miroir_testkit::client::Client;
use miroir_testkit::cluster::{MASTER_KEY, Shape};
use miroir_testkit::oracle::Oracle;
use miroir_testkit::process::repository_root;
use tokio::process::Command;

/// Of one script against one server.
const LIMIT: Duration = Duration::from_secs(180);
const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };

fn movies() -> PathBuf {
    repository_root().join("node_modules/vega-datasets/data/movies.json")
}

async fn both() -> Oracle {
    let against_itself = std::env::var_os("MIROIR_TEST_AGAINST_ITSELF").is_some();
    if against_itself { Oracle::against_itself().await } else { Oracle::start(SHAPE).await }
}

/// Runs a script against a server and returns its lines.
async fn lines(interpreter: &Path, script: &str, client: &Client) -> Vec<String> {
    let mut command = Command::new(interpreter);
    command.kill_on_drop(true);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(script));
    command.args([client.base_url(), MASTER_KEY]).arg(movies()).current_dir(repository_root());
    let output = tokio::time::timeout(LIMIT, command.output()).await.expect("the script ends in time");
    let output = output.expect("the interpreter runs: use ./scripts/test, which installs it");
    let (shown, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} breaks after:\n{shown}\n{errors}");
    shown.lines().map(str::to_owned).collect()
}

fn compare(expected: &[String], found: &[String]) {
    for (expected, found) in expected.iter().zip(found) {
        assert_eq!(expected, found);
    }
    assert_eq!(expected.len(), found.len());
    assert!(expected.len() > 40, "{expected:?}");
}

#[tokio::test]
async fn the_javascript_sdk_sees_no_difference() {
    let oracle = both().await;
    let run = async |client: &Client| lines(Path::new("node"), "quick_start.mjs", client).await;
    compare(&run(oracle.reference_client()).await, &run(oracle.subject_client()).await);
}

#[tokio::test]
async fn the_python_sdk_sees_no_difference() {
    let oracle = both().await;
    let python = repository_root().join(".venv/bin/python");
    let run = async |client: &Client| lines(&python, "quick_start.py", client).await;
    compare(&run(oracle.reference_client()).await, &run(oracle.subject_client()).await);
}

#[tokio::test]
async fn the_rust_sdk_sees_no_difference() {
    let oracle = both().await;
    let run = async |client: &Client| {
        let movies = movies();
        let steps = quick_start::steps(client.base_url(), MASTER_KEY, &movies);
        let steps = tokio::time::timeout(LIMIT, steps).await.expect("the steps end in time");
        steps.expect("the SDK takes the answers")
    };
    compare(&run(oracle.reference_client()).await, &run(oracle.subject_client()).await);
}
