//! The configuration as written, before it is known to make sense. Field names are the keys of `miroir.yaml`.

use std::fmt;

use miroir_server::Secret;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::failure::Failure;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub bind: Option<String>,
    pub master_key: Option<RawSecret>,
    pub node_master_key: Option<RawSecret>,
    pub admin_api_key: Option<RawSecret>,
    pub shards: Option<i64>,
    pub replication_factor: Option<i64>,
    pub replica_groups: Option<i64>,
    pub min_write_acks: Option<i64>,
    pub max_body_bytes: Option<i64>,
    pub shutdown_grace_ms: Option<i64>,
    pub anti_entropy_interval_ms: Option<i64>,
    pub task_webhook_url: Option<String>,
    pub task_webhook_authorization_header: Option<RawSecret>,
    pub dump_dir: Option<String>,
    pub snapshot_dir: Option<String>,
    #[serde(default)]
    pub task_store: RawStore,
    #[serde(default)]
    pub nodes: Vec<RawNode>,
    #[serde(default)]
    pub scatter: RawScatter,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStore {
    pub backend: Option<String>,
    pub path: Option<String>,
    pub url: Option<RawSecret>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNode {
    pub id: Option<String>,
    pub address: Option<String>,
    pub replica_group: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawScatter {
    pub node_timeout_ms: Option<i64>,
    pub unavailable_shard_policy: Option<String>,
}

impl RawConfig {
    /// Reads YAML; an empty file is a configuration without keys.
    pub fn from_yaml(file: &str, text: &str) -> Result<Self, Failure> {
        let parsed: Result<Option<Self>, _> = serde_yaml_ng::from_str(text);
        parsed.map(Option::unwrap_or_default).map_err(|error| {
            // The message ends with its own idea of the place, in another form than our other messages.
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            let place =
                error.location().map_or_else(|| file.to_owned(), |at| format!("{file}, line {}", at.line()));
            Failure::new(format!("{place}: {message}; miroir.yaml in the source repository shows every key"))
        })
    }
}

/// A key as written. A number is refused without repeating it: error messages end up in logs.
#[derive(Debug)]
pub(super) struct RawSecret(pub Secret);

impl<'de> Deserialize<'de> for RawSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecretVisitor;
        impl Visitor<'_> for SecretVisitor {
            type Value = RawSecret;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawSecret, E> {
                Ok(RawSecret(Secret::new(text)))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<RawSecret, E> {
                Err(E::custom(QUOTE_IT))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<RawSecret, E> {
                Err(E::custom(QUOTE_IT))
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<RawSecret, E> {
                Err(E::custom(QUOTE_IT))
            }

            fn visit_i128<E: de::Error>(self, _: i128) -> Result<RawSecret, E> {
                Err(E::custom(QUOTE_IT))
            }

            fn visit_u128<E: de::Error>(self, _: u128) -> Result<RawSecret, E> {
                Err(E::custom(QUOTE_IT))
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<RawSecret, E> {
                Err(E::custom(QUOTE_IT))
            }
        }
        deserializer.deserialize_any(SecretVisitor)
    }
}

const QUOTE_IT: &str = "a key that looks like a number or a truth value must be written between quotes";
