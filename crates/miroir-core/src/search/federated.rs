//! One list of hits for several queries: a federated search over several nodes.
//!
//! Each query is asked of the nodes on its own, because how its hits compare with those of others depends on scores,
//! and each node has its own scale for them. Merged over nodes, the lists are merged over the queries of an index,
//! each document once, and then over indexes. Totals and facets are of the documents that match any query of an
//! index, so nodes are asked for those with all queries of an index together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::facet_values::RawFacets;
use super::facets::{self, FacetShape};
use super::federated_answer::IndexSummary;
use super::federated_hits::FederatedHits;
use super::merge::MergeError;
use super::multi::MultiSearch;
use super::plan::{NEARLY_SEMANTIC, PAGING_PARAMETERS, PlanError, SHOWING_MORE, SearchKind, SearchPlan};
use super::request::{Changes, ClientBody, ForwardRaw};
use super::scan::{Malformed, unsigned, write_json};
use super::settings::SearchSettings;
use super::spelling::SpellingChoices;
use crate::hidden::is_reserved;

/// Default number of hits.
const DEFAULT_LIMIT: usize = 20;
/// A query that every document matches, and that counts as one with words: queries with and without words cannot
/// always be asked together of a node whose ranking rules end with one of Miroir's.
const EVERYTHING: &str = "\" -Zqxjkwvzqxwjkqvxzjwq\"";

/// One query of a federated search, planned.
#[derive(Debug, Clone)]
pub struct FederatedQuery {
    /// The index it searches.
    pub index_uid: String,
    /// What nodes call it.
    node_uid: String,
    /// The search for its hits.
    pub plan: SearchPlan,
    /// Its place among all queries.
    pub(super) position: usize,
    pub(super) weight: f64,
    /// The ratio with which a hybrid query is asked for the total, once it is known what found its hits.
    summary_ratio: Option<&'static str>,
}

/// A federated search, planned.
#[derive(Debug, Clone)]
pub struct FederatedPlan {
    pub(super) limit: usize,
    pub(super) offset: usize,
    pub(super) merges_facets: Option<MergeFacets>,
    pub(super) retrieves_vectors: bool,
    facets: BTreeMap<String, Option<Vec<String>>>,
    queries: Vec<FederatedQuery>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Federation {
    #[serde(default = "default_limit")]
    limit: usize,
    #[serde(default)]
    offset: usize,
    #[serde(default)]
    facets_by_index: BTreeMap<String, Option<Vec<String>>>,
    #[serde(default)]
    merge_facets: Option<MergeFacets>,
}

/// How the facets of all indexes become one.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MergeFacets {
    #[serde(default)]
    pub(super) max_values_per_facet: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Options {
    #[serde(default = "default_weight")]
    weight: f64,
    #[serde(default)]
    remote: Option<String>,
    #[serde(default)]
    query_position: Option<usize>,
}

fn default_limit() -> usize {
    DEFAULT_LIMIT
}

fn default_weight() -> f64 {
    1.0
}

impl FederatedPlan {
    /// Plans a federated search over indexes with these settings. An index that is not among them, and whatever one
    /// Meilisearch without a network of its own refuses, is for a node to refuse.
    pub fn new(multi: &MultiSearch, settings: &HashMap<String, SearchSettings>) -> Result<Self, PlanError> {
        let federation: Federation = multi.federation().ok_or(ForwardRaw)?;
        let wanted = federation.limit.saturating_add(federation.offset);
        let mut queries = Vec::with_capacity(multi.len());
        let mut retrieves_vectors = false;
        for position in 0..multi.len() {
            let (index_uid, body, options) = multi.federated_query(position)?;
            let options: Options = match options {
                Some(options) => serde_json::from_str(options.get()).map_err(|_| ForwardRaw)?,
                None => Options { weight: default_weight(), remote: None, query_position: None },
            };
            let is_local = options.remote.is_none() && options.query_position.is_none();
            if !is_local || options.weight.is_nan() || options.weight < 0.0 {
                return Err(ForwardRaw.into());
            }
            retrieves_vectors |= body.or_default("retrieveVectors", false)?;
            let settings = settings.get(&index_uid).ok_or(ForwardRaw)?;
            let plan = SearchPlan::federated(&body, settings, wanted)?;
            let node_uid = settings.node_uid.as_deref().unwrap_or(&index_uid).to_owned();
            queries.push(FederatedQuery {
                index_uid,
                node_uid,
                plan,
                position,
                weight: options.weight,
                summary_ratio: None,
            });
        }
        Ok(Self {
            limit: federation.limit,
            offset: federation.offset,
            merges_facets: federation.merge_facets,
            retrieves_vectors,
            facets: federation.facets_by_index,
            queries,
        })
    }

    /// Whether it takes the hits to tell which documents match: a node may find what it has good enough to look no
    /// further, where all together have better, or the other way round.
    pub fn counts_after_hits(&self) -> bool {
        self.queries.iter().any(|query| matches!(query.plan.kind, SearchKind::Hybrid { .. }))
    }

