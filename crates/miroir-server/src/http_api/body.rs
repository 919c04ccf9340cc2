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
        let mut chunks = body.into_data_stream();
        if announced.is_some_and(|length| length > limit) {
            // Who is still sending when the connection closes may not find the answer.
            let mut left = limit.saturating_mul(2);
            while let Some(Ok(chunk)) = chunks.next().await
                && left > chunk.len()
            {
                left -= chunk.len();
            }
            return Err(too_large(limit));
        }
        let mut whole = BytesMut::with_capacity(announced.unwrap_or(FIRST_ROOM));
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
        "The provided payload reached the size limit. The maximum accepted payload size is {}.",
        size(limit)
    );
    ApiError::new(413, "payload_too_large", ErrorType::InvalidRequest, message)
}

/// A number of bytes as Meilisearch writes it: by thousands, or by 1,024 where that divides it.
fn size(bytes: usize) -> String {
    let (step, units) = match bytes % 1024 {
        0 => (1024.0, ["B", "KiB", "MiB", "GiB"]),
        _ => (1000.0, ["B", "KB", "MB", "GB"]),
    };
    let (mut number, mut shown) = (bytes as f64, "B");
    for unit in units.into_iter().skip(1) {
        if number < step {
            break;
        }
        number /= step;
        shown = unit;
    }
    format!("{number} {shown}")
}

/// Refuses a body that does not say it is JSON, as Meilisearch does.
pub fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    documents::require_json(headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()))
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_written_by_thousands_or_by_1024() {
        assert_eq!(size(100_000_000), "100 MB");
        assert_eq!(size(104_857_600), "100 MiB");
        assert_eq!(size(1_500_000), "1.5 MB");
        assert_eq!(size(100), "100 B");
    }
}
