//! The service: HTTP routes, the write sequencer, the search path and the background workers.
//!
//! A request's path reads top to bottom: `http` understands it, `read` or `write` carries it out, `workers`
//! finish in the background what a write began.

mod backoff;
mod clock;
mod cluster;
mod config;
mod http_api;
mod index;
mod read;
mod run;
mod translate;
mod workers;
mod write;

pub use cluster::Cluster;
pub use config::{Config, NodeConfig, Secret, UnavailableShardPolicy};
pub use run::{ServeError, Server, run};

use miroir_core::error::{ApiError, ErrorType};

/// What a client is told when the store fails.
pub(crate) fn store_error(error: miroir_store::StoreError) -> ApiError {
    tracing::error!(%error, "the store failed");
    match error {
        // Meilisearch's own code for a full disk.
        miroir_store::StoreError::Full { .. } => ApiError::new(
            507,
            "no_space_left_on_device",
            ErrorType::System,
            "There is no more space left on the device that holds Miroir's store. Free some space and try again.",
        ),
        error => ApiError::new(
            500,
            "miroir_store_failed",
            ErrorType::Internal,
            format!("Miroir's store failed: {error}."),
        ),
    }
}
