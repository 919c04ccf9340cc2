//! Statements on what clients say about their writes: keys, and sessions.
//!
//! Both are columns of the task, so that they begin and end with it and nothing else has to be kept in step. Only the
//! key of a task that is deleted has to be kept elsewhere: it is still used, for the rest of its day.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::failure::{Failure, damaged};
use super::values::{from_column, to_nanoseconds, to_rfc3339};
use crate::{IDEMPOTENCY_KEY_LIFETIME, IdempotencyKey, KeyedTask, NewTask, StoreError, TaskUid};

/// Keys dropped at most for each new one: more than one, so that they cannot pile up, and few, so that nobody
/// waits for it.
const DROPPED_AT_ONCE: u32 = 16;

/// Drops some keys that have expired, and this one if it has.
pub(super) const DROP_EXPIRED: &str = "
UPDATE tasks SET idempotency_key = NULL, request_digest = NULL
WHERE uid IN (SELECT uid FROM tasks WHERE idempotency_key IS NOT NULL AND enqueued_at <= ?1
              ORDER BY enqueued_at LIMIT ?2)
   OR (idempotency_key = ?3 AND enqueued_at <= ?1)";
pub(super) const DROP_EXPIRED_OF_DELETED: &str = "
DELETE FROM keys_of_deleted_tasks
WHERE idempotency_key IN (SELECT idempotency_key FROM keys_of_deleted_tasks WHERE enqueued_at <= ?1
                          ORDER BY enqueued_at LIMIT ?2)
   OR (idempotency_key = ?3 AND enqueued_at <= ?1)";
pub(super) const KEY_OWNER: &str = "
SELECT uid FROM tasks WHERE idempotency_key = ?1
UNION ALL SELECT uid FROM keys_of_deleted_tasks WHERE idempotency_key = ?1";
pub(super) const KEYED_TASK: &str = "
SELECT uid, index_uid, kind, enqueued_at, request_digest,
       EXISTS (SELECT 1 FROM intents WHERE task_uid = uid AND NOT acknowledged) AS is_open
FROM tasks WHERE idempotency_key = ?1 AND enqueued_at > ?2
UNION ALL SELECT uid, index_uid, kind, enqueued_at, request_digest, FALSE
FROM keys_of_deleted_tasks WHERE idempotency_key = ?1 AND enqueued_at > ?2";
pub(super) const SESSION_TASK: &str =
    "SELECT max(uid) FROM tasks WHERE session = ?1 AND index_uid = ?2 AND finished_at IS NULL";

/// Makes sure that no other task has the key of this one. Drops keys that have expired.
pub(super) fn take_key(connection: &Connection, task: &NewTask) -> Result<(), Failure> {
    let Some(IdempotencyKey { key, .. }) = &task.marks.idempotency else { return Ok(()) };
    for drop_expired in [DROP_EXPIRED, DROP_EXPIRED_OF_DELETED] {
        let expired = newest_expired(&task.enqueued_at)?;
        connection.prepare_cached(drop_expired)?.execute(params![expired, DROPPED_AT_ONCE, key])?;
    }
    let taken: Option<i64> =
        connection.prepare_cached(KEY_OWNER)?.query_row([key], |row| row.get(0)).optional()?;
    match taken {
        None => Ok(()),
        Some(task) => Err(StoreError::KeyTaken { key: key.clone(), task: from_column(task)? }.into()),
    }
}

pub(super) fn keyed_task(
    connection: &Connection,
    key: &str,
    now: &str,
) -> Result<Option<KeyedTask>, Failure> {
    let mut statement = connection.prepare_cached(KEYED_TASK)?;
    let read = |row: &Row<'_>| {
        let digest = row.get_ref("request_digest")?.as_blob()?;
        let digest = digest.try_into().map_err(|_| damaged("a digest of another length"))?;
        Ok(KeyedTask {
            digest: u128::from_be_bytes(digest),
            uid: from_column(row.get("uid")?)?,
            index_uid: row.get("index_uid")?,
            kind: row.get("kind")?,
            enqueued_at: to_rfc3339(row.get("enqueued_at")?)?,
            is_open: row.get("is_open")?,
        })
    };
    Ok(statement.query_row(params![key, newest_expired(now)?], read).optional()?)
}

pub(super) fn session_task(
    connection: &Connection,
    session: &str,
    index_uid: &str,
) -> Result<Option<TaskUid>, Failure> {
    let mut statement = connection.prepare_cached(SESSION_TASK)?;
    let newest: Option<i64> = statement.query_row([session, index_uid], |row| row.get(0))?;
    Ok(newest.map(from_column).transpose()?)
}

/// Keys that were used at this time or before have expired, in nanoseconds.
fn newest_expired(now: &str) -> Result<i64, StoreError> {
    let lifetime = i64::try_from(IDEMPOTENCY_KEY_LIFETIME.as_nanos()).unwrap_or(i64::MAX);
    Ok(to_nanoseconds(now)?.saturating_sub(lifetime))
}
