//! Reading documents without searching: `GET /documents` and `POST /documents/fetch` over several nodes.
//!
//! One Meilisearch lists documents in its own order of insertion, or by the requested `sort` and then that
//! order. A node knows its part of that order by the hidden position, so every node is asked for its first
//! `offset + limit` documents with the position as the last sort criterion, and the lists are merged.
//!
//! - Usual case: [`BrowsePlan::body`] to each node, [`BrowsePlan::classify`] each answer, [`BrowsePlan::merge`].
//! - Deep pages ([`BrowsePlan::is_deep`]): [`BrowsePlan::slim_body`] asks for what orders documents and nothing
//!   else, [`BrowsePlan::select`] finds the page in it, [`BrowsePlan::page_body`] asks each node for its part of
//!   the page by position, and [`BrowsePlan::merge_selected`] puts the parts in order.
//! - Deep pages in insertion order are cheaper still with [`OffsetSearch`]: nodes only count.
//!
//! Everything is sent as `POST /documents/fetch`, whatever the client used.

mod answer;
mod offset;
mod order;
mod request;
mod select;

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use self::order::{Candidate, SortRule, sort_candidates};
use super::json::for_each_field;
use super::strip::{strip_hidden_fields, write_without_hidden};
use crate::error::ApiError;
use crate::hidden::{self, INSERTED_AT_FIELD, TIE_BREAK_RULE};
use crate::pinning::{Ids, Narrowing, WhyAll, narrow};
use crate::shard::{ShardId, shard_of};

pub use self::answer::NodeAnswer;
pub use self::offset::OffsetSearch;
pub use self::request::NoPlan;

/// Beyond this offset, two small rounds move fewer bytes than one round of whole documents.
const DEEP_OFFSET: usize = 200;

/// A request to list documents, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct BrowsePlan {
    offset: usize,
    limit: usize,
    /// No node has more documents than this.
    most: usize,
    /// The fields wanted; `None` is all of them.
    fields: Option<Vec<String>>,
    retrieve_vectors: bool,
    filter: Option<Value>,
    ids: Option<Vec<String>>,
    /// The `sort` expressions as given, and as understood.
    sort: Vec<String>,
    rules: Vec<SortRule>,
}

/// The place of a page, found without its documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// For each document of the page, in order: which node has it, and its encoded position.
    chosen: Vec<(usize, String)>,
    total: u64,
}

/// A node's page, its documents unread.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
    total: u64,
}

impl BrowsePlan {
    /// The same for an index that never had more documents than this. A node that is asked for documents in some order
    /// makes room for as many as it is asked for, and ends when there is not so much.
    pub fn of_at_most(self, documents: u64) -> Self {
        Self { most: usize::try_from(documents).unwrap_or(usize::MAX), ..self }
    }

    /// Number of documents to skip.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Number of documents wanted.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The shards to ask for, given what is known of the index's ids.
    pub fn narrowing(&self, of_index: Ids<'_>) -> Narrowing {
        let by_filter = narrow(self.filter.as_ref(), of_index);
        let Some(ids) = self.ids.as_ref().filter(|ids| !ids.is_empty()) else { return by_filter };
        let shards = of_index.shards;
        let mut wanted: BTreeSet<ShardId> = ids.iter().map(|id| shard_of(id, shards)).collect();
        if let Narrowing::To(by_filter) = by_filter {
            wanted = wanted.intersection(&by_filter).copied().collect();
        }
        match wanted.len() {
            0 => Narrowing::Nothing(WhyAll::NothingMatches),
            all if all >= usize::from(shards) => Narrowing::Nothing(WhyAll::EveryShard),
            _ => Narrowing::To(wanted),
        }
    }

