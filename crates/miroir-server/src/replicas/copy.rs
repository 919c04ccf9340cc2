//! Making a replica equal to an active one: the documents that differ are copied, those that are too many removed.
//!
//! Copies are whole documents, stamps included, so a copied document is as good as one written. Only what differs
//! is sent, in bodies of a few megabytes that the node may batch.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use miroir_core::documents::{Fields, stored_id};
use miroir_node::{Call, Node, NodeError};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::holdings::{Compare, Difference, Selection, difference, has_embedders, holdings};
use super::node_tasks::{enqueue, wait_for};
use crate::index::IndexView;
use crate::write::encode;

const CALL_LIMIT: Duration = Duration::from_secs(30);
const TASK_LIMIT: Duration = Duration::from_secs(600);
/// Documents read at once, before it is known how long they are, and at most.
const FIRST_PAGE: usize = 50;
const LONGEST_PAGE: usize = 2_000;
const IDS_PER_DELETION: usize = 10_000;
/// A body is sent once it is this long.
const BODY_BYTES: usize = 4 * 1024 * 1024;
/// Bodies that a node may have queued; more would only fill its disk.
const MOST_QUEUED: usize = 16;

#[derive(Deserialize)]
struct Page {
    results: Vec<Box<RawValue>>,
}

/// A node whose documents are made those of others.
pub(crate) struct Copy<'a> {
    /// The index, as it was when the copy began.
    pub index: &'a IndexView,
    /// The node.
    pub target: &'a Arc<Node>,
}

/// A document to copy, and from where.
pub(crate) type Wanted = (Arc<Node>, String);

impl Copy<'_> {
    /// What the target must change to hold what a source does.
    pub async fn difference(
        &self,
        source: &Arc<Node>,
        selection: &Selection,
        compare: Compare,
    ) -> Result<Difference, NodeError> {
        let (source, target) = futures_util::future::join(
            holdings(source, self.index, selection, compare),
            holdings(self.target, self.index, selection, compare),
        )
        .await;
        Ok(difference(&source?, target?, compare))
    }

    /// Has documents copied in the order given, because a node numbers them as they come. One that its source no
    /// longer has is left out. `go_on` is told how many were read, and may say that no more is to be sent. Returns the
    /// tasks of the target, to be waited for: what a node has queued together it does together.
    pub async fn copy(
        &self,
        mut wanted: &[Wanted],
        mut go_on: impl FnMut(usize) -> bool,
    ) -> Result<Vec<u64>, NodeError> {
        let mut tasks = Vec::new();
        let mut body: Vec<u8> = Vec::new();
        let mut page_length = FIRST_PAGE;
        while !wanted.is_empty() {
            let (page, rest) = wanted.split_at(page_length.min(wanted.len()));
            wanted = rest;
            let documents = self.read(page).await?;
            if !go_on(page.len()) {
                return Ok(tasks);
            }
            let bytes: usize = documents.iter().map(|document| document.get().len()).sum();
            // As many as make a body, whatever their size.
            page_length = (BODY_BYTES * page.len() / bytes.max(1)).clamp(1, LONGEST_PAGE);
            for document in documents {
                let document = document.get().as_bytes();
                if body.len() + document.len() > BODY_BYTES {
                    self.send(&mut body, &mut tasks).await?;
                }
                body.push(if body.is_empty() { b'[' } else { b',' });
                body.extend_from_slice(document);
            }
        }
        self.send(&mut body, &mut tasks).await?;
        Ok(tasks)
    }

    /// Waits until the target has carried out its tasks.
    pub async fn wait(&self, tasks: &[u64]) -> Result<(), NodeError> {
        for task in tasks {
            wait_for(self.target, *task, TASK_LIMIT).await?;
        }
        Ok(())
    }

    /// Sends what there is, if anything, and waits while the node has too much to do.
    async fn send(&self, body: &mut Vec<u8>, tasks: &mut Vec<u64>) -> Result<(), NodeError> {
        if body.is_empty() {
            return Ok(());
        }
        body.push(b']');
        let path = format!("/indexes/{}/documents", encode(&self.index.record.node_uid));
        tasks.push(enqueue(self.target, &Call::post(path, std::mem::take(body), CALL_LIMIT)).await?);
        if let Some(earlier) = tasks.len().checked_sub(MOST_QUEUED).and_then(|place| tasks.get(place)) {
            wait_for(self.target, *earlier, TASK_LIMIT).await?;
        }
        Ok(())
    }

    /// Whole documents from their sources, in the order given.
    async fn read(&self, wanted: &[Wanted]) -> Result<Vec<Box<RawValue>>, NodeError> {
        let Some(primary_key) = &self.index.record.primary_key else { return Ok(Vec::new()) };
        let mut by_source: BTreeMap<&str, (&Arc<Node>, Vec<&str>)> = BTreeMap::new();
        for (source, id) in wanted {
            by_source.entry(source.id().as_str()).or_insert((source, Vec::new())).1.push(id);
        }
        let path = format!("/indexes/{}/documents/fetch", encode(&self.index.record.node_uid));
        let mut found: HashMap<String, Box<RawValue>> = HashMap::new();
        for (source, ids) in by_source.into_values() {
            let body = json!({
                "ids": ids, "limit": ids.len(), "retrieveVectors": has_embedders(self.index)
            });
            let page: Page =
                source.fetch_trusted(&Call::post(path.clone(), body.to_string(), CALL_LIMIT)).await?;
            for document in page.results {
                let fields: Fields<'_> = serde_json::from_str(document.get())
                    .map_err(|error| source.unintelligible(error.to_string()))?;
                let id = stored_id(&fields, primary_key);
                drop(fields);
                found.extend(id.map(|id| (id, document)));
            }
        }
        Ok(wanted.iter().filter_map(|(_, id)| found.remove(id)).collect())
    }

    /// Has documents removed from the target. Returns its tasks, to be waited for.
    pub async fn remove(&self, ids: &[String]) -> Result<Vec<u64>, NodeError> {
        let path = format!("/indexes/{}/documents/delete-batch", encode(&self.index.record.node_uid));
        let mut tasks = Vec::new();
        for some in ids.chunks(IDS_PER_DELETION) {
            let call = Call::post(path.clone(), json!(some).to_string(), CALL_LIMIT);
            tasks.push(enqueue(self.target, &call).await?);
        }
        Ok(tasks)
    }
}
