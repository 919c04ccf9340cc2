//! The names of settings: in JSON, in paths, and those that a reset of everything concerns.

/// Settings every supported version has and shows.
pub(super) const BASE_SETTINGS: [&str; 20] = [
    "displayedAttributes",
    "searchableAttributes",
    "filterableAttributes",
    "sortableAttributes",
    "rankingRules",
    "stopWords",
    "nonSeparatorTokens",
    "separatorTokens",
    "dictionary",
    "synonyms",
    "distinctAttribute",
    "proximityPrecision",
    "typoTolerance",
    "faceting",
    "pagination",
    "embedders",
    "searchCutoffMs",
    "localizedAttributes",
    "facetSearch",
    "prefixSearch",
];

/// Settings that exist but are shown only when an experimental feature is on. Resetting them is always allowed.
pub(super) fn settings_not_shown(node_version: (u64, u64)) -> &'static [&'static str] {
    if node_version < (1, 37) { &["chat", "vectorStore"] } else { &["chat"] }
}

/// The name in JSON of the setting at a path: `ranking-rules` is `rankingRules`.
pub fn camel_case(path_name: &str) -> String {
    let mut name = String::with_capacity(path_name.len());
    let mut after_hyphen = false;
    for character in path_name.chars() {
        match character {
            '-' => after_hyphen = true,
            _ if after_hyphen => {
                name.extend(character.to_uppercase());
                after_hyphen = false;
            }
            _ => name.push(character),
        }
    }
    name
}

/// The path of a setting from its name in JSON: `rankingRules` is at `ranking-rules`.
pub fn kebab_case(json_name: &str) -> String {
    let mut name = String::with_capacity(json_name.len() + 2);
    for character in json_name.chars() {
        if character.is_ascii_uppercase() {
            name.push('-');
        }
        name.push(character.to_ascii_lowercase());
    }
    name
}
