//! Cases on deleting tasks, and on what outlives them.

use serde_json::json;

use super::{TestBackend, new_task, outcome, single_filters, twelve_tasks, uids};
use crate::{NewTask, TaskQuery, TaskStatus};

/// A task that deletes others, as it is recorded.
pub(crate) fn deletion() -> NewTask {
    NewTask {
        index_uid: None,
        kind: "taskDeletion".to_owned(),
        details: json!({"matchedTasks": 0, "deletedTasks": 0, "originalFilter": "?"}),
        outcome: Some(outcome(TaskStatus::Succeeded)),
        ..new_task("")
    }
}

pub(crate) async fn only_finished_tasks_are_deleted(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    twelve_tasks(&*store).await;
    let even = TaskQuery { index_uids: Some(vec!["even".to_owned()]), ..TaskQuery::default() };
    assert_eq!(store.delete_tasks(deletion(), even.clone()).await.unwrap(), 12);
    let recorded = store.task(12).await.unwrap().unwrap();
    assert_eq!(recorded.details, json!({"matchedTasks": 6, "deletedTasks": 2, "originalFilter": "?"}));
    assert_eq!((recorded.status, recorded.batch_uid()), (TaskStatus::Succeeded, Some(12)));
    assert_eq!(store.task(2).await.unwrap(), None);
    assert_eq!(uids(&store.tasks(even).await.unwrap().tasks), vec![10, 8, 6, 4]);
    assert_eq!(store.tasks(TaskQuery::default()).await.unwrap().total, 11);

    // A deletion does not delete itself, but those before it.
    assert_eq!(store.delete_tasks(deletion(), TaskQuery::default()).await.unwrap(), 13);
    let left = store.tasks(TaskQuery::default()).await.unwrap();
    assert_eq!(uids(&left.tasks), vec![13, 11, 10, 9, 8, 7, 6, 5, 4]);
}

pub(crate) async fn every_filter_deletes_what_it_lists(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    twelve_tasks(&*store).await;
    for query in single_filters() {
        let matching = store.tasks(query.clone()).await.unwrap();
        let finished = matching.tasks.iter().filter(|task| task.status.is_finished()).count();
        let uid = store.delete_tasks(deletion(), query.clone()).await.unwrap();
        let details = store.task(uid).await.unwrap().unwrap().details;
        assert_eq!(details["matchedTasks"], json!(matching.total), "{query:?}");
        assert_eq!(details["deletedTasks"], json!(finished), "{query:?}");
        let left = store.tasks(query.clone()).await.unwrap().tasks;
        let left: Vec<_> = left.iter().filter(|task| task.uid != uid).collect();
        assert!(left.iter().all(|task| !task.status.is_finished()), "{query:?}");
        assert_eq!((left.len() + finished) as u64, matching.total, "{query:?}");
    }
}

pub(crate) async fn that_an_index_was_deleted_outlives_the_task(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    let task = |kind: &str, index: &str| NewTask { kind: kind.to_owned(), ..new_task(index) };
    for (kind, index, status) in [
        ("indexDeletion", "gone", TaskStatus::Succeeded),
        ("indexDeletion", "kept", TaskStatus::Failed),
        ("documentDeletion", "emptied", TaskStatus::Succeeded),
    ] {
        let uid = store.begin(task(kind, index), None).await.unwrap();
        assert!(!store.was_deleted(index).await.unwrap(), "{index} is not deleted yet");
        store.finish(uid, outcome(status)).await.unwrap();
    }
    let born =
        NewTask { outcome: Some(outcome(TaskStatus::Succeeded)), ..task("indexDeletion", "born gone") };
    store.begin(born, None).await.unwrap();
    store.delete_tasks(deletion(), TaskQuery::default()).await.unwrap();
    drop(store);
    let store = backend.open().await.unwrap();
    for (index, expected) in
        [("gone", true), ("kept", false), ("emptied", false), ("born gone", true), ("unheard of", false)]
    {
        assert_eq!(store.was_deleted(index).await.unwrap(), expected, "{index}");
    }
}
