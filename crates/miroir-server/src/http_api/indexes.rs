//! `/indexes` and `/indexes/{uid}`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode};
use miroir_core::error::ApiError;
use miroir_node::Call;
use serde_json::{Map, Value, json};

use super::answer::{self, Failure};
use super::body::require_json;
use super::{index_uid, parameters};
use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::write::{WriteRequest, encode};

fn view(index: &IndexView) -> Value {
    let record = &index.record;
    json!({
        "uid": record.uid,
        "createdAt": record.created_at,
        "updatedAt": record.updated_at,
        "primaryKey": record.primary_key,
    })
}

/// All indexes, a page at a time.
pub async fn list(
    State(cluster): State<Arc<Cluster>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let pairs = parameters::pairs(query.as_deref());
    let known = pairs.iter().all(|(name, _)| name == "offset" || name == "limit");
    let number = |name: &str, default: usize| match parameters::find(&pairs, name) {
        None => Some(default),
        Some(value) => value.parse().ok(),
    };
    let (Some(offset), Some(limit), true) = (number("offset", 0), number("limit", 20), known) else {
        let call = Call::get(format!("/indexes?{}", query.unwrap_or_default()), cluster.config.node_timeout);
        return Err(cluster.refusal_of_one_node(None, &call).await.into());
    };
    let indexes = cluster.readable_indexes();
    let total = indexes.len();
    let results: Vec<Value> = indexes.iter().skip(offset).take(limit).map(|index| view(index)).collect();
    let page = json!({ "results": results, "offset": offset, "limit": limit, "total": total });
    Ok(answer::json(StatusCode::OK, &page))
}

/// One index.
pub async fn get(State(cluster): State<Arc<Cluster>>, Path(uid): Path<String>) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    Ok(answer::json(StatusCode::OK, &view(&*cluster.readable_index(&uid)?)))
}

/// Makes an index.
pub async fn create(
    State(cluster): State<Arc<Cluster>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let body = object(&cluster, &headers, body, Method::POST, "/indexes", &["uid", "primaryKey"]).await?;
    let Some(Value::String(uid)) = body.get("uid") else {
        return Err(forward(&cluster, Method::POST, "/indexes", &body).await.into());
    };
    index_uid::check(uid).map_err(|_| {
        let message = format!("Invalid value at `.uid`: {}", index_uid::message(uid));
        ApiError::bad_request("invalid_index_uid", message)
    })?;
    let request = WriteRequest::CreateIndex { primary_key: text(&body, "primaryKey") };
    Ok(answer::accepted(&cluster.submit(uid, request).await?))
}

/// Changes the primary key.
pub async fn update(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    let path = format!("/indexes/{}", encode(&uid));
    let body = object(&cluster, &headers, body, Method::PATCH, &path, &["primaryKey"]).await?;
    let request = WriteRequest::UpdateIndex { primary_key: text(&body, "primaryKey") };
    Ok(answer::accepted(&cluster.submit(&uid, request).await?))
}

/// Drops an index.
pub async fn delete(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    Ok(answer::accepted(&cluster.submit(&uid, WriteRequest::DeleteIndex).await?))
}

fn text(body: &Map<String, Value>, name: &str) -> Option<String> {
    body.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// Reads an object whose fields are the given ones, each a string or null. For anything else a node is asked
/// for the error: it refuses such a body without doing anything.
async fn object(
    cluster: &Arc<Cluster>,
    headers: &HeaderMap,
    body: Body,
    method: Method,
    path: &str,
    fields: &[&str],
) -> Result<Map<String, Value>, ApiError> {
    require_json(headers)?;
    let bytes = cluster.read_body(headers, body).await?;
    match serde_json::from_slice::<Map<String, Value>>(&bytes) {
        Ok(body)
            if body.iter().all(|(name, value)| {
                fields.contains(&name.as_str()) && (value.is_string() || value.is_null())
            }) =>
        {
            Ok(body)
        }
        _ => {
            let call = Call::new(method, path, cluster.config.node_timeout).json(bytes);
            Err(cluster.refusal_of_one_node(None, &call).await)
        }
    }
}

async fn forward(cluster: &Arc<Cluster>, method: Method, path: &str, body: &Map<String, Value>) -> ApiError {
    let body = Value::Object(body.clone()).to_string();
    let call = Call::new(method, path, cluster.config.node_timeout).json(body);
    cluster.refusal_of_one_node(None, &call).await
}
