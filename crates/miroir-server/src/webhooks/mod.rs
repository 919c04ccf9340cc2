//! Webhooks: addresses that are told of the tasks that have ended. Nodes have none: one task of Miroir's is many of
//! theirs, and whoever listens wants to hear of it once.
//!
//! Each remembers, in the store, the last end of a task it was told of. What it has to be told is looked up from there, so
//! nothing is lost when Miroir ends, and nothing piles up while somebody does not listen.

mod change;
mod delivery;

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use miroir_core::error::{ApiError, ErrorType};
use miroir_store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use uuid::Uuid;

pub(crate) use change::WebhookChange;
pub(crate) use delivery::{Delivery, Sender};

use crate::config::TaskWebhook;
use crate::store_error;

/// Where the store keeps them.
const KEPT_AS: &str = "webhooks";
/// Meilisearch's limit.
const MOST: usize = 20;

/// An address that is told of tasks that have ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Webhook {
    /// Where it is.
    pub url: String,
    /// What is sent along, such as a secret by which it knows Miroir.
    pub headers: BTreeMap<String, String>,
    /// The last end of a task it was told of (see [`Store::last_end`]).
    pub told: u64,
}

/// All webhooks by their uuid, which is zero for the one of the configuration.
pub(crate) type All = BTreeMap<Uuid, Webhook>;

/// The webhooks, as this process knows them.
#[derive(Default)]
pub(crate) struct Webhooks {
    all: RwLock<Arc<All>>,
    /// Held while the store and `all` are changed, so that they stay the same.
    changing: tokio::sync::Mutex<()>,
    /// Woken when there may be something to tell.
    pub news: Notify,
}

impl Webhooks {
    /// Reads them from the store, and puts the one of the configuration in its place.
    pub async fn load(&self, store: &dyn Store, configured: Option<&TaskWebhook>) -> Result<(), StoreError> {
        let kept = store.meta(KEPT_AS).await?;
        let mut all: All = match &kept {
            None => All::new(),
            Some(kept) => serde_json::from_str(kept)
                .map_err(|error| StoreError::Invalid(format!("the webhooks cannot be read ({error})")))?,
        };
        let told = match all.remove(&Uuid::nil()) {
            Some(before) => before.told,
            None => store.last_end().await?,
        };
        if let Some(TaskWebhook { url, authorization }) = configured {
            let secret = authorization.as_ref().map(|secret| secret.reveal().to_owned());
            let headers = secret.map(|secret| ("Authorization".to_owned(), secret)).into_iter().collect();
            all.insert(Uuid::nil(), Webhook { url: url.clone(), headers, told });
        }
        if kept.is_some() || !all.is_empty() {
            store.put_meta(KEPT_AS, &record(&all)).await?;
        }
        self.publish(all);
        Ok(())
    }

    /// All of them now.
    pub fn all(&self) -> Arc<All> {
        match self.all.read() {
            Ok(all) => Arc::clone(&all),
            Err(poisoned) => Arc::clone(&poisoned.into_inner()),
        }
    }

    /// One of them.
    pub fn find(&self, uuid: Uuid) -> Result<Webhook, ApiError> {
        self.all().get(&uuid).cloned().ok_or_else(|| not_found(uuid))
    }

    /// Makes one. It is told of the tasks that end from now on.
    pub async fn create(
        &self,
        store: &dyn Store,
        change: WebhookChange,
    ) -> Result<(Uuid, Webhook), ApiError> {
        self.create_as(store, Uuid::new_v4(), change).await
    }

    /// The same with the uuid that it had elsewhere.
    pub async fn create_as(
        &self,
        store: &dyn Store,
        uuid: Uuid,
        change: WebhookChange,
    ) -> Result<(Uuid, Webhook), ApiError> {
        let _changing = self.changing.lock().await;
        change.check_number_of_headers(uuid)?;
        let mut all = All::clone(&self.all());
        if all.keys().filter(|uuid| !uuid.is_nil()).count() >= MOST {
            return Err(too_many());
        }
        let told = store.last_end().await.map_err(store_error)?;
        let webhook = change.make(uuid, told)?;
        all.insert(uuid, webhook.clone());
        self.keep(store, all).await?;
        Ok((uuid, webhook))
    }

    /// How many there would be with these as well, if that is more than there may be.
    pub fn too_many_with(&self, others: impl Iterator<Item = Uuid>) -> Option<usize> {
        let all = self.all();
        let own = all.keys().filter(|uuid| !uuid.is_nil()).count();
        let together = own + others.filter(|uuid| !all.contains_key(uuid)).count();
        (together > MOST).then_some(together)
    }

    /// Changes one.
    pub async fn update(
        &self,
        store: &dyn Store,
        uuid: Uuid,
        change: WebhookChange,
    ) -> Result<Webhook, ApiError> {
        check_editable(uuid)?;
        let _changing = self.changing.lock().await;
        let webhook = change.apply(uuid, self.find(uuid)?)?;
        let mut all = All::clone(&self.all());
        all.insert(uuid, webhook.clone());
        self.keep(store, all).await?;
        Ok(webhook)
    }

