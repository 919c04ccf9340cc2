//! Deleting tasks, and what must outlive them.
//!
//! Two things are read from tasks long after they have ended: which request a key was used for, and whether an index was
//! deleted, so that what is left of it on a node that was away may go. Deletion carries the first over to a table
//! of its own; the second is noted when a task succeeds. Uids are counted apart from tasks and never return.

use rusqlite::{Connection, params_from_iter};
use serde_json::{Value, json};

use super::failure::Failure;
use super::task_query::Selection;
use super::values::to_column;
use super::{marks, tasks};
use crate::{NewTask, TaskQuery, TaskUid};

/// Finished tasks of which nothing is on its way to nodes.
const DELETABLE: &str =
    "status NOT IN ('enqueued', 'processing') AND uid NOT IN (SELECT task_uid FROM intents)";

/// Deletes the tasks that match and may be deleted, and records the task that did so.
pub(super) fn carry_out(
    connection: &Connection,
    mut deletion: NewTask,
    query: &TaskQuery,
) -> Result<TaskUid, Failure> {
    marks::take_key(connection, &deletion)?;
    let Selection { sql, values } = Selection::of_tasks(query)?;
    let count = format!("SELECT count(*) FROM {sql}");
    let matched: i64 = connection.prepare(&count)?.query_row(params_from_iter(&values), |row| row.get(0))?;

    let chosen = format!("{sql} AND {DELETABLE}");
    let keep_keys = format!(
        "INSERT INTO keys_of_deleted_tasks \
         SELECT idempotency_key, request_digest, uid, index_uid, kind, enqueued_at \
         FROM {chosen} AND idempotency_key IS NOT NULL"
    );
    connection.prepare(&keep_keys)?.execute(params_from_iter(&values))?;
    let deleted = connection.prepare(&format!("DELETE FROM {chosen}"))?.execute(params_from_iter(&values))?;

    if let Value::Object(details) = &mut deletion.details {
        details.insert("matchedTasks".to_owned(), json!(matched));
        details.insert("deletedTasks".to_owned(), json!(deleted));
    }
    tasks::insert(connection, &deletion)
}

/// Takes note of the index that this task deleted, if it did.
pub(super) fn note_deleted_index(connection: &Connection, uid: TaskUid) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(
        "INSERT OR IGNORE INTO deleted_indexes SELECT index_uid FROM tasks \
         WHERE uid = ?1 AND kind = 'indexDeletion' AND index_uid IS NOT NULL",
    )?;
    statement.execute([to_column(uid)?])?;
    Ok(())
}

pub(super) fn was_deleted(connection: &Connection, index_uid: &str) -> Result<bool, Failure> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM deleted_indexes WHERE uid = ?1")?;
    Ok(statement.exists([index_uid])?)
}
