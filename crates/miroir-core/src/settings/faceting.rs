//! Facets sorted by count are merged from every node, so nodes must return more values than the user asks for.
//!
//! Sorted by name, the first N of all nodes contain the first N overall. Sorted by count they need not: a value
//! that is frequent overall may be just below the limit everywhere. So nodes return (practically) all.

use serde_json::{Map, Value, json};

use super::FACETING;

const MAX_VALUES: &str = "maxValuesPerFacet";
const SORT_BY: &str = "sortFacetValuesBy";
/// How many values per facet nodes return when any facet is sorted by count.
const VALUES_FOR_MERGE: u64 = 20_000;
/// Meilisearch's default.
const DEFAULT_MAX_VALUES: u64 = 100;

/// Translates `faceting` and records the user's values in the overlay.
pub(super) fn to_node(faceting: &mut Value, overlay: &mut Map<String, Value>) {
    if faceting.is_null() {
        overlay.remove(FACETING);
        return;
    }
    let Some(change) = faceting.as_object_mut() else { return };
    let mut held = overlay.get(FACETING).and_then(Value::as_object).cloned().unwrap_or_default();
    let is_valid = [(MAX_VALUES, Value::is_u64 as fn(&Value) -> bool), (SORT_BY, Value::is_object)]
        .iter()
        .all(|(name, is_right)| change.get(*name).is_none_or(|value| value.is_null() || is_right(value)));
    if !is_valid {
        return;
    }
    let mut touched = false;
    for name in [MAX_VALUES, SORT_BY] {
        let Some(value) = change.get(name) else { continue };
        touched = true;
        held.remove(name);
        if !value.is_null() {
            held.insert(name.to_owned(), value.clone());
        }
    }
    if !touched {
        return;
    }
    let for_nodes = match held.get(MAX_VALUES).and_then(Value::as_u64) {
        user if sorts_by_count(&held) => json!(user.unwrap_or(0).max(VALUES_FOR_MERGE)),
        Some(user) => json!(user),
        None => Value::Null,
    };
    change.insert(MAX_VALUES.to_owned(), for_nodes);
    overlay.insert(FACETING.to_owned(), Value::Object(held));
}

/// Shows the number of values per facet that the user set, where nodes have more.
pub(super) fn to_user(faceting: &mut Value, overlay: &Value) {
    let Some(held) = overlay.get(FACETING).and_then(Value::as_object) else { return };
    if sorts_by_count(held)
        && let Some(shown) = faceting.get_mut(MAX_VALUES)
    {
        *shown = held.get(MAX_VALUES).cloned().unwrap_or(json!(DEFAULT_MAX_VALUES));
    }
}

fn sorts_by_count(faceting: &Map<String, Value>) -> bool {
    let sorts = faceting.get(SORT_BY).and_then(Value::as_object);
    sorts.is_some_and(|sorts| sorts.values().any(|order| order == "count"))
}
