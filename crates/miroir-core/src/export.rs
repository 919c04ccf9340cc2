//! An export to another server: what a client asks for, and how its task shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::access::matches;
use crate::settings::redact;

/// Longest body that is sent, when the client does not say.
const DEFAULT_PAYLOAD: u64 = 20 * 1024 * 1024;
/// Units of size, in the order of their length.
const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Export {
    /// Where the other server is.
    pub url: String,
    /// What it asks for.
    pub api_key: Option<String>,
    payload_bytes: Option<u64>,
    indexes: BTreeMap<String, IndexExport>,
}

/// How indexes are exported.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IndexExport {
    /// Which of their documents.
    #[serde(default)]
    pub filter: Option<Value>,
    /// Their settings as well where the other server has such an index.
    #[serde(default)]
    pub override_settings: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Body {
    #[serde(default)]
    url: String,
    #[serde(default)]
    api_key: Option<String>,
    #[serde(default)]
    payload_size: Option<Value>,
    #[serde(default)]
    indexes: Option<BTreeMap<String, Map<String, Value>>>,
}

impl Export {
    /// Reads a request; `None` for one that a node is to find fault with.
    pub fn parse(body: &[u8]) -> Option<Self> {
        // A list of its fields would be taken for the object.
        let fields: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let body = serde_json::from_value(Value::Object(fields)).ok()?;
        let Body { url, api_key, payload_size, indexes } = body;
        let payload_bytes = match payload_size {
            None => None,
            Some(Value::String(text)) => Some(parse_size(&text)?),
            Some(number) => Some(number.as_u64()?),
        };
        let mut exports = BTreeMap::new();
        for (pattern, export) in indexes.unwrap_or_else(|| BTreeMap::from([("*".to_owned(), Map::new())])) {
            exports.insert(pattern, serde_json::from_value(Value::Object(export)).ok()?);
        }
        let indexes: BTreeMap<String, IndexExport> = exports;
        indexes.keys().all(|pattern| is_pattern(pattern)).then_some(Self {
            url,
            api_key,
            payload_bytes,
            indexes,
        })
    }

    /// The request to send to a node for its error: what is wrong with it comes first. Should a newer node find nothing
    /// wrong with that, a number is no address.
    pub fn spoilt(body: &[u8]) -> Vec<u8> {
        match serde_json::from_slice::<Map<String, Value>>(body) {
            Ok(mut fields) => {
                if fields.get("url").is_none_or(Value::is_string) {
                    fields.shift_remove("url");
                    fields.insert("url".to_owned(), json!(0));
                }
                Value::Object(fields).to_string().into_bytes()
            }
            Err(_) => body.to_vec(),
        }
    }

    /// How an index is exported, if it is.
    pub fn of_index(&self, uid: &str) -> Option<&IndexExport> {
        self.indexes.iter().find(|(pattern, _)| matches(pattern, uid)).map(|(_, export)| export)
    }

    /// Longest body to send, as long as one document is not longer.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes.unwrap_or(DEFAULT_PAYLOAD)
    }

    /// The task's `details` before the export.
    pub fn details(&self) -> Value {
        let shown = |(pattern, export): (&String, &IndexExport)| (pattern.clone(), json!(export));
        self.details_of(self.indexes.iter().map(shown).collect())
    }

    /// The task's `details` when so many documents of each index have been exported.
    pub fn details_when_done(&self, documents: &BTreeMap<String, u64>) -> Value {
        let shown = |(uid, documents): (&String, &u64)| {
            let mut index = json!(self.of_index(uid).cloned().unwrap_or_default());
            // Written like this by Meilisearch.
            index["matched_documents"] = json!(documents);
            (uid.clone(), index)
        };
        self.details_of(documents.iter().map(shown).collect())
    }

    fn details_of(&self, indexes: Map<String, Value>) -> Value {
        let mut details = Map::from_iter([("url".to_owned(), json!(self.url))]);
        details.extend(self.api_key.as_deref().map(|key| ("apiKey".to_owned(), json!(redact(key)))));
        details.extend(self.payload_bytes.map(|bytes| ("payloadSize".to_owned(), json!(show_size(bytes)))));
        details.insert("indexes".to_owned(), Value::Object(indexes));
        Value::Object(details)
    }
}

