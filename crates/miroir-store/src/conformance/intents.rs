//! Cases on intents: recorded whole, given back in order, cleared with what comes with it.

use bytes::Bytes;
use miroir_core::replica::ReplicaState;
use serde_json::json;

use super::indexes::{index, replica};
use super::{NOW, TestBackend, new_task, outcome};
use crate::{
    Acknowledgement, IndexChange, IndexRecord, Intent, NodeTask, Store, StoreError, TaskOutcome, TaskStatus,
    TaskUid,
};

pub(crate) fn intent(chunks: Vec<Vec<u8>>) -> Intent {
    Intent {
        operation: json!({"write": "documents", "nodes": ["n0", "n1"]}),
        payload: Box::new(chunks.into_iter().map(|bytes| Ok(Bytes::from(bytes)))),
        index_changes: vec![IndexChange::Put(Box::new(index("movies")))],
    }
}

/// The payload as stored: its bytes, and the sizes of the rows.
pub(crate) async fn stored_payload(store: &dyn Store, uid: TaskUid) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut rows) = (Vec::new(), Vec::new());
    let mut after = None;
    while let Some(chunk) = store.intent_payload(uid, after).await.unwrap() {
        assert!(after.is_none_or(|seq| seq < chunk.seq));
        bytes.extend_from_slice(&chunk.bytes);
        rows.push(chunk.bytes.len());
        after = Some(chunk.seq);
    }
    (bytes, rows)
}

pub(crate) async fn an_intent_comes_back_whole(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    for count in 0..3_u8 {
        let chunks = vec![vec![count; 10], vec![count + 1; 20]];
        store.begin(new_task("movies"), Some(intent(chunks))).await.unwrap();
    }
    store.begin(new_task("movies"), None).await.unwrap();
    drop(store);

    let store = backend.open().await.unwrap();
    let open = store.open_intents().await.unwrap();
    assert_eq!(open.iter().map(|(task, _)| task.uid).collect::<Vec<_>>(), vec![0, 1, 2]);
    for (task, operation) in &open {
        assert_eq!(task, &store.task(task.uid).await.unwrap().unwrap());
        assert_eq!(task.status, TaskStatus::Enqueued);
        assert_eq!(operation, &json!({"write": "documents", "nodes": ["n0", "n1"]}));
        let (bytes, _) = stored_payload(&*store, task.uid).await;
        let byte = task.uid as u8;
        assert_eq!(bytes, [vec![byte; 10], vec![byte + 1; 20]].concat());
    }
    assert_eq!(store.indexes().await.unwrap(), vec![index("movies")]);
    assert_eq!(store.intent_payload(3, None).await.unwrap(), None);
}

pub(crate) async fn a_payload_keeps_its_order(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    // Sizes around the size of a row.
    let sizes = [5_usize, 0, 1 << 20, 3, (1 << 20) - 1, 1, 1, 5 << 20, (1 << 20) + 1, 7, 0, 2];
    let chunks: Vec<Vec<u8>> =
        sizes.iter().enumerate().map(|(count, size)| vec![count as u8; *size]).collect();
    let expected = chunks.concat();
    let uid = store.begin(new_task("movies"), Some(intent(chunks))).await.unwrap();
    let (bytes, rows) = stored_payload(&*store, uid).await;
    assert!(bytes == expected, "the bytes changed");
    assert!(rows.iter().all(|size| (1..=1 << 20).contains(size)), "sizes of rows: {rows:?}");
}

pub(crate) async fn a_payload_that_cannot_be_read_leaves_nothing(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    let broken = || std::io::Error::other("spool file gone");
    let payload = vec![Ok(Bytes::from(vec![1; 3 << 20])), Err(broken())];
    let unreadable = Intent { payload: Box::new(payload.into_iter()), ..intent(vec![]) };
    let begun = store.begin(new_task("movies"), Some(unreadable)).await;
    assert_eq!(begun, Err(StoreError::Payload("spool file gone".to_owned())));
    assert_eq!(store.open_intents().await.unwrap(), vec![]);
    assert_eq!(store.indexes().await.unwrap(), vec![]);
    assert_eq!(store.tasks(crate::TaskQuery::default()).await.unwrap().total, 0);
    assert_eq!(store.intent_payload(0, None).await.unwrap(), None);
}

