//! What is stored: indexes, the states of replicas, tasks, and the intents of writes not yet acknowledged.
//!
//! Times are RFC 3339 text, as clients see them. A backend keeps them comparable in whatever way suits it and
//! gives them back in UTC.

use std::time::Duration;

use bytes::Bytes;
use miroir_core::replica::ReplicaState;
use miroir_core::shard::ShardId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Uid of a Miroir task: one increasing sequence starting at 0, never reused.
pub type TaskUid = u64;

/// Everything Miroir remembers about one index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexRecord {
    /// Name of the index, as clients know it.
    pub uid: String,
    /// Its name on the nodes, which it keeps for life: the same, unless it has been renamed or the name was in use.
    pub node_uid: String,
    /// Field that identifies documents, once known.
    pub primary_key: Option<String>,
    /// Number of shards, fixed at creation.
    pub shards: u16,
    /// When it was created (RFC 3339).
    pub created_at: String,
    /// When it last changed (RFC 3339).
    pub updated_at: String,
    /// Insertion position the next new document gets.
    pub next_position: u64,
    /// Settings as clients see them, as last committed.
    pub settings: Value,
    /// The part of the user's settings that only Miroir holds, as last accepted.
    pub overlay: Value,
    /// Grows by one with every settings change.
    pub settings_version: u64,
    /// Canonical hash of the settings in the form nodes hold them.
    pub settings_hash: String,
    /// Shard number to the ids of the nodes holding it.
    pub placement: Vec<Vec<String>>,
    /// Grows by one with every change of `placement`.
    pub placement_epoch: u64,
    /// Ids of the nodes whose own order of documents may not be that of insertion.
    pub disordered: Vec<String>,
    /// Whether ids of documents may have capital letters.
    pub capital_ids: bool,
}

/// A change to the record of an index, made in the same transaction as what caused it.
#[derive(Debug, Clone, PartialEq)]
pub enum IndexChange {
    /// Creates the index or replaces its record.
    Put(Box<IndexRecord>),
    /// Moves the insertion position forward, without rewriting the settings: what most document writes need.
    /// A position never moves backwards.
    Advance {
        /// Name of the index.
        uid: String,
        /// Position the next new document gets.
        next_position: u64,
        /// When the write happened (RFC 3339).
        updated_at: String,
    },
    /// Forgets the index and the states of its replicas.
    Delete(String),
}

/// Two indexes whose names are exchanged, or one that gets another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexSwap {
    /// The names.
    pub indexes: (String, String),
    /// The index of the first name gets the second, which none has.
    pub rename: bool,
}

/// One replica: a shard of an index on a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaKey {
    /// Name of the index.
    pub index_uid: String,
    /// Shard of that index.
    pub shard: ShardId,
    /// Id of the node.
    pub node: String,
}

/// The state of a replica and why it is in it. Replicas nothing is stored about are active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Which replica.
    pub key: ReplicaKey,
    /// Its state.
    pub state: ReplicaState,
    /// Why, for the operator. Dropped when the state is active.
    pub reason: String,
}

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskStatus {
    /// Accepted, not started on the nodes.
    Enqueued,
    /// Started on at least one node.
    Processing,
    /// Done on every replica that counts.
    Succeeded,
    /// Failed, with nothing applied.
    Failed,
    /// Canceled before it was done.
    Canceled,
}

impl TaskStatus {
    /// Whether nothing more will happen to the task.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }

    /// The name clients use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enqueued => "enqueued",
            Self::Processing => "processing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// Reads the name clients use.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Enqueued, Self::Processing, Self::Succeeded, Self::Failed, Self::Canceled]
            .into_iter()
            .find(|status| status.as_str() == name)
    }
}

/// How long a key keeps a request from being carried out twice. A client that has tried for a day has given up, and
/// keys must not be kept for ever.
pub const IDEMPOTENCY_KEY_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The key a client gave to a request, and what the request was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The client's own name for it.
    pub key: String,
    /// Tells this request from others.
    pub digest: u128,
}

