//! Statements on what clients say about their writes: keys, and sessions.
//!
//! Both are columns of the task, so that they begin and end with it and nothing else has to be kept in step.

use rusqlite::{Connection, OptionalExtension, params};

use super::failure::{Failure, damaged};
use super::tasks;
use super::values::{from_column, to_nanoseconds};
use crate::{IDEMPOTENCY_KEY_LIFETIME, KeyedTask, StoreError, TaskUid};

/// Keys dropped at most for each new one: more than one, so that they cannot pile up, and few, so that nobody
/// waits for it.
const DROPPED_AT_ONCE: u32 = 16;

/// Drops some keys that have expired, and this one if it has.
pub(super) const DROP_EXPIRED: &str = "
UPDATE tasks SET idempotency_key = NULL, request_digest = NULL
WHERE uid IN (SELECT uid FROM tasks WHERE idempotency_key IS NOT NULL AND enqueued_at <= ?1
              ORDER BY enqueued_at LIMIT ?2)
   OR (idempotency_key = ?3 AND enqueued_at <= ?1)";
pub(super) const KEY_OWNER: &str = "SELECT uid FROM tasks WHERE idempotency_key = ?1";
pub(super) const KEYED_TASK: &str = "
SELECT *, EXISTS (SELECT 1 FROM intents WHERE task_uid = uid) AS is_open
FROM tasks WHERE idempotency_key = ?1 AND enqueued_at > ?2";
pub(super) const SESSION_TASK: &str =
    "SELECT max(uid) FROM tasks WHERE session = ?1 AND index_uid = ?2 AND finished_at IS NULL";

/// Makes sure that no task has this key. Drops keys that have expired.
pub(super) fn take_key(connection: &Connection, key: &str, now: &str) -> Result<(), Failure> {
    connection.prepare_cached(DROP_EXPIRED)?.execute(params![newest_expired(now)?, DROPPED_AT_ONCE, key])?;
    let taken: Option<i64> =
        connection.prepare_cached(KEY_OWNER)?.query_row([key], |row| row.get(0)).optional()?;
    match taken {
        None => Ok(()),
        Some(task) => Err(StoreError::KeyTaken { key: key.to_owned(), task: from_column(task)? }.into()),
    }
}

pub(super) fn keyed_task(
    connection: &Connection,
    key: &str,
    now: &str,
) -> Result<Option<KeyedTask>, Failure> {
    let mut statement = connection.prepare_cached(KEYED_TASK)?;
    let found = statement
        .query_row(params![key, newest_expired(now)?], |row| {
            let digest = row.get_ref("request_digest")?.as_blob()?;
            let digest = digest.try_into().map_err(|_| damaged("a digest of another length"))?;
            let (digest, task) = (u128::from_be_bytes(digest), tasks::read_record(row)?);
            Ok(KeyedTask { digest, task, is_open: row.get("is_open")? })
        })
        .optional()?;
    Ok(found)
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
