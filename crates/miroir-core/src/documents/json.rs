//! Finding the documents inside a JSON or NDJSON body without building them.
//!
//! A document stays where it is: what is kept of it is where it starts and ends. Values are skipped, which
//! `serde_json` does without recursion whatever their depth. Three things that are fine to skip but that a
//! node cannot index are looked for on the way (see [`unreadable_reason`]), because a node would fail the
//! whole task on them after others have applied their part.

use std::borrow::Cow;
use std::{fmt, io};

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::error::Category;
use serde_json::ser::Formatter;
use serde_json::value::RawValue;

use super::format::Format;
use crate::error::ApiError;
use crate::hidden;

/// Where a document lies in its body: the `{` is at `start`, the byte after its `}` is at `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// What reading a body once tells.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) spans: Vec<Span>,
    /// The first field with a reserved name: which document, which name.
    pub(super) reserved: Option<(usize, String)>,
    /// The documents with a value that no node can index, and why.
    pub(super) unreadable: Vec<(usize, String)>,
}

impl Scan {
    /// Looks into one document and remembers its place.
    fn add(&mut self, body: &[u8], document: &str) -> Result<(), serde_json::Error> {
        let ordinal = self.spans.len();
        let mut unreadable = None;
        for_each_field(document, |name, value| {
            if self.reserved.is_none() && hidden::is_reserved(name) {
                self.reserved = Some((ordinal, name.to_owned()));
            }
            if unreadable.is_none() {
                unreadable = unreadable_reason(value);
            }
        })?;
        self.unreadable.extend(unreadable.map(|reason| (ordinal, reason)));
        // `document` was borrowed from `body`, whose length fits 32 bits.
        let start = document.as_ptr() as usize - body.as_ptr() as usize;
        self.spans.push(Span { start: start as u32, end: (start + document.len()) as u32 });
        Ok(())
    }
}

/// Finds the documents of a JSON body: an array of objects, or one object.
pub(super) fn scan_json(body: &[u8]) -> Result<Scan, ApiError> {
    let mut scan = Scan::default();
    let mut refused = None;
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    // What follows the array is not looked at: Meilisearch does not either.
    let result = deserializer.deserialize_seq(EachDocument(|document: &RawValue| {
        let result = scan.add(body, document.get());
        if let Err(error) = result {
            refused = Some(error);
            return false;
        }
        true
    }));
    match (result, refused) {
        (_, Some(error)) => Err(malformed(Format::Json, &error)),
        (Ok(()), None) => Ok(scan),
        (Err(error), None) if error.classify() != Category::Data => Err(malformed(Format::Json, &error)),
        // Not an array: one object, and nothing after it.
        (Err(_), None) => scan_single_object(body).map_err(|error| malformed(Format::Json, &error)),
    }
}

/// Reads a body that must be one object. Its values are read in full, as Meilisearch does here.
fn scan_single_object(body: &[u8]) -> Result<Scan, serde_json::Error> {
    serde_json::from_slice::<ReadableObject>(body)?;
    let document: &RawValue = serde_json::from_slice(body)?;
    let mut scan = Scan::default();
    scan.add(body, document.get())?;
    Ok(scan)
}

/// Finds the documents of an NDJSON body. Line ends are not required: objects may follow each other.
pub(super) fn scan_ndjson(body: &[u8]) -> Result<Scan, ApiError> {
    let mut scan = Scan::default();
    for document in serde_json::Deserializer::from_slice(body).into_iter::<&RawValue>() {
        document
            .and_then(|document| scan.add(body, document.get()))
            .map_err(|error| malformed(Format::Ndjson, &error))?;
    }
    Ok(scan)
}

/// The refusal of a body that is not what it claims to be, worded as Meilisearch words it.
pub(super) fn malformed(format: Format, error: &serde_json::Error) -> ApiError {
    let mut message = match error.classify() {
        Category::Data => "data are neither an object nor a list of objects".to_owned(),
        _ => error.to_string(),
    };
    // The text may quote an arbitrarily long input: keep its two ends.
    let (kept_prefix, kept_suffix, ellipsis) = (50, 85, "...");
    if message.len() > kept_prefix + kept_suffix + ellipsis.len() {
        let prefix = message.floor_char_boundary(kept_prefix);
        let suffix = message.ceil_char_boundary(message.len() - kept_suffix);
        message.replace_range(prefix..suffix, ellipsis);
    }
    ApiError::bad_request(
        "malformed_payload",
        format!(
            "The `{format}` payload provided is malformed. `Couldn't serialize document value: {message}`."
        ),
    )
}

