//! The copies that nodes hold of an index, read from the nodes themselves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::Client;
use crate::cluster::Cluster;

/// Longest wait for repairs.
const PATIENCE: Duration = Duration::from_secs(120);
const MOST_DOCUMENTS: usize = 1_000_000;

/// Fails unless there are so many documents, each on as many nodes as there should be copies, and the same on each,
/// hidden fields included.
pub async fn assert_copies_agree(cluster: &Cluster, index: &str, documents: usize, copies: usize) {
    let mut held: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for node in &cluster.nodes {
        let path = format!("/indexes/{index}/documents?limit={MOST_DOCUMENTS}");
        let page = node.client().get(&path).await.ok();
        for document in page["results"].as_array().into_iter().flatten() {
            held.entry(document["id"].to_string().replace('"', "")).or_default().push(document.clone());
        }
    }
    assert_eq!(held.len(), documents, "documents on the nodes");
    for (id, held) in held {
        assert_eq!(held.len(), copies, "copies of document {id}");
        assert!(held.windows(2).all(|pair| pair[0] == pair[1]), "the copies of {id} differ: {held:?}");
    }
}

/// The replicas of all indexes that are not active.
pub async fn replicas_behind(admin: &Client) -> Vec<Value> {
    let replicas = admin.get("/_miroir/replicas").await.ok();
    let indexes = replicas["indexes"].as_array().cloned().unwrap_or_default();
    indexes.iter().filter_map(|index| index["otherReplicas"].as_array()).flatten().cloned().collect()
}

/// Waits until all nodes are healthy and every replica is active.
pub async fn wait_until_whole(cluster: &Cluster) {
    let (admin, started) = (cluster.admin(), Instant::now());
    loop {
        let topology = admin.get("/_miroir/topology").await.ok();
        let nodes = topology["nodes"].as_array().cloned().unwrap_or_default();
        let behind = replicas_behind(&admin).await;
        if behind.is_empty() && nodes.iter().all(|node| node["health"] == "healthy") {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "not whole again: {topology} {behind:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
