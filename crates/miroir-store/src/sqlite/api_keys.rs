//! API keys: few, read once at the start, and written when somebody changes one.

use rusqlite::Connection;

use super::failure::Failure;

/// All records, in the order in which they were made.
pub(super) fn all(connection: &Connection) -> Result<Vec<String>, Failure> {
    let mut statement = connection.prepare_cached("SELECT record FROM api_keys ORDER BY place")?;
    let records = statement.query_map([], |row| row.get(0))?;
    Ok(records.collect::<Result<_, _>>()?)
}

/// Makes or changes records, each with the uid it is found by.
pub(super) fn put(connection: &Connection, records: &[(String, String)]) -> Result<(), Failure> {
    let sql = "INSERT INTO api_keys (uid, record) VALUES (?1, ?2)
               ON CONFLICT (uid) DO UPDATE SET record = excluded.record";
    let mut statement = connection.prepare_cached(sql)?;
    for (uid, record) in records {
        statement.execute([uid, record])?;
    }
    Ok(())
}

/// Forgets one; whether it was there.
pub(super) fn delete(connection: &Connection, uid: &str) -> Result<bool, Failure> {
    Ok(connection.prepare_cached("DELETE FROM api_keys WHERE uid = ?1")?.execute([uid])? > 0)
}
