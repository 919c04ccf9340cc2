//! The answer to a federated search, put together of the hits of all queries and what is known of each index.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::facets::MergedFacets;
use super::federated::{FederatedPlan, MergeFacets};
use super::federated_hits::{FederatedHit, FederatedHits};
use super::merge::MergeError;
use super::scan::{Malformed, ObjectWriter, write_json};
use super::weighted::best_of_heads;

/// What is known of one index besides hits.
#[derive(Debug)]
pub struct IndexSummary {
    uid: String,
    total: u64,
    facets: Option<MergedFacets>,
    by_count: HashSet<String>,
}

impl IndexSummary {
    pub(super) fn new(
        uid: &str,
        total: u64,
        facets: Option<MergedFacets>,
        by_count: HashSet<String>,
    ) -> Self {
        Self { uid: uid.to_owned(), total, facets, by_count }
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

/// A hit, and the query it is of.
struct Placed {
    query: usize,
    hit: FederatedHit,
}

impl Placed {
    /// Whether this hit comes before the other. Of equals, the one of the earlier query does.
    fn comes_before(&self, other: &Self) -> bool {
        match self.hit.score.compare(&other.hit.score) {
            Ordering::Greater => true,
            Ordering::Equal => self.query < other.query,
            Ordering::Less => false,
        }
    }
}

impl FederatedPlan {
    /// Makes the client's answer of the hits of every query, in order, and of what is known of each index, in the
    /// order of uids.
    pub fn answer(
        &self,
        hits: Vec<FederatedHits>,
        summaries: &[IndexSummary],
        elapsed_ms: u64,
    ) -> Result<Vec<u8>, MergeError> {
        let is_semantic = self.queries().iter().any(|query| query.plan.is_semantic());
        let mut vectors: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let mut lists: Vec<Option<Vec<FederatedHit>>> = Vec::with_capacity(hits.len());
        for (position, of_query) in hits.into_iter().enumerate() {
            vectors.extend(of_query.query_vector.map(|vector| (position, vector)));
            lists.push(Some(of_query.hits));
        }
        let page = self.page(lists);
        let total = summaries.iter().fold(0u64, |sum, summary| sum.saturating_add(summary.total));

        let mut body = Vec::new();
        let mut writer = ObjectWriter::begin(&mut body);
        self.write_hits(writer.key(b"hits"), &page);
        write_json(writer.key(b"processingTimeMs"), &elapsed_ms);
        write_json(writer.key(b"limit"), &self.limit);
        write_json(writer.key(b"offset"), &self.offset);
        write_json(writer.key(b"estimatedTotalHits"), &total);
        if self.retrieves_vectors {
            let mut members = ObjectWriter::begin(writer.key(b"queryVectors"));
            for (position, vector) in &vectors {
                members.member(position.to_string().as_bytes(), vector);
            }
            members.end();
        }
        if is_semantic {
            let semantic = page.iter().filter(|placed| placed.hit.score.is_semantic()).count();
            write_json(writer.key(b"semanticHitCount"), &semantic);
        }
        match self.merges_facets {
            Some(merging) => write_merged_facets(&mut writer, merging, summaries)?,
            None => write_facets_by_index(&mut writer, summaries),
        }
        writer.end();
        Ok(body)
    }

    /// The hits of the page: those of each index merged, each document once, then those of all indexes.
    fn page(&self, mut lists: Vec<Option<Vec<FederatedHit>>>) -> Vec<Placed> {
        let uids = self.index_uids();
        let of_indexes: Vec<Vec<Placed>> = uids
            .into_iter()
            .map(|uid| {
                let of_queries: Vec<Vec<Placed>> = self
                    .of_index(&uid)
                    .filter_map(|(query, _)| {
                        let hits = lists.get_mut(query)?.take()?;
                        Some(hits.into_iter().map(|hit| Placed { query, hit }).collect())
                    })
                    .collect();
                let mut seen: HashSet<Vec<u8>> = HashSet::new();
                best_of_heads(of_queries, Placed::comes_before)
                    .filter(|placed| placed.hit.document.clone().is_none_or(|document| seen.insert(document)))
                    .take(self.wanted())
                    .collect()
            })
            .collect();
        best_of_heads(of_indexes, Placed::comes_before).skip(self.offset).take(self.limit).collect()
    }

    fn write_hits(&self, out: &mut Vec<u8>, page: &[Placed]) {
        out.push(b'[');
        for (index, placed) in page.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let Some(query) = self.queries().get(placed.query) else { continue };
            // Written before the closing brace of the hit.
            out.extend_from_slice(placed.hit.shown.strip_suffix(b"}").unwrap_or(b"{"));
            out.extend_from_slice(if placed.hit.shown == b"{}" {
                b"\"_federation\":"
            } else {
                b",\"_federation\":"
            });
            let mut members = ObjectWriter::begin(out);
            write_json(members.key(b"indexUid"), &query.index_uid);
            write_json(members.key(b"queriesPosition"), &query.position);
            write_json(members.key(b"weightedRankingScore"), &placed.hit.score.whole);
            members.end();
            out.push(b'}');
        }
        out.push(b']');
    }
}

fn write_facets_by_index(writer: &mut ObjectWriter, summaries: &[IndexSummary]) {
    if summaries.iter().all(|summary| summary.facets.is_none()) {
        return;
    }
    let mut indexes = ObjectWriter::begin(writer.key(b"facetsByIndex"));
    for summary in summaries {
        let Some(facets) = &summary.facets else { continue };
        let mut members = ObjectWriter::begin(indexes.key(summary.uid.as_bytes()));
        members.member(b"distribution", &facets.distribution);
        members.member(b"stats", &facets.stats);
        members.end();
    }
    indexes.end();
}

#[derive(Serialize, Deserialize)]
struct Stats {
    min: f64,
    max: f64,
}

/// Facets of all indexes as one: values are one when they are written alike.
fn write_merged_facets(
    writer: &mut ObjectWriter,
    merging: MergeFacets,
    summaries: &[IndexSummary],
) -> Result<(), Malformed> {
    let mut distribution: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut stats: BTreeMap<String, Stats> = BTreeMap::new();
    let mut by_count: BTreeSet<&String> = BTreeSet::new();
    let with_facets = summaries.iter().filter_map(|summary| Some((summary, summary.facets.as_ref()?)));
    let mut has_facets = false;
    for (summary, facets) in with_facets {
        has_facets = true;
        by_count.extend(&summary.by_count);
        let malformed = |error: serde_json::Error| Malformed { at: error.column() };
        let of_index: Map<String, Value> = serde_json::from_slice(&facets.distribution).map_err(malformed)?;
        for (facet, values) in of_index {
            let merged = distribution.entry(facet).or_default();
            let Value::Object(values) = values else { continue };
            for (value, count) in values {
                let before = merged.get(&value).and_then(Value::as_u64).unwrap_or_default();
                let sum = before.saturating_add(count.as_u64().unwrap_or_default());
                merged.insert(value, sum.into());
            }
        }
        let of_index: BTreeMap<String, Stats> = serde_json::from_slice(&facets.stats).map_err(malformed)?;
        for (facet, range) in of_index {
            let merged = stats.entry(facet).or_insert(Stats { min: range.min, max: range.max });
            merged.min = merged.min.min(range.min);
            merged.max = merged.max.max(range.max);
        }
    }
    if !has_facets {
        return Ok(());
    }
    let mut facets = ObjectWriter::begin(writer.key(b"facetDistribution"));
    for (facet, values) in &distribution {
        let mut values: Vec<(&String, u64)> =
            values.iter().map(|(value, count)| (value, count.as_u64().unwrap_or_default())).collect();
        if by_count.contains(facet) {
            values.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        } else {
            values.sort();
        }
        values.truncate(merging.max_values_per_facet.unwrap_or(usize::MAX));
        let mut members = ObjectWriter::begin(facets.key(inside_quotes(facet).as_bytes()));
        for (value, count) in values {
            write_json(members.key(inside_quotes(value).as_bytes()), &count);
        }
        members.end();
    }
    facets.end();
    write_json(writer.key(b"facetStats"), &stats);
    Ok(())
}

/// A string as it stands between the quotes of JSON.
fn inside_quotes(text: &str) -> String {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    write_json(&mut quoted, text);
    let inside = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    String::from_utf8_lossy(inside).into_owned()
}
