//! The body of `POST /documents/delete-batch`: a list of ids.
//!
//! Meilisearch takes any JSON value as an id, by its text: one that names no document deletes nothing. Ids
//! given twice count twice in the task's `providedIds`, so they are all returned.

use serde_json::Value;
use serde_json::error::Category;

use crate::error::ApiError;

/// The ids to delete, as text, in the order given.
pub fn parse_delete_batch(body: &[u8]) -> Result<Vec<String>, ApiError> {
    if body.is_empty() {
        return Err(ApiError::bad_request("missing_payload", "A json payload is missing."));
    }
    let values: Vec<Value> = serde_json::from_slice(body).map_err(|error| match error.classify() {
        Category::Data => ApiError::bad_request("bad_request", format!("Json deserialize error: {error}")),
        _ => ApiError::bad_request(
            "malformed_payload",
            format!("The json payload provided is malformed. `{error}`."),
        ),
    })?;
    let as_text = |value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(values.into_iter().map(as_text).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_value_is_an_id_by_its_text() {
        let ids = parse_delete_batch(br#"[1,"a",-5,true,[1],{"a": 1}," 2 ","a"]"#).unwrap();
        assert_eq!(ids, ["1", "a", "-5", "true", "[1]", r#"{"a":1}"#, " 2 ", "a"]);
    }

    /// Codes and messages are those of a Meilisearch 1.21.
    #[test]
    fn other_bodies_are_refused() {
        for (body, code, message) in [
            ("", "missing_payload", "A json payload is missing."),
            (
                "null",
                "bad_request",
                "Json deserialize error: invalid type: null, expected a sequence at line 1 column 4",
            ),
            (
                "{}",
                "bad_request",
                "Json deserialize error: invalid type: map, expected a sequence at line 1 column 0",
            ),
            (
                "[1,]",
                "malformed_payload",
                "The json payload provided is malformed. `trailing comma at line 1 column 4`.",
            ),
            (
                "[1",
                "malformed_payload",
                "The json payload provided is malformed. `EOF while parsing a list at line 1 column 2`.",
            ),
        ] {
            let error = parse_delete_batch(body.as_bytes()).unwrap_err();
            assert_eq!((error.status, error.code.as_ref(), error.message.as_str()), (400, code, message));
        }
    }
}
