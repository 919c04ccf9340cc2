//! The API keys, as this process knows them. Miroir is the authority: nodes only ever see its own credentials.
//!
//! What a client presents is the HMAC-SHA256 of a key's uid under the master key, as Meilisearch has it, so keys that were
//! carried over from a server with the same master key go on working. It is computed, never stored.

use std::fmt::Write as _;
use std::sync::{Arc, RwLock};

use miroir_core::access::ApiKey;
use miroir_core::error::{ApiError, ErrorType};
use miroir_store::{Store, StoreError};
use ring::hmac;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::clock::now;
use crate::config::Secret;
use crate::store_error;

/// What a server without keys makes: names, descriptions and actions, the last one made first in lists.
const DEFAULTS: [(&str, &str, &[&str]); 4] = [
    ("Default Chat API Key", "Use it to chat and search from the frontend", &["chatCompletions", "search"]),
    (
        "Default Read-Only Admin API Key",
        "Use it to read information across the whole database. Caution! Do not expose this key on a public frontend",
        &["*.get", "keys.get"],
    ),
    (
        "Default Admin API Key",
        "Use it for anything that is not a search operation. Caution! Do not expose it on a public frontend",
        &["*"],
    ),
    ("Default Search API Key", "Use it to search from the frontend", &["search"]),
];

/// A key with what a client presents.
#[derive(Debug, Clone)]
pub(crate) struct IssuedKey {
    /// The key.
    pub key: ApiKey,
    /// What a client presents; empty on a server without a master key.
    pub secret: String,
}

/// All keys.
pub(crate) struct Keys {
    master: Option<hmac::Key>,
    /// In the order in which they were made.
    issued: RwLock<Arc<Vec<IssuedKey>>>,
    /// Held while the store and `issued` are changed, so that they stay the same.
    changing: tokio::sync::Mutex<()>,
}

impl Keys {
    /// No keys yet.
    pub fn new(master: Option<&Secret>) -> Self {
        let master = master.map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.reveal().as_bytes()));
        Self { master, issued: RwLock::default(), changing: tokio::sync::Mutex::default() }
    }

    /// Reads the keys from the store, or makes those that a new server has.
    pub async fn load(&self, store: &dyn Store) -> Result<(), StoreError> {
        let records = store.api_keys().await?;
        let mut keys = Vec::new();
        for record in &records {
            let key: ApiKey = serde_json::from_str(record)
                .map_err(|error| StoreError::Invalid(format!("an API key cannot be read ({error})")))?;
            keys.push(key);
        }
        if keys.is_empty() {
            keys = DEFAULTS.map(default_key).to_vec();
            store.put_api_keys(keys.iter().map(record).collect()).await?;
        }
        self.publish(keys.into_iter().map(|key| self.issue(key)).collect());
        Ok(())
    }

    /// What a client presents for a uid; `None` without a master key.
    pub fn secret_of(&self, uid: &str) -> Option<String> {
        let tag = hmac::sign(self.master.as_ref()?, uid.as_bytes());
        let mut secret = String::with_capacity(tag.as_ref().len() * 2);
        for byte in tag.as_ref() {
            // Writing to a string cannot fail.
            let _ = write!(secret, "{byte:02x}");
        }
        Some(secret)
    }

    /// The key that a client presents. How long it takes does not tell how much of it is right.
    pub fn presented(&self, secret: &[u8]) -> Option<ApiKey> {
        self.master.as_ref()?;
        let mut found = None;
        for issued in self.issued().iter() {
            if bool::from(issued.secret.as_bytes().ct_eq(secret)) {
                found = Some(issued.key.clone());
            }
        }
        found
    }

    /// The key of a uid.
    pub fn of_uid(&self, uid: &str) -> Option<ApiKey> {
        self.issued().iter().find(|issued| issued.key.uid == uid).map(|issued| issued.key.clone())
    }

    /// All keys, the last one made first.
    pub fn newest_first(&self) -> Vec<IssuedKey> {
        self.issued().iter().rev().cloned().collect()
    }

    /// A key by its uid, or by what a client presents.
    pub fn find(&self, uid_or_secret: &str) -> Result<IssuedKey, ApiError> {
        let key = match Uuid::parse_str(uid_or_secret) {
            Ok(uid) => self.of_uid(&uid.to_string()).ok_or_else(|| not_found(&uid.to_string())),
            Err(_) => self.presented(uid_or_secret.as_bytes()).ok_or_else(|| not_found(uid_or_secret)),
        };
        Ok(self.issue(key?))
    }

    /// Makes a key.
    pub async fn create(&self, store: &dyn Store, key: ApiKey) -> Result<IssuedKey, ApiError> {
        let _changing = self.changing.lock().await;
        if self.of_uid(&key.uid).is_some() {
            let message = format!("`uid` field value `{}` is already an existing API key.", key.uid);
            return Err(ApiError::new(409, "api_key_already_exists", ErrorType::InvalidRequest, message));
        }
        store.put_api_keys(vec![record(&key)]).await.map_err(store_error)?;
        let issued = self.issue(key);
        let mut all = self.issued().to_vec();
        all.push(issued.clone());
        self.publish(all);
        Ok(issued)
    }

    /// Changes a key.
    pub async fn update(
        &self,
        store: &dyn Store,
        uid_or_secret: &str,
        change: impl FnOnce(&mut ApiKey),
    ) -> Result<IssuedKey, ApiError> {
        let _changing = self.changing.lock().await;
        let mut changed = self.find(uid_or_secret)?;
        change(&mut changed.key);
        changed.key.updated_at = now();
        store.put_api_keys(vec![record(&changed.key)]).await.map_err(store_error)?;
        let mut all = self.issued().to_vec();
        for issued in all.iter_mut().filter(|issued| issued.key.uid == changed.key.uid) {
            *issued = changed.clone();
        }
        self.publish(all);
        Ok(changed)
    }

    /// Takes a key away.
    pub async fn delete(&self, store: &dyn Store, uid_or_secret: &str) -> Result<(), ApiError> {
        let _changing = self.changing.lock().await;
        let uid = self.find(uid_or_secret)?.key.uid;
        store.delete_api_key(&uid).await.map_err(store_error)?;
        let mut all = self.issued().to_vec();
        all.retain(|issued| issued.key.uid != uid);
        self.publish(all);
        Ok(())
    }

    fn issue(&self, key: ApiKey) -> IssuedKey {
        let secret = self.secret_of(&key.uid).unwrap_or_default();
        IssuedKey { key, secret }
    }

    fn issued(&self) -> Arc<Vec<IssuedKey>> {
        match self.issued.read() {
            Ok(issued) => Arc::clone(&issued),
            Err(poisoned) => Arc::clone(&poisoned.into_inner()),
        }
    }

    fn publish(&self, keys: Vec<IssuedKey>) {
        match self.issued.write() {
            Ok(mut issued) => *issued = Arc::new(keys),
            Err(poisoned) => *poisoned.into_inner() = Arc::new(keys),
        }
    }
}

