//! The bodies of document routes: what clients send, what nodes are sent, what nodes answer.
//!
//! A write goes through a [`DocumentBatch`], one step after the other:
//!
//! 1. [`DocumentBatch::parse`] finds the documents (JSON, NDJSON or CSV). Its errors are answers to the request.
//! 2. [`DocumentBatch::resolve_primary_key`] and [`DocumentBatch::identify`] read every id and judge everything
//!    that a node would refuse. Their errors are what the task fails with: nothing has been sent yet.
//! 3. [`DocumentBatch::assign_positions`] gives each document its place in the index's order of insertion, and the
//!    write its number.
//! 4. [`DocumentBatch::chunks`] yields what to send to whom; [`StampedDocuments`] reads that back.
//!
//! The body is kept as received; a document costs about 40 bytes on top of it, plus the text of its id.

pub mod browse;
mod content;
mod csv;
mod delete;
mod document_id;
mod dumped;
mod edition;
mod format;
mod json;
mod primary_key;
mod stamp;
mod stored;
mod strip;
mod vectors;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use self::json::{Scan, Span};
use self::primary_key::{Found, PrimaryKeyPath};
use crate::error::{ApiError, ErrorType};
use crate::shard::{ShardId, shard_of};

pub use self::content::{ContentRules, EmbedderRule, WriteMethod};
pub use self::delete::parse_delete_batch;
pub use self::document_id::{is_valid_document_id, validate_document_id};
pub use self::dumped::{append_in_order, reserved_name};
pub use self::edition::{Edited, Edition};
pub use self::format::{Format, format_from_content_type, require_json};
pub use self::stamp::StampedDocuments;
pub use self::stored::{Fields, stored_id, stored_position, stored_version};

/// The documents of one request.
///
/// Cloning is cheap: the body and the tables are shared.
#[derive(Debug, Clone)]
pub struct DocumentBatch {
    body: Bytes,
    format: Format,
    spans: Arc<Vec<Span>>,
    /// Documents that had to be written anew (see [`DocumentBatch::identify`]), by place in the body.
    rewritten: Arc<BTreeMap<u32, String>>,
    reserved: Option<Arc<(usize, String)>>,
    unreadable: Arc<Vec<(usize, String)>>,
    identified: Arc<Identified>,
}

/// A top-level field whose name belongs to Miroir.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedField {
    /// Place of the document in the body, from 0.
    pub document: usize,
    /// Name of the field.
    pub name: String,
}

impl From<ReservedField> for ApiError {
    fn from(field: ReservedField) -> Self {
        Self::bad_request(
            "miroir_reserved_field",
            format!(
                "Document {} of the payload has a field `{}`, but names beginning with `{}` are reserved for Miroir. Rename the field.",
                field.document,
                field.name,
                crate::hidden::RESERVED_PREFIX
            ),
        )
    }
}

/// What is known once ids are.
#[derive(Debug, Clone, Default)]
struct Identified {
    method: WriteMethod,
    /// For each document of the body, which of `distinct` it is a version of.
    owner: Vec<u32>,
    /// The documents by id, in order of first appearance.
    distinct: Vec<Distinct>,
    /// The text of all ids, one after the other.
    ids: String,
    /// Number of this write among those of the index.
    write: u64,
}

/// One id of the batch.
#[derive(Debug, Clone, Copy)]
struct Distinct {
    position: u64,
    /// Where the id ends in `Identified::ids`; it begins where the previous one ends.
    id_end: u32,
    /// The last document of the body having this id.
    last: u32,
    shard: ShardId,
}

impl Identified {
    fn id(&self, index: usize) -> &str {
        let start =
            index.checked_sub(1).and_then(|before| self.distinct.get(before)).map_or(0, |entry| entry.id_end);
        let end = self.distinct.get(index).map_or(start, |entry| entry.id_end);
        self.ids.get(start as usize..end as usize).unwrap_or_default()
    }

