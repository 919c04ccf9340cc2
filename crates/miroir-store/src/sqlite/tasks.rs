//! Statements on tasks, except listing them.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use serde_json::Value;

use super::failure::{Failure, damaged};
use super::values::{from_column, from_json, to_column, to_json, to_nanoseconds, to_rfc3339};
use super::{intents, task_deletion};
use crate::{NewTask, NodeTask, StoreError, TaskOutcome, TaskRecord, TaskStatus, TaskUid, newest_task_key};

pub(super) fn read_record(row: &Row<'_>) -> rusqlite::Result<TaskRecord> {
    let status = row.get_ref("status")?.as_str()?;
    let json = |column: &str| row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from);
    let time = |column: &str| row.get::<_, Option<i64>>(column)?.map(to_rfc3339).transpose();
    Ok(TaskRecord {
        uid: from_column(row.get("uid")?)?,
        index_uid: row.get("index_uid")?,
        kind: row.get("kind")?,
        status: TaskStatus::parse(status).ok_or_else(|| damaged(status))?,
        details: from_json(row.get_ref("details")?.as_str()?)?,
        error: json("error")?.map(from_json).transpose()?,
        canceled_by: row.get::<_, Option<i64>>("canceled_by")?.map(from_column).transpose()?,
        enqueued_at: to_rfc3339(row.get("enqueued_at")?)?,
        started_at: time("started_at")?,
        finished_at: time("finished_at")?,
        node_tasks: json("node_tasks")?.map(from_json).transpose()?.unwrap_or_default(),
    })
}

pub(super) fn insert(connection: &Connection, task: &NewTask) -> Result<TaskUid, Failure> {
    // A counter of its own, because the uid of a deleted task must not come back.
    let uid: i64 = connection
        .prepare_cached("UPDATE next_task SET uid = uid + 1 RETURNING uid - 1")?
        .query_row([], |row| row.get(0))?;
    let mut statement = connection.prepare_cached(
        "INSERT INTO tasks (uid, index_uid, kind, status, enqueued_at, details, \
         idempotency_key, request_digest, session) \
         VALUES (:uid, :index_uid, :kind, 'enqueued', :enqueued_at, :details, :key, :digest, :session)",
    )?;
    let idempotency = task.marks.idempotency.as_ref();
    statement.execute(named_params! {
        ":uid": uid,
        ":index_uid": task.index_uid,
        ":kind": task.kind,
        ":enqueued_at": to_nanoseconds(&task.enqueued_at)?,
        ":details": to_json(&task.details)?,
        ":key": idempotency.map(|idempotency| &idempotency.key),
        ":digest": idempotency.map(|idempotency| idempotency.digest.to_be_bytes()),
        ":session": task.marks.session,
    })?;
    let uid = from_column(uid)?;
    if let Some(outcome) = &task.outcome {
        finish(connection, uid, outcome)?;
    }
    Ok(uid)
}

/// Keeps of each node the newest task it has acknowledged. (A cast reads the digits that a value begins with.)
pub(super) fn note_newest(connection: &Connection, node_tasks: &[NodeTask]) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value \
         WHERE value = '' OR CAST(value AS INTEGER) < CAST(excluded.value AS INTEGER)",
    )?;
    for task in node_tasks {
        let enqueued_at = task.enqueued_at.as_ref().map_or(String::new(), |at| format!(" {at}"));
        let value = format!("{}{enqueued_at}", task.task_uid);
        statement.execute(params![newest_task_key(&task.node), value])?;
    }
    Ok(())
}

pub(super) fn set_node_tasks(
    connection: &Connection,
    uid: TaskUid,
    node_tasks: &[NodeTask],
) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached("UPDATE tasks SET node_tasks = ?2 WHERE uid = ?1")?;
    if statement.execute(params![to_column(uid)?, to_json(&node_tasks)?])? == 0 {
        return Err(StoreError::UnknownTask(uid).into());
    }
    Ok(())
}

pub(super) fn set_details(connection: &Connection, uid: TaskUid, details: &Value) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached("UPDATE tasks SET details = ?2 WHERE uid = ?1")?;
    if statement.execute(params![to_column(uid)?, to_json(details)?])? == 0 {
        return Err(StoreError::UnknownTask(uid).into());
    }
    Ok(())
}