fn node_tasks() -> Vec<NodeTask> {
    vec![
        NodeTask { node: "n0".to_owned(), task_uid: 41, enqueued_at: None },
        NodeTask { node: "n1".to_owned(), task_uid: 7, enqueued_at: None },
    ]
}

pub(crate) async fn acknowledging_clears_the_intent_with_its_changes(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    let uid = store.begin(new_task("movies"), Some(intent(vec![vec![1]]))).await.unwrap();
    let other = store.begin(new_task("movies"), Some(intent(vec![vec![2]]))).await.unwrap();
    let missed = replica("movies", 1, "n1", ReplicaState::Stale, "node n1 did not answer");
    let renamed = IndexRecord { settings_version: 9, ..index("movies") };
    let acknowledgement = Acknowledgement {
        task_uid: uid,
        node_tasks: node_tasks(),
        replica_changes: vec![missed.clone()],
        index_changes: vec![IndexChange::Put(Box::new(renamed.clone()))],
        keeps_intent: false,
    };
    store.acknowledged(acknowledgement).await.unwrap();
    drop(store);

    let store = backend.open().await.unwrap();
    let open = store.open_intents().await.unwrap();
    assert_eq!(open.iter().map(|(task, _)| task.uid).collect::<Vec<_>>(), vec![other]);
    assert_eq!(store.intent_payload(uid, None).await.unwrap(), None);
    assert_eq!(stored_payload(&*store, other).await.0, vec![2]);
    let task = store.task(uid).await.unwrap().unwrap();
    assert_eq!((task.status, task.node_tasks), (TaskStatus::Enqueued, node_tasks()));
    assert_eq!(store.replica_states().await.unwrap(), vec![missed]);
    assert_eq!(store.indexes().await.unwrap(), vec![renamed]);
}

pub(crate) async fn a_bad_acknowledgement_changes_nothing(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    let uid = store.begin(new_task("movies"), Some(intent(vec![vec![1]]))).await.unwrap();
    let unknown = IndexChange::Advance {
        uid: "unknown".to_owned(),
        next_position: 1,
        updated_at: super::NOW.to_owned(),
    };
    let acknowledgement = Acknowledgement {
        task_uid: uid,
        node_tasks: node_tasks(),
        replica_changes: vec![replica("movies", 1, "n1", ReplicaState::Stale, "")],
        index_changes: vec![unknown],
        keeps_intent: false,
    };
    let refused = store.acknowledged(acknowledgement.clone()).await;
    assert_eq!(refused, Err(StoreError::UnknownIndex("unknown".to_owned())));
    assert_eq!(store.open_intents().await.unwrap().len(), 1);
    assert_eq!(store.replica_states().await.unwrap(), vec![]);
    assert_eq!(store.task(uid).await.unwrap().unwrap().node_tasks, vec![]);

    let refused = store.acknowledged(Acknowledgement { task_uid: 99, ..acknowledgement }).await;
    assert_eq!(refused, Err(StoreError::UnknownTask(99)));
}

pub(crate) async fn abandoning_ends_the_task(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    let uid = store.begin(new_task("movies"), Some(intent(vec![vec![1]]))).await.unwrap();
    let deletion = vec![IndexChange::Delete("movies".to_owned())];
    let unknown = store.abandon_intent(9, outcome(TaskStatus::Failed), deletion.clone()).await;
    assert_eq!(unknown, Err(StoreError::UnknownTask(9)));
    assert_eq!(store.indexes().await.unwrap(), vec![index("movies")]);

    store.abandon_intent(uid, outcome(TaskStatus::Failed), deletion).await.unwrap();
    assert_eq!(store.open_intents().await.unwrap(), vec![]);
    assert_eq!(store.intent_payload(uid, None).await.unwrap(), None);
    assert_eq!(store.task(uid).await.unwrap().unwrap().status, TaskStatus::Failed);
    assert_eq!(store.indexes().await.unwrap(), vec![]);
}