/// Calls `visit` with the name and the raw value of each top-level field; fails unless `document` is an object.
pub(super) fn for_each_field<'de>(
    document: &'de str,
    visit: impl FnMut(&str, &'de RawValue),
) -> Result<(), serde_json::Error> {
    serde_json::Deserializer::from_str(document).deserialize_map(EachField(visit))
}

/// A value as Meilisearch's messages quote it: compact, and without the `+` that newer versions of the JSON
/// library put in exponents.
pub(super) fn quote(value: &impl Serialize) -> String {
    struct PlainExponents;
    impl Formatter for PlainExponents {
        fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
            let number = serde_json::Number::from_f64(value).map(|number| number.to_string());
            writer.write_all(number.as_deref().unwrap_or("null").replace("e+", "e").as_bytes())
        }
    }
    let mut output = Vec::new();
    // Writing to memory does not fail, and what is written is text.
    let _ = value.serialize(&mut serde_json::Serializer::with_formatter(&mut output, PlainExponents));
    String::from_utf8(output).unwrap_or_default()
}

/// Why no node could index this value, if so: an escape that is no character, a number out of range, or
/// nesting deeper than 127 levels. Meilisearch accepts these in an array of documents, then fails the task.
fn unreadable_reason(value: &RawValue) -> Option<String> {
    let text = value.get();
    let may_be_unreadable = match text.as_bytes().first() {
        Some(b'{' | b'[') => true,
        Some(b'"') => text.contains('\\'),
        Some(b'-' | b'0'..=b'9') => text.len() > 300 || text.contains(['e', 'E']),
        _ => false,
    };
    if !may_be_unreadable {
        return None;
    }
    serde_json::from_str::<Readable>(text).err().map(|error| error.to_string())
}

/// Visitor of an array of raw values; stops quietly when the callback says so.
struct EachDocument<F>(F);

impl<'de, F: FnMut(&'de RawValue) -> bool> Visitor<'de> for EachDocument<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut sequence: A) -> Result<(), A::Error> {
        while let Some(document) = sequence.next_element::<&RawValue>()? {
            if !(self.0)(document) {
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

/// Visitor of an object's fields.
struct EachField<F>(F);

impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for EachField<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<FieldName<'de>>()? {
            let value: &'de RawValue = map.next_value()?;
            (self.0)(&name.0, value);
        }
        Ok(())
    }
}

/// A field's name, borrowed unless it is written with escapes.
pub(super) struct FieldName<'de>(pub(super) Cow<'de, str>);

