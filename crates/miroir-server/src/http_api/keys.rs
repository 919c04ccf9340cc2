//! `/keys`: making, changing and taking away API keys.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use miroir_core::access::{Action, ApiKey};
use miroir_core::error::ApiError;
use miroir_node::Call;
use serde_json::{Map, Value, json};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time};
use uuid::Uuid;

use super::answer::{self, Failure};
use super::body::require_json;
use super::parameters;
use super::unsupported::unsupported;
use crate::clock::now;
use crate::cluster::Cluster;
use crate::index_uid;
use crate::keys::IssuedKey;

const DEFAULT_LIMIT: usize = 20;
/// A field that no key has: with it, no node takes a body whose other errors it is asked for.
const UNKNOWN_FIELD: &str = "miroirAsksForTheErrorOnly";

fn view(issued: &IssuedKey) -> Value {
    let key = &issued.key;
    json!({
        "name": key.name,
        "description": key.description,
        "key": issued.secret,
        "uid": key.uid,
        "actions": key.actions,
        "indexes": key.indexes,
        "expiresAt": key.expires_at,
        "createdAt": key.created_at,
        "updatedAt": key.updated_at,
    })
}

/// All keys, a page at a time, the last one made first.
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
    let (Some(offset), Some(limit), true) = (number("offset", 0), number("limit", DEFAULT_LIMIT), known)
    else {
        let call = Call::get(format!("/keys?{}", query.unwrap_or_default()), cluster.config.node_timeout);
        return Err(cluster.refusal_of_one_node(None, &call).await.into());
    };
    let keys = cluster.keys.newest_first();
    let results: Vec<Value> = keys.iter().skip(offset).take(limit).map(view).collect();
    let page = json!({ "results": results, "offset": offset, "limit": limit, "total": keys.len() });
    Ok(answer::json(StatusCode::OK, &page))
}

/// One key, by uid or by what a client presents.
pub async fn get(State(cluster): State<Arc<Cluster>>, Path(key): Path<String>) -> Result<Response, Failure> {
    Ok(answer::json(StatusCode::OK, &view(&cluster.keys.find(&key)?)))
}

/// Makes a key.
pub async fn create(
    State(cluster): State<Arc<Cluster>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    require_json(&headers)?;
    let body = cluster.read_body(&headers, body).await?;
    let fields: Option<Map<String, Value>> = serde_json::from_slice(&body).ok();
    let Some(key) = fields.as_ref().and_then(new_key) else {
        let call = Call::post("/keys", spoilt(fields, &body), cluster.config.node_timeout);
        return Err(refusal(&cluster, &call).await.into());
    };
    let (changing, key) = (Arc::clone(&cluster), key?);
    let creation = async move { changing.keys.create(changing.store.as_ref(), key).await };
    let issued = cluster.undisturbed(creation).await?;
    Ok(answer::json(StatusCode::CREATED, &view(&issued)))
}

/// Changes what a key is called.
pub async fn update(
    State(cluster): State<Arc<Cluster>>,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    require_json(&headers)?;
    let body = cluster.read_body(&headers, body).await?;
    let fields: Option<Map<String, Value>> = serde_json::from_slice(&body).ok();
    let is_right = |(name, value): (&String, &Value)| {
        (name == "name" || name == "description") && (value.is_string() || value.is_null())
    };
    let Some(fields) = fields.as_ref().filter(|fields| fields.iter().all(is_right)).cloned() else {
        // A key that no node has.
        let path = format!("/keys/{}", Uuid::new_v4());
        let call = Call::new(Method::PATCH, path, cluster.config.node_timeout).json(spoilt(fields, &body));
        return Err(refusal(&cluster, &call).await.into());
    };
    let text = move |name: &str| fields.get(name).map(|value| value.as_str().map(str::to_owned));
    let change = move |key: &mut ApiKey| {
        if let Some(name) = text("name") {
            key.name = name;
        }
        if let Some(description) = text("description") {
            key.description = description;
        }
    };
    let changing = Arc::clone(&cluster);
    let update = async move { changing.keys.update(changing.store.as_ref(), &key, change).await };
    let issued = cluster.undisturbed(update).await?;
    Ok(answer::json(StatusCode::OK, &view(&issued)))
}