    /// The entry of the document at a place of the body.
    fn entry(&self, ordinal: usize) -> Option<&Distinct> {
        self.owner.get(ordinal).and_then(|index| self.distinct.get(*index as usize))
    }

    /// Whether a document is sent: when replacing, one followed by another of the same id is not.
    fn counts(&self, ordinal: usize) -> bool {
        let is_last = || self.entry(ordinal).is_some_and(|entry| entry.last as usize == ordinal);
        self.method == WriteMethod::Update || is_last()
    }
}

impl DocumentBatch {
    /// Finds the documents of a body.
    pub fn parse(body: Bytes, format: Format) -> Result<Self, ApiError> {
        if body.is_empty() {
            return Err(ApiError::bad_request("missing_payload", format!("A {format} payload is missing.")));
        }
        // Places in the body are kept on 32 bits.
        if u32::try_from(body.len()).is_err() {
            return Err(too_large());
        }
        let body = match format {
            Format::Csv { delimiter } => Bytes::from(csv::to_ndjson(&body, delimiter)?),
            Format::Json | Format::Ndjson => body,
        };
        if u32::try_from(body.len()).is_err() {
            return Err(too_large());
        }
        let Scan { spans, reserved, unreadable } = match format {
            Format::Json => json::scan_json(&body)?,
            Format::Ndjson | Format::Csv { .. } => json::scan_ndjson(&body)?,
        };
        Ok(Self {
            body,
            format,
            spans: Arc::new(spans),
            rewritten: Arc::default(),
            reserved: reserved.map(Arc::new),
            unreadable: Arc::new(unreadable),
            identified: Arc::default(),
        })
    }

    /// How many documents the body holds, counting each version of a same document: `receivedDocuments`.
    pub fn received(&self) -> usize {
        self.spans.len()
    }

    /// The first field named as only Miroir may name one.
    pub fn reserved_field(&self) -> Option<ReservedField> {
        let (document, name) = self.reserved.as_deref()?;
        Some(ReservedField { document: *document, name: name.clone() })
    }

    /// The primary key this write uses, or the error its task fails with.
    ///
    /// `None` only when the batch is empty and neither the index nor the request names one.
    pub fn resolve_primary_key(
        &self,
        index_primary_key: Option<&str>,
        requested: Option<&str>,
    ) -> Result<Option<String>, ApiError> {
        let first_document = (!self.spans.is_empty()).then(|| self.document_text(0));
        primary_key::resolve(index_primary_key, requested, first_document)
    }

    /// Reads the id of every document and judges its content. An error is what the task fails with.
    ///
    /// Ids are read first, all of them, then contents: the order in which Meilisearch reports errors.
    pub fn identify(&mut self, primary_key: &str, shards: u16, rules: &ContentRules) -> Result<(), ApiError> {
        let path = PrimaryKeyPath::new(primary_key);
        let mut identified = Identified { method: rules.method, ..Identified::default() };
        identified.owner.reserve_exact(self.spans.len());
        let mut by_hash: HashMap<u64, u32> = HashMap::new();
        let mut with_content = Vec::new();
        for ordinal in 0..self.spans.len() {
            let (id, has_content) = self.read_id(ordinal, &path)?;
            let distinct = identified.intern(&id, ordinal as u32, shards, &mut by_hash)?;
            identified.owner.push(distinct);
            if has_content {
                with_content.push(ordinal);
            }
        }
        for ordinal in with_content.into_iter().filter(|ordinal| identified.counts(*ordinal)) {
            let distinct = identified.owner.get(ordinal).copied().unwrap_or_default() as usize;
            self.check_content(ordinal, identified.id(distinct), rules)?;
        }
        if let Some((_, reason)) = self.unreadable.iter().find(|(ordinal, _)| identified.counts(*ordinal)) {
            let message = content::indexing_message(&rules.index_uid, &format!("internal: {reason}."));
            return Err(ApiError::new(500, "internal", ErrorType::Internal, message));
        }
        identified.ids.shrink_to_fit();
        identified.distinct.shrink_to_fit();
        self.identified = Arc::new(identified);
        Ok(())
    }

