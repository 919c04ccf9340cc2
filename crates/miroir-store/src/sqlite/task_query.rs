//! Listing tasks: a query becomes one SQL condition, used for the page and for the total.

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, params_from_iter};

use super::failure::Failure;
use super::tasks::read_record;
use super::values::{from_column, to_column, to_json, to_nanoseconds};
use crate::{StoreError, TaskPage, TaskQuery};

/// Conditions joined by AND, with the values they name by position.
#[derive(Default, Clone)]
struct Condition {
    sql: Vec<String>,
    values: Vec<SqlValue>,
}

impl Condition {
    fn add(&mut self, sql: &str, value: SqlValue) {
        self.values.push(value);
        self.sql.push(sql.replace('?', &format!("?{}", self.values.len())));
    }

    /// A list is passed as one JSON array, so that its length does not matter.
    fn one_of<T: serde::Serialize>(&mut self, column: &str, list: Option<&Vec<T>>) -> Result<(), StoreError> {
        if let Some(list) = list {
            let sql = format!("{column} IN (SELECT value FROM json_each(?))");
            self.add(&sql, SqlValue::Text(to_json(list)?));
        }
        Ok(())
    }

    fn time(&mut self, sql: &str, time: Option<&String>) -> Result<(), StoreError> {
        if let Some(time) = time {
            self.add(sql, SqlValue::Integer(to_nanoseconds(time)?));
        }
        Ok(())
    }

    fn where_clause(&self) -> String {
        if self.sql.is_empty() { String::new() } else { format!("WHERE {}", self.sql.join(" AND ")) }
    }
}

fn filters(query: &TaskQuery) -> Result<Condition, StoreError> {
    let mut condition = Condition::default();
    condition.one_of("uid", query.uids.as_ref())?;
    condition.one_of("status", query.statuses.as_ref())?;
    condition.one_of("kind", query.types.as_ref())?;
    condition.one_of("index_uid", query.index_uids.as_ref())?;
    condition.one_of("canceled_by", query.canceled_by.as_ref())?;
    condition.time("enqueued_at < ?", query.before_enqueued_at.as_ref())?;
    condition.time("enqueued_at > ?", query.after_enqueued_at.as_ref())?;
    condition.time("started_at < ?", query.before_started_at.as_ref())?;
    condition.time("started_at > ?", query.after_started_at.as_ref())?;
    condition.time("finished_at < ?", query.before_finished_at.as_ref())?;
    condition.time("finished_at > ?", query.after_finished_at.as_ref())?;
    Ok(condition)
}

pub(super) fn page(connection: &Connection, query: &TaskQuery) -> Result<TaskPage, Failure> {
    // Page and total come from one snapshot, so that they agree.
    let snapshot = connection.unchecked_transaction()?;
    let mut condition = filters(query)?;
    let count = format!("SELECT count(*) FROM tasks {}", condition.where_clause());
    let total: i64 =
        snapshot.prepare_cached(&count)?.query_row(params_from_iter(&condition.values), |row| row.get(0))?;

    let (order, from) = if query.reverse { ("ASC", "uid >= ?") } else { ("DESC", "uid <= ?") };
    if let Some(uid) = query.from {
        // Beyond what SQLite can hold is beyond every task.
        condition.add(from, SqlValue::Integer(i64::try_from(uid).unwrap_or(i64::MAX)));
    }
    let wanted = query.limit.unwrap_or(i64::MAX as u64).min(i64::MAX as u64 - 1);
    let clause = condition.where_clause();
    // One more than wanted tells whether there is a next page, and where it starts.
    let select =
        format!("SELECT * FROM tasks {clause} ORDER BY uid {order} LIMIT {}", to_column(wanted + 1)?);
    let mut statement = snapshot.prepare_cached(&select)?;
    let mut tasks = statement
        .query_map(params_from_iter(&condition.values), read_record)?
        .collect::<Result<Vec<_>, _>>()?;
    let more = tasks.len() as u64 > wanted;
    let next = if more { tasks.pop().map(|task| task.uid) } else { None };
    Ok(TaskPage { tasks, total: from_column(total)?, next })
}
