//! Documents similar to one: its vector is on one shard, so the others are asked for what is near that vector.
//!
//! Meilisearch orders similar documents by nothing but the distance of vectors. A search by vector may rank by more,
//! so of its ranking only the similarity is read, and the hits of all nodes are put in order anew. Such a search also
//! finds documents without a vector, which are not similar to anything, but count in the total.

use std::collections::HashMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::hits::{Answer, HitView, RawHit};
use super::merge::MergeError;
use super::plan::PlanError;
use super::projection::Projection;
use super::request::{Changes, ClientBody, ForwardRaw, filter_with_shards};
use super::scan::{Malformed, ObjectWriter, write_json};
use super::settings::{SearchSettings, VectorRank};
use crate::documents::validate_document_id;
use crate::hidden::INSERTED_AT_FIELD;

/// Default number of hits.
const DEFAULT_LIMIT: usize = 20;
/// Hits asked of a node whose first ranking rule is not the distance of vectors, so that it cannot be asked for the
/// nearest.
const ALL_HITS: usize = 10_000;

/// A request for similar documents, understood.
#[derive(Debug, Clone)]
pub struct SimilarPlan {
    body: ClientBody,
    id: String,
    offset: usize,
    limit: usize,
    /// No node is asked to reach further: it makes room for as many hits as it is asked for, and ends where there is none.
    furthest: usize,
    threshold: Option<f64>,
    shows_score: bool,
    shows_details: bool,
    projection: Projection,
    max_total_hits: usize,
    has_distinct: bool,
    rank: VectorRank,
}

/// The document that others are to be similar to.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Its place in the order of insertion, encoded.
    inserted_at: String,
    /// Its vectors, as JSON.
    vectors: Vec<String>,
}

impl Reference {
    /// Whether there is anything to compare with.
    pub fn has_vector(&self) -> bool {
        !self.vectors.is_empty()
    }
}

#[derive(Deserialize)]
struct Fetched<'a> {
    #[serde(borrow)]
    results: Vec<FetchedDocument<'a>>,
}

#[derive(Deserialize)]
struct FetchedDocument<'a> {
    #[serde(rename = "_miroir_inserted_at")]
    inserted_at: String,
    #[serde(rename = "_vectors", borrow, default)]
    vectors: HashMap<String, Embeddings<'a>>,
}

#[derive(Deserialize)]
struct Embeddings<'a> {
    #[serde(borrow, default)]
    embeddings: Vec<&'a RawValue>,
}

/// One hit with what orders it.
struct Near<'a> {
    similarity: f64,
    hit: RawHit<'a>,
}

impl SimilarPlan {
    /// Plans a request with this body, in an index with these settings.
    pub fn new(body: &[u8], settings: &SearchSettings) -> Result<Self, PlanError> {
        let body = ClientBody::parse(body)?;
        let id =
            RawValue::from_string(body.raw("id").ok_or(ForwardRaw)?.to_owned()).map_err(|_| ForwardRaw)?;
        let _embedder: String = body.optional("embedder")?.ok_or(ForwardRaw)?;
        Ok(Self {
            id: validate_document_id(&id).map_err(|_| ForwardRaw)?,
            offset: body.or_default("offset", 0)?,
            limit: body.or_default("limit", DEFAULT_LIMIT)?,
            furthest: usize::MAX,
            threshold: body.optional("rankingScoreThreshold")?,
            shows_score: body.or_default("showRankingScore", false)?,
            shows_details: body.or_default("showRankingScoreDetails", false)?,
            projection: Projection::new(&body, settings.displayed.as_ref())?,
            max_total_hits: settings.max_total_hits,
            has_distinct: settings.distinct.is_some(),
            rank: settings.vector_rank,
            body,
        })
    }

    /// The same in an index that has at most so many documents.
    pub fn of_at_most(self, documents: usize) -> Self {
        Self { furthest: documents, ..self }
    }

    /// The id of the document that others are to be similar to.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The filter as the client wrote it, raw JSON; `None` when there is none.
    pub fn filter(&self) -> Option<&str> {
        self.body.raw("filter")
    }

    /// Whether a search by vector can stand for it on nodes.
    pub fn can_be_spread(&self) -> bool {
        self.rank != VectorRank::Never
    }

    /// The body for the one node that answers alone.
    pub fn body_alone(&self, shard_filter: Option<&str>) -> Vec<u8> {
        let mut changes = Changes::default();
        self.projection.apply(&mut changes);
        for (name, value) in [("offset", self.offset), ("limit", self.limit)] {
            if value > self.furthest {
                changes.set(name, self.furthest.to_string());
            }
        }
        if let Some(filter) = shard_filter.and_then(|shards| filter_with_shards(self.filter(), shards)) {
            changes.set("filter", filter);
        }
        self.body.write_with(&changes)
    }

