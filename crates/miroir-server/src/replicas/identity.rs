//! Whether a node that comes back still has the disk it went away with.
//!
//! Two signs, both cheap. Miroir keeps a marker on each node, a document in an index of its own, with a token that
//! the store remembers: an empty disk has none, another node's disk has another. And the newest task of a node is
//! never older than what it has acknowledged: an old copy of its disk is. A node that shows neither is read and
//! written again at once. Otherwise its replicas are put aside, to be compared by content, unless they are the
//! last ones: then the node stays out of service, because only the operator can tell that they are lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use miroir_core::replica::ReplicaState;
use miroir_node::{Call, Node, NodeCheck, NodeError};
use miroir_store::{NodeTask, ReplicaKey, ReplicaStatus};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::node_tasks::{carry_out, newest};
use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::write::encode;

/// The index that holds the marker.
const MARKER_INDEX: &str = "_miroir_node";
const CALL_LIMIT: Duration = Duration::from_secs(5);
const TASK_LIMIT: Duration = Duration::from_secs(60);
/// Indexes of a node that are looked at.
const MOST_INDEXES: usize = 10_000;

/// The marker.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    id: String,
    /// Name of the node it was given to.
    node: String,
    /// What the store remembers.
    token: String,
}

#[derive(Deserialize)]
struct IndexList {
    results: Vec<IndexName>,
}

#[derive(Deserialize)]
struct IndexName {
    uid: String,
}

/// Name under which the store remembers the token of a node.
pub(crate) fn token_key(node: &str) -> String {
    format!("node-token:{node}")
}

/// What a node showed of itself, or what the store remembers of it.
#[derive(Debug, Default)]
struct Identity {
    marker: Option<Marker>,
    newest_task: Option<u64>,
}

impl NodeCheck for Cluster {
    fn recognise<'a>(&'a self, node: &'a Arc<Node>) -> BoxFuture<'a, Result<Option<String>, NodeError>> {
        async move {
            // In this order: what a node acknowledges meanwhile must not make it look old. That the store cannot be
            // asked says nothing about the node.
            let remembered = self.remembered(node).await;
            let seen = see(node).await?;
            if !self.features.is_told(node) {
                return Ok(Some("it may not know which experimental features are on".to_owned()));
            }
            let Ok((Some(token), acknowledged)) = remembered else { return Ok(None) };
            Ok(doubt(&seen, &token, acknowledged))
        }
        .boxed()
    }

    fn check<'a>(&'a self, node: &'a Arc<Node>) -> BoxFuture<'a, Result<(), String>> {
        self.check_node(node).boxed()
    }
}

impl Cluster {
    /// Lets a node back into service, or says why not. Its replicas have been put aside by then if it may have
    /// lost something.
    async fn check_node(&self, node: &Arc<Node>) -> Result<(), String> {
        let name = node.id().as_str();
        self.features.tell(node).await.map_err(|error| error.to_string())?;
        let (token, acknowledged) = self.remembered(node).await?;
        let seen = see(node).await.map_err(|error| error.to_string())?;
        let Some(token) = token else {
            // Never met, or given up by the operator: whatever it holds is what there is.
            let token = match seen.marker.filter(|marker| marker.node == name) {
                Some(marker) => marker.token,
                None => write_marker(node, &new_token()).await.map_err(|error| error.to_string())?,
            };
            self.forget_newest_task(node).await?;
            return self.store.put_meta(&token_key(name), &token).await.map_err(|error| error.to_string());
        };
        if let Some(doubt) = doubt(&seen, &token, acknowledged) {
            self.put_replicas_aside(name, &doubt, |_| true).await?;
            write_marker(node, &token).await.map_err(|error| error.to_string())?;
            self.forget_newest_task(node).await?;
        }
        let held = list_indexes(node).await.map_err(|error| error.to_string())?;
        let is_missing =
            |view: &IndexView| view.record.settings_version > 0 && !held.contains(&view.record.uid);
        self.put_replicas_aside(name, "it does not have the index", is_missing).await?;
        self.drop_remains(node, held).await.map_err(|error| error.to_string())
    }