    /// The id of one document, and whether it has a field to judge.
    fn read_id(&mut self, ordinal: usize, path: &PrimaryKeyPath<'_>) -> Result<(String, bool), ApiError> {
        let document = self.document_text(ordinal);
        let mut values: Vec<(String, &str, &RawValue)> = Vec::new();
        let mut repeated = false;
        let mut has_content = false;
        json::for_each_field(document, |name, value| {
            has_content |= name == "_geo" || name == "_vectors";
            let Some(remainder) = path.remainder(name) else { return };
            // In JSON a key written twice counts once, the last time. In NDJSON it counts twice.
            let known = match self.format {
                Format::Json => values.iter_mut().find(|(known, _, _)| known == name),
                Format::Ndjson | Format::Csv { .. } => None,
            };
            match known {
                Some(known) => {
                    repeated = true;
                    known.2 = value;
                }
                None => values.push((name.to_owned(), remainder, value)),
            }
        })
        .map_err(|error| ApiError::internal(error.to_string()))?;
        let mut found = Found::default();
        for (_, remainder, value) in values {
            PrimaryKeyPath::collect(remainder, value, &mut found);
        }
        let id = path.identifier(found, document)?;
        if repeated {
            // Nodes are sent NDJSON, where the repeated key would be refused: write it once.
            let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(document)
                .map_err(|error| ApiError::internal(format!("internal: {error}.")))?;
            let once = serde_json::Value::Object(fields).to_string();
            Arc::make_mut(&mut self.rewritten).insert(ordinal as u32, once);
        }
        Ok((id, has_content))
    }

    fn check_content(&self, ordinal: usize, id: &str, rules: &ContentRules) -> Result<(), ApiError> {
        let (geo, vectors) = self.special_fields(ordinal)?;
        content::check_content(rules, id, geo, vectors)
    }

    /// The `_geo` and `_vectors` of one document.
    fn special_fields(&self, ordinal: usize) -> Result<(Option<&RawValue>, Option<&RawValue>), ApiError> {
        let (mut geo, mut vectors) = (None, None);
        json::for_each_field(self.document_text(ordinal), |name, value| match name {
            "_geo" => geo = Some(value),
            "_vectors" => vectors = Some(value),
            _ => {}
        })
        .map_err(|error| ApiError::internal(error.to_string()))?;
        Ok((geo, vectors))
    }

    /// Checks that every new document has vectors for the embedders that nothing else gives vectors to. An
    /// error is what the task fails with. Documents already there keep what they have, so they may have none.
    pub fn check_required_vectors(
        &self,
        rules: &ContentRules,
        is_new: impl Fn(&str) -> bool,
    ) -> Result<(), ApiError> {
        if !rules.embedders.iter().any(|rule| rule.user_provided) {
            return Ok(());
        }
        // For each id, the document of the body holding the `_vectors` that will count.
        let mut with_vectors: Vec<Option<usize>> = vec![None; self.identified.distinct.len()];
        for (ordinal, owner) in self.identified.owner.iter().enumerate() {
            if self.identified.counts(ordinal)
                && self.special_fields(ordinal)?.1.is_some()
                && let Some(place) = with_vectors.get_mut(*owner as usize)
            {
                *place = Some(ordinal);
            }
        }
        // By embedder: the first document lacking vectors, and how many others lack them.
        let mut lacking: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
        for (index, ordinal) in with_vectors.into_iter().enumerate() {
            let id = self.identified.id(index);
            if !is_new(id) {
                continue;
            }
            let vectors = ordinal.map(|ordinal| self.special_fields(ordinal)).transpose()?;
            for embedder in vectors::lacking_embedders(rules, vectors.and_then(|(_, vectors)| vectors)) {
                lacking.entry(embedder).and_modify(|(_, others)| *others += 1).or_insert((id, 0));
            }
        }
        match lacking.first_key_value() {
            None => Ok(()),
            Some((embedder, (id, others))) => {
                Err(vectors::lacking_vectors(&rules.index_uid, embedder, id, *others))
            }
        }
    }

