//! From what was written to what the server takes, refusing what cannot work.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use miroir_server::{Config, NodeConfig, Secret, TaskWebhook, UnavailableShardPolicy};

use super::locate::Places;
use super::raw::{RawConfig, RawNode, RawSecret, RawStore};
use crate::failure::Failure;

/// Meilisearch's own default limit on a payload.
const DEFAULT_MAX_BODY_BYTES: i64 = 100 * 1024 * 1024;

/// Checks everything that can be checked without talking to a node.
pub(super) fn check(raw: RawConfig, places: &Places<'_>) -> Result<Config, Failure> {
    let bind = bind_address(raw.bind.as_deref().unwrap_or("127.0.0.1:7700"), places)?;
    let master_key = secret(raw.master_key, "master_key", places)?;
    if master_key.is_none() {
        return Err(wrong(
            places.of("master_key"),
            "master_key is empty, so anybody could read and write; set it to a long random text \
             (MIROIR_MASTER_KEY keeps it out of the file). Only `miroir dev` runs without",
        ));
    }
    // Without a key of its own the operator's interface takes the master key; it is never open.
    let admin_api_key = secret(raw.admin_api_key, "admin_api_key", places)?.or_else(|| master_key.clone());

    let shards = number(raw.shards.unwrap_or(64), 1, 65_535, "shards", places)?;
    let replication_factor =
        number(raw.replication_factor.unwrap_or(1), 1, 1_000, "replication_factor", places)?;
    let min_write_acks = number(raw.min_write_acks.unwrap_or(1), 1, 1_000, "min_write_acks", places)?;
    let nodes = nodes(&raw.nodes, bind, places)?;
    check_groups(&nodes, raw.replica_groups, replication_factor, places)?;
    if min_write_acks > replication_factor {
        return Err(wrong(
            places.of("min_write_acks"),
            format!(
                "min_write_acks is {min_write_acks} but a shard has {replication_factor} replicas, so no write \
                 could ever be acknowledged; lower it or raise replication_factor"
            ),
        ));
    }

    Ok(Config {
        bind,
        master_key,
        node_master_key: secret(raw.node_master_key, "node_master_key", places)?,
        admin_api_key,
        default_shards: u16::try_from(shards).unwrap_or(u16::MAX),
        replication_factor,
        min_write_acks,
        nodes,
        store_path: store_path(raw.task_store, places)?,
        snapshot_dir: directory(raw.snapshot_dir, "snapshots/", "snapshot_dir", places)?,
        dump_dir: directory(raw.dump_dir, "dumps/", "dump_dir", places)?,
        node_timeout: milliseconds(raw.scatter.node_timeout_ms, 5_000, "scatter.node_timeout_ms", places)?,
        anti_entropy_interval: milliseconds(
            raw.anti_entropy_interval_ms,
            600_000,
            "anti_entropy_interval_ms",
            places,
        )?,
        task_webhook: task_webhook(raw.task_webhook_url, raw.task_webhook_authorization_header, places)?,
        unavailable_shard_policy: policy(raw.scatter.unavailable_shard_policy.as_deref(), places)?,
        max_body_bytes: number(
            raw.max_body_bytes.unwrap_or(DEFAULT_MAX_BODY_BYTES),
            1_024,
            1 << 40,
            "max_body_bytes",
            places,
        )?,
        shutdown_grace: milliseconds(raw.shutdown_grace_ms, 30_000, "shutdown_grace_ms", places)?,
    })
}

fn wrong(place: String, message: impl Into<String>) -> Failure {
    Failure::new(format!("{place}: {}", message.into()))
}

fn number(value: i64, least: i64, most: i64, key: &str, places: &Places<'_>) -> Result<usize, Failure> {
    if (least..=most).contains(&value)
        && let Ok(value) = usize::try_from(value)
    {
        return Ok(value);
    }
    Err(wrong(places.of(key), format!("{key} is {value}; write a whole number from {least} to {most}")))
}

fn milliseconds(
    value: Option<i64>,
    default: i64,
    key: &str,
    places: &Places<'_>,
) -> Result<Duration, Failure> {
    let value = number(value.unwrap_or(default), 1, 3_600_000, key, places)?;
    Ok(Duration::from_millis(value as u64))
}

