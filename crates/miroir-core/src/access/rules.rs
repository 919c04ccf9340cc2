//! The search rules of a tenant token: which indexes may be searched, and a filter for each that no search gets around.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::matches;

/// The search rules of a tenant token: a list of patterns, or patterns with what applies to each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SearchRules {
    /// Indexes that may be searched without restriction.
    List(Vec<String>),
    /// Indexes with their restriction.
    Map(HashMap<String, Option<IndexRules>>),
}

/// The restriction of the searches of one index.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IndexRules {
    /// A filter in any form that a search could have it in.
    #[serde(default)]
    pub filter: Option<Value>,
}

impl SearchRules {
    /// Whether an index may be searched.
    pub fn allow(&self, uid: &str) -> bool {
        match self {
            Self::List(patterns) => patterns.iter().any(|pattern| matches(pattern, uid)),
            Self::Map(rules) => rules.keys().any(|pattern| matches(pattern, uid)),
        }
    }

    /// The patterns, sorted.
    pub fn patterns(&self) -> Vec<String> {
        let mut patterns: Vec<String> = match self {
            Self::List(patterns) => patterns.clone(),
            Self::Map(rules) => rules.keys().cloned().collect(),
        };
        patterns.sort_unstable();
        patterns.dedup();
        patterns
    }

    /// The filter for an index: that of its own name, or of the longest pattern.
    pub fn filter(&self, uid: &str) -> Option<&Value> {
        let Self::Map(rules) = self else { return None };
        let matching = rules.iter().filter(|(pattern, _)| matches(pattern, uid));
        let (_, rule) = matching.max_by_key(|(pattern, _)| (!pattern.ends_with('*'), pattern.len()))?;
        rule.as_ref()?.filter.as_ref()
    }
}

/// A filter that lets through what both do. Each stays an element of its own in a list, whose elements are all
/// demanded and parsed one by one, so that none can break out of its place.
pub fn restricted(filter: Option<Value>, rule: &Value) -> Value {
    let list = |filter: Value| match filter {
        Value::Array(elements) => elements,
        other => vec![other],
    };
    match filter {
        None | Some(Value::Null) => rule.clone(),
        Some(filter) => Value::Array([list(filter), list(rule.clone())].concat()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(value: Value) -> SearchRules {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_nearest_rule_applies() {
        let rules = rules(json!({
            "*": { "filter": "a = 1" }, "shop_*": { "filter": "b = 2" }, "shop_1": {}, "open": null,
        }));
        assert_eq!(rules.filter("movies"), Some(&json!("a = 1")));
        assert_eq!(rules.filter("shop_2"), Some(&json!("b = 2")));
        assert_eq!(rules.filter("shop_1"), None);
        assert_eq!(rules.filter("open"), None);
        assert!(rules.allow("anything"));
    }

    #[test]
    fn a_list_only_names_indexes() {
        let rules = rules(json!(["movies", "shop_*"]));
        assert!(rules.allow("movies") && rules.allow("shop_") && !rules.allow("shops"));
        assert_eq!(rules.filter("movies"), None);
    }

    #[test]
    fn both_filters_are_demanded() {
        let rule = json!("user = 7");
        assert_eq!(restricted(None, &rule), rule);
        assert_eq!(
            restricted(Some(json!("a = 1 OR user = 8")), &rule),
            json!(["a = 1 OR user = 8", "user = 7"])
        );
        assert_eq!(
            restricted(Some(json!([["a = 1", "b = 2"], "c = 3"])), &json!(["user = 7", ["d = 1", "e = 2"]])),
            json!([["a = 1", "b = 2"], "c = 3", "user = 7", ["d = 1", "e = 2"]])
        );
    }
}
