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
    /// Missed something: waiting for repair. It holds what the index held at a moment of the past, so a document
    /// that was last changed by the same write as an active replica's is equal to it.
    Stale,
    /// Being filled, or filled anew: what it holds may be anything.
    Joining,
    /// About to go: read and written until its successor is active.
    Leaving,
}

impl ReplicaState {
    /// Whether searches and reads may use it.
    pub fn is_readable(self) -> bool {
        matches!(self, Self::Active | Self::Leaving)
    }

    /// Whether documents are sent to it. Repair copies all that it lacks, so it need not be sent any before that;
    /// and one that is not stays what it was at a moment of the past. What is about the whole index goes to every
    /// node that holds some of it.
    pub fn is_written(self) -> bool {
        self.is_readable()
    }

    /// Whether it has to be compared with an active one by content: its documents may differ although they were
    /// last changed by the same write.
    pub fn is_doubtful(self) -> bool {
        matches!(self, Self::Joining)
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
