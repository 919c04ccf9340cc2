//! Giving indexes other names.
//!
//! Only names change: records, the states of replicas and tasks go over to the other name, and nodes hear nothing of it.

use rusqlite::{Connection, named_params, params};

use super::failure::Failure;
use super::values::to_column;
use crate::{IndexSwap, StoreError, TaskUid, moved_index_key};

/// No index has this name.
const NOBODY: &str = "";

/// Carries out one swap, for this task.
pub(super) fn carry_out(connection: &Connection, swap: &IndexSwap, task: TaskUid) -> Result<(), Failure> {
    let (left, right) = (swap.indexes.0.as_str(), swap.indexes.1.as_str());
    for name in if swap.rename { vec![left] } else { vec![left, right] } {
        let find = "SELECT node_uid FROM indexes WHERE uid = ?1";
        let mut names = connection.prepare_cached(find)?;
        let mut names = names.query([name])?;
        let Some(row) = names.next()? else { return Err(StoreError::UnknownIndex(name.to_owned()).into()) };
        let node_uid: String = row.get(0)?;
        let mark = "REPLACE INTO meta VALUES (?1, '')";
        connection.prepare_cached(mark)?.execute([moved_index_key(&node_uid)])?;
    }
    for (from, to) in [(left, NOBODY), (right, left), (NOBODY, right)] {
        for sql in [
            "UPDATE indexes SET uid = ?2 WHERE uid = ?1",
            "UPDATE replicas SET index_uid = ?2 WHERE index_uid = ?1",
        ] {
            connection.prepare_cached(sql)?.execute(params![from, to])?;
        }
    }
    let mut statement = connection.prepare_cached(
        "UPDATE tasks SET index_uid = iif(index_uid = :left, :right, :left) \
         WHERE uid < :task AND (index_uid = :left OR (:rename AND index_uid = :right))",
    )?;
    statement.execute(named_params! {
        ":left": left, ":right": right, ":rename": swap.rename, ":task": to_column(task)?,
    })?;
    Ok(())
}