impl<'de> Deserialize<'de> for FieldName<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = FieldName<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a field name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(FieldName(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(FieldName(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// Reads any value in full and keeps nothing: what a node does, short of indexing.
///
/// `IgnoredAny` would not do: it skips, and skipping forgives what reading does not.
struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadableVisitor)
    }
}

/// Like [`Readable`], but only for an object.
struct ReadableObject;

impl<'de> Deserialize<'de> for ReadableObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = ReadableObject;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                ReadableVisitor.visit_map(map).map(|_| ReadableObject)
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ReadableVisitor;

impl<'de> Visitor<'de> for ReadableVisitor {
    type Value = Readable;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Readable, E> {
        Ok(Readable)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Readable, E> {
        Ok(Readable)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Readable, E> {
        Ok(Readable)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Readable, E> {
        Ok(Readable)
    }
    fn visit_str<E>(self, _: &str) -> Result<Readable, E> {
        Ok(Readable)
    }
    fn visit_unit<E>(self) -> Result<Readable, E> {
        Ok(Readable)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Readable, A::Error> {
        while sequence.next_element::<Readable>()?.is_some() {}
        Ok(Readable)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Readable, A::Error> {
        while map.next_key_seed(AnyName)?.is_some() {
            map.next_value::<Readable>()?;
        }
        Ok(Readable)
    }
}

/// Reads an object's key as a string, escapes included, and drops it.
struct AnyName;

impl<'de> DeserializeSeed<'de> for AnyName {
    type Value = IgnoredAny;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<IgnoredAny, D::Error> {
        deserializer.deserialize_str(IgnoredAny)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json_error(body: &str) -> String {
        let error = scan_json(body.as_bytes()).unwrap_err();
        assert_eq!((error.status, error.code.as_ref()), (400, "malformed_payload"));
        error.message
    }

    /// What the three lists below expect is what a Meilisearch 1.21 answered to the same bodies.
    #[test]
    fn malformed_bodies_are_refused_in_the_words_of_meilisearch() {
        for (body, reason) in [
            (" ", "EOF while parsing a value at line 1 column 1"),
            ("null", "data are neither an object nor a list of objects"),
            ("1", "data are neither an object nor a list of objects"),
            (r#"[{"id":1}"#, "EOF while parsing a list at line 1 column 9"),
            (r#"[{"id":1},]"#, "trailing comma at line 1 column 11"),
            (r#"{"id":1} {"id":2}"#, "trailing characters at line 1 column 10"),
            (r#"{"id":1"#, "EOF while parsing an object at line 1 column 7"),
            ("\u{feff}[]", "expected value at line 1 column 1"),
            (r#"[{"id":1,"\ud800":1}]"#, "unexpected end of hex escape at line 1 column 16"),
            (r#"[{"id":1}{"id":2}]"#, "expected `,` or `]` at line 1 column 10"),
            ("[{id:1}]", "key must be a string at line 1 column 3"),
            (r#"{"id":1,"t":"\ud800"}"#, "unexpected end of hex escape at line 1 column 20"),
            (r#"[{"id":1,"t":01}]"#, "invalid number at line 1 column 15"),
        ] {
            let expected = format!(
                "The `json` payload provided is malformed. `Couldn't serialize document value: {reason}`."
            );
            assert_eq!(json_error(body), expected, "{body}");
        }
        let invalid_utf8 = scan_json(b"[{\"id\":1,\"t\":\"\xff\"}]").unwrap_err();
        // The column given by the JSON library is not the same from one version of it to the next.
        assert!(invalid_utf8.message.contains("invalid unicode code point at line 1 column "));
        let ndjson = scan_ndjson(b"{\"id\":1}\n{\"id\":").unwrap_err();
        assert!(ndjson.message.contains("EOF while parsing a value at line 2 column 6"));
    }

    #[test]
    fn documents_that_are_not_objects_are_refused() {
        for body in ["[null]", "[1]", r#"[[{"id":1}]]"#, r#"[{"id":1},2]"#] {
            assert!(json_error(body).contains("data are neither an object nor a list of objects"), "{body}");
        }
        for body in ["[]", "null", "{\"id\":1}\nnull", "1"] {
            assert!(scan_ndjson(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn spans_delimit_the_documents() {
        let texts = |body: &'static str, scan: Scan| -> Vec<&'static str> {
            scan.spans.iter().map(|span| &body[span.start as usize..span.end as usize]).collect()
        };
        let body = " [ {\"id\":1} ,\n{\"id\" : \"}{\"} ] trailing";
        assert_eq!(texts(body, scan_json(body.as_bytes()).unwrap()), ["{\"id\":1}", "{\"id\" : \"}{\"}"]);
        let body = "\n {\"id\":1} \n";
        assert_eq!(texts(body, scan_json(body.as_bytes()).unwrap()), ["{\"id\":1}"]);
        let body = "{\"a\":1}{\"b\":2}\r\n\r\n{\"c\":3}\n";
        assert_eq!(
            texts(body, scan_ndjson(body.as_bytes()).unwrap()),
            ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"]
        );
        assert!(scan_json(b"[]").unwrap().spans.is_empty());
        assert!(scan_ndjson(b" \n\n").unwrap().spans.is_empty());
    }

    #[test]
    fn what_no_node_can_index_is_noticed() {
        let deep = |depth: usize| format!("[{{\"id\":1,\"t\":{}{}}}]", "[".repeat(depth), "]".repeat(depth));
        for (body, reason) in [
            (r#"[{"id":1,"t":"\ud800"}]"#.to_owned(), "unexpected end of hex escape at line 1 column 8"),
            (r#"[{"id":1,"t":1e999}]"#.to_owned(), "number out of range at line 1 column 5"),
            (deep(128), "recursion limit exceeded at line 1 column 128"),
            (deep(10_000), "recursion limit exceeded at line 1 column 128"),
        ] {
            let scan = scan_json(body.as_bytes()).unwrap();
            assert_eq!(scan.unreadable, [(0, reason.to_owned())]);
        }
        assert_eq!(scan_json(deep(127).as_bytes()).unwrap().unreadable, []);
        let single = deep(10_000);
        assert!(json_error(&single[1..single.len() - 1]).contains("recursion limit exceeded"));
    }

    #[test]
    fn the_first_reserved_name_is_noticed_even_escaped() {
        let scan =
            scan_json(br#"[{"a":{"_miroir_shard":1}},{"\u005fmiroir_shard":2},{"_miroir_x":3}]"#).unwrap();
        assert_eq!(scan.reserved, Some((1, "_miroir_shard".to_owned())));
    }
}
