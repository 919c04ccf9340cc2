//! Which shard a document belongs to: `xxh3_64(primary key as text) mod S`.
//!
//! The textual form is hashed because the ids `1` and `"1"` name the same document to Meilisearch.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Number of a shard inside its index, from 0 to S - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(pub u16);

/// The shard of a document id, given the index's number of shards (at least 1).
pub fn shard_of(document_id: &str, shards: u16) -> ShardId {
    let shards = u64::from(shards.max(1));
    // The remainder is below 65,536, so the conversion cannot lose anything.
    ShardId((xxh3_64(document_id.as_bytes()) % shards) as u16)
}
