//! The tables, and what brings a file of an earlier version of Miroir to this one's.
//!
//! A new file takes the same way as an old one: the first tables, then every step. So there is one description of
//! each change, and a new file cannot differ from one that has grown.

use rusqlite::Connection;

use super::failure::Failure;

/// What a new file says.
const NOTHING_YET: u32 = 0;
/// The oldest version that can be brought to the current one.
pub(super) const FIRST: u32 = 2;
/// Version written to `PRAGMA user_version`.
pub(super) const VERSION: u32 = FIRST + STEPS.len() as u32;

/// The tables of version [`FIRST`]. They are in files out there: what changes goes into a step.
///
/// Settings, overlay and placement are columns of their own so that moving a position forward leaves them alone.
pub(super) const FIRST_TABLES: &str = "
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

/// What brings a file from each version to the next, from [`FIRST`] on. A step that has been released is never
/// changed; the next change is a new one at the end.
const STEPS: [&str; 7] =
    [MARKS_OF_TASKS, LISTS_OF_TASKS, API_KEYS, KEPT_INTENTS, NAMES_ON_NODES, ENDS_OF_TASKS, CAPITAL_IDS];

/// To version 3: what a client said about a write. The keys of tasks are found by key, and by age to be dropped;
/// the tasks that the reads of a session wait for are few, and so is what that index holds.
const MARKS_OF_TASKS: &str = "
ALTER TABLE tasks ADD COLUMN idempotency_key TEXT;
ALTER TABLE tasks ADD COLUMN request_digest BLOB;
ALTER TABLE tasks ADD COLUMN session TEXT;
CREATE UNIQUE INDEX tasks_by_key ON tasks (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX tasks_by_age_of_key ON tasks (enqueued_at) WHERE idempotency_key IS NOT NULL;
CREATE INDEX tasks_by_session ON tasks (session, index_uid) WHERE session IS NOT NULL AND finished_at IS NULL;
";

/// To version 4: all that a list of tasks can be filtered by, in the order of the list; and what outlives a task that
/// is deleted.
const LISTS_OF_TASKS: &str = "
CREATE INDEX tasks_listed ON tasks
    (uid, status, kind, index_uid, canceled_by, enqueued_at, started_at, finished_at);
CREATE TABLE deleted_indexes (uid TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT OR IGNORE INTO deleted_indexes
    SELECT index_uid FROM tasks
    WHERE kind = 'indexDeletion' AND status = 'succeeded' AND index_uid IS NOT NULL;
CREATE TABLE keys_of_deleted_tasks (
    idempotency_key TEXT PRIMARY KEY,
    request_digest BLOB NOT NULL,
    uid INTEGER NOT NULL,
    index_uid TEXT,
    kind TEXT NOT NULL,
    enqueued_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX keys_of_deleted_tasks_by_age ON keys_of_deleted_tasks (enqueued_at);
";

/// To version 5: API keys, in the order in which they were made.
const API_KEYS: &str = "
CREATE TABLE api_keys (place INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, record TEXT NOT NULL);
";

/// To version 6: what was acknowledged and may still be taken back is kept until its task has ended,
/// and then which node tasks it has all the same.
const KEPT_INTENTS: &str = "
ALTER TABLE intents ADD COLUMN acknowledged INTEGER NOT NULL DEFAULT 0;
ALTER TABLE intents ADD COLUMN sent TEXT;
";

/// To version 7: what an index is called on nodes.
const NAMES_ON_NODES: &str = "
ALTER TABLE indexes ADD COLUMN node_uid TEXT NOT NULL DEFAULT '';
UPDATE indexes SET node_uid = uid;
";

/// To version 8: the order in which tasks end, which is neither that of their uids nor that of the clocks of nodes.
/// Those that have ended before have no place in it.
const ENDS_OF_TASKS: &str = "
CREATE TABLE last_end (number INTEGER NOT NULL);
INSERT INTO last_end VALUES (0);
ALTER TABLE tasks ADD COLUMN end_number INTEGER;
CREATE INDEX tasks_by_end ON tasks (end_number) WHERE end_number IS NOT NULL;
";

/// To version 9: whether ids of documents have capital letters. Of those written before that is not known.
const CAPITAL_IDS: &str = "
ALTER TABLE indexes ADD COLUMN capital_ids INTEGER NOT NULL DEFAULT 1;
";

/// Whether a file that says this version can be brought to the current one.
pub(super) fn can_migrate(found: u32) -> bool {
    found == NOTHING_YET || (FIRST..=VERSION).contains(&found)
}

/// Brings the content of a file of version `found` to the current one. To be called in a transaction.
pub(super) fn migrate(connection: &Connection, found: u32) -> Result<(), Failure> {
    if found == NOTHING_YET {
        connection.execute_batch(FIRST_TABLES)?;
    } else {
        tracing::info!(from = found, to = VERSION, "bringing the store to this version of Miroir");
    }
    let done = found.max(FIRST) - FIRST;
    for step in STEPS.iter().skip(done as usize) {
        connection.execute_batch(step)?;
    }
    connection.pragma_update(None, "user_version", VERSION)?;
    Ok(())
}
