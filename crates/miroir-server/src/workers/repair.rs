//! The repair worker: makes stale and joining replicas equal to an active one, then active.
//!
//! Repair copies from active to stale and removes what the source does not have, so deletions need no
//! tombstones. Writes to the index wait while one node is repaired: the copy is exact when it ends.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use miroir_core::hidden::{INSERTED_AT_FIELD, shard_filter};
use miroir_core::replica::ReplicaState;
use miroir_core::shard::ShardId;
use miroir_node::{Call, Node, NodeError};
use miroir_store::{ReplicaKey, ReplicaStatus};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use super::settings::{Agreed, wait_for_node_task};
use crate::backoff::Backoff;
use crate::cluster::Cluster;
use crate::index::{Index, IndexView};
use crate::write::encode;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest pause after repairs that failed. Short enough for a node that is well again.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
const CALL_LIMIT: Duration = Duration::from_secs(30);
const TASK_LIMIT: Duration = Duration::from_secs(600);
/// How long a repair waits for its turn among the writes.
const QUEUE_LIMIT: Duration = Duration::from_secs(60);
/// How long a repair waits until the writes before it have been applied.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
const DOCUMENTS_PER_PAGE: usize = 1_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    task_uid: u64,
}

#[derive(Deserialize)]
struct Page {
    results: Vec<Box<RawValue>>,
}

/// Why a repair did not come to its end this time.
#[derive(Debug, thiserror::Error)]
enum RepairError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Store(#[from] miroir_store::StoreError),
    #[error("{0}")]
    NotNow(String),
}

