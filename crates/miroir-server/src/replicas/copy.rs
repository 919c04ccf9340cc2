//! Making a replica equal to an active one: the documents that differ are copied, those that are too many removed.
//!
//! Copies are whole documents, stamps included, so a copied document is as good as one written. Only what differs
//! is sent, in bodies of a few megabytes that the node may batch; it is waited for at the end.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use miroir_core::documents::{Fields, stored_id};
use miroir_node::{Call, Node, NodeError};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::holdings::{Compare, Difference, Selection, difference, has_embedders, holdings};
use super::node_tasks::{carry_out, enqueue, wait_for};
use crate::index::IndexView;
use crate::write::encode;

const CALL_LIMIT: Duration = Duration::from_secs(30);
const TASK_LIMIT: Duration = Duration::from_secs(600);
const DOCUMENTS_PER_PAGE: usize = 1_000;
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

    /// Copies documents in the order given, because a node numbers them as they come, and waits until they are
    /// there. One that its source no longer has is left out. Returns the last task of the target that it took.
    pub async fn copy(
        &self,
        wanted: &[Wanted],
        mut progress: impl FnMut(usize),
    ) -> Result<Option<u64>, NodeError> {
        let documents = format!("/indexes/{}/documents", encode(&self.index.record.uid));
        let mut queued = VecDeque::new();
        let mut body: Vec<u8> = Vec::new();
        let mut pages = wanted.chunks(DOCUMENTS_PER_PAGE).peekable();
        while let Some(page) = pages.next() {
            for document in self.read(page).await? {
                body.push(if body.is_empty() { b'[' } else { b',' });
                body.extend_from_slice(document.get().as_bytes());
            }
            progress(page.len());
            if !body.is_empty() && (body.len() >= BODY_BYTES || pages.peek().is_none()) {
                body.push(b']');
                let call = Call::post(documents.clone(), std::mem::take(&mut body), CALL_LIMIT);
                queued.push_back(enqueue(self.target, &call).await?);
            }
            if queued.len() > MOST_QUEUED
                && let Some(first) = queued.pop_front()
            {
                wait_for(self.target, first, TASK_LIMIT).await?;
            }
        }
        let last = queued.back().copied();
        for task in queued {
            wait_for(self.target, task, TASK_LIMIT).await?;
        }
        Ok(last)
    }

    /// Whole documents from their sources, in the order given.
    async fn read(&self, wanted: &[Wanted]) -> Result<Vec<Box<RawValue>>, NodeError> {
        let Some(primary_key) = &self.index.record.primary_key else { return Ok(Vec::new()) };
        let mut by_source: BTreeMap<&str, (&Arc<Node>, Vec<&str>)> = BTreeMap::new();
        for (source, id) in wanted {
            by_source.entry(source.id().as_str()).or_insert((source, Vec::new())).1.push(id);
        }
        let path = format!("/indexes/{}/documents/fetch", encode(&self.index.record.uid));
        let mut found: HashMap<String, Box<RawValue>> = HashMap::new();
        for (source, ids) in by_source.into_values() {
            let body = json!({
                "ids": ids, "limit": ids.len(), "retrieveVectors": has_embedders(self.index)
            });
            let page: Page = source.fetch(&Call::post(path.clone(), body.to_string(), CALL_LIMIT)).await?;
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

    /// Removes documents from the target and waits until they are gone. Returns the last task that it took.
    pub async fn remove(&self, ids: &[String]) -> Result<Option<u64>, NodeError> {
        let path = format!("/indexes/{}/documents/delete-batch", encode(&self.index.record.uid));
        let mut last = None;
        for some in ids.chunks(IDS_PER_DELETION) {
            let call = Call::post(path.clone(), json!(some).to_string(), CALL_LIMIT);
            last = Some(carry_out(self.target, &call, TASK_LIMIT).await?);
        }
        Ok(last)
    }
}