    /// The token of a node, once it has one, and the newest task that it acknowledged.
    async fn remembered(&self, node: &Arc<Node>) -> Result<(Option<String>, Option<u64>), String> {
        let name = node.id().as_str();
        let token = self.store.meta(&token_key(name)).await.map_err(|error| error.to_string())?;
        let task = self.store.meta(&miroir_store::newest_task_key(name)).await;
        let task = task.map_err(|error| error.to_string())?.and_then(|task| task.parse().ok());
        Ok((token.filter(|token| !token.is_empty()), task))
    }

    /// Remembers how far a node has come, so that an older copy of its disk can be told.
    pub(crate) async fn note_newest_task(&self, node: &Arc<Node>) -> Result<(), String> {
        let task = newest(node, None).await.map_err(|error| error.to_string())?;
        self.remember_task(node, task).await
    }

    /// A node has another disk from now on, which begins where that is.
    async fn forget_newest_task(&self, node: &Arc<Node>) -> Result<(), String> {
        let key = miroir_store::newest_task_key(node.id().as_str());
        self.store.put_meta(&key, "").await.map_err(|error| error.to_string())?;
        self.note_newest_task(node).await
    }

    async fn remember_task(&self, node: &Arc<Node>, task: Option<u64>) -> Result<(), String> {
        let Some(task) = task else { return Ok(()) };
        let task = NodeTask { node: node.id().to_string(), task_uid: task };
        self.store.note_newest_tasks(vec![task]).await.map_err(|error| error.to_string())
    }

    /// Makes replicas of a node joining; an error when some are the last ones.
    async fn put_replicas_aside(
        &self,
        node: &str,
        doubt: &str,
        concerned: impl Fn(&IndexView) -> bool,
    ) -> Result<(), String> {
        let mut last: Vec<String> = Vec::new();
        for view in self.indexes().into_iter().filter(|view| concerned(view)) {
            let index = self.handle(&view.record.uid);
            let doubtful = doubtful_replicas(&view, node, doubt);
            self.put_aside(&index, doubtful).await.map_err(|error| error.to_string())?;
            let Some(view) = index.view() else { continue };
            let lasting = view.shards_on(node).into_iter();
            let lasting = lasting.filter(|shard| view.replica_state(*shard, node).is_readable());
            let shards: Vec<String> = lasting.map(|shard| shard.0.to_string()).collect();
            if !shards.is_empty() {
                last.push(format!("shards {} of index `{}`", shards.join(","), view.record.uid));
            }
        }
        if last.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{doubt}, and it held the only copy of {}. Give it its disk back, or accept the loss with `miroir \
             replica promote --node {node}`",
            last.join(" and of ")
        ))
    }

    /// Takes indexes off a node that were deleted while it was away: those that Miroir made and has a record of
    /// having deleted. All others are left alone, whoever made them.
    async fn drop_remains(&self, node: &Arc<Node>, held: BTreeSet<String>) -> Result<(), NodeError> {
        for uid in held {
            let handle = self.handle(&uid);
            if uid == MARKER_INDEX || handle.view().is_some() {
                continue;
            }
            // A write that makes or drops the index may be on its way.
            let Ok(_queue) = handle.queue.try_lock() else { continue };
            let was_deleted = self.store.was_deleted(&uid).await.unwrap_or(false);
            if !was_deleted {
                continue;
            }
            let path = format!("/indexes/{}", encode(&uid));
            let settings: serde_json::Value =
                node.fetch(&Call::get(format!("{path}/settings"), CALL_LIMIT)).await?;
            if handle.view().is_none() && miroir_core::settings::is_ours(&settings) {
                tracing::warn!(index = uid, node = %node.id(), "dropping what is left of a deleted index");
                carry_out(node, &Call::new(http::Method::DELETE, path, CALL_LIMIT), TASK_LIMIT).await?;
            }
        }
        Ok(())
    }
}

