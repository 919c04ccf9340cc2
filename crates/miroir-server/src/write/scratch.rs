//! A scratch index: documents are put aside on one node, a function is applied to them there, and they are read back.
//!
//! So a function sees documents as their author wrote them, without Miroir's fields, which it could lose or show. What
//! it did is known before anything of it is done, once for all copies, and may be found out as often as it takes.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use miroir_core::documents::Edition;
use miroir_node::{Call, Node, NodeAnswer, NodeError, NodeTaskStatus};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::replicas::node_tasks::{Enqueued, carry_out, enqueue, wait_for, wait_for_end};
use crate::write::operation::encode;

/// What the names of scratch indexes begin with.
const PREFIX: &str = "_miroir_edit_";
/// An index that no node has.
pub(crate) const NOWHERE: &str = "_miroir_nowhere";
const CALL_LIMIT: Duration = Duration::from_secs(60);
const TASK_LIMIT: Duration = Duration::from_secs(3_600);
/// Documents read and written at once.
pub(super) const PAGE: usize = 500;
/// Pages that the node may have queued.
const MOST_QUEUED: usize = 16;

/// Whether an index on a node is a scratch index. None is in use on a node that is not in service.
pub(crate) fn is_scratch(uid: &str) -> bool {
    uid.starts_with(PREFIX)
}

/// A name for a scratch index that nothing else has.
pub(super) fn new_name() -> String {
    format!("{PREFIX}{}", uuid::Uuid::new_v4().simple())
}

/// A page of documents.
#[derive(Deserialize)]
pub(super) struct Page {
    /// The documents.
    pub results: Vec<Box<RawValue>>,
}

/// A scratch index on a node.
pub(super) struct Scratch<'a> {
    /// The node.
    pub node: &'a Arc<Node>,
    /// Its name.
    pub uid: &'a str,
}

impl Scratch<'_> {
    /// Makes it, empty, with nothing to search by: documents only pass through.
    pub async fn make(&self, primary_key: &str) -> Result<(), NodeError> {
        self.drop().await?;
        let index = json!({ "uid": self.uid, "primaryKey": primary_key }).to_string();
        enqueue(self.node, &Call::post("/indexes", index, CALL_LIMIT)).await?;
        let settings = json!({
            "searchableAttributes": [], "proximityPrecision": "byAttribute", "facetSearch": false,
            "prefixSearch": "disabled",
        });
        let call = Call::new(Method::PATCH, format!("{}/settings", self.path()), CALL_LIMIT);
        carry_out(self.node, &call.json(settings.to_string()), TASK_LIMIT).await?;
        Ok(())
    }

    /// Takes it off the node, if it is there.
    pub async fn drop(&self) -> Result<(), NodeError> {
        let task = enqueue(self.node, &Call::new(Method::DELETE, self.path(), CALL_LIMIT)).await?;
        wait_for_end(self.node, task, TASK_LIMIT).await?;
        Ok(())
    }

    /// Puts documents in. `queued` are the node's tasks that do so, of which the last ones may not have ended.
    pub async fn put(&self, documents: Vec<u8>, queued: &mut Vec<u64>) -> Result<(), NodeError> {
        let call = Call::post(format!("{}/documents", self.path()), documents, CALL_LIMIT);
        queued.push(enqueue(self.node, &call).await?);
        if let Some(earlier) = queued.len().checked_sub(MOST_QUEUED).and_then(|place| queued.get(place)) {
            wait_for(self.node, *earlier, TASK_LIMIT).await?;
        }
        Ok(())
    }

    /// Applies a function to all documents. `Err` within is what Meilisearch says of it.
    pub async fn edit(
        &self,
        function: &str,
        context: &Value,
        queued: &[u64],
    ) -> Result<Result<(), Value>, NodeError> {
        for task in queued.iter().rev().take(MOST_QUEUED) {
            wait_for(self.node, *task, TASK_LIMIT).await?;
        }
        let body = json!({ "function": function, "context": context }).to_string();
        let call = Call::post(format!("{}/documents/edit", self.path()), body, CALL_LIMIT);
        let answer = self.node.send(&call).await?;
        if answer.status.is_client_error() {
            return Ok(Err(serde_json::from_slice(&answer.body).unwrap_or_default()));
        }
        let enqueued: Enqueued = serde_json::from_slice(&answer.body)
            .map_err(|error| self.node.unintelligible(error.to_string()))?;
        let state = wait_for_end(self.node, enqueued.task_uid, TASK_LIMIT).await?;
        Ok(match state.status {
            NodeTaskStatus::Succeeded => Ok(()),
            _ => Err(state.error.unwrap_or_default()),
        })
    }

    /// Reads all documents back, until there are too many bytes of changed ones: then `false`.
    pub async fn read_back(&self, edition: &mut Edition<'_>, most_bytes: usize) -> Result<bool, NodeError> {
        let mut offset = 0;
        loop {
            let page = read_page(self.node, self.uid, json!({}), offset).await?;
            let page = page.map_err(|answer| {
                self.node.unintelligible(format!("a scratch index was refused with status {}", answer.status))
            })?;
            let bytes = edition.take(&page.results);
            if bytes.map_err(|error| self.node.unintelligible(error.to_string()))? > most_bytes {
                return Ok(false);
            }
            if page.results.len() < PAGE {
                return Ok(true);
            }
            offset += PAGE;
        }
    }

    fn path(&self) -> String {
        format!("/indexes/{}", encode(self.uid))
    }
}

/// A page of an index's documents as they are stored, vectors and all. `Err` within is what the node finds wrong with
/// the question.
pub(super) async fn read_page(
    node: &Node,
    uid: &str,
    mut body: Value,
    offset: usize,
) -> Result<Result<Page, NodeAnswer>, NodeError> {
    body["offset"] = offset.into();
    body["limit"] = PAGE.into();
    body["retrieveVectors"] = true.into();
    let path = format!("/indexes/{}/documents/fetch", encode(uid));
    let answer = node.send_trusted(&Call::post(path, body.to_string(), CALL_LIMIT)).await?;
    if !answer.status.is_success() {
        return Ok(Err(answer));
    }
    let page = serde_json::from_slice(&answer.body);
    page.map(Ok).map_err(|error| node.unintelligible(error.to_string()))
}
