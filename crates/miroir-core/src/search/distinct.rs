//! The distinct attribute: of hits that share one of its values, only the best is shown.
//!
//! Each node applies it among its own documents. Hits of different nodes may still share a value, so the merge
//! walks them in final order and drops those that do. For that it needs the attribute in every hit: when the
//! client does not retrieve it, it is asked for all the same and taken out again afterwards.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::normalise::normalise;
use super::projection::is_same_or_inside;
use super::scan::{Cursor, Malformed, unescape};

/// A value of the distinct attribute, as Meilisearch tells values apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum DistinctValue {
    /// The bits of the number: what is stored is an order-preserving form of them.
    Number(u64),
    Text(String),
}

/// The values a hit has for an attribute that may be nested. Empty when it has none, which equals nothing.
pub(super) fn values_of(hit: &[u8], attribute: &str) -> Result<Vec<DistinctValue>, Malformed> {
    let mut values = Vec::new();
    let mut cursor = Cursor::new(hit);
    cursor.begin_object()?;
    while let Some(raw_key) = cursor.next_key()? {
        let at = cursor.at();
        let raw = cursor.value()?;
        let key = unescape(raw_key);
        if !is_same_or_inside(attribute, &key) {
            continue;
        }
        let value: Value = serde_json::from_slice(raw).map_err(|_| Malformed { at })?;
        collect(&value, &key, attribute, &mut values);
    }
    Ok(values)
}

fn collect(value: &Value, path: &str, attribute: &str, values: &mut Vec<DistinctValue>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let path = format!("{path}.{key}");
                if is_same_or_inside(attribute, &path) {
                    collect(value, &path, attribute, values);
                }
            }
        }
        Value::Array(elements) => {
            elements.iter().for_each(|element| collect(element, path, attribute, values));
        }
        _ if path != attribute => {}
        Value::Number(number) => {
            values.extend(number.as_f64().map(|number| DistinctValue::Number(number.to_bits())));
        }
        Value::String(text) if !text.is_empty() => {
            values.push(DistinctValue::Text(normalise(text).into_owned()));
        }
        Value::Bool(flag) => values.push(DistinctValue::Text(flag.to_string())),
        Value::String(_) | Value::Null => {}
    }
}

/// Remembers the values of the hits kept so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    values: HashSet<DistinctValue>,
}

impl Seen {
    /// Whether a hit with these values is to be kept; if so its values are taken.
    pub(super) fn admit(&mut self, values: Vec<DistinctValue>) -> bool {
        if self.has_any(&values) {
            return false;
        }
        self.values.extend(values);
        true
    }

    /// Whether a hit with these values would be dropped.
    pub(super) fn has_any(&self, values: &[DistinctValue]) -> bool {
        values.iter().any(|value| self.values.contains(value))
    }
}

/// Undoes the retrieval of the distinct attribute for hits the client wanted without it.
#[derive(Debug, Clone)]
pub(super) struct Unretrieve {
    attribute: String,
    retrieved: Vec<String>,
    formatted: Option<Vec<String>>,
}

impl Unretrieve {
    /// `None` when the client retrieves the attribute anyway, whole or as part of one of its parents.
    pub(super) fn new(
        attribute: &str,
        retrieved: Option<&Vec<String>>,
        formatted: Option<&Vec<String>>,
    ) -> Option<Self> {
        let retrieved = retrieved?;
        if retrieved.iter().any(|name| is_same_or_inside(attribute, name)) {
            return None;
        }
        Some(Self {
            attribute: attribute.to_owned(),
            retrieved: retrieved.clone(),
            formatted: formatted.cloned(),
        })
    }

    /// The list of attributes to send.
    pub(super) fn with_attribute(&self) -> Vec<String> {
        self.retrieved.iter().chain([&self.attribute]).cloned().collect()
    }

    /// Whether a top-level member of a hit may hold more than the client asked for.
    pub(super) fn concerns(&self, key: &str) -> bool {
        is_same_or_inside(&self.attribute, key)
    }

    /// What the client asked for of such a member: `None` when nothing.
    pub(super) fn reduce(&self, key: &str, raw: &[u8], is_formatted: bool) -> Option<Vec<u8>> {
        let selectors = match (is_formatted, &self.formatted) {
            (true, None) => return Some(raw.to_vec()),
            (true, Some(formatted)) => formatted,
            (false, _) => &self.retrieved,
        };
        let selectors: HashSet<&str> = selectors.iter().map(String::as_str).collect();
        if selectors.contains(key) {
            return Some(raw.to_vec());
        }
        let value: Value = serde_json::from_slice(raw).ok()?;
        let document = Map::from_iter([(key.to_owned(), value)]);
        let mut selected = select(&document, &selectors);
        serde_json::to_vec(&selected.remove(key)?).ok()
    }
}

