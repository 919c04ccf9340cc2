//! Cases on tasks: their uids and their life.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use super::{NOW, TestBackend, deletion, new_task, outcome};
use crate::{Acknowledgement, NewTask, NodeTask, StoreError, TaskOutcome, TaskQuery, TaskRecord, TaskStatus};

pub(crate) async fn uids_count_from_zero_and_never_return(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    for expected in 0..3 {
        assert_eq!(store.begin(new_task("a"), None).await.unwrap(), expected);
    }
    store.finish(2, outcome(TaskStatus::Succeeded)).await.unwrap();
    assert_eq!(store.delete_tasks(deletion(), TaskQuery::default()).await.unwrap(), 3);
    assert_eq!(store.delete_tasks(deletion(), TaskQuery::default()).await.unwrap(), 4);
    drop(store);
    let store = backend.open().await.unwrap();
    assert_eq!(store.begin(new_task("a"), None).await.unwrap(), 5);
}

pub(crate) async fn concurrent_writes_all_get_their_own_uid(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut uids = Vec::new();
                for _ in 0..50 {
                    uids.push(store.begin(new_task(&format!("index-{writer}")), None).await.unwrap());
                }
                uids
            })
        })
        .collect();
    let mut all = BTreeSet::new();
    for (writer, handle) in writers.into_iter().enumerate() {
        let uids = handle.await.unwrap();
        assert!(uids.is_sorted(), "calls one after the other get increasing uids");
        let query = TaskQuery { index_uids: Some(vec![format!("index-{writer}")]), ..TaskQuery::default() };
        assert_eq!(store.tasks(query).await.unwrap().total, 50);
        all.extend(uids);
    }
    assert_eq!(all, (0..400).collect());
}

pub(crate) async fn one_failing_write_leaves_the_others_alone(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    let calls: Vec<_> = (0..60)
        .map(|count| {
            let store = Arc::clone(&store);
            let bad = NewTask { enqueued_at: "yesterday".to_owned(), ..new_task("a") };
            let task = if count % 3 == 0 { bad } else { new_task("a") };
            tokio::spawn(async move { store.begin(task, None).await })
        })
        .collect();
    let mut uids = BTreeSet::new();
    let mut refused = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(uid) => assert!(uids.insert(uid)),
            Err(error) => {
                assert!(matches!(error, StoreError::Invalid(_)), "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!((uids, refused), ((0..40).collect(), 20));
    assert_eq!(store.tasks(TaskQuery::default()).await.unwrap().total, 40);
}

pub(crate) async fn a_task_goes_through_its_life(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    let uid = store.begin(new_task("movies"), None).await.unwrap();
    let enqueued = TaskRecord {
        uid,
        index_uid: Some("movies".to_owned()),
        kind: "documentAdditionOrUpdate".to_owned(),
        status: TaskStatus::Enqueued,
        details: json!({"receivedDocuments": 3, "indexedDocuments": null}),
        error: None,
        canceled_by: None,
        enqueued_at: NOW.to_owned(),
        started_at: None,
        finished_at: None,
        node_tasks: vec![],
    };
    assert_eq!(store.task(uid).await.unwrap(), Some(enqueued.clone()));
    assert_eq!(store.task(uid + 1).await.unwrap(), None);
    assert_eq!(store.task(u64::MAX).await.unwrap(), None);

    let node_tasks = vec![NodeTask { node: "n0".to_owned(), task_uid: 5, enqueued_at: None }];
    let acknowledgement = Acknowledgement { task_uid: uid, node_tasks, ..Acknowledgement::default() };
    store.acknowledged(acknowledgement).await.unwrap();
    store.set_processing(vec![uid, 99], "2026-01-02T03:04:07Z".to_owned()).await.unwrap();
    store.set_processing(vec![uid], "2030-01-01T00:00:00Z".to_owned()).await.unwrap();
    let processing = store.unfinished().await.unwrap();
    assert_eq!(processing.len(), 1);
    assert_eq!(processing[0].status, TaskStatus::Processing);
    assert_eq!(processing[0].started_at.as_deref(), Some("2026-01-02T03:04:07Z"));
    assert_eq!(processing[0].node_tasks.len(), 1);

    let failed = TaskOutcome {
        error: Some(json!({"code": "internal"})),
        details: Some(json!({"receivedDocuments": 3, "indexedDocuments": 0})),
        finished_at: "2026-01-02T04:04:08.5+01:00".to_owned(),
        ..outcome(TaskStatus::Failed)
    };
    assert!(store.finish(uid, failed).await.unwrap());
    let canceled = TaskOutcome { canceled_by: Some(4), ..outcome(TaskStatus::Canceled) };
    assert!(!store.finish(uid, canceled).await.unwrap(), "a task ends once");
    let expected = TaskRecord {
        status: TaskStatus::Failed,
        details: json!({"receivedDocuments": 3, "indexedDocuments": 0}),
        error: Some(json!({"code": "internal"})),
        started_at: Some("2026-01-02T03:04:07Z".to_owned()),
        finished_at: Some("2026-01-02T03:04:08.5Z".to_owned()),
        ..enqueued
    };
    assert_eq!(store.task(uid).await.unwrap(), Some(expected));
    assert_eq!(store.unfinished().await.unwrap(), vec![]);

    assert_eq!(store.finish(77, outcome(TaskStatus::Failed)).await, Err(StoreError::UnknownTask(77)));
    let not_an_end = store.finish(uid, outcome(TaskStatus::Processing)).await;
    assert!(matches!(not_an_end, Err(StoreError::Invalid(_))));
}

pub(crate) async fn a_task_may_be_born_finished(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    let mut task = new_task("movies");
    task.index_uid = None;
    task.outcome = Some(TaskOutcome { error: Some(json!({"code": "x"})), ..outcome(TaskStatus::Failed) });
    let uid = store.begin(task, None).await.unwrap();
    let recorded = store.task(uid).await.unwrap().unwrap();
    assert_eq!((recorded.status, recorded.index_uid), (TaskStatus::Failed, None));
    assert_eq!(recorded.error, Some(json!({"code": "x"})));
    assert_eq!(recorded.details, json!({"receivedDocuments": 3, "indexedDocuments": null}));
}
