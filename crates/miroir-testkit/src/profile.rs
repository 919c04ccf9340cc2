//! The settings an index is compared under.

use serde_json::{Value, json};

use crate::corpus::Corpus;

/// A way to set up an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Everything searchable (`["*"]`), default ranking rules: what most people have.
    Default,
    /// Searchable attributes in order, displayed attributes, a custom ranking rule, synonyms, stop words, facet
    /// order by count.
    Explicit,
}

impl Profile {
    /// As the fidelity table names it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Explicit => "explicit",
        }
    }

    /// The body of `PATCH /indexes/{uid}/settings`.
    pub fn settings(self, corpus: &Corpus) -> Value {
        let mut filterable: Vec<&str> =
            [corpus.number_fields, corpus.category_fields, corpus.distinct_fields].concat();
        let mut sortable: Vec<&str> = corpus.sort_fields.to_vec();
        if corpus.has_geo {
            filterable.push("_geo");
            sortable.push("_geo");
        }
        filterable.sort_unstable();
        filterable.dedup();
        // A loaded machine must not cut a search short: the answer would then depend on the clock.
        let mut settings = json!({
            "filterableAttributes": filterable,
            "sortableAttributes": sortable,
            "searchCutoffMs": 30_000,
        });
        if corpus.vector_dimensions > 0 {
            settings["embedders"] =
                json!({ "manual": { "source": "userProvided", "dimensions": corpus.vector_dimensions } });
        }
        if self == Self::Explicit {
            settings["searchableAttributes"] = json!(corpus.text_fields);
            settings["displayedAttributes"] = json!(displayed(corpus));
            settings["rankingRules"] = json!([
                "words",
                "typo",
                "proximity",
                "attribute",
                "sort",
                "exactness",
                format!("{}:desc", corpus.number_fields[1])
            ]);
            settings["stopWords"] = json!(["the", "of", "and", "a"]);
            settings["synonyms"] =
                json!({ "dog": ["hound", "cat"], "red": ["crimson", "dark blue"], "new world": ["america"] });
            settings["faceting"] =
                json!({ "maxValuesPerFacet": 20, "sortFacetValuesBy": { corpus.count_facet: "count" } });
            settings["pagination"] = json!({ "maxTotalHits": 300 });
            settings["typoTolerance"] = json!({
                "minWordSizeForTypos": { "oneTypo": 4, "twoTypos": 8 },
                "disableOnAttributes": [corpus.text_fields[2]],
            });
        }
        settings
    }
}

/// The primary key, the fields of the generator, but one text field: it is searchable and not shown.
fn displayed(corpus: &Corpus) -> Vec<&'static str> {
    let mut fields =
        [corpus.text_fields, corpus.number_fields, corpus.category_fields, corpus.distinct_fields].concat();
    fields.push(corpus.primary_key);
    if corpus.has_geo {
        fields.push("_geo");
    }
    fields.retain(|field| *field != corpus.text_fields[3] && *field != corpus.number_fields[3]);
    fields.sort_unstable();
    fields.dedup();
    fields
}
