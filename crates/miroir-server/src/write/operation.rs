//! What a write asks of each node: one operation, recorded before it is sent, turned into calls.
//!
//! An operation says everything needed to send it again after a crash. Sending one twice does no harm as long
//! as no later write of the same index was sent in between, which the index's queue sees to: creating what
//! exists and deleting what is gone fail on the node without effect, and the rest sets what is already set.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use miroir_core::documents::{DocumentBatch, StampedDocuments};
use miroir_core::replica::ReplicaState;
use miroir_core::shard::{ShardId, shard_of};
use miroir_node::{Call, CallBody};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What is asked of every node concerned. Its JSON form is what an intent holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "camelCase")]
pub enum Operation {
    /// Make an empty index with Miroir's part of the settings.
    CreateIndex {
        /// Primary key, when the client named one.
        primary_key: Option<String>,
        /// Body of the settings change that follows.
        settings: Value,
    },
    /// Change the primary key.
    UpdateIndex {
        /// The new primary key.
        primary_key: String,
    },
    /// Drop the index.
    DeleteIndex {
        /// What nodes call it, for its record is gone by then; its own name where none is given.
        #[serde(default)]
        node_uid: Option<String>,
    },
    /// Change settings, in the form nodes take.
    ChangeSettings {
        /// Set when the index does not exist yet.
        create: Option<Value>,
        /// HTTP method.
        method: String,
        /// Path after `/indexes/{uid}/settings`.
        suffix: String,
        /// JSON body.
        body: Option<String>,
    },
    /// Add or update documents; they are the intent's payload.
    AddDocuments {
        /// Set when the index does not exist yet.
        create: Option<Value>,
        /// Fields that are not given keep their value (`PUT`).
        update: bool,
        /// The index's primary key, always named so that nodes cannot infer different ones.
        primary_key: Option<String>,
        /// The index had no primary key before.
        #[serde(default)]
        settles_key: bool,
    },
    /// Replace documents, which are the intent's payload, and delete others: what a function did to them.
    EditDocuments {
        /// The index's primary key.
        primary_key: String,
        /// Ids of those to delete.
        dropped: Vec<String>,
        /// Set when the first documents are deleted on some nodes.
        tie_break: Option<TieBreak>,
    },
    /// Delete documents by id.
    DeleteDocuments {
        /// The ids.
        ids: Vec<String>,
        /// Set when the first documents are deleted on some nodes.
        tie_break: Option<TieBreak>,
    },
    /// Delete the documents that a filter selects.
    DeleteByFilter {
        /// The filter, as the client gave it.
        filter: Value,
        /// Set when the first documents are deleted on some nodes.
        tie_break: Option<TieBreak>,
    },
    /// Delete all documents.
    ClearDocuments,
}

/// What nodes must be told before a document is deleted there for the first time: from then on their own order of
/// documents is not that of insertion any more.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TieBreak {
    /// The nodes concerned.
    pub nodes: Vec<String>,
    /// Their ranking rules from then on.
    pub ranking_rules: Value,
}

/// Documents to send, and where they come from.
#[derive(Clone)]
pub enum Payload {
    /// The operation has none.
    None,
    /// Straight from the request.
    Batch(Arc<DocumentBatch>),
    /// Read back from an intent.
    Stored(StampedDocuments),
}

impl Payload {
    /// At most how many bytes it is, to any node.
    fn bytes_at_most(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Batch(batch) => batch.stamped_bytes_at_most(),
            Self::Stored(documents) => documents.bytes(),
        }
    }

    /// The documents of the wanted shards, in the order they came in.
    pub fn chunks(&self, wanted: Arc<[bool]>) -> Box<dyn Iterator<Item = Bytes> + Send> {
        let is_wanted = move |shard: ShardId| wanted.get(usize::from(shard.0)).copied().unwrap_or(false);
        match self {
            Self::None => Box::new(std::iter::empty()),
            Self::Batch(batch) => Box::new(batch.chunks(is_wanted)),
            Self::Stored(documents) => Box::new(documents.chunks(is_wanted)),
        }
    }
}

/// Meilisearch refuses bodies above 100 MB by default; ours grow by the hidden fields, so they are cut well below.
const LARGEST_NODE_BODY: usize = 48 * 1024 * 1024;
/// Slowest upload put up with, in bytes a second.
const SLOWEST_UPLOAD: usize = 1024 * 1024;

