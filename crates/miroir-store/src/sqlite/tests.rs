//! The conformance suite for SQLite, and what only concerns a file on a disk.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use bytes::Bytes;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::conformance::{TestBackend, conformance_tests, index, intent, new_task, outcome, stored_payload};
use crate::{IdempotencyKey, Payload, TaskStatus, WriteMarks};

struct OneFile(TempDir);

impl OneFile {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("miroir.db")
    }
}

#[async_trait]
impl TestBackend for OneFile {
    async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(SqliteStore::open(&self.path())?))
    }
}

conformance_tests!(OneFile::new());

#[tokio::test]
async fn a_copy_is_a_store_that_goes_on_at_a_distance() {
    let (file, put_back) = (OneFile::new(), OneFile::new());
    let store = file.open().await.unwrap();
    store.put_index(index("films")).await.unwrap();
    let ended = store.begin(new_task("films"), None).await.unwrap();
    store.finish(ended, outcome(TaskStatus::Succeeded)).await.unwrap();
    let snapshot = NewTask { kind: "snapshotCreation".to_owned(), ..new_task("films") };
    let snapshot = store.begin(snapshot, None).await.unwrap();
    store.copy_to(&put_back.path()).await.unwrap();
    assert!(store.copy_to(&put_back.path()).await.is_err(), "nothing is written over");
    store.put_meta("later", "not in it").await.unwrap();

    let copy = put_back.open().await.unwrap();
    let far = copy.index("films").await.unwrap().unwrap();
    assert!(far.next_position > index("films").next_position + 1_000_000, "{}", far.next_position);
    assert!(far.capital_ids && !index("films").capital_ids, "of ids it knows no more than that");
    let (next_position, capital_ids) = (index("films").next_position, false);
    assert_eq!(IndexRecord { next_position, capital_ids, ..far }, index("films"));
    assert_eq!(copy.task(ended).await.unwrap(), store.task(ended).await.unwrap());
    assert_eq!(copy.task(snapshot).await.unwrap(), None, "it would be made again");
    assert_eq!(copy.meta("later").await.unwrap(), None);
    assert_eq!(copy.begin(new_task("films"), None).await.unwrap(), snapshot + 1);
}

#[tokio::test]
async fn a_second_store_on_the_same_file_is_refused() {
    let file = OneFile::new();
    let first = SqliteStore::open(&file.path()).unwrap();
    let alias = file.0.path().join("alias.db");
    std::os::unix::fs::symlink(file.path(), &alias).unwrap();
    for path in [file.path(), alias] {
        let refused = SqliteStore::open(&path).err().unwrap();
        assert_eq!(refused, StoreError::Locked { path });
        assert!(refused.to_string().contains("in use by another process"));
    }
    first.begin(new_task("a"), None).await.unwrap();
    drop(first);
    assert!(SqliteStore::open(&file.path()).is_ok());
}

#[tokio::test]
async fn a_full_disk_is_said_and_leaves_the_store_usable() {
    let file = OneFile::new();
    let store = SqliteStore::open(&file.path()).unwrap();
    let before = store.begin(new_task("a"), Some(intent(vec![vec![7; 100]]))).await.unwrap();
    let limit = |pages: u32| {
        store.writer.write(move |connection| {
            Ok(connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?)
        })
    };
    limit(200).await.unwrap();
    let full = StoreError::Full { path: file.path() };
    let large = store.begin(new_task("a"), Some(intent(vec![vec![1; 8 << 20]])));
    assert_eq!(large.await, Err(full.clone()));
    assert!(full.to_string().contains("free some space"));

    // What was there still is, small writes work, and so does the large one once there is room.
    assert_eq!(stored_payload(&store, before).await.0, vec![7; 100]);
    assert_eq!(store.begin(new_task("a"), None).await.unwrap(), before + 1);
    limit(100_000).await.unwrap();
    let uid = store.begin(new_task("a"), Some(intent(vec![vec![1; 8 << 20]]))).await.unwrap();
    assert_eq!(stored_payload(&store, uid).await.0.len(), 8 << 20);
}

