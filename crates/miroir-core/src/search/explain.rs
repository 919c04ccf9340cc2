//! What can be told of a search before it is made: what kind it is, and what its sender had better know.

use std::collections::BTreeSet;

use serde_json::Value;

use super::plan::{SearchKind, SearchPlan};
use crate::filter::attributes_in_filter;

/// Hits that nodes are asked for together from which a page counts as deep.
const MANY_HITS: usize = 2_000;

/// Something about a search that its sender had better know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// A name for programs.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
}

impl SearchPlan {
    /// How hits are found, in one word.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            SearchKind::Keyword => "keyword",
            SearchKind::Semantic => "semantic",
            SearchKind::Hybrid { .. } => "hybrid",
        }
    }

    /// What is questionable about the search itself, given the settings of its index as the user sees them, and how
    /// many nodes it takes.
    pub fn warnings(&self, settings: &Value, nodes: usize) -> Vec<Warning> {
        let filter: Option<Value> = self.filter().and_then(|filter| serde_json::from_str(filter).ok());
        let filtered = filter.as_ref().map(attributes_in_filter).unwrap_or_default();
        let sort: Vec<String> = self.body.optional("sort").ok().flatten().unwrap_or_default();
        let sorted: BTreeSet<&str> = sort
            .iter()
            .filter_map(|rule| rule.strip_suffix(":asc").or_else(|| rule.strip_suffix(":desc")))
            .filter(|name| !name.starts_with("_geoPoint("))
            .collect();
        let lacks = |name: &str, list: &str| !is_listed(name, &settings[list]);
        let mut warnings = Vec::new();
        for name in filtered.iter().filter(|name| !name.starts_with("_vectors")) {
            if lacks(name, "filterableAttributes") {
                let message = format!(
                    "The filter has a condition on `{name}`, which is not in `filterableAttributes`: the search is refused."
                );
                warnings.push(Warning { code: "attribute_not_filterable", message });
            }
        }
        for name in sorted.into_iter().filter(|name| lacks(name, "sortableAttributes")) {
            let message = format!("`{name}` is not in `sortableAttributes`: the search is refused.");
            warnings.push(Warning { code: "attribute_not_sortable", message });
        }
        let asked_for = self.reach().saturating_mul(nodes);
        if nodes > 1 && asked_for > MANY_HITS {
            let message = format!(
                "The page ends with hit {}: up to {asked_for} hits are asked of {nodes} nodes to find it.",
                self.reach()
            );
            warnings.push(Warning { code: "deep_offset", message });
        }
        if self.kind != SearchKind::Keyword && self.body.raw("vector").is_none() && nodes > 1 {
            let message = format!(
                "Each of the {nodes} nodes embeds the query by itself. With `vector` in the search, none needs to."
            );
            warnings.push(Warning { code: "embedded_by_each_node", message });
        }
        warnings
    }
}

/// Whether a setting that lists attributes, or rules for attributes, allows one.
fn is_listed(name: &str, list: &Value) -> bool {
    let entries = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let deciding = entries.iter().find(|entry| match entry {
        Value::String(pattern) => matches(name, pattern),
        rule => (rule["attributePatterns"].as_array().into_iter().flatten())
            .filter_map(Value::as_str)
            .any(|pattern| matches(name, pattern)),
    });
    deciding.is_some_and(|entry| {
        let filter = &entry["features"]["filter"];
        filter["equality"] != false || filter["comparison"] == true
    })
}

/// Whether a pattern, which may begin or end with `*`, is for an attribute or what it is nested in.
fn matches(name: &str, pattern: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => true,
        (Some(end), Some(_)) => name.contains(end.trim_end_matches('*')),
        (Some(end), None) => name.ends_with(end),
        (None, Some(begin)) => name.starts_with(begin),
        (None, None) => super::projection::is_same_or_inside(name, pattern),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::settings::SearchSettings;
    use super::*;

    #[test]
    fn what_is_questionable_is_said() {
        let settings = json!({
            "filterableAttributes": ["a", { "attributePatterns": ["b*"], "features": { "filter": { "equality": false } } }],
            "sortableAttributes": ["year"],
        });
        let codes = |body: Value, nodes| {
            let plan = SearchPlan::new(body.to_string().as_bytes(), &SearchSettings::default()).unwrap();
            let warnings = plan.warnings(&settings, nodes);
            warnings.iter().map(|warning| warning.code).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(codes(json!({ "filter": "a.x = 1", "sort": ["year:asc", "_geoPoint(1,2):asc"] }), 3), "");
        assert_eq!(codes(json!({ "filter": ["bc = 1"] }), 3), "attribute_not_filterable");
        assert_eq!(codes(json!({ "sort": ["a:asc"] }), 1), "attribute_not_sortable");
        assert_eq!(codes(json!({ "offset": 980 }), 3), "deep_offset");
        assert_eq!(codes(json!({ "offset": 980 }), 1), "");
        let hybrid = json!({ "q": "x", "hybrid": { "embedder": "e" } });
        assert_eq!(codes(hybrid, 2), "embedded_by_each_node");
    }

    #[test]
    fn patterns_match_as_they_read() {
        for (name, pattern) in [("abc", "*"), ("abc", "a*"), ("abc", "*c"), ("abc", "*b*"), ("a.b", "a")] {
            assert!(matches(name, pattern), "{name} {pattern}");
        }
        for (name, pattern) in [("abc", "a"), ("abc", "b*"), ("abc", "*b")] {
            assert!(!matches(name, pattern), "{name} {pattern}");
        }
    }
}
