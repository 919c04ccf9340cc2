//! What the server needs to know before it starts. Reading it from a file is the binary's business.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A text that must never be printed. `Debug` and `Display` show stars.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the one place that compares or sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// What a search does when no replica of a shard can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnavailableShardPolicy {
    /// Answer with what there is and name what is missing in `X-Miroir-Degraded`.
    #[default]
    Partial,
    /// Answer 503 `miroir_shard_unavailable`.
    Error,
}

/// One node of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Unique name; placement remembers nodes by it.
    pub id: String,
    /// `http://host:port`.
    pub address: String,
    /// The replica group it belongs to.
    pub replica_group: u32,
}

/// The webhook that is in the configuration and cannot be changed by clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskWebhook {
    /// Where it is.
    pub url: String,
    /// What is sent as `Authorization`.
    pub authorization: Option<Secret>,
}

/// Everything the server needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub bind: SocketAddr,
    /// What clients present; `None` lets everybody in (`miroir dev` only).
    pub master_key: Option<Secret>,
    /// What Miroir presents to nodes.
    pub node_master_key: Option<Secret>,
    /// What gates `/_miroir/`; `None` lets everybody in.
    pub admin_api_key: Option<Secret>,
    /// Number of shards of new indexes.
    pub default_shards: u16,
    /// Replicas of each shard inside each group.
    pub replication_factor: usize,
    /// How many active replicas of each shard must take a write before it is acknowledged.
    pub min_write_acks: usize,
    /// The fleet.
    pub nodes: Vec<NodeConfig>,
    /// The SQLite file.
    pub store_path: PathBuf,
    /// Where dumps are written.
    pub dump_dir: PathBuf,
    /// Where the copy of the store goes that belongs to a snapshot.
    pub snapshot_dir: PathBuf,
    /// How long one node may take to answer one read.
    pub node_timeout: Duration,
    /// From the end of one comparison of all replicas to the beginning of the next.
    pub anti_entropy_interval: Duration,
    /// Who is told of every task that has ended, besides those that clients ask for.
    pub task_webhook: Option<TaskWebhook>,
    /// What to do when a shard is unavailable.
    pub unavailable_shard_policy: UnavailableShardPolicy,
    /// Largest request body accepted, in bytes, after decompression.
    pub max_body_bytes: usize,
    /// How long requests in flight may go on after a stop was asked for.
    pub shutdown_grace: Duration,
}
