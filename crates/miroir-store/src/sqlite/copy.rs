//! A copy of the whole file, made while it is in use, for a snapshot.

use std::fs::File;
use std::path::Path;

use rusqlite::Connection;

use super::failure::Failure;
use super::schema;
use crate::StoreError;

/// How much further positions begin in a copy: more than are given while a snapshot is made.
const DISTANCE: u32 = 1 << 24;

/// Writes the copy, all of one moment. Blocks.
pub(super) fn write(source: &Path, target: &Path) -> Result<(), Failure> {
    let cannot_open = |reason: String| StoreError::CannotOpen { path: target.to_owned(), reason };
    let name = target.to_str().ok_or_else(|| cannot_open("its name is not UTF-8".to_owned()))?;
    // A connection of its own: nobody else waits for it.
    schema::open_reader(source)?.execute("VACUUM INTO ?1", [name])?;
    let copy = Connection::open(target)?;
    // Nodes may have documents that the copy does not know. What is added after it was put back comes after them, and
    // none of its numbers is one of theirs; and nobody knows how their ids are written.
    copy.execute("UPDATE indexes SET next_position = next_position + ?1, capital_ids = 1", [DISTANCE])?;
    // The snapshot that is being made would be made again over the one that was put back.
    copy.execute("DELETE FROM tasks WHERE kind = 'snapshotCreation' AND finished_at IS NULL", [])?;
    // The same of an export, which would be made to a server that has moved on; and its intent has the key of that server.
    copy.execute_batch(
        "DELETE FROM intents WHERE task_uid IN (SELECT uid FROM tasks WHERE kind = 'export' AND finished_at IS NULL);
         DELETE FROM tasks WHERE kind = 'export' AND finished_at IS NULL;",
    )?;
    copy.close().map_err(|(_, error)| error)?;
    let synced = File::open(target).and_then(|file| file.sync_all());
    Ok(synced.map_err(|error| cannot_open(error.to_string()))?)
}
