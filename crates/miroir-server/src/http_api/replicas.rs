//! `/_miroir/`: the state of replicas, comparing them, promoting one, and the workers that look after them.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use miroir_core::error::{ApiError, ErrorType};
use miroir_core::shard::ShardId;
use miroir_node::Node;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::answer::{self, Failure};
use crate::cluster::{Cluster, index_not_found};
use crate::replicas::ensure::RepairError;
use crate::store_error;

/// A comparison to make.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifyRequest {
    index: String,
    /// All shards when not given.
    shards: Option<Vec<u16>>,
    /// Make equal what differs.
    #[serde(default)]
    repair: bool,
}

/// A promotion to make, or to look at first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PromoteRequest {
    node: String,
    /// All indexes when not given.
    index: Option<String>,
    /// Without it nothing is done, and the answer tells what would be.
    #[serde(default)]
    confirm: bool,
}

/// The replicas that are not active, with the reason, and how many are.
pub async fn list(State(cluster): State<Arc<Cluster>>) -> Result<Response, Failure> {
    let reasons = cluster.store.replica_states().await.map_err(store_error)?;
    let is_up = |name: &String| cluster.fleet.get(name).is_some_and(|node| node.health().is_up());
    let mut indexes = Vec::new();
    for view in cluster.indexes() {
        let (mut active, mut covered) = (0, 0);
        for (shard, nodes) in view.shards() {
            let readable = nodes.iter().filter(|node| view.replica_state(shard, node).is_readable());
            covered += usize::from(readable.clone().any(is_up));
            active += readable.count();
        }
        let behind: Vec<_> = (reasons.iter())
            .filter(|status| status.key.index_uid == view.record.uid)
            .map(|status| {
                let key = &status.key;
                json!({ "shard": key.shard, "node": key.node, "state": status.state, "reason": status.reason })
            })
            .collect();
        indexes.push(json!({
            "uid": view.record.uid,
            "shards": view.record.shards,
            "shardsCovered": covered,
            "activeReplicas": active,
            "otherReplicas": behind,
        }));
    }
    Ok(answer::json(StatusCode::OK, &json!({ "indexes": indexes })))
}

/// What the workers are doing.
pub async fn workers(State(cluster): State<Arc<Cluster>>) -> Json<serde_json::Value> {
    Json(json!({ "workers": cluster.workers() }))
}

/// Compares the active replicas of an index, and its settings.
pub async fn verify(
    State(cluster): State<Arc<Cluster>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let request: VerifyRequest = parse(&cluster.read_body(&headers, body).await?)?;
    let view = cluster.readable_index(&request.index)?;
    let shards: Vec<ShardId> = match request.shards {
        Some(shards) => shards.into_iter().map(ShardId).collect(),
        None => view.shards().map(|(shard, _)| shard).collect(),
    };
    if let Some(shard) = shards.iter().find(|shard| shard.0 >= view.record.shards) {
        let message = format!(
            "Index `{}` has {} shards; there is no shard {}.",
            request.index, view.record.shards, shard.0
        );
        return Err(ApiError::bad_request("bad_request", message).into());
    }
    let index = cluster.handle(&request.index);
    let verifying = Arc::clone(&cluster);
    let (settings, found) = cluster
        .undisturbed(async move {
            let settings = verifying.verify_settings(&index, request.repair).await.map_err(cannot_verify)?;
            let found = verifying.verify(&index, &shards, request.repair).await.map_err(cannot_verify)?;
            Ok((settings, found))
        })
        .await?;
    Ok(answer::json(StatusCode::OK, &json!({ "documents": found, "settings": settings })))
}

/// Promotes the replicas of a node, or tells what that would mean.
pub async fn promote(
    State(cluster): State<Arc<Cluster>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let request: PromoteRequest = parse(&cluster.read_body(&headers, body).await?)?;
    let node: &Arc<Node> = cluster.fleet.get(&request.node).ok_or_else(|| {
        ApiError::bad_request(
            "bad_request",
            format!("There is no node `{}` in the configuration.", request.node),
        )
    })?;
    let only = request.index.as_deref();
    if let Some(uid) = only
        && cluster.handle(uid).view().is_none()
    {
        return Err(index_not_found(uid).into());
    }
    let promotions = match request.confirm {
        true => {
            let (promoting, node, only) = (Arc::clone(&cluster), Arc::clone(node), request.index.clone());
            cluster.undisturbed(async move { promoting.promote(&node, only.as_deref()).await }).await?
        }
        false => cluster.promotions(node, only).await?,
    };
    Ok(answer::json(StatusCode::OK, &json!({ "promoted": request.confirm, "shards": promotions })))
}

fn cannot_verify(error: RepairError) -> ApiError {
    let message = format!("The replicas cannot be compared now: {error}. Try again later.");
    ApiError::new(503, "miroir_cannot_verify", ErrorType::Internal, message)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        ApiError::bad_request("bad_request", format!("The body is not understood: {error}."))
    })
}
