//! Which of the three document formats a request holds, told by its `Content-Type`.
//!
//! The rule is Meilisearch's: parameters of the header are ignored, case is ignored, a structured suffix
//! (`application/json+ld`) is ignored, and a CSV delimiter is refused with anything but CSV.

use std::fmt;

use crate::error::{ApiError, ErrorType};

/// The content types a client may send.
const ACCEPTED: &str = "`application/json`, `application/x-ndjson`, `text/csv`";

/// The format of a documents body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object, or an array of them.
    Json,
    /// A sequence of JSON objects, one per line or merely one after the other.
    Ndjson,
    /// Comma-separated values with a header line that may type its columns (`price:number`).
    Csv {
        /// The byte between two fields.
        delimiter: u8,
    },
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv { .. } => "csv",
        })
    }
}

/// The format announced by the headers and the `csvDelimiter` query parameter.
///
/// The parameter is judged first, as it is by Meilisearch.
pub fn format_from_content_type(
    content_type: Option<&str>,
    csv_delimiter: Option<&str>,
) -> Result<Format, ApiError> {
    let delimiter = csv_delimiter.map(parse_delimiter).transpose()?;
    let Some(content_type) = content_type else {
        return Err(unsupported(
            "missing_content_type",
            format!(
                "A Content-Type header is missing. Accepted values for the Content-Type header are: {ACCEPTED}"
            ),
        ));
    };
    let Some(essence) = essence_of(content_type) else {
        return Err(invalid_content_type(content_type));
    };
    match (essence.as_str(), delimiter) {
        ("application/json", None) => Ok(Format::Json),
        ("application/x-ndjson", None) => Ok(Format::Ndjson),
        ("text/csv", delimiter) => Ok(Format::Csv { delimiter: delimiter.unwrap_or(b',') }),
        ("application/json" | "application/x-ndjson", Some(_)) => Err(unsupported(
            "invalid_content_type",
            format!(
                "The Content-Type `{essence}` does not support the use of a csv delimiter. The csv delimiter can only be used with the Content-Type `text/csv`."
            ),
        )),
        _ => Err(invalid_content_type(&essence)),
    }
}

/// Checks the `Content-Type` of a route that takes JSON only.
pub fn require_json(content_type: Option<&str>) -> Result<(), ApiError> {
    let accepted = "Accepted values for the Content-Type header are: `application/json`";
    let Some(content_type) = content_type else {
        let message = format!("A Content-Type header is missing. {accepted}");
        return Err(unsupported("missing_content_type", message));
    };
    match essence_of(content_type) {
        Some(essence) if essence == "application/json" => Ok(()),
        _ => Err(unsupported(
            "invalid_content_type",
            format!("The Content-Type `{content_type}` is invalid. {accepted}"),
        )),
    }
}

/// The single ASCII character of `csvDelimiter`.
fn parse_delimiter(text: &str) -> Result<u8, ApiError> {
    let refuse = |message: String| Err(ApiError::bad_request("invalid_document_csv_delimiter", message));
    let expected = "Invalid value in parameter `csvDelimiter`: expected a string of one character, but found";
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (None, _) => refuse(format!("{expected} an empty string")),
        (Some(_), Some(_)) => refuse(format!(
            "{expected} the following string of {} characters: `{text}`",
            text.chars().count()
        )),
        (Some(only), None) => match u8::try_from(only) {
            Ok(byte) if byte.is_ascii() => Ok(byte),
            _ => refuse(format!("csv delimiter must be an ascii character. Found: `{only}`")),
        },
    }
}

/// `type/subtype` in lower case, without parameters or suffix; `None` when the header is not a media type.
fn essence_of(content_type: &str) -> Option<String> {
    let media_type = content_type.split(';').next()?.trim();
    let (kind, subtype) = media_type.split_once('/')?;
    let is_token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    if !is_token(kind) || !is_token(subtype) {
        return None;
    }
    let subtype = subtype.rsplit_once('+').map_or(subtype, |(name, _suffix)| name);
    Some(format!("{kind}/{subtype}").to_ascii_lowercase())
}

fn invalid_content_type(found: &str) -> ApiError {
    unsupported(
        "invalid_content_type",
        format!(
            "The Content-Type `{found}` is invalid. Accepted values for the Content-Type header are: {ACCEPTED}"
        ),
    )
}

fn unsupported(code: &'static str, message: String) -> ApiError {
    ApiError::new(415, code, ErrorType::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_case_and_suffix_do_not_matter() {
        for (header, expected) in [
            ("application/json", Format::Json),
            ("  application/json  ", Format::Json),
            ("Application/JSON; charset=utf-8", Format::Json),
            ("application/json; charset=", Format::Json),
            ("application/json+ld", Format::Json),
            ("application/x-ndjson;charset=utf-8", Format::Ndjson),
            ("text/csv; header=present", Format::Csv { delimiter: b',' }),
        ] {
            assert_eq!(format_from_content_type(Some(header), None), Ok(expected), "{header}");
        }
        assert_eq!(
            format_from_content_type(Some("text/csv"), Some(";")),
            Ok(Format::Csv { delimiter: b';' })
        );
    }

    #[test]
    fn other_headers_are_refused_with_the_accepted_ones() {
        let accepted = "Accepted values for the Content-Type header are: `application/json`, `application/x-ndjson`, `text/csv`";
        let missing = format_from_content_type(None, None).unwrap_err();
        assert_eq!((missing.status, missing.code.as_ref()), (415, "missing_content_type"));
        assert_eq!(missing.message, format!("A Content-Type header is missing. {accepted}"));
        for header in ["", "garbage", "text/json", "application/ndjson", "a b/c", "/"] {
            let error = format_from_content_type(Some(header), None).unwrap_err();
            assert_eq!((error.status, error.code.as_ref()), (415, "invalid_content_type"));
            assert_eq!(error.message, format!("The Content-Type `{header}` is invalid. {accepted}"));
        }
        let error = format_from_content_type(Some("multipart/form-data; boundary=x"), None).unwrap_err();
        assert!(error.message.starts_with("The Content-Type `multipart/form-data` is invalid."));
    }

    #[test]
    fn a_json_route_takes_json_only() {
        assert_eq!(require_json(Some("application/json; charset=utf-8")), Ok(()));
        let error = require_json(Some("text/plain")).unwrap_err();
        assert_eq!((error.status, error.code.as_ref()), (415, "invalid_content_type"));
        assert_eq!(
            error.message,
            "The Content-Type `text/plain` is invalid. Accepted values for the Content-Type header are: `application/json`"
        );
        assert_eq!(require_json(None).unwrap_err().code, "missing_content_type");
    }

    #[test]
    fn a_delimiter_is_one_ascii_character_and_only_for_csv() {
        for (delimiter, message) in [
            ("", "expected a string of one character, but found an empty string"),
            (";;", "but found the following string of 2 characters: `;;`"),
            ("é", "csv delimiter must be an ascii character. Found: `é`"),
        ] {
            let error = format_from_content_type(Some("text/csv"), Some(delimiter)).unwrap_err();
            assert_eq!((error.status, error.code.as_ref()), (400, "invalid_document_csv_delimiter"));
            assert!(error.message.contains(message), "{}", error.message);
        }
        let error = format_from_content_type(Some("application/json"), Some(";")).unwrap_err();
        assert_eq!((error.status, error.code.as_ref()), (415, "invalid_content_type"));
    }
}
