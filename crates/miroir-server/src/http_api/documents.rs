//! `/indexes/{uid}/documents` and everything below it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use miroir_core::access::Access;
use miroir_core::documents::{DocumentBatch, format_from_content_type, parse_delete_batch};
use miroir_core::error::ApiError;
use miroir_core::filter::reserved_name_in_filter;
use miroir_node::Call;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::answer::{self, Failure};
use super::body::require_json;
use super::marks::Marks;
use super::parameters;
use super::unsupported::unsupported;
use crate::cluster::Cluster;
use crate::index_uid::{self, Target};
use crate::read::missing::stand_in;
use crate::read::{BrowseInput, reserved_field};
use crate::write::{Edit, Later, LaterRequest, WriteRequest, encode};

/// Adds or replaces documents.
pub async fn replace(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    Extension(access): Extension<Access>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    marks: Marks,
    body: Body,
) -> Result<Response, Failure> {
    add(&cluster, Target::new(&uid, &access)?, query, &headers, marks, body, false).await
}

/// Adds or updates documents.
pub async fn update(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    Extension(access): Extension<Access>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    marks: Marks,
    body: Body,
) -> Result<Response, Failure> {
    add(&cluster, Target::new(&uid, &access)?, query, &headers, marks, body, true).await
}

async fn add(
    cluster: &Arc<Cluster>,
    target: Target<'_>,
    query: Option<String>,
    headers: &HeaderMap,
    marks: Marks,
    body: Body,
    update: bool,
) -> Result<Response, Failure> {
    let Target { uid, may_create } = target;
    let pairs = parameters::pairs(query.as_deref());
    if !pairs.iter().all(|(name, _)| name == "primaryKey" || name == "csvDelimiter") {
        // A node refuses an unknown parameter before it looks at the body; one that knows it refuses the body.
        let method = if update { Method::PUT } else { Method::POST };
        let path = format!("/indexes/{}/documents?{}", encode(uid), query.unwrap_or_default());
        let call = Call::new(method, path, cluster.config.node_timeout).json("[");
        let error = cluster.refusal_of_one_node(None, &call).await;
        let is_known = error.code == "malformed_payload";
        return Err(if is_known { unsupported("A parameter of this request") } else { error }.into());
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let format = format_from_content_type(content_type, parameters::find(&pairs, "csvDelimiter"))?;
    let body = cluster.read_body(headers, body).await?;
    // A large body takes a while to read through: not on a thread that others wait for.
    let read = move || {
        let marks = marks.with_body(&body);
        DocumentBatch::parse(body, format).map(|batch| (batch, marks))
    };
    let read = tokio::task::spawn_blocking(read).await;
    let (batch, marks) = read.map_err(|_| ApiError::internal("Reading the documents was interrupted."))??;
    if let Some(reserved) = batch.reserved_field() {
        return Err(reserved_field(&reserved.name).into());
    }
    let primary_key = parameters::find(&pairs, "primaryKey").map(str::to_owned);
    let request = WriteRequest::AddDocuments { batch, update, primary_key, may_create };
    Ok(answer::accepted(&cluster.submit(uid, request, marks).await?))
}

/// Deletes one document.
pub async fn delete(
    State(cluster): State<Arc<Cluster>>,
    Path((uid, id)): Path<(String, String)>,
    marks: Marks,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    let request = WriteRequest::DeleteDocuments { ids: vec![id] };
    Ok(answer::accepted(&cluster.submit(&uid, request, marks.without_body()).await?))
}

/// Deletes documents by id.
pub async fn delete_batch(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    marks: Marks,
    body: Body,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    require_json(&headers)?;
    let body = cluster.read_body(&headers, body).await?;
    // No JSON, whatever comes of newer versions.
    if std::str::from_utf8(&body).is_err() {
        let path = format!("/indexes/{}/documents/delete-batch", encode(&uid));
        let call = Call::post(path, body, cluster.config.node_timeout);
        return Err(cluster.refusal_of_one_node(None, &call).await.into());
    }
    let request = WriteRequest::DeleteDocuments { ids: parse_delete_batch(&body)? };
    Ok(answer::accepted(&cluster.submit(&uid, request, marks.with_body(&body)).await?))
}

/// Deletes the documents a filter selects.
pub async fn delete_by_filter(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    marks: Marks,
    body: Body,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    require_json(&headers)?;
    let body = cluster.read_body(&headers, body).await?;
    let marks = marks.with_body(&body);
    let is_filter = |value: &Value| value.is_string() || value.is_array();
    let (filter, body) = match serde_json::from_slice::<Map<String, Value>>(&body) {
        Ok(mut fields) if fields.get("filter").is_some_and(is_filter) => {
            let filter = fields.shift_remove("filter");
            // Anything else in it is wrong. Should a newer node think otherwise, this filter is.
            fields.insert("filter".to_owned(), Value::from(0));
            (filter.filter(|_| fields.len() == 1), Value::Object(fields).to_string().into())
        }
        _ => (None, body),
    };
    let Some(filter) = filter else {
        let path = format!("/indexes/{}/documents/delete", encode(&uid));
        let call = Call::post(path, body, cluster.config.node_timeout);
        return Err(cluster.refusal_of_one_node(None, &call).await.into());
    };
    if let Some(name) = reserved_name_in_filter(&filter) {
        return Err(reserved_field(&name).into());
    }
    Ok(answer::accepted(&cluster.submit(&uid, WriteRequest::DeleteByFilter { filter }, marks).await?))
}

/// What a client asks for who has documents edited by a function.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditRequest {
    filter: Option<Value>,
    context: Option<Map<String, Value>>,
    function: String,
}

