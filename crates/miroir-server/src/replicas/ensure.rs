//! What must be so before replicas can be compared: earlier writes applied, the index there with its settings.

use std::time::Duration;

use miroir_node::{Call, Node, NodeError};
use serde::Deserialize;
use serde_json::json;

use super::node_tasks::carry_out;
use super::settings::{APPLY_LIMIT, Agreed};
use crate::cluster::Cluster;
use crate::index::{Index, IndexView};
use crate::write::encode;

pub(super) const CALL_LIMIT: Duration = Duration::from_secs(30);
pub(super) const TASK_LIMIT: Duration = Duration::from_secs(600);
/// How long to wait until earlier writes have been applied.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_secs(60);
/// How long to wait for a turn among the writes.
pub(crate) const QUEUE_LIMIT: Duration = Duration::from_secs(60);
/// How long writes may be held up at a time.
pub(crate) const HOLD_LIMIT: Duration = Duration::from_secs(20);

/// Why a repair did not come to its end this time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepairError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Store(#[from] miroir_store::StoreError),
    #[error("{0}")]
    NotNow(String),
}

/// Copied documents stand in the order in which they were copied, so the node must go on breaking ties.
pub(crate) async fn note_disorder(
    cluster: &Cluster,
    index: &Index,
    target: &Node,
) -> Result<(), RepairError> {
    let name = target.id().to_string();
    let _recording = index.recording.lock().await;
    let Some(view) = index.view().filter(|view| !view.record.disordered.contains(&name)) else {
        return Ok(());
    };
    let mut record = view.record.clone();
    record.disordered.push(name);
    cluster.store.put_index(record.clone()).await?;
    index.set_view(Some(IndexView::new(record, view.exceptions.clone(), Some(&view))));
    Ok(())
}

/// Does something while no write of the index is on its way: what was accepted has been applied, and what comes waits,
/// for a bounded time. What the work had done when its time was over stays done.
pub(crate) async fn hold<T>(
    cluster: &Cluster,
    index: &Index,
    work: impl Future<Output = Result<T, RepairError>>,
) -> Result<T, RepairError> {
    drain(cluster, &index.uid).await?;
    let _queue = index.turn(QUEUE_LIMIT).await.map_err(RepairError::NotNow)?;
    let held = async {
        drain(cluster, &index.uid).await?;
        work.await
    };
    tokio::time::timeout(HOLD_LIMIT, held).await.unwrap_or_else(|_elapsed| {
        let limit = HOLD_LIMIT.as_secs();
        Err(RepairError::NotNow(format!("index `{}` would be held up for longer than {limit} s", index.uid)))
    })
}

/// Waits until every write of the index that has been accepted by now has been applied. Before the queue is held as
/// well as under it: a task may have to wait for a node that is away.
pub(crate) async fn drain(cluster: &Cluster, uid: &str) -> Result<(), RepairError> {
    let deadline = tokio::time::Instant::now() + DRAIN_LIMIT;
    let mut newest = None;
    loop {
        let finished = cluster.task_finished.notified();
        tokio::pin!(finished);
        finished.as_mut().enable();
        let unfinished = cluster.store.unfinished().await?;
        let mut open =
            unfinished.iter().filter(|task| task.index_uid.as_deref() == Some(uid)).map(|task| task.uid);
        let newest = *newest.get_or_insert_with(|| open.clone().max());
        if newest.is_none_or(|newest| !open.any(|task| task <= newest)) {
            return Ok(());
        }
        if tokio::time::timeout_at(deadline, finished).await.is_err() {
            return Err(RepairError::NotNow("earlier writes are still being applied".to_owned()));
        }
    }
}

/// What it took to have an index on a node as it should be.
#[derive(Debug, Default)]
pub(crate) struct Ensured {
    /// The tasks of the node.
    pub tasks: Vec<u64>,
    /// The index was made, or made anew.
    pub made: bool,
}

/// An index as a node describes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HeldIndex {
    /// The field that it has for its primary key, if it has one by now.
    pub primary_key: Option<String>,
}

/// Asks a node for its index of a name; `None` where it has none.
pub(crate) async fn held_index(target: &Node, uid: &str) -> Result<Option<HeldIndex>, NodeError> {
    let found = target.send(&Call::get(format!("/indexes/{}", encode(uid)), CALL_LIMIT)).await?;
    if !found.status.is_success() {
        return Ok(None);
    }
    serde_json::from_slice(&found.body).map(Some).map_err(|error| target.unintelligible(error.to_string()))
}

/// Makes sure that the index exists on the node, with the right primary key and settings.
pub(crate) async fn ensure_index(
    cluster: &Cluster,
    target: &Node,
    view: &IndexView,
) -> Result<Ensured, RepairError> {
    let mut ensured = Ensured::default();
    let uid = &view.record.node_uid;
    let path = format!("/indexes/{}", encode(uid));
    let key = view.record.primary_key.as_deref();
    let key_body = json!({ "uid": uid, "primaryKey": key }).to_string();
    let held = held_index(target, uid).await?.map(|held| held.primary_key);
    match held.as_ref().map(Option::as_deref) {
        None => {
            let call = Call::post("/indexes", key_body, CALL_LIMIT);
            ensured = Ensured { tasks: vec![carry_out(target, &call, TASK_LIMIT).await?], made: true };
        }
        Some(held_key) if held_key == key => {}
        Some(None) => {
            let body = json!({ "primaryKey": key }).to_string();
            let call = Call::new(http::Method::PATCH, path, CALL_LIMIT).json(body);
            ensured.tasks.push(carry_out(target, &call, TASK_LIMIT).await?);
        }
        Some(held_key) => {
            if view.is_read_on(target.id().as_str()) {
                return Err(RepairError::NotNow(format!("the index has the primary key {held_key:?} there")));
            }
            for call in [
                Call::new(http::Method::DELETE, path, CALL_LIMIT),
                Call::post("/indexes", key_body, CALL_LIMIT),
            ] {
                ensured.tasks.push(carry_out(target, &call, TASK_LIMIT).await?);
            }
            ensured.made = true;
        }
    }
    let agreed = Agreed {
        user: &view.record.settings,
        overlay: &view.record.overlay,
        needs: cluster.needs_of_one_behind(view),
        hash: &view.record.settings_hash,
    };
    ensured.tasks.extend(agreed.apply(target, uid, APPLY_LIMIT).await?);
    Ok(ensured)
}
