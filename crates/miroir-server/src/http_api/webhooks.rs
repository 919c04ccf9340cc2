//! `/webhooks`: who is told of tasks that have ended.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode};
use miroir_core::error::ApiError;
use miroir_core::settings::redact;
use miroir_node::Call;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::answer::{self, Failure};
use super::body::require_json;
use super::keys::{refusal, spoilt};
use crate::cluster::Cluster;
use crate::webhooks::{Webhook, WebhookChange};
use crate::write::encode;

/// From this version on, Meilisearch shows no secrets of webhooks.
const SHOWS_NO_SECRETS: (u64, u64) = (1, 25);
const SCHEME: &str = "Bearer ";

fn view(cluster: &Cluster, uuid: Uuid, webhook: &Webhook) -> Value {
    let hides = cluster.fleet.oldest_version() >= SHOWS_NO_SECRETS;
    let shown = |(name, value): (&String, &String)| {
        let is_secret = hides && name.eq_ignore_ascii_case("authorization");
        (name.clone(), Value::String(if is_secret { hidden(value) } else { value.clone() }))
    };
    let headers: Map<String, Value> = webhook.headers.iter().map(shown).collect();
    json!({ "uuid": uuid, "isEditable": !uuid.is_nil(), "url": webhook.url, "headers": headers })
}

fn hidden(value: &str) -> String {
    match value.strip_prefix(SCHEME) {
        Some(secret) => format!("{SCHEME}{}", redact(secret)),
        None => redact(value),
    }
}

/// All webhooks.
pub async fn list(State(cluster): State<Arc<Cluster>>) -> Response {
    let all = cluster.webhooks.all();
    let results: Vec<Value> = all.iter().map(|(uuid, webhook)| view(&cluster, *uuid, webhook)).collect();
    answer::json(StatusCode::OK, &json!({ "results": results }))
}

/// One webhook.
pub async fn get(State(cluster): State<Arc<Cluster>>, Path(uuid): Path<String>) -> Result<Response, Failure> {
    let uuid = read_uuid(&cluster, &uuid).await?;
    Ok(answer::json(StatusCode::OK, &view(&cluster, uuid, &cluster.webhooks.find(uuid)?)))
}

/// Makes a webhook.
pub async fn create(
    State(cluster): State<Arc<Cluster>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let change = read_change(&cluster, Method::POST, "/webhooks", &headers, body).await?;
    let changing = Arc::clone(&cluster);
    let creation = async move { changing.webhooks.create(changing.store.as_ref(), change).await };
    let (uuid, webhook) = cluster.undisturbed(creation).await?;
    Ok(answer::json(StatusCode::CREATED, &view(&cluster, uuid, &webhook)))
}

/// Changes a webhook.
pub async fn update(
    State(cluster): State<Arc<Cluster>>,
    Path(uuid): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let path = format!("/webhooks/{}", encode(&uuid));
    let change = read_change(&cluster, Method::PATCH, &path, &headers, body).await?;
    let uuid = read_uuid(&cluster, &uuid).await?;
    let changing = Arc::clone(&cluster);
    let update = async move { changing.webhooks.update(changing.store.as_ref(), uuid, change).await };
    let webhook = cluster.undisturbed(update).await?;
    Ok(answer::json(StatusCode::OK, &view(&cluster, uuid, &webhook)))
}

/// Takes a webhook away.
pub async fn delete(
    State(cluster): State<Arc<Cluster>>,
    Path(uuid): Path<String>,
) -> Result<Response, Failure> {
    let uuid = read_uuid(&cluster, &uuid).await?;
    let changing = Arc::clone(&cluster);
    let deletion = async move { changing.webhooks.delete(changing.store.as_ref(), uuid).await };
    cluster.undisturbed(deletion).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What a body asks for, or what a node says is wrong with it.
async fn read_change(
    cluster: &Cluster,
    method: Method,
    path: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<WebhookChange, ApiError> {
    require_json(headers)?;
    let body = cluster.read_body(headers, body).await?;
    let fields: Option<Map<String, Value>> = serde_json::from_slice(&body).ok();
    if let Some(change) = fields.as_ref().and_then(WebhookChange::read) {
        return Ok(change);
    }
    let call = Call::new(method, path, cluster.config.node_timeout).json(spoilt(fields, &body));
    Err(refusal(cluster, &call).await)
}

async fn read_uuid(cluster: &Cluster, uuid: &str) -> Result<Uuid, ApiError> {
    match Uuid::parse_str(uuid) {
        Ok(uuid) => Ok(uuid),
        Err(_) => {
            let call = Call::get(format!("/webhooks/{}", encode(uuid)), cluster.config.node_timeout);
            Err(cluster.refusal_of_one_node(None, &call).await)
        }
    }
}
