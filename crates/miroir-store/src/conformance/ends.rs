//! The order in which tasks end.

use super::{TestBackend, new_task, outcome};
use crate::{NewTask, Store, TaskQuery, TaskStatus, TaskUid};

async fn ended(store: &dyn Store, after: u64, limit: usize) -> Vec<(u64, TaskUid)> {
    let ended = store.ended_tasks(after, limit).await.unwrap();
    ended.into_iter().map(|(number, task)| (number, task.uid)).collect()
}

pub(crate) async fn ends_are_in_the_order_in_which_they_are_recorded(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    assert_eq!((store.last_end().await.unwrap(), ended(store.as_ref(), 0, 9).await), (0, Vec::new()));
    let first = store.begin(new_task("a"), None).await.unwrap();
    let second = store.begin(new_task("a"), None).await.unwrap();
    let born_finished = NewTask { outcome: Some(outcome(TaskStatus::Failed)), ..new_task("b") };
    let third = store.begin(born_finished, None).await.unwrap();
    store.finish(second, outcome(TaskStatus::Succeeded)).await.unwrap();
    assert!(!store.finish(second, outcome(TaskStatus::Failed)).await.unwrap(), "it ends once");
    assert_eq!(ended(store.as_ref(), 0, 9).await, [(1, third), (2, second)]);
    assert_eq!(ended(store.as_ref(), 0, 1).await, [(1, third)]);

    // The newest end is deleted, and the deletion is one itself.
    let only = TaskQuery { uids: Some(vec![second]), ..TaskQuery::default() };
    let deletion = NewTask { index_uid: None, outcome: Some(outcome(TaskStatus::Succeeded)), ..new_task("") };
    let deletion = store.delete_tasks(deletion, only).await.unwrap();
    drop(store);
    let store = backend.open().await.unwrap();
    store.finish(first, outcome(TaskStatus::Canceled)).await.unwrap();
    assert_eq!(ended(store.as_ref(), 1, 9).await, [(3, deletion), (4, first)]);
    assert_eq!(store.last_end().await.unwrap(), 4);
}
