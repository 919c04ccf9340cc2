//! The insertion position of each document: new documents get the next one, known documents keep theirs.
//!
//! One Meilisearch breaks ties by internal document id, which a document keeps when it is replaced or updated.
//! So before documents are sent, the nodes are asked which of the ids they hold and where those stand. Writes
//! that were sent but not yet applied are not visible there; for as long as they are on their way their
//! outcome is remembered here.

use std::collections::HashMap;

use miroir_core::hidden::{INSERTED_AT_FIELD, decode};
use miroir_core::shard::{ShardId, shard_of};
use miroir_node::{Call, NodeError};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::write::operation::encode;

/// What writes on their way will have done to a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    At(u64),
    Gone,
}

/// Outcomes of the writes of one index that nodes have taken and not yet applied. Ids are remembered by a
/// 128-bit hash: a million documents on their way cost about 40 MB.
#[derive(Debug, Default)]
pub struct PendingWrites {
    fates: HashMap<u128, (Fate, u64)>,
    cleared_by: Option<u64>,
    /// Tasks of an earlier life of this process, whose outcomes are not remembered.
    pub(crate) unknown: Vec<u64>,
}

/// More documents than this on their way make the next write wait.
pub const MOST_PENDING_DOCUMENTS: usize = 4_000_000;

impl PendingWrites {
    /// How many documents are on their way.
    pub fn len(&self) -> usize {
        self.fates.len()
    }

    /// Remembers where a task puts documents.
    pub fn placed<'a>(&mut self, task: u64, documents: impl Iterator<Item = (&'a str, u64)>) {
        self.fates.extend(documents.map(|(id, position)| (key(id), (Fate::At(position), task))));
    }

    /// Remembers that a task deletes documents.
    pub fn deleted<'a>(&mut self, task: u64, ids: impl Iterator<Item = &'a str>) {
        self.fates.extend(ids.map(|id| (key(id), (Fate::Gone, task))));
    }

    /// Remembers that a task deletes every document.
    pub fn cleared(&mut self, task: u64) {
        self.fates.clear();
        self.cleared_by = Some(task);
    }

    /// Forgets a task that has reached its end: nodes can be asked again.
    pub fn finished(&mut self, task: u64) {
        self.fates.retain(|_, (_, writer)| *writer != task);
        self.unknown.retain(|unknown| *unknown != task);
        if self.cleared_by == Some(task) {
            self.cleared_by = None;
        }
        if self.fates.is_empty() {
            self.fates.shrink_to_fit();
        }
    }

    /// The tasks something is remembered of.
    pub fn tasks(&self) -> Vec<u64> {
        let tasks: std::collections::BTreeSet<u64> = (self.fates.values().map(|(_, task)| *task))
            .chain(self.unknown.iter().copied())
            .chain(self.cleared_by)
            .collect();
        tasks.into_iter().collect()
    }

    fn fate(&self, id: &str) -> Option<Fate> {
        let known = self.fates.get(&key(id)).map(|(fate, _)| *fate);
        known.or(self.cleared_by.map(|_| Fate::Gone))
    }
}

fn key(id: &str) -> u128 {
    xxh3_128(id.as_bytes())
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    results: Vec<HashMap<String, &'a RawValue>>,
}

/// Ids asked for in one request.
const IDS_PER_REQUEST: usize = 5_000;

impl Cluster {
    /// Finds the positions of those of `ids` that the index already has.
    pub(crate) async fn known_positions(
        &self,
        index: &IndexView,
        primary_key: &str,
        pending: &PendingWrites,
        ids: impl Iterator<Item = &str>,
    ) -> Result<HashMap<String, u64>, NodeError> {
        let mut known = HashMap::new();
        if index.record.next_position == 0 {
            return Ok(known);
        }
        let mut to_ask: HashMap<ShardId, Vec<&str>> = HashMap::new();
        for id in ids {
            match pending.fate(id) {
                Some(Fate::At(position)) => {
                    known.insert(id.to_owned(), position);
                }
                Some(Fate::Gone) => {}
                None => to_ask.entry(shard_of(id, index.record.shards)).or_default().push(id),
            }
        }
        if to_ask.is_empty() {
            return Ok(known);
        }
        let cover =
            index.cover(&self.fleet, |node| self.fleet.get(node).is_some_and(|node| node.health().is_up()));
        let nodes: Vec<_> = self.fleet.iter().collect();
        let mut asks = Vec::new();
        for part in &cover.parts {
            let Some(node) = nodes.get(part.node) else { continue };
            let ids: Vec<&str> =
                part.shards.iter().filter_map(|shard| to_ask.get(shard)).flatten().copied().collect();
            for some in ids.chunks(IDS_PER_REQUEST) {
                // `ids` may be answered with copies of shards this node is not asked for; they agree anyway.
                let body =
                    json!({ "ids": some, "fields": [primary_key, INSERTED_AT_FIELD], "limit": some.len() });
                let path = format!("/indexes/{}/documents/fetch", encode(&index.record.uid));
                let call = Call::post(path, body.to_string(), self.config.node_timeout * 4);
                asks.push(async move { (node, node.send(&call).await) });
            }
        }
        for (node, answer) in futures_util::future::join_all(asks).await {
            let answer = answer?;
            // The index may not have been created on the node yet: then it holds nothing.
            if answer.status == http::StatusCode::NOT_FOUND {
                continue;
            }
            let page: Page = serde_json::from_slice(&answer.body)
                .map_err(|error| node.unintelligible(error.to_string()))?;
            known.extend(page.results.iter().filter_map(|document| position_of(document, primary_key)));
        }
        Ok(known)
    }
}

fn position_of(document: &HashMap<String, &RawValue>, primary_key: &str) -> Option<(String, u64)> {
    let position: String = serde_json::from_str(document.get(INSERTED_AT_FIELD)?.get()).ok()?;
    // A nested primary key comes back nested.
    let mut segments = primary_key.split('.');
    let mut value: serde_json::Value = match document.get(primary_key) {
        Some(value) => serde_json::from_str(value.get()).ok()?,
        None => {
            let mut value: serde_json::Value =
                serde_json::from_str(document.get(segments.next()?)?.get()).ok()?;
            for segment in segments {
                value = value.get_mut(segment)?.take();
            }
            value
        }
    };
    let id = match value.take() {
        serde_json::Value::String(id) => id.trim().to_owned(),
        serde_json::Value::Number(id) => id.to_string(),
        _ => return None,
    };
    Some((id, decode(&position)?))
}
