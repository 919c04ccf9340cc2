//! Listing tasks and batches: a query becomes one SQL condition, used for the page and for the total.
//!
//! Every column that can be asked about is in one narrow index in the order of uids, `tasks_listed`. Any filter at all is
//! a walk through it, which ends early for a page and takes a tenth of a microsecond a task for a total. Where one
//! column alone leaves few tasks, its own index is better. SQLite cannot know which is the case, so it is told.

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, params_from_iter};

use super::failure::Failure;
use super::tasks::read_record;
use super::values::{from_column, to_column, to_json, to_nanoseconds_at_most};
use crate::{BatchMembers, BatchPage, BatchRecord, StoreError, TaskPage, TaskQuery, TaskRecord, TaskUid};

/// With more matches than this, a page is found sooner by a walk in the order of uids than by sorting them.
const FEW: u64 = 1_000;

/// Conditions joined by AND, with the values they name by position.
#[derive(Default, Clone)]
struct Condition {
    sql: Vec<String>,
    values: Vec<SqlValue>,
}

impl Condition {
    /// Adds a condition in which every `?` stands for the value.
    fn add(&mut self, sql: &str, value: SqlValue) {
        self.values.push(value);
        self.sql.push(sql.replace('?', &format!("?{}", self.values.len())));
    }

    /// Adds a condition on a list, which is passed as one JSON array, so that its length does not matter.
    fn list<T: serde::Serialize>(&mut self, sql: &str, list: Option<&Vec<T>>) -> Result<(), StoreError> {
        if let Some(list) = list {
            self.add(&sql.replace("[]", "(SELECT value FROM json_each(?))"), SqlValue::Text(to_json(list)?));
        }
        Ok(())
    }

    fn time(&mut self, sql: &str, time: Option<&String>) -> Result<(), StoreError> {
        if let Some(time) = time {
            self.add(sql, SqlValue::Integer(to_nanoseconds_at_most(time)?));
        }
        Ok(())
    }

    fn text(&self) -> String {
        if self.sql.is_empty() { "TRUE".to_owned() } else { self.sql.join(" AND ") }
    }
}

/// The filters that are about a task itself, and not about the batch it is in.
fn own_filters(query: &TaskQuery) -> Result<Condition, StoreError> {
    let mut condition = Condition::default();
    condition.list("uid IN []", query.uids.as_ref())?;
    condition.list("status IN []", query.statuses.as_ref())?;
    condition.list("kind IN []", query.types.as_ref())?;
    condition.list("index_uid IN []", query.index_uids.as_ref())?;
    // Names of indexes have none of the other characters that GLOB knows.
    let visible = "EXISTS (SELECT 1 FROM json_each(?) AS pattern WHERE index_uid GLOB pattern.value)";
    condition.list(visible, query.visible.as_ref())?;
    condition.time("enqueued_at < ?", query.before_enqueued_at.as_ref())?;
    condition.time("enqueued_at > ?", query.after_enqueued_at.as_ref())?;
    condition.time("started_at < ?", query.before_started_at.as_ref())?;
    condition.time("started_at > ?", query.after_started_at.as_ref())?;
    condition.time("finished_at < ?", query.before_finished_at.as_ref())?;
    condition.time("finished_at > ?", query.after_finished_at.as_ref())?;
    Ok(condition)
}

fn tasks_that_match(query: &TaskQuery) -> Result<Condition, StoreError> {
    let mut condition = own_filters(query)?;
    condition.list("canceled_by IN []", query.canceled_by.as_ref())?;
    let in_batch = "status <> 'enqueued' AND uid IN \
                    (SELECT uid FROM tasks WHERE uid IN [] AND canceled_by IS NULL \
                     UNION ALL SELECT uid FROM tasks WHERE canceled_by IN [])";
    condition.list(in_batch, query.batch_uids.as_ref())?;
    Ok(condition)
}

/// A batch is known by the task it is named after, and matches when one of its tasks does.
fn batches_that_match(query: &TaskQuery) -> Result<Condition, StoreError> {
    let own = own_filters(query)?;
    let any_member = format!(
        "({own} OR (kind = 'taskCancelation' AND EXISTS \
         (SELECT 1 FROM tasks AS member WHERE member.canceled_by = tasks.uid AND {own})))",
        own = own.text()
    );
    let mut condition = Condition { sql: vec![any_member], values: own.values };
    condition.sql.push("status <> 'enqueued' AND canceled_by IS NULL".to_owned());
    condition.list("uid IN []", query.batch_uids.as_ref())?;
    let canceling = "kind = 'taskCancelation' AND status = 'succeeded' AND uid IN []";
    condition.list(canceling, query.canceled_by.as_ref())?;
    Ok(condition)
}

