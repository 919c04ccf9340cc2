//! Everything at once: dumps in Meilisearch's own form, made and taken in, and snapshots of all nodes.
//!
//! Making one is a Miroir task that a background job carries out (`workers/archives.rs`): `request` records it, `dump`
//! reads the indexes (`documents`, a stretch at a time) into a file (`file`), `snapshot` has the nodes make theirs. `export` sends
//! indexes to another server. Taking one in is `import`.

mod documents;
mod dump;
mod export;
mod file;
mod import;
mod request;
mod snapshot;

use miroir_core::error::{ApiError, ErrorType};
use miroir_store::StoreError;

use crate::replicas::ensure::RepairError;
use crate::store_error;

pub(crate) use file::remove_unfinished;
pub(crate) use import::{Import, ImportStatus, Survey};
pub(crate) use request::ArchiveKind;

/// Why an archive was not made.
#[derive(Debug)]
pub(crate) enum NotMade {
    /// It may be possible a little later.
    Now(ApiError),
    /// It has failed.
    Ever(ApiError),
}

impl NotMade {
    /// The error to tell.
    pub fn error(&self) -> &ApiError {
        match self {
            Self::Now(error) | Self::Ever(error) => error,
        }
    }
}

impl From<ApiError> for NotMade {
    fn from(error: ApiError) -> Self {
        if error.status == 503 { Self::Now(error) } else { Self::Ever(error) }
    }
}

impl From<StoreError> for NotMade {
    fn from(error: StoreError) -> Self {
        Self::Ever(store_error(error))
    }
}

impl From<RepairError> for NotMade {
    fn from(error: RepairError) -> Self {
        match error {
            RepairError::Store(error) => error.into(),
            error => Self::Now(ApiError::new(
                503,
                "miroir_archive_failed",
                ErrorType::Internal,
                format!("It cannot be made now: {error}. Try again later."),
            )),
        }
    }
}

/// What a client is told when a file cannot be written or read; `what` says which, with its path.
pub(crate) fn file_error(what: &str, error: &std::io::Error) -> ApiError {
    let message = format!("{what}: {error}.");
    match error.kind() {
        // Meilisearch's own codes.
        std::io::ErrorKind::StorageFull => {
            ApiError::new(507, "no_space_left_on_device", ErrorType::System, message)
        }
        _ => ApiError::new(422, "io_error", ErrorType::System, message),
    }
}