    /// The client's answer, of that of the node that answers alone.
    pub fn finish_alone(&self, answer: &[u8]) -> Result<Vec<u8>, MergeError> {
        let answer = Answer::parse(answer)?;
        let view = self.view(answer.came_with_vectors());
        let mut out = Vec::new();
        let mut writer = ObjectWriter::begin(&mut out);
        for (key, value) in &answer.members {
            match *key {
                b"hits" => {
                    let hits: Vec<&RawHit> = answer.hits.iter().collect();
                    write_hits(writer.key(key), &view, &hits)?;
                }
                b"offset" => write_json(writer.key(key), &self.offset),
                b"limit" => write_json(writer.key(key), &self.limit),
                _ => writer.member(key, value),
            }
        }
        writer.end();
        Ok(out)
    }

    /// The body that a node which has the document finds fault with if one Meilisearch does.
    pub fn body_to_check(&self) -> Vec<u8> {
        let mut changes = Changes::default();
        changes.set("offset", "0");
        changes.set("limit", "0");
        changes.set("attributesToRetrieve", "[]");
        self.body.write_with(&changes)
    }

    /// The body of the `POST /documents/fetch` for the document.
    pub fn reference_body(&self) -> Vec<u8> {
        let fields = [INSERTED_AT_FIELD, "_vectors"];
        json!({ "ids": [self.id], "fields": fields, "retrieveVectors": true }).to_string().into_bytes()
    }

    /// The document, from the answer to [`SimilarPlan::reference_body`]; `None` when it is gone.
    pub fn reference(&self, answer: &[u8]) -> Result<Option<Reference>, MergeError> {
        let fetched: Fetched =
            serde_json::from_slice(answer).map_err(|error| Malformed { at: error.column() })?;
        let embedder: String = self.body.optional("embedder").ok().flatten().unwrap_or_default();
        Ok(fetched.results.into_iter().next().map(|mut document| Reference {
            inserted_at: document.inserted_at,
            vectors: (document.vectors.remove(&embedder).into_iter())
                .flat_map(|vectors| vectors.embeddings)
                .map(|vector| vector.get().to_owned())
                .collect(),
        }))
    }

    /// The client's filter without the document itself.
    fn filter_around(&self, reference: &Reference, shard_filter: Option<&str>) -> String {
        let around = format!("{INSERTED_AT_FIELD} != \"{}\"", reference.inserted_at);
        let filter = filter_with_shards(self.filter(), &around).unwrap_or_default();
        shard_filter.and_then(|shards| filter_with_shards(Some(&filter), shards)).unwrap_or(filter)
    }

    /// The bodies of the `POST /multi-search` for a node, one for each vector. Federated: only that reaches beyond what
    /// the index lets a search reach.
    pub fn bodies(&self, index_uid: &str, reference: &Reference, shard_filter: Option<&str>) -> Vec<Vec<u8>> {
        let mut changes = Changes::default();
        let mut retrieved = self.projection.retrieved.clone().unwrap_or_else(|| vec!["*".to_owned()]);
        retrieved.push(INSERTED_AT_FIELD.to_owned());
        changes.set_list("attributesToRetrieve", &retrieved);
        changes.set("filter", self.filter_around(reference, shard_filter));
        changes.set("showRankingScoreDetails", "true");
        // No document has the place of another, so none is left out for having something in common.
        if self.has_distinct {
            changes.set("distinct", format!("\"{INSERTED_AT_FIELD}\""));
        }
        let embedder = self.body.raw("embedder").unwrap_or("null");
        changes.set("hybrid", format!("{{\"embedder\":{embedder},\"semanticRatio\":1.0}}"));
        for name in ["id", "embedder", "offset", "limit", "rankingScoreThreshold"] {
            changes.remove(name);
        }
        changes.set("indexUid", Value::from(index_uid).to_string());
        let wanted = match self.rank {
            VectorRank::First => self.offset.saturating_add(self.limit).min(self.furthest).saturating_add(1),
            _ => ALL_HITS,
        };
        let federated = |vector: &String| {
            let mut changes = changes.clone();
            changes.set("vector", vector.clone());
            let query = self.body.write_with(&changes);
            let mut body =
                format!("{{\"federation\":{{\"offset\":0,\"limit\":{wanted}}},\"queries\":[").into_bytes();
            body.extend_from_slice(&query);
            body.extend_from_slice(b"]}");
            body
        };
        reference.vectors.iter().map(federated).collect()
    }

