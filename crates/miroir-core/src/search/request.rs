//! A client's search body: read only as far as planning needs, written back with as little change as possible.
//!
//! A typed structure would drop what it does not know, reorder what it does, and have an opinion on what is
//! wrong. Here every parameter stays the client's own text. A parameter that planning needs and cannot read means
//! that a node would refuse the body too, so the body is sent to one as it is and the refusal is the answer.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::scan::write_json;

/// The request is not one that Miroir can plan: send it to one node unchanged, whose error is the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request is malformed and a node should say how")]
pub struct ForwardRaw;

/// The parameters of a search, in the client's order.
#[derive(Debug, Clone)]
pub(super) struct ClientBody {
    members: Vec<(String, Box<RawValue>)>,
}

impl ClientBody {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ForwardRaw> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Vec<(String, Box<RawValue>)>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Self::Value = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    // The last of several equal keys counts, at the place of the first.
                    match members.iter_mut().find(|(known, _)| *known == key) {
                        Some((_, known_value)) => *known_value = value,
                        None => members.push((key, value)),
                    }
                }
                Ok(members)
            }
        }

        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let members = deserializer.deserialize_map(MembersVisitor).map_err(|_| ForwardRaw)?;
        deserializer.end().map_err(|_| ForwardRaw)?;
        Ok(Self { members })
    }

    /// The names of all parameters.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(name, _)| name.as_str())
    }

    /// The text of a parameter; `None` when absent or `null`.
    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        let (_, value) = self.members.iter().find(|(key, _)| key == name)?;
        Some(value.get()).filter(|text| *text != "null")
    }

    /// A parameter that may be `null`, which is then as if absent.
    pub(super) fn optional<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ForwardRaw> {
        self.raw(name).map(serde_json::from_str).transpose().map_err(|_| ForwardRaw)
    }

    /// A parameter that has a default and may be absent, but not `null`.
    pub(super) fn or_default<T: DeserializeOwned>(&self, name: &str, default: T) -> Result<T, ForwardRaw> {
        match self.members.iter().find(|(key, _)| key == name) {
            Some((_, value)) => serde_json::from_str(value.get()).map_err(|_| ForwardRaw),
            None => Ok(default),
        }
    }

    /// The same number for bodies that differ in these parameters only.
    pub(super) fn hash_without(&self, names: &[&str]) -> u64 {
        let counted = self.members.iter().filter(|(name, _)| !names.contains(&name.as_str()));
        counted.fold(0, |hash, (name, value)| {
            xxh3_64_with_seed(value.get().as_bytes(), xxh3_64_with_seed(name.as_bytes(), hash))
        })
    }

    /// Writes the body with some parameters set or removed, all others and their order unchanged.
    pub(super) fn write_with(&self, changes: &Changes) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.push(b'{');
        let mut write = |name: &str, text: &str| {
            if out.len() > 1 {
                out.push(b',');
            }
            write_json(&mut out, name);
            out.push(b':');
            out.extend_from_slice(text.as_bytes());
        };
        for (name, value) in &self.members {
            match changes.of(name) {
                Some(Change::Set(text)) => write(name, text),
                Some(Change::Remove) => {}
                None => write(name, value.get()),
            }
        }
        for (name, change) in &changes.list {
            let is_new = !self.members.iter().any(|(key, _)| key == name);
            if let (true, Change::Set(text)) = (is_new, change) {
                write(name, text);
            }
        }
        out.push(b'}');
        out
    }
}

/// What becomes of one parameter.
#[derive(Debug, Clone)]
enum Change {
    Set(Cow<'static, str>),
    Remove,
}

/// Parameters to set or remove when a body is written.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes {
    list: Vec<(&'static str, Change)>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn of(&self, name: &str) -> Option<&Change> {
        // The newest change to a parameter is the one that counts.
        self.list.iter().rev().find(|(key, _)| *key == name).map(|(_, change)| change)
    }