    /// Whether the page is in insertion order, so that [`OffsetSearch`] applies.
    pub fn is_in_insertion_order(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether the page is so far that it should be found first and fetched afterwards.
    pub fn is_deep(&self) -> bool {
        self.offset > DEEP_OFFSET && self.limit > 0
    }

    /// What to send to a node for the whole answer in one round. `shards` restricts a node that holds more
    /// than it is asked for.
    pub fn body(&self, shards: Option<&[ShardId]>) -> Vec<u8> {
        self.request(shards, None, true, self.offset.saturating_add(self.limit), self.fetched_fields())
    }

    /// Like [`Self::body`], but asking only for what tells the order.
    pub fn slim_body(&self, shards: Option<&[ShardId]>) -> Vec<u8> {
        let fields = Some(self.ordering_fields());
        let mut slim = self.clone();
        slim.retrieve_vectors = false;
        slim.request(shards, None, true, self.offset.saturating_add(self.limit), fields)
    }

    /// What to send to a node that lacks a sorted field ([`NodeAnswer::LacksSortedField`]) when others have
    /// it: no document of that node takes part in the order, only in the total.
    pub fn counting_body(&self, shards: Option<&[ShardId]>) -> Vec<u8> {
        self.request(shards, None, false, 0, Some(Vec::new()))
    }

    /// What to send to a node to know how many of its documents lie before a position: its answer's `total`.
    pub fn counting_before_body(&self, shards: Option<&[ShardId]>, position: u64) -> Vec<u8> {
        let before = format!("{INSERTED_AT_FIELD} < \"{}\"", hidden::encode_position(position));
        self.request(shards, Some(before), false, 0, Some(Vec::new()))
    }

    /// What to send to a node for its documents from a position on, in insertion order, at most a page.
    pub fn from_position_body(&self, shards: Option<&[ShardId]>, position: u64) -> Vec<u8> {
        let from = format!("{INSERTED_AT_FIELD} >= \"{}\"", hidden::encode_position(position));
        self.request(shards, Some(from), true, self.limit, self.fetched_fields())
    }

    /// What to send to one node for its part of a selected page; `None` if it has none of it.
    pub fn page_body(&self, selection: &Selection, node: usize) -> Option<Vec<u8>> {
        let positions: Vec<String> = selection
            .chosen
            .iter()
            .filter(|(owner, _)| *owner == node)
            .map(|(_, position)| format!("\"{position}\""))
            .collect();
        if positions.is_empty() {
            return None;
        }
        let mut request = Map::new();
        request
            .insert("filter".into(), json!([format!("{INSERTED_AT_FIELD} IN [{}]", positions.join(", "))]));
        request.insert("limit".into(), json!(positions.len()));
        if let Some(fields) = self.fetched_fields() {
            request.insert("fields".into(), json!(fields));
        }
        request.insert("retrieveVectors".into(), json!(self.retrieve_vectors));
        Some(Value::Object(request).to_string().into_bytes())
    }

    /// The client's answer, from one page per node.
    pub fn merge(&self, pages: &[Bytes]) -> Result<Vec<u8>, ApiError> {
        let pages = read_pages(pages)?;
        let total = pages.iter().map(|page| page.total).sum();
        let ordered = self.ordered(&pages)?;
        let chosen = ordered.iter().skip(self.offset).take(self.limit);
        let results = chosen.filter_map(|candidate| pages.get(candidate.page)?.results.get(candidate.result));
        self.write_answer(results.copied(), total)
    }

    /// The client's answer, from the pages asked with [`Self::from_position_body`] and the known total.
    pub fn merge_from_position(&self, pages: &[Bytes], total: u64) -> Result<Vec<u8>, ApiError> {
        let pages = read_pages(pages)?;
        let ordered = self.ordered(&pages)?;
        let chosen = ordered.iter().take(self.limit);
        let results = chosen.filter_map(|candidate| pages.get(candidate.page)?.results.get(candidate.result));
        self.write_answer(results.copied(), total)
    }

    /// The place of the page, from one slim page per node.
    pub fn select(&self, pages: &[Bytes]) -> Result<Selection, ApiError> {
        let pages = read_pages(pages)?;
        let total = pages.iter().map(|page| page.total).sum();
        let ordered = self.ordered(&pages)?;
        let chosen = ordered.into_iter().skip(self.offset).take(self.limit);
        Ok(Selection {
            chosen: chosen.map(|candidate| (candidate.page, candidate.position)).collect(),
            total,
        })
    }

    /// The client's answer, from the parts of a selected page in any order. A document deleted between the two
    /// rounds is left out.
    pub fn merge_selected(&self, selection: &Selection, parts: &[Bytes]) -> Result<Vec<u8>, ApiError> {
        let pages = read_pages(parts)?;
        let mut by_position = std::collections::HashMap::new();
        for document in pages.iter().flat_map(|page| &page.results) {
            by_position.insert(position_of(document)?, *document);
        }
        let results = selection.chosen.iter().filter_map(|(_, position)| by_position.get(position).copied());
        self.write_answer(results, selection.total)
    }

    /// All documents of the pages, in the order one Meilisearch would list them.
    fn ordered(&self, pages: &[Page<'_>]) -> Result<Vec<Candidate>, ApiError> {
        let mut candidates = Vec::new();
        for (page, content) in pages.iter().enumerate() {
            order::collect_candidates(page, &content.results, &self.rules, &mut candidates)
                .map_err(|error| unreadable_answer(&error))?;
        }
        let total = pages.iter().map(|page| page.total).sum();
        sort_candidates(&mut candidates, &self.rules, total);
        Ok(candidates)
    }

    fn write_answer<'a>(
        &self,
        results: impl Iterator<Item = &'a RawValue>,
        total: u64,
    ) -> Result<Vec<u8>, ApiError> {
        let mut output = b"{\"results\":[".to_vec();
        for (rank, document) in results.enumerate() {
            if rank > 0 {
                output.push(b',');
            }
            match self.added_fields() {
                false => write_without_hidden(document.get(), &mut output),
                true => self.write_selected_fields(document, &mut output),
            }
            .map_err(|error| unreadable_answer(&error))?;
        }
        let tail = format!("],\"offset\":{},\"limit\":{},\"total\":{total}}}", self.offset, self.limit);
        output.extend_from_slice(tail.as_bytes());
        Ok(output)
    }

    /// Writes only the fields the client asked for, leaving out those that were asked for the order's sake.
    fn write_selected_fields(
        &self,
        document: &RawValue,
        output: &mut Vec<u8>,
    ) -> Result<(), serde_json::Error> {
        let document: Map<String, Value> = serde_json::from_str(document.get())?;
        let vectors = self.retrieve_vectors.then_some("_vectors");
        let fields =
            self.fields.iter().flatten().map(String::as_str).filter(|name| !hidden::is_reserved(name));
        let selected = select::select(&document, &fields.chain(vectors).collect::<Vec<_>>());
        serde_json::to_writer(output, &selected)
    }

    /// Whether nodes are asked for fields, other than hidden ones, that the client did not ask for.
    fn added_fields(&self) -> bool {
        let Some(fields) = &self.fields else { return false };
        self.rules.iter().any(|rule| !fields.iter().any(|field| field == rule.sorted_name()))
    }

    /// The fields that tell the order.
    fn ordering_fields(&self) -> Vec<String> {
        let sorted = self.rules.iter().map(|rule| rule.sorted_name().to_owned());
        std::iter::once(INSERTED_AT_FIELD.to_owned()).chain(sorted).collect()
    }

    /// The fields to ask nodes for: what the client wants, and what tells the order.
    fn fetched_fields(&self) -> Option<Vec<String>> {
        let mut fields = self.fields.clone()?;
        fields.extend(self.ordering_fields());
        Some(fields)
    }

    fn request(
        &self,
        shards: Option<&[ShardId]>,
        added_filter: Option<String>,
        sorted: bool,
        limit: usize,
        fields: Option<Vec<String>>,
    ) -> Vec<u8> {
        let mut request = Map::new();
        let shard_filter = shards.map(|shards| hidden::shard_filter(shards.iter().copied()));
        let filter = with_conditions(self.filter.as_ref(), shard_filter.into_iter().chain(added_filter));
        if let Some(filter) = filter {
            request.insert("filter".into(), filter);
        }
        if let Some(ids) = &self.ids {
            request.insert("ids".into(), json!(ids));
        }
        if sorted {
            let tie_break = TIE_BREAK_RULE.to_owned();
            let sort: Vec<&String> = self.sort.iter().chain([&tie_break]).collect();
            request.insert("sort".into(), json!(sort));
        }
        if let Some(fields) = fields {
            request.insert("fields".into(), json!(fields));
        }
        request.insert("retrieveVectors".into(), json!(self.retrieve_vectors));
        request.insert("limit".into(), json!(limit.min(self.most)));
        Value::Object(request).to_string().into_bytes()
    }
}

/// A filter and further conditions, all of which must hold. Conditions are elements of their own: put inside
/// the client's expression, they would depend on its operators.
fn with_conditions(filter: Option<&Value>, conditions: impl Iterator<Item = String>) -> Option<Value> {
    let mut all = match filter {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if text.trim().is_empty() => Vec::new(),
        Some(Value::Array(elements)) => elements.clone(),
        Some(expression) => vec![expression.clone()],
    };
    all.extend(conditions.map(Value::from));
    (!all.is_empty()).then_some(Value::Array(all))
}

fn read_pages(pages: &[Bytes]) -> Result<Vec<Page<'_>>, ApiError> {
    pages.iter().map(|page| serde_json::from_slice(page).map_err(|error| unreadable_answer(&error))).collect()
}

/// The encoded position of a document a node answered.
fn position_of(document: &RawValue) -> Result<String, ApiError> {
    let mut position = None;
    for_each_field(document.get(), |name, value| {
        if name == INSERTED_AT_FIELD {
            position = serde_json::from_str::<String>(value.get()).ok();
        }
    })
    .map_err(|error| unreadable_answer(&error))?;
    position.ok_or_else(|| {
        ApiError::internal(format!("a node answered a document without `{INSERTED_AT_FIELD}`"))
    })
}

fn unreadable_answer(error: &serde_json::Error) -> ApiError {
    ApiError::internal(format!("a node answered documents that cannot be read: {error}"))
}

/// The answer of `GET /documents/{id}`: the node's, without hidden fields.
pub fn strip_document(document: &[u8]) -> Result<Vec<u8>, ApiError> {
    strip_hidden_fields(document).map_err(|error| unreadable_answer(&error))
}

#[cfg(test)]
mod tests;
