//! Making a replica equal to an active one: the documents that differ are copied, those that are too many removed.
//!
//! Copies are whole documents, stamps included, so a copied document is as good as one written. Only what differs
//! is sent, in bodies of a few megabytes that the node may batch; it is waited for at the end.

use std::sync::Arc;
use std::time::Duration;

use miroir_core::shard::ShardId;
use miroir_node::{Call, Node, NodeError};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::holdings::{Compare, Difference, difference, has_embedders, holdings};
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
struct Page<'a> {
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
}

/// One way documents travel.
pub(crate) struct Copy<'a> {
    /// The index, as it was when the copy began.
    pub index: &'a IndexView,
    /// From where; active for the shards concerned.
    pub source: &'a Arc<Node>,
    /// To where.
    pub target: &'a Arc<Node>,
}

impl Copy<'_> {
    /// What the target must change to hold what the source does.
    pub async fn difference(&self, shards: &[ShardId], compare: Compare) -> Result<Difference, NodeError> {
        let (source, target) = futures_util::future::join(
            holdings(self.source, self.index, shards, compare),
            holdings(self.target, self.index, shards, compare),
        )
        .await;
        Ok(difference(&source?, target?, compare))
    }

    /// Copies documents and waits until they are there. One that the source no longer has is left out. Returns the
    /// last task of the target that it took.
    pub async fn copy(
        &self,
        ids: &[String],
        mut progress: impl FnMut(usize),
    ) -> Result<Option<u64>, NodeError> {
        let documents = format!("/indexes/{}/documents", encode(&self.index.record.uid));
        let mut queued = Vec::new();
        let mut body: Vec<u8> = Vec::new();
        let mut pages = ids.chunks(DOCUMENTS_PER_PAGE).peekable();
        while let Some(page) = pages.next() {
            let request = json!({
                "ids": page, "limit": page.len(), "retrieveVectors": has_embedders(self.index)
            });
            let call = Call::post(format!("{documents}/fetch"), request.to_string(), CALL_LIMIT);
            let answer = self.source.send(&call).await?;
            let found: Page<'_> = serde_json::from_slice(&answer.body)
                .map_err(|error| self.source.unintelligible(error.to_string()))?;
            for document in found.results {
                body.push(if body.is_empty() { b'[' } else { b',' });
                body.extend_from_slice(document.get().as_bytes());
            }
            progress(page.len());
            if !body.is_empty() && (body.len() >= BODY_BYTES || pages.peek().is_none()) {
                body.push(b']');
                let call = Call::post(documents.clone(), std::mem::take(&mut body), CALL_LIMIT);
                queued.push(enqueue(self.target, &call).await?);
            }
            if queued.len() >= MOST_QUEUED {
                wait_for(self.target, queued.remove(0), TASK_LIMIT).await?;
            }
        }
        let last = queued.last().copied();
        for task in queued {
            wait_for(self.target, task, TASK_LIMIT).await?;
        }
        Ok(last)
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