#[tokio::test]
async fn writes_of_one_commit_survive_a_full_disk_or_are_told() {
    let file = OneFile::new();
    let store = Arc::new(SqliteStore::open(&file.path()).unwrap());
    let narrow = |connection: &Connection| {
        Ok(connection.pragma_update_and_check(None, "max_page_count", 200, |_| Ok(()))?)
    };
    store.writer.write(narrow).await.unwrap();
    let calls: Vec<_> = (0..40)
        .map(|count| {
            let store = Arc::clone(&store);
            let large = (count % 10 == 5).then(|| intent(vec![vec![1; 4 << 20]]));
            tokio::spawn(async move { store.begin(new_task("a"), large).await })
        })
        .collect();
    let mut acknowledged = Vec::new();
    for call in calls {
        match call.await.unwrap() {
            Ok(uid) => acknowledged.push(uid),
            Err(error) => assert_eq!(error, StoreError::Full { path: file.path() }),
        }
    }
    acknowledged.sort_unstable();
    let page = store.tasks(TaskQuery { reverse: true, ..TaskQuery::default() }).await.unwrap();
    assert_eq!(page.tasks.iter().map(|task| task.uid).collect::<Vec<_>>(), acknowledged);
    assert!(acknowledged.len() <= 36, "the large ones do not fit");
}

#[tokio::test]
async fn a_write_to_a_file_that_became_read_only_is_said() {
    let file = OneFile::new();
    let store = SqliteStore::open(&file.path()).unwrap();
    let forbid = |connection: &Connection| Ok(connection.pragma_update(None, "query_only", true)?);
    // The commit that carries the pragma is itself refused or not; what counts is the next write.
    let _ = store.writer.write(forbid).await;
    let refused = store.put_meta("key", "value").await;
    assert_eq!(refused, Err(StoreError::ReadOnly { path: file.path() }));
}

/// A file that nobody may write, not even root, who may ignore permissions.
const READ_ONLY_FILE: &str = "/sys/devices/system/cpu/online";

#[test]
fn a_file_that_cannot_be_written_is_refused() {
    let path = PathBuf::from(READ_ONLY_FILE);
    assert!(std::fs::read(&path).is_ok(), "{READ_ONLY_FILE} must be there, or this tests something else");
    // The file itself, and before it the lock next to it.
    let refused = schema::open_writer(&path).err().map(|failure| failure.at(&path));
    assert_eq!(refused, Some(StoreError::ReadOnly { path: path.clone() }));
    let refused = SqliteStore::open(&path).err().unwrap();
    assert_eq!(refused, StoreError::ReadOnly { path });
    assert!(refused.to_string().ends_with("let the user Miroir runs as write that file and its directory"));
}

#[test]
fn files_that_are_not_ours_are_refused_and_left_alone() {
    let file = OneFile::new();
    std::fs::write(file.path(), "This is a diary and not a database. ".repeat(100)).unwrap();
    let refused = SqliteStore::open(&file.path()).err();
    assert!(matches!(refused, Some(StoreError::Corrupt { .. })), "{refused:?}");
    assert!(std::fs::read_to_string(file.path()).unwrap().starts_with("This is a diary"));

    let file = OneFile::new();
    let foreign = Connection::open(file.path()).unwrap();
    foreign.execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
    drop(foreign);
    let refused = SqliteStore::open(&file.path()).err();
    assert_eq!(refused, Some(StoreError::Foreign { path: file.path() }));

    let missing = file.0.path().join("no such directory").join("miroir.db");
    let refused = SqliteStore::open(&missing).err();
    assert!(matches!(refused, Some(StoreError::CannotOpen { .. })), "{refused:?}");
}

#[test]
fn another_schema_is_refused() {
    for found in [migrations::VERSION + 1, migrations::FIRST - 1] {
        let file = OneFile::new();
        drop(SqliteStore::open(&file.path()).unwrap());
        let connection = Connection::open(file.path()).unwrap();
        connection.pragma_update(None, "user_version", found).unwrap();
        drop(connection);
        let refused = SqliteStore::open(&file.path()).err();
        assert_eq!(
            refused,
            Some(StoreError::OtherSchema { path: file.path(), found, known: migrations::VERSION })
        );
    }
}

