//! The store in one SQLite file, for one Miroir process.
//!
//! A thread writes, a second connection reads: in WAL mode neither waits for the other. A lock on a file next
//! to the database keeps a second process out; SQLite's own locks would allow two processes to take turns, and
//! both would believe that they are the only sequencer.

mod api_keys;
mod copy;
mod failure;
mod indexes;
mod intents;
mod marks;
mod migrations;
mod schema;
mod swaps;
mod task_deletion;
mod task_query;
mod tasks;
mod values;
mod writer;

#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};
use serde_json::Value;

use self::failure::Failure;
use self::writer::Writer;
use crate::{
    Acknowledgement, BatchPage, IndexChange, IndexRecord, IndexSwap, Intent, KeyedTask, NewTask, NodeTask,
    PayloadChunk, ReplicaStatus, Store, StoreError, TaskOutcome, TaskPage, TaskQuery, TaskRecord, TaskUid,
};

/// The store in one SQLite file. Dropping it finishes the writes under way and releases the file.
pub struct SqliteStore {
    // Fields drop in order: the reader's connection first, so that the writer's is the last to close and leaves
    // one tidy file behind.
    reader: Arc<Mutex<Connection>>,
    writer: Writer,
    path: PathBuf,
}

impl SqliteStore {
    /// Opens the file, creating it when there is none. Blocks for a moment.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        let connection = schema::open_writer(path).map_err(|failure| failure.at(path))?;
        let reader = schema::open_reader(path).map_err(|failure| failure.at(path))?;
        let writer = Writer::start(connection, path.to_owned(), lock)?;
        Ok(Self { reader: Arc::new(Mutex::new(reader)), writer, path: path.to_owned() })
    }

    async fn read<T: Send + 'static>(
        &self,
        statements: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = Arc::clone(&self.reader);
        let path = self.path.clone();
        let reading = tokio::task::spawn_blocking(move || {
            // A reader that panicked left nothing half done.
            let connection = reader.lock().unwrap_or_else(PoisonError::into_inner);
            statements(&connection).map_err(|failure| failure.at(&path))
        });
        reading.await.map_err(|error| StoreError::Backend(error.to_string()))?
    }
}

