//! Checking the two fields Meilisearch gives a meaning to: `_geo` and `_vectors`.
//!
//! A node refuses a whole task for one wrong value, after other nodes have applied theirs. So every value is
//! judged before anything is sent, by the rules of Meilisearch and with its messages.

use serde_json::Value;
use serde_json::value::RawValue;

use super::json::quote;
use super::vectors::check_vectors;
use crate::error::ApiError;

/// Whether a write replaces whole documents or merges fields into them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteMethod {
    /// `POST`: of several versions of a document in one body, the last one alone counts.
    #[default]
    Replace,
    /// `PUT`: every version counts, in order.
    Update,
}

/// An embedder of the index, as far as documents are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedderRule {
    /// Its name in the settings.
    pub name: String,
    /// Length of its vectors, when known.
    pub dimensions: Option<usize>,
    /// Whether its source is `userProvided`, so that nothing but documents gives it vectors.
    pub user_provided: bool,
}

/// What an index asks of the documents written to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContentRules {
    /// The index's uid: some of Meilisearch's messages begin with it.
    pub index_uid: String,
    /// Replace or update.
    pub method: WriteMethod,
    /// Whether `_geo` is filterable or sortable; otherwise it is a field like any other.
    pub geo: bool,
    /// The configured embedders.
    pub embedders: Vec<EmbedderRule>,
}

/// Adds the index's name to a message, as Meilisearch does to errors met while indexing.
pub(super) fn indexing_message(index_uid: &str, message: &str) -> String {
    format!("Index `{index_uid}`: {message}")
}

/// Judges the special fields of one document.
pub(super) fn check_content(
    rules: &ContentRules,
    document_id: &str,
    geo: Option<&RawValue>,
    vectors: Option<&RawValue>,
) -> Result<(), ApiError> {
    let in_index = |mut error: ApiError| {
        error.message = indexing_message(&rules.index_uid, &error.message);
        error
    };
    if rules.geo
        && let Some(geo) = geo
    {
        check_geo(document_id, geo).map_err(in_index)?;
    }
    if let Some(vectors) = vectors {
        check_vectors(rules, document_id, vectors).map_err(in_index)?;
    }
    Ok(())
}

/// `_geo` is null, or an object of exactly `lat` and `lng`, each a finite number or the text of one.
fn check_geo(document_id: &str, geo: &RawValue) -> Result<(), ApiError> {
    let refuse = |message: String| Err(ApiError::bad_request("invalid_document_geo_field", message));
    let in_document = format!("in the document with the id: `\"{document_id}\"`");
    let mut fields = match serde_json::from_str::<Value>(geo.get()) {
        Ok(Value::Null) => return Ok(()),
        Ok(Value::Object(fields)) => fields,
        Ok(other) => {
            let other = quote(&other);
            return refuse(format!(
                "The `_geo` field {in_document} is not an object. Was expecting an object with the `_geo.lat` and `_geo.lng` fields but instead got `{other}`."
            ));
        }
        Err(error) => return Err(ApiError::internal(format!("internal: {error}."))),
    };
    let (latitude, longitude) = match (fields.remove("lat"), fields.remove("lng")) {
        (Some(latitude), Some(longitude)) => (latitude, longitude),
        (Some(_), None) => {
            return refuse(format!(
                "Could not find longitude {in_document}. Was expecting a `_geo.lng` field."
            ));
        }
        (None, Some(_)) => {
            return refuse(format!(
                "Could not find latitude {in_document}. Was expecting a `_geo.lat` field."
            ));
        }
        (None, None) => {
            return refuse(format!(
                "Could not find latitude nor longitude {in_document}. Was expecting `_geo.lat` and `_geo.lng` fields."
            ));
        }
    };
    if !fields.is_empty() {
        let unexpected = quote(&fields);
        return refuse(format!(
            "The `_geo` field {in_document} contains the following unexpected fields: `{unexpected}`."
        ));
    }
    let (is_latitude, is_longitude) = (coordinate(&latitude).is_some(), coordinate(&longitude).is_some());
    let (latitude, longitude) = (quote(&latitude), quote(&longitude));
    match (is_latitude, is_longitude) {
        (true, true) => Ok(()),
        (true, false) => refuse(format!(
            "Could not parse longitude {in_document}. Was expecting a finite number but instead got `{longitude}`."
        )),
        (false, true) => refuse(format!(
            "Could not parse latitude {in_document}. Was expecting a finite number but instead got `{latitude}`."
        )),
        (false, false) => refuse(format!(
            "Could not parse latitude nor longitude {in_document}. Was expecting finite numbers but instead got `{latitude}` and `{longitude}`."
        )),
    }
}

/// A coordinate written as a number or as the text of one.
pub(super) fn coordinate(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(geo: &str) -> Result<(), ApiError> {
        let rules = ContentRules { index_uid: "places".into(), geo: true, ..ContentRules::default() };
        check_content(&rules, "7", Some(serde_json::from_str(geo).unwrap()), None)
    }

    #[test]
    fn right_places_pass() {
        for geo in
            ["null", r#"{"lat":1,"lng":2}"#, r#"{"lat":"1","lng":"2.5"}"#, r#"{"lat":1000,"lng":-2000}"#]
        {
            assert_eq!(check(geo), Ok(()), "{geo}");
        }
        let without_geo = ContentRules::default();
        assert_eq!(check_content(&without_geo, "7", Some(serde_json::from_str("1").unwrap()), None), Ok(()));
    }

    /// The messages are those of a Meilisearch 1.21.
    #[test]
    fn wrong_places_are_refused() {
        let id = "in the document with the id: `\"7\"`";
        for (geo, message) in [
            (
                "1",
                format!(
                    "The `_geo` field {id} is not an object. Was expecting an object with the `_geo.lat` and `_geo.lng` fields but instead got `1`."
                ),
            ),
            (
                "{}",
                format!(
                    "Could not find latitude nor longitude {id}. Was expecting `_geo.lat` and `_geo.lng` fields."
                ),
            ),
            (r#"{"lat":1}"#, format!("Could not find longitude {id}. Was expecting a `_geo.lng` field.")),
            (r#"{"lng":1}"#, format!("Could not find latitude {id}. Was expecting a `_geo.lat` field.")),
            (
                r#"{"lat":"a","lng":2}"#,
                format!(
                    "Could not parse latitude {id}. Was expecting a finite number but instead got `\"a\"`."
                ),
            ),
            (
                r#"{"lat":1,"lng":true}"#,
                format!(
                    "Could not parse longitude {id}. Was expecting a finite number but instead got `true`."
                ),
            ),
            (
                r#"{"lat":null,"lng":[1]}"#,
                format!(
                    "Could not parse latitude nor longitude {id}. Was expecting finite numbers but instead got `null` and `[1]`."
                ),
            ),
            (
                r#"{"lat":1,"lng":2,"z":3,"a":1}"#,
                format!(
                    "The `_geo` field {id} contains the following unexpected fields: `{{\"a\":1,\"z\":3}}`."
                ),
            ),
            (
                r#"{"lat":"inf","lng":1}"#,
                format!(
                    "Could not parse latitude {id}. Was expecting a finite number but instead got `\"inf\"`."
                ),
            ),
        ] {
            let error = check(geo).unwrap_err();
            assert_eq!(error.code, "invalid_document_geo_field");
            assert_eq!(error.message, format!("Index `places`: {message}"));
        }
    }
}
