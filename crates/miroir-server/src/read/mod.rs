//! The read path: one file per thing that can be read, and `gather`, which asks a cover of nodes for all of them.

mod browse;
mod frequency;
mod gather;
mod last_word;
mod search;
mod spelling;
mod stats;

pub use browse::BrowseInput;
pub use search::SearchInput;
pub(crate) use search::reserved_field;

use bytes::Bytes;
use miroir_core::error::{ApiError, ErrorType};
use miroir_core::shard::ShardId;

/// An answer to a read, and how far it can be trusted.
#[derive(Debug, Clone)]
pub struct ReadAnswer {
    /// JSON body.
    pub body: Bytes,
    /// Shards that no node could answer for: `X-Miroir-Degraded`.
    pub missing: Vec<ShardId>,
    /// Settings were being changed meanwhile: `X-Miroir-Settings-Inconsistent`.
    pub settings_inconsistent: bool,
}

/// The error for shards that no node can answer for.
pub(crate) fn shard_unavailable(missing: &[ShardId]) -> ApiError {
    let list = missing.iter().map(|shard| shard.0.to_string()).collect::<Vec<_>>().join(",");
    let message = format!(
        "No replica of shards {list} can be reached. Start the nodes that hold them; `GET /_miroir/topology` tells which are down."
    );
    ApiError::new(503, "miroir_shard_unavailable", ErrorType::Internal, message)
}
