//! The body of `POST /documents/delete-batch`: a list of ids.

use crate::error::ApiError;

/// The ids to delete, as text.
pub fn parse_delete_batch(body: &[u8]) -> Result<Vec<String>, ApiError> {
    let values: Vec<serde_json::Value> = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request("bad_request", error.to_string()))?;
    Ok(values
        .into_iter()
        .map(|value| match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        })
        .collect())
}
