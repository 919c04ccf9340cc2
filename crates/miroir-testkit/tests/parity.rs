//! The parity suite: hundreds of short sequences of requests, and Miroir answers each as one Meilisearch does.

use miroir_testkit::cluster::Shape;
use miroir_testkit::oracle::Oracle;
use miroir_testkit::parity;

const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };
const LEAST: usize = 300;

#[tokio::test]
async fn every_sequence_is_answered_alike() {
    let against_itself = std::env::var_os("MIROIR_TEST_AGAINST_ITSELF").is_some();
    let oracle = if against_itself { Oracle::against_itself().await } else { Oracle::start(SHAPE).await };
    let mut subjects = parity::subjects();
    // For looking at one subject alone; the count below then fails by right.
    if let Ok(only) = std::env::var("MIROIR_TEST_PARITY") {
        subjects.retain(|subject| subject.name.contains(&only));
    }
    let outcome = parity::run(&oracle, &subjects).await;
    println!("{} sequences of {} requests were run", outcome.sequences, outcome.requests);
    println!("known to differ: {}\n{}", outcome.known.len(), outcome.known.join("\n"));
    let differing = outcome.differences.len();
    assert!(differing == 0, "{differing} sequences differ:\n{}", outcome.differences.join("\n"));
    assert!(outcome.sequences >= LEAST, "{} sequences are fewer than {LEAST}", outcome.sequences);
    let codes = parity::codes::unlisted_and_missing(&outcome.codes);
    assert!(codes.is_empty(), "error codes:\n{}", codes.join("\n"));
}
