//! The tables, and how a file is opened, recognised and brought to the current version.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::failure::Failure;
use crate::StoreError;

/// Version written to `PRAGMA user_version`.
pub(super) const VERSION: u32 = 2;
/// What a new file says.
const NOTHING_YET: u32 = 0;
/// "MIRO", written to `PRAGMA application_id` so that other people's databases are left alone.
const APPLICATION_ID: u32 = 0x4d49_524f;

/// Settings, overlay and placement are columns of their own so that moving a position forward leaves them alone.
const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE next_task (uid INTEGER NOT NULL);
INSERT INTO next_task VALUES (0);
CREATE TABLE indexes (
    uid TEXT PRIMARY KEY,
    primary_key TEXT,
    shards INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    next_position INTEGER NOT NULL,
    settings_version INTEGER NOT NULL,
    settings_hash TEXT NOT NULL,
    placement_epoch INTEGER NOT NULL,
    placement TEXT NOT NULL,
    overlay TEXT NOT NULL,
    settings TEXT NOT NULL,
    disordered TEXT NOT NULL
);
CREATE TABLE replicas (
    index_uid TEXT NOT NULL,
    shard INTEGER NOT NULL,
    node TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (index_uid, shard, node)
) WITHOUT ROWID;
CREATE TABLE tasks (
    uid INTEGER PRIMARY KEY,
    index_uid TEXT,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    canceled_by INTEGER,
    enqueued_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    node_tasks TEXT,
    error TEXT,
    details TEXT NOT NULL
);
CREATE INDEX tasks_by_status ON tasks (status);
CREATE INDEX tasks_by_index ON tasks (index_uid, kind);
CREATE INDEX tasks_by_kind ON tasks (kind);
CREATE INDEX tasks_by_canceler ON tasks (canceled_by) WHERE canceled_by IS NOT NULL;
CREATE TABLE intents (task_uid INTEGER PRIMARY KEY, operation TEXT NOT NULL);
CREATE TABLE payloads (
    task_uid INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (task_uid, seq)
);
";

/// Opens the connection that writes, creating the content as needed.
pub(super) fn open_writer(path: &Path) -> Result<Connection, Failure> {
    let mut connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    // SQLite falls back to reading only when the file may not be written.
    if connection.is_readonly("main")? {
        return Err(StoreError::ReadOnly { path: path.to_owned() }.into());
    }
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let owner: u32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: u32 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if owner != APPLICATION_ID && (owner != 0 || tables != 0) {
        return Err(StoreError::Foreign { path: path.to_owned() }.into());
    }
    if found != VERSION && found != NOTHING_YET {
        return Err(StoreError::OtherSchema { path: path.to_owned(), found, known: VERSION }.into());
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // In WAL mode anything less than FULL may lose the newest commits when the power fails.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Payloads pass through once, so a large cache would only hold what nobody reads again.
    connection.pragma_update(None, "cache_size", -4_000)?;
    // A large payload makes a large log; give the room back at the next checkpoint.
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    if found == NOTHING_YET {
        let change = connection.transaction()?;
        change.execute_batch(TABLES)?;
        change.pragma_update(None, "application_id", APPLICATION_ID)?;
        change.pragma_update(None, "user_version", VERSION)?;
        change.commit()?;
    }
    Ok(connection)
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Failure> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(connection)
}
