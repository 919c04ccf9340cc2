//! Answers: JSON bodies, errors in Meilisearch's shape, and the headers that say how far an answer can be trusted.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use miroir_core::error::ApiError;
use miroir_core::shard::ShardId;
use serde::Serialize;

use crate::read::ReadAnswer;
use crate::write::Accepted;

const DEGRADED: HeaderName = HeaderName::from_static("x-miroir-degraded");
const SETTINGS_INCONSISTENT: HeaderName = HeaderName::from_static("x-miroir-settings-inconsistent");

/// An error on its way to a client.
pub struct Failure(pub ApiError);

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Meilisearch answers a route or a verb it does not have without a body.
        if self.0.code.is_empty() {
            return status.into_response();
        }
        json(status, &self.0.body())
    }
}

/// A JSON answer.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => bytes(status, body.into()),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// An answer that is JSON already.
pub fn bytes(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The answer to a read.
pub fn read(answer: ReadAnswer) -> Response {
    let mut response = bytes(StatusCode::OK, answer.body);
    degrade(&mut response, &answer.missing);
    if answer.settings_inconsistent {
        response.headers_mut().insert(SETTINGS_INCONSISTENT, HeaderValue::from_static("true"));
    }
    response
}

/// The answer to an accepted write.
pub fn accepted(write: &Accepted) -> Response {
    let mut response = json(StatusCode::ACCEPTED, &write.summary);
    degrade(&mut response, &write.missed_shards);
    response
}

fn degrade(response: &mut Response, shards: &[ShardId]) {
    if shards.is_empty() {
        return;
    }
    let list = shards.iter().map(|shard| shard.0.to_string()).collect::<Vec<_>>().join(",");
    if let Ok(value) = HeaderValue::from_str(&format!("shards={list}")) {
        response.headers_mut().insert(DEGRADED, value);
    }
}