pub(super) fn set_processing(
    connection: &Connection,
    uids: &[TaskUid],
    started_at: &str,
) -> Result<(), Failure> {
    let started_at = to_nanoseconds(started_at)?;
    let mut statement = connection.prepare_cached(
        "UPDATE tasks SET status = 'processing', started_at = ?2 WHERE uid = ?1 AND status = 'enqueued'",
    )?;
    for uid in uids {
        statement.execute(params![to_column(*uid)?, started_at])?;
    }
    Ok(())
}

/// Ends a task; `false` when it had ended before.
pub(super) fn finish(connection: &Connection, uid: TaskUid, outcome: &TaskOutcome) -> Result<bool, Failure> {
    if !outcome.status.is_finished() {
        let message = format!("a task does not end as {}", outcome.status.as_str());
        return Err(StoreError::Invalid(message).into());
    }
    let mut statement = connection.prepare_cached(
        "UPDATE tasks SET status = :status, error = :error, details = coalesce(:details, details), \
         canceled_by = :canceled_by, started_at = coalesce(:started_at, started_at), \
         finished_at = :finished_at, node_tasks = NULL \
         WHERE uid = :uid AND status IN ('enqueued', 'processing')",
    )?;
    let changed = statement.execute(named_params! {
        ":uid": to_column(uid)?,
        ":status": outcome.status.as_str(),
        ":error": outcome.error.as_ref().map(to_json).transpose()?,
        ":details": outcome.details.as_ref().map(to_json).transpose()?,
        ":canceled_by": outcome.canceled_by.map(to_column).transpose()?,
        ":started_at": outcome.started_at.as_deref().map(to_nanoseconds).transpose()?,
        ":finished_at": to_nanoseconds(&outcome.finished_at)?,
    })?;
    if changed != 0 {
        intents::clear(connection, uid)?;
    }
    if changed != 0 && outcome.status == TaskStatus::Succeeded {
        task_deletion::note_deleted_index(connection, uid)?;
    }
    if changed != 0 {
        // A counter of its own: the newest may be deleted, and its number must not come back.
        let next = "UPDATE last_end SET number = number + 1 RETURNING number";
        let number: i64 = connection.prepare_cached(next)?.query_row([], |row| row.get(0))?;
        let mut statement = connection.prepare_cached("UPDATE tasks SET end_number = ?2 WHERE uid = ?1")?;
        statement.execute([to_column(uid)?, number])?;
    }
    if changed == 0 && load(connection, uid)?.is_none() {
        return Err(StoreError::UnknownTask(uid).into());
    }
    Ok(changed != 0)
}

pub(super) fn load(connection: &Connection, uid: TaskUid) -> Result<Option<TaskRecord>, Failure> {
    // No task has a number that SQLite cannot hold.
    let Ok(uid) = to_column(uid) else { return Ok(None) };
    let mut statement = connection.prepare_cached("SELECT * FROM tasks WHERE uid = ?1")?;
    Ok(statement.query_row([uid], read_record).optional()?)
}

pub(super) fn unfinished(connection: &Connection) -> Result<Vec<TaskRecord>, Failure> {
    let mut statement = connection
        .prepare_cached("SELECT * FROM tasks WHERE status IN ('enqueued', 'processing') ORDER BY uid")?;
    let tasks = statement.query_map([], read_record)?.collect::<Result<_, _>>()?;
    Ok(tasks)
}

/// The number of the newest end.
pub(super) fn last_end(connection: &Connection) -> Result<u64, Failure> {
    let number: i64 =
        connection.prepare_cached("SELECT number FROM last_end")?.query_row([], |row| row.get(0))?;
    Ok(from_column(number)?)
}

/// The next tasks that ended after another end, each with the number of its own.
pub(super) fn ended(
    connection: &Connection,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, TaskRecord)>, Failure> {
    let mut statement = connection
        .prepare_cached("SELECT * FROM tasks WHERE end_number > ?1 ORDER BY end_number LIMIT ?2")?;
    let read = |row: &Row<'_>| Ok((from_column(row.get("end_number")?)?, read_record(row)?));
    let tasks = statement.query_map([to_column(after)?, to_column(limit as u64)?], read)?;
    Ok(tasks.collect::<Result<_, _>>()?)
}

/// Forgets a task, whatever its state.
pub(super) fn forget(connection: &Connection, uid: TaskUid) -> Result<(), Failure> {
    match connection.prepare_cached("DELETE FROM tasks WHERE uid = ?1")?.execute([to_column(uid)?])? {
        0 => Err(StoreError::UnknownTask(uid).into()),
        _ => Ok(()),
    }
}
