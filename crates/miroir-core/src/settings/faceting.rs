//! Where facets are merged from several nodes, nodes return more values than the user asks for.
//!
//! Meilisearch lists numbers by size when more documents match than a threshold, else by their text. A node
//! with few of the matching documents would cut its numbers by text where the whole is cut by size, so nodes may
//! list as many values as the threshold: below it every value of a facet with one value a document, above it
//! the first values by size, which contain the first overall.
//!
//! Sorted by count, the first values of all nodes need not contain the first overall: a value that is frequent
//! overall may be just below the limit everywhere. Then nodes return (practically) all.
//!
//! What the user set is only in the overlay, and what the user sees is taken from there.

use serde_json::{Map, Value, json};

use super::FACETING;

const MAX_VALUES: &str = "maxValuesPerFacet";
const SORT_BY: &str = "sortFacetValuesBy";
/// How many values per facet nodes return at least: as many as documents may match to be listed by text.
pub(super) const VALUES_FOR_MERGE: u64 = 3000;
/// How many when any facet is sorted by count.
const VALUES_FOR_MERGE_BY_COUNT: u64 = 20_000;
/// Meilisearch's default.
const DEFAULT_MAX_VALUES: u64 = 100;

/// Translates `faceting` and records the user's values in the overlay.
pub(super) fn to_node(faceting: &mut Value, overlay: &mut Map<String, Value>, merges: bool) {
    if faceting.is_null() {
        overlay.remove(FACETING);
        let max_values = merges.then_some(VALUES_FOR_MERGE);
        *faceting = json!({ MAX_VALUES: max_values, SORT_BY: null });
        return;
    }
    let Some(change) = faceting.as_object_mut() else { return };
    let is_valid = [(MAX_VALUES, Value::is_u64 as fn(&Value) -> bool), (SORT_BY, Value::is_object)]
        .iter()
        .all(|(name, is_right)| change.get(*name).is_none_or(|value| value.is_null() || is_right(value)));
    if !is_valid {
        return;
    }
    let mut held = overlay.get(FACETING).and_then(Value::as_object).cloned().unwrap_or_default();
    for name in [MAX_VALUES, SORT_BY] {
        let Some(value) = change.get(name) else { continue };
        held.remove(name);
        if !value.is_null() {
            held.insert(name.to_owned(), value.clone());
        }
    }
    let least = match merges {
        false => 0,
        true if sorts_by_count(&held) => VALUES_FOR_MERGE_BY_COUNT,
        true => VALUES_FOR_MERGE,
    };
    let by_user = held.get(MAX_VALUES).and_then(Value::as_u64).unwrap_or(DEFAULT_MAX_VALUES);
    change.insert(MAX_VALUES.to_owned(), json!(by_user.max(least)));
    if held.is_empty() {
        overlay.remove(FACETING);
    } else {
        overlay.insert(FACETING.to_owned(), Value::Object(held));
    }
}

/// Shows the number of values per facet that the user set, where nodes have more.
pub(super) fn to_user(faceting: &mut Value, overlay: &Value) {
    if let Some(shown) = faceting.get_mut(MAX_VALUES) {
        let by_user = overlay.get(FACETING).and_then(|held| held.get(MAX_VALUES));
        *shown = by_user.cloned().unwrap_or(json!(DEFAULT_MAX_VALUES));
    }
}

fn sorts_by_count(faceting: &Map<String, Value>) -> bool {
    let sorts = faceting.get(SORT_BY).and_then(Value::as_object);
    sorts.is_some_and(|sorts| sorts.values().any(|order| order == "count"))
}
