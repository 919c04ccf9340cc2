//! Cases on indexes, replica states and named values.

use miroir_core::replica::ReplicaState;
use miroir_core::shard::ShardId;
use serde_json::json;

use super::{NOW, TestBackend, new_task, outcome};
use crate::{
    IndexChange, IndexRecord, IndexSwap, Intent, NewTask, ReplicaKey, ReplicaStatus, StoreError, TaskQuery,
    TaskStatus, moved_index_key,
};

pub(crate) fn index(uid: &str) -> IndexRecord {
    IndexRecord {
        uid: uid.to_owned(),
        node_uid: format!("{uid} on nodes"),
        primary_key: Some("id".to_owned()),
        shards: 2,
        created_at: NOW.to_owned(),
        updated_at: NOW.to_owned(),
        next_position: 7,
        settings: json!({"synonyms": {"b": ["c"], "a": ["b"]}, "big": 9_007_199_254_740_993_u64}),
        overlay: json!({"displayedAttributes": ["title"]}),
        settings_version: 4,
        settings_hash: "00ff".to_owned(),
        placement: vec![vec!["n0".to_owned(), "n1".to_owned()], vec!["n1".to_owned()]],
        placement_epoch: 2,
        disordered: vec!["n1".to_owned()],
        capital_ids: false,
    }
}

pub(crate) fn replica(
    index_uid: &str,
    shard: u16,
    node: &str,
    state: ReplicaState,
    reason: &str,
) -> ReplicaStatus {
    let key = ReplicaKey { index_uid: index_uid.to_owned(), shard: ShardId(shard), node: node.to_owned() };
    ReplicaStatus { key, state, reason: reason.to_owned() }
}

pub(crate) async fn indexes_survive_reopening(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    assert_eq!(store.indexes().await.unwrap(), vec![]);
    let mut without_key = index("alpha");
    without_key.primary_key = None;
    store.put_index(index("omega")).await.unwrap();
    store.put_index(without_key.clone()).await.unwrap();
    drop(store);

    let store = backend.open().await.unwrap();
    assert_eq!(store.indexes().await.unwrap(), vec![without_key, index("omega")]);
    assert_eq!(store.index("omega").await.unwrap(), Some(index("omega")));
    assert_eq!(store.index("Omega").await.unwrap(), None);
}

pub(crate) async fn an_index_is_replaced_and_forgotten(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    store.put_index(index("a")).await.unwrap();
    store.put_index(index("b")).await.unwrap();
    let stale = |uid| replica(uid, 0, "n0", ReplicaState::Stale, "was down");
    store.set_replica_states(vec![stale("a"), stale("b")]).await.unwrap();

    let changed = IndexRecord { primary_key: None, settings_version: 5, ..index("a") };
    store.put_index(changed.clone()).await.unwrap();
    assert_eq!(store.index("a").await.unwrap(), Some(changed));

    store.delete_index("a").await.unwrap();
    store.delete_index("never there").await.unwrap();
    assert_eq!(store.indexes().await.unwrap(), vec![index("b")]);
    assert_eq!(store.replica_states().await.unwrap(), vec![stale("b")]);
}

pub(crate) async fn a_position_moves_forward_only(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    store.put_index(index("a")).await.unwrap();
    let advance = |uid: &str, next_position, updated_at: &str| {
        vec![IndexChange::Advance { uid: uid.to_owned(), next_position, updated_at: updated_at.to_owned() }]
    };
    store.change_indexes(advance("a", 100, "2026-02-01T00:00:00Z")).await.unwrap();
    store.change_indexes(advance("a", 50, "2026-03-01T00:00:00Z")).await.unwrap();
    let expected =
        IndexRecord { next_position: 100, updated_at: "2026-03-01T00:00:00Z".to_owned(), ..index("a") };
    assert_eq!(store.index("a").await.unwrap(), Some(expected));
    let unknown = store.change_indexes(advance("b", 1, NOW)).await;
    assert_eq!(unknown, Err(StoreError::UnknownIndex("b".to_owned())));
}

pub(crate) async fn index_changes_are_all_or_none(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    let bad = IndexChange::Advance { uid: "b".to_owned(), next_position: 1, updated_at: NOW.to_owned() };
    let changes = vec![IndexChange::Put(Box::new(index("a"))), bad];
    assert!(store.change_indexes(changes).await.is_err());
    assert_eq!(store.indexes().await.unwrap(), vec![]);

    let swapped = vec![
        IndexChange::Put(Box::new(index("a"))),
        IndexChange::Put(Box::new(index("b"))),
        IndexChange::Delete("a".to_owned()),
    ];
    store.change_indexes(swapped).await.unwrap();
    assert_eq!(store.indexes().await.unwrap(), vec![index("b")]);
}