/// Runs until told to stop.
pub(crate) async fn repair_replicas(cluster: Arc<Cluster>) {
    let mut put_off: HashMap<(String, String), (Backoff, Instant)> = HashMap::new();
    loop {
        tokio::select! {
            () = cluster.stop.cancelled() => return,
            () = cluster.repair_wanted.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        put_off.retain(|(uid, _), _| cluster.handle(uid).view().is_some());
        for view in cluster.indexes() {
            for (name, shards) in waiting(&view) {
                let key = (view.record.uid.clone(), name.clone());
                if put_off.get(&key).is_some_and(|(_, until)| Instant::now() < *until) {
                    continue;
                }
                let Some(node) = cluster.fleet.get(&name).filter(|node| node.health().is_up()) else {
                    continue;
                };
                let index = cluster.handle(&view.record.uid);
                let repair = repair_node(&cluster, &index, node, &shards);
                let outcome = tokio::select! {
                    () = cluster.stop.cancelled() => return,
                    outcome = repair => outcome,
                };
                match outcome {
                    Ok(()) => {
                        put_off.remove(&key);
                        tracing::info!(index = %index.uid, node = %name, shards = shards.len(), "repaired");
                    }
                    Err(error) => {
                        let new = || (Backoff::new(LOOK_EVERY, LONGEST_PAUSE), Instant::now());
                        let (backoff, until) = put_off.entry(key).or_insert_with(new);
                        *until = Instant::now() + backoff.fail();
                        if backoff.is_worth_telling() {
                            tracing::warn!(index = %index.uid, node = %name, %error, "not repaired yet");
                        }
                    }
                }
            }
        }
    }
}

fn waiting(view: &IndexView) -> BTreeMap<String, Vec<ShardId>> {
    let mut waiting: BTreeMap<String, Vec<ShardId>> = BTreeMap::new();
    for ((shard, node), state) in &view.exceptions {
        if state.needs_repair() {
            waiting.entry(node.clone()).or_default().push(*shard);
        }
    }
    waiting
}

async fn repair_node(
    cluster: &Cluster,
    index: &Index,
    target: &Arc<Node>,
    shards: &[ShardId],
) -> Result<(), RepairError> {
    let _queue = index.turn(QUEUE_LIMIT).await.map_err(RepairError::NotNow)?;
    drain(cluster, &index.uid).await?;
    let Some(view) = index.view() else { return Ok(()) };
    if view.record.settings_version == 0 {
        return Err(RepairError::NotNow("the index is still being created".to_owned()));
    }
    ensure_index(cluster, target, &view).await?;
    let view = note_disorder(cluster, index, target, view).await?;
    let mut repaired = Vec::new();
    for shard in shards {
        let nodes = view.record.placement.get(usize::from(shard.0)).map(Vec::as_slice).unwrap_or_default();
        let source = (nodes.iter())
            .filter(|node| view.replica_state(*shard, node).is_readable())
            .filter_map(|node| cluster.fleet.get(node))
            .find(|node| node.health().is_up());
        let Some(source) = source else { continue };
        copy_shard(&view, source, target, *shard).await?;
        repaired.push(ReplicaStatus {
            key: ReplicaKey { index_uid: index.uid.clone(), shard: *shard, node: target.id().to_string() },
            state: ReplicaState::Active,
            reason: String::new(),
        });
    }
    if repaired.is_empty() {
        return Err(RepairError::NotNow("no active replica to copy from can be reached".to_owned()));
    }
    cluster.store.set_replica_states(repaired.clone()).await?;
    index.update(|view| {
        let mut exceptions = view.exceptions.clone();
        for status in &repaired {
            exceptions.remove(&(status.key.shard, status.key.node.clone()));
        }
        IndexView::new(view.record.clone(), exceptions, Some(view))
    });
    Ok(())
}

/// Copied documents stand in the order in which they were copied, so the node must go on breaking ties.
async fn note_disorder(
    cluster: &Cluster,
    index: &Index,
    target: &Node,
    view: Arc<IndexView>,
) -> Result<Arc<IndexView>, RepairError> {
    let name = target.id().to_string();
    if view.record.disordered.contains(&name) {
        return Ok(view);
    }
    let _recording = index.recording.lock().await;
    let Some(view) = index.view() else { return Ok(view) };
    let mut record = view.record.clone();
    record.disordered.push(name);
    cluster.store.put_index(record.clone()).await?;
    index.set_view(Some(IndexView::new(record, view.exceptions.clone(), Some(&view))));
    Ok(index.view().unwrap_or(view))
}

/// Waits until every accepted write of the index has been applied.
async fn drain(cluster: &Cluster, uid: &str) -> Result<(), RepairError> {
    let deadline = tokio::time::Instant::now() + DRAIN_LIMIT;
    loop {
        let finished = cluster.task_finished.notified();
        tokio::pin!(finished);
        finished.as_mut().enable();
        let unfinished = cluster.store.unfinished().await?;
        if !unfinished.iter().any(|task| task.index_uid.as_deref() == Some(uid)) {
            return Ok(());
        }
        if tokio::time::timeout_at(deadline, finished).await.is_err() {
            return Err(RepairError::NotNow("earlier writes are still being applied".to_owned()));
        }
    }
}

/// Makes sure that the index exists on the node, with the right primary key and settings.
async fn ensure_index(cluster: &Cluster, target: &Node, view: &IndexView) -> Result<(), RepairError> {
    let uid = &view.record.uid;
    let path = format!("/indexes/{}", encode(uid));
    let found = target.send(&Call::get(path.clone(), CALL_LIMIT)).await?;
    let body: serde_json::Value = serde_json::from_slice(&found.body).unwrap_or_default();
    let same_key = body.get("primaryKey").and_then(|key| key.as_str()) == view.record.primary_key.as_deref();
    if found.status.is_success() && !same_key {
        carry_out(target, Call::new(http::Method::DELETE, path, CALL_LIMIT)).await?;
    }
    if !found.status.is_success() || !same_key {
        let body = json!({ "uid": uid, "primaryKey": view.record.primary_key });
        carry_out(target, Call::post("/indexes", body.to_string(), CALL_LIMIT)).await?;
    }
    let agreed = Agreed {
        user: &view.record.settings,
        overlay: &view.record.overlay,
        needs: cluster.needs_of_one_behind(view),
        hash: &view.record.settings_hash,
    };
    agreed.apply(target, uid).await?;
    Ok(())
}

/// Sends one write to a node and waits until it is done.
async fn carry_out(node: &Node, call: Call) -> Result<(), NodeError> {
    let summary: Summary = node.fetch(&call).await?;
    wait_for_node_task(node, summary.task_uid, TASK_LIMIT).await
}

/// Makes the target's documents of a shard those of the source.
async fn copy_shard(
    view: &IndexView,
    source: &Node,
    target: &Node,
    shard: ShardId,
) -> Result<(), RepairError> {
    let Some(primary_key) = &view.record.primary_key else { return Ok(()) };
    let mut extra: HashMap<String, u128> = HashMap::new();
    let mut offset = 0;
    loop {
        let page = fetch(view, target, shard, offset).await?;
        extra.extend(page.iter().filter_map(|document| identify(document, primary_key)));
        offset += page.len();
        if page.len() < DOCUMENTS_PER_PAGE {
            break;
        }
    }
    let documents = format!("/indexes/{}/documents", encode(&view.record.uid));
    let mut offset = 0;
    loop {
        let page = fetch(view, source, shard, offset).await?;
        let differing: Vec<&Box<RawValue>> = (page.iter())
            .filter(|document| match identify(document, primary_key) {
                Some((id, hash)) => extra.remove(&id) != Some(hash),
                None => false,
            })
            .collect();
        if !differing.is_empty() {
            let body = serde_json::to_vec(&differing).unwrap_or_default();
            carry_out(target, Call::post(documents.clone(), body, CALL_LIMIT)).await?;
        }
        offset += page.len();
        if page.len() < DOCUMENTS_PER_PAGE {
            break;
        }
    }
    if !extra.is_empty() {
        let ids: BTreeSet<&String> = extra.keys().collect();
        let body = json!(ids).to_string();
        carry_out(target, Call::post(format!("{documents}/delete-batch"), body, CALL_LIMIT)).await?;
    }
    Ok(())
}

async fn fetch(
    view: &IndexView,
    node: &Node,
    shard: ShardId,
    offset: usize,
) -> Result<Vec<Box<RawValue>>, NodeError> {
    let has_embedders = view
        .record
        .settings
        .get("embedders")
        .and_then(|all| all.as_object())
        .is_some_and(|all| !all.is_empty());
    let body = json!({
        "filter": shard_filter([shard]),
        "sort": [format!("{INSERTED_AT_FIELD}:asc")],
        "offset": offset,
        "limit": DOCUMENTS_PER_PAGE,
        "retrieveVectors": has_embedders,
    });
    let path = format!("/indexes/{}/documents/fetch", encode(&view.record.uid));
    Ok(node.fetch::<Page>(&Call::post(path, body.to_string(), CALL_LIMIT)).await?.results)
}

/// The id of a document and a hash of its content, the same whatever the order of its fields.
fn identify(document: &RawValue, primary_key: &str) -> Option<(String, u128)> {
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(document.get()).ok()?;
    let whole: serde_json::Value = serde_json::from_str(document.get()).ok()?;
    let value = whole
        .get(primary_key)
        .or_else(|| primary_key.split('.').try_fold(&whole, |value, segment| value.get(segment)))?;
    let id = match value {
        serde_json::Value::String(id) => id.trim().to_owned(),
        serde_json::Value::Number(id) => id.to_string(),
        _ => return None,
    };
    let mut canonical = Vec::with_capacity(document.get().len());
    for (name, value) in &fields {
        canonical.extend_from_slice(name.as_bytes());
        canonical.push(0);
        canonical.extend_from_slice(value.get().as_bytes());
        canonical.push(0);
    }
    Some((id, xxh3_128(&canonical)))
}