fn bind_address(bind: &str, places: &Places<'_>) -> Result<SocketAddr, Failure> {
    bind.to_socket_addrs().ok().and_then(|mut addresses| addresses.next()).ok_or_else(|| {
        wrong(
            places.of("bind"),
            format!("bind is {bind:?}; write an address of this machine and a port, such as 127.0.0.1:7700"),
        )
    })
}

/// Empty means not set. What an HTTP header cannot carry could never be presented by anybody.
fn secret(raw: Option<RawSecret>, key: &str, places: &Places<'_>) -> Result<Option<Secret>, Failure> {
    let Some(RawSecret(secret)) = raw else { return Ok(None) };
    if secret.reveal().is_empty() {
        return Ok(None);
    }
    if !secret.reveal().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong(
            places.of(key),
            format!(
                "{key} holds a character that cannot be sent in an HTTP header; use letters, digits and ASCII \
                 punctuation, without spaces"
            ),
        ));
    }
    Ok(Some(secret))
}

fn store_path(store: RawStore, places: &Places<'_>) -> Result<PathBuf, Failure> {
    let backend = store.backend.as_deref().unwrap_or("sqlite");
    if backend != "sqlite" {
        return Err(wrong(
            places.of("task_store.backend"),
            format!("task_store.backend is {backend:?}; this version has one backend, sqlite"),
        ));
    }
    if store.url.is_some() {
        return Err(wrong(
            places.of("task_store.url"),
            "task_store.url means nothing to sqlite; give the file in task_store.path",
        ));
    }
    let path = store.path.unwrap_or_else(|| "miroir.db".to_owned());
    if path.is_empty() {
        return Err(wrong(
            places.of("task_store.path"),
            "task_store.path is empty; write the path of a file on a disk that is kept, such as miroir.db",
        ));
    }
    Ok(PathBuf::from(path))
}

/// The header may hold spaces, as `Bearer …` does. Messages leave out the address, which may hold a password.
fn task_webhook(
    url: Option<String>,
    authorization: Option<RawSecret>,
    places: &Places<'_>,
) -> Result<Option<TaskWebhook>, Failure> {
    let authorization =
        authorization.map(|RawSecret(secret)| secret).filter(|secret| !secret.reveal().is_empty());
    if let Some(secret) = &authorization
        && !secret.reveal().bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    {
        return Err(wrong(
            places.of("task_webhook_authorization_header"),
            "task_webhook_authorization_header holds a character that cannot be sent in an HTTP header",
        ));
    }
    let Some(url) = url.filter(|url| !url.is_empty()) else {
        if authorization.is_some() {
            return Err(wrong(
                places.of("task_webhook_authorization_header"),
                "task_webhook_authorization_header means nothing without task_webhook_url",
            ));
        }
        return Ok(None);
    };
    match reqwest::Url::parse(&url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => {
            Ok(Some(TaskWebhook { url: parsed.to_string(), authorization }))
        }
        _ => Err(wrong(
            places.of("task_webhook_url"),
            "task_webhook_url is not an http or https URL; write it as http://host:port/path",
        )),
    }
}

fn directory(
    path: Option<String>,
    default: &str,
    key: &str,
    places: &Places<'_>,
) -> Result<PathBuf, Failure> {
    let path = path.unwrap_or_else(|| default.to_owned());
    if path.is_empty() {
        let message =
            format!("{key} is empty; write the path of a directory with room enough, such as {default}");
        return Err(wrong(places.of(key), message));
    }
    Ok(PathBuf::from(path))
}

fn policy(policy: Option<&str>, places: &Places<'_>) -> Result<UnavailableShardPolicy, Failure> {
    match policy.unwrap_or("partial") {
        "partial" => Ok(UnavailableShardPolicy::Partial),
        "error" => Ok(UnavailableShardPolicy::Error),
        other => Err(wrong(
            places.of("scatter.unavailable_shard_policy"),
            format!(
                "scatter.unavailable_shard_policy is {other:?}; write partial (answer with what there is) or \
                 error (answer 503)"
            ),
        )),
    }
}

