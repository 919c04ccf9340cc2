//! Reading request bodies: whole, in one piece, within the limit.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use miroir_core::documents;
use miroir_core::error::{ApiError, ErrorType};

use super::unsupported::unsupported;
use crate::cluster::Cluster;

/// Room reserved at first when the length is not known.
const FIRST_ROOM: usize = 16 * 1024;

impl Cluster {
    /// Reads a body. Its length is reserved once when it is known, so that a large body is held once and not
    /// twice while it grows.
    pub(crate) async fn read_body(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
        if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "zstd") {
            return Err(unsupported("A body compressed with zstd"));
        }
        let limit = self.config.max_body_bytes;
        let announced = headers
            .get(CONTENT_LENGTH)
            .filter(|_| !headers.contains_key(CONTENT_ENCODING))
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > limit) {
            return Err(too_large(limit));
        }
        let mut whole = BytesMut::with_capacity(announced.unwrap_or(FIRST_ROOM));
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| {
                ApiError::bad_request("bad_request", format!("The body cannot be read to its end: {error}."))
            })?;
            if whole.len() + chunk.len() > limit {
                return Err(too_large(limit));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}

fn too_large(limit: usize) -> ApiError {
    let message = format!(
        "The provided payload reached the size limit. The maximum accepted payload size is {:.2} MiB.",
        limit as f64 / 1024.0 / 1024.0
    );
    ApiError::new(413, "payload_too_large", ErrorType::InvalidRequest, message)
}

/// Refuses a body that does not say it is JSON, as Meilisearch does.
pub fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    documents::require_json(headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()))
}
