//! Reading and validating document identifiers.
//!
//! An identifier is an integer that fits 64 bits or a string of up to 511 letters, digits, `-` and `_`.
//! It is kept as text, because `1` and `"1"` name the same document.

use serde_json::Value;
use serde_json::value::RawValue;

use super::json::quote;
use crate::error::ApiError;

/// Longest identifier, in bytes.
const LONGEST: usize = 511;

/// Whether a text can be the identifier of a document.
pub fn is_valid_document_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LONGEST
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// The textual identifier written as a JSON value, or the error Meilisearch fails the task with.
pub fn validate_document_id(value: &RawValue) -> Result<String, ApiError> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'"') => {
            let unescaped = text.len().checked_sub(1).and_then(|last| text.get(1..last));
            // Nearly always there is no escape, and nothing to decode.
            if let Some(plain) = unescaped.filter(|plain| is_valid_document_id(plain)) {
                return Ok(plain.to_owned());
            }
            match serde_json::from_str::<String>(text) {
                Ok(decoded) if is_valid_document_id(&decoded) => Ok(decoded),
                _ => Err(invalid_document_id(value)),
            }
        }
        Some(b'-' | b'0'..=b'9') => match serde_json::from_str::<serde_json::Number>(text) {
            Ok(number) if !number.is_f64() => Ok(number.to_string()),
            _ => Err(invalid_document_id(value)),
        },
        _ => Err(invalid_document_id(value)),
    }
}

fn invalid_document_id(value: &RawValue) -> ApiError {
    // Read and written again, so that `1e3` is quoted as `1000.0`.
    let quoted = serde_json::from_str::<Value>(value.get())
        .map_or_else(|_| value.get().to_owned(), |value| quote(&value));
    ApiError::bad_request(
        "invalid_document_id",
        format!(
            "Document identifier `{quoted}` is invalid. A document identifier can be of type integer or string, only composed of alphanumeric characters (a-z A-Z 0-9), hyphens (-) and underscores (_), and can not be more than 511 bytes."
        ),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn validate(json: &str) -> Result<String, ApiError> {
        validate_document_id(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn integers_and_plain_strings_are_identifiers() {
        for (json, id) in [
            ("1", "1"),
            ("-1", "-1"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("\"a-B_9\"", "a-B_9"),
            ("\"\\u0061\"", "a"),
        ] {
            assert_eq!(validate(json).as_deref(), Ok(id));
        }
        assert!(validate(&format!("\"{}\"", "x".repeat(511))).is_ok());
    }

    /// The quoted forms are those of a Meilisearch 1.21.
    #[test]
    fn other_values_are_refused_and_quoted() {
        for (json, quoted) in [
            ("\" a \"", "\" a \""),
            ("\"\"", "\"\""),
            ("1.0", "1.0"),
            ("1e3", "1000.0"),
            ("-0", "-0.0"),
            ("18446744073709551616", "1.8446744073709552e19"),
            ("-9223372036854775809", "-9.223372036854776e18"),
            ("null", "null"),
            ("{ \"a\" : 1 }", "{\"a\":1}"),
            ("\"\\u00e9\"", "\"é\""),
        ] {
            let error = validate(json).unwrap_err();
            assert_eq!((error.status, error.code.as_ref()), (400, "invalid_document_id"));
            assert!(
                error.message.starts_with(&format!("Document identifier `{quoted}` is invalid.")),
                "{json}"
            );
        }
        assert!(validate(&format!("\"{}\"", "x".repeat(512))).is_err());
        assert!(validate("\"\\ud800\"").is_err());
    }

    proptest! {
        #[test]
        fn a_number_and_its_text_are_the_same_identifier(number: i64) {
            prop_assert_eq!(validate(&number.to_string()), validate(&format!("\"{number}\"")));
        }

        #[test]
        fn what_is_accepted_is_valid(text: String) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(validate(&json).ok(), is_valid_document_id(&text).then_some(text));
        }
    }
}
