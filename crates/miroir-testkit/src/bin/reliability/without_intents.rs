//! A store that does not record what is about to be sent: the other side of the measurement of what that costs.
//!
//! Only that is left out. The task is still recorded before anything is sent, and the changes to index records that
//! come with an intent are recorded with the acknowledgement, so that there are as many transactions as otherwise.
//! A crash in the middle of a write leaves nodes that differ, and nobody would know.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use miroir_store::{
    Acknowledgement, BatchPage, IndexChange, IndexRecord, IndexSwap, Intent, KeyedTask, NewTask, NodeTask,
    PayloadChunk, ReplicaStatus, SqliteStore, Store, StoreError, TaskOutcome, TaskPage, TaskQuery,
    TaskRecord, TaskUid,
};
use serde_json::Value;

/// See above.
pub struct WithoutIntents {
    store: SqliteStore,
    /// Changes that wait for the acknowledgement of their task.
    waiting: Mutex<HashMap<TaskUid, Vec<IndexChange>>>,
}

impl WithoutIntents {
    /// Leaves intents out of what is recorded in this store.
    pub fn new(store: SqliteStore) -> Self {
        Self { store, waiting: Mutex::default() }
    }

    fn take_waiting(&self, task: TaskUid) -> Vec<IndexChange> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(&task).unwrap_or_default()
    }
}

#[async_trait]
impl Store for WithoutIntents {
    async fn begin(&self, task: NewTask, intent: Option<Intent>) -> Result<TaskUid, StoreError> {
        let uid = self.store.begin(task, None).await?;
        if let Some(intent) = intent {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.insert(uid, intent.index_changes);
        }
        Ok(uid)
    }

    async fn acknowledged(&self, mut acknowledgement: Acknowledgement) -> Result<(), StoreError> {
        let mut changes = self.take_waiting(acknowledgement.task_uid);
        changes.append(&mut acknowledgement.index_changes);
        self.store.acknowledged(Acknowledgement { index_changes: changes, ..acknowledgement }).await
    }

    async fn kept_intent(&self, uid: TaskUid) -> Result<Option<Value>, StoreError> {
        self.store.kept_intent(uid).await
    }

    async fn cancel(
        &self,
        canceled: Vec<(TaskUid, TaskOutcome)>,
        reopened: Vec<(TaskUid, Vec<NodeTask>)>,
    ) -> Result<(), StoreError> {
        self.store.cancel(canceled, reopened).await
    }

    async fn abandon_intent(
        &self,
        uid: TaskUid,
        outcome: TaskOutcome,
        index_changes: Vec<IndexChange>,
    ) -> Result<(), StoreError> {
        self.take_waiting(uid);
        self.store.abandon_intent(uid, outcome, index_changes).await
    }

    async fn take_back(&self, uid: TaskUid, index_changes: Vec<IndexChange>) -> Result<(), StoreError> {
        self.take_waiting(uid);
        self.store.take_back(uid, index_changes).await
    }

    // From here on as the store does.

    async fn indexes(&self) -> Result<Vec<IndexRecord>, StoreError> {
        self.store.indexes().await
    }

    async fn index(&self, uid: &str) -> Result<Option<IndexRecord>, StoreError> {
        self.store.index(uid).await
    }

    async fn change_indexes(&self, changes: Vec<IndexChange>) -> Result<(), StoreError> {
        self.store.change_indexes(changes).await
    }

    async fn swap_indexes(
        &self,
        task: TaskUid,
        outcome: TaskOutcome,
        swaps: Vec<IndexSwap>,
    ) -> Result<(), StoreError> {
        self.store.swap_indexes(task, outcome, swaps).await
    }

    async fn replace_intent(&self, task: TaskUid, details: Value, intent: Intent) -> Result<(), StoreError> {
        self.store.replace_intent(task, details, intent).await
    }

    async fn replica_states(&self) -> Result<Vec<ReplicaStatus>, StoreError> {
        self.store.replica_states().await
    }

    async fn set_replica_states(&self, changes: Vec<ReplicaStatus>) -> Result<(), StoreError> {
        self.store.set_replica_states(changes).await
    }

    async fn note_newest_tasks(&self, tasks: Vec<NodeTask>) -> Result<(), StoreError> {
        self.store.note_newest_tasks(tasks).await
    }

    async fn open_intents(&self) -> Result<Vec<(TaskRecord, Value)>, StoreError> {
        self.store.open_intents().await
    }

    async fn intent_payload(
        &self,
        uid: TaskUid,
        after_seq: Option<u64>,
    ) -> Result<Option<PayloadChunk>, StoreError> {
        self.store.intent_payload(uid, after_seq).await
    }

    async fn keyed_task(&self, key: &str, now: &str) -> Result<Option<KeyedTask>, StoreError> {
        self.store.keyed_task(key, now).await
    }

    async fn session_task(&self, session: &str, index_uid: &str) -> Result<Option<TaskUid>, StoreError> {
        self.store.session_task(session, index_uid).await
    }

    async fn set_processing(&self, uids: Vec<TaskUid>, started_at: String) -> Result<(), StoreError> {
        self.store.set_processing(uids, started_at).await
    }

    async fn finish_many(&self, outcomes: Vec<(TaskUid, TaskOutcome)>) -> Result<Vec<TaskUid>, StoreError> {
        self.store.finish_many(outcomes).await
    }

    async fn task(&self, uid: TaskUid) -> Result<Option<TaskRecord>, StoreError> {
        self.store.task(uid).await
    }

    async fn tasks(&self, query: TaskQuery) -> Result<TaskPage, StoreError> {
        self.store.tasks(query).await
    }

    async fn batches(&self, query: TaskQuery) -> Result<BatchPage, StoreError> {
        self.store.batches(query).await
    }

    async fn unfinished(&self) -> Result<Vec<TaskRecord>, StoreError> {
        self.store.unfinished().await
    }

    async fn delete_tasks(&self, deletion: NewTask, query: TaskQuery) -> Result<TaskUid, StoreError> {
        self.store.delete_tasks(deletion, query).await
    }

    async fn last_end(&self) -> Result<u64, StoreError> {
        self.store.last_end().await
    }

    async fn ended_tasks(&self, after: u64, limit: usize) -> Result<Vec<(u64, TaskRecord)>, StoreError> {
        self.store.ended_tasks(after, limit).await
    }

    async fn was_deleted(&self, index_uid: &str) -> Result<bool, StoreError> {
        self.store.was_deleted(index_uid).await
    }

    async fn api_keys(&self) -> Result<Vec<String>, StoreError> {
        self.store.api_keys().await
    }

    async fn put_api_keys(&self, records: Vec<(String, String)>) -> Result<(), StoreError> {
        self.store.put_api_keys(records).await
    }

    async fn delete_api_key(&self, uid: &str) -> Result<bool, StoreError> {
        self.store.delete_api_key(uid).await
    }

    async fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        self.store.copy_to(path).await
    }

    async fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.store.meta(key).await
    }

    async fn put_meta(&self, key: &str, value: &str) -> Result<(), StoreError> {
        self.store.put_meta(key, value).await
    }
}
