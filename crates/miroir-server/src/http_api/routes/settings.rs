//! The settings that have a route of their own under `/indexes/{uid}/settings/`. Miroir serves them all in one way,
//! also those that are newer than this list: which there are is for the nodes to say.

/// A setting with a route.
pub struct Setting {
    /// Its name in the path.
    pub name: &'static str,
    /// The verb that changes it.
    pub verb: &'static str,
    /// The first version of Meilisearch that has it.
    pub since: &'static str,
    /// The first version that has it no more.
    pub until: Option<&'static str>,
}

const fn put(name: &'static str) -> Setting {
    Setting { name, verb: "PUT", since: "1.21", until: None }
}

const fn patch(name: &'static str) -> Setting {
    Setting { name, verb: "PATCH", since: "1.21", until: None }
}

/// The settings known of Meilisearch 1.21 to 1.50.
pub static SETTINGS: [Setting; 23] = [
    patch("chat"),
    put("dictionary"),
    put("displayed-attributes"),
    put("distinct-attribute"),
    patch("embedders"),
    put("facet-search"),
    patch("faceting"),
    put("filterable-attributes"),
    Setting { since: "1.39", ..put("foreign-keys") },
    put("localized-attributes"),
    put("non-separator-tokens"),
    patch("pagination"),
    put("prefix-search"),
    put("proximity-precision"),
    put("ranking-rules"),
    put("search-cutoff-ms"),
    put("searchable-attributes"),
    put("separator-tokens"),
    put("sortable-attributes"),
    put("stop-words"),
    put("synonyms"),
    patch("typo-tolerance"),
    Setting { until: Some("1.37"), ..patch("vector-store") },
];
