//! Statements on indexes and replica states.

use miroir_core::replica::ReplicaState;
use miroir_core::shard::ShardId;
use rusqlite::{Connection, Row, named_params, params};

use super::failure::Failure;
use super::values::{from_column, from_json, state_from_name, state_name, to_column, to_json};
use crate::{IndexChange, IndexRecord, ReplicaKey, ReplicaStatus, StoreError};

pub(super) fn load(connection: &Connection, uid: Option<&str>) -> Result<Vec<IndexRecord>, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM indexes WHERE ?1 IS NULL OR uid = ?1 ORDER BY uid")?;
    let records = statement.query_map([uid], read_record)?.collect::<Result<_, _>>()?;
    Ok(records)
}

fn read_record(row: &Row<'_>) -> rusqlite::Result<IndexRecord> {
    Ok(IndexRecord {
        uid: row.get("uid")?,
        node_uid: row.get("node_uid")?,
        primary_key: row.get("primary_key")?,
        shards: row.get("shards")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        next_position: from_column(row.get("next_position")?)?,
        settings: from_json(row.get_ref("settings")?.as_str()?)?,
        overlay: from_json(row.get_ref("overlay")?.as_str()?)?,
        settings_version: from_column(row.get("settings_version")?)?,
        settings_hash: row.get("settings_hash")?,
        placement: from_json(row.get_ref("placement")?.as_str()?)?,
        placement_epoch: from_column(row.get("placement_epoch")?)?,
        disordered: from_json(row.get_ref("disordered")?.as_str()?)?,
        capital_ids: row.get("capital_ids")?,
    })
}

pub(super) fn change(connection: &Connection, changes: &[IndexChange]) -> Result<(), Failure> {
    for change in changes {
        match change {
            IndexChange::Put(record) => put(connection, record)?,
            IndexChange::Advance { uid, next_position, updated_at } => {
                advance(connection, uid, *next_position, updated_at)?;
            }
            IndexChange::Delete(uid) => delete(connection, uid)?,
        }
    }
    Ok(())
}

fn put(connection: &Connection, record: &IndexRecord) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(
        "REPLACE INTO indexes (uid, node_uid, primary_key, shards, created_at, updated_at, next_position, \
         settings_version, settings_hash, placement_epoch, placement, overlay, settings, disordered, capital_ids) \
         VALUES (:uid, :node_uid, :primary_key, :shards, :created_at, :updated_at, :next_position, \
         :settings_version, :settings_hash, :placement_epoch, :placement, :overlay, :settings, :disordered, \
         :capital_ids)",
    )?;
    statement.execute(named_params! {
        ":uid": record.uid,
        ":node_uid": record.node_uid,
        ":primary_key": record.primary_key,
        ":shards": record.shards,
        ":created_at": record.created_at,
        ":updated_at": record.updated_at,
        ":next_position": to_column(record.next_position)?,
        ":settings_version": to_column(record.settings_version)?,
        ":settings_hash": record.settings_hash,
        ":placement_epoch": to_column(record.placement_epoch)?,
        ":placement": to_json(&record.placement)?,
        ":overlay": to_json(&record.overlay)?,
        ":settings": to_json(&record.settings)?,
        ":disordered": to_json(&record.disordered)?,
        ":capital_ids": record.capital_ids,
    })?;
    Ok(())
}

fn advance(connection: &Connection, uid: &str, position: u64, updated_at: &str) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(
        "UPDATE indexes SET next_position = max(next_position, ?2), updated_at = ?3 WHERE uid = ?1",
    )?;
    if statement.execute(params![uid, to_column(position)?, updated_at])? == 0 {
        return Err(StoreError::UnknownIndex(uid.to_owned()).into());
    }
    Ok(())
}

fn delete(connection: &Connection, uid: &str) -> Result<(), Failure> {
    // Its task will tell that one of its name was deleted; by the name it has on nodes it is not known any more.
    let note = "INSERT OR IGNORE INTO deleted_indexes SELECT node_uid FROM indexes WHERE uid = ?1 AND node_uid <> uid";
    connection.prepare_cached(note)?.execute([uid])?;
    connection.prepare_cached("DELETE FROM indexes WHERE uid = ?1")?.execute([uid])?;
    connection.prepare_cached("DELETE FROM replicas WHERE index_uid = ?1")?.execute([uid])?;
    Ok(())
}

pub(super) fn replica_states(connection: &Connection) -> Result<Vec<ReplicaStatus>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT index_uid, shard, node, state, reason FROM replicas ORDER BY index_uid, shard, node",
    )?;
    let read = |row: &Row<'_>| {
        Ok(ReplicaStatus {
            key: ReplicaKey { index_uid: row.get(0)?, shard: ShardId(row.get(1)?), node: row.get(2)? },
            state: state_from_name(row.get_ref(3)?.as_str()?)?,
            reason: row.get(4)?,
        })
    };
    let states = statement.query_map([], read)?.collect::<Result<_, _>>()?;
    Ok(states)
}

pub(super) fn set_replica_states(connection: &Connection, changes: &[ReplicaStatus]) -> Result<(), Failure> {
    let mut forget = connection
        .prepare_cached("DELETE FROM replicas WHERE index_uid = ?1 AND shard = ?2 AND node = ?3")?;
    let mut record = connection.prepare_cached("REPLACE INTO replicas VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for ReplicaStatus { key, state, reason } in changes {
        if *state == ReplicaState::Active {
            forget.execute(params![key.index_uid, key.shard.0, key.node])?;
        } else {
            record.execute(params![key.index_uid, key.shard.0, key.node, state_name(*state), reason])?;
        }
    }
    Ok(())
}
