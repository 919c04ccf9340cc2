//! The `details` of a settings task: what was set, in Meilisearch's normal form, without secrets.

use serde_json::{Map, Value, json};

use super::{DISPLAYED, EMBEDDERS, FILTERABLE, SEARCHABLE, SORTABLE, embedders};

/// Settings that are sets: shown sorted, without repetition.
const SETS: [&str; 5] = [SORTABLE, "stopWords", "nonSeparatorTokens", "separatorTokens", "dictionary"];

/// The details of a task that sets `requested`, as Meilisearch would show them.
pub(super) fn task_details(requested: &Map<String, Value>) -> Value {
    let mut details = requested.clone();
    for (name, value) in &mut details {
        match name.as_str() {
            DISPLAYED | SEARCHABLE if value.is_null() => *value = json!(["*"]),
            FILTERABLE => complete_rules(value),
            EMBEDDERS => embedders::redact_secrets(value),
            "typoTolerance" => {
                for set in ["disableOnWords", "disableOnAttributes"] {
                    value.get_mut(set).map(sort_set);
                }
            }
            set if SETS.contains(&set) => sort_set(value),
            _ => {}
        }
    }
    Value::Object(details)
}

fn sort_set(value: &mut Value) {
    let Some(list) = value.as_array_mut() else { return };
    if list.iter().all(Value::is_string) {
        list.sort_by(|left, right| left.as_str().cmp(&right.as_str()));
        list.dedup();
    }
}

/// Rules given as objects are shown with the features that they left to their defaults.
fn complete_rules(value: &mut Value) {
    let Some(rules) = value.as_array_mut() else { return };
    for rule in rules.iter_mut().filter_map(Value::as_object_mut) {
        let default = json!({"facetSearch": false, "filter": {"equality": true, "comparison": false}});
        let given = rule.remove("features").unwrap_or(Value::Null);
        rule.insert("features".to_owned(), merged(default, given));
    }
}

fn merged(default: Value, given: Value) -> Value {
    match (default, given) {
        (default, Value::Null) => default,
        (Value::Object(mut default), Value::Object(given)) => {
            for (name, value) in given {
                let below = default.remove(&name).unwrap_or(Value::Null);
                default.insert(name, merged(below, value));
            }
            Value::Object(default)
        }
        (_, given) => given,
    }
}