    /// The body of the `POST /documents/fetch` that counts what matches, when there is no vector to compare with.
    pub fn counting_body(&self, reference: &Reference, shard_filter: Option<&str>) -> Vec<u8> {
        format!("{{\"limit\":0,\"filter\":{}}}", self.filter_around(reference, shard_filter)).into_bytes()
    }

    /// The client's answer, from those of nodes to [`SimilarPlan::bodies`].
    pub fn merge(&self, answers: &[Vec<Bytes>], elapsed_ms: u64) -> Result<Vec<u8>, MergeError> {
        let mut near: HashMap<&[u8], Near> = HashMap::new();
        let mut total = 0u64;
        let mut came_with_vectors = false;
        let parsed = answers
            .iter()
            .map(|node| node.iter().map(|answer| Answer::parse(answer)).collect::<Result<Vec<_>, _>>())
            .collect::<Result<Vec<_>, _>>()?;
        for node in &parsed {
            total = total.saturating_add(node.first().ok_or(MergeError::MissingAnswer)?.total());
            for answer in node {
                came_with_vectors |= answer.came_with_vectors();
                let is_cut = answer.total() > answer.hits.len() as u64;
                if is_cut && self.rank != VectorRank::First {
                    return Err(MergeError::TooFewHits);
                }
                for hit in &answer.hits {
                    let (Some(similarity), Some(place)) = (similarity_of(hit)?, hit.inserted_at) else {
                        continue;
                    };
                    let is_nearer = near.get(place).is_none_or(|known| known.similarity < similarity);
                    if is_nearer {
                        near.insert(place, Near { similarity, hit: *hit });
                    }
                }
            }
        }
        let mut near: Vec<Near> = near.into_values().collect();
        near.sort_unstable_by(|left, right| {
            let by_place = || left.hit.inserted_at.cmp(&right.hit.inserted_at);
            right.similarity.total_cmp(&left.similarity).then_with(by_place)
        });
        let mut page = Vec::new();
        for (place, one) in near.iter().enumerate().skip(self.offset).take(self.limit) {
            if self.threshold.is_some_and(|threshold| one.similarity < threshold) {
                // Whatever comes after is no candidate either, as Meilisearch counts them.
                total = place as u64;
                break;
            }
            page.push(&one.hit);
        }
        self.write(&page, total, came_with_vectors, elapsed_ms)
    }

    /// The client's answer when there is no vector to compare with.
    pub fn nothing_similar(&self, total: u64, elapsed_ms: u64) -> Result<Vec<u8>, MergeError> {
        self.write(&[], total, false, elapsed_ms)
    }

    fn write(
        &self,
        page: &[&RawHit],
        total: u64,
        came_with_vectors: bool,
        elapsed_ms: u64,
    ) -> Result<Vec<u8>, MergeError> {
        let total = usize::try_from(total).unwrap_or(usize::MAX).min(self.max_total_hits);
        let mut out = Vec::new();
        let mut writer = ObjectWriter::begin(&mut out);
        write_hits(writer.key(b"hits"), &self.view(came_with_vectors), page)?;
        write_json(writer.key(b"id"), &self.id);
        write_json(writer.key(b"processingTimeMs"), &elapsed_ms);
        write_json(writer.key(b"limit"), &self.limit);
        write_json(writer.key(b"offset"), &self.offset);
        write_json(writer.key(b"estimatedTotalHits"), &total);
        writer.end();
        Ok(out)
    }

    fn view(&self, came_with_vectors: bool) -> HitView<'_> {
        HitView {
            projection: &self.projection,
            unretrieve: None,
            shows_score: self.shows_score,
            shows_details: self.shows_details,
            hides_vectors: self.projection.hides_vectors(came_with_vectors),
            hides_federation: true,
            shows_vector_rule_only: true,
        }
    }
}

fn write_hits(out: &mut Vec<u8>, view: &HitView, hits: &[&RawHit]) -> Result<(), Malformed> {
    out.push(b'[');
    for (place, hit) in hits.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        view.write(out, hit, None)?;
    }
    out.push(b']');
    Ok(())
}

/// How near a hit is; `None` when it has no vector. Meilisearch compares similarities in single precision.
fn similarity_of(hit: &RawHit) -> Result<Option<f64>, Malformed> {
    Ok(hit.parse_details()?.similarity().map(|similarity| f64::from(similarity as f32)))
}
