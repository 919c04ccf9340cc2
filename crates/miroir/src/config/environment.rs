//! Environment variables over the file: `MIROIR_` and the key, `__` between the levels.

use miroir_server::Secret;

use super::raw::{RawConfig, RawNode, RawSecret};
use crate::failure::Failure;

const PREFIX: &str = "MIROIR_";
/// Variables with the prefix that are not configuration: options of commands and of the scripts.
const OTHER_USES: [&str; 7] = ["CONFIG", "LOG", "BIN", "DATASETS", "URL", "API_KEY", "PORT"];

/// Overrides keys; gives the names of the variables used.
pub(super) fn apply(
    raw: &mut RawConfig,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<String>, Failure> {
    // Sorted, so that MIROIR_NODES__0 comes before MIROIR_NODES__1 and messages do not vary.
    let mut variables: Vec<(String, String)> = variables
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && !OTHER_USES.contains(&&name[PREFIX.len()..]))
        .collect();
    variables.sort();
    let mut used = Vec::new();
    for (name, value) in variables {
        if set(raw, &name, value)? {
            used.push(name);
        } else {
            // Not refused: Kubernetes gives every container such variables when a service is named miroir.
            tracing::warn!("the environment variable {name} names no configuration key and is ignored");
        }
    }
    Ok(used)
}

/// Sets the key that `name` stands for; `false` when there is none.
fn set(raw: &mut RawConfig, name: &str, value: String) -> Result<bool, Failure> {
    let path: Vec<&str> = name[PREFIX.len()..].split("__").collect();
    let number = |value: &str| {
        value
            .trim()
            .parse::<i64>()
            .map(Some)
            .map_err(|_| Failure::new(format!("environment variable {name}: write a whole number")))
    };
    let secret = |value| Some(RawSecret(Secret::new(value)));
    match path[..] {
        ["BIND"] => raw.bind = Some(value),
        ["MASTER_KEY"] => raw.master_key = secret(value),
        ["NODE_MASTER_KEY"] => raw.node_master_key = secret(value),
        ["ADMIN_API_KEY"] => raw.admin_api_key = secret(value),
        ["SHARDS"] => raw.shards = number(&value)?,
        ["REPLICATION_FACTOR"] => raw.replication_factor = number(&value)?,
        ["REPLICA_GROUPS"] => raw.replica_groups = number(&value)?,
        ["MIN_WRITE_ACKS"] => raw.min_write_acks = number(&value)?,
        ["MAX_BODY_BYTES"] => raw.max_body_bytes = number(&value)?,
        ["SHUTDOWN_GRACE_MS"] => raw.shutdown_grace_ms = number(&value)?,
        ["TASK_WEBHOOK_URL"] => raw.task_webhook_url = Some(value),
        ["TASK_WEBHOOK_AUTHORIZATION_HEADER"] => raw.task_webhook_authorization_header = secret(value),
        ["ANTI_ENTROPY_INTERVAL_MS"] => raw.anti_entropy_interval_ms = number(&value)?,
        ["DUMP_DIR"] => raw.dump_dir = Some(value),
        ["SNAPSHOT_DIR"] => raw.snapshot_dir = Some(value),
        ["TASK_STORE", "BACKEND"] => raw.task_store.backend = Some(value),
        ["TASK_STORE", "PATH"] => raw.task_store.path = Some(value),
        ["TASK_STORE", "URL"] => raw.task_store.url = secret(value),
        ["SCATTER", "NODE_TIMEOUT_MS"] => raw.scatter.node_timeout_ms = number(&value)?,
        ["SCATTER", "UNAVAILABLE_SHARD_POLICY"] => raw.scatter.unavailable_shard_policy = Some(value),
        ["NODES", position, field] => {
            let Ok(position) = position.parse::<usize>() else { return Ok(false) };
            let node = node_at(raw, name, position)?;
            match field {
                "ID" => node.id = Some(value),
                "ADDRESS" => node.address = Some(value),
                "REPLICA_GROUP" => node.replica_group = number(&value)?,
                _ => return Ok(false),
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The node at a position of the list, or a new one when the position is the next free one.
fn node_at<'a>(raw: &'a mut RawConfig, name: &str, position: usize) -> Result<&'a mut RawNode, Failure> {
    let count = raw.nodes.len();
    if position == count {
        raw.nodes.push(RawNode::default());
    }
    raw.nodes.get_mut(position).ok_or_else(|| {
        Failure::new(format!(
            "environment variable {name}: there are {count} nodes before it, so the next one is number {count}"
        ))
    })
}