    /// The distinct ids, in order of first appearance. Empty before [`Self::identify`].
    pub fn distinct_ids(&self) -> impl Iterator<Item = &str> {
        (0..self.identified.distinct.len()).map(|index| self.identified.id(index))
    }

    /// Whether some id has a capital letter.
    pub fn has_capital_ids(&self) -> bool {
        self.distinct_ids().any(|id| id.bytes().any(|byte| byte.is_ascii_uppercase()))
    }

    /// How many distinct ids there are: `indexedDocuments`.
    pub fn distinct_len(&self) -> usize {
        self.identified.distinct.len()
    }

    /// Gives every document its position in the order of insertion: a known one keeps its own, new ones
    /// take the next free ones in order of first appearance. The write itself is numbered from the same sequence,
    /// before them. Returns the next free position.
    pub fn assign_positions(&mut self, first_free: u64, existing: impl Fn(&str) -> Option<u64>) -> u64 {
        if self.identified.distinct.is_empty() {
            return first_free;
        }
        let mut next_free = first_free + 1;
        let identified = Arc::make_mut(&mut self.identified);
        identified.write = first_free;
        for index in 0..identified.distinct.len() {
            let position = existing(identified.id(index)).unwrap_or_else(|| {
                next_free += 1;
                next_free - 1
            });
            if let Some(entry) = identified.distinct.get_mut(index) {
                entry.position = position;
            }
        }
        next_free
    }

    /// The shards concerned, ascending, each once.
    pub fn shards(&self) -> Vec<ShardId> {
        ascending(self.identified.distinct.iter().map(|entry| entry.shard))
    }

    /// The bytes of one document.
    fn document(&self, ordinal: usize) -> &[u8] {
        if !self.rewritten.is_empty()
            && let Some(rewritten) = self.rewritten.get(&(ordinal as u32))
        {
            return rewritten.as_bytes();
        }
        let Some(span) = self.spans.get(ordinal) else { return &[] };
        self.body.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// The text of one document. The body was checked to be UTF-8 when it was scanned.
    fn document_text(&self, ordinal: usize) -> &str {
        std::str::from_utf8(self.document(ordinal)).unwrap_or_default()
    }
}

impl Identified {
    /// The entry of an id, made if new.
    fn intern(
        &mut self,
        id: &str,
        ordinal: u32,
        shards: u16,
        by_hash: &mut HashMap<u64, u32>,
    ) -> Result<u32, ApiError> {
        // Only hashes are kept as keys, to hold each id once; unequal ids of equal hash take the next key.
        let mut hash = xxh3_64(id.as_bytes());
        while let Some(index) = by_hash.get(&hash).copied() {
            if self.id(index as usize) == id {
                if let Some(entry) = self.distinct.get_mut(index as usize) {
                    entry.last = ordinal;
                }
                return Ok(index);
            }
            hash = hash.wrapping_add(1);
        }
        let index = self.distinct.len() as u32;
        self.ids.push_str(id);
        let id_end = u32::try_from(self.ids.len()).map_err(|_| too_large())?;
        self.distinct.push(Distinct { position: 0, id_end, last: ordinal, shard: shard_of(id, shards) });
        by_hash.insert(hash, index);
        Ok(index)
    }
}

/// The shards met, ascending, each once.
fn ascending(shards: impl Iterator<Item = ShardId>) -> Vec<ShardId> {
    let shards: BTreeSet<ShardId> = shards.collect();
    shards.into_iter().collect()
}

fn too_large() -> ApiError {
    ApiError::new(
        413,
        "payload_too_large",
        ErrorType::InvalidRequest,
        "The provided payload reached the size limit. The maximum accepted payload size is 4 GiB. Send the documents in several requests.",
    )
}

#[cfg(test)]
mod tests;
