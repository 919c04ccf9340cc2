//! Cases on indexes, replica states and named values.

use miroir_core::replica::ReplicaState;
use miroir_core::shard::ShardId;
use serde_json::json;

use super::{NOW, TestBackend};
use crate::{IndexChange, IndexRecord, ReplicaKey, ReplicaStatus, StoreError};

pub(crate) fn index(uid: &str) -> IndexRecord {
    IndexRecord {
        uid: uid.to_owned(),
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
