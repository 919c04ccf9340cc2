//! Comparing two answers: equal JSON, apart from how long they took, and a difference a person can read.

use serde_json::Value;

use crate::client::Answer;

/// Fields of a search answer that say how it was made and not what was found.
pub const INCIDENTAL_TO_SEARCH: &[&str] = &["processingTimeMs", "requestUid"];
/// Fields of tasks and indexes that depend on the clock or on what else the server has done.
pub const INCIDENTAL_TO_TASKS: &[&str] = &[
    "uid",
    "taskUid",
    "batchUid",
    "enqueuedAt",
    "startedAt",
    "finishedAt",
    "duration",
    "createdAt",
    "updatedAt",
    "lastUpdate",
    "dumpUid",
];

/// Fields of statistics that say how a server stores things, which is its own business.
pub const INCIDENTAL_TO_STATS: &[&str] =
    &["databaseSize", "usedDatabaseSize", "rawDocumentDbSize", "avgDocumentSize", "lastUpdate"];

/// Fields of a search answer that say how much there is.
pub const TOTALS: &[&str] = &["estimatedTotalHits", "totalHits", "totalPages"];
/// Fields of a search answer about facets.
pub const FACETS: &[&str] = &["facetDistribution", "facetStats"];

/// Most differing places shown.
const SHOWN: usize = 8;
/// Most characters shown of a value.
const SHOWN_LENGTH: usize = 200;

/// What differs between two answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Each differing place: path, expected, found.
    pub places: Vec<(String, String, String)>,
}

impl Difference {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether something differs at or below one of these top-level fields.
    pub fn touches(&self, fields: &[&str]) -> bool {
        self.places.iter().any(|(path, _, _)| is_in(path, fields))
    }

    /// The hits differ (or the answer is an error).
    pub fn in_hits(&self) -> bool {
        self.touches(&["hits", "status", "body", "code"])
    }

    /// The totals differ.
    pub fn in_totals(&self) -> bool {
        self.touches(TOTALS)
    }

    /// The facets differ.
    pub fn in_facets(&self) -> bool {
        self.touches(FACETS)
    }
}

/// Whether a place is at or below one of these top-level fields, or of the results of several searches.
pub fn is_in(path: &str, fields: &[&str]) -> bool {
    let inside = path.strip_prefix("results[").and_then(|rest| Some(rest.split_once("].")?.1));
    let path = inside.unwrap_or(path);
    fields.contains(&path.split(['.', '[']).next().unwrap_or_default())
}

impl std::fmt::Display for Difference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (path, expected, found) in self.places.iter().take(SHOWN) {
            writeln!(formatter, "    {path}\n      expected {expected}\n      found    {found}")?;
        }
        if self.places.len() > SHOWN {
            writeln!(formatter, "    … and {} more places", self.places.len() - SHOWN)?;
        }
        Ok(())
    }
}

/// Compares two answers: statuses, then bodies without the named fields (at any depth outside of hits).
pub fn compare_answers(expected: &Answer, found: &Answer, incidental: &[&str]) -> Difference {
    let mut difference = Difference::default();
    if expected.status != found.status {
        let describe = |answer: &Answer| format!("{} {}", answer.status, shortened(&answer.body));
        difference.places.push(("status".to_owned(), describe(expected), describe(found)));
        return difference;
    }
    let (expected, found) = (without(&expected.body, incidental), without(&found.body, incidental));
    compare_values("", &expected, &found, &mut difference);
    difference
}

/// A copy of the value without the named fields. Documents are left alone: a field of theirs may have any name.
pub fn without(value: &Value, names: &[&str]) -> Value {
    match value {
        Value::Object(fields) => {
            let kept =
                fields.iter().filter(|(name, _)| !names.contains(&name.as_str())).map(|(name, value)| {
                    let value = if name == "hits" { value.clone() } else { without(value, names) };
                    (name.clone(), value)
                });
            Value::Object(kept.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| without(item, names)).collect()),
        other => other.clone(),
    }
}

