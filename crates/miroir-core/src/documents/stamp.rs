//! Turning documents into what is sent to nodes: NDJSON, grouped by shard, with the hidden fields added.
//!
//! The hidden fields are written right after a document's `{`; the rest is the client's bytes, untouched.
//! Chunks are built one at a time when asked for, so a body is never in memory twice, and each holds one
//! shard only, so that a chunk can be addressed to the replicas of that shard and no one else.

use bytes::Bytes;

use super::{DocumentBatch, Identified};
use crate::hidden;
use crate::shard::ShardId;

/// A chunk is closed once it is this long.
const CHUNK_BYTES: usize = 256 * 1024;
/// What the hidden fields add to a document, at most: for reserving memory.
const STAMP_BYTES: usize = 80;

/// Iterator over the chunks to send. It shares the batch's memory and can outlive the batch.
#[derive(Debug)]
pub struct Chunks {
    batch: DocumentBatch,
    /// Documents to send, grouped by shard, in the order of the body inside a shard.
    order: Vec<u32>,
    next: usize,
}

impl Chunks {
    pub(super) fn new(batch: &DocumentBatch, wanted: impl Fn(ShardId) -> bool) -> Self {
        let identified = &batch.identified;
        let is_sent = |ordinal: &u32| {
            let shard = shard_of_document(identified, *ordinal);
            identified.counts(*ordinal as usize) && shard.is_some_and(&wanted)
        };
        let mut order: Vec<u32> = (0..identified.owner.len() as u32).filter(is_sent).collect();
        order.sort_by_key(|ordinal| shard_of_document(identified, *ordinal));
        Self { batch: batch.clone(), order, next: 0 }
    }
}

fn shard_of_document(identified: &Identified, ordinal: u32) -> Option<ShardId> {
    identified.entry(ordinal as usize).map(|entry| entry.shard)
}

impl Iterator for Chunks {
    type Item = (ShardId, Bytes);

    fn next(&mut self) -> Option<Self::Item> {
        let identified = &self.batch.identified;
        let shard = shard_of_document(identified, *self.order.get(self.next)?)?;
        let mut chunk = Vec::new();
        while let Some(ordinal) = self.order.get(self.next)
            && shard_of_document(identified, *ordinal) == Some(shard)
        {
            let document = self.batch.document(*ordinal as usize);
            let needed = document.len() + STAMP_BYTES;
            if !chunk.is_empty() && chunk.len() + needed > CHUNK_BYTES {
                break;
            }
            if chunk.is_empty() {
                // Large enough for a full chunk or for all that remains, whichever is smaller.
                let remaining = self.order.len() - self.next;
                chunk.reserve(needed.max(CHUNK_BYTES.min(remaining.saturating_mul(needed))));
            }
            let position = identified.entry(*ordinal as usize).map_or(0, |entry| entry.position);
            write_stamped(&mut chunk, document, shard, position);
            self.next += 1;
        }
        Some((shard, Bytes::from(chunk)))
    }
}

/// Appends a document with its hidden fields, and a line end.
fn write_stamped(output: &mut Vec<u8>, document: &[u8], shard: ShardId, position: u64) {
    let fields = document.get(1..).unwrap_or_default();
    output.extend_from_slice(b"{\"");
    output.extend_from_slice(hidden::SHARD_FIELD.as_bytes());
    output.extend_from_slice(b"\":\"");
    output.extend_from_slice(hidden::encode_shard(shard).as_bytes());
    output.extend_from_slice(b"\",\"");
    output.extend_from_slice(hidden::INSERTED_AT_FIELD.as_bytes());
    output.extend_from_slice(b"\":\"");
    output.extend_from_slice(hidden::encode_position(position).as_bytes());
    output.push(b'"');
    if fields.trim_ascii_start().first() != Some(&b'}') {
        output.push(b',');
    }
    output.extend_from_slice(fields);
    output.push(b'\n');
}

impl DocumentBatch {
    /// Every distinct id with its position in the index's order of insertion, once positions are assigned.
    pub fn positions(&self) -> impl Iterator<Item = (&str, u64)> {
        let distinct = self.identified.distinct.iter().enumerate();
        distinct.map(|(index, entry)| (self.identified.id(index), entry.position))
    }
}
