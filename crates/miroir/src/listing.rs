//! What `GET /_miroir/replicas` lists, as far as commands use it.

use serde::Deserialize;

/// All indexes.
#[derive(Deserialize)]
pub struct Replicas {
    pub indexes: Vec<IndexReplicas>,
}

/// The replicas of one index.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexReplicas {
    pub uid: String,
    /// How many shards it has.
    pub shards: u16,
    /// How many of them can be read now.
    pub shards_covered: u16,
    /// The replicas that are not active.
    pub other_replicas: Vec<OtherReplica>,
}

/// A replica that is not active.
#[derive(Deserialize)]
pub struct OtherReplica {
    pub shard: u16,
    pub node: String,
    pub state: String,
    /// Why it is not.
    pub reason: String,
}
