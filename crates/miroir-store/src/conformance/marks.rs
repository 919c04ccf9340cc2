//! Cases on what clients say about their writes: keys are used once, sessions find what they wait for.

use std::sync::Arc;

use serde_json::json;

use super::{NOW, TestBackend, deletion, index, intent, new_task, outcome};
use crate::{
    Acknowledgement, IdempotencyKey, IndexChange, KeyedTask, NewTask, StoreError, TaskOutcome, TaskQuery,
    TaskStatus, WriteMarks,
};

/// Less than a lifetime after [`NOW`], and just more.
const LATER: &str = "2026-01-03T03:04:05.678900Z";
const TOO_LATE: &str = "2026-01-03T03:04:05.678901Z";

fn keyed(index_uid: &str, key: &str, digest: u128) -> NewTask {
    let idempotency = Some(IdempotencyKey { key: key.to_owned(), digest });
    NewTask { marks: WriteMarks { idempotency, session: None }, ..new_task(index_uid) }
}

fn of_session(index_uid: &str, session: &str) -> NewTask {
    let session = Some(session.to_owned());
    NewTask { marks: WriteMarks { idempotency: None, session }, ..new_task(index_uid) }
}

fn taken(key: &str, task: u64) -> StoreError {
    StoreError::KeyTaken { key: key.to_owned(), task }
}

pub(crate) async fn a_key_is_used_once(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    assert_eq!(store.keyed_task("k", NOW).await.unwrap(), None);
    let first = store.begin(keyed("a", "k", u128::MAX - 7), Some(intent(vec![vec![1]]))).await.unwrap();
    let other = store.begin(keyed("a", "K", 0), None).await.unwrap();
    // Whatever it is for.
    let again = store.begin(keyed("b", "k", 1), Some(intent(vec![vec![2]]))).await;
    assert_eq!(again, Err(taken("k", first)));
    let ended = NewTask { outcome: Some(outcome(TaskStatus::Failed)), ..keyed("b", "k", 1) };
    assert_eq!(store.begin(ended, None).await, Err(taken("k", first)));
    drop(store);

    let store = backend.open().await.unwrap();
    let found = store.keyed_task("k", LATER).await.unwrap();
    let expected = KeyedTask {
        digest: u128::MAX - 7,
        uid: first,
        index_uid: Some("a".to_owned()),
        kind: "documentAdditionOrUpdate".to_owned(),
        enqueued_at: NOW.to_owned(),
        is_open: true,
    };
    assert_eq!(found, Some(expected));
    store.acknowledged(Acknowledgement { task_uid: first, ..Acknowledgement::default() }).await.unwrap();
    assert!(!store.keyed_task("k", LATER).await.unwrap().unwrap().is_open);
    store.finish(first, outcome(TaskStatus::Succeeded)).await.unwrap();
    assert_eq!(store.begin(keyed("a", "k", 1), None).await, Err(taken("k", first)));
    assert_eq!(store.keyed_task("K", NOW).await.unwrap().unwrap().uid, other);
    assert_eq!(store.tasks(TaskQuery::default()).await.unwrap().total, 2, "what is refused leaves nothing");
    assert_eq!(store.begin(new_task("a"), None).await.unwrap(), other + 1);
}

pub(crate) async fn a_key_outlives_its_deleted_task(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    for (index, key) in [("a", "k"), ("a", "other"), ("b", "unfinished")] {
        store.begin(keyed(index, key, 7), None).await.unwrap();
    }
    for uid in [0, 1] {
        store.finish(uid, outcome(TaskStatus::Succeeded)).await.unwrap();
    }
    let before = store.keyed_task("k", LATER).await.unwrap();
    let keyed_deletion = NewTask { marks: keyed("", "d", 8).marks, ..deletion() };
    store.delete_tasks(keyed_deletion, TaskQuery::default()).await.unwrap();
    drop(store);

    let store = backend.open().await.unwrap();
    assert_eq!(store.task(0).await.unwrap(), None);
    assert_eq!(store.keyed_task("k", LATER).await.unwrap(), before);
    assert_eq!(store.begin(keyed("a", "k", 7), None).await, Err(taken("k", 0)));
    assert_eq!(store.keyed_task("unfinished", LATER).await.unwrap().unwrap().uid, 2);
    // A deletion has a key as any other task, and is refused with it before it deletes anything.
    store.finish(2, outcome(TaskStatus::Succeeded)).await.unwrap();
    let again = NewTask { marks: keyed("", "d", 8).marks, ..deletion() };
    assert_eq!(store.delete_tasks(again, TaskQuery::default()).await, Err(taken("d", 3)));
    assert!(store.task(2).await.unwrap().is_some());

    // It expires as the others do.
    assert_eq!(store.keyed_task("k", TOO_LATE).await.unwrap(), None);
    let at = |time: &str| NewTask { enqueued_at: time.to_owned(), ..keyed("a", "k", 9) };
    assert_eq!(store.begin(at(TOO_LATE), None).await.unwrap(), 4);
    assert_eq!(store.keyed_task("k", TOO_LATE).await.unwrap().unwrap().uid, 4);
    assert_eq!(store.keyed_task("other", LATER).await.unwrap(), None, "dropped with the one that expired");
}

