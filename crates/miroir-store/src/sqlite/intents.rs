//! Statements on intents and their payloads.

use bytes::{Bytes, BytesMut};
use miroir_core::shard::ShardId;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::failure::Failure;
use super::tasks;
use super::values::{from_column, from_json, to_column, to_json};
use crate::{Payload, PayloadChunk, StoreError, TaskRecord, TaskUid};

/// The most bytes in one row.
const CHUNK: usize = 1 << 20;

pub(super) fn record(
    connection: &Connection,
    uid: TaskUid,
    operation: &Value,
    payload: Payload,
) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached("INSERT INTO intents VALUES (?1, ?2)")?;
    statement.execute(params![to_column(uid)?, to_json(operation)?])?;
    let mut rows = PayloadRows { connection, uid: to_column(uid)?, seq: 0 };
    let mut pending: Option<(ShardId, BytesMut)> = None;
    for chunk in payload {
        let (shard, bytes) = chunk.map_err(|error| StoreError::Payload(error.to_string()))?;
        let joins = matches!(&pending, Some((held, held_bytes))
            if *held == shard && held_bytes.len() + bytes.len() <= CHUNK);
        if !joins && let Some((held, held_bytes)) = pending.take() {
            rows.insert(held, &held_bytes)?;
        }
        if bytes.len() >= CHUNK {
            rows.insert(shard, &bytes)?;
            continue;
        }
        pending.get_or_insert_with(|| (shard, BytesMut::new())).1.extend_from_slice(&bytes);
    }
    if let Some((shard, bytes)) = pending {
        rows.insert(shard, &bytes)?;
    }
    Ok(())
}

struct PayloadRows<'a> {
    connection: &'a Connection,
    uid: i64,
    seq: i64,
}

impl PayloadRows<'_> {
    fn insert(&mut self, shard: ShardId, bytes: &[u8]) -> Result<(), Failure> {
        let mut statement = self.connection.prepare_cached("INSERT INTO payloads VALUES (?1, ?2, ?3, ?4)")?;
        for piece in bytes.chunks(CHUNK) {
            statement.execute(params![self.uid, self.seq, shard.0, piece])?;
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

pub(super) fn open(connection: &Connection) -> Result<Vec<(TaskRecord, Value)>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT tasks.*, operation FROM intents JOIN tasks ON uid = task_uid ORDER BY task_uid",
    )?;
    let read =
        |row: &Row<'_>| Ok((tasks::read_record(row)?, from_json(row.get_ref("operation")?.as_str()?)?));
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
        "SELECT seq, shard, bytes FROM payloads WHERE task_uid = ?1 AND seq > ?2 ORDER BY seq LIMIT 1",
    )?;
    let read = |row: &Row<'_>| {
        Ok(PayloadChunk {
            seq: from_column(row.get(0)?)?,
            shard: ShardId(row.get(1)?),
            bytes: Bytes::from(row.get::<_, Vec<u8>>(2)?),
        })
    };
    Ok(statement.query_row(params![to_column(uid)?, after], read).optional()?)
}
