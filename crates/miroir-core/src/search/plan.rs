//! What to ask of the nodes for one search.
//!
//! When one node covers the whole index it gets the client's own body, and its answer is the answer. When several
//! are needed, each is asked for the best hits from the first on, with the details by which hits of different
//! nodes compare. Two kinds of search need a second request per node: a hybrid one, because how keyword and
//! semantic hits interleave depends on all of them; and pages of a search with a distinct attribute, because
//! their exact total needs the values behind every hit.

use super::depth::Depth;
use super::distinct::Unretrieve;
use super::facets::FacetShape;
use super::projection::Projection;
use super::request::{Changes, ClientBody, ForwardRaw, filter_with_shards};
use super::settings::SearchSettings;
use crate::hidden::{INSERTED_AT_FIELD, SHARD_FIELD, is_reserved};

/// Default number of hits of a page.
const DEFAULT_LIMIT: usize = 20;
/// A semantic ratio close enough to 1 for semantic hits to come first, yet still a hybrid search: only that
/// formats semantic hits by the words of the query, counts both kinds, and makes do when embedding fails.
pub(super) const NEARLY_SEMANTIC: &str = "0.999999";

/// The parameters that make an answer show more than which documents match.
pub(super) const SHOWING_MORE: [&str; 7] = [
    "attributesToHighlight",
    "attributesToCrop",
    "showMatchesPosition",
    "showRankingScore",
    "showRankingScoreDetails",
    "retrieveVectors",
    "facets",
];

/// The parameters in which pages of one search differ.
pub(super) const PAGING_PARAMETERS: [&str; 4] = ["offset", "limit", "page", "hitsPerPage"];

/// Why a search cannot be planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Send the client's body to one node unchanged: its error is the answer.
    #[error(transparent)]
    Forward(#[from] ForwardRaw),
}

/// How hits are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paging {
    /// `offset` and `limit`, with an estimated total.
    Offset,
    /// `page` and `hitsPerPage`, with an exact total.
    Pages { page: usize, hits_per_page: usize },
}

/// What kind of search a body asks for, by the same distinctions as Meilisearch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum SearchKind {
    Keyword,
    Semantic,
    Hybrid { semantic_ratio: f32 },
}

/// One search, planned: the bodies to send and how to read the answers.
#[derive(Debug, Clone)]
pub struct SearchPlan {
    pub(super) body: ClientBody,
    /// The client's bytes, for when nothing has to change.
    original: Vec<u8>,
    reserved: Option<String>,
    pub(super) kind: SearchKind,
    pub(super) paging: Paging,
    /// The limit as the client gave it, which is what the answer repeats.
    pub(super) limit_shown: usize,
    /// The first hit shown, within what the index lets be reached.
    pub(super) first: usize,
    /// How many hits are shown at most, likewise.
    pub(super) count: usize,
    pub(super) max_total_hits: usize,
    pub(super) projection: Projection,
    pub(super) facet_shape: FacetShape,
    /// The facets to ask for, when not the client's own list.
    facets_with_shards: Option<Vec<String>>,
    pub(super) distinct: Option<String>,
    pub(super) unretrieve: Option<Unretrieve>,
    pub(super) shows_score: bool,
    pub(super) shows_details: bool,
    pub(super) threshold: Option<f64>,
    /// One of several queries whose hits become one list, by their scores.
    pub(super) is_federated: bool,
}