/// Takes the lock that keeps other processes out; the system releases it when this process dies.
///
/// The database itself must not be used for it: closing any handle on it would drop SQLite's own locks.
fn lock(path: &Path) -> Result<File, StoreError> {
    // Two names of one file share its lock. A file not there yet has only the name given.
    let mut lock_path = path.canonicalize().unwrap_or_else(|_| path.to_owned()).into_os_string();
    lock_path.push(".lock");
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
    let file = opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::ReadOnly { path: path.to_owned() }
        }
        std::io::ErrorKind::StorageFull => StoreError::Full { path: path.to_owned() },
        _ => StoreError::CannotOpen { path: path.to_owned(), reason: error.to_string() },
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => {
            Err(StoreError::CannotOpen { path: path.to_owned(), reason: error.to_string() })
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn indexes(&self) -> Result<Vec<IndexRecord>, StoreError> {
        self.read(|connection| indexes::load(connection, None)).await
    }

    async fn index(&self, uid: &str) -> Result<Option<IndexRecord>, StoreError> {
        let uid = uid.to_owned();
        self.read(move |connection| Ok(indexes::load(connection, Some(&uid))?.pop())).await
    }

    async fn change_indexes(&self, changes: Vec<IndexChange>) -> Result<(), StoreError> {
        self.writer.write(move |connection| indexes::change(connection, &changes)).await
    }

    async fn swap_indexes(
        &self,
        task: TaskUid,
        outcome: TaskOutcome,
        swaps: Vec<IndexSwap>,
    ) -> Result<(), StoreError> {
        self.writer
            .write(move |connection| {
                for swap in &swaps {
                    swaps::carry_out(connection, swap, task)?;
                }
                intents::clear(connection, task)?;
                tasks::finish(connection, task, &outcome)?;
                Ok(())
            })
            .await
    }

    async fn replica_states(&self) -> Result<Vec<ReplicaStatus>, StoreError> {
        self.read(indexes::replica_states).await
    }

    async fn set_replica_states(&self, changes: Vec<ReplicaStatus>) -> Result<(), StoreError> {
        self.writer.write(move |connection| indexes::set_replica_states(connection, &changes)).await
    }

    async fn begin(&self, task: NewTask, intent: Option<Intent>) -> Result<TaskUid, StoreError> {
        if task.outcome.is_some() && intent.is_some() {
            return Err(StoreError::Invalid("a finished task has nothing left to send".to_owned()));
        }
        self.writer
            .write(move |connection| {
                marks::take_key(connection, &task)?;
                let uid = tasks::insert(connection, &task)?;
                if let Some(intent) = intent {
                    intents::record(connection, uid, &intent.operation, intent.payload)?;
                    indexes::change(connection, &intent.index_changes)?;
                }
                Ok(uid)
            })
            .await
    }

    async fn replace_intent(&self, task: TaskUid, details: Value, intent: Intent) -> Result<(), StoreError> {
        self.writer
            .write(move |connection| {
                tasks::set_details(connection, task, &details)?;
                intents::clear(connection, task)?;
                intents::record(connection, task, &intent.operation, intent.payload)?;
                indexes::change(connection, &intent.index_changes)
            })
            .await
    }

    async fn acknowledged(&self, acknowledgement: Acknowledgement) -> Result<(), StoreError> {
        self.writer
            .write(move |connection| {
                let Acknowledgement { task_uid, node_tasks, replica_changes, index_changes, keeps_intent } =
                    acknowledgement;
                tasks::set_node_tasks(connection, task_uid, &node_tasks)?;
                tasks::note_newest(connection, &node_tasks)?;
                match keeps_intent {
                    true => intents::keep(connection, task_uid)?,
                    false => intents::clear(connection, task_uid)?,
                }
                indexes::set_replica_states(connection, &replica_changes)?;
                indexes::change(connection, &index_changes)
            })
            .await
    }

    async fn note_newest_tasks(&self, node_tasks: Vec<NodeTask>) -> Result<(), StoreError> {
        self.writer.write(move |connection| tasks::note_newest(connection, &node_tasks)).await
    }

    async fn open_intents(&self) -> Result<Vec<(TaskRecord, Value)>, StoreError> {
        self.read(intents::open).await
    }

    async fn kept_intent(&self, uid: TaskUid) -> Result<Option<Value>, StoreError> {
        self.read(move |connection| intents::kept(connection, uid)).await
    }

    async fn cancel(
        &self,
        canceled: Vec<(TaskUid, TaskOutcome)>,
        reopened: Vec<(TaskUid, Vec<NodeTask>)>,
    ) -> Result<(), StoreError> {
        self.writer
            .write(move |connection| {
                for (uid, outcome) in &canceled {
                    tasks::finish(connection, *uid, outcome)?;
                }
                for (uid, node_tasks) in &reopened {
                    // Whoever follows tasks is not to take it for one that has been sent.
                    tasks::set_node_tasks(connection, *uid, &[])?;
                    intents::reopen(connection, *uid, node_tasks)?;
                }
                Ok(())
            })
            .await
    }

    async fn intent_payload(
        &self,
        uid: TaskUid,
        after_seq: Option<u64>,
    ) -> Result<Option<PayloadChunk>, StoreError> {
        self.read(move |connection| intents::payload_after(connection, uid, after_seq)).await
    }

    async fn keyed_task(&self, key: &str, now: &str) -> Result<Option<KeyedTask>, StoreError> {
        let (key, now) = (key.to_owned(), now.to_owned());
        self.read(move |connection| marks::keyed_task(connection, &key, &now)).await
    }

    async fn session_task(&self, session: &str, index_uid: &str) -> Result<Option<TaskUid>, StoreError> {
        let (session, index_uid) = (session.to_owned(), index_uid.to_owned());
        self.read(move |connection| marks::session_task(connection, &session, &index_uid)).await
    }

    async fn take_back(&self, uid: TaskUid, index_changes: Vec<IndexChange>) -> Result<(), StoreError> {
        self.writer
            .write(move |connection| {
                intents::clear(connection, uid)?;
                tasks::forget(connection, uid)?;
                indexes::change(connection, &index_changes)
            })
            .await
    }

    async fn abandon_intent(
        &self,
        uid: TaskUid,
        outcome: TaskOutcome,
        index_changes: Vec<IndexChange>,
    ) -> Result<(), StoreError> {
        self.writer
            .write(move |connection| {
                intents::clear(connection, uid)?;
                tasks::finish(connection, uid, &outcome)?;
                indexes::change(connection, &index_changes)
            })
            .await
    }

    async fn set_processing(&self, uids: Vec<TaskUid>, started_at: String) -> Result<(), StoreError> {
        self.writer.write(move |connection| tasks::set_processing(connection, &uids, &started_at)).await
    }

    async fn finish_many(&self, outcomes: Vec<(TaskUid, TaskOutcome)>) -> Result<Vec<TaskUid>, StoreError> {
        self.writer
            .write(move |connection| {
                let mut finished = Vec::new();
                for (uid, outcome) in outcomes {
                    if tasks::finish(connection, uid, &outcome)? {
                        finished.push(uid);
                    }
                }
                Ok(finished)
            })
            .await
    }

    async fn task(&self, uid: TaskUid) -> Result<Option<TaskRecord>, StoreError> {
        self.read(move |connection| tasks::load(connection, uid)).await
    }

    async fn tasks(&self, query: TaskQuery) -> Result<TaskPage, StoreError> {
        self.read(move |connection| task_query::page(connection, &query)).await
    }

    async fn batches(&self, query: TaskQuery) -> Result<BatchPage, StoreError> {
        self.read(move |connection| task_query::batches(connection, &query)).await
    }

    async fn unfinished(&self) -> Result<Vec<TaskRecord>, StoreError> {
        self.read(tasks::unfinished).await
    }

    async fn last_end(&self) -> Result<u64, StoreError> {
        self.read(tasks::last_end).await
    }

    async fn ended_tasks(&self, after: u64, limit: usize) -> Result<Vec<(u64, TaskRecord)>, StoreError> {
        self.read(move |connection| tasks::ended(connection, after, limit)).await
    }

    async fn delete_tasks(&self, deletion: NewTask, query: TaskQuery) -> Result<TaskUid, StoreError> {
        self.writer.write(move |connection| task_deletion::carry_out(connection, deletion, &query)).await
    }

    async fn was_deleted(&self, index_uid: &str) -> Result<bool, StoreError> {
        let uid = index_uid.to_owned();
        self.read(move |connection| task_deletion::was_deleted(connection, &uid)).await
    }

    async fn api_keys(&self) -> Result<Vec<String>, StoreError> {
        self.read(api_keys::all).await
    }

    async fn put_api_keys(&self, records: Vec<(String, String)>) -> Result<(), StoreError> {
        self.writer.write(move |connection| api_keys::put(connection, &records)).await
    }

    async fn delete_api_key(&self, uid: &str) -> Result<bool, StoreError> {
        let uid = uid.to_owned();
        self.writer.write(move |connection| api_keys::delete(connection, &uid)).await
    }

    async fn copy_to(&self, target: &Path) -> Result<(), StoreError> {
        let (source, target) = (self.path.clone(), target.to_owned());
        let copying = tokio::task::spawn_blocking(move || {
            copy::write(&source, &target).map_err(|failure| failure.at(&target))
        });
        copying.await.map_err(|error| StoreError::Backend(error.to_string()))?
    }

    async fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        let key = key.to_owned();
        let sql = "SELECT value FROM meta WHERE key = ?1";
        self.read(move |connection| {
            Ok(connection.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?)
        })
        .await
    }

    async fn put_meta(&self, key: &str, value: &str) -> Result<(), StoreError> {
        let (key, value) = (key.to_owned(), value.to_owned());
        let sql = "REPLACE INTO meta VALUES (?1, ?2)";
        self.writer
            .write(move |connection| {
                connection.prepare_cached(sql)?.execute([key, value])?;
                Ok(())
            })
            .await
    }
}
