//! `/indexes` and `/indexes/{uid}`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode};
use miroir_core::access::{Access, refused};
use miroir_core::error::ApiError;
use miroir_node::Call;
use serde_json::{Map, Value, json};

use super::answer::{self, Failure};
use super::body::require_json;
use super::marks::Marks;
use super::parameters;
use super::unsupported::unsupported;
use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::index_uid;
use crate::write::{Later, LaterRequest, WriteRequest, encode};

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
    Extension(access): Extension<Access>,
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
    let mut indexes = cluster.readable_indexes();
    indexes.retain(|index| access.allows_index(&index.record.uid));
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
    Extension(access): Extension<Access>,
    headers: HeaderMap,
    marks: Marks,
    body: Body,
) -> Result<Response, Failure> {
    require_json(&headers)?;
    let bytes = cluster.read_body(&headers, body).await?;
    let Some((Some(uid), primary_key)) = fields(&bytes, ["uid", "primaryKey"]) else {
        // With a uid that cannot be, no node will ever take it.
        let body = spoilt(&bytes, "uid", json!(UID_THAT_CANNOT_BE));
        let call = Call::post("/indexes", body, cluster.config.node_timeout);
        return Err(cluster.refusal_of_one_node(None, &call).await.into());
    };
    index_uid::check(&uid).map_err(|error| {
        if error.code != "invalid_index_uid" {
            return error;
        }
        let message = format!("Invalid value at `.uid`: {}", index_uid::message(&uid));
        ApiError::bad_request("invalid_index_uid", message)
    })?;
    if !access.may_create(&uid) {
        return Err(refused().into());
    }
    let request = WriteRequest::CreateIndex { primary_key };
    Ok(answer::accepted(&cluster.submit(&uid, request, marks.with_body(&bytes)).await?))
}

/// Changes the primary key or the name.
pub async fn update(
    State(cluster): State<Arc<Cluster>>,
    Extension(access): Extension<Access>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    marks: Marks,
    body: Body,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    require_json(&headers)?;
    let bytes = cluster.read_body(&headers, body).await?;
    match fields(&bytes, ["primaryKey", "uid"]) {
        Some((primary_key, None)) => {
            let request = WriteRequest::UpdateIndex { primary_key };
            Ok(answer::accepted(&cluster.submit(&uid, request, marks.with_body(&bytes)).await?))
        }
        Some((primary_key, Some(name))) => {
            index_uid::check(&name)?;
            if !access.allows_index(&name) {
                return Err(refused().into());
            }
            let request = rename(&cluster, &uid, name, primary_key)?;
            Ok(answer::accepted(&cluster.submit_later(request, marks.with_body(&bytes)).await?))
        }
        None => {
            let body = spoilt(&bytes, "primaryKey", json!(0));
            let path = format!("/indexes/{}", encode(&uid));
            let call = Call::new(Method::PATCH, path, cluster.config.node_timeout).json(body);
            Err(cluster.refusal_of_one_node(None, &call).await.into())
        }
    }
}

/// Another name for an index, which may come with the primary key that it has already.
fn rename(
    cluster: &Cluster,
    uid: &str,
    name: String,
    primary_key: Option<String>,
) -> Result<LaterRequest, ApiError> {
    let has_another_key = |key: &String| {
        cluster.readable_index(uid).is_ok_and(|index| index.record.primary_key.as_ref() != Some(key))
    };
    if primary_key.as_ref().is_some_and(has_another_key) {
        return Err(unsupported("Giving an index another name and another primary key in one request"));
    }
    Ok(LaterRequest {
        details: json!({ "primaryKey": primary_key, "oldIndexUid": uid, "newIndexUid": name }),
        later: Later::RenameIndex { from: uid.to_owned(), to: name },
        index_uid: Some(uid.to_owned()),
        kind: "indexUpdate",
    })
}

/// Drops an index.
pub async fn delete(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    marks: Marks,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    let marks = marks.without_body();
    Ok(answer::accepted(&cluster.submit(&uid, WriteRequest::DeleteIndex, marks).await?))
}

const UID_THAT_CANNOT_BE: &str = "not a uid";

/// Two optional texts of an object that has no other fields; `None` when it is anything else.
fn fields(body: &[u8], [first, second]: [&str; 2]) -> Option<(Option<String>, Option<String>)> {
    let object: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let is_right = |(name, value): (&String, &Value)| {
        (name == first || name == second) && (value.is_string() || value.is_null())
    };
    let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    object.iter().all(is_right).then(|| (text(first), text(second)))
}

/// The body to send to a node for its error. What is wrong with it comes first, and should a newer node find
/// nothing wrong with that, `value` is: a request that is sent only for its error must never be carried out.
fn spoilt(body: &[u8], field: &str, value: Value) -> Vec<u8> {
    match serde_json::from_slice::<Map<String, Value>>(body) {
        Ok(mut object) if object.values().any(|value| !value.is_null()) => {
            let was_wrong = object.get(field).is_some_and(|value| !value.is_string());
            if !was_wrong {
                object.shift_remove(field);
                object.insert(field.to_owned(), value);
            }
            Value::Object(object).to_string().into_bytes()
        }
        _ => body.to_vec(),
    }
}
