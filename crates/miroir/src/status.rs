//! `miroir status`: the nodes, and what each of them holds.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde::Deserialize;

use crate::client::{Client, OperatorTarget};
use crate::failure::Failure;
use crate::listing::{IndexReplicas, Replicas};
use crate::table;

/// What `miroir status` is told.
#[derive(Args)]
pub struct StatusArguments {
    #[command(flatten)]
    target: OperatorTarget,
    /// Also list where each shard is.
    #[arg(long)]
    shards: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Topology {
    nodes: Vec<TopologyNode>,
    replication_factor: u64,
    replica_groups: u64,
    default_shards: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TopologyNode {
    id: String,
    address: String,
    replica_group: u64,
    health: String,
    version: Option<String>,
    /// Why it is not healthy.
    last_error: Option<String>,
}

#[derive(Deserialize)]
struct Shards {
    indexes: Vec<IndexShards>,
}

#[derive(Deserialize)]
struct IndexShards {
    uid: String,
    shards: Vec<Shard>,
    nodes: Vec<NodeShare>,
}

#[derive(Deserialize)]
struct Shard {
    shard: u64,
    replicas: Vec<Replica>,
}

#[derive(Deserialize)]
struct Replica {
    node: String,
    state: String,
}

#[derive(Deserialize)]
struct NodeShare {
    node: String,
    shards: u64,
    documents: Option<u64>,
}

#[derive(Deserialize)]
struct Workers {
    workers: Vec<Worker>,
}

#[derive(Deserialize)]
struct Worker {
    name: String,
    doing: String,
}

/// The number of documents of an index, each counted once.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexStats {
    number_of_documents: u64,
}

/// Prints the state of a running Miroir.
pub async fn status(arguments: StatusArguments) -> Result<(), Failure> {
    let client = Client::for_client(&arguments.target)?;
    let operator = Client::for_operator(&arguments.target)?;
    let topology: Topology = operator.get("/_miroir/topology").await?;
    let shards: Shards = operator.get("/_miroir/shards").await?;
    let replicas: Replicas = operator.get("/_miroir/replicas").await?;
    let workers: Workers = operator.get("/_miroir/workers").await?;
    print!("{}", render_topology(&topology));
    for index in &shards.indexes {
        // Not all of an index may be within reach; that is when its state is looked at.
        let stats: Option<IndexStats> = client.get(&format!("/indexes/{}/stats", index.uid)).await.ok();
        let replicas = replicas.indexes.iter().find(|replicas| replicas.uid == index.uid);
        print!("\n{}", render_index(index, stats.as_ref(), replicas));
        if arguments.shards {
            print!("\n{}", render_shards(index));
        }
    }
    if shards.indexes.is_empty() {
        println!("\nNo index yet.");
    }
    for worker in workers.workers.iter().filter(|worker| worker.doing != "idle") {
        println!("\n{}: {}", worker.name, worker.doing);
    }
    Ok(())
}

fn render_topology(topology: &Topology) -> String {
    let rows: Vec<Vec<String>> = topology
        .nodes
        .iter()
        .map(|node| {
            vec![
                node.id.clone(),
                node.address.clone(),
                node.replica_group.to_string(),
                node.health.clone(),
                node.version.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    let trouble = topology.nodes.iter().filter_map(|node| {
        let error = node.last_error.as_ref()?;
        Some(format!("  {} is {}: {error}\n", node.id, node.health))
    });
    let versions: BTreeSet<&str> = topology.nodes.iter().filter_map(|node| node.version.as_deref()).collect();
    let mixed = match versions.len() {
        0 | 1 => "",
        _ => "  the nodes run different versions, so answers may differ a little until all are upgraded\n",
    };
    format!(
        "nodes: {}, replica groups: {}, copies of each shard in a group: {}, shards of new indexes: {}\n{}{}{mixed}",
        topology.nodes.len(),
        topology.replica_groups,
        topology.replication_factor,
        topology.default_shards,
        table::render(&["node", "address", "group", "health", "version"], &rows),
        trouble.collect::<String>()
    )
}

fn render_index(index: &IndexShards, stats: Option<&IndexStats>, replicas: Option<&IndexReplicas>) -> String {
    let rows: Vec<Vec<String>> = index
        .nodes
        .iter()
        .map(|share| {
            let documents = share.documents.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
            vec![share.node.clone(), share.shards.to_string(), documents]
        })
        .collect();
    let documents: Option<u64> = index.nodes.iter().map(|share| share.documents).sum();
    let stored = documents.map_or_else(String::new, |count| format!(", {count} stored copies"));
    let counted = stats.map_or_else(|| "?".to_owned(), |stats| stats.number_of_documents.to_string());
    let warning = replicas.map_or_else(String::new, render_trouble);
    format!(
        "index {}: {counted} documents{stored}, {} shards\n{}{warning}",
        index.uid,
        index.shards.len(),
        table::render(&["node", "shards", "documents"], &rows)
    )
}

/// What is wrong with the replicas of an index: nothing, mostly.
fn render_trouble(replicas: &IndexReplicas) -> String {
    let mut text = String::new();
    let lost = replicas.shards - replicas.shards_covered.min(replicas.shards);
    if lost > 0 {
        text.push_str(&format!("  {lost} of {} shards cannot be read now\n", replicas.shards));
    }
    // Many shards miss the same write, so they are told by what happened.
    let mut by_reason: BTreeMap<(&str, &str, &str), Vec<String>> = BTreeMap::new();
    for other in &replicas.other_replicas {
        let key = (other.node.as_str(), other.state.as_str(), other.reason.as_str());
        by_reason.entry(key).or_default().push(other.shard.to_string());
    }
    for ((node, state, reason), shards) in by_reason {
        let shards = shards.join(",");
        text.push_str(&format!("  not read: shards {shards} on {node} are {state} ({reason})\n"));
    }
    text
}

fn render_shards(index: &IndexShards) -> String {
    let rows: Vec<Vec<String>> = index
        .shards
        .iter()
        .map(|shard| {
            let replicas: Vec<String> = shard
                .replicas
                .iter()
                .map(|replica| format!("{} ({})", replica.node, replica.state))
                .collect();
            vec![shard.shard.to_string(), replicas.join(", ")]
        })
        .collect();
    table::render(&["shard", "replicas"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_where_is_told_with_what_is_wrong() {
        let index: IndexShards = serde_json::from_str(
            r#"{"uid":"movies","shards":[{"shard":0,"replicas":[{"node":"a","state":"active"},
                {"node":"b","state":"stale"}]}],"nodes":[{"node":"a","shards":1,"documents":7},
                {"node":"b","shards":1,"documents":6}]}"#,
        )
        .unwrap();
        let replicas: IndexReplicas = serde_json::from_str(
            r#"{"uid":"movies","shards":1,"shardsCovered":0,"activeReplicas":1,
                "otherReplicas":[{"shard":0,"node":"b","state":"stale","reason":"missed a write"}]}"#,
        )
        .unwrap();
        let text = render_index(&index, Some(&IndexStats { number_of_documents: 7 }), Some(&replicas));
        assert!(text.starts_with("index movies: 7 documents, 13 stored copies, 1 shards\n"), "{text}");
        assert!(text.contains("  a     1       7\n"), "{text}");
        assert!(text.contains("1 of 1 shards cannot be read now"), "{text}");
        assert!(text.contains("not read: shards 0 on b are stale (missed a write)"), "{text}");
    }

    #[test]
    fn a_node_out_of_service_is_told_with_the_reason() {
        let topology: Topology = serde_json::from_str(
            r#"{"replicationFactor":1,"replicaGroups":1,"defaultShards":4,"nodes":[
                {"id":"a","address":"http://a:1","replicaGroup":0,"health":"healthy","version":"1.21.0","lastError":null},
                {"id":"b","address":"http://b:1","replicaGroup":0,"health":"down","version":"1.22.0",
                 "lastError":"connection refused"}]}"#,
        )
        .unwrap();
        let text = render_topology(&topology);
        assert!(text.contains("\n  b is down: connection refused\n"), "{text}");
        assert!(!text.contains("a is healthy") && text.contains("different versions"), "{text}");
    }
}
