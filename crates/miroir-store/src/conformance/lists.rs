//! Cases on lists of tasks and batches: every filter, alone and with others, and pages.

use std::collections::BTreeSet;

use super::{TestBackend, new_task, outcome};
use crate::{
    BatchMembers, NewTask, Store, StoreError, TaskOutcome, TaskQuery, TaskRecord, TaskStatus, TaskUid,
};

pub(crate) fn uids(tasks: &[TaskRecord]) -> Vec<TaskUid> {
    tasks.iter().map(|task| task.uid).collect()
}

/// Twelve tasks: even ones about `even`, every third a settings update, 0 to 3 finished, 4 and 5 started.
pub(crate) async fn twelve_tasks(store: &dyn Store) {
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
    for (far, expected) in [("0001-01-01T00:00:00Z", 12), ("9999-12-31T23:59:59Z", 0)] {
        let page = store.tasks(TaskQuery { after_enqueued_at: time(far), ..everything() }).await.unwrap();
        assert_eq!(page.total, expected, "after {far}");
    }
    let bad = store.tasks(TaskQuery { before_enqueued_at: time("soon"), ..everything() }).await;
    assert!(matches!(bad, Err(StoreError::Invalid(_))));
}

/// One filter each, none of which matches everything or nothing of the twelve tasks.
pub(crate) fn single_filters() -> Vec<TaskQuery> {
    let everything = TaskQuery::default;
    let time = |text: &str| Some(text.to_owned());
    vec![
        TaskQuery { uids: Some(vec![0, 2, 3, 5, 9, 11]), ..everything() },
        TaskQuery { batch_uids: Some(vec![0, 2, 3, 9]), ..everything() },
        TaskQuery { statuses: Some(vec![TaskStatus::Enqueued]), ..everything() },
        TaskQuery { statuses: Some(vec![TaskStatus::Succeeded, TaskStatus::Canceled]), ..everything() },
        TaskQuery { types: Some(vec!["settingsUpdate".to_owned()]), ..everything() },
        TaskQuery { index_uids: Some(vec!["even".to_owned()]), ..everything() },
        TaskQuery { canceled_by: Some(vec![9]), ..everything() },
        TaskQuery { before_enqueued_at: time("2026-01-02T03:04:05Z"), ..everything() },
        TaskQuery { after_enqueued_at: time("2026-01-02T03:04:01Z"), ..everything() },
        TaskQuery { after_started_at: time("2026-01-02T03:59:59Z"), ..everything() },
        TaskQuery { before_finished_at: time("2026-01-02T05:00:02.3Z"), ..everything() },
    ]
}

/// Both filters in one query; where both set the same field, the second.
fn both(one: &TaskQuery, other: &TaskQuery) -> TaskQuery {
    let (one, other) = (one.clone(), other.clone());
    TaskQuery {
        uids: other.uids.or(one.uids),
        batch_uids: other.batch_uids.or(one.batch_uids),
        statuses: other.statuses.or(one.statuses),
        types: other.types.or(one.types),
        index_uids: other.index_uids.or(one.index_uids),
        canceled_by: other.canceled_by.or(one.canceled_by),
        before_enqueued_at: other.before_enqueued_at.or(one.before_enqueued_at),
        after_enqueued_at: other.after_enqueued_at.or(one.after_enqueued_at),
        after_started_at: other.after_started_at.or(one.after_started_at),
        before_finished_at: other.before_finished_at.or(one.before_finished_at),
        ..TaskQuery::default()
    }
}

