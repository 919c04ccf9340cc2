//! The read path: one file per thing that can be read, and `gather`, which asks a cover of nodes for all of them.

mod browse;
mod explain;
mod facet_search;
mod federated;
mod frequency;
mod gather;
mod last_word;
mod multi_search;
mod part;
mod restrict;
mod search;
mod shared;
mod similar;
mod spelling;
mod stats;

pub use browse::BrowseInput;
pub(crate) use gather::Reading;
pub(crate) use restrict::{restricted_body, restricted_searches};
pub use search::SearchInput;
pub(crate) use search::reserved_field;

use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use miroir_core::error::{ApiError, ErrorType};
use miroir_core::latency::HedgeBudget;
use miroir_core::shard::ShardId;

/// What reads know of each other.
#[derive(Default)]
pub(crate) struct Reads {
    /// The searches that are being answered.
    pub(crate) shared: shared::SharedSearches,
    hedge_budget: Mutex<HedgeBudget>,
}

impl Reads {
    pub(crate) fn hedge_budget(&self) -> MutexGuard<'_, HedgeBudget> {
        match self.hedge_budget.lock() {
            Ok(budget) => budget,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

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

/// Code of the error for shards that no node can answer for.
pub(crate) const SHARD_UNAVAILABLE: &str = "miroir_shard_unavailable";

/// The error for shards that no node can answer for.
pub(crate) fn shard_unavailable(missing: &[ShardId]) -> ApiError {
    let list = missing.iter().map(|shard| shard.0.to_string()).collect::<Vec<_>>().join(",");
    let message = format!(
        "No replica of shards {list} can be reached. Start the nodes that hold them; `GET /_miroir/topology` tells which are down."
    );
    ApiError::new(503, SHARD_UNAVAILABLE, ErrorType::Internal, message)
}