    /// Takes note of what found the hits of each query.
    pub fn learn<'h>(&mut self, hits: impl Iterator<Item = &'h FederatedHits>) {
        for (query, hits) in self.queries.iter_mut().zip(hits) {
            if matches!(query.plan.kind, SearchKind::Hybrid { .. }) {
                query.summary_ratio = Some(if hits.is_keyword_only { "0.0" } else { NEARLY_SEMANTIC });
            }
        }
    }

    /// All queries.
    pub fn queries(&self) -> &[FederatedQuery] {
        &self.queries
    }

    /// The indexes that are searched, in the order of their uids.
    pub fn index_uids(&self) -> BTreeSet<String> {
        self.queries.iter().map(|query| query.index_uid.clone()).collect()
    }

    /// A field of Miroir's own that the client asks for, which is to be refused.
    pub fn names_reserved_field(&self) -> Option<&str> {
        let facets = self.facets.values().flatten().flatten();
        let by_facet = facets.map(String::as_str).find(|name| is_reserved(name));
        by_facet.or_else(|| self.queries.iter().find_map(|query| query.plan.names_reserved_field()))
    }

    /// How many hits are needed of each query at most.
    pub(super) fn wanted(&self) -> usize {
        self.limit.saturating_add(self.offset)
    }

    /// The queries of one index, and their places among those that are planned.
    pub fn of_index<'p>(&'p self, uid: &'p str) -> impl Iterator<Item = (usize, &'p FederatedQuery)> {
        self.queries.iter().enumerate().filter(move |(_, query)| query.index_uid == uid)
    }

    /// What nodes call an index.
    fn node_uid<'p>(&'p self, uid: &'p str) -> &'p str {
        self.of_index(uid).next().map_or(uid, |(_, query)| &query.node_uid)
    }

    pub(super) fn facets_of(&self, uid: &str) -> Option<&Vec<String>> {
        self.facets.get(uid)?.as_ref()
    }

    /// The body for the total and the facets of one index on one node, with all its queries.
    pub fn summary_body(&self, uid: &str, shard_filter: Option<&str>) -> Vec<u8> {
        self.summary_of(uid, &self.summary_queries(uid, shard_filter))
    }

    /// The same for each of the queries, where they cannot be asked together.
    pub fn summary_bodies_apart(&self, uid: &str, shard_filter: Option<&str>) -> Vec<Vec<u8>> {
        self.summary_queries(uid, shard_filter).chunks(1).map(|query| self.summary_of(uid, query)).collect()
    }

    fn summary_queries(&self, uid: &str, shard_filter: Option<&str>) -> Vec<Vec<u8>> {
        self.of_index(uid).map(|(_, query)| query.summary_body(shard_filter)).collect()
    }

    fn summary_of(&self, uid: &str, queries: &[Vec<u8>]) -> Vec<u8> {
        let facets = self.facets_of(uid);
        let uid = self.node_uid(uid);
        wrapped(uid, queries, self.wanted(), facets.map(|facets| (uid, facets.as_slice())))
    }

    /// Adds up what nodes told of one index, given their answers to [`FederatedPlan::summary_bodies_apart`]: of the
    /// query that matches the most documents.
    pub fn summarise_apart(
        &self,
        uid: &str,
        settings: &SearchSettings,
        answers: &[Vec<Bytes>],
    ) -> Result<IndexSummary, MergeError> {
        let queries = answers.iter().map(Vec::len).max().unwrap_or_default();
        let of_query = |query: usize| -> Vec<Bytes> {
            answers.iter().filter_map(|node| node.get(query)).cloned().collect()
        };
        let summaries = (0..queries).map(|query| self.summarise(uid, settings, &of_query(query)));
        let summaries: Vec<IndexSummary> = summaries.collect::<Result<_, _>>()?;
        summaries.into_iter().max_by_key(IndexSummary::total).ok_or(MergeError::MissingAnswer)
    }

    /// Adds up what nodes told of one index, given the answers to [`FederatedPlan::summary_body`].
    pub fn summarise(
        &self,
        uid: &str,
        settings: &SearchSettings,
        answers: &[Bytes],
    ) -> Result<IndexSummary, MergeError> {
        let answers: Vec<Summary> = answers
            .iter()
            .map(|answer| serde_json::from_slice(answer).map_err(|error| Malformed { at: error.column() }))
            .collect::<Result<_, _>>()?;
        let total = answers.iter().fold(0u64, |sum, answer| sum.saturating_add(answer.estimated_total_hits));
        let facets = match self.facets_of(uid) {
            None => None,
            Some(names) => {
                let raw: Vec<RawFacets> = answers
                    .iter()
                    .filter_map(|answer| answer.facets_by_index.get(self.node_uid(uid)))
                    .map(|facets| RawFacets {
                        distribution: Some(facets.distribution.get().as_bytes()),
                        stats: Some(facets.stats.get().as_bytes()),
                    })
                    .collect();
                let shape = FacetShape::new(settings, Some(names));
                Some(facets::merge(&shape, &raw, total, &SpellingChoices::default())?)
            }
        };
        Ok(IndexSummary::new(uid, total, facets, names_by_count(settings, self.facets_of(uid))))
    }
}

