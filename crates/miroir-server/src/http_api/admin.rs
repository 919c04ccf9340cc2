//! `/_miroir/`: what an operator wants to know.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use miroir_core::health::HealthState;
use serde_json::json;

use super::answer;
use crate::cluster::Cluster;

/// Written by hand; a test holds it against the table of routes and against real answers.
const OPENAPI: &[u8] = include_bytes!("openapi.json");

/// What Miroir has besides the API of Meilisearch, for programs. Open, as it is in everybody's copy of Miroir.
pub async fn openapi() -> Response {
    answer::bytes(StatusCode::OK, Bytes::from_static(OPENAPI))
}

/// The nodes and how they are.
pub async fn topology(State(cluster): State<Arc<Cluster>>) -> Response {
    let nodes: Vec<_> = (cluster.fleet.iter())
        .map(|node| {
            let speed = node.speed();
            json!({
                "id": node.id().as_str(),
                "address": node.address(),
                "replicaGroup": node.group(),
                "health": node.health().state(),
                "lastError": node.health().last_error().filter(|_| node.health().state() != HealthState::Healthy),
                "version": node.health().version(),
                "callsInFlight": node.in_flight(),
                "searchMs": {
                    "average": millis(speed.average),
                    "p95": speed.percentile.map(millis),
                },
                "hedges": node.hedges(),
            })
        })
        .collect();
    let groups: BTreeSet<u32> = cluster.fleet.iter().map(|node| node.group()).collect();
    let topology = json!({
        "nodes": nodes,
        "replicationFactor": cluster.config.replication_factor,
        "replicaGroups": groups.len(),
        "defaultShards": cluster.config.default_shards,
        "searchesShared": cluster.reads.shared.answered(),
    });
    answer::json(StatusCode::OK, &topology)
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}

/// Where every shard of every index is, and in which state.
pub async fn shards(State(cluster): State<Arc<Cluster>>) -> Response {
    let mut indexes = Vec::new();
    for view in cluster.readable_indexes() {
        let documents = cluster.documents_by_node(&view).await;
        let shards: Vec<_> = (view.shards())
            .map(|(shard, nodes)| {
                let replicas: Vec<_> = (nodes.iter())
                    .map(|node| json!({ "node": node, "state": view.replica_state(shard, node) }))
                    .collect();
                json!({ "shard": shard, "replicas": replicas })
            })
            .collect();
        let nodes: Vec<_> = (view.nodes().into_iter())
            .map(|node| {
                let shards = view.shards_on(&node).len();
                let documents = documents.get(&node);
                json!({ "node": node, "shards": shards, "documents": documents })
            })
            .collect();
        indexes.push(json!({
            "uid": view.record.uid,
            "placementEpoch": view.record.placement_epoch,
            "settingsVersion": view.record.settings_version,
            "shards": shards,
            "nodes": nodes,
        }));
    }
    answer::json(StatusCode::OK, &json!({ "indexes": indexes }))
}

/// 200 when every shard of every index can be read and every node is up, else 503 with the reason. Open, because
/// whoever balances load has no key.
pub async fn ready(State(cluster): State<Arc<Cluster>>) -> Response {
    let down: Vec<&str> =
        cluster.fleet.iter().filter(|node| !node.health().is_up()).map(|node| node.id().as_str()).collect();
    let up: Vec<bool> = cluster.fleet.iter().map(|node| node.health().is_up()).collect();
    let uncovered: Vec<String> = (cluster.indexes().iter())
        .filter(|view| !view.cover(&cluster.fleet, None, up.clone(), None).missing.is_empty())
        .map(|view| view.record.uid.clone())
        .collect();
    // One node less is no reason to send clients away as long as everything can be answered.
    let is_ready = uncovered.is_empty() && down.len() < cluster.fleet.len();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer::json(status, &json!({ "ready": is_ready, "nodesDown": down, "indexesNotCovered": uncovered }))
}