/// Compares two values place by place.
pub fn compare_values(path: &str, expected: &Value, found: &Value, difference: &mut Difference) {
    match (expected, found) {
        (Value::Object(left), Value::Object(right)) => {
            for (name, value) in left {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match right.get(name) {
                    Some(other) => compare_values(&path, value, other, difference),
                    None => difference.places.push((path, shortened(value), "nothing".to_owned())),
                }
            }
            for (name, value) in right.iter().filter(|(name, _)| !left.contains_key(*name)) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                difference.places.push((path, "nothing".to_owned(), shortened(value)));
            }
            // An object has no order, but the values of a facet are shown in theirs.
            if path.starts_with("facetDistribution.")
                && left.len() == right.len()
                && !left.keys().eq(right.keys())
            {
                let keys = |fields: &serde_json::Map<String, Value>| {
                    shortened(&fields.keys().cloned().map(Value::String).collect())
                };
                difference.places.push((format!("{path} (order)"), keys(left), keys(right)));
            }
        }
        (Value::Array(left), Value::Array(right)) => {
            for (position, (one, other)) in left.iter().zip(right).enumerate() {
                compare_values(&format!("{path}[{position}]"), one, other, difference);
            }
            if left.len() != right.len() {
                let place = format!("{path}.length");
                difference.places.push((place, left.len().to_string(), right.len().to_string()));
            }
        }
        (left, right) if left == right => {}
        (left, right) => {
            let (left, right) = where_they_part(&left.to_string(), &right.to_string());
            difference.places.push((path.to_owned(), left, right));
        }
    }
}

/// Two texts from shortly before their first difference on.
fn where_they_part(left: &str, right: &str) -> (String, String) {
    const BEFORE: usize = 30;
    let equal = left.chars().zip(right.chars()).take_while(|(one, other)| one == other).count();
    let skipped = if equal > 2 * BEFORE { equal - BEFORE } else { 0 };
    let from = |text: &str| {
        let start = if skipped > 0 { "…" } else { "" };
        let shown: String = text.chars().skip(skipped).take(SHOWN_LENGTH).collect();
        let end = if text.chars().count() > skipped + SHOWN_LENGTH { "…" } else { "" };
        format!("{start}{shown}{end}")
    };
    (from(left), from(right))
}

fn shortened(value: &Value) -> String {
    where_they_part(&value.to_string(), "").0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(body: Value) -> Answer {
        Answer { status: 200, headers: Vec::new(), body }
    }

    fn difference(expected: Value, found: Value) -> Difference {
        compare_answers(&answer(expected), &answer(found), INCIDENTAL_TO_SEARCH)
    }

    #[test]
    fn incidental_fields_and_the_order_of_fields_do_not_count() {
        let expected = json!({ "hits": [{ "a": 1, "b": 2 }], "processingTimeMs": 1 });
        let found = json!({ "processingTimeMs": 9, "hits": [{ "b": 2, "a": 1 }] });
        assert!(difference(expected, found).is_empty());
    }

    #[test]
    fn a_document_field_named_like_an_incidental_one_counts() {
        let hit = |value: u64| json!({ "hits": [{ "processingTimeMs": value }] });
        assert!(difference(hit(1), hit(2)).in_hits());
    }

    #[test]
    fn the_order_of_hits_and_of_facet_values_counts() {
        assert!(difference(json!({ "hits": [1, 2] }), json!({ "hits": [2, 1] })).in_hits());
        let expected = json!({ "facetDistribution": { "tags": { "a": 1, "b": 1 } } });
        let found = json!({ "facetDistribution": { "tags": { "b": 1, "a": 1 } } });
        assert!(difference(expected, found).in_facets());
    }

    #[test]
    fn a_missing_hit_and_another_status_count() {
        assert!(difference(json!({ "hits": [1, 2] }), json!({ "hits": [1] })).in_hits());
        let failed = Answer { status: 500, headers: Vec::new(), body: json!({}) };
        assert!(compare_answers(&answer(json!({})), &failed, &[]).in_hits());
    }

    #[test]
    fn one_and_one_point_zero_are_different_json() {
        assert!(difference(json!({ "hits": [1] }), json!({ "hits": [1.0] })).in_hits());
    }
}