pub(crate) async fn only_replicas_that_are_not_active_are_kept(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    let stale = replica("a", 1, "n0", ReplicaState::Stale, "missed task 3");
    let joining = replica("a", 0, "n2", ReplicaState::Joining, "new node");
    let leaving = replica("a", 65_535, "n1", ReplicaState::Leaving, "node is drained");
    let active = replica("a", 0, "n0", ReplicaState::Active, "");
    let all = vec![stale.clone(), joining.clone(), leaving.clone(), active];
    store.set_replica_states(all).await.unwrap();
    assert_eq!(store.replica_states().await.unwrap(), vec![joining.clone(), stale, leaving.clone()]);

    let repaired = replica("a", 1, "n0", ReplicaState::Active, "");
    let missed = replica("a", 0, "n2", ReplicaState::Stale, "missed task 9");
    store.set_replica_states(vec![repaired, missed.clone()]).await.unwrap();
    drop(store);
    let store = backend.open().await.unwrap();
    assert_eq!(store.replica_states().await.unwrap(), vec![missed, leaving]);
}

pub(crate) async fn values_are_kept_by_name(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    assert_eq!(store.meta("instance").await.unwrap(), None);
    store.put_meta("instance", "one").await.unwrap();
    store.put_meta("instance", "two").await.unwrap();
    store.put_meta("other", "").await.unwrap();
    drop(store);
    let store = backend.open().await.unwrap();
    assert_eq!(store.meta("instance").await.unwrap().as_deref(), Some("two"));
    assert_eq!(store.meta("other").await.unwrap().as_deref(), Some(""));
}

pub(crate) async fn names_are_exchanged_with_all_that_goes_by_them(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    for uid in ["a", "b", "c"] {
        store.put_index(index(uid)).await.unwrap();
        store.begin(new_task(uid), None).await.unwrap();
    }
    let stale = |uid, node| replica(uid, 0, node, ReplicaState::Stale, "was down");
    store.set_replica_states(vec![stale("a", "n0"), stale("b", "n1"), stale("c", "n0")]).await.unwrap();
    let intent = Intent::without_payload(json!({}), Vec::new());
    let task = store.begin(NewTask { index_uid: None, ..new_task("") }, Some(intent)).await.unwrap();
    store.begin(new_task("a"), None).await.unwrap();
    let swap =
        |left: &str, right: &str, rename| IndexSwap { indexes: (left.to_owned(), right.to_owned()), rename };

    let unknown = vec![swap("a", "b", false), swap("nowhere", "d", true)];
    let refused = store.swap_indexes(task, outcome(TaskStatus::Succeeded), unknown).await;
    assert!(matches!(refused, Err(StoreError::UnknownIndex(_))), "{refused:?}");
    assert_eq!(store.index("a").await.unwrap(), Some(index("a")), "nothing of it is done");

    let swaps = vec![swap("a", "b", false), swap("c", "d", true)];
    store.swap_indexes(task, outcome(TaskStatus::Succeeded), swaps).await.unwrap();
    drop(store);
    let store = backend.open().await.unwrap();
    let named = |uid: &str, was: &str| IndexRecord { uid: uid.to_owned(), ..index(was) };
    assert_eq!(store.indexes().await.unwrap(), [named("a", "b"), named("b", "a"), named("d", "c")]);
    let states = store.replica_states().await.unwrap();
    assert_eq!(states, [stale("a", "n1"), stale("b", "n0"), stale("d", "n0")]);
    for was in ["a", "b", "c"] {
        assert!(store.meta(&moved_index_key(&index(was).node_uid)).await.unwrap().is_some());
    }
    let tasks = store.tasks(TaskQuery { reverse: true, ..TaskQuery::default() }).await.unwrap().tasks;
    let about: Vec<_> = tasks.iter().map(|task| task.index_uid.as_deref()).collect();
    assert_eq!(about, [Some("b"), Some("b"), Some("d"), None, Some("a")]);
    assert_eq!(store.open_intents().await.unwrap(), []);
    assert_eq!(store.task(task).await.unwrap().unwrap().status, TaskStatus::Succeeded);

    // Deleted under another name, it is known by the one that nodes have.
    store.delete_index("d").await.unwrap();
    assert!(store.was_deleted(&index("c").node_uid).await.unwrap());
}
