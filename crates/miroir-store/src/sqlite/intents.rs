//! Statements on intents and their payloads.

use bytes::{Bytes, BytesMut};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::failure::Failure;
use super::tasks;
use super::values::{from_column, from_json, to_column, to_json};
use crate::{NodeTask, Payload, PayloadChunk, StoreError, TaskRecord, TaskUid};

/// The most bytes in one row.
const CHUNK: usize = 1 << 20;

pub(super) fn record(
    connection: &Connection,
    uid: TaskUid,
    operation: &Value,
    payload: Payload,
) -> Result<(), Failure> {
    let mut statement =
        connection.prepare_cached("INSERT INTO intents (task_uid, operation) VALUES (?1, ?2)")?;
    statement.execute(params![to_column(uid)?, to_json(operation)?])?;
    let mut rows = PayloadRows { connection, uid: to_column(uid)?, seq: 0 };
    let mut pending = BytesMut::new();
    for chunk in payload {
        let bytes = chunk.map_err(|error| StoreError::Payload(error.to_string()))?;
        if pending.len() + bytes.len() > CHUNK {
            rows.insert(&pending)?;
            pending.clear();
        }
        if bytes.len() >= CHUNK {
            rows.insert(&bytes)?;
        } else {
            pending.extend_from_slice(&bytes);
        }
    }
    rows.insert(&pending)
}

struct PayloadRows<'a> {
    connection: &'a Connection,
    uid: i64,
    seq: i64,
}

impl PayloadRows<'_> {
    fn insert(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut statement = self.connection.prepare_cached("INSERT INTO payloads VALUES (?1, ?2, ?3)")?;
        for piece in bytes.chunks(CHUNK) {
            statement.execute(params![self.uid, self.seq, piece])?;
            self.seq += 1;
        }
        Ok(())
    }
}

pub(super) fn clear(connection: &Connection, uid: TaskUid) -> Result<(), Failure> {
    let uid = to_column(uid)?;
    connection.prepare_cached("DELETE FROM intents WHERE task_uid = ?1")?.execute([uid])?;
    connection.prepare_cached("DELETE FROM payloads WHERE task_uid = ?1")?.execute([uid])?;
    Ok(())
}

/// Keeps an intent that needs not be sent again, in case it has to be after all.
pub(super) fn keep(connection: &Connection, uid: TaskUid) -> Result<(), Failure> {
    let mut statement =
        connection.prepare_cached("UPDATE intents SET acknowledged = 1 WHERE task_uid = ?1")?;
    statement.execute([to_column(uid)?])?;
    Ok(())
}

/// Makes a kept intent one that is to be sent, except to the nodes of these tasks.
pub(super) fn reopen(connection: &Connection, uid: TaskUid, sent: &[NodeTask]) -> Result<(), Failure> {
    let mut statement =
        connection.prepare_cached("UPDATE intents SET acknowledged = 0, sent = ?2 WHERE task_uid = ?1")?;
    match statement.execute(params![to_column(uid)?, to_json(&sent)?])? {
        0 => Err(StoreError::Invalid(format!("what task {uid} was to do is not known any more")).into()),
        _ => Ok(()),
    }
}

pub(super) fn kept(connection: &Connection, uid: TaskUid) -> Result<Option<Value>, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT operation FROM intents WHERE task_uid = ?1 AND acknowledged")?;
    let read = |row: &Row<'_>| from_json(row.get_ref(0)?.as_str()?);
    Ok(statement.query_row([to_column(uid)?], read).optional()?)
}

pub(super) fn open(connection: &Connection) -> Result<Vec<(TaskRecord, Value)>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT tasks.*, operation, sent FROM intents JOIN tasks ON uid = task_uid \
         WHERE NOT acknowledged ORDER BY task_uid",
    )?;
    let read = |row: &Row<'_>| {
        let sent = row.get_ref("sent")?.as_str_or_null()?.map(from_json).transpose()?;
        let task = TaskRecord { node_tasks: sent.unwrap_or_default(), ..tasks::read_record(row)? };
        Ok((task, from_json(row.get_ref("operation")?.as_str()?)?))
    };
    let open = statement.query_map([], read)?.collect::<Result<_, _>>()?;
    Ok(open)
}

pub(super) fn payload_after(
    connection: &Connection,
    uid: TaskUid,
    after_seq: Option<u64>,
) -> Result<Option<PayloadChunk>, Failure> {
    let after = after_seq.map_or(Ok(-1), to_column)?;
    let mut statement = connection.prepare_cached(
        "SELECT seq, bytes FROM payloads WHERE task_uid = ?1 AND seq > ?2 ORDER BY seq LIMIT 1",
    )?;
    let read = |row: &Row<'_>| {
        let bytes = Bytes::from(row.get::<_, Vec<u8>>(1)?);
        Ok(PayloadChunk { seq: from_column(row.get(0)?)?, bytes })
    };
    Ok(statement.query_row(params![to_column(uid)?, after], read).optional()?)
}