/// The way to count what matches: through the index of a column that leaves few tasks, or that says it all.
fn way_to_count(query: &TaskQuery) -> &'static str {
    let TaskQuery { uids, batch_uids, statuses, types, index_uids, canceled_by, .. } = query;
    let times = [&query.before_enqueued_at, &query.after_enqueued_at, &query.before_started_at];
    let more_times = [&query.after_started_at, &query.before_finished_at, &query.after_finished_at];
    let has_times = times.into_iter().chain(more_times).any(Option::is_some);
    let lists = [statuses.is_some(), types.is_some(), index_uids.is_some(), has_times];
    let is_only_one = lists.into_iter().filter(|given| *given).count() == 1;
    let is_unfinished =
        |statuses: &Vec<_>| statuses.iter().all(|status: &crate::TaskStatus| !status.is_finished());
    if uids.is_some() || batch_uids.is_some() {
        // By the numbers themselves.
        return "NOT INDEXED";
    }
    if canceled_by.is_some() {
        return "INDEXED BY tasks_by_canceler";
    }
    if statuses.as_ref().is_some_and(|statuses| is_only_one || is_unfinished(statuses)) {
        return "INDEXED BY tasks_by_status";
    }
    match (is_only_one, types, index_uids) {
        (true, Some(_), _) => "INDEXED BY tasks_by_kind",
        (true, _, Some(_)) => "INDEXED BY tasks_by_index",
        _ => "INDEXED BY tasks_listed",
    }
}

/// The tasks that match, as a statement on tasks can name them: `tasks … WHERE …`.
pub(super) struct Selection {
    pub sql: String,
    pub values: Vec<SqlValue>,
}

impl Selection {
    pub(super) fn of_tasks(query: &TaskQuery) -> Result<Self, StoreError> {
        let condition = tasks_that_match(query)?;
        let sql = format!("tasks {} WHERE {}", way_to_count(query), condition.text());
        Ok(Self { sql, values: condition.values })
    }
}

/// A page of uids, the total, and where the next page begins.
struct Uids {
    page: Vec<i64>,
    total: u64,
    next: Option<TaskUid>,
}

fn count(way: &str, condition: &Condition) -> String {
    format!("SELECT count(*) FROM tasks {way} WHERE {}", condition.text())
}

fn find(
    connection: &Connection,
    query: &TaskQuery,
    way: &str,
    mut condition: Condition,
) -> Result<Uids, Failure> {
    let total: i64 = connection
        .prepare_cached(&count(way, &condition))?
        .query_row(params_from_iter(&condition.values), |row| row.get(0))?;
    let total = from_column(total)?;

    let (order, from) = if query.reverse { ("ASC", "uid >= ?") } else { ("DESC", "uid <= ?") };
    if let Some(uid) = query.from {
        // Beyond what SQLite can hold is beyond every task.
        condition.add(from, SqlValue::Integer(i64::try_from(uid).unwrap_or(i64::MAX)));
    }
    let wanted = query.limit.unwrap_or(i64::MAX as u64).min(i64::MAX as u64 - 1);
    let way = if total <= FEW { way } else { "INDEXED BY tasks_listed" };
    // One more than wanted tells whether there is a next page, and where it starts.
    let select = format!(
        "SELECT uid FROM tasks {way} WHERE {} ORDER BY uid {order} LIMIT {}",
        condition.text(),
        to_column(wanted + 1)?
    );
    let mut statement = connection.prepare(&select)?;
    let mut page = statement
        .query_map(params_from_iter(&condition.values), |row| row.get(0))?
        .collect::<Result<Vec<i64>, _>>()?;
    let more = page.len() as u64 > wanted;
    let next = if more { page.pop().map(from_column).transpose()? } else { None };
    Ok(Uids { page, total, next })
}

/// The statement that counts what matches, for a test of how SQLite carries it out.
#[cfg(test)]
pub(super) fn counting_statement(query: &TaskQuery) -> String {
    count(way_to_count(query), &tasks_that_match(query).unwrap())
}

fn records(connection: &Connection, uids: &[i64]) -> Result<Vec<TaskRecord>, Failure> {
    let mut statement = connection.prepare_cached("SELECT * FROM tasks WHERE uid = ?1")?;
    let read = |uid: &i64| statement.query_row([uid], read_record);
    Ok(uids.iter().map(read).collect::<Result<_, _>>()?)
}

pub(super) fn page(connection: &Connection, query: &TaskQuery) -> Result<TaskPage, Failure> {
    // Page and total come from one snapshot, so that they agree.
    let snapshot = connection.unchecked_transaction()?;
    let found = find(&snapshot, query, way_to_count(query), tasks_that_match(query)?)?;
    let tasks = records(&snapshot, &found.page)?;
    Ok(TaskPage { tasks, total: found.total, next: found.next })
}

pub(super) fn batches(connection: &Connection, query: &TaskQuery) -> Result<BatchPage, Failure> {
    let snapshot = connection.unchecked_transaction()?;
    let by_number = query.batch_uids.is_some() || query.canceled_by.is_some();
    let way = if by_number { "NOT INDEXED" } else { "INDEXED BY tasks_listed" };
    let found = find(&snapshot, query, way, batches_that_match(query)?)?;
    let mut batches = Vec::with_capacity(found.page.len());
    for task in records(&snapshot, &found.page)? {
        let others =
            if task.kind == "taskCancelation" { canceled_by(&snapshot, task.uid)? } else { Vec::new() };
        batches.push(BatchRecord { task, others });
    }
    Ok(BatchPage { batches, total: found.total, next: found.next })
}

/// The tasks that another canceled, counted.
fn canceled_by(connection: &Connection, uid: TaskUid) -> Result<Vec<BatchMembers>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, index_uid, count(*) FROM tasks WHERE canceled_by = ?1 GROUP BY kind, index_uid",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok(BatchMembers { kind: row.get(0)?, index_uid: row.get(1)?, tasks: from_column(row.get(2)?)? })
    };
    Ok(statement.query_map([to_column(uid)?], read)?.collect::<Result<_, _>>()?)
}