pub(crate) async fn a_kept_intent_can_be_sent_again_until_its_task_has_ended(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    let mut uids = Vec::new();
    for count in 0..3_u8 {
        uids.push(store.begin(new_task("movies"), Some(intent(vec![vec![count; 3]]))).await.unwrap());
    }
    let kept = |task_uid| Acknowledgement {
        task_uid,
        node_tasks: node_tasks(),
        keeps_intent: true,
        ..Acknowledgement::default()
    };
    for uid in &uids {
        assert_eq!(store.kept_intent(*uid).await.unwrap(), None, "it is open");
        store.acknowledged(kept(*uid)).await.unwrap();
    }
    assert_eq!(store.open_intents().await.unwrap(), vec![]);

    let canceled = TaskOutcome { canceled_by: Some(9), ..outcome(TaskStatus::Canceled) };
    let left = vec![NodeTask { node: "n1".to_owned(), task_uid: 7, enqueued_at: None }];
    let unknown = store.cancel(vec![(uids[0], canceled.clone())], vec![(99, left.clone())]).await;
    assert_eq!(unknown, Err(StoreError::UnknownTask(99)));
    assert_eq!(store.task(uids[0]).await.unwrap().unwrap().status, TaskStatus::Enqueued, "all or nothing");
    store.cancel(vec![(uids[0], canceled)], vec![(uids[1], left.clone())]).await.unwrap();
    drop(store);

    let store = backend.open().await.unwrap();
    let task = store.task(uids[0]).await.unwrap().unwrap();
    assert_eq!((task.status, task.canceled_by), (TaskStatus::Canceled, Some(9)));
    assert_eq!(store.intent_payload(uids[0], None).await.unwrap(), None);
    let open = store.open_intents().await.unwrap();
    let open: Vec<_> = open.into_iter().map(|(task, _)| (task.uid, task.node_tasks)).collect();
    assert_eq!(open, vec![(uids[1], left)]);
    assert_eq!(stored_payload(&*store, uids[1]).await.0, vec![1; 3]);
    assert_eq!(
        store.kept_intent(uids[2]).await.unwrap(),
        Some(json!({"write": "documents", "nodes": ["n0", "n1"]}))
    );
    store.finish(uids[2], outcome(TaskStatus::Succeeded)).await.unwrap();
    assert_eq!(store.kept_intent(uids[2]).await.unwrap(), None);
    assert_eq!(store.intent_payload(uids[2], None).await.unwrap(), None);
}

pub(crate) async fn a_finished_task_has_no_intent(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    let mut task = new_task("movies");
    task.outcome = Some(outcome(TaskStatus::Failed));
    let refused = store.begin(task, Some(intent(vec![]))).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    assert_eq!(store.unfinished().await.unwrap(), vec![]);
}

pub(crate) async fn an_intent_gives_way_to_what_was_found_out(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    store.put_index(index("movies")).await.unwrap();
    let task = store.begin(new_task("movies"), Some(intent(vec![b"to find out".to_vec()]))).await.unwrap();
    let found = |uid: &str| Intent {
        operation: json!("send"),
        index_changes: vec![IndexChange::Advance {
            uid: uid.to_owned(),
            next_position: 99,
            updated_at: NOW.to_owned(),
        }],
        ..intent(vec![b"found".to_vec()])
    };
    let refused = store.replace_intent(task, json!({}), found("nowhere")).await;
    assert!(matches!(refused, Err(StoreError::UnknownIndex(_))), "{refused:?}");
    assert_eq!(stored_payload(&*store, task).await.0, b"to find out", "nothing of it is done");

    store.replace_intent(task, json!({ "found": 1 }), found("movies")).await.unwrap();
    drop(store);
    let store = backend.open().await.unwrap();
    let open = store.open_intents().await.unwrap();
    let [(record, operation)] = open.as_slice() else { panic!("{open:?}") };
    assert_eq!((&record.details, operation), (&json!({ "found": 1 }), &json!("send")));
    assert_eq!(stored_payload(&*store, task).await.0, b"found");
    assert_eq!(store.index("movies").await.unwrap().unwrap().next_position, 99);
}
