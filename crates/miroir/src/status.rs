//! `miroir status`: the nodes, and what each of them holds.

use clap::Args;
use serde::Deserialize;

use crate::client::{Client, Target};
use crate::failure::Failure;
use crate::table;

/// What `miroir status` is told.
#[derive(Args)]
pub struct StatusArguments {
    #[command(flatten)]
    target: Target,
    /// The key to Miroir's own routes [default: the API key].
    #[arg(long, env = "MIROIR_ADMIN_API_KEY", hide_env_values = true, value_name = "KEY")]
    admin_key: Option<String>,
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

/// The number of documents of an index, each counted once.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexStats {
    number_of_documents: u64,
}

/// Prints the state of a running Miroir.
pub async fn status(arguments: StatusArguments) -> Result<(), Failure> {
    let client = Client::new(&arguments.target)?;
    let operator = Client::with_key(&arguments.target, arguments.admin_key.as_deref())?;
    let topology: Topology = operator.get("/_miroir/topology").await?;
    let shards: Shards = operator.get("/_miroir/shards").await?;
    print!("{}", render_topology(&topology));
    for index in &shards.indexes {
        let stats: IndexStats = client.get(&format!("/indexes/{}/stats", index.uid)).await?;
        print!("\n{}", render_index(index, &stats));
        if arguments.shards {
            print!("\n{}", render_shards(index));
        }
    }
    if shards.indexes.is_empty() {
        println!("\nNo index yet.");
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
    format!(
        "nodes: {}, replica groups: {}, copies of each shard in a group: {}, shards of new indexes: {}\n{}",
        topology.nodes.len(),
        topology.replica_groups,
        topology.replication_factor,
        topology.default_shards,
        table::render(&["node", "address", "group", "health", "version"], &rows)
    )
}

fn render_index(index: &IndexShards, stats: &IndexStats) -> String {
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
    let unreadable: Vec<String> = index
        .shards
        .iter()
        .flat_map(|shard| shard.replicas.iter().map(move |replica| (shard.shard, replica)))
        .filter(|(_, replica)| !matches!(replica.state.as_str(), "active" | "leaving"))
        .map(|(shard, replica)| format!("{shard} on {} is {}", replica.node, replica.state))
        .collect();
    let warning = if unreadable.is_empty() {
        String::new()
    } else {
        format!("  not read: {} replicas ({})\n", unreadable.len(), unreadable.join(", "))
    };
    format!(
        "index {}: {} documents{stored}, {} shards\n{}{warning}",
        index.uid,
        stats.number_of_documents,
        index.shards.len(),
        table::render(&["node", "shards", "documents"], &rows)
    )
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
        let text = render_index(&index, &IndexStats { number_of_documents: 7 });
        assert!(text.starts_with("index movies: 7 documents, 13 stored copies, 1 shards\n"), "{text}");
        assert!(text.contains("  a     1       7\n"), "{text}");
        assert!(text.contains("not read: 1 replicas (0 on b is stale)"), "{text}");
    }
}