impl SearchPlan {
    /// Plans the search a client asked for with this body, in an index with these settings.
    pub fn new(body: &[u8], settings: &SearchSettings) -> Result<Self, PlanError> {
        let original = body.to_vec();
        let body = ClientBody::parse(body)?;
        let facets: Option<Vec<String>> = body.optional("facets")?;
        let sort: Option<Vec<String>> = body.optional("sort")?;
        let searched: Option<Vec<String>> = body.optional("attributesToSearchOn")?;
        let distinct: Option<String> = body.optional("distinct")?;
        let reserved = [&facets, &sort, &searched]
            .into_iter()
            .flatten()
            .flatten()
            .chain(&distinct)
            .find(|name| is_reserved(name))
            .map(|name| name.trim_end_matches(":asc").trim_end_matches(":desc").to_owned());

        let (paging, offset, limit) = read_paging(&body)?;
        let max_total_hits = settings.max_total_hits;
        let first = offset.min(max_total_hits);
        let projection = Projection::new(&body, settings.displayed.as_ref())?;
        let distinct = distinct.or_else(|| settings.distinct.clone());
        let unretrieve = distinct.as_ref().and_then(|attribute| {
            Unretrieve::new(attribute, projection.retrieved.as_ref(), projection.formatted.as_ref())
        });
        Ok(Self {
            kind: read_kind(&body)?,
            reserved,
            paging,
            limit_shown: limit,
            first,
            count: limit.min(max_total_hits.saturating_sub(first)),
            max_total_hits,
            facet_shape: FacetShape::new(settings, facets.as_deref()),
            facets_with_shards: facets.filter(|names| names.iter().all(|name| name != "*")).map(
                |mut names| {
                    names.push(SHARD_FIELD.to_owned());
                    names
                },
            ),
            shows_score: body.or_default("showRankingScore", false)?,
            shows_details: body.or_default("showRankingScoreDetails", false)?,
            threshold: body.optional("rankingScoreThreshold")?,
            projection,
            distinct,
            unretrieve,
            original,
            is_federated: false,
            body,
        })
    }

    /// A field of Miroir's own that the client sorts, groups or searches by, which is to be refused.
    pub fn names_reserved_field(&self) -> Option<&str> {
        self.reserved.as_deref()
    }

    /// The filter as the client wrote it, raw JSON; `None` when there is none.
    pub fn filter(&self) -> Option<&str> {
        self.body.raw("filter")
    }

    /// The same number for all pages of one search, so that they can be asked of the same nodes.
    pub fn affinity(&self) -> u64 {
        self.body.hash_without(&PAGING_PARAMETERS)
    }

    /// The body for the one node that answers alone, restricted to some of its shards if a filter is given.
    pub fn body_alone(&self, shard_filter: Option<&str>) -> Vec<u8> {
        let mut changes = Changes::default();
        self.projection.apply(&mut changes);
        self.restrict(&mut changes, shard_filter);
        if changes.is_empty() {
            return self.original.clone();
        }
        self.body.write_with(&changes)
    }

    /// The bodies for one of several nodes: as many requests as the search needs, usually one. Their answers, in
    /// this order, are what [`SearchPlan::merge`] takes for the node.
    pub fn bodies(&self, shard_filter: Option<&str>, depth: Depth) -> Vec<Vec<u8>> {
        let mut changes = Changes::default();
        self.projection.apply(&mut changes);
        self.restrict(&mut changes, shard_filter);
        if let Some(mut retrieved) = self.retrieved_for_merge() {
            retrieved.push(INSERTED_AT_FIELD.to_owned());
            changes.set_list("attributesToRetrieve", &retrieved);
        }
        if let Some(facets) = &self.facets_with_shards {
            changes.set_list("facets", facets);
        }
        changes.set("showRankingScoreDetails", "true");
        if self.needs_scores() {
            changes.set("showRankingScore", "true");
        }
        // A search for no hits is answered without ranking any, which shows in the total; but not a hybrid one.
        let is_hybrid = matches!(self.kind, SearchKind::Hybrid { .. });
        let wanted = if self.count == 0 && !is_hybrid { 0 } else { self.depth(depth).hits(self.reach()) };
        self.ask_from_the_first(&mut changes, wanted);
        match self.kind {
            SearchKind::Hybrid { .. } => ["0.0", NEARLY_SEMANTIC]
                .map(|ratio| {
                    let mut changes = changes.clone();
                    changes.set("hybrid", self.hybrid_with_ratio(ratio));
                    self.body.write_with(&changes)
                })
                .to_vec(),
            _ => [Some(self.body.write_with(&changes)), self.counting_body(shard_filter)]
                .into_iter()
                .flatten()
                .collect(),
        }
    }

