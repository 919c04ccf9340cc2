//! Why a node gave no usable answer. An answer with a 4xx status is an answer, not one of these.

use std::time::Duration;

use serde_json::Value;

use crate::NodeId;

/// A call that a node did not answer properly.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NodeError {
    /// No connection, or it broke before the answer was complete.
    #[error("node `{node}` cannot be reached: {reason}")]
    Unreachable {
        /// The node.
        node: NodeId,
        /// What the connection said.
        reason: String,
    },
    /// No complete answer within the call's limit.
    #[error("node `{node}` did not answer within {} ms", limit.as_millis())]
    TimedOut {
        /// The node.
        node: NodeId,
        /// The limit that passed.
        limit: Duration,
    },
    /// The node refused Miroir's own credentials.
    #[error("node `{node}` refused the node key: set node_master_key to the key that node was started with")]
    Refused {
        /// The node.
        node: NodeId,
    },
    /// The node answered with a 5xx.
    #[error("node `{node}` answered with status {status}: {message}")]
    Failed {
        /// The node.
        node: NodeId,
        /// HTTP status, 500 or above.
        status: u16,
        /// The beginning of what it said.
        message: String,
    },
    /// The answer is not what a Meilisearch would say.
    #[error("node `{node}` gave an answer that is not Meilisearch's: {reason}")]
    Unintelligible {
        /// The node.
        node: NodeId,
        /// What was expected.
        reason: String,
    },
    /// A task that the node took failed there.
    #[error("task {task} failed on node `{node}`: {error}")]
    TaskFailed {
        /// The node.
        node: NodeId,
        /// Number of the task on that node.
        task: u64,
        /// What the node says of it; `null` when it was canceled.
        error: Value,
    },
}

impl NodeError {
    /// The node concerned.
    pub fn node(&self) -> &NodeId {
        match self {
            Self::Unreachable { node, .. }
            | Self::TimedOut { node, .. }
            | Self::Refused { node }
            | Self::Failed { node, .. }
            | Self::Unintelligible { node, .. }
            | Self::TaskFailed { node, .. } => node,
        }
    }

    /// Whether the node may have carried out the call although it did not say so.
    pub fn is_ambiguous(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }
}
