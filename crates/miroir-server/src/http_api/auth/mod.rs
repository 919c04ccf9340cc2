//! Who may come in: clients with the master key, an API key or a tenant token, and operators with the admin key. Secrets
//! are compared in constant time.

mod tenant_token;

use std::sync::Arc;

use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use miroir_core::access::{Access, Action, refused};
use miroir_core::error::{ApiError, ErrorType};
use subtle::ConstantTimeEq;
use time::OffsetDateTime;

use super::answer::Failure;
use crate::cluster::Cluster;
use crate::config::Secret;

/// Lets requests pass whose key allows the action, and tells the handler what else it allows, as an extension [`Access`].
pub async fn authorise(
    State((cluster, action)): State<(Arc<Cluster>, Action)>,
    route: MatchedPath,
    parameters: RawPathParams,
    mut request: Request,
    next: Next,
) -> Response {
    let index = parameters.iter().find(|(name, _)| *name == "uid" && is_about_index(&route));
    match access(&cluster, request.headers(), action, index.map(|(_, uid)| uid)) {
        Ok(access) => {
            request.extensions_mut().insert(access);
            next.run(request).await
        }
        Err(error) => Failure(error).into_response(),
    }
}

fn is_about_index(route: &MatchedPath) -> bool {
    route.as_str().starts_with("/indexes/")
}

fn access(
    cluster: &Cluster,
    headers: &HeaderMap,
    action: Action,
    index: Option<&str>,
) -> Result<Access, ApiError> {
    let given = presented(headers)?;
    let Some(master) = &cluster.config.master_key else {
        return if action.is_about_keys() { Err(missing_master_key()) } else { Ok(Access::unlimited()) };
    };
    let Some(given) = given else { return Err(missing_header()) };
    if equal(master, given.as_bytes()) {
        return Ok(Access::unlimited());
    }
    let now = OffsetDateTime::now_utc();
    // Only searches can be done with a token; elsewhere it is a key like any other, and a wrong one.
    let token = match action {
        Action::SEARCH => tenant_token::read(&cluster.keys, given, now.unix_timestamp())?,
        _ => None,
    };
    let (key, rules) = match token {
        Some((uid, rules)) => (cluster.keys.of_uid(&uid), Some(rules)),
        None => (cluster.keys.presented(given.as_bytes()), None),
    };
    let key = key.ok_or_else(refused)?;
    Access::granted(&key, rules, action, index, now.unix_timestamp_nanos())
}

/// What a client presents, if anything. The scheme is written as Meilisearch wants it.
fn presented(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let value = value.to_str().unwrap_or_default();
    match value.split_once(' ') {
        Some(("Bearer", given)) => Ok(Some(given)),
        None if value == "Bearer" => Err(refused()),
        _ => Err(missing_header()),
    }
}

fn missing_header() -> ApiError {
    let message =
        "The Authorization header is missing. It must use the bearer authorization method.".to_owned();
    ApiError::new(401, "missing_authorization_header", ErrorType::Auth, message)
}

fn missing_master_key() -> ApiError {
    let message = "Meilisearch is running without a master key. To access this API endpoint, you must have set a \
                   master key at launch.";
    ApiError::new(401, "missing_master_key", ErrorType::Auth, message)
}

fn equal(secret: &Secret, given: &[u8]) -> bool {
    bool::from(secret.reveal().as_bytes().ct_eq(given))
}

/// Lets requests with the admin key pass, as a bearer or in `X-Admin-Key`.
pub async fn require_admin_key(
    State(cluster): State<Arc<Cluster>>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let given = headers.get("x-admin-key").map(|value| value.as_bytes()).or(bearer(headers));
    match check(cluster.config.admin_api_key.as_ref(), given) {
        Ok(()) => next.run(request).await,
        Err(error) => Failure(error).into_response(),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked("bearer".len())?;
    scheme.eq_ignore_ascii_case(b"bearer").then(|| key.trim_ascii())
}

fn check(expected: Option<&Secret>, given: Option<&[u8]>) -> Result<(), ApiError> {
    let Some(expected) = expected else { return Ok(()) };
    let given = given.ok_or_else(missing_header)?;
    if equal(expected, given) { Ok(()) } else { Err(refused()) }
}