pub(crate) async fn one_of_many_with_one_key_is_recorded(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    let calls: Vec<_> = (0..40)
        .map(|count| {
            let store = Arc::clone(&store);
            let task = keyed(&format!("index-{}", count % 5), "k", count);
            tokio::spawn(async move { store.begin(task, None).await })
        })
        .collect();
    let mut recorded = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(uid) => {
                assert_eq!(uid, 0);
                recorded += 1;
            }
            Err(error) => assert_eq!(error, taken("k", 0)),
        }
    }
    assert_eq!(recorded, 1);
    assert_eq!(store.tasks(TaskQuery::default()).await.unwrap().total, 1);
}

pub(crate) async fn a_key_expires(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    let at = |digest, time: &str| NewTask { enqueued_at: time.to_owned(), ..keyed("a", "k", digest) };
    store.begin(at(1, NOW), None).await.unwrap();
    assert_eq!(store.begin(at(2, LATER), None).await, Err(taken("k", 0)));
    assert!(store.keyed_task("k", LATER).await.unwrap().is_some());
    assert_eq!(store.keyed_task("k", TOO_LATE).await.unwrap(), None);

    assert_eq!(store.begin(at(3, TOO_LATE), None).await.unwrap(), 1);
    let found = store.keyed_task("k", TOO_LATE).await.unwrap().unwrap();
    assert_eq!((found.digest, found.uid), (3, 1));
    assert!(store.task(0).await.unwrap().is_some(), "the task stays");
}

pub(crate) async fn keys_that_have_expired_are_dropped(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    for count in 0..40 {
        store.begin(keyed("a", &format!("old-{count}"), count), None).await.unwrap();
    }
    for count in 0..40 {
        let new = keyed("a", &format!("new-{count}"), count);
        store.begin(NewTask { enqueued_at: TOO_LATE.to_owned(), ..new }, None).await.unwrap();
    }
    for count in 0..40 {
        let old = store.keyed_task(&format!("old-{count}"), NOW).await.unwrap();
        assert_eq!(old, None, "still kept: {count}");
        assert!(store.keyed_task(&format!("new-{count}"), TOO_LATE).await.unwrap().is_some());
    }
}

pub(crate) async fn what_is_taken_back_has_never_been(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    let uid = store.begin(keyed("movies", "k", 1), Some(intent(vec![vec![1]]))).await.unwrap();
    let deletion = vec![IndexChange::Delete("movies".to_owned())];
    assert_eq!(store.take_back(9, deletion.clone()).await, Err(StoreError::UnknownTask(9)));
    assert_eq!(store.indexes().await.unwrap(), vec![index("movies")]);

    store.take_back(uid, deletion).await.unwrap();
    assert_eq!(store.open_intents().await.unwrap(), vec![]);
    assert_eq!(store.intent_payload(uid, None).await.unwrap(), None);
    assert_eq!(store.task(uid).await.unwrap(), None);
    assert_eq!(store.indexes().await.unwrap(), vec![]);
    assert_eq!(store.keyed_task("k", NOW).await.unwrap(), None);
    assert_eq!(store.begin(keyed("movies", "k", 2), None).await.unwrap(), uid + 1);
}

pub(crate) async fn a_session_waits_for_its_unfinished_tasks(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    assert_eq!(store.session_task("s", "a").await.unwrap(), None);
    for session in ["s", "s", "t"] {
        store.begin(of_session("a", session), None).await.unwrap();
    }
    store.begin(of_session("b", "s"), Some(intent(vec![vec![1]]))).await.unwrap();
    store.begin(new_task("a"), None).await.unwrap();
    let ended = NewTask { outcome: Some(outcome(TaskStatus::Failed)), ..of_session("a", "s") };
    store.begin(ended, None).await.unwrap();
    store.set_processing(vec![0], NOW.to_owned()).await.unwrap();
    drop(store);

    let store = backend.open().await.unwrap();
    let waits_for = async |session, index| store.session_task(session, index).await.unwrap();
    assert_eq!(waits_for("s", "a").await, Some(1));
    assert_eq!((waits_for("t", "a").await, waits_for("s", "b").await), (Some(2), Some(3)));
    assert_eq!((waits_for("t", "b").await, waits_for("S", "a").await), (None, None));

    let failed = TaskOutcome { error: Some(json!({"code": "internal"})), ..outcome(TaskStatus::Failed) };
    store.finish(1, failed).await.unwrap();
    assert_eq!(waits_for("s", "a").await, Some(0));
    store.finish(0, outcome(TaskStatus::Succeeded)).await.unwrap();
    assert_eq!(waits_for("s", "a").await, None);
    store.take_back(3, vec![]).await.unwrap();
    assert_eq!(waits_for("s", "b").await, None);
}