/// What a client said about a write besides what to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WriteMarks {
    /// It must be carried out once, however often it is sent.
    pub idempotency: Option<IdempotencyKey>,
    /// Whose reads have to see it.
    pub session: Option<String>,
}

/// The task a key was used for: what its client was told, which outlives the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedTask {
    /// Digest of the request that made it.
    pub digest: u128,
    /// Uid of the task.
    pub uid: TaskUid,
    /// Index it is about, if it is about one.
    pub index_uid: Option<String>,
    /// Its kind.
    pub kind: String,
    /// When it was accepted (RFC 3339, UTC).
    pub enqueued_at: String,
    /// Its intent has not been cleared.
    pub is_open: bool,
}

/// A task to record.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// Index it is about, if it is about one.
    pub index_uid: Option<String>,
    /// Meilisearch's name of the kind, such as `documentAdditionOrUpdate`.
    pub kind: String,
    /// Meilisearch's `details`.
    pub details: Value,
    /// When it was accepted (RFC 3339).
    pub enqueued_at: String,
    /// Set for a task born finished, such as one that failed validation.
    pub outcome: Option<TaskOutcome>,
    /// What the client said about it.
    pub marks: WriteMarks,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskOutcome {
    /// A finished status.
    pub status: TaskStatus,
    /// The error clients see, for a failed task.
    pub error: Option<Value>,
    /// Replaces the details recorded at the start, when set.
    pub details: Option<Value>,
    /// Uid of the task that canceled this one.
    pub canceled_by: Option<TaskUid>,
    /// When it started (RFC 3339). When not set, what was recorded before stays.
    pub started_at: Option<String>,
    /// When it ended (RFC 3339).
    pub finished_at: String,
}

/// The bytes to send, in chunks.
///
/// Their order is kept, but not where they are cut: long chunks are split and short ones are joined. It is
/// consumed on the store's writer thread, which serves everyone, so it must not wait for anything slower than a
/// local file.
pub type Payload = Box<dyn Iterator<Item = std::io::Result<Bytes>> + Send>;

/// What is about to be sent to the nodes, recorded before it is sent.
pub struct Intent {
    /// What to do, in the sequencer's own words.
    pub operation: Value,
    /// The documents concerned; never held in memory as a whole.
    pub payload: Payload,
    /// Changes to index records that come with it.
    pub index_changes: Vec<IndexChange>,
}

impl Intent {
    /// An intent without a payload.
    pub fn without_payload(operation: Value, index_changes: Vec<IndexChange>) -> Self {
        Self { operation, payload: Box::new(std::iter::empty()), index_changes }
    }
}

impl std::fmt::Debug for Intent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Intent")
            .field("operation", &self.operation)
            .field("index_changes", &self.index_changes)
            .finish_non_exhaustive()
    }
}

/// One stored row of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadChunk {
    /// Place in the payload; pass it to get the next one.
    pub seq: u64,
    /// The bytes.
    pub bytes: Bytes,
}

/// A task that a node was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeTask {
    /// Id of the node.
    pub node: String,
    /// Uid of the task on that node.
    pub task_uid: u64,
    /// When the node took it, in its own words, as far as that is known. Kept of the newest task of a node only.
    #[serde(skip)]
    pub enqueued_at: Option<String>,
}

/// What is known once every replica has answered: recorded in one transaction that also clears the intent,
/// or keeps it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Acknowledgement {
    /// The Miroir task.
    pub task_uid: TaskUid,
    /// The node tasks it became.
    pub node_tasks: Vec<NodeTask>,
    /// Replicas whose state changed, such as those that missed the write.
    pub replica_changes: Vec<ReplicaStatus>,
    /// Changes to index records that take effect with the acknowledgement.
    pub index_changes: Vec<IndexChange>,
    /// Whether the intent is kept until the task has ended, because it may be taken back from some nodes and then
    /// have to be sent to them again.
    pub keeps_intent: bool,
}

