//! `/`, `/health`, `/version`, `/stats`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Path, State};
use axum::response::Response;
use http::StatusCode;
use miroir_core::access::Access;
use miroir_node::Call;
use serde_json::{Value, json};

use super::answer::{self, Failure};

use crate::cluster::Cluster;
use crate::index_uid;
use crate::read::shard_unavailable;

const VERSION_LIMIT: Duration = Duration::from_secs(2);

/// Whoever looks for a Meilisearch here has found one.
pub async fn root() -> Response {
    answer::json(StatusCode::OK, &json!({ "status": "Meilisearch is running" }))
}

/// Miroir itself is there; `/_miroir/ready` tells whether the nodes are.
pub async fn health() -> Response {
    answer::json(StatusCode::OK, &json!({ "status": "available" }))
}

/// The version of the oldest node: what client libraries adapt to must be true of every node.
pub async fn version(State(cluster): State<Arc<Cluster>>) -> Result<Response, Failure> {
    let call = Call::get("/version", VERSION_LIMIT);
    let versions =
        futures_util::future::join_all(cluster.fleet.up().map(|node| node.fetch::<Value>(&call))).await;
    let number = |version: &Value| -> Vec<u64> {
        let text = version.get("pkgVersion").and_then(Value::as_str).unwrap_or_default();
        text.split('.').map(|part| part.parse().unwrap_or(0)).collect()
    };
    let oldest = versions.into_iter().flatten().min_by_key(number);
    let oldest = oldest.ok_or_else(|| shard_unavailable(&[]))?;
    Ok(answer::json(StatusCode::OK, &oldest))
}

/// Statistics of everything.
pub async fn stats(
    State(cluster): State<Arc<Cluster>>,
    Extension(access): Extension<Access>,
) -> Result<Response, Failure> {
    Ok(answer::json(StatusCode::OK, &cluster.stats(|uid| access.allows_index(uid)).await?))
}

/// Statistics of one index.
pub async fn index_stats(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    let index = cluster.readable_index(&uid)?;
    Ok(answer::json(StatusCode::OK, &cluster.index_stats(&index).await?))
}
