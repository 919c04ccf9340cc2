//! Turning documents into what is sent to nodes: NDJSON with the hidden fields added, and reading that back.
//!
//! The hidden fields are written right after a document's `{`; the rest is the client's bytes, untouched.
//! Documents keep the order of the body, because a node numbers them as they come and some answers show that
//! numbering: of a facet value spelt in several ways, Meilisearch shows the spelling of the lowest number.
//! Chunks are built one at a time when asked for, so a body is never in memory twice.

use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{Distinct, DocumentBatch, Identified, WriteMethod};
use crate::hidden;
use crate::shard::ShardId;

/// A chunk is closed once it is this long.
const CHUNK_BYTES: usize = 256 * 1024;
/// What the hidden fields add to a document, at most: for reserving memory.
const STAMP_BYTES: usize = 120;

impl DocumentBatch {
    /// What to send: NDJSON of about 256 KB at most (more only for a single larger document), holding the
    /// documents of the wanted shards in the order of the body.
    ///
    /// When replacing, only the last version of a document is sent, at the place of the first one: that is
    /// where one Meilisearch would have numbered it.
    pub fn chunks<W: Fn(ShardId) -> bool>(&self, wanted: W) -> impl Iterator<Item = Bytes> + use<W> {
        let (batch, source) = (self.clone(), self.clone());
        let write = self.identified.write;
        let to_send = (0..self.identified.steps())
            .filter_map(move |step| source.identified.to_send(step))
            .filter(move |(_, entry)| wanted(entry.shard));
        let mut to_send = to_send.peekable();
        std::iter::from_fn(move || {
            next_chunk(
                &mut to_send,
                |(ordinal, _)| batch.document(*ordinal).len() + STAMP_BYTES,
                |(ordinal, entry), chunk| write_stamped(chunk, batch.document(ordinal), &entry, write),
            )
        })
    }

    /// At most how many bytes [`Self::chunks`] yields, whatever the shards.
    pub fn stamped_bytes_at_most(&self) -> usize {
        self.body.len() + self.received() * STAMP_BYTES
    }

    /// Every distinct id with its position in the index's order of insertion, once positions are assigned.
    pub fn positions(&self) -> impl Iterator<Item = (&str, u64)> {
        let distinct = self.identified.distinct.iter().enumerate();
        distinct.map(|(index, entry)| (self.identified.id(index), entry.position))
    }
}

impl Identified {
    /// How many documents are sent when all shards are wanted.
    fn steps(&self) -> usize {
        match self.method {
            WriteMethod::Replace => self.distinct.len(),
            WriteMethod::Update => self.owner.len(),
        }
    }

    /// The document sent at a step: its place in the body, and what is known of its id.
    fn to_send(&self, step: usize) -> Option<(usize, Distinct)> {
        match self.method {
            WriteMethod::Replace => self.distinct.get(step).map(|entry| (entry.last as usize, *entry)),
            WriteMethod::Update => self.entry(step).map(|entry| (step, *entry)),
        }
    }
}

/// Fills a chunk with the next documents; `None` when there are no more.
fn next_chunk<D>(
    documents: &mut Peekable<impl Iterator<Item = D>>,
    length: impl Fn(&D) -> usize,
    write: impl Fn(D, &mut Vec<u8>),
) -> Option<Bytes> {
    let first_length = length(documents.peek()?);
    // Large enough for a full chunk or for all that may remain, whichever is smaller.
    let remaining = documents.size_hint().1.unwrap_or(1).saturating_mul(first_length);
    let mut chunk = Vec::with_capacity(first_length.max(CHUNK_BYTES.min(remaining)));
    let has_room = |document: &D, used: usize| used == 0 || used + length(document) <= CHUNK_BYTES;
    while let Some(document) = documents.next_if(|document| has_room(document, chunk.len())) {
        write(document, &mut chunk);
    }
    Some(Bytes::from(chunk))
}

/// Appends a document with its hidden fields, and a line end.
fn write_stamped(output: &mut Vec<u8>, document: &[u8], entry: &Distinct, write: u64) {
    let fields = document.get(1..).unwrap_or_default();
    output.extend_from_slice(b"{\"");
    output.extend_from_slice(hidden::SHARD_FIELD.as_bytes());
    output.extend_from_slice(b"\":\"");
    output.extend_from_slice(hidden::encode_shard(entry.shard).as_bytes());
    for (field, value) in [(hidden::INSERTED_AT_FIELD, entry.position), (hidden::UPDATED_AT_FIELD, write)] {
        output.extend_from_slice(b"\",\"");
        output.extend_from_slice(field.as_bytes());
        output.extend_from_slice(b"\":\"");
        output.extend_from_slice(hidden::encode_position(value).as_bytes());
    }
    output.push(b'"');
    if fields.trim_ascii_start().first() != Some(&b'}') {
        output.push(b',');
    }
    output.extend_from_slice(fields);
    output.push(b'\n');
}

/// The shard that [`write_stamped`] wrote into a document.
fn stamped_shard(document: &str) -> Option<ShardId> {
    let value = document.strip_prefix("{\"")?.strip_prefix(hidden::SHARD_FIELD)?.strip_prefix("\":\"")?;
    let (digits, _) = value.split_once('"')?;
    hidden::decode(digits).and_then(|shard| u16::try_from(shard).ok()).map(ShardId)
}

/// Chunks put end to end and read back, to be sent again. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct StampedDocuments {
    body: Bytes,
    /// The shard of each document, and where its line ends; it begins where the previous one ends.
    lines: Arc<[(ShardId, usize)]>,
}

impl StampedDocuments {
    /// Finds the documents in all that [`DocumentBatch::chunks`] yielded. Where that was cut does not matter.
    ///
    /// `None` when it is something else. Line ends do not delimit documents: a client may put some inside.
    pub fn parse(body: Bytes) -> Option<Self> {
        let mut lines = Vec::new();
        let mut documents = serde_json::Deserializer::from_slice(&body).into_iter::<&RawValue>();
        while let Some(document) = documents.next() {
            let shard = stamped_shard(document.ok()?.get())?;
            let end = documents.byte_offset();
            if body.get(end) != Some(&b'\n') {
                return None;
            }
            lines.push((shard, end + 1));
        }
        Some(Self { lines: lines.into(), body })
    }

    /// How many bytes there are in all.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// The shards concerned, ascending, each once.
    pub fn shards(&self) -> Vec<ShardId> {
        super::ascending(self.lines.iter().map(|(shard, _)| *shard))
    }

    /// What to send: as [`DocumentBatch::chunks`] would have yielded for these shards.
    pub fn chunks<W: Fn(ShardId) -> bool>(&self, wanted: W) -> impl Iterator<Item = Bytes> + use<W> {
        let (body, lines) = (self.body.clone(), Arc::clone(&self.lines));
        let mut start = 0;
        let wanted_lines = (0..lines.len()).filter_map(move |index| {
            let (shard, end) = *lines.get(index)?;
            let line = std::mem::replace(&mut start, end)..end;
            wanted(shard).then_some(line)
        });
        let mut wanted_lines = wanted_lines.peekable();
        std::iter::from_fn(move || {
            next_chunk(
                &mut wanted_lines,
                |line| line.len(),
                |line, chunk| chunk.extend_from_slice(body.get(line).unwrap_or_default()),
            )
        })
    }
}
