//! Choosing the primary key of an index, and finding its value in a document.
//!
//! Both follow Meilisearch to the letter: a document that one Meilisearch takes must be taken, and one that
//! it refuses must be refused with the same words. A primary key with dots (`a.b`) names either a field
//! `a.b` or a field `b` inside an object `a`; exactly one of them may be present.

use serde_json::Value;
use serde_json::value::RawValue;

use super::document_id::validate_document_id;
use super::json::{for_each_field, quote};
use crate::error::ApiError;

/// What the names of candidate fields end with.
const CANDIDATE_SUFFIX: &str = "id";

/// The primary key to use for a write, or the error its task fails with.
///
/// `Ok(None)` means that nothing tells the primary key and nothing needs it: there is no document.
pub(super) fn resolve(
    index_primary_key: Option<&str>,
    requested: Option<&str>,
    first_document: Option<&str>,
) -> Result<Option<String>, ApiError> {
    match (index_primary_key, requested) {
        (Some(known), Some(requested)) if known != requested => Err(ApiError::bad_request(
            "index_primary_key_already_exists",
            format!("Index already has a primary key: `{known}`."),
        )),
        (Some(known), _) => Ok(Some(known.to_owned())),
        (None, Some(requested)) => Ok(Some(requested.to_owned())),
        (None, None) => first_document.map(infer).transpose(),
    }
}

/// The only field of a document whose name ends with `id`, whatever its case.
fn infer(document: &str) -> Result<String, ApiError> {
    let mut candidates: Vec<String> = Vec::new();
    for_each_field(document, |name, _| {
        if name.to_lowercase().ends_with(CANDIDATE_SUFFIX) && !candidates.iter().any(|known| known == name) {
            candidates.push(name.to_owned());
        }
    })
    .map_err(|error| ApiError::internal(error.to_string()))?;
    candidates.sort_unstable();
    match candidates.as_slice() {
        [] => Err(ApiError::bad_request(
            "index_primary_key_no_candidate_found",
            "The primary key inference failed as the engine did not find any field ending with `id` in its name. Please specify the primary key manually using the `primaryKey` query parameter.",
        )),
        [only] => Ok(only.clone()),
        [first, second, ..] => Err(ApiError::bad_request(
            "index_primary_key_multiple_candidates_found",
            format!(
                "The primary key inference failed as the engine found {} fields ending with `id` in their names: '{first}' and '{second}'. Please specify the primary key manually using the `primaryKey` query parameter.",
                candidates.len()
            ),
        )),
    }
}

/// Where the value of a primary key may be, from the fields at the top of a document.
pub(super) struct PrimaryKeyPath<'key> {
    name: &'key str,
    /// The names a top-level field may have, each with what remains to be found inside it.
    levels: Vec<(&'key str, &'key str)>,
}

/// The values a document has for its primary key: one is right, none or several are not.
#[derive(Default)]
pub(super) struct Found {
    value: Option<Result<String, ApiError>>,
    several: bool,
}

impl<'key> PrimaryKeyPath<'key> {
    pub(super) fn new(name: &'key str) -> Self {
        Self { name, levels: levels_of(name) }
    }

    /// What remains to be found inside a top-level field, if the field is one of ours.
    pub(super) fn remainder(&self, field: &str) -> Option<&'key str> {
        remainder_of(&self.levels, field)
    }

    /// Adds the values found under a top-level field for which [`Self::remainder`] is `remainder`.
    pub(super) fn collect(remainder: &str, value: &RawValue, found: &mut Found) {
        if found.is_settled() {
            return;
        }
        if remainder.is_empty() {
            found.push(validate_document_id(value));
            return;
        }
        let levels = levels_of(remainder);
        // A value that is not an object has nothing inside, which is no error by itself.
        let _ = for_each_field(value.get(), |field, value| {
            if let Some(remainder) = remainder_of(&levels, field) {
                Self::collect(remainder, value, found);
            }
        });
    }

    /// The identifier, or the error the task fails with.
    pub(super) fn identifier(&self, found: Found, document: &str) -> Result<String, ApiError> {
        let name = self.name;
        if found.several {
            return Err(ApiError::bad_request(
                "invalid_document_id",
                format!(
                    "Document have too many matching `{name}` attribute: `{}`.",
                    quote_document(document)
                ),
            ));
        }
        found.value.unwrap_or_else(|| {
            Err(ApiError::bad_request(
                "missing_document_id",
                format!("Document doesn't have a `{name}` attribute: `{}`.", quote_document(document)),
            ))
        })
    }
}

impl Found {
    /// Whether an error is already known: the first one is the one reported.
    fn is_settled(&self) -> bool {
        self.several || matches!(self.value, Some(Err(_)))
    }

    fn push(&mut self, value: Result<String, ApiError>) {
        match (&self.value, value) {
            (Some(_), Ok(_)) => self.several = true,
            (_, value) => self.value = Some(value),
        }
    }
}

