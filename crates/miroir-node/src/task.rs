//! The part of a node's tasks that Miroir follows.

use serde::Deserialize;
use serde_json::Value;

use crate::call::Call;
use crate::error::NodeError;
use crate::node::Node;
use std::time::Duration;

/// Status of a task on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeTaskStatus {
    /// Waiting.
    Enqueued,
    /// Being carried out.
    Processing,
    /// Done.
    Succeeded,
    /// Not done, for the reason in `error`.
    Failed,
    /// Somebody cancelled it on the node.
    Canceled,
}

impl NodeTaskStatus {
    /// Whether nothing more will happen to the task.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }
}

/// A task as a node shows it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeTaskState {
    /// Number of the task on that node.
    pub uid: u64,
    /// Where it stands.
    pub status: NodeTaskStatus,
    /// Counts and settings, by task type.
    #[serde(default)]
    pub details: Option<Value>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<Value>,
    /// When the node began, RFC 3339.
    #[serde(default)]
    pub started_at: Option<String>,
    /// When the node ended, RFC 3339.
    #[serde(default)]
    pub finished_at: Option<String>,
}

#[derive(Deserialize)]
struct TaskPage {
    results: Vec<NodeTaskState>,
}

/// How many tasks are asked for in one request.
const TASKS_PER_REQUEST: usize = 200;

impl Node {
    /// Asks where some tasks stand. Those the node does not know are absent from the answer.
    pub async fn tasks(&self, uids: &[u64], limit: Duration) -> Result<Vec<NodeTaskState>, NodeError> {
        let mut states = Vec::with_capacity(uids.len());
        for part in uids.chunks(TASKS_PER_REQUEST) {
            let list = part.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
            let call = Call::get(format!("/tasks?limit={}&uids={list}", part.len()), limit);
            states.extend(self.fetch::<TaskPage>(&call).await?.results);
        }
        Ok(states)
    }
}
