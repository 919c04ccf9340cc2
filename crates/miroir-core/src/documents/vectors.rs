//! Checking `_vectors`: an object with, for each embedder, vectors of the right length.
//!
//! The value for an embedder is null, a vector, a list of vectors, or an object with `regenerate` and maybe
//! `embeddings`. Shapes are checked for every name, lengths for the configured embedders only.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::content::{ContentRules, indexing_message};
use super::json::{FieldName, for_each_field, quote};
use crate::error::{ApiError, ErrorType};

/// Judges the `_vectors` field of one document.
pub(super) fn check_vectors(
    rules: &ContentRules,
    document_id: &str,
    vectors: &RawValue,
) -> Result<(), ApiError> {
    let entries = entries_of(vectors)?;
    let mut given = Vec::with_capacity(entries.len());
    for (embedder, value) in entries {
        let entry = read_entry(&embedder, value).map_err(|reason| invalid_type(document_id, &reason))?;
        given.push((embedder, entry));
    }
    for rule in &rules.embedders {
        let Some((_, entry)) = given.iter().find(|(name, _)| *name == rule.name) else { continue };
        let Some(embeddings) = &entry.embeddings else { continue };
        let path = format!("._vectors.{}{}", rule.name, if entry.explicit { ".embeddings" } else { "" });
        let lengths =
            vector_lengths(embeddings, &path).map_err(|reason| invalid_type(document_id, &reason))?;
        let Some(expected) = rule.dimensions else { continue };
        if let Some((rank, found)) = lengths.into_iter().enumerate().find(|(_, found)| *found != expected) {
            let name = &rule.name;
            return Err(ApiError::bad_request(
                "invalid_vector_dimensions",
                format!(
                    "Invalid vector dimensions in document with id `{document_id}` in `._vectors.{name}`.\n  - note: embedding #{rank} has dimensions {found}\n  - note: embedder `{name}` requires {expected}"
                ),
            ));
        }
    }
    Ok(())
}

/// The user-provided embedders for which a new document gives neither vectors nor an opt-out.
pub(super) fn lacking_embedders<'rules>(
    rules: &'rules ContentRules,
    vectors: Option<&RawValue>,
) -> Vec<&'rules str> {
    let entries = vectors.map(entries_of).and_then(Result::ok).unwrap_or_default();
    let is_provided = |embedder: &str| {
        let value = entries.iter().find(|(name, _)| name == embedder).map(|(_, value)| *value);
        value
            .and_then(|value| read_entry(embedder, value).ok())
            .is_some_and(|entry| entry.embeddings.is_some() || !entry.regenerate)
    };
    let user_provided = rules.embedders.iter().filter(|rule| rule.user_provided);
    user_provided.map(|rule| rule.name.as_str()).filter(|name| !is_provided(name)).collect()
}

/// The error of a write whose new documents lack vectors: the first of them, and how many more.
pub(super) fn lacking_vectors(index_uid: &str, embedder: &str, document_id: &str, others: usize) -> ApiError {
    let more = if others == 0 { String::new() } else { format!(" and at least {others} other document(s)") };
    let message = format!(
        "While embedding documents for embedder `{embedder}`: no vectors provided for document `{document_id}`{more}\n- Note: `{embedder}` has `source: userProvided`, so documents must provide embeddings as an array in `_vectors.{embedder}`.\n- Hint: opt-out for a document with `_vectors.{embedder}: null`"
    );
    ApiError::bad_request("vector_embedding_error", indexing_message(index_uid, &message))
}

fn invalid_type(document_id: &str, reason: &str) -> ApiError {
    ApiError::bad_request(
        "invalid_vectors_type",
        format!("Bad embedder configuration in the document with id: `{document_id}`. {reason}"),
    )
}

/// The entries by embedder, each name once (the last wins).
fn entries_of(vectors: &RawValue) -> Result<Vec<(String, &RawValue)>, ApiError> {
    let mut entries: Vec<(String, &RawValue)> = Vec::new();
    for_each_field(vectors.get(), |name, value| match entries.iter_mut().find(|(known, _)| known == name) {
        Some(entry) => entry.1 = value,
        None => entries.push((name.to_owned(), value)),
    })
    // Meilisearch calls this one internal.
    .map_err(|error| ApiError::new(500, "internal", ErrorType::Internal, error.to_string()))?;
    Ok(entries)
}

/// What a document says for one embedder.
struct Entry<'de> {
    regenerate: bool,
    /// Whether it is written as an object.
    explicit: bool,
    embeddings: Option<&'de RawValue>,
}