#[tokio::test]
async fn a_file_of_an_earlier_version_is_taken_over() {
    let file = OneFile::new();
    let old = Connection::open(file.path()).unwrap();
    old.execute_batch(migrations::FIRST_TABLES).unwrap();
    old.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
    old.pragma_update(None, "user_version", migrations::FIRST).unwrap();
    old.execute_batch(
        r#"INSERT INTO tasks VALUES (0, 'a', 'settingsUpdate', 'succeeded', NULL, 5, 6, 7, NULL, NULL, '{"a":1}');
        INSERT INTO tasks VALUES (1, 'a', 'indexDeletion', 'enqueued', NULL, 8, NULL, NULL, NULL, NULL, '{}');
        INSERT INTO intents VALUES (1, '{"operation":"deleteIndex"}');
        INSERT INTO payloads VALUES (1, 0, x'0102');
        INSERT INTO tasks VALUES (2, 'gone', 'indexDeletion', 'succeeded', NULL, 8, 8, 9, NULL, NULL, '{}');
        UPDATE next_task SET uid = 3"#,
    )
    .unwrap();
    drop(old);

    for opened in 0..2 {
        let store = SqliteStore::open(&file.path()).unwrap();
        let page = store.tasks(TaskQuery::default()).await.unwrap();
        assert_eq!(page.total, 3 + opened);
        assert!(store.was_deleted("gone").await.unwrap() && !store.was_deleted("a").await.unwrap());
        let first = page.tasks.last().unwrap();
        assert_eq!((first.status, &first.details), (TaskStatus::Succeeded, &json!({"a": 1})));
        assert_eq!(store.open_intents().await.unwrap().len(), 1);
        assert_eq!(stored_payload(&store, 1).await.0, [1, 2]);
        let idempotency = Some(IdempotencyKey { key: format!("key {opened}"), digest: 1 });
        let marks = WriteMarks { idempotency, session: Some("s".to_owned()) };
        let uid = store.begin(NewTask { marks, ..new_task("a") }, None).await.unwrap();
        assert_eq!(uid, 3 + opened);
        assert_eq!(store.session_task("s", "a").await.unwrap(), Some(uid));
    }
}

/// What is looked up for every write with a key and every read with a session must not get slower with the
/// number of tasks.
#[test]
fn keys_and_sessions_are_found_by_their_indexes() {
    let file = OneFile::new();
    drop(SqliteStore::open(&file.path()).unwrap());
    let connection = Connection::open(file.path()).unwrap();
    let lookups = [
        (marks::DROP_EXPIRED, "INDEX tasks_by_age_of_key"),
        (marks::DROP_EXPIRED_OF_DELETED, "INDEX keys_of_deleted_tasks_by_age"),
        (marks::DROP_EXPIRED, "INDEX tasks_by_key"),
        (marks::KEY_OWNER, "INDEX tasks_by_key"),
        (marks::KEYED_TASK, "INDEX tasks_by_key"),
        (marks::SESSION_TASK, "INDEX tasks_by_session"),
    ];
    for (sql, index) in lookups {
        let lines = plan(&connection, sql);
        assert!(lines.iter().any(|line| line.contains(index)), "{sql}: {lines:?}");
        let walks = |line: &String| line.starts_with("SCAN tasks") || line.starts_with("SCAN keys");
        assert!(!lines.iter().any(walks), "{sql}: {lines:?}");
    }
}

/// How SQLite carries a statement out.
fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let nulls = vec![rusqlite::types::Null; plan.parameter_count()];
    let lines = plan.query_map(rusqlite::params_from_iter(nulls), |row| row.get::<_, String>("detail"));
    lines.unwrap().map(Result::unwrap).collect()
}

/// Tasks are many and large; what a list is filtered by is in its indexes.
#[test]
fn lists_never_walk_through_the_tasks_themselves() {
    let file = OneFile::new();
    drop(SqliteStore::open(&file.path()).unwrap());
    let connection = Connection::open(file.path()).unwrap();
    for query in crate::conformance::single_filters().into_iter().chain([TaskQuery::default()]) {
        let sql = task_query::counting_statement(&query);
        let lines = plan(&connection, &sql);
        let walks = |line: &&String| line.starts_with("SCAN tasks") && !line.contains("COVERING INDEX");
        assert_eq!(lines.iter().find(walks), None, "{sql}: {lines:?}");
    }
}

#[tokio::test]
async fn damage_is_said() {
    let file = OneFile::new();
    let store = SqliteStore::open(&file.path()).unwrap();
    store.begin(new_task("a"), None).await.unwrap();
    let break_it = |connection: &Connection| {
        Ok(connection.execute("UPDATE tasks SET details = '{', status = 'resting'", [])?)
    };
    store.writer.write(break_it).await.unwrap();
    let refused = store.task(0).await;
    assert!(matches!(refused, Err(StoreError::Corrupt { .. })), "{refused:?}");
}