    /// Where the answer depends on more than the hits shown, all nodes are asked for everything it may depend on.
    fn depth(&self, depth: Depth) -> Depth {
        // How well a node looks for near vectors depends on how many it is asked for.
        let is_semantic = self.kind != SearchKind::Keyword;
        let shows_ranking = self.needs_scores() || self.shows_details;
        let depends_on_more = is_semantic
            || self.distinct.is_some()
            || shows_ranking
            || self.drops_by_frequency()
            || self.projection.vectors_are_limited;
        if depends_on_more { Depth::Whole } else { depth }
    }

    /// What hits have to hold besides where they were inserted; `None` is everything.
    fn retrieved_for_merge(&self) -> Option<Vec<String>> {
        let with_distinct = self.unretrieve.as_ref().map(Unretrieve::with_attribute);
        with_distinct.or_else(|| self.projection.retrieved.clone())
    }

    /// How many hits from the best on have to be known to show what was asked for.
    pub(super) fn reach(&self) -> usize {
        self.first.saturating_add(self.count)
    }

    /// Whether words are dropped by how many documents match them.
    pub(super) fn drops_by_frequency(&self) -> bool {
        self.body.raw("matchingStrategy") == Some("\"frequency\"")
    }

    /// Whether the nodes' scores are of use, whether or not the client sees them.
    pub(super) fn needs_scores(&self) -> bool {
        let is_hybrid = matches!(self.kind, SearchKind::Hybrid { .. });
        self.shows_score || is_hybrid || self.threshold.is_some() || self.is_federated
    }

    /// Whether each node is also asked for all its hits, to count those left by the distinct attribute.
    pub(super) fn counts_distinct(&self) -> Option<&str> {
        let is_hybrid = matches!(self.kind, SearchKind::Hybrid { .. });
        let is_paged = matches!(self.paging, Paging::Pages { .. });
        self.distinct.as_deref().filter(|_| is_paged && !is_hybrid)
    }

    fn counting_body(&self, shard_filter: Option<&str>) -> Option<Vec<u8>> {
        let attribute = self.counts_distinct()?;
        let mut changes = Changes::default();
        self.restrict(&mut changes, shard_filter);
        self.ask_from_the_first(&mut changes, self.max_total_hits);
        changes.set_list("attributesToRetrieve", &[attribute.to_owned()]);
        SHOWING_MORE.into_iter().for_each(|name| changes.remove(name));
        Some(self.body.write_with(&changes))
    }

    pub(super) fn ask_from_the_first(&self, changes: &mut Changes, hits: usize) {
        match self.paging {
            Paging::Offset => {
                changes.set("offset", "0");
                changes.set("limit", hits.to_string());
            }
            Paging::Pages { .. } => {
                changes.set("page", "1");
                changes.set("hitsPerPage", hits.to_string());
            }
        }
    }

    pub(super) fn restrict(&self, changes: &mut Changes, shard_filter: Option<&str>) {
        let filter = shard_filter.and_then(|shards| filter_with_shards(self.body.raw("filter"), shards));
        if let Some(filter) = filter {
            changes.set("filter", filter);
        }
    }