    fn push(&mut self, name: &'static str, change: Change) {
        self.list.retain(|(key, _)| *key != name);
        self.list.push((name, change));
    }

    /// Sets a parameter to JSON text.
    pub(super) fn set(&mut self, name: &'static str, json: impl Into<Cow<'static, str>>) {
        self.push(name, Change::Set(json.into()));
    }

    /// Sets a parameter to a list of strings.
    pub(super) fn set_list(&mut self, name: &'static str, list: &[String]) {
        let mut text = Vec::new();
        write_json(&mut text, list);
        self.set(name, String::from_utf8_lossy(&text).into_owned());
    }

    pub(super) fn remove(&mut self, name: &'static str) {
        self.push(name, Change::Remove);
    }
}

/// A filter that also asks for the shards given: an element more of the outermost "and" of the client's filter.
/// `None` when the client's filter is of a type no node accepts, so that the node's own error comes back.
pub(super) fn filter_with_shards(client_filter: Option<&str>, shard_filter: &str) -> Option<String> {
    let mut shard_json = Vec::new();
    write_json(&mut shard_json, shard_filter);
    let shard_json = String::from_utf8_lossy(&shard_json).into_owned();
    let Some(client_filter) = client_filter.map(str::trim) else {
        return Some(format!("[{shard_json}]"));
    };
    if let Some(inside) = client_filter.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return Some(match inside.trim() {
            "" => format!("[{shard_json}]"),
            inside => format!("[{inside},{shard_json}]"),
        });
    }
    let is_string = client_filter.starts_with('"');
    match serde_json::from_str::<String>(client_filter) {
        Ok(expression) if expression.trim().is_empty() => Some(format!("[{shard_json}]")),
        _ if is_string => Some(format!("[{client_filter},{shard_json}]")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_keeps_its_text_and_place() {
        let body = ClientBody::parse(br#"{"q": "x", "limit":1e1,"new" : {"a":[ 1 ]}, "q":"y"}"#).unwrap();
        let mut changes = Changes::default();
        assert_eq!(body.write_with(&changes), br#"{"q":"y","limit":1e1,"new":{"a":[ 1 ]}}"#);
        changes.set("offset", "0");
        changes.set("limit", "7");
        changes.remove("q");
        assert_eq!(body.write_with(&changes), br#"{"limit":7,"new":{"a":[ 1 ]},"offset":0}"#);
    }

    #[test]
    fn what_is_not_an_object_is_forwarded() {
        for body in ["", "null", "[]", "{", "{} x", "{\"q\":}"] {
            assert!(ClientBody::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn null_is_absent_only_where_it_may_be() {
        let body = ClientBody::parse(br#"{"page":null,"limit":null}"#).unwrap();
        assert_eq!(body.optional::<usize>("page"), Ok(None));
        assert_eq!(body.or_default::<usize>("limit", 20), Err(ForwardRaw));
        assert_eq!(body.or_default::<usize>("offset", 0), Ok(0));
    }

    #[test]
    fn the_shard_filter_is_one_more_conjunct() {
        let with = |filter| filter_with_shards(filter, "s IN [\"!\"]");
        assert_eq!(with(None).as_deref(), Some(r#"["s IN [\"!\"]"]"#));
        assert_eq!(
            with(Some(r#""a = 1 OR b = 2""#)).as_deref(),
            Some(r#"["a = 1 OR b = 2","s IN [\"!\"]"]"#)
        );
        assert_eq!(with(Some(r#"[["a","b"]]"#)).as_deref(), Some(r#"[["a","b"],"s IN [\"!\"]"]"#));
        assert_eq!(with(Some("[ ]")).as_deref(), Some(r#"["s IN [\"!\"]"]"#));
        assert_eq!(with(Some(r#"" ""#)).as_deref(), Some(r#"["s IN [\"!\"]"]"#));
        assert_eq!(with(Some("12")), None);
    }
}
