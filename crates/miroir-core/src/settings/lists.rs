//! The lists of attributes and ranking rules: adding Miroir's entries, removing them, refusing them from users.
//!
//! Hidden fields become filterable by a rule of their own, put first: rules are tried in order, and a user's
//! `*` without filtering would otherwise decide. The rule leaves facet search out, which would index every
//! hidden value as text. Because it is first, every rule number in a node's messages is one too high.

use serde_json::{Map, Value, json};

use super::{DISPLAYED, DISTINCT, FILTERABLE, NodeNeeds, RANKING_RULES, SEARCHABLE, SORTABLE};
use crate::error::ApiError;
use crate::hidden::{INSERTED_AT_FIELD, SHARD_FIELD, TIE_BREAK_RULE, is_reserved};

/// How many rules come before the user's in the nodes' `filterableAttributes`.
pub(crate) const RULES_BEFORE_THE_USERS: u64 = 1;

/// The ranking rules of an index whose user never set any, by version of Meilisearch.
pub fn default_ranking_rules(node_version: (u64, u64)) -> &'static [&'static str] {
    if node_version < (1, 36) {
        &["words", "typo", "proximity", "attribute", "sort", "exactness"]
    } else {
        &["words", "typo", "proximity", "attributeRank", "sort", "wordPosition", "exactness"]
    }
}

fn hidden_filterable_rule() -> Value {
    json!({
        "attributePatterns": [SHARD_FIELD, INSERTED_AT_FIELD],
        "features": {"facetSearch": false, "filter": {"equality": true, "comparison": true}},
    })
}

/// Whether a node's settings are those of an index that Miroir made.
pub fn is_ours(node_settings: &Value) -> bool {
    let rules = node_settings.get(FILTERABLE).and_then(Value::as_array);
    rules.is_some_and(|rules| rules.iter().any(|rule| reserved_name_in_entry(rule).is_some()))
}

/// Adds Miroir's entries to the lists present. A value that is not a list is left to the node to refuse.
pub(super) fn add_hidden(settings: &mut Map<String, Value>, needs: NodeNeeds) {
    let change =
        |settings: &mut Map<String, Value>, name: &str, default: &[&str], add: &dyn Fn(&mut Vec<Value>)| {
            let Some(value) = settings.get_mut(name) else { return };
            if value.is_null() {
                *value = json!(default);
            }
            if let Value::Array(list) = value {
                add(list);
            }
        };
    change(settings, FILTERABLE, &[], &|list| list.insert(0, hidden_filterable_rule()));
    change(settings, SORTABLE, &[], &|list| list.push(json!(INSERTED_AT_FIELD)));
    let default_rules = default_ranking_rules(needs.version);
    change(settings, RANKING_RULES, default_rules, &|list| {
        list.extend(needs.breaks_ties.then(|| json!(TIE_BREAK_RULE)));
    });
}

/// Keeps the ranking rules that nodes are sent in the overlay, where they are needed to add one of Miroir's.
pub(super) fn keep_ranking_rules(
    settings: &Map<String, Value>,
    overlay: &mut Map<String, Value>,
    node_version: (u64, u64),
) {
    let kept = match settings.get(RANKING_RULES) {
        Some(Value::Null) => json!(default_ranking_rules(node_version)),
        Some(rules) if rules.is_array() => rules.clone(),
        _ => return,
    };
    overlay.insert(RANKING_RULES.to_owned(), kept);
}

/// The ranking rules for a node on which documents are about to stand in another order than that of insertion: those
/// last sent, or those it was made with. The defaults of today need not be the ones it has.
pub fn ranking_rules_to_break_ties(
    overlay: &Value,
    user_settings: &Value,
    node_version: (u64, u64),
) -> Value {
    let rules_of = |settings: &Value| settings.get(RANKING_RULES).and_then(Value::as_array).cloned();
    let by_user = rules_of(overlay).or_else(|| rules_of(user_settings));
    let mut rules = by_user
        .unwrap_or_else(|| default_ranking_rules(node_version).iter().map(|rule| json!(rule)).collect());
    rules.push(json!(TIE_BREAK_RULE));
    Value::Array(rules)
}

/// Takes Miroir's entries out of the lists a node shows.
pub(super) fn remove_hidden(settings: &mut Map<String, Value>) {
    for name in [FILTERABLE, SORTABLE, RANKING_RULES] {
        if let Some(Value::Array(list)) = settings.get_mut(name) {
            list.retain(|entry| reserved_name_in_entry(entry).is_none());
        }
    }
}

/// What to keep of the user's displayed attributes: `Some(None)` when everything is displayed, `None` when the
/// value is wrong and the node must say so.
pub(super) fn displayed_to_keep(value: &Value) -> Option<Option<Value>> {
    let Value::Array(list) = value else { return value.is_null().then_some(None) };
    if !list.iter().all(Value::is_string) {
        return None;
    }
    if list.iter().any(|name| name == "*") {
        return Some(None);
    }
    // As nodes do: the first of equal names stays.
    let mut kept: Vec<Value> = Vec::with_capacity(list.len());
    for name in list {
        if !kept.contains(name) {
            kept.push(name.clone());
        }
    }
    Some(Some(Value::Array(kept)))
}

/// Refuses settings that name a field of Miroir's own where a field is named.
pub(super) fn refuse_reserved_names(settings: &Map<String, Value>) -> Result<(), ApiError> {
    for setting in [DISPLAYED, SEARCHABLE, FILTERABLE, SORTABLE, RANKING_RULES, DISTINCT] {
        let entries = match settings.get(setting) {
            Some(Value::Array(list)) => list.as_slice(),
            Some(value) => std::slice::from_ref(value),
            None => continue,
        };
        if let Some(name) = entries.iter().find_map(reserved_name_in_entry) {
            let message =
                format!("`{name}` in `{setting}`: names starting with `_miroir_` are reserved. Remove it.");
            return Err(ApiError::bad_request("miroir_reserved_field", message));
        }
    }
    Ok(())
}

fn reserved_name_in_entry(entry: &Value) -> Option<&str> {
    match entry {
        Value::String(name) => Some(name.as_str()).filter(|name| is_reserved(name)),
        Value::Object(rule) => {
            let patterns = rule.get("attributePatterns")?.as_array()?;
            patterns.iter().filter_map(Value::as_str).find(|name| is_reserved(name))
        }
        _ => None,
    }
}
