//! Why the store could not do what it was asked, in words an operator can act on.

use std::path::PathBuf;

/// An error of the store. Cloneable, because one failed commit fails every write that was part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing more can be written.
    #[error("the disk holding {} is full: free some space there, writes are refused until then", path.display())]
    Full {
        /// The database file.
        path: PathBuf,
    },
    /// Another process uses the same store.
    #[error("{} is in use by another process: stop the other Miroir, or give this one its own task_store.path", path.display())]
    Locked {
        /// The database file.
        path: PathBuf,
    },
    /// The file or its directory may not be written.
    #[error("{} cannot be written: let the user Miroir runs as write that file and its directory", path.display())]
    ReadOnly {
        /// The database file.
        path: PathBuf,
    },
    /// The file cannot be opened or created.
    #[error("{} cannot be opened: {reason}", path.display())]
    CannotOpen {
        /// The database file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The content is damaged.
    #[error("{} is damaged ({reason}): restore it from a backup", path.display())]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file belongs to something else.
    #[error("{} is a database, but not one of Miroir's: choose another task_store.path", path.display())]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// The content was written by another version of Miroir.
    #[error("{} has schema version {found} and this Miroir reads {known}: use the Miroir that wrote it, or name another file", path.display())]
    OtherSchema {
        /// The database file.
        path: PathBuf,
        /// Version of the content.
        found: u32,
        /// The version read here.
        known: u32,
    },
    /// No task has this uid.
    #[error("task {0} is not in the store")]
    UnknownTask(u64),
    /// No index has this name.
    #[error("index `{0}` is not in the store")]
    UnknownIndex(String),
    /// The key of the task to record has been used for another.
    #[error("the key `{key}` was used for task {task}")]
    KeyTaken {
        /// The key.
        key: String,
        /// The task it was used for.
        task: u64,
    },
    /// The caller passed something that cannot be stored.
    #[error("cannot be stored: {0}")]
    Invalid(String),
    /// The payload of an intent could not be read; nothing was stored.
    #[error("the documents could not be read back while being stored: {0}")]
    Payload(String),
    /// The store is shut down.
    #[error("the store is shut down")]
    Closed,
    /// Anything else.
    #[error("the store failed: {0}")]
    Backend(String),
}
