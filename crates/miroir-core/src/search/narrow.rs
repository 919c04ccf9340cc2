//! Which shards a search has to ask for, and whether one node's answer for them is the whole answer.
//!
//! A node without a document that matches has no say in most of an answer, so it need not be asked. It has where an
//! answer tells of all documents: facets list the fields there are, and words are dropped by how many documents have
//! them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::federated::FederatedPlan;
use super::plan::SearchPlan;
use crate::pinning::{Ids, Narrowing, WhyAll, narrow};

impl SearchPlan {
    /// The shards to ask for, given what is known of the index's ids.
    pub fn narrowing(&self, ids: Ids<'_>) -> Narrowing {
        let filter: Option<Value> = self.filter().and_then(|filter| serde_json::from_str(filter).ok());
        match narrow(filter.as_ref(), ids) {
            Narrowing::To(_) if self.lists_facets() => Narrowing::Nothing(WhyAll::ListsFacets),
            Narrowing::To(_) if self.drops_by_frequency() => Narrowing::Nothing(WhyAll::CountsWords),
            narrowing => narrowing,
        }
    }

    /// Whether the answer of one node that was asked for all shards that matter, but does not hold the whole index, is
    /// the client's answer. With words in the query, it may depend on words that only other nodes know.
    pub fn ranks_by_own_words(&self) -> bool {
        let query: Option<String> = self.body.optional("q").ok().flatten();
        query.is_some_and(|query| !query.trim().is_empty())
    }

    fn lists_facets(&self) -> bool {
        self.body.raw("facets").is_some_and(|facets| !facets.trim_matches(['[', ']', ' ']).is_empty())
    }
}

impl FederatedPlan {
    /// The shards to ask for the total and the facets of an index, which are of all its queries together.
    pub fn narrowing(&self, uid: &str, ids: Ids<'_>) -> Narrowing {
        if self.facets_of(uid).is_some_and(|facets| !facets.is_empty()) {
            return Narrowing::Nothing(WhyAll::ListsFacets);
        }
        let mut wanted = BTreeSet::new();
        for (_, query) in self.of_index(uid) {
            match query.plan.narrowing(ids) {
                Narrowing::To(shards) => wanted.extend(shards),
                why => return why,
            }
        }
        Narrowing::To(wanted)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::settings::SearchSettings;
    use super::*;

    fn plan(body: Value) -> SearchPlan {
        SearchPlan::new(body.to_string().as_bytes(), &SearchSettings::default()).unwrap()
    }

    fn ids(primary_key: Option<&str>) -> Ids<'_> {
        Ids { primary_key, shards: 64, capitals: true }
    }

    #[test]
    fn what_tells_of_all_documents_asks_for_all_shards() {
        let why = |body| match plan(body).narrowing(ids(Some("id"))) {
            Narrowing::To(shards) => Err(shards.len()),
            Narrowing::Nothing(why) => Ok(why),
        };
        assert_eq!(why(json!({ "filter": "id = 1" })), Err(1));
        assert_eq!(why(json!({ "filter": ["id = 1"], "facets": [] })), Err(1));
        assert_eq!(why(json!({})), Ok(WhyAll::NothingToPin));
        assert_eq!(why(json!({ "filter": "x = 1" })), Ok(WhyAll::NotPinned));
        assert_eq!(why(json!({ "filter": "id = 'a b'" })), Ok(WhyAll::NothingMatches));
        assert_eq!(why(json!({ "filter": "id = 1", "facets": ["*"] })), Ok(WhyAll::ListsFacets));
        assert_eq!(
            why(json!({ "filter": "id = 1", "matchingStrategy": "frequency" })),
            Ok(WhyAll::CountsWords)
        );
        assert_eq!(
            plan(json!({ "filter": "id = 1" })).narrowing(ids(None)),
            Narrowing::Nothing(WhyAll::NothingToPin)
        );
    }

    #[test]
    fn words_are_ranked_by_what_a_node_knows() {
        assert!(plan(json!({ "q": "x" })).ranks_by_own_words());
        assert!(!plan(json!({ "q": " " })).ranks_by_own_words());
        assert!(!plan(json!({})).ranks_by_own_words());
    }
}