/// Resident memory of this process, at its highest.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_large_payload_is_never_in_memory_as_a_whole() {
    let file = OneFile::new();
    let store = SqliteStore::open(&file.path()).unwrap();
    let before = peak_memory();
    let chunks = (0..1600_u32).map(|count| Ok(Bytes::from(vec![count as u8; 128 << 10])));
    let payload: Payload = Box::new(chunks);
    let intent = Intent { operation: json!({}), payload, index_changes: vec![] };
    let uid = store.begin(new_task("a"), Some(intent)).await.unwrap();
    let (mut after, mut total) = (None, 0);
    while let Some(chunk) = store.intent_payload(uid, after).await.unwrap() {
        after = Some(chunk.seq);
        total += chunk.bytes.len();
    }
    assert_eq!(total, 200 << 20);
    let grown = peak_memory().saturating_sub(before);
    // Other tests of this process may grow it as well, but not by as much as the payload.
    assert!(grown < 120 << 20, "memory grew by {} MiB", grown >> 20);

    store.abandon_intent(uid, outcome(TaskStatus::Failed), vec![]).await.unwrap();
    let size = std::fs::metadata(file.path()).unwrap().len();
    let again = (0..800_u32).map(|_| Ok(Bytes::from(vec![1; 128 << 10])));
    let intent = Intent { operation: json!({}), payload: Box::new(again), index_changes: vec![] };
    store.begin(new_task("a"), Some(intent)).await.unwrap();
    drop(store);
    let size_again = std::fs::metadata(file.path()).unwrap().len();
    assert!(size_again <= size.max(210 << 20), "room is not used again: {size} then {size_again}");
}

const VICTIM_FILE: &str = "MIROIR_STORE_TEST_VICTIM_FILE";

/// Not a test of its own: the process that `acknowledged_writes_survive_a_kill` kills.
#[tokio::test(flavor = "multi_thread")]
async fn victim() {
    let Ok(path) = std::env::var(VICTIM_FILE) else { return };
    let store = SqliteStore::open(Path::new(&path)).unwrap();
    let write = || async {
        loop {
            let chunks = (0..3).map(|byte| vec![byte; 40_000]).collect();
            let uid = store.begin(new_task("a"), Some(intent(chunks))).await.unwrap();
            println!("begun {uid}");
            if uid % 2 == 0 {
                store.abandon_intent(uid, outcome(TaskStatus::Failed), vec![]).await.unwrap();
                println!("abandoned {uid}");
            }
        }
    };
    tokio::join!(write(), write(), write(), write());
}

#[tokio::test]
async fn acknowledged_writes_survive_a_kill() {
    // Killed at another moment each time, by what it has done and not by the clock.
    for lines_before_the_kill in [4, 9, 17] {
        let file = OneFile::new();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::tests::victim", "--nocapture"])
            .env(VICTIM_FILE, file.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let is_ours = |line: &String| line.starts_with("begun") || line.starts_with("abandoned");
        let before: Vec<String> = lines.by_ref().filter(is_ours).take(lines_before_the_kill).collect();
        child.kill().unwrap();
        child.wait().unwrap();

        let store = SqliteStore::open(&file.path()).unwrap();
        let page = store.tasks(TaskQuery { reverse: true, ..TaskQuery::default() }).await.unwrap();
        assert!(page.tasks.iter().map(|task| task.uid).eq(0..page.total), "a uid is missing");
        let open = store.open_intents().await.unwrap();
        for (task, _) in &open {
            let (bytes, _) = stored_payload(&store, task.uid).await;
            let whole = [vec![0; 40_000], vec![1; 40_000], vec![2; 40_000]].concat();
            assert!(bytes == whole, "the payload of {} is not whole", task.uid);
        }
        let is_open = |uid: u64| open.iter().any(|(task, _)| task.uid == uid);
        let mut seen = 0;
        for line in before.into_iter().chain(lines) {
            let Some((what, uid)) = line.split_once(' ') else { continue };
            let Ok(uid) = uid.parse::<u64>() else { continue };
            assert!(uid < page.total, "acknowledged task {uid} is lost");
            match what {
                "begun" if uid % 2 == 1 => assert!(is_open(uid), "the intent of {uid} is lost"),
                "abandoned" => assert!(!is_open(uid), "the intent of {uid} came back"),
                _ => continue,
            }
            seen += 1;
        }
        assert!(seen > 0, "the victim did nothing that can be checked");
    }
}
