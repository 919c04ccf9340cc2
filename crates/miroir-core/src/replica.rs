//! The states of a replica (one shard of one index on one node), and what each state allows.
//!
//! One enum whose predicates answer every question, so that no other place decides what a state means.

use serde::{Deserialize, Serialize};

/// State of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaState {
    /// Holds every acknowledged write: read and written.
    Active,
    /// Missed something: written, not read, waiting for repair.
    Stale,
    /// Being filled for the first time: written, not read.
    Joining,
    /// About to go: read and written until its successor is active.
    Leaving,
}

impl ReplicaState {
    /// Whether searches and reads may use it.
    pub fn is_readable(self) -> bool {
        matches!(self, Self::Active | Self::Leaving)
    }

    /// Whether writes are sent to it.
    pub fn is_written(self) -> bool {
        true
    }

    /// Whether it counts as having a write when it acknowledged one.
    pub fn counts_for_quorum(self) -> bool {
        self.is_readable()
    }

    /// Whether the repair worker has to do something about it.
    pub fn needs_repair(self) -> bool {
        matches!(self, Self::Stale | Self::Joining)
    }
}