/// Has a function edit documents.
pub async fn edit(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    marks: Marks,
    body: Body,
) -> Result<Response, Failure> {
    require_json(&headers)?;
    let body = cluster.read_body(&headers, body).await?;
    // Only a node can tell whether it is a function. It is asked about an index that it does not have, so nothing is done
    // should it find all of it right.
    let index = stand_in(&uid);
    let path = format!("/indexes/{}/documents/edit", encode(index));
    let call = Call::post(path, body.clone(), cluster.config.node_timeout);
    if let Some(refusal) = cluster.judgement_of_one_node(&call).await? {
        return Err(refusal.into());
    }
    index_uid::check(&uid)?;
    let Ok(EditRequest { filter, context, function }) = serde_json::from_slice(&body) else {
        return Err(unsupported("A parameter of this request").into());
    };
    if let Some(name) = filter.as_ref().and_then(reserved_name_in_filter) {
        return Err(reserved_field(&name).into());
    }
    let edit = Edit::new(filter, context.map(Value::Object), function);
    let request = LaterRequest {
        index_uid: Some(uid.clone()),
        kind: "documentEdition",
        details: edit.details(None, None),
        later: Later::EditDocuments { index: uid, edit },
    };
    Ok(answer::accepted(&cluster.submit_later(request, marks.with_body(&body)).await?))
}

/// Deletes all documents.
pub async fn clear(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    marks: Marks,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    let marks = marks.without_body();
    Ok(answer::accepted(&cluster.submit(&uid, WriteRequest::ClearDocuments, marks).await?))
}

/// One document.
pub async fn get(
    State(cluster): State<Arc<Cluster>>,
    Path((uid, id)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    Ok(answer::read(cluster.document(&uid, &id, query.as_deref()).await?))
}

/// Documents in the order of their insertion, or sorted, a page at a time.
pub async fn browse(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    let pairs = parameters::pairs(query.as_deref());
    let input = BrowseInput::Query(query.unwrap_or_default(), pairs);
    Ok(answer::read(cluster.browse(&uid, input).await?))
}

/// The same by `POST`.
pub async fn fetch(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    require_json(&headers)?;
    let body = cluster.read_body(&headers, body).await?;
    Ok(answer::read(cluster.browse(&uid, BrowseInput::Body(body)).await?))
}