impl Operation {
    /// The calls for one node, in order. `shards` are the shards of the index placed on that node; `limit` is
    /// how long it may take to queue something small.
    pub fn calls(
        &self,
        uid: &str,
        node: &str,
        shard_count: u16,
        shards: &[ShardId],
        payload: &Payload,
        limit: Duration,
    ) -> Vec<Call> {
        let index = format!("/indexes/{}", encode(uid));
        let call = |method, path: String| Call::new(method, path, limit);
        let post = |path: String, body: Value| call(Method::POST, path).json(body.to_string());
        let break_ties = |tie_break: &Option<TieBreak>, node: &str| {
            let needed = tie_break.as_ref().filter(|needed| needed.nodes.iter().any(|name| name == node));
            let path = format!("{index}/settings/ranking-rules");
            needed.map(|needed| call(Method::PUT, path).json(needed.ranking_rules.to_string())).into_iter()
        };
        match self {
            Self::CreateIndex { primary_key, settings } => {
                create(uid, primary_key.as_deref(), settings, limit)
            }
            Self::UpdateIndex { primary_key } => {
                vec![call(Method::PATCH, index).json(json!({ "primaryKey": primary_key }).to_string())]
            }
            Self::DeleteIndex { .. } => vec![call(Method::DELETE, index)],
            Self::ChangeSettings { create: new_settings, method, suffix, body } => {
                let mut calls =
                    new_settings.as_ref().map_or(Vec::new(), |settings| create(uid, None, settings, limit));
                let method = Method::from_bytes(method.as_bytes()).unwrap_or(Method::PATCH);
                let change = call(method, format!("{index}/settings{suffix}"));
                calls.push(match body {
                    Some(body) => change.json(body.clone()),
                    None => change,
                });
                calls
            }
            Self::AddDocuments { create: new_settings, update, primary_key, .. } => {
                let mut calls = new_settings
                    .as_ref()
                    .map_or(Vec::new(), |settings| create(uid, primary_key.as_deref(), settings, limit));
                let method = if *update { Method::PUT } else { Method::POST };
                let query =
                    primary_key.as_ref().map_or(String::new(), |key| format!("?primaryKey={}", encode(key)));
                let path = format!("{index}/documents{query}");
                let wanted = wanted_shards(shard_count, shards);
                calls.extend(document_bodies(payload, &wanted).into_iter().map(|(body, bytes)| Call {
                    method: method.clone(),
                    path: path.clone(),
                    body,
                    limit: limit + Duration::from_secs((bytes / SLOWEST_UPLOAD) as u64),
                }));
                calls
            }
            Self::EditDocuments { primary_key, dropped, tie_break } => {
                let path = format!("{index}/documents?primaryKey={}", encode(primary_key));
                let wanted = wanted_shards(shard_count, shards);
                let replacement = document_bodies(payload, &wanted).into_iter().map(|(body, bytes)| Call {
                    method: Method::POST,
                    path: path.clone(),
                    body,
                    limit: limit + Duration::from_secs((bytes / SLOWEST_UPLOAD) as u64),
                });
                let mine: Vec<&String> =
                    dropped.iter().filter(|id| shards.contains(&shard_of(id, shard_count))).collect();
                let deletion =
                    (!mine.is_empty()).then(|| post(format!("{index}/documents/delete-batch"), json!(mine)));
                break_ties(tie_break, node).chain(replacement).chain(deletion).collect()
            }
            Self::DeleteDocuments { ids, tie_break } => {
                let mine: Vec<&String> =
                    ids.iter().filter(|id| shards.contains(&shard_of(id, shard_count))).collect();
                if mine.is_empty() {
                    return Vec::new();
                }
                let deletion = post(format!("{index}/documents/delete-batch"), json!(mine));
                break_ties(tie_break, node).chain([deletion]).collect()
            }
            Self::DeleteByFilter { filter, tie_break } => {
                let deletion = post(format!("{index}/documents/delete"), json!({ "filter": filter }));
                break_ties(tie_break, node).chain([deletion]).collect()
            }
            Self::ClearDocuments => vec![call(Method::DELETE, format!("{index}/documents"))],
        }
    }

    /// How many of the first calls only prepare: they make an empty index, or set a rule that does no harm.
    pub fn preparations(&self) -> usize {
        match self {
            Self::CreateIndex { .. } => 2,
            Self::ChangeSettings { create, .. } | Self::AddDocuments { create, .. } => {
                2 * usize::from(create.is_some())
            }
            Self::EditDocuments { tie_break, .. }
            | Self::DeleteDocuments { tie_break, .. }
            | Self::DeleteByFilter { tie_break, .. } => usize::from(tie_break.is_some()),
            Self::UpdateIndex { .. } | Self::DeleteIndex { .. } | Self::ClearDocuments => 0,
        }
    }