/// All replicas of a node, as joining.
fn doubtful_replicas(view: &IndexView, node: &str, reason: &str) -> Vec<ReplicaStatus> {
    let status = |shard| ReplicaStatus {
        key: ReplicaKey { index_uid: view.record.uid.clone(), shard, node: node.to_owned() },
        state: ReplicaState::Joining,
        reason: reason.to_owned(),
    };
    view.shards_on(node).into_iter().map(status).collect()
}

async fn list_indexes(node: &Arc<Node>) -> Result<BTreeSet<String>, NodeError> {
    let call = Call::get(format!("/indexes?limit={MOST_INDEXES}"), CALL_LIMIT);
    let list: IndexList = node.fetch(&call).await?;
    Ok(list.results.into_iter().map(|index| index.uid).collect())
}

/// Why a node may not be what it was; `None` when nothing speaks against it.
fn doubt(seen: &Identity, token: &str, acknowledged: Option<u64>) -> Option<String> {
    match &seen.marker {
        None => Some("its disk is empty or another one: Miroir's marker is missing".to_owned()),
        Some(marker) if marker.token != token => {
            Some(format!("it has the disk of node `{}` or of another Miroir", marker.node))
        }
        Some(_) if seen.newest_task < acknowledged => Some(format!(
            "it has an old copy of its disk: it has acknowledged task {}, and its newest is {}",
            acknowledged.unwrap_or_default(),
            seen.newest_task.map_or("none".to_owned(), |task| task.to_string()),
        )),
        Some(_) => None,
    }
}

async fn see(node: &Arc<Node>) -> Result<Identity, NodeError> {
    Ok(Identity { marker: read_marker(node).await?, newest_task: newest(node, None).await? })
}

async fn read_marker(node: &Arc<Node>) -> Result<Option<Marker>, NodeError> {
    let path = format!("/indexes/{MARKER_INDEX}/documents/identity");
    let answer = node.send(&Call::get(path, CALL_LIMIT)).await?;
    if answer.status == http::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    serde_json::from_slice(&answer.body).map(Some).map_err(|error| node.unintelligible(error.to_string()))
}

async fn write_marker(node: &Arc<Node>, token: &str) -> Result<String, NodeError> {
    let marker = Marker { id: "identity".to_owned(), node: node.id().to_string(), token: token.to_owned() };
    let path = format!("/indexes/{MARKER_INDEX}/documents?primaryKey=id");
    carry_out(node, &Call::post(path, json!([marker]).to_string(), CALL_LIMIT), TASK_LIMIT).await?;
    Ok(token.to_owned())
}

/// Nobody has to be unable to guess it: it tells disks apart, not people.
fn new_token() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_disk_and_an_old_one_are_doubted() {
        let marker =
            |token: &str| Marker { id: String::new(), node: "a".to_owned(), token: token.to_owned() };
        let seen = |token: Option<&str>, newest_task| Identity { marker: token.map(marker), newest_task };
        assert_eq!(doubt(&seen(Some("t"), Some(7)), "t", Some(7)), None);
        assert_eq!(doubt(&seen(Some("t"), Some(9)), "t", Some(7)), None, "its own tasks are newer");
        assert_eq!(doubt(&seen(Some("t"), Some(7)), "t", None), None);
        assert!(doubt(&seen(Some("t"), Some(6)), "t", Some(7)).is_some_and(|why| why.contains("old copy")));
        assert!(doubt(&seen(Some("u"), Some(7)), "t", Some(7)).is_some_and(|why| why.contains("another")));
        assert!(doubt(&seen(None, None), "t", Some(7)).is_some_and(|why| why.contains("empty")));
    }

    #[test]
    fn tokens_differ() {
        assert_ne!(new_token(), new_token());
    }
}
