//! A write as a client asked for it, and what it amounts to.

use bytes::Bytes;
use miroir_core::documents::DocumentBatch;
use miroir_core::error::ApiError;
use miroir_core::settings::{SettingsMethod, SettingsRoute};
use miroir_store::IndexRecord;
use serde_json::Value;

use crate::write::operation::{Operation, Payload};

/// A write as a client asked for it.
pub enum WriteRequest {
    /// Make an index.
    CreateIndex {
        /// Primary key, if named.
        primary_key: Option<String>,
    },
    /// Change the primary key.
    UpdateIndex {
        /// New primary key, if named.
        primary_key: Option<String>,
    },
    /// Drop the index.
    DeleteIndex,
    /// Change settings.
    ChangeSettings {
        /// Which of them.
        route: SettingsRoute,
        /// How.
        method: SettingsMethod,
        /// The body, untouched.
        body: Option<Bytes>,
        /// Whether the caller may make an index that is not there.
        may_create: bool,
    },
    /// Add or update documents.
    AddDocuments {
        /// The documents.
        batch: DocumentBatch,
        /// Keep fields that are not given.
        update: bool,
        /// `?primaryKey=`.
        primary_key: Option<String>,
        /// Whether the caller may make an index that is not there.
        may_create: bool,
    },
    /// Delete documents by id.
    DeleteDocuments {
        /// The ids.
        ids: Vec<String>,
    },
    /// Delete documents by filter.
    DeleteByFilter {
        /// The filter.
        filter: Value,
    },
    /// Delete all documents.
    ClearDocuments,
}

/// What a write amounts to.
pub enum Prepared {
    /// Nothing is sent; the task has ended as it begins.
    Ended {
        /// Meilisearch's `details`.
        details: Value,
        /// Why it failed; `None` when it succeeded without anything to do.
        error: Option<ApiError>,
    },
    /// To be recorded and sent.
    Send(Box<ToSend>),
}

/// A write that is ready to be recorded and sent.
pub struct ToSend {
    /// What is asked of the nodes.
    pub operation: Operation,
    /// Meilisearch's `details`.
    pub details: Value,
    /// The documents.
    pub payload: Payload,
    /// The index's record after the write; `None` when the write drops it.
    pub record: Option<IndexRecord>,
}

/// Meilisearch's name for a change of settings.
pub(crate) const SETTINGS_UPDATE: &str = "settingsUpdate";
/// The same for the deletion of an index.
pub(crate) const INDEX_DELETION: &str = "indexDeletion";

impl WriteRequest {
    /// Meilisearch's name for the kind of task.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CreateIndex { .. } => "indexCreation",
            Self::UpdateIndex { .. } => "indexUpdate",
            Self::DeleteIndex => INDEX_DELETION,
            Self::ChangeSettings { .. } => SETTINGS_UPDATE,
            Self::AddDocuments { .. } => "documentAdditionOrUpdate",
            Self::DeleteDocuments { .. } | Self::DeleteByFilter { .. } | Self::ClearDocuments => {
                "documentDeletion"
            }
        }
    }
}