/// The part of an object that dotted selectors name, looking through arrays, as Meilisearch selects.
///
/// An object or array that a selector goes into stays even if nothing in it is selected, except that an object
/// emptied inside an array is left out.
fn select(object: &Map<String, Value>, selectors: &HashSet<&str>) -> Map<String, Value> {
    let mut selected = Map::new();
    for (key, value) in object {
        if selectors.contains(key.as_str()) {
            selected.insert(key.clone(), value.clone());
            continue;
        }
        let inner: HashSet<&str> = selectors
            .iter()
            .filter_map(|selector| selector.strip_prefix(key.as_str())?.strip_prefix('.'))
            .collect();
        if inner.is_empty() {
            continue;
        }
        match value {
            Value::Object(object) => {
                selected.insert(key.clone(), select(object, &inner).into());
            }
            Value::Array(elements) => {
                selected.insert(key.clone(), select_in_array(elements, &inner).into());
            }
            _ => {}
        }
    }
    selected
}

fn select_in_array(elements: &[Value], selectors: &HashSet<&str>) -> Vec<Value> {
    let select_element = |element: &Value| match element {
        Value::Array(elements) => Some(select_in_array(elements, selectors).into()),
        Value::Object(object) => {
            let selected = select(object, selectors);
            (!selected.is_empty()).then(|| selected.into())
        }
        _ => None,
    };
    elements.iter().filter_map(select_element).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn values(hit: Value, attribute: &str) -> Vec<DistinctValue> {
        values_of(hit.to_string().as_bytes(), attribute).unwrap()
    }

    fn text(text: &str) -> DistinctValue {
        DistinctValue::Text(text.to_owned())
    }

    #[test]
    fn values_are_told_apart_as_facets_are() {
        assert_eq!(values(json!({"a": " Red "}), "a"), vec![text("red")]);
        assert_eq!(
            values(json!({"a": [true, "x", ["y"], 1]}), "a"),
            vec![text("true"), text("x"), text("y"), DistinctValue::Number(1f64.to_bits())]
        );
        assert_eq!(values(json!({"a": 1}), "a"), values(json!({"a": 1.0}), "a"));
        assert_eq!(values(json!({"a": {"b": [{"c": 1}, {"c": "z"}]}}), "a.b.c").len(), 2);
        assert_eq!(values(json!({"a.b": "x"}), "a.b"), vec![text("x")]);
        for nothing in [json!({}), json!({"a": null}), json!({"a": ""}), json!({"a": []}), json!({"ab": 1})] {
            assert_eq!(values(nothing, "a"), vec![]);
        }
    }

    #[test]
    fn a_hit_without_values_is_never_a_duplicate() {
        let mut seen = Seen::default();
        assert!(seen.admit(vec![]) && seen.admit(vec![]));
        assert!(seen.admit(vec![text("x"), text("y")]));
        assert!(!seen.admit(vec![text("z"), text("y")]));
        assert!(seen.admit(vec![text("z")]), "a dropped hit takes no values");
    }

    #[test]
    fn what_was_added_for_the_merge_is_taken_out_again() {
        let retrieved = vec!["a.c".to_owned(), "id".to_owned()];
        let undo = Unretrieve::new("a.b", Some(&retrieved), Some(&retrieved)).unwrap();
        assert_eq!(undo.with_attribute(), ["a.c", "id", "a.b"]);
        let reduce = |value: Value| {
            let reduced = undo.reduce("a", value.to_string().as_bytes(), false)?;
            Some(serde_json::from_slice::<Value>(&reduced).unwrap())
        };
        assert_eq!(reduce(json!({"b": 1, "c": 2})), Some(json!({"c": 2})));
        assert_eq!(reduce(json!({"b": 1})), Some(json!({})));
        assert_eq!(reduce(json!([{"b": 1}, {"c": 2}, 3])), Some(json!([{"c": 2}])));
        assert_eq!(reduce(json!(5)), None);
    }

    #[test]
    fn an_attribute_retrieved_anyway_needs_no_undoing() {
        let list = |name: &str| Some(vec![name.to_owned()]);
        assert!(Unretrieve::new("a.b", list("a").as_ref(), None).is_none());
        assert!(Unretrieve::new("a.b", list("a.b").as_ref(), None).is_none());
        assert!(Unretrieve::new("a.b", None, None).is_none());
        assert!(Unretrieve::new("a", list("a.b").as_ref(), None).is_some());
    }
}