/// Takes a key away.
pub async fn delete(
    State(cluster): State<Arc<Cluster>>,
    Path(key): Path<String>,
) -> Result<Response, Failure> {
    let changing = Arc::clone(&cluster);
    cluster.undisturbed(async move { changing.keys.delete(changing.store.as_ref(), &key).await }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The body with something in it that no node takes.
pub(super) fn spoilt(fields: Option<Map<String, Value>>, body: &Bytes) -> Bytes {
    match fields {
        Some(mut fields) => {
            fields.insert(UNKNOWN_FIELD.to_owned(), Value::Null);
            Value::Object(fields).to_string().into()
        }
        // It is no JSON, or no object: nobody takes it. Were its bytes mended, it might become one.
        None => body.clone(),
    }
}

/// What a node says is wrong with a body that was spoilt.
pub(super) async fn refusal(cluster: &Cluster, call: &Call) -> ApiError {
    let error = cluster.refusal_of_one_node(None, call).await;
    // Then the nodes know more than Miroir does.
    if error.message.contains(UNKNOWN_FIELD) { unsupported("Something in this body") } else { error }
}

/// The key that a body asks for; `None` when a field is not as it should be, an error when one is missing.
fn new_key(fields: &Map<String, Value>) -> Option<Result<ApiKey, ApiError>> {
    let made = now();
    let mut key = ApiKey {
        uid: Uuid::new_v4().to_string(),
        created_at: made.clone(),
        updated_at: made,
        ..ApiKey::default()
    };
    for (name, value) in fields {
        match name.as_str() {
            "name" => key.name = optional_text(value)?,
            "description" => key.description = optional_text(value)?,
            "uid" => key.uid = Uuid::parse_str(value.as_str()?).ok()?.to_string(),
            "actions" => key.actions = texts(value, Action::is_known)?,
            "indexes" => key.indexes = texts(value, is_pattern)?,
            "expiresAt" => {
                key.expires_at = match optional_text(value)? {
                    Some(text) => Some(expiry(&text)?),
                    None => None,
                }
            }
            _ => return None,
        }
    }
    let missing = ["actions", "indexes", "expiresAt"].into_iter().find(|name| !fields.contains_key(*name));
    Some(match missing {
        None => Ok(key),
        Some(name) => {
            let code = match name {
                "actions" => "missing_api_key_actions",
                "indexes" => "missing_api_key_indexes",
                _ => "missing_api_key_expires_at",
            };
            Err(ApiError::bad_request(code, format!("Missing field `{name}`")))
        }
    })
}

fn optional_text(value: &Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        Value::String(text) => Some(Some(text.clone())),
        _ => None,
    }
}

fn texts(value: &Value, is_right: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let text = |item: &Value| item.as_str().filter(|text| is_right(text)).map(str::to_owned);
    value.as_array()?.iter().map(text).collect()
}

fn is_pattern(text: &str) -> bool {
    let name = text.strip_suffix('*').unwrap_or(text);
    text == "*" || index_uid::check(name).is_ok()
}

/// A moment in the future, in one of the forms Meilisearch takes, as RFC 3339.
fn expiry(text: &str) -> Option<String> {
    let with_t = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    let with_space = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let day = format_description!("[year]-[month]-[day]");
    let moment = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| PrimitiveDateTime::parse(text, with_t).map(PrimitiveDateTime::assume_utc))
        .or_else(|_| PrimitiveDateTime::parse(text, with_space).map(PrimitiveDateTime::assume_utc))
        .or_else(|_| {
            Date::parse(text, day).map(|date| PrimitiveDateTime::new(date, Time::MIDNIGHT).assume_utc())
        });
    let moment = moment.ok().filter(|moment| *moment > OffsetDateTime::now_utc())?;
    moment.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn expiry_is_taken_in_each_form() {
        assert_eq!(expiry("2999-01-02").as_deref(), Some("2999-01-02T00:00:00Z"));
        assert_eq!(expiry("2999-01-02 03:04:05").as_deref(), Some("2999-01-02T03:04:05Z"));
        assert_eq!(expiry("2999-01-02T03:04:05").as_deref(), Some("2999-01-02T03:04:05Z"));
        assert_eq!(expiry("2999-01-02T03:04:05+02:00").as_deref(), Some("2999-01-02T03:04:05+02:00"));
        assert_eq!(expiry("1999-01-02"), None, "that is over");
        assert_eq!(expiry("tomorrow"), None);
    }

    #[test]
    fn what_is_wrong_goes_before_what_is_missing() {
        let code = |value| new_key(&fields(value)).map(|key| key.err().map(|error| error.code.into_owned()));
        assert_eq!(code(json!({ "actions": ["no such"] })), None);
        assert_eq!(code(json!({ "actions": ["*"], "indexes": ["a b"] })), None);
        assert_eq!(code(json!({ "actions": ["*"] })), Some(Some("missing_api_key_indexes".to_owned())));
        let whole = json!({ "actions": ["*"], "indexes": ["a*"], "expiresAt": null });
        assert_eq!(code(whole), Some(None));
    }
}