/// A task as recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRecord {
    /// Its uid.
    pub uid: TaskUid,
    /// Index it is about, if it is about one.
    pub index_uid: Option<String>,
    /// Meilisearch's name of the kind.
    pub kind: String,
    /// Where it is in its life.
    pub status: TaskStatus,
    /// Meilisearch's `details`.
    pub details: Value,
    /// The error clients see, for a failed task.
    pub error: Option<Value>,
    /// Uid of the task that canceled it.
    pub canceled_by: Option<TaskUid>,
    /// When it was accepted (RFC 3339, UTC).
    pub enqueued_at: String,
    /// When it started (RFC 3339, UTC).
    pub started_at: Option<String>,
    /// When it ended (RFC 3339, UTC).
    pub finished_at: Option<String>,
    /// The node tasks it became. Empty for a finished task: they are needed no more.
    pub node_tasks: Vec<NodeTask>,
}

impl TaskRecord {
    /// The batch it belongs to, once it has started. A task is a batch of its own; one that was canceled belongs to
    /// the batch of what canceled it, as with Meilisearch.
    pub fn batch_uid(&self) -> Option<TaskUid> {
        (self.status != TaskStatus::Enqueued).then(|| self.canceled_by.unwrap_or(self.uid))
    }
}

/// Which tasks to list, or batches with such tasks. `None` does not filter; an empty list matches nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TaskQuery {
    /// Only these uids.
    pub uids: Option<Vec<TaskUid>>,
    /// Only tasks of these batches (see [`TaskRecord::batch_uid`]).
    pub batch_uids: Option<Vec<TaskUid>>,
    /// Only these statuses.
    pub statuses: Option<Vec<TaskStatus>>,
    /// Only these kinds, by Meilisearch's names.
    pub types: Option<Vec<String>>,
    /// Only tasks about these indexes.
    pub index_uids: Option<Vec<String>>,
    /// Only tasks about indexes with these names, or beginnings of names followed by `*`: what the caller may see.
    pub visible: Option<Vec<String>>,
    /// Only tasks canceled by these.
    pub canceled_by: Option<Vec<TaskUid>>,
    /// Accepted strictly before (RFC 3339).
    pub before_enqueued_at: Option<String>,
    /// Accepted strictly after (RFC 3339).
    pub after_enqueued_at: Option<String>,
    /// Started strictly before (RFC 3339).
    pub before_started_at: Option<String>,
    /// Started strictly after (RFC 3339).
    pub after_started_at: Option<String>,
    /// Ended strictly before (RFC 3339).
    pub before_finished_at: Option<String>,
    /// Ended strictly after (RFC 3339).
    pub after_finished_at: Option<String>,
    /// First uid of the page, included. The total does not depend on it.
    pub from: Option<TaskUid>,
    /// Length of the page; `None` is everything.
    pub limit: Option<u64>,
    /// Oldest first instead of newest first.
    pub reverse: bool,
}

/// A page of tasks.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TaskPage {
    /// The tasks of the page, in the order asked for.
    pub tasks: Vec<TaskRecord>,
    /// How many tasks match in all.
    pub total: u64,
    /// `from` of the next page, if there is one.
    pub next: Option<TaskUid>,
}

/// A batch: the task it is named after, and those that this one canceled.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchRecord {
    /// The task whose uid it has.
    pub task: TaskRecord,
    /// The canceled tasks in it.
    pub others: Vec<BatchMembers>,
}

/// Canceled tasks of a batch that are of the same kind and about the same index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchMembers {
    /// Their kind.
    pub kind: String,
    /// The index they are about.
    pub index_uid: Option<String>,
    /// How many there are.
    pub tasks: u64,
}

/// A page of batches.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BatchPage {
    /// The batches of the page, in the order asked for.
    pub batches: Vec<BatchRecord>,
    /// How many batches match in all.
    pub total: u64,
    /// `from` of the next page, if there is one.
    pub next: Option<TaskUid>,
}