    pub(super) fn hybrid_with_ratio(&self, ratio: &'static str) -> String {
        let raw = self.body.raw("hybrid").unwrap_or("{}");
        let mut changes = Changes::default();
        changes.set("semanticRatio", ratio);
        let written = ClientBody::parse(raw.as_bytes()).map(|hybrid| hybrid.write_with(&changes));
        written.map_or_else(|_| raw.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn read_paging(body: &ClientBody) -> Result<(Paging, usize, usize), ForwardRaw> {
    let offset: usize = body.or_default("offset", 0)?;
    let limit: usize = body.or_default("limit", DEFAULT_LIMIT)?;
    let page: Option<usize> = body.optional("page")?;
    let hits_per_page: Option<usize> = body.optional("hitsPerPage")?;
    if page.is_none() && hits_per_page.is_none() {
        return Ok((Paging::Offset, offset, limit));
    }
    let (page, hits_per_page) = (page.unwrap_or(1), hits_per_page.unwrap_or(DEFAULT_LIMIT));
    let paging = Paging::Pages { page, hits_per_page };
    // Page 0 is a way to ask for no hits.
    Ok(match page.checked_sub(1) {
        Some(before) => (paging, hits_per_page.saturating_mul(before), hits_per_page),
        None => (paging, 0, 0),
    })
}

fn read_kind(body: &ClientBody) -> Result<SearchKind, ForwardRaw> {
    let query: Option<String> = body.optional("q")?;
    let has_query = query.is_some_and(|query| !query.trim().is_empty());
    let has_vector = body.raw("vector").is_some();
    let has_media = body.raw("media").is_some();
    let Some(hybrid) = body.raw("hybrid") else { return Ok(SearchKind::Keyword) };
    let hybrid = ClientBody::parse(hybrid.as_bytes())?;
    let semantic_ratio: f32 = hybrid.or_default("semanticRatio", 0.5)?;
    if !(0.0..=1.0).contains(&semantic_ratio) {
        return Err(ForwardRaw);
    }
    Ok(match (has_query, has_vector || has_media) {
        _ if semantic_ratio == 0.0 => SearchKind::Keyword,
        (false, false) => SearchKind::Keyword,
        (true, _) if semantic_ratio < 1.0 => SearchKind::Hybrid { semantic_ratio },
        _ => SearchKind::Semantic,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plan(body: Value, settings: Value) -> SearchPlan {
        SearchPlan::new(body.to_string().as_bytes(), &SearchSettings::from_settings(&settings)).unwrap()
    }

    fn bodies(plan: &SearchPlan, shards: Option<&str>) -> Vec<Value> {
        plan.bodies(shards, Depth::Whole).iter().map(|body| serde_json::from_slice(body).unwrap()).collect()
    }

    #[test]
    fn alone_the_clients_bytes_are_sent() {
        let body = br#"{ "q" : "x" , "unknown": 1.50 }"#;
        let plan = SearchPlan::new(body, &SearchSettings::default()).unwrap();
        assert_eq!(plan.body_alone(None), body);
        assert_eq!(plan.body_alone(Some("s = 1")), br#"{"q":"x","unknown":1.50,"filter":["s = 1"]}"#);
    }

    #[test]
    fn a_scatter_asks_from_the_first_hit_on() {
        let scatter = |body| bodies(&plan(body, json!({ "pagination": { "maxTotalHits": 50 } })), None);
        let details = |offset: Value| {
            let mut body = offset;
            body["showRankingScoreDetails"] = json!(true);
            vec![body]
        };
        assert_eq!(scatter(json!({})), details(json!({ "offset": 0, "limit": 20 })));
        assert_eq!(scatter(json!({ "offset": 7, "limit": 5 })), details(json!({ "offset": 0, "limit": 12 })));
        assert_eq!(
            scatter(json!({ "offset": 7, "limit": usize::MAX })),
            details(json!({ "offset": 0, "limit": 50 }))
        );
        assert_eq!(
            scatter(json!({ "offset": usize::MAX, "limit": 5 })),
            details(json!({ "offset": 0, "limit": 0 }))
        );
        assert_eq!(scatter(json!({ "page": 3 })), details(json!({ "page": 1, "hitsPerPage": 50 })));
        assert_eq!(
            scatter(json!({ "page": 0, "hitsPerPage": 9 })),
            details(json!({ "page": 1, "hitsPerPage": 0 }))
        );
    }

    #[test]
    fn a_hybrid_search_is_asked_for_in_two_parts() {
        let hybrid = json!({ "q": "x", "hybrid": { "embedder": "e", "semanticRatio": 0.3 } });
        let bodies = bodies(&plan(hybrid, json!({})), None);
        let ratios: Vec<&Value> = bodies.iter().map(|body| &body["hybrid"]["semanticRatio"]).collect();
        assert_eq!(ratios, [&json!(0.0), &json!(0.999999)]);
        assert!(bodies.iter().all(|body| body["showRankingScore"] == json!(true)));
        assert!(bodies.iter().all(|body| body["hybrid"]["embedder"] == json!("e")));
    }

    #[test]
    fn the_kind_of_search_is_told_as_meilisearch_tells_it() {
        let kind = |body| plan(body, json!({})).kind;
        let hybrid = |ratio: f32| json!({ "embedder": "e", "semanticRatio": ratio });
        assert_eq!(kind(json!({ "q": "x" })), SearchKind::Keyword);
        assert_eq!(kind(json!({ "q": "x", "hybrid": hybrid(0.0) })), SearchKind::Keyword);
        assert_eq!(kind(json!({ "q": " ", "hybrid": hybrid(0.7) })), SearchKind::Keyword);
        assert_eq!(kind(json!({ "q": "x", "hybrid": hybrid(1.0) })), SearchKind::Semantic);
        assert_eq!(kind(json!({ "hybrid": hybrid(0.5), "vector": [1.0] })), SearchKind::Semantic);
        assert_eq!(
            kind(json!({ "q": "x", "hybrid": { "embedder": "e" } })),
            SearchKind::Hybrid { semantic_ratio: 0.5 }
        );
    }

    #[test]
    fn the_distinct_attribute_is_retrieved_for_the_merge() {
        let settings = json!({ "distinctAttribute": "sku" });
        let sent = bodies(&plan(json!({ "attributesToRetrieve": ["id"] }), settings.clone()), None);
        assert_eq!(sent[0]["attributesToRetrieve"], json!(["id", "sku", INSERTED_AT_FIELD]));
        assert_eq!(sent.len(), 1);
        let sent = bodies(&plan(json!({ "page": 1, "facets": ["a"] }), settings), Some("s"));
        assert_eq!(sent[0].get("attributesToRetrieve"), None);
        assert_eq!(
            sent[1],
            json!({ "page": 1, "hitsPerPage": 1000, "filter": ["s"], "attributesToRetrieve": ["sku"] })
        );
    }

    #[test]
    fn pages_of_one_search_belong_together() {
        let affinity = |body| plan(body, json!({})).affinity();
        assert_eq!(affinity(json!({ "q": "x", "offset": 20 })), affinity(json!({ "limit": 5, "q": "x" })));
        assert_eq!(affinity(json!({ "q": "x", "page": 2 })), affinity(json!({ "q": "x", "hitsPerPage": 1 })));
        assert_ne!(affinity(json!({ "q": "x" })), affinity(json!({ "q": "y" })));
        assert_ne!(affinity(json!({ "q": "x" })), affinity(json!({ "filter": "x" })));
    }

    #[test]
    fn what_planning_cannot_read_is_forwarded() {
        for body in [
            r#"{"limit":-1}"#,
            r#"{"limit":null}"#,
            r#"{"page":"1"}"#,
            r#"{"facets":"a"}"#,
            r#"{"q":1}"#,
            r#"{"hybrid":1}"#,
            r#"{"hybrid":{"semanticRatio":2}}"#,
            r#"{"showRankingScore":1}"#,
        ] {
            let planned = SearchPlan::new(body.as_bytes(), &SearchSettings::default());
            assert!(matches!(planned, Err(PlanError::Forward(_))), "{body}");
        }
    }

    #[test]
    fn reserved_names_are_pointed_out() {
        let reserved = |body| plan(body, json!({})).names_reserved_field().map(str::to_owned);
        assert_eq!(
            reserved(json!({ "sort": ["a:asc", "_miroir_shard:desc"] })).as_deref(),
            Some("_miroir_shard")
        );
        assert_eq!(reserved(json!({ "facets": ["_miroir_shard"] })).as_deref(), Some("_miroir_shard"));
        assert_eq!(reserved(json!({ "distinct": "_miroir_x" })).as_deref(), Some("_miroir_x"));
        assert_eq!(reserved(json!({ "facets": ["a"], "distinct": null })), None);
    }
}