/// Reads the shape of an entry; the error is the reason, in Meilisearch's words.
fn read_entry<'de>(embedder: &str, value: &'de RawValue) -> Result<Entry<'de>, String> {
    let path = format!("._vectors.{embedder}");
    let text = value.get();
    let kind = match text.as_bytes().first() {
        Some(b'[' | b'n') => {
            return Ok(Entry { regenerate: false, explicit: false, embeddings: Some(value) });
        }
        Some(b'{') => return read_explicit(&path, value),
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        _ => match serde_json::from_str::<serde_json::Number>(text) {
            Ok(number) if !number.is_f64() => "integer",
            _ => "number",
        },
    };
    let shown = match serde_json::from_str::<Value>(text) {
        Ok(Value::String(text)) => text,
        Ok(other) => quote(&other),
        Err(error) => return Err(format!("Could not parse `{path}`: {error}")),
    };
    Err(format!(
        "Expected `{path}` to be an array of floats, an array of arrays of floats, or an object with at least the field `regenerate`, but got the {kind} `{shown}`"
    ))
}

/// Reads an entry written as an object.
fn read_explicit<'de>(path: &str, value: &'de RawValue) -> Result<Entry<'de>, String> {
    let fields = serde_json::from_str::<ExplicitFields<'de>>(value.get())
        .map_err(|error| format!("Could not parse `{path}`: {error}"))?;
    let Some(regenerate) = fields.regenerate else {
        return Err(format!(
            "Missing field `{path}.regenerate`\n  - note: `{path}` must be an array of floats, an array of arrays of floats, or an object with field `regenerate`"
        ));
    };
    let regenerate = serde_json::from_str::<bool>(regenerate.get()).map_err(|error| {
        format!("Could not parse `{path}.regenerate`: {}", place_inside(&error, value, regenerate))
    })?;
    let embeddings = fields.embeddings.filter(|value| value.get() != "null");
    Ok(Entry { regenerate, explicit: true, embeddings })
}

/// An error met in a value, placed relatively to the object around it.
fn place_inside(error: &serde_json::Error, around: &RawValue, value: &RawValue) -> String {
    let offset = value.get().as_ptr() as usize - around.get().as_ptr() as usize;
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((reason, _)) if error.line() == 1 => {
            format!("{reason} at line 1 column {}", error.column() + offset)
        }
        _ => text,
    }
}

/// The two fields an entry may have. Stops reading at any other, which the parser then complains about.
#[derive(Default)]
struct ExplicitFields<'de> {
    regenerate: Option<&'de RawValue>,
    embeddings: Option<&'de RawValue>,
}