fn default_key((name, description, actions): (&str, &str, &[&str])) -> ApiKey {
    let made = now();
    ApiKey {
        name: Some(name.to_owned()),
        description: Some(description.to_owned()),
        uid: Uuid::new_v4().to_string(),
        actions: actions.iter().map(|action| (*action).to_owned()).collect(),
        indexes: vec!["*".to_owned()],
        expires_at: None,
        created_at: made.clone(),
        updated_at: made,
    }
}

fn record(key: &ApiKey) -> (String, String) {
    // Texts and lists of texts are always JSON.
    (key.uid.clone(), serde_json::to_string(key).unwrap_or_default())
}

fn not_found(key: &str) -> ApiError {
    ApiError::new(404, "api_key_not_found", ErrorType::InvalidRequest, format!("API key `{key}` not found."))
}

#[cfg(test)]
mod tests {
    use miroir_store::SqliteStore;

    use super::*;

    #[test]
    fn what_a_client_presents_is_what_meilisearch_would_have_given_it() {
        let keys = Keys::new(Some(&Secret::new("masterKeyOfSixteenBytes")));
        // Of a Meilisearch 1.21 with this master key.
        let secret = keys.secret_of("6062abda-a5aa-4414-ac91-ecd7944c0f8d");
        assert_eq!(
            secret.as_deref(),
            Some("f6b8a9e3e4d3c5a20696ca0821ec29ab1ed00518f507307f9f49196f0fe1852e")
        );
        assert_eq!(Keys::new(None).secret_of("6062abda-a5aa-4414-ac91-ecd7944c0f8d"), None);
    }

    #[tokio::test]
    async fn keys_outlive_the_process_and_defaults_are_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("miroir.db");
        let master = Secret::new("a master key");
        let store = SqliteStore::open(&path).unwrap();
        let keys = Keys::new(Some(&master));
        keys.load(&store).await.unwrap();
        let names: Vec<Option<String>> =
            keys.newest_first().into_iter().map(|issued| issued.key.name).collect();
        assert_eq!(names[0].as_deref(), Some("Default Search API Key"));
        let admin = keys.newest_first().swap_remove(1);
        assert_eq!(keys.presented(admin.secret.as_bytes()).map(|key| key.uid), Some(admin.key.uid.clone()));
        keys.delete(&store, &admin.secret).await.unwrap();
        let renamed = |key: &mut ApiKey| key.name = Some("renamed".to_owned());
        let search = keys.newest_first().swap_remove(0);
        keys.update(&store, &search.key.uid, renamed).await.unwrap();

        let again = Keys::new(Some(&master));
        again.load(&store).await.unwrap();
        assert_eq!(again.newest_first().len(), 3);
        let found = again.find(&search.secret).unwrap();
        assert_eq!((found.key.name.as_deref(), found.secret), (Some("renamed"), search.secret));
        assert_eq!(again.find(&admin.key.uid).err().map(|error| error.status), Some(404));
    }
}
