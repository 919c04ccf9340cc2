//! Whether a node that comes back still has the disk it went away with.
//!
//! Two signs, both cheap. Miroir keeps a marker on each node, a document in an index of its own, with a token that
//! the store remembers: an empty disk has none, another node's disk has another. And a node has the newest task that it
//! has acknowledged, of that number and that moment: an old copy of its disk has not, or has another by now. A node that shows neither is read and
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

use super::node_tasks::{Listed, carry_out, newest_up_to};
use crate::clock::is_same_moment;
use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::write::{encode, is_scratch};

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

/// What a node showed of itself.
#[derive(Debug)]
struct Identity {
    marker: Option<Marker>,
    /// Its newest task up to the newest that it has acknowledged; the newest of all where it has forgotten that one since.
    task: Option<Listed>,
}

impl NodeCheck for Cluster {
    fn recognise<'a>(&'a self, node: &'a Arc<Node>) -> BoxFuture<'a, Result<Option<String>, NodeError>> {
        async move {
            // In this order: what a node acknowledges meanwhile must not make it look old. That the store cannot be
            // asked says nothing about the node.
            let remembered = self.remembered(node).await;
            let acknowledged = remembered.as_ref().ok().and_then(|(_, acknowledged)| acknowledged.as_ref());
            let seen = see(node, acknowledged).await?;
            if !self.features.is_told(node) {
                return Ok(Some("it may not know which experimental features are on".to_owned()));
            }
            let Ok((Some(token), acknowledged)) = remembered else { return Ok(None) };
            Ok(doubt(&seen, &token, acknowledged.as_ref()))
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
        let seen = see(node, acknowledged.as_ref()).await.map_err(|error| error.to_string())?;
        let Some(token) = token else {
            // Never met, or given up by the operator: whatever it holds is what there is.
            let token = match seen.marker.filter(|marker| marker.node == name) {
                Some(marker) => marker.token,
                None => write_marker(node, &new_token()).await.map_err(|error| error.to_string())?,
            };
            self.forget_newest_task(node).await?;
            return self.store.put_meta(&token_key(name), &token).await.map_err(|error| error.to_string());
        };
        if let Some(doubt) = doubt(&seen, &token, acknowledged.as_ref()) {
            self.put_replicas_aside(name, &doubt, |_| true).await?;
            write_marker(node, &token).await.map_err(|error| error.to_string())?;
            self.forget_newest_task(node).await?;
        }
        let held = list_indexes(node).await.map_err(|error| error.to_string())?;
        let is_missing =
            |view: &IndexView| view.record.settings_version > 0 && !held.contains(&view.record.node_uid);
        self.put_replicas_aside(name, "it does not have the index", is_missing).await?;
        self.drop_remains(node, held).await.map_err(|error| error.to_string())
    }

    /// The token of a node, once it has one, and the newest task that it acknowledged.
    async fn remembered(&self, node: &Arc<Node>) -> Result<(Option<String>, Option<Listed>), String> {
        let name = node.id().as_str();
        let token = self.store.meta(&token_key(name)).await.map_err(|error| error.to_string())?;
        let task = self.store.meta(&miroir_store::newest_task_key(name)).await;
        let task = task.map_err(|error| error.to_string())?.and_then(|task| remembered_task(&task));
        Ok((token.filter(|token| !token.is_empty()), task))
    }

    /// Remembers how far a node has come, so that an older copy of its disk can be told.
    pub(crate) async fn note_newest_task(&self, node: &Arc<Node>) -> Result<(), String> {
        let newest = newest_up_to(node, None).await.map_err(|error| error.to_string())?;
        let Some(Listed { uid, enqueued_at }) = newest else { return Ok(()) };
        let task = NodeTask { node: node.id().to_string(), task_uid: uid, enqueued_at };
        self.store.note_newest_tasks(vec![task]).await.map_err(|error| error.to_string())
    }

    /// A node has another disk from now on, which begins where that is.
    async fn forget_newest_task(&self, node: &Arc<Node>) -> Result<(), String> {
        let key = miroir_store::newest_task_key(node.id().as_str());
        self.store.put_meta(&key, "").await.map_err(|error| error.to_string())?;
        self.note_newest_task(node).await
    }

    /// Makes replicas of a node joining; an error when some are the last ones.
    async fn put_replicas_aside(
        &self,
        node: &str,
        doubt: &str,
        concerned: impl Fn(&IndexView) -> bool,
    ) -> Result<(), String> {
        let mut last: Vec<String> = Vec::new();
        let _names = self.names.read().await;
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
        let is_in_use = |uid: &str| self.indexes().iter().any(|view| view.record.node_uid == uid);
        for uid in held {
            if uid == MARKER_INDEX || is_in_use(&uid) {
                continue;
            }
            // A write that makes or drops the index may be on its way. (A name that is not that of the index for clients
            // is never given to another one.)
            let handle = self.handle(&uid);
            let Some(_queue) = handle.try_turn() else { continue };
            let path = format!("/indexes/{}", encode(&uid));
            if is_scratch(&uid) {
                carry_out(node, &Call::new(http::Method::DELETE, path, CALL_LIMIT), TASK_LIMIT).await?;
                continue;
            }
            let was_deleted = self.store.was_deleted(&uid).await.unwrap_or(false);
            if !was_deleted {
                continue;
            }
            let settings: serde_json::Value =
                node.fetch(&Call::get(format!("{path}/settings"), CALL_LIMIT)).await?;
            if !is_in_use(&uid) && miroir_core::settings::is_ours(&settings) {
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
fn doubt(seen: &Identity, token: &str, acknowledged: Option<&Listed>) -> Option<String> {
    match &seen.marker {
        None => Some("its disk is empty or another one: Miroir's marker is missing".to_owned()),
        Some(marker) if marker.token != token => {
            Some(format!("it has the disk of node `{}` or of another Miroir", marker.node))
        }
        Some(_) => acknowledged.and_then(|acknowledged| doubt_of_task(seen.task.as_ref(), acknowledged)),
    }
}

/// Why a node may have an old copy of its disk. Numbers alone do not tell: it may have been given new tasks since.
fn doubt_of_task(seen: Option<&Listed>, acknowledged: &Listed) -> Option<String> {
    let number = acknowledged.uid;
    match seen {
        Some(seen) if seen.uid > number => None,
        Some(seen) if seen.uid == number => {
            // Another version of Meilisearch may write the same moment down in another way.
            let is_other = match (&seen.enqueued_at, &acknowledged.enqueued_at) {
                (Some(seen), Some(acknowledged)) => !is_same_moment(seen, acknowledged),
                _ => false,
            };
            let why = || {
                format!("it has an old copy of its disk: task {number} is not the one it has acknowledged")
            };
            is_other.then(why)
        }
        _ => Some(format!(
            "it has an old copy of its disk: it has acknowledged task {number}, and its newest is {}",
            seen.map_or("none".to_owned(), |seen| seen.uid.to_string()),
        )),
    }
}

/// The newest task that a node has acknowledged, as the store keeps it.
fn remembered_task(value: &str) -> Option<Listed> {
    let (uid, enqueued_at) = match value.split_once(' ') {
        Some((uid, enqueued_at)) => (uid, Some(enqueued_at.to_owned())),
        None => (value, None),
    };
    Some(Listed { uid: uid.parse().ok()?, enqueued_at })
}

async fn see(node: &Arc<Node>, acknowledged: Option<&Listed>) -> Result<Identity, NodeError> {
    let marker = read_marker(node).await?;
    let Some(acknowledged) = acknowledged else { return Ok(Identity { marker, task: None }) };
    let mut task = newest_up_to(node, Some(acknowledged.uid)).await?;
    if task.as_ref().is_none_or(|task| task.uid < acknowledged.uid) {
        // Meilisearch deletes its oldest tasks when there are very many.
        task = newest_up_to(node, None).await?;
    }
    Ok(Identity { marker, task })
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
        let task = |uid, at: &str| Listed { uid, enqueued_at: Some(at.to_owned()) };
        let seen = |token: Option<&str>, task| Identity { marker: token.map(marker), task };
        let doubt = |seen: Identity| doubt(&seen, "t", Some(&task(7, "noon")));
        assert_eq!(doubt(seen(Some("t"), Some(task(7, "noon")))), None);
        assert_eq!(doubt(seen(Some("t"), Some(task(9, "one")))), None, "it has forgotten the older ones");
        let untimed = Listed { uid: 7, enqueued_at: None };
        assert_eq!(doubt(seen(Some("t"), Some(untimed))), None);
        assert_eq!(super::doubt(&seen(Some("t"), None), "t", None), None);
        for old in [Some(task(6, "noon")), Some(task(7, "one")), None] {
            assert!(doubt(seen(Some("t"), old)).is_some_and(|why| why.contains("old copy")));
        }
        assert!(doubt(seen(Some("u"), Some(task(7, "noon")))).is_some_and(|why| why.contains("another")));
        assert!(doubt(seen(None, None)).is_some_and(|why| why.contains("empty")));
    }

    #[test]
    fn what_the_store_keeps_of_a_task_is_read_with_and_without_its_moment() {
        assert_eq!(remembered_task("7"), Some(Listed { uid: 7, enqueued_at: None }));
        let moment = Some("2026-11-22T10:00:00Z".to_owned());
        assert_eq!(remembered_task("7 2026-11-22T10:00:00Z"), Some(Listed { uid: 7, enqueued_at: moment }));
        assert_eq!(remembered_task(""), None);
    }

    #[test]
    fn tokens_differ() {
        assert_ne!(new_token(), new_token());
    }
}