/// A name, or the beginning of names and `*`.
fn is_pattern(pattern: &str) -> bool {
    let name = pattern.strip_suffix('*').unwrap_or(pattern);
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !pattern.is_empty() && pattern.len() <= 512 && name.bytes().all(is_allowed)
}

/// A size such as `24MiB` or `1.5 gb`.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end =
        text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let (number, unit): (f64, &str) = (number.parse().ok()?, unit.trim());
    let is_named = |name: &str| {
        let short = if name.len() > 1 { name.strip_suffix('B') } else { None };
        unit.eq_ignore_ascii_case(name) || short.is_some_and(|short| unit.eq_ignore_ascii_case(short))
    };
    let (_, bytes) =
        UNITS.into_iter().find(|(name, _)| (unit.is_empty() && *name == "B") || is_named(name))?;
    let size = number * bytes as f64;
    (size.is_finite() && size <= u64::MAX as f64).then_some(size as u64)
}

/// A size in the longest unit that it has at least one of.
fn show_size(bytes: u64) -> String {
    let fitting = UNITS.into_iter().rev().find(|(_, unit)| bytes >= *unit);
    let (name, unit) = fitting.unwrap_or(("B", 1));
    format!("{} {name}", bytes as f64 / unit as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes, shown) in [
            ("10 MiB", 10 << 20, "10 MiB"),
            ("24MiB", 24 << 20, "24 MiB"),
            ("1.5 kb", 1_500, "1.46484375 KiB"),
            ("7", 7, "7 B"),
            ("7 b", 7, "7 B"),
            ("2m", 2_000_000, "1.9073486328125 MiB"),
            ("1000", 1_000, "1 KB"),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(show_size(bytes), shown);
        }
        for wrong in ["", "x", "1 x", "-1", "1.2.3 B", "B"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
        assert_eq!(show_size(123_456), "120.5625 KiB");
        assert_eq!(show_size(0), "0 B");
    }

    #[test]
    fn the_first_pattern_that_fits_decides() {
        let body = json!({
            "url": "http://other", "apiKey": "a-key-of-20-letters.", "payloadSize": 123_456,
            "indexes": { "film*": { "filter": "a = 1" }, "films": { "overrideSettings": true } },
        });
        let export = Export::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(export.of_index("films").unwrap().filter, Some(json!("a = 1")));
        assert_eq!(export.of_index("books"), None);
        assert_eq!(
            export.details_when_done(&BTreeMap::from([("films".to_owned(), 7)])),
            json!({
                "url": "http://other", "apiKey": "a-kXXXXX...", "payloadSize": "120.5625 KiB",
                "indexes": { "films": { "filter": "a = 1", "overrideSettings": false, "matched_documents": 7 } },
            })
        );
        let all = Export::parse(br#"{"url":"http://other","indexes":null}"#).unwrap();
        assert_eq!(all.details()["indexes"], json!({ "*": { "filter": null, "overrideSettings": false } }));
    }

    #[test]
    fn what_is_wrong_is_left_to_a_node() {
        for wrong in [
            r#"[]"#,
            r#"["http://other"]"#,
            r#"{"indexes":{"a":[]}}"#,
            r#"{"url":1}"#,
            r#"{"payloadSize":-1}"#,
            r#"{"payloadSize":"x"}"#,
            r#"{"indexes":{"no spaces":{}}}"#,
            r#"{"indexes":{"a":{"overrideSettings":null}}}"#,
            r#"{"later":1}"#,
        ] {
            assert_eq!(Export::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(Export::spoilt(br#"{"url":"u","later":1}"#), br#"{"later":1,"url":0}"#);
    }
}
