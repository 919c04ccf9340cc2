//! How a file is opened and recognised.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::failure::Failure;
use super::migrations::{self, VERSION};
use crate::StoreError;

/// "MIRO", written to `PRAGMA application_id` so that other people's databases are left alone.
pub(super) const APPLICATION_ID: u32 = 0x4d49_524f;

/// Pages in the log from which on it is copied into the file.
const LOG_PAGES: u32 = 4_000;

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
    if !migrations::can_migrate(found) {
        return Err(StoreError::OtherSchema { path: path.to_owned(), found, known: VERSION }.into());
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // In WAL mode anything less than FULL may lose the newest commits when the power fails.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Payloads pass through once, so a large cache would only hold what nobody reads again.
    connection.pragma_update(None, "cache_size", -4_000)?;
    // Payloads are deleted soon after they were written: fewer checkpoints copy fewer of them into the file. But a log that
    // is long before it is begun anew takes new room on the disk all the time. In pages of 4 KiB; of 1,000 to 32,768, this
    // took the least time for payloads of 400 KB.
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    // A large payload makes a large log; give the room back at the next checkpoint.
    connection.pragma_update(None, "journal_size_limit", LOG_PAGES * 4_096)?;
    if found != VERSION {
        let change = connection.transaction()?;
        migrations::migrate(&change, found)?;
        change.pragma_update(None, "application_id", APPLICATION_ID)?;
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
