//! Who may come in: the master key for clients, the admin key for operators. Compared in constant time.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use miroir_core::error::{ApiError, ErrorType};
use subtle::ConstantTimeEq;

use super::answer::Failure;
use crate::cluster::Cluster;
use crate::config::Secret;

/// Lets requests with the master key pass.
pub async fn require_master_key(
    State(cluster): State<Arc<Cluster>>,
    request: Request,
    next: Next,
) -> Response {
    match check(cluster.config.master_key.as_ref(), bearer(request.headers())) {
        Ok(()) => next.run(request).await,
        Err(error) => Failure(error).into_response(),
    }
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
    let Some(given) = given else {
        let message =
            "The Authorization header is missing. It must use the bearer authorization method.".to_owned();
        return Err(ApiError::new(401, "missing_authorization_header", ErrorType::Auth, message));
    };
    if bool::from(expected.reveal().as_bytes().ct_eq(given)) {
        return Ok(());
    }
    Err(ApiError::new(403, "invalid_api_key", ErrorType::Auth, "The provided API key is invalid."))
}
