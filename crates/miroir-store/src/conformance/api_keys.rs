//! API keys.

use super::TestBackend;

fn record(uid: &str, text: &str) -> (String, String) {
    (uid.to_owned(), text.to_owned())
}

pub(crate) async fn api_keys_are_kept_in_their_order(backend: &dyn TestBackend) {
    let store = backend.open().await.unwrap();
    assert!(store.api_keys().await.unwrap().is_empty());
    store.put_api_keys(vec![record("z", "first"), record("a", "second")]).await.unwrap();
    store.put_api_keys(vec![record("m", "third"), record("z", "first, changed")]).await.unwrap();
    assert!(store.delete_api_key("a").await.unwrap());
    assert!(!store.delete_api_key("a").await.unwrap(), "it is gone already");
    drop(store);
    let store = backend.open().await.unwrap();
    assert_eq!(store.api_keys().await.unwrap(), ["first, changed", "third"]);
}
