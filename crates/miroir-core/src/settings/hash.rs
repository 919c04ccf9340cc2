//! One number for the settings of a node, to see whether two nodes hold the same.

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use super::RANKING_RULES;
use crate::hidden::TIE_BREAK_RULE;

/// Settings whose order means nothing.
const UNORDERED: [&str; 7] = [
    "sortableAttributes",
    "stopWords",
    "nonSeparatorTokens",
    "separatorTokens",
    "dictionary",
    "disableOnWords",
    "disableOnAttributes",
];

/// Hash of what a node shows at `GET /settings`: equal for equal settings, whatever the order of names.
///
/// A setting that is empty counts as absent, so that nodes of which one knows a newer setting, unused, agree.
/// The order of `filterableAttributes` counts: the first rule that matches decides. The rule that breaks ties does
/// not: a node has it when it needs it.
pub fn canonical_hash(node_settings: &Value) -> String {
    let mut canonical = node_settings.clone();
    if let Some(settings) = canonical.as_object_mut() {
        settings.retain(|_, value| !is_empty(value));
    }
    normalise("", &mut canonical);
    format!("{:032x}", xxh3_128(canonical.to_string().as_bytes()))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn normalise(name: &str, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.sort_keys();
            map.iter_mut().for_each(|(name, value)| normalise(name, value));
        }
        Value::Array(list) => {
            list.iter_mut().for_each(|value| normalise("", value));
            if name == RANKING_RULES {
                list.retain(|rule| rule != TIE_BREAK_RULE);
            }
            if UNORDERED.contains(&name) {
                list.sort_by_cached_key(Value::to_string);
                list.dedup();
            }
        }
        _ => {}
    }
}
