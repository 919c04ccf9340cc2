//! Durable cluster state: what must survive the death of every Miroir process.
//!
//! One trait, [`Store`], with one backend per way of running Miroir: SQLite for a single process. A backend is
//! right when the conformance suite passes for it.
//!
//! Writes are a redo log: a task, the intent to change nodes and the documents to send are recorded in one
//! transaction before any node hears of them, and the intent is cleared once every replica has answered. What is
//! found open at start is sent again, in order.

pub mod error;
pub mod model;
pub mod sqlite;

#[cfg(test)]
mod conformance;

use std::path::Path;

use async_trait::async_trait;
use serde_json::Value;

pub use error::StoreError;
pub use model::{
    Acknowledgement, BatchMembers, BatchPage, BatchRecord, IDEMPOTENCY_KEY_LIFETIME, IdempotencyKey,
    IndexChange, IndexRecord, IndexSwap, Intent, KeyedTask, NewTask, NodeTask, Payload, PayloadChunk,
    ReplicaKey, ReplicaStatus, TaskOutcome, TaskPage, TaskQuery, TaskRecord, TaskStatus, TaskUid, WriteMarks,
};
pub use sqlite::SqliteStore;

/// Name under which [`Store::meta`] keeps the newest task that a node has acknowledged: its number, in digits, and after a
/// blank when the node took it, if that is known.
pub fn newest_task_key(node: &str) -> String {
    format!("newest-task:{node}")
}

/// Name under which [`Store::meta`] tells that an index with this name on the nodes goes by another name, or did: the
/// name is never given to another index on nodes.
pub fn moved_index_key(node_uid: &str) -> String {
    format!("moved-index:{node_uid}")
}