/// The facets whose values are ordered by count.
fn names_by_count(settings: &SearchSettings, names: Option<&Vec<String>>) -> HashSet<String> {
    let is_by_count = |name: &&String| settings.order_of(name) == super::settings::FacetOrder::Count;
    names.into_iter().flatten().filter(is_by_count).cloned().collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    estimated_total_hits: u64,
    #[serde(borrow, default)]
    facets_by_index: HashMap<String, NodeFacets<'a>>,
}

#[derive(Deserialize)]
struct NodeFacets<'a> {
    #[serde(borrow)]
    distribution: &'a RawValue,
    #[serde(borrow)]
    stats: &'a RawValue,
}

impl SearchPlan {
    /// Plans one query of a federated search, of which the first `wanted` hits are needed. What an index lets a search
    /// reach does not limit those.
    pub(super) fn federated(
        query: &ClientBody,
        settings: &SearchSettings,
        wanted: usize,
    ) -> Result<Self, PlanError> {
        let mut changes = Changes::default();
        for name in PAGING_PARAMETERS.into_iter().chain(["facets", "indexUid", "federationOptions"]) {
            changes.remove(name);
        }
        changes.set("limit", wanted.to_string());
        let settings = SearchSettings { max_total_hits: usize::MAX, ..settings.clone() };
        let mut plan = Self::new(&query.write_with(&changes), &settings)?;
        plan.is_federated = true;
        Ok(plan)
    }

    /// Whether the vector of the query has a part in it.
    pub(super) fn is_semantic(&self) -> bool {
        self.kind != SearchKind::Keyword
    }

    /// The query that only tells which documents match; `everything` is asked for where there are no words.
    fn summary_body(
        &self,
        shard_filter: Option<&str>,
        everything: &'static str,
        ratio: Option<&'static str>,
    ) -> Vec<u8> {
        let mut changes = Changes::default();
        if let Some(ratio) = ratio {
            changes.set("hybrid", self.hybrid_with_ratio(ratio));
        }
        self.restrict(&mut changes, shard_filter);
        SHOWING_MORE.into_iter().chain(PAGING_PARAMETERS).for_each(|name| changes.remove(name));
        changes.set_list("attributesToRetrieve", &[]);
        let has_words = self.body.raw("q").is_some_and(|query| query != "\"\"");
        if self.kind == SearchKind::Keyword && !has_words {
            changes.set("q", everything);
        }
        self.body.write_with(&changes)
    }
}

impl FederatedQuery {
    fn summary_body(&self, shard_filter: Option<&str>) -> Vec<u8> {
        self.plan.summary_body(shard_filter, EVERYTHING, self.summary_ratio)
    }

    /// The bodies for one node, as [`SearchPlan::bodies`], each as a federated search of its own: only that reaches
    /// beyond what the index lets a search reach.
    pub fn bodies(&self, shard_filter: Option<&str>) -> Vec<Vec<u8>> {
        let searches = self.plan.bodies(shard_filter, super::Depth::Whole);
        searches.into_iter().map(|body| self.as_federated(body)).collect()
    }

    fn as_federated(&self, body: Vec<u8>) -> Vec<u8> {
        let Ok(parsed) = ClientBody::parse(&body) else { return body };
        let wanted = parsed.raw("limit").and_then(|limit| unsigned(limit.as_bytes())).unwrap_or_default();
        let mut changes = Changes::default();
        changes.remove("offset");
        changes.remove("limit");
        let query = parsed.write_with(&changes);
        wrapped(&self.node_uid, &[query], usize::try_from(wanted).unwrap_or(usize::MAX), None)
    }

    /// Merges the answers of nodes to [`FederatedQuery::bodies`].
    pub fn merge(&self, answers: &[Vec<Bytes>]) -> Result<FederatedHits, MergeError> {
        self.plan.merge_federated(answers, self.weight)
    }
}

/// A federated search of one index.
fn wrapped(uid: &str, queries: &[Vec<u8>], limit: usize, facets: Option<(&str, &[String])>) -> Vec<u8> {
    let mut body = b"{\"federation\":{\"offset\":0,\"limit\":".to_vec();
    write_json(&mut body, &limit);
    if let Some(facets) = facets {
        body.extend_from_slice(b",\"facetsByIndex\":");
        write_json(&mut body, &BTreeMap::from([facets]));
    }
    body.extend_from_slice(b"},\"queries\":[");
    for (index, query) in queries.iter().enumerate() {
        body.extend_from_slice(if index > 0 { b",{\"indexUid\":" } else { b"{\"indexUid\":" });
        write_json(&mut body, uid);
        let members = query.strip_prefix(b"{").unwrap_or(b"}");
        if members != b"}" {
            body.push(b',');
        }
        body.extend_from_slice(members);
    }
    body.extend_from_slice(b"]}");
    body
}
