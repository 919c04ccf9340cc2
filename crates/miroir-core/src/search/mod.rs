//! Searching: one search over several nodes, answered as a single Meilisearch would answer it.
//!
//! [`SearchPlan`] reads what the client asked for and writes what to ask of each node; then it makes one answer of
//! theirs. Hits are compared rule by rule, never by score, and their bytes go through untouched but for what the
//! client may not see.
//!
//! ```
//! use bytes::Bytes;
//! use miroir_core::search::{Depth, SearchPlan, SearchSettings};
//!
//! let plan = SearchPlan::new(br#"{"q":"dune","limit":1}"#, &SearchSettings::default())?;
//! assert_eq!(plan.bodies(None, Depth::Whole).len(), 1);
//! let node = |id: u32, typos: u32| {
//!     let rule = format!(r#"{{"order":0,"typoCount":{typos},"maxTypoCount":2,"score":1.0}}"#);
//!     let hit = format!(r#"{{"id":{id},"_rankingScoreDetails":{{"typo":{rule}}}}}"#);
//!     vec![Bytes::from(format!(r#"{{"hits":[{hit}],"limit":1,"estimatedTotalHits":1}}"#))]
//! };
//! let merged = plan.merge(&[node(1, 1), node(2, 0)], 3)?;
//! assert_eq!(merged.body, br#"{"hits":[{"id":2}],"limit":1,"estimatedTotalHits":2}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod depth;
mod details;
mod distinct;
mod explain;
mod facet_list;
mod facet_search;
#[cfg(test)]
mod facet_search_tests;
mod facet_values;
mod facets;
mod federated;
mod federated_answer;
mod federated_hits;
#[cfg(test)]
mod federated_tests;
mod frequency;
mod hits;
mod hybrid;
mod last_word;
mod merge;
#[cfg(test)]
mod merge_tests;
mod multi;
mod narrow;
mod normalise;
mod plan;
mod projection;
mod query_string;
mod query_words;
mod rank;
mod reorder;
mod request;
mod scan;
mod score;
mod settings;
mod similar;
#[cfg(test)]
mod similar_tests;
mod spelling;
mod weighted;

pub use depth::Depth;
pub use explain::Warning;
pub use facet_search::FacetSearchPlan;
pub use facets::{FacetConflict, Spelling};
pub use federated::{FederatedPlan, FederatedQuery};
pub use federated_answer::IndexSummary;
pub use federated_hits::FederatedHits;
pub use frequency::{AgreedOrder, FrequencySearch};
pub use last_word::LastWord;
pub use merge::{MergeError, MergedAnswer};
pub use multi::{MultiSearch, Query, finish_results, inside, write_result};
pub use plan::{PlanError, SearchPlan};
pub use query_string::{body_from_query_string, similar_body_from_query_string};
pub use request::ForwardRaw;
pub use scan::Malformed;
pub use settings::{FacetOrder, SearchSettings, VectorRank};
pub use similar::{Reference, SimilarPlan};
pub use spelling::{SpellingChoices, SpellingRound};
