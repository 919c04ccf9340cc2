//! The service: HTTP routes, the write sequencer, the search path and the background workers.
//!
//! A request's path reads top to bottom: `http` understands it, `read` or `write` carries it out, `workers`
//! finish in the background what a write began.

mod archives;
mod backoff;
mod clock;
mod cluster;
mod config;
mod features;
mod http_api;
mod index;
mod index_uid;
mod keys;
mod read;
mod replicas;
mod run;
mod translate;
mod webhooks;
mod workers;
mod write;

pub use cluster::Cluster;
pub use config::{Config, NodeConfig, Secret, TaskWebhook, UnavailableShardPolicy};
pub use http_api::{Asks, Origin, ROUTES, Route, SETTINGS, Served, Setting};
pub use run::{ServeError, Server, run};

use miroir_core::error::{ApiError, ErrorType};

/// What a client is told when the store fails.
pub(crate) fn store_error(error: miroir_store::StoreError) -> ApiError {
    if let miroir_store::StoreError::KeyTaken { key, task } = error {
        return write::key_reused(&key, task);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use miroir_store::StoreError;

    #[test]
    fn a_client_is_told_what_to_do_about_the_store() {
        let path = std::path::PathBuf::from("/var/lib/miroir.db");
        let full = store_error(StoreError::Full { path: path.clone() });
        assert_eq!((full.status, &*full.code), (507, "no_space_left_on_device"));
        assert!(full.message.contains("Free some space"), "{}", full.message);
        let read_only = store_error(StoreError::ReadOnly { path });
        assert_eq!((read_only.status, &*read_only.code), (500, "miroir_store_failed"));
        let advice = "/var/lib/miroir.db cannot be written: let the user Miroir runs as write that file";
        assert!(read_only.message.contains(advice), "{}", read_only.message);
    }
}
