//! Reads while nodes are frozen or slow, and while many ask the same: complete, right, and no more work than needed.

use std::time::{Duration, Instant};

use miroir_testkit::cluster::{Cluster, Shape};
use miroir_testkit::corpus::{Corpus, catalogue};
use miroir_testkit::oracle::Oracle;
use miroir_testkit::profile::Profile;
use miroir_testkit::proxy::Fault;
use reqwest::Method;
use serde_json::{Value, json};

const SEED: u64 = 11;
/// Longest wait for a node to be seen as it is.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than the test's client waits: whatever ends a call to a node, it is not this.
const NO_LIMIT: &str = "scatter: { node_timeout_ms: 600000 }\n";
/// The node that misbehaves.
const BAD: usize = 1;

const TWO_COPIES: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };
const TWO_GROUPS: Shape = Shape { nodes: 4, replication_factor: 1, replica_groups: 2, shards: 7 };

async fn start(shape: Shape, corpus: &Corpus) -> Oracle {
    let oracle = Oracle::with_cluster(Cluster::start_with_proxies(shape, NO_LIMIT).await).await;
    oracle.load("shop", corpus, Profile::Default).await;
    oracle
}

async fn topology(oracle: &mut Oracle) -> Value {
    oracle.cluster().admin().get("/_miroir/topology").await.ok()
}

/// Waits until Miroir says this of the bad node.
async fn wait_for_health(oracle: &mut Oracle, health: &str) {
    let started = Instant::now();
    loop {
        let topology = topology(oracle).await;
        if topology["nodes"][BAD]["health"] == health {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "the node is not {health}: {topology}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn assert_faithful(oracle: &Oracle, corpus: &Corpus, seed: u64, when: &str) {
    oracle.compare_generated("shop", corpus, seed, 40).await.assert_faithful(when);
    let answer = oracle.subject_client().post("/indexes/shop/search", &json!({})).await;
    assert_eq!(answer.header("x-miroir-degraded"), None, "{when}");
}

/// Searches go on from the moment a node freezes; the client notices nothing, then or when it comes back.
async fn survives_a_freeze(shape: Shape) {
    let corpus = catalogue(SEED, 600);
    let mut oracle = start(shape, &corpus).await;
    oracle.cluster().nodes[BAD].freeze();
    assert_faithful(&oracle, &corpus, SEED, "with a node that just froze").await;
    wait_for_health(&mut oracle, "down").await;
    assert_faithful(&oracle, &corpus, SEED, "with a frozen node that is known to be").await;
    oracle.cluster().nodes[BAD].thaw();
    wait_for_health(&mut oracle, "healthy").await;
    assert_faithful(&oracle, &corpus, SEED, "with the node back").await;
}

#[tokio::test]
async fn a_frozen_node_is_replaced_by_its_group() {
    survives_a_freeze(TWO_COPIES).await;
}

#[tokio::test]
async fn a_frozen_node_is_replaced_by_another_group() {
    survives_a_freeze(TWO_GROUPS).await;
}

/// A write that is on its way when a node freezes does not wait for it longer than it takes to notice.
#[tokio::test]
async fn a_write_is_not_held_up_by_a_frozen_node() {
    let corpus = catalogue(SEED, 100);
    let mut oracle = start(TWO_COPIES, &corpus).await;
    oracle.cluster().nodes[BAD].freeze();
    let batch: Vec<Value> = (0..50)
        .map(|number| json!({ "id": 7_000_000 + number, "title": "late", "_vectors": { "manual": null } }))
        .collect();
    oracle.apply_ok(Method::POST, "/indexes/shop/documents", &json!(batch)).await;
    assert_faithful(&oracle, &corpus, SEED, "with the node still frozen").await;
    oracle.cluster().nodes[BAD].thaw();
    wait_for_health(&mut oracle, "healthy").await;
    assert_faithful(&oracle, &corpus, SEED, "with the node back").await;
}

#[tokio::test]
async fn a_slow_node_is_asked_less_and_others_in_its_place() {
    let corpus = catalogue(SEED, 600);
    let mut oracle = start(TWO_COPIES, &corpus).await;
    // So that it is known how long searches take.
    assert_faithful(&oracle, &corpus, SEED, "with all nodes well").await;
    let before = topology(&mut oracle).await["nodes"][BAD]["hedges"].as_u64();
    oracle.cluster().proxies[BAD].set(Fault::Latency(Duration::from_millis(500)));
    // What may be asked twice is limited, and may be used up by then on a busy machine; it is earned with more searches,
    // and the node is tried again every few seconds.
    let started = Instant::now();
    loop {
        assert_faithful(&oracle, &corpus, SEED, "with a node that became slow").await;
        let after = topology(&mut oracle).await["nodes"][BAD]["hedges"].as_u64();
        if after > before {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "nobody was asked in the place of the slow node: {before:?}");
    }

    let count = |oracle: &mut Oracle| -> Vec<u64> {
        oracle.cluster().proxies.iter().map(|proxy| proxy.requests("")).collect()
    };
    let before = count(&mut oracle);
    assert_faithful(&oracle, &corpus, SEED + 1, "with a node known to be slow").await;
    let asked: Vec<u64> =
        count(&mut oracle).iter().zip(&before).map(|(after, before)| after - before).collect();
    let others = asked.iter().enumerate().filter(|(node, _)| *node != BAD).map(|(_, count)| *count).min();
    assert!(others > Some(asked[BAD] * 2), "the slow node is asked as much as others: {asked:?}");
}

#[tokio::test]
async fn identical_searches_share_and_still_see_every_task_that_succeeded() {
    let mut oracle = start(TWO_COPIES, &catalogue(SEED, 10)).await;
    let creation = json!({ "uid": "log", "primaryKey": "id" });
    oracle.apply_ok(Method::POST, "/indexes", &creation).await;
    for proxy in &oracle.cluster().proxies {
        proxy.set(Fault::Latency(Duration::from_millis(20)));
    }
    let client = oracle.subject_client().clone();
    let search = async |client: &miroir_testkit::client::Client| {
        let answer = client.post("/indexes/log/search", &json!({ "q": "", "limit": 1 })).await;
        assert_eq!(answer.header("x-miroir-degraded"), None);
        answer.ok()["estimatedTotalHits"].as_u64()
    };
    let crowd: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                loop {
                    search(&client).await;
                }
            })
        })
        .collect();
    for id in 1..=20 {
        let answer = client.post("/indexes/log/documents", &json!([{ "id": id }])).await;
        client.wait_success(answer).await;
        assert_eq!(search(&client).await, Some(id), "after task number {id}");
    }
    for searching in crowd {
        searching.abort();
    }
    let shared = topology(&mut oracle).await["searchesShared"].as_u64();
    assert!(shared > Some(0), "{shared:?}");
}