fn nodes(raw: &[RawNode], bind: SocketAddr, places: &Places<'_>) -> Result<Vec<NodeConfig>, Failure> {
    if raw.is_empty() {
        return Err(wrong(
            places.of("nodes"),
            "there are no nodes; list at least one Meilisearch under nodes, such as \
             `- { id: meili-0, address: \"http://10.0.0.1:7700\" }`",
        ));
    }
    let mut nodes: Vec<NodeConfig> = Vec::new();
    for (position, node) in raw.iter().enumerate() {
        let place = || places.of_node(position);
        let id = node.id.clone().unwrap_or_default();
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            return Err(wrong(
                place(),
                format!(
                    "the node's id is {id:?}; give it a name of letters, digits, hyphens, dots and underscores"
                ),
            ));
        }
        let address = node_address(node.address.as_deref().unwrap_or_default(), &id)
            .map_err(|message| wrong(place(), message))?;
        for other in &nodes {
            if other.id == id {
                return Err(wrong(place(), format!("two nodes have the id {id}; give each its own")));
            }
            if other.address == address {
                return Err(wrong(
                    place(),
                    format!(
                        "nodes {} and {id} have the same address {address}: two copies on one server protect \
                         nothing; give each node its own server",
                        other.id
                    ),
                ));
            }
        }
        if address == format!("http://{bind}") {
            return Err(wrong(
                place(),
                format!("node {id} has the address that Miroir itself binds, {bind}; change one of the two"),
            ));
        }
        let replica_group = u32::try_from(node.replica_group.unwrap_or(0)).map_err(|_| {
            wrong(place(), format!("the replica_group of node {id} is negative; groups are numbered from 0"))
        })?;
        nodes.push(NodeConfig { id, address, replica_group });
    }
    Ok(nodes)
}

/// The address without a trailing slash. Messages leave out what may be a password.
fn node_address(address: &str, id: &str) -> Result<String, String> {
    let example = "write it as http://host:port, such as http://10.0.0.1:7700";
    if address.is_empty() {
        return Err(format!("node {id} has no address; {example}"));
    }
    if address.starts_with("https://") {
        return Err(format!(
            "node {id} has an https address, and this version speaks only http to nodes; {example}, over a \
             private network or a TLS tunnel"
        ));
    }
    let url =
        reqwest::Url::parse(address).map_err(|_| format!("the address of node {id} is no URL; {example}"))?;
    if url.scheme() != "http" || url.host_str().is_none() {
        return Err(format!("the address of node {id} is not an http URL; {example}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "the address of node {id} holds a user name; {example}, and put the node's key into node_master_key"
        ));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("the address of node {id} has something after the port; {example}"));
    }
    let host = url.host_str().unwrap_or_default();
    Ok(format!("http://{host}:{}", url.port_or_known_default().unwrap_or(80)))
}

fn check_groups(
    nodes: &[NodeConfig],
    replica_groups: Option<i64>,
    replication_factor: usize,
    places: &Places<'_>,
) -> Result<(), Failure> {
    let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
    for node in nodes {
        *sizes.entry(node.replica_group).or_default() += 1;
    }
    if let Some(expected) = replica_groups {
        let expected = number(expected, 1, 1_000, "replica_groups", places)?;
        if let Some(position) = nodes.iter().position(|node| node.replica_group as usize >= expected) {
            return Err(wrong(
                places.of_node(position),
                format!(
                    "node {} is in replica group {}, but replica_groups is {expected}, so groups go from 0 to {}; \
                     change one of the two",
                    nodes[position].id,
                    nodes[position].replica_group,
                    expected - 1
                ),
            ));
        }
        if let Some(empty) = (0..expected).find(|group| !sizes.keys().any(|used| *used as usize == *group)) {
            return Err(wrong(
                places.of("replica_groups"),
                format!(
                    "replica_groups is {expected}, but no node is in group {empty}; add nodes or lower it"
                ),
            ));
        }
    }
    for (group, size) in sizes {
        if replication_factor > size {
            return Err(wrong(
                places.of("replication_factor"),
                format!(
                    "replication_factor is {replication_factor}, but replica group {group} has {size} nodes, and \
                     a node holds a shard once; add nodes to the group or lower it to {size}"
                ),
            ));
        }
    }
    Ok(())
}
