//! Half a minute of requests that nobody would send, with a fixed seed. `./scripts/fuzz` sends more of the same.

use std::time::Duration;

use miroir_testkit::cluster::Shape;
use miroir_testkit::fuzz::{Options, run};

const SEED: u64 = 1;

#[tokio::test(flavor = "multi_thread")]
async fn no_request_causes_an_internal_error() {
    let shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 5 };
    let outcome = run(Options { seed: SEED, duration: Duration::from_secs(30), shape }).await;
    println!("seed {SEED}, answers: {}", outcome.summary);
    assert!(
        outcome.wrong.is_empty(),
        "seed {SEED} (for longer: ./scripts/fuzz --seed {SEED}):\n{}",
        outcome.wrong.join("\n\n")
    );
}