impl<'de> Deserialize<'de> for ExplicitFields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = ExplicitFields<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object with `regenerate`")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = ExplicitFields::default();
                while let Some(FieldName(std::borrow::Cow::Borrowed(name))) = map.next_key()? {
                    match name {
                        "regenerate" => fields.regenerate = Some(map.next_value()?),
                        "embeddings" => fields.embeddings = Some(map.next_value()?),
                        _ => break,
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// The length of each vector; the error is the reason, in Meilisearch's words.
fn vector_lengths(embeddings: &RawValue, path: &str) -> Result<Vec<usize>, String> {
    // Numbers are counted without being kept. Only to word a refusal are the values built.
    if let Ok(shape) = serde_json::from_str::<Shape>(embeddings.get())
        && let Some(lengths) = shape.lengths()
    {
        return Ok(lengths);
    }
    match serde_json::from_str::<Value>(embeddings.get()) {
        Ok(value) => Err(refusal(&value, path)),
        Err(error) => Err(format!("Could not parse `{path}`: {error}")),
    }
}

/// A value, reduced to what vectors are made of.
enum Shape {
    Number,
    Null,
    List(Vec<usize>, ListOf),
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ListOf {
    Nothing,
    Numbers(usize),
    Vectors,
    Mixed,
}

impl Shape {
    fn lengths(self) -> Option<Vec<usize>> {
        match self {
            Self::Null | Self::List(_, ListOf::Nothing) => Some(Vec::new()),
            Self::List(_, ListOf::Numbers(length)) => Some(vec![length]),
            Self::List(lengths, ListOf::Vectors) => Some(lengths),
            Self::Number | Self::Other | Self::List(_, ListOf::Mixed) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShapeVisitor;
        impl<'de> Visitor<'de> for ShapeVisitor {
            type Value = Shape;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("vectors")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
                Ok(Shape::Other)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
                Ok(Shape::Number)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
                Ok(Shape::Number)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
                Ok(Shape::Number)
            }
            fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
                Ok(Shape::Other)
            }
            fn visit_unit<E>(self) -> Result<Shape, E> {
                Ok(Shape::Null)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
                while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
                Ok(Shape::Other)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Shape, A::Error> {
                let mut lengths = Vec::new();
                let mut list_of = ListOf::Nothing;
                while let Some(element) = sequence.next_element::<Shape>()? {
                    list_of = match (list_of, element) {
                        (ListOf::Nothing, Shape::Number) => ListOf::Numbers(1),
                        (ListOf::Numbers(count), Shape::Number) => ListOf::Numbers(count + 1),
                        (ListOf::Nothing | ListOf::Vectors, Shape::List(_, ListOf::Numbers(length))) => {
                            lengths.push(length);
                            ListOf::Vectors
                        }
                        (ListOf::Nothing | ListOf::Vectors, Shape::List(_, ListOf::Nothing)) => {
                            lengths.push(0);
                            ListOf::Vectors
                        }
                        _ => ListOf::Mixed,
                    };
                }
                Ok(Shape::List(lengths, list_of))
            }
        }
        deserializer.deserialize_any(ShapeVisitor)
    }
}

/// Why a value is not vectors: the first thing wrong in it.
fn refusal(value: &Value, path: &str) -> String {
    let Value::Array(elements) = value else { return unexpected(path, "null or an array", value) };
    let first_is_vector = elements.first().is_some_and(Value::is_array);
    for (rank, element) in elements.iter().enumerate() {
        let path = format!("{path}[{rank}]");
        match element {
            Value::Array(numbers) if first_is_vector => {
                if let Some((rank, wrong)) =
                    numbers.iter().enumerate().find(|(_, number)| !number.is_number())
                {
                    return unexpected(&format!("{path}[{rank}]"), "a number", wrong);
                }
            }
            Value::Number(_) if !first_is_vector => {}
            _ if rank == 0 => return unexpected(&path, "a number or an array", element),
            _ if first_is_vector => return unexpected(&path, "an array", element),
            _ => return unexpected(&path, "a number", element),
        }
    }
    format!("Could not parse `{path}`")
}

fn unexpected(path: &str, expected: &str, found: &Value) -> String {
    let quoted = quote(found);
    let found = match found {
        Value::Null => quoted,
        Value::Bool(_) => format!("a boolean: `{quoted}`"),
        Value::Number(number) if number.is_u64() => format!("a positive integer: `{quoted}`"),
        Value::Number(number) if number.is_i64() => format!("a negative integer: `{quoted}`"),
        Value::Number(_) => format!("a number: `{quoted}`"),
        Value::String(_) => format!("a string: `{quoted}`"),
        Value::Array(_) => format!("an array: `{quoted}`"),
        Value::Object(_) => format!("an object: `{quoted}`"),
    };
    format!("Invalid value type at `{path}`: expected {expected}, but found {found}")
}

#[cfg(test)]
mod tests {
    use super::super::content::EmbedderRule;
    use super::*;

    fn rules() -> ContentRules {
        let embedder = EmbedderRule { name: "m".into(), dimensions: Some(3), user_provided: true };
        ContentRules { index_uid: "x".into(), embedders: vec![embedder], ..ContentRules::default() }
    }

    fn check(vectors: &str) -> Result<(), (String, String)> {
        check_vectors(&rules(), "7", serde_json::from_str(vectors).unwrap())
            .map_err(|error| (error.code.to_string(), error.message))
    }

    #[test]
    fn right_vectors_pass() {
        for vectors in [
            "{}",
            r#"{"m":null}"#,
            r#"{"m":[1,2.5,-3]}"#,
            r#"{"m":[[1,2,3],[4,5,6]]}"#,
            r#"{"m":[]}"#,
            r#"{"m":[1e300,2,3]}"#,
            r#"{"m":{"regenerate":false}}"#,
            r#"{"m":{"regenerate":true}}"#,
            r#"{"m":{"regenerate":false,"embeddings":null}}"#,
            r#"{"m":{"embeddings":[1,2,3],"regenerate":false}}"#,
            r#"{"other":["a"]}"#,
            r#"{"m":1,"m":[1,2,3]}"#,
        ] {
            assert_eq!(check(vectors), Ok(()), "{vectors}");
        }
    }

    /// Codes and messages are those of a Meilisearch 1.21.
    #[test]
    fn wrong_vectors_are_refused() {
        for (vectors, reason) in [
            (
                r#"{"m":1}"#,
                "Expected `._vectors.m` to be an array of floats, an array of arrays of floats, or an object with at least the field `regenerate`, but got the integer `1`",
            ),
            (
                r#"{"m":1.5}"#,
                "Expected `._vectors.m` to be an array of floats, an array of arrays of floats, or an object with at least the field `regenerate`, but got the number `1.5`",
            ),
            (
                r#"{"x":"a"}"#,
                "Expected `._vectors.x` to be an array of floats, an array of arrays of floats, or an object with at least the field `regenerate`, but got the string `a`",
            ),
            (
                r#"{"m":{}}"#,
                "Missing field `._vectors.m.regenerate`\n  - note: `._vectors.m` must be an array of floats, an array of arrays of floats, or an object with field `regenerate`",
            ),
            (
                r#"{"m":{"regenerate":1}}"#,
                "Could not parse `._vectors.m.regenerate`: invalid type: integer `1`, expected a boolean at line 1 column 15",
            ),
            (r#"{"m":{"foo":1}}"#, "Could not parse `._vectors.m`: trailing characters at line 1 column 7"),
            (
                r#"{"m":{"regenerate":false,"foo":1}}"#,
                "Could not parse `._vectors.m`: trailing characters at line 1 column 26",
            ),
            (
                r#"{"m":{"reg\u0065nerate":false}}"#,
                "Could not parse `._vectors.m`: trailing characters at line 1 column 19",
            ),
            (
                r#"{"m":{"regenerate":false,"embeddings":"a"}}"#,
                "Invalid value type at `._vectors.m.embeddings`: expected null or an array, but found a string: `\"a\"`",
            ),
            (
                r#"{"m":{"regenerate":false,"embeddings":["a"]}}"#,
                "Invalid value type at `._vectors.m.embeddings[0]`: expected a number or an array, but found a string: `\"a\"`",
            ),
            (
                r#"{"m":[1,"a"]}"#,
                "Invalid value type at `._vectors.m[1]`: expected a number, but found a string: `\"a\"`",
            ),
            (
                r#"{"m":[1,null,3]}"#,
                "Invalid value type at `._vectors.m[1]`: expected a number, but found null",
            ),
            (
                r#"{"m":[[1,"a"]]}"#,
                "Invalid value type at `._vectors.m[0][1]`: expected a number, but found a string: `\"a\"`",
            ),
            (
                r#"{"m":[[1,2,3],4]}"#,
                "Invalid value type at `._vectors.m[1]`: expected an array, but found a positive integer: `4`",
            ),
            (
                r#"{"m":[1,[2],3]}"#,
                "Invalid value type at `._vectors.m[1]`: expected a number, but found an array: `[2]`",
            ),
        ] {
            let expected = format!("Bad embedder configuration in the document with id: `7`. {reason}");
            assert_eq!(check(vectors), Err(("invalid_vectors_type".into(), expected)), "{vectors}");
        }
        for (vectors, rank, found) in
            [(r#"{"m":[1,2]}"#, 0, 2), (r#"{"m":[[1,2,3],[4,5]]}"#, 1, 2), (r#"{"m":[[]]}"#, 0, 0)]
        {
            let expected = format!(
                "Invalid vector dimensions in document with id `7` in `._vectors.m`.\n  - note: embedding #{rank} has dimensions {found}\n  - note: embedder `m` requires 3"
            );
            assert_eq!(check(vectors), Err(("invalid_vector_dimensions".into(), expected)));
        }
        let internal = |reason: &str| Err(("internal".to_owned(), reason.to_owned()));
        assert_eq!(check("1"), internal("invalid type: integer `1`, expected a map at line 1 column 1"));
        assert_eq!(check("null"), internal("invalid type: null, expected a map at line 1 column 4"));
    }

    #[test]
    fn a_new_document_provides_vectors_or_opts_out() {
        let lacking = |vectors: Option<&str>| {
            let vectors = vectors.map(|text| serde_json::from_str::<&RawValue>(text).unwrap());
            !lacking_embedders(&rules(), vectors).is_empty()
        };
        for vectors in [None, Some("{}"), Some(r#"{"x":[1]}"#), Some(r#"{"m":{"regenerate":true}}"#)] {
            assert!(lacking(vectors), "{vectors:?}");
        }
        for vectors in [r#"{"m":null}"#, r#"{"m":[]}"#, r#"{"m":{"regenerate":false}}"#, r#"{"m":[1,2,3]}"#] {
            assert!(!lacking(Some(vectors)), "{vectors}");
        }
    }
}