    /// The shards whose replicas must take this write.
    pub fn shards_concerned(&self, shard_count: u16, payload: &Payload) -> Vec<ShardId> {
        match (self, payload) {
            (Self::AddDocuments { create: None, .. }, Payload::Batch(batch)) => batch.shards(),
            (Self::AddDocuments { create: None, .. }, Payload::Stored(documents)) => documents.shards(),
            (Self::EditDocuments { dropped, .. }, _) => {
                let replaced = match payload {
                    Payload::None => Vec::new(),
                    Payload::Batch(batch) => batch.shards(),
                    Payload::Stored(documents) => documents.shards(),
                };
                let shards: std::collections::BTreeSet<ShardId> =
                    dropped.iter().map(|id| shard_of(id, shard_count)).chain(replaced).collect();
                shards.into_iter().collect()
            }
            (Self::DeleteDocuments { ids, .. }, _) => {
                let shards: std::collections::BTreeSet<ShardId> =
                    ids.iter().map(|id| shard_of(id, shard_count)).collect();
                shards.into_iter().collect()
            }
            _ => (0..shard_count).map(ShardId).collect(),
        }
    }

    /// Whether it makes the index.
    pub fn creates_index(&self) -> bool {
        match self {
            Self::CreateIndex { .. } => true,
            Self::ChangeSettings { create, .. } | Self::AddDocuments { create, .. } => create.is_some(),
            _ => false,
        }
    }

    /// What becomes of an active replica that missed it while another took it. One that missed the making of an
    /// index may hold what is left of another of the same name.
    pub fn state_of_missed(&self) -> ReplicaState {
        if self.creates_index() { ReplicaState::Joining } else { ReplicaState::Stale }
    }

    /// Whether nothing but the documents is changed by it, so that nodes which have not carried it out can be told not
    /// to, and be sent it once more.
    pub fn can_be_taken_back(&self) -> bool {
        match self {
            Self::AddDocuments { create, settles_key, .. } => create.is_none() && !settles_key,
            Self::DeleteDocuments { tie_break, .. } | Self::DeleteByFilter { tie_break, .. } => {
                tie_break.is_none()
            }
            Self::ClearDocuments => true,
            _ => false,
        }
    }

    /// Whether it adds documents to an index that is ready for them and changes nothing else, so that the next write need
    /// not wait for what nodes say of it: all that they could find wrong has been looked at before.
    pub fn only_adds(&self) -> bool {
        matches!(self, Self::AddDocuments { create: None, settles_key: false, .. })
    }

    /// Whether only a node can tell that it is right, so that one is asked before the others.
    pub fn only_a_node_can_judge(&self) -> bool {
        self.creates_index() || matches!(self, Self::ChangeSettings { .. } | Self::DeleteByFilter { .. })
    }
}

/// Percent-encodes a path segment or a query value.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn create(uid: &str, primary_key: Option<&str>, settings: &Value, limit: Duration) -> Vec<Call> {
    let index = json!({ "uid": uid, "primaryKey": primary_key });
    vec![
        Call::post("/indexes", index.to_string(), limit),
        Call::new(Method::PATCH, format!("/indexes/{}/settings", encode(uid)), limit)
            .json(settings.to_string()),
    ]
}

fn wanted_shards(shard_count: u16, shards: &[ShardId]) -> Arc<[bool]> {
    let mut wanted = vec![false; usize::from(shard_count)];
    for shard in shards {
        if let Some(slot) = wanted.get_mut(usize::from(shard.0)) {
            *slot = true;
        }
    }
    wanted.into()
}

/// The bodies that carry a node's documents, each with its size. Usually one.
fn document_bodies(payload: &Payload, wanted: &Arc<[bool]>) -> Vec<(CallBody, usize)> {
    let whole = payload.bytes_at_most();
    if payload.chunks(Arc::clone(wanted)).next().is_none() {
        return Vec::new();
    }
    if whole <= LARGEST_NODE_BODY {
        let (payload, wanted) = (payload.clone(), Arc::clone(wanted));
        return vec![(CallBody::Ndjson(Arc::new(move || payload.chunks(Arc::clone(&wanted)))), whole)];
    }
    let mut parts: Vec<(usize, usize, usize)> = Vec::new();
    let mut first = 0;
    let mut bytes = 0;
    let mut count = 0;
    for (position, chunk) in payload.chunks(Arc::clone(wanted)).enumerate() {
        if bytes > 0 && bytes + chunk.len() > LARGEST_NODE_BODY {
            parts.push((first, position - first, bytes));
            first = position;
            bytes = 0;
        }
        bytes += chunk.len();
        count = position + 1;
    }
    if bytes > 0 {
        parts.push((first, count - first, bytes));
    }
    let body = |(first, count, bytes)| {
        let (payload, wanted) = (payload.clone(), Arc::clone(wanted));
        let source = move || {
            let chunks = payload.chunks(Arc::clone(&wanted)).skip(first).take(count);
            Box::new(chunks) as Box<dyn Iterator<Item = Bytes> + Send>
        };
        (CallBody::Ndjson(Arc::new(source)), bytes)
    };
    parts.into_iter().map(body).collect()
}