/// Durable cluster state, used as `Arc<dyn Store>`.
///
/// When a method returns `Ok`, its effect survives a crash. When a caller drops the future before it is ready,
/// the effect may still take place: whoever must know the result runs the call in a task of its own.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Every index, by name.
    async fn indexes(&self) -> Result<Vec<IndexRecord>, StoreError>;

    /// One index.
    async fn index(&self, uid: &str) -> Result<Option<IndexRecord>, StoreError>;

    /// Changes the records of indexes, all or none.
    async fn change_indexes(&self, changes: Vec<IndexChange>) -> Result<(), StoreError>;

    /// Creates an index or replaces its record.
    async fn put_index(&self, record: IndexRecord) -> Result<(), StoreError> {
        self.change_indexes(vec![IndexChange::Put(Box::new(record))]).await
    }

    /// Forgets an index and the states of its replicas. Fine when there is none.
    async fn delete_index(&self, uid: &str) -> Result<(), StoreError> {
        self.change_indexes(vec![IndexChange::Delete(uid.to_owned())]).await
    }

    /// Gives indexes other names, one swap after the other, and ends the task that asked for it with its intent, all or
    /// nothing. The tasks about the first index of each swap that came before are about the second name from then on,
    /// and where that is a new name, those about it are about the first: as Meilisearch has it. What they are called
    /// on nodes is kept under [`moved_index_key`].
    async fn swap_indexes(
        &self,
        task: TaskUid,
        outcome: TaskOutcome,
        swaps: Vec<IndexSwap>,
    ) -> Result<(), StoreError>;

    /// Every replica that is not active.
    async fn replica_states(&self) -> Result<Vec<ReplicaStatus>, StoreError>;

    /// Records states of replicas, all or none. An active one needs no record and loses the one it has.
    async fn set_replica_states(&self, changes: Vec<ReplicaStatus>) -> Result<(), StoreError>;

    /// Records a task and, unless it is born finished, what is about to be sent to the nodes, all or nothing.
    /// Uids follow the order of the calls. A key that a task has, and that was not used
    /// [`IDEMPOTENCY_KEY_LIFETIME`] ago, is refused with [`StoreError::KeyTaken`].
    async fn begin(&self, task: NewTask, intent: Option<Intent>) -> Result<TaskUid, StoreError>;

    /// Puts another intent in the place of a task's, with the details that the task has from then on, all or nothing:
    /// what was to be found out has been, and is about to be sent.
    async fn replace_intent(&self, task: TaskUid, details: Value, intent: Intent) -> Result<(), StoreError>;

    /// Clears the intent of a task, or keeps it until the task has ended, and records the node tasks, with the changes
    /// that come with them. The newest task of each node is kept under [`newest_task_key`], which never goes back by
    /// this.
    async fn acknowledged(&self, acknowledgement: Acknowledgement) -> Result<(), StoreError>;

    /// Keeps of each node the newest of these tasks and of those kept before, under [`newest_task_key`].
    async fn note_newest_tasks(&self, tasks: Vec<NodeTask>) -> Result<(), StoreError>;

    /// The intents neither cleared nor kept, with their tasks, by uid: what to send again after a crash, to all nodes
    /// but those of the node tasks that are given with it.
    async fn open_intents(&self) -> Result<Vec<(TaskRecord, Value)>, StoreError>;

    /// What a task was to do, if that was acknowledged and kept; its payload is that of an intent.
    async fn kept_intent(&self, uid: TaskUid) -> Result<Option<Value>, StoreError>;

    /// Ends tasks that were canceled, and makes kept intents open ones, of which no nodes but those of these node
    /// tasks have anything, all or nothing. The tasks themselves have no node tasks then.
    async fn cancel(
        &self,
        canceled: Vec<(TaskUid, TaskOutcome)>,
        reopened: Vec<(TaskUid, Vec<NodeTask>)>,
    ) -> Result<(), StoreError>;

    /// The next chunk of an intent's payload: the first, or the one after `after_seq`.
    async fn intent_payload(
        &self,
        uid: TaskUid,
        after_seq: Option<u64>,
    ) -> Result<Option<PayloadChunk>, StoreError>;

    /// The task for which a key was used less than [`IDEMPOTENCY_KEY_LIFETIME`] before `now` (RFC 3339), also when it
    /// has been deleted since. A task that is taken back gives its key free.
    async fn keyed_task(&self, key: &str, now: &str) -> Result<Option<KeyedTask>, StoreError>;

    /// The newest task of a session about an index that has not ended.
    async fn session_task(&self, session: &str, index_uid: &str) -> Result<Option<TaskUid>, StoreError>;

    /// Makes a task that came to nothing as if it had never been: clears its intent, forgets it, and takes back
    /// what it changed of indexes, all or nothing.
    async fn take_back(&self, uid: TaskUid, index_changes: Vec<IndexChange>) -> Result<(), StoreError>;

    /// Clears the intent of a task that came to nothing, ends the task, and takes back what it changed of
    /// indexes, all or nothing.
    async fn abandon_intent(
        &self,
        uid: TaskUid,
        outcome: TaskOutcome,
        index_changes: Vec<IndexChange>,
    ) -> Result<(), StoreError>;

    /// Marks tasks as started. Those started or finished already are left alone.
    async fn set_processing(&self, uids: Vec<TaskUid>, started_at: String) -> Result<(), StoreError>;

    /// Ends a task; `false` when it had ended before, and then nothing changes.
    async fn finish(&self, uid: TaskUid, outcome: TaskOutcome) -> Result<bool, StoreError> {
        Ok(!self.finish_many(vec![(uid, outcome)]).await?.is_empty())
    }

    /// Ends tasks, all or none, and returns those that had not ended before.
    async fn finish_many(&self, outcomes: Vec<(TaskUid, TaskOutcome)>) -> Result<Vec<TaskUid>, StoreError>;

    /// One task.
    async fn task(&self, uid: TaskUid) -> Result<Option<TaskRecord>, StoreError>;

    /// A page of the tasks that match.
    async fn tasks(&self, query: TaskQuery) -> Result<TaskPage, StoreError>;

    /// A page of the batches with a task that matches.
    async fn batches(&self, query: TaskQuery) -> Result<BatchPage, StoreError>;

    /// The tasks that have not ended, by uid.
    async fn unfinished(&self) -> Result<Vec<TaskRecord>, StoreError>;

    /// The number of the newest end of a task. Ends are numbered from 1 in the order in which they are recorded, and a
    /// number never comes back.
    async fn last_end(&self) -> Result<u64, StoreError>;

    /// The next tasks, `limit` at most, that ended after the end with a number, with the numbers of their own ends.
    async fn ended_tasks(&self, after: u64, limit: usize) -> Result<Vec<(u64, TaskRecord)>, StoreError>;

    /// Deletes the finished ones of the tasks that match, and records the task that did so, all or nothing. How many
    /// matched and how many were deleted is added to its details. What must outlive tasks does: their keys, and which
    /// indexes they deleted.
    async fn delete_tasks(&self, deletion: NewTask, query: TaskQuery) -> Result<TaskUid, StoreError>;

    /// Whether a task ever succeeded in deleting an index of this name.
    async fn was_deleted(&self, index_uid: &str) -> Result<bool, StoreError>;

    /// The records of all API keys, in the order in which they were made.
    async fn api_keys(&self) -> Result<Vec<String>, StoreError>;

    /// Records API keys under their uids, or changes their records, all or none.
    async fn put_api_keys(&self, records: Vec<(String, String)>) -> Result<(), StoreError>;

    /// Forgets an API key; `false` when there is none of that uid.
    async fn delete_api_key(&self, uid: &str) -> Result<bool, StoreError>;

    /// Writes a copy of everything into a file that is not there yet, to be opened as a store some day. Nodes may then know
    /// later writes than it does, so positions go on at a distance.
    async fn copy_to(&self, path: &Path) -> Result<(), StoreError>;

    /// A value kept under a name of its own, such as the id of this installation.
    async fn meta(&self, key: &str) -> Result<Option<String>, StoreError>;

    /// Keeps a value under a name.
    async fn put_meta(&self, key: &str, value: &str) -> Result<(), StoreError>;
}
