//! What a search needs to know of an index, read once from the settings as the user sees them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

/// Order of the values of one facet in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FacetOrder {
    /// By value.
    #[default]
    Alpha,
    /// Most frequent first.
    Count,
}

/// When the distance of vectors decides in a search by vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VectorRank {
    /// Before all else.
    #[default]
    First,
    /// After rules that sort by an attribute.
    AfterOthers,
    /// No ranking rule stands for it.
    Never,
}

impl VectorRank {
    /// The distance takes the place of the first rule about words.
    fn of_rules(rules: &Value) -> Self {
        let rules: Vec<&str> = rules.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let sorts = |rule: &str| rule.ends_with(":asc") || rule.ends_with(":desc");
        match rules.iter().position(|rule| *rule != "sort" && !sorts(rule)) {
            _ if rules.is_empty() => Self::First,
            None => Self::Never,
            Some(place) if rules.iter().take(place).any(|rule| sorts(rule)) => Self::AfterOthers,
            Some(_) => Self::First,
        }
    }
}

/// The settings of an index that shape its search answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchSettings {
    /// Attributes that may be shown; `None` when all may (`["*"]`).
    pub displayed: Option<Arc<[String]>>,
    /// The attribute of which no two hits may share a value.
    pub distinct: Option<String>,
    /// How many hits can be reached by any page.
    pub max_total_hits: usize,
    /// How many values of one facet are shown.
    pub max_values_per_facet: usize,
    /// Orders given for some facets; the key `*` is the default.
    pub facet_order: Arc<HashMap<String, FacetOrder>>,
    /// Not every node holds the whole index, so nodes list more facet values than the user wants.
    pub is_split: bool,
    /// Words that do not count.
    pub stop_words: Arc<HashSet<String>>,
    /// Whether texts are cut into words as they are without any setting.
    pub has_default_words: bool,
    /// What nodes call the index; `None` when that is what clients call it.
    pub node_uid: Option<Arc<str>>,
    /// When the distance of vectors decides.
    pub vector_rank: VectorRank,
}

/// Settings that change where words begin and end.
const WORD_SETTINGS: [&str; 4] =
    ["separatorTokens", "nonSeparatorTokens", "dictionary", "localizedAttributes"];

impl Default for SearchSettings {
    fn default() -> Self {
        Self {
            displayed: None,
            distinct: None,
            max_total_hits: 1000,
            max_values_per_facet: 100,
            facet_order: Arc::default(),
            is_split: true,
            stop_words: Arc::default(),
            has_default_words: true,
            node_uid: None,
            vector_rank: VectorRank::default(),
        }
    }
}

impl SearchSettings {
    /// Reads the JSON that `GET /indexes/{uid}/settings` shows. What is absent or `null` has Meilisearch's default.
    pub fn from_settings(view: &Value) -> Self {
        let defaults = Self::default();
        let size = |value: &Value| value.as_u64().map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        let facet_order = view["faceting"]["sortFacetValuesBy"].as_object().map(|orders| {
            let order = |value: &Value| match value.as_str() {
                Some("count") => FacetOrder::Count,
                _ => FacetOrder::Alpha,
            };
            orders.iter().map(|(name, value)| (name.clone(), order(value))).collect()
        });
        Self {
            displayed: view["displayedAttributes"].as_array().and_then(|names| {
                let names: Vec<String> =
                    names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
                (!names.iter().any(|name| name == "*")).then(|| names.into())
            }),
            distinct: view["distinctAttribute"].as_str().map(str::to_owned),
            max_total_hits: size(&view["pagination"]["maxTotalHits"]).unwrap_or(defaults.max_total_hits),
            max_values_per_facet: size(&view["faceting"]["maxValuesPerFacet"])
                .unwrap_or(defaults.max_values_per_facet),
            facet_order: Arc::new(facet_order.unwrap_or_default()),
            is_split: defaults.is_split,
            stop_words: Arc::new(
                view["stopWords"]
                    .as_array()
                    .map(|words| words.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                    .unwrap_or_default(),
            ),
            has_default_words: WORD_SETTINGS
                .iter()
                .all(|name| view[name].as_array().is_none_or(Vec::is_empty)),
            node_uid: None,
            vector_rank: VectorRank::of_rules(&view["rankingRules"]),
        }
    }

    /// The order of a facet that was asked for by this name.
    pub fn order_of(&self, facet: &str) -> FacetOrder {
        self.facet_order.get(facet).or_else(|| self.facet_order.get("*")).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_settings_are_the_defaults() {
        assert_eq!(SearchSettings::from_settings(&json!({})), SearchSettings::default());
        let shown = json!({ "displayedAttributes": ["*"], "distinctAttribute": null, "pagination": null });
        assert_eq!(SearchSettings::from_settings(&shown), SearchSettings::default());
    }

    #[test]
    fn distance_takes_the_place_of_the_first_rule_about_words() {
        let rank = |rules: Value| VectorRank::of_rules(&rules);
        assert_eq!(rank(json!(null)), VectorRank::First);
        assert_eq!(rank(json!(["sort", "typo", "year:asc"])), VectorRank::First);
        assert_eq!(rank(json!(["year:asc", "words"])), VectorRank::AfterOthers);
        assert_eq!(rank(json!(["sort", "year:desc"])), VectorRank::Never);
    }

    #[test]
    fn every_setting_is_read() {
        let settings = SearchSettings::from_settings(&json!({
            "displayedAttributes": ["title", "id"],
            "distinctAttribute": "sku",
            "pagination": { "maxTotalHits": 12 },
            "faceting": { "maxValuesPerFacet": 3, "sortFacetValuesBy": { "*": "count", "genre": "alpha" } },
        }));
        assert_eq!(settings.displayed.as_deref(), Some(&["title".to_owned(), "id".to_owned()][..]));
        assert_eq!(settings.distinct.as_deref(), Some("sku"));
        assert_eq!((settings.max_total_hits, settings.max_values_per_facet), (12, 3));
        assert_eq!(settings.order_of("genre"), FacetOrder::Alpha);
        assert_eq!(settings.order_of("year"), FacetOrder::Count);
    }
}