pub(crate) async fn filters_combine(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    twelve_tasks(&*store).await;
    let filters = single_filters();
    let mut matches = Vec::new();
    for filter in &filters {
        let found: BTreeSet<_> =
            uids(&store.tasks(filter.clone()).await.unwrap().tasks).into_iter().collect();
        assert!((1..12).contains(&found.len()), "{filter:?} tells nothing apart");
        matches.push(found);
    }
    for (one, of_one) in filters.iter().zip(&matches) {
        for (other, of_other) in filters.iter().zip(&matches) {
            let query = both(one, other);
            let both_statuses = one.statuses.is_some() && other.statuses.is_some();
            let expected: Vec<_> = if both_statuses {
                of_other.iter().rev().copied().collect()
            } else {
                of_one.iter().rev().filter(|uid| of_other.contains(uid)).copied().collect()
            };
            let page = store.tasks(query.clone()).await.unwrap();
            assert_eq!(uids(&page.tasks), expected, "{query:?}");
            assert_eq!(page.total, expected.len() as u64, "{query:?}");
            let last = TaskQuery { limit: Some(1), reverse: true, ..query.clone() };
            let last = store.tasks(last).await.unwrap();
            assert_eq!(uids(&last.tasks).first(), expected.last(), "{query:?}");
            store.batches(query).await.unwrap();
        }
    }
}

/// A task that another canceled is in the batch of that one; every other one that has started is its own.
pub(crate) async fn batches_are_tasks_and_what_they_canceled(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    twelve_tasks(&*store).await;
    let canceling = NewTask {
        index_uid: None,
        kind: "taskCancelation".to_owned(),
        outcome: Some(outcome(TaskStatus::Succeeded)),
        ..new_task("")
    };
    let canceler = store.begin(canceling, None).await.unwrap();
    for uid in [6, 7, 8] {
        let canceled_by = Some(canceler);
        store.finish(uid, TaskOutcome { canceled_by, ..outcome(TaskStatus::Canceled) }).await.unwrap();
    }
    let everything = TaskQuery::default;
    // Task 2 is in the batch of task 9, which has not started.
    let cases = [
        (everything(), vec![12, 5, 4, 3, 1, 0]),
        (TaskQuery { limit: Some(2), from: Some(5), ..everything() }, vec![5, 4]),
        (TaskQuery { reverse: true, limit: Some(1), ..everything() }, vec![0]),
        (TaskQuery { batch_uids: Some(vec![12, 4, 6]), ..everything() }, vec![12, 4]),
        (TaskQuery { uids: Some(vec![7, 1, 11]), ..everything() }, vec![12, 1]),
        (TaskQuery { statuses: Some(vec![TaskStatus::Canceled]), ..everything() }, vec![12]),
        (TaskQuery { statuses: Some(vec![TaskStatus::Succeeded]), ..everything() }, vec![12, 3, 0]),
        (TaskQuery { types: Some(vec!["settingsUpdate".to_owned()]), ..everything() }, vec![12, 3, 0]),
        (TaskQuery { index_uids: Some(vec!["odd".to_owned()]), ..everything() }, vec![12, 5, 3, 1]),
        (TaskQuery { canceled_by: Some(vec![12, 3]), ..everything() }, vec![12]),
    ];
    for (query, expected) in cases {
        let page = store.batches(query.clone()).await.unwrap();
        let found: Vec<_> = page.batches.iter().map(|batch| batch.task.uid).collect();
        assert_eq!(found, expected, "{query:?}");
        if query.limit.is_none() {
            assert_eq!(page.total, expected.len() as u64, "{query:?}");
        }
    }
    let query = TaskQuery { batch_uids: Some(vec![12]), ..everything() };
    let batch = store.batches(query.clone()).await.unwrap().batches.pop().unwrap();
    let members = |kind: &str, index: &str, tasks| BatchMembers {
        kind: kind.to_owned(),
        index_uid: Some(index.to_owned()),
        tasks,
    };
    let documents = "documentAdditionOrUpdate";
    let expected =
        [members(documents, "even", 1), members(documents, "odd", 1), members("settingsUpdate", "even", 1)];
    assert_eq!(batch.others, expected);
    assert_eq!(uids(&store.tasks(query).await.unwrap().tasks), vec![12, 8, 7, 6]);
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
