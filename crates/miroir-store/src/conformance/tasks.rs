//! Cases on tasks: their uids, their life, and listing them.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use super::{NOW, TestBackend, new_task, outcome};
use crate::{
    Acknowledgement, NewTask, NodeTask, Store, StoreError, TaskOutcome, TaskQuery, TaskRecord, TaskStatus,
    TaskUid,
};

pub(crate) async fn uids_count_from_zero_and_never_return(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    for expected in 0..3 {
        assert_eq!(store.begin(new_task("a"), None).await.unwrap(), expected);
    }
    store.finish(2, outcome(TaskStatus::Succeeded)).await.unwrap();
    assert_eq!(store.delete_tasks(vec![2]).await.unwrap(), vec![2]);
    drop(store);
    let store = backend.open().await.unwrap();
    assert_eq!(store.begin(new_task("a"), None).await.unwrap(), 3);
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

    let node_tasks = vec![NodeTask { node: "n0".to_owned(), task_uid: 5 }];
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

pub(crate) async fn only_finished_tasks_are_deleted(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    for _ in 0..3 {
        store.begin(new_task("a"), None).await.unwrap();
    }
    store.set_processing(vec![1], NOW.to_owned()).await.unwrap();
    store.finish(2, outcome(TaskStatus::Canceled)).await.unwrap();
    assert_eq!(store.delete_tasks(vec![0, 1, 2, 3, u64::MAX]).await.unwrap(), vec![2]);
    let left = store.tasks(TaskQuery::default()).await.unwrap();
    assert_eq!(uids(&left.tasks), vec![1, 0]);
}

fn uids(tasks: &[TaskRecord]) -> Vec<TaskUid> {
    tasks.iter().map(|task| task.uid).collect()
}

/// Twelve tasks: even ones about `even`, every third a settings update, 0 to 3 finished, 4 and 5 started.
async fn twelve_tasks(store: &dyn Store) {
    for count in 0..12 {
        let mut task = new_task(if count % 2 == 0 { "even" } else { "odd" });
        if count % 3 == 0 {
            task.kind = "settingsUpdate".to_owned();
        }
        task.enqueued_at = format!("2026-01-02T03:04:{count:02}Z");
        store.begin(task, None).await.unwrap();
    }
    store.set_processing((0..6).collect(), "2026-01-02T04:00:00Z".to_owned()).await.unwrap();
    let ends = [TaskStatus::Succeeded, TaskStatus::Failed, TaskStatus::Canceled, TaskStatus::Succeeded];
    for (uid, status) in (0..).zip(ends) {
        let canceled_by = (status == TaskStatus::Canceled).then_some(9);
        let finished_at = format!("2026-01-02T05:00:{uid:02}.25Z");
        store.finish(uid, TaskOutcome { canceled_by, finished_at, ..outcome(status) }).await.unwrap();
    }
}

pub(crate) async fn tasks_are_filtered(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    twelve_tasks(&*store).await;
    let everything = TaskQuery::default;
    let time = |text: &str| Some(text.to_owned());
    let cases = [
        (everything(), (0..12).rev().collect()),
        (TaskQuery { uids: Some(vec![3, 11, 40]), ..everything() }, vec![11, 3]),
        (TaskQuery { uids: Some(vec![]), ..everything() }, vec![]),
        (TaskQuery { statuses: Some(vec![TaskStatus::Succeeded]), ..everything() }, vec![3, 0]),
        (
            TaskQuery { statuses: Some(vec![TaskStatus::Processing, TaskStatus::Canceled]), ..everything() },
            vec![5, 4, 2],
        ),
        (TaskQuery { types: Some(vec!["settingsUpdate".to_owned()]), ..everything() }, vec![9, 6, 3, 0]),
        (TaskQuery { index_uids: Some(vec!["odd".to_owned()]), ..everything() }, vec![11, 9, 7, 5, 3, 1]),
        (TaskQuery { canceled_by: Some(vec![9]), ..everything() }, vec![2]),
        (
            TaskQuery {
                types: Some(vec!["settingsUpdate".to_owned()]),
                index_uids: Some(vec!["even".to_owned(), "unknown".to_owned()]),
                ..everything()
            },
            vec![6, 0],
        ),
        (TaskQuery { before_enqueued_at: time("2026-01-02T03:04:02Z"), ..everything() }, vec![1, 0]),
        (TaskQuery { after_enqueued_at: time("2026-01-02T03:04:09Z"), ..everything() }, vec![11, 10]),
        (
            TaskQuery { after_started_at: time("2026-01-02T03:59:59Z"), ..everything() },
            vec![5, 4, 3, 2, 1, 0],
        ),
        (TaskQuery { before_started_at: time("2026-01-02T04:00:00Z"), ..everything() }, vec![]),
        (TaskQuery { before_finished_at: time("2026-01-02T05:00:01.3Z"), ..everything() }, vec![1, 0]),
        (TaskQuery { after_finished_at: time("2026-01-02T06:00:01.3+01:00"), ..everything() }, vec![3, 2]),
    ];
    for (query, expected) in cases {
        let page = store.tasks(query.clone()).await.unwrap();
        assert_eq!(uids(&page.tasks), expected, "{query:?}");
        assert_eq!((page.total, page.next), (expected.len() as u64, None), "{query:?}");
    }
    let bad = store.tasks(TaskQuery { before_enqueued_at: time("soon"), ..everything() }).await;
    assert!(matches!(bad, Err(StoreError::Invalid(_))));
}

pub(crate) async fn tasks_are_paged_both_ways(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    twelve_tasks(&*store).await;
    for reverse in [false, true] {
        for limit in 1..=7 {
            let index_uids = Some(vec!["even".to_owned()]);
            let mut query = TaskQuery { index_uids, limit: Some(limit), reverse, ..TaskQuery::default() };
            let mut seen = Vec::new();
            loop {
                let page = store.tasks(query.clone()).await.unwrap();
                assert_eq!(page.total, 6, "the total is that of all pages");
                assert!(page.tasks.len() as u64 <= limit);
                seen.extend(uids(&page.tasks));
                let Some(next) = page.next else { break };
                query.from = Some(next);
            }
            let mut expected = vec![10, 8, 6, 4, 2, 0];
            if reverse {
                expected.reverse();
            }
            assert_eq!(seen, expected, "limit {limit}, reverse {reverse}");
        }
    }
    let none = store.tasks(TaskQuery { limit: Some(0), ..TaskQuery::default() }).await.unwrap();
    assert_eq!((none.tasks, none.total, none.next), (vec![], 12, Some(11)));
    let from = TaskQuery { from: Some(u64::MAX), limit: Some(1), ..TaskQuery::default() };
    assert_eq!(uids(&store.tasks(from).await.unwrap().tasks), vec![11]);
}

pub(crate) async fn times_are_compared_as_times(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    // As text, `…05.5Z` sorts before `…05Z`.
    for enqueued_at in ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.5Z", "2026-01-02T03:04:05.25Z"] {
        let task = NewTask { enqueued_at: enqueued_at.to_owned(), ..new_task("a") };
        let uid = store.begin(task, None).await.unwrap();
        assert_eq!(store.task(uid).await.unwrap().unwrap().enqueued_at, enqueued_at);
    }
    let after = |time: &str| TaskQuery { after_enqueued_at: Some(time.to_owned()), ..TaskQuery::default() };
    let page = store.tasks(after("2026-01-02T03:04:05Z")).await.unwrap();
    assert_eq!(uids(&page.tasks), vec![2, 1]);
    let page = store.tasks(after("2026-01-02T04:04:05.3+01:00")).await.unwrap();
    assert_eq!(uids(&page.tasks), vec![1]);
}
