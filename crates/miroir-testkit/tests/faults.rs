//! Nodes that misbehave: every answer stays right or says what it lacks, and comes in time.

use std::time::{Duration, Instant};

use miroir_testkit::client::Answer;
use miroir_testkit::cluster::{Cluster, Shape};
use miroir_testkit::corpus::{Corpus, catalogue};
use miroir_testkit::oracle::Oracle;
use miroir_testkit::profile::Profile;
use miroir_testkit::proxy::Fault;
use serde_json::{Value, json};

const SEED: u64 = 7;
/// Much longer than any answer may take with the timeout below.
const PATIENCE: Duration = Duration::from_secs(15);

const FAULTS: [Fault; 5] = [
    Fault::Reset,
    Fault::Blackhole,
    Fault::HalfOpen,
    Fault::Answer(b"220 not even HTTP\r\n"),
    Fault::Answer(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\noops"),
];

fn shape(replication_factor: usize) -> Shape {
    Shape { nodes: 3, replication_factor, replica_groups: 1, shards: 7 }
}

fn timeouts(policy: &str) -> String {
    format!("scatter: {{ node_timeout_ms: 1000, unavailable_shard_policy: {policy} }}\n")
}

async fn start(replication_factor: usize, policy: &str, corpus: &Corpus) -> Oracle {
    let cluster = Cluster::start_with_proxies(shape(replication_factor), &timeouts(policy)).await;
    let oracle = Oracle::with_cluster(cluster).await;
    oracle.load("shop", corpus, Profile::Default).await;
    oracle
}

async fn timed_search(oracle: &Oracle) -> Answer {
    let started = Instant::now();
    let answer =
        oracle.subject_client().post("/indexes/shop/search", &json!({ "q": "", "limit": 1000 })).await;
    assert!(started.elapsed() < PATIENCE, "a search took {:?}", started.elapsed());
    answer
}

/// Waits until all nodes are used again.
async fn wait_whole(oracle: &Oracle) {
    let started = Instant::now();
    loop {
        let answer = timed_search(oracle).await;
        if answer.status == 200 && answer.header("x-miroir-degraded").is_none() {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "still degraded: {answer:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn with_two_copies_one_bad_node_changes_no_answer() {
    let corpus = catalogue(SEED, 600);
    let mut oracle = start(2, "partial", &corpus).await;
    for fault in FAULTS.into_iter().chain([Fault::Latency(Duration::from_millis(300))]) {
        oracle.cluster().proxies[0].set(fault);
        let tally = oracle.compare_generated("shop", &corpus, SEED, 40).await;
        tally.assert_faithful(&format!("{fault:?} on one node of three, two copies"));
        oracle.cluster().proxies[0].set(Fault::None);
        wait_whole(&oracle).await;
    }
}

#[tokio::test]
async fn with_one_copy_a_bad_node_is_told_in_a_header() {
    let corpus = catalogue(SEED, 600);
    let mut oracle = start(1, "partial", &corpus).await;
    let whole = timed_search(&oracle).await.ok()["hits"].as_array().map_or(0, Vec::len);
    for fault in FAULTS {
        oracle.cluster().proxies[1].set(fault);
        let answer = timed_search(&oracle).await;
        let shards = answer.header("x-miroir-degraded").map(str::to_owned);
        let found = answer.ok()["hits"].as_array().map_or(0, Vec::len);
        assert!(shards.is_some_and(|shards| shards.starts_with("shards=")), "{fault:?} was not told");
        assert!(0 < found && found < whole, "{fault:?}: {found} of {whole} hits");
        oracle.cluster().proxies[1].set(Fault::None);
        wait_whole(&oracle).await;
    }
}

#[tokio::test]
async fn with_one_copy_and_the_strict_policy_a_bad_node_is_an_error() {
    let corpus = catalogue(SEED, 300);
    let mut oracle = start(1, "error", &corpus).await;
    for fault in FAULTS {
        oracle.cluster().proxies[2].set(fault);
        let answer = timed_search(&oracle).await;
        assert_eq!(answer.status, 503, "{fault:?}: {}", answer.body);
        assert_eq!(answer.body["code"], "miroir_shard_unavailable", "{fault:?}");
        oracle.cluster().proxies[2].set(Fault::None);
        wait_whole(&oracle).await;
    }
}

/// A write during a fault is either refused or becomes visible everywhere; never half.
#[tokio::test]
async fn writes_during_a_fault_are_refused_or_done() {
    let corpus = catalogue(SEED, 600);
    let mut oracle = start(2, "partial", &corpus).await;
    for (round, fault) in FAULTS.into_iter().enumerate() {
        oracle.cluster().proxies[0].set(fault);
        let batch: Vec<Value> = (0..100)
            .map(|number| {
                json!({ "id": 5_000_000 + round * 1_000 + number, "title": format!("round {round}"),
                                  "_vectors": { "manual": null } })
            })
            .collect();
        let started = Instant::now();
        let answer = oracle.subject_client().post("/indexes/shop/documents", &json!(batch)).await;
        assert!(started.elapsed() < PATIENCE, "{fault:?}: a write took {:?}", started.elapsed());
        assert_eq!(answer.status, 202, "{fault:?}, with a copy on another node: {}", answer.body);
        oracle.subject_client().wait_success(answer).await;
        let reference = oracle.reference_client().post("/indexes/shop/documents", &json!(batch)).await;
        oracle.reference_client().wait_success(reference).await;
        let documents = oracle.compare_documents("shop").await;
        assert!(documents.is_empty(), "{fault:?}, still there: the documents differ:\n{documents}");
        oracle.cluster().proxies[0].set(Fault::None);
        wait_whole(&oracle).await;
        let tally = oracle.compare_generated("shop", &corpus, SEED, 40).await;
        tally.assert_faithful(&format!("after {fault:?}"));
    }
}
