//! Clusters with an index in them, and waiting until nothing is wrong with one.

use std::time::{Duration, Instant};

use miroir_testkit::client::Client;
use miroir_testkit::cluster::Cluster;
use miroir_testkit::figures::workload::{INDEX, Workload};
use reqwest::Method;
use serde_json::{Value, json};

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Makes the index of a workload and waits until everything can be found.
pub async fn load(client: &Client, workload: &Workload) {
    let index = json!({ "uid": INDEX, "primaryKey": "id" });
    client.wait_success(client.post("/indexes", &index).await).await;
    let settings = client.patch(&format!("/indexes/{INDEX}/settings"), &workload.settings).await;
    client.wait_success(settings).await;
    let path = format!("/indexes/{INDEX}/documents");
    for batch in &workload.batches {
        let headers = [("content-type", "application/json")];
        let answer = client.send(Method::POST, &path, &headers, Some(batch.clone())).await;
        client.wait_success(answer).await;
    }
}

/// Waits until every node is in service, every replica is active, and the nodes hold so many documents in all; the
/// error is what was still missing when the limit was over.
pub async fn wait_whole(cluster: &Cluster, copies: usize, limit: Duration) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let Some(missing) = missing(cluster, copies).await else { return Ok(()) };
        if begun.elapsed() > limit {
            return Err(format!("{missing} after {} s", limit.as_secs()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn missing(cluster: &Cluster, copies: usize) -> Option<String> {
    let admin = cluster.admin();
    let ready = admin.get("/_miroir/ready").await.body;
    if ready["nodesDown"] != json!([]) {
        return Some(format!("nodes are down: {}", ready["nodesDown"]));
    }
    let shards = admin.get("/_miroir/shards").await.body;
    let elements = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let Some(index) = elements(&shards["indexes"]).into_iter().find(|index| index["uid"] == INDEX) else {
        return Some("the index is not there".to_owned());
    };
    let replicas = elements(&index["shards"]).into_iter().flat_map(|shard| elements(&shard["replicas"]));
    let waiting = replicas.filter(|replica| replica["state"] != "active").count();
    if waiting > 0 {
        return Some(format!("{waiting} replicas are not active"));
    }
    let documents: u64 = elements(&index["nodes"]).iter().filter_map(|node| node["documents"].as_u64()).sum();
    (documents != copies as u64).then(|| format!("the nodes hold {documents} documents instead of {copies}"))
}