/// `a.b.c` -> (`a`, `b.c`), (`a.b`, `c`), (`a.b.c`, nothing).
fn levels_of(name: &str) -> Vec<(&str, &str)> {
    let splits = name.match_indices('.').map(|(at, dot)| (&name[..at], &name[at + dot.len()..]));
    // Meilisearch never finds a primary key whose first part is empty.
    splits.chain([(name, "")]).filter(|(first, _)| !first.is_empty()).collect()
}

fn remainder_of<'key>(levels: &[(&'key str, &'key str)], field: &str) -> Option<&'key str> {
    levels.iter().find(|(first, _)| *first == field).map(|(_, remainder)| *remainder)
}

/// A document as error messages quote it, each key once.
fn quote_document(document: &str) -> String {
    serde_json::from_str::<Value>(document).map_or_else(|_| document.to_owned(), |value| quote(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identify(document: &str, primary_key: &str) -> Result<String, ApiError> {
        let path = PrimaryKeyPath::new(primary_key);
        let mut found = Found::default();
        for_each_field(document, |name, value| {
            if let Some(remainder) = path.remainder(name) {
                PrimaryKeyPath::collect(remainder, value, &mut found);
            }
        })
        .unwrap();
        path.identifier(found, document)
    }

    #[test]
    fn the_only_field_ending_with_id_is_inferred() {
        let infer = |document| resolve(None, None, Some(document)).map(|name| name.unwrap());
        assert_eq!(infer(r#"{"a":1,"Id":2}"#).as_deref(), Ok("Id"));
        assert_eq!(infer(r#"{"movie_ID":1,"movie_ID":2}"#).as_deref(), Ok("movie_ID"));
        let error = infer(r#"{"IDx":1}"#).unwrap_err();
        assert_eq!(error.code, "index_primary_key_no_candidate_found");
        let error = infer(r#"{"Zid":1,"BID":2,"aid":3}"#).unwrap_err();
        assert_eq!(error.code, "index_primary_key_multiple_candidates_found");
        assert!(error.message.contains("found 3 fields ending with `id` in their names: 'BID' and 'Zid'."));
    }

    #[test]
    fn the_index_decides_and_contradicting_it_is_an_error() {
        assert_eq!(resolve(Some("id"), None, None), Ok(Some("id".into())));
        assert_eq!(resolve(Some("id"), Some("id"), None), Ok(Some("id".into())));
        assert_eq!(resolve(None, Some("sku"), Some("{}")), Ok(Some("sku".into())));
        assert_eq!(resolve(None, None, None), Ok(None));
        let error = resolve(Some("id"), Some("sku"), None).unwrap_err();
        assert_eq!(error.code, "index_primary_key_already_exists");
        assert_eq!(error.message, "Index already has a primary key: `id`.");
    }

    #[test]
    fn a_nested_key_is_found_in_every_spelling() {
        for document in
            [r#"{"a":{"b":{"c":7}}}"#, r#"{"a":{"b.c":7}}"#, r#"{"a.b":{"c":7}}"#, r#"{"a.b.c":7}"#]
        {
            assert_eq!(identify(document, "a.b.c").as_deref(), Ok("7"), "{document}");
        }
    }

    /// Codes and messages are those of a Meilisearch 1.21.
    #[test]
    fn none_several_and_wrong_values_are_errors() {
        for (document, key, code, message) in [
            (
                r#"{"a": 5}"#,
                "a.id",
                "missing_document_id",
                "Document doesn't have a `a.id` attribute: `{\"a\":5}`.",
            ),
            (
                r#"{"a":[{"id":1}]}"#,
                "a.id",
                "missing_document_id",
                "Document doesn't have a `a.id` attribute: `{\"a\":[{\"id\":1}]}`.",
            ),
            (r#"{"a": 1}"#, "", "missing_document_id", "Document doesn't have a `` attribute: `{\"a\":1}`."),
            (r#"{"":1}"#, "", "missing_document_id", "Document doesn't have a `` attribute: `{\"\":1}`."),
            (
                r#"{"a":{"id":1},"a.id":2}"#,
                "a.id",
                "invalid_document_id",
                "Document have too many matching `a.id` attribute: `{\"a\":{\"id\":1},\"a.id\":2}`.",
            ),
            (
                r#"{"a":{"id":1,"id":2}}"#,
                "a.id",
                "invalid_document_id",
                "Document have too many matching `a.id` attribute: `{\"a\":{\"id\":2}}`.",
            ),
            (
                r#"{"id":1,"id":2}"#,
                "id",
                "invalid_document_id",
                "Document have too many matching `id` attribute: `{\"id\":2}`.",
            ),
        ] {
            let error = identify(document, key).unwrap_err();
            assert_eq!((error.code.as_ref(), error.message.as_str()), (code, message));
        }
        let error = identify(r#"{"a":{"id":null}}"#, "a.id").unwrap_err();
        assert!(error.message.starts_with("Document identifier `null` is invalid."));
    }
}