    /// Takes one away.
    pub async fn delete(&self, store: &dyn Store, uuid: Uuid) -> Result<(), ApiError> {
        check_editable(uuid)?;
        let _changing = self.changing.lock().await;
        let mut all = All::clone(&self.all());
        all.remove(&uuid).ok_or_else(|| not_found(uuid))?;
        self.keep(store, all).await
    }

    /// Takes note of what one was told. Nothing when it is gone.
    pub async fn told(&self, store: &dyn Store, uuid: Uuid, end: u64) -> Result<(), ApiError> {
        let _changing = self.changing.lock().await;
        let mut all = All::clone(&self.all());
        let Some(webhook) = all.get_mut(&uuid) else { return Ok(()) };
        webhook.told = end;
        self.keep(store, all).await
    }

    async fn keep(&self, store: &dyn Store, all: All) -> Result<(), ApiError> {
        store.put_meta(KEPT_AS, &record(&all)).await.map_err(store_error)?;
        self.publish(all);
        Ok(())
    }

    fn publish(&self, all: All) {
        match self.all.write() {
            Ok(mut current) => *current = Arc::new(all),
            Err(poisoned) => *poisoned.into_inner() = Arc::new(all),
        }
    }
}

/// As a dump of Meilisearch has them, without that of the configuration.
pub(crate) fn dumped(all: &All) -> Value {
    let own = all.iter().filter(|(uuid, _)| !uuid.is_nil());
    let dumped = own
        .map(|(uuid, webhook)| (uuid.to_string(), json!({ "url": webhook.url, "headers": webhook.headers })));
    json!({ "webhooks": dumped.collect::<Map<String, Value>>() })
}

fn record(all: &All) -> String {
    let mut kept = all.clone();
    if let Some(configured) = kept.get_mut(&Uuid::nil()) {
        // It is in the configuration; its secret is nowhere else.
        configured.url.clear();
        configured.headers.clear();
    }
    // Texts and numbers are always JSON.
    serde_json::to_string(&kept).unwrap_or_default()
}

fn check_editable(uuid: Uuid) -> Result<(), ApiError> {
    if uuid.is_nil() { Err(immutable(uuid)) } else { Ok(()) }
}

fn immutable(uuid: Uuid) -> ApiError {
    let message = format!(
        "Webhook `{uuid}` is immutable. The webhook defined from the command line cannot be modified using the API."
    );
    ApiError::bad_request("immutable_webhook", message)
}

fn not_found(uuid: Uuid) -> ApiError {
    let message = format!("Webhook `{uuid}` not found.");
    ApiError::new(404, "webhook_not_found", ErrorType::InvalidRequest, message)
}

fn too_many() -> ApiError {
    ApiError::bad_request(
        "invalid_webhooks",
        "Defining too many webhooks would crush the server. Please limit the number of webhooks to 20. You may use a \
         third-party proxy server to dispatch events to more than 20 endpoints.",
    )
}

#[cfg(test)]
mod tests {
    use miroir_store::SqliteStore;

    use super::change::HeaderChanges;
    use super::*;
    use crate::config::Secret;

    fn change(url: &str) -> WebhookChange {
        WebhookChange { url: Some(Some(url.to_owned())), headers: HeaderChanges::None }
    }

    #[tokio::test]
    async fn webhooks_and_what_they_were_told_outlive_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("miroir.db")).unwrap();
        let configured = TaskWebhook { url: "http://a/".to_owned(), authorization: Some(Secret::new("b c")) };
        let webhooks = Webhooks::default();
        webhooks.load(&store, Some(&configured)).await.unwrap();
        let (uuid, made) = webhooks.create(&store, change("http://d/")).await.unwrap();
        assert_eq!(made.told, 0);
        webhooks.told(&store, uuid, 7).await.unwrap();
        webhooks.told(&store, Uuid::nil(), 5).await.unwrap();
        webhooks.told(&store, Uuid::new_v4(), 9).await.unwrap();

        let again = Webhooks::default();
        again.load(&store, Some(&configured)).await.unwrap();
        assert_eq!(again.find(uuid).unwrap().told, 7);
        let of_configuration = again.find(Uuid::nil()).unwrap();
        assert_eq!((of_configuration.told, &*of_configuration.headers["Authorization"]), (5, "b c"));
        assert_eq!(&*again.delete(&store, Uuid::nil()).await.unwrap_err().code, "immutable_webhook");

        // Taken out of the configuration, it is forgotten.
        let without = Webhooks::default();
        without.load(&store, None).await.unwrap();
        assert_eq!(without.all().keys().collect::<Vec<_>>(), [&uuid]);
        without.delete(&store, uuid).await.unwrap();
        assert_eq!(without.find(uuid).unwrap_err().status, 404);
    }

    #[tokio::test]
    async fn there_are_twenty_at_most_besides_that_of_the_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("miroir.db")).unwrap();
        let configured = TaskWebhook { url: "http://a/".to_owned(), authorization: None };
        let webhooks = Webhooks::default();
        webhooks.load(&store, Some(&configured)).await.unwrap();
        for _ in 0..MOST {
            webhooks.create(&store, change("http://b/")).await.unwrap();
        }
        assert_eq!(&*webhooks.create(&store, change("")).await.unwrap_err().code, "invalid_webhooks");
    }
}
