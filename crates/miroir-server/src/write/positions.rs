//! The insertion position of each document: new documents get the next one, known documents keep theirs.
//!
//! One Meilisearch breaks ties by internal document id, which a document keeps when it is replaced or updated.
//! So before documents are sent, the nodes are asked which of the ids they hold and where those stand. Writes
//! that were sent but not yet applied are not visible there; for as long as they are on their way their
//! outcome is remembered here.

use std::collections::{HashMap, HashSet};

use miroir_core::documents::{Fields, stored_id, stored_position};
use miroir_core::error::ApiError;
use miroir_core::hidden::INSERTED_AT_FIELD;
use miroir_core::shard::{ShardId, shard_of};
use miroir_node::Call;
use serde::Deserialize;
use serde_json::json;
use xxhash_rust::xxh3::xxh3_128;

use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::read::{Reading, shard_unavailable};
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
    /// Hashes of every id that the index ever had, as long as that is known: since it was empty, in this life of
    /// the process. An id that is not among them is new, without asking; loading an index asks for nothing then.
    every_id: Option<HashSet<u64>>,
    /// Tasks of an earlier life of this process, whose outcomes are not remembered.
    pub(crate) unknown: Vec<u64>,
}

/// Ids that are remembered at most, in about 16 bytes each.
const MOST_REMEMBERED_IDS: usize = 2_000_000;
/// More documents than this on their way make the next write wait.
pub const MOST_PENDING_DOCUMENTS: usize = 4_000_000;

impl PendingWrites {
    /// How many documents are on their way.
    pub fn len(&self) -> usize {
        self.fates.len()
    }

    /// Whether nothing is on its way that could change which documents there are.
    pub fn is_empty(&self) -> bool {
        self.fates.is_empty() && self.unknown.is_empty() && self.cleared_by.is_none()
    }

    /// The index has no documents: from here on, every id is known.
    pub fn begin_anew(&mut self) {
        self.every_id = Some(HashSet::new());
    }

    /// Remembers where a task puts documents.
    pub fn placed<'a>(&mut self, task: u64, documents: impl Iterator<Item = (&'a str, u64)>) {
        for (id, position) in documents {
            let key = key(id);
            self.fates.insert(key, (Fate::At(position), task));
            if let Some(ids) = &mut self.every_id {
                ids.insert(short(key));
            }
        }
        if self.every_id.as_ref().is_some_and(|ids| ids.len() > MOST_REMEMBERED_IDS) {
            self.every_id = None;
        }
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

    /// Forgets tasks that have reached their end: nodes can be asked again.
    pub fn finished(&mut self, tasks: &[u64]) {
        self.fates.retain(|_, (_, writer)| !tasks.contains(writer));
        self.unknown.retain(|unknown| !tasks.contains(unknown));
        self.cleared_by = self.cleared_by.filter(|task| !tasks.contains(task));
        if self.fates.is_empty() {
            self.fates.shrink_to_fit();
        }
    }

    fn fate(&self, id: &str) -> Option<Fate> {
        let key = key(id);
        let known = self.fates.get(&key).map(|(fate, _)| *fate);
        let is_new = self.every_id.as_ref().is_some_and(|ids| !ids.contains(&short(key)));
        known.or((is_new || self.cleared_by.is_some()).then_some(Fate::Gone))
    }
}

fn key(id: &str) -> u128 {
    xxh3_128(id.as_bytes())
}

fn short(key: u128) -> u64 {
    // The half that is cut off is as random as the one that stays.
    key as u64
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    results: Vec<Fields<'a>>,
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
    ) -> Result<HashMap<String, u64>, ApiError> {
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
        // Before the first write has been applied, all there is to know is on its way.
        if to_ask.is_empty() || index.record.settings_version == 0 {
            return Ok(known);
        }
        let path = format!("/indexes/{}/documents/fetch", encode(&index.record.node_uid));
        let limit = self.config.node_timeout;
        let gathered = self
            .gather(index, &Reading::with_limit(limit), |ask| {
                let ids: Vec<&str> =
                    ask.part.shards.iter().filter_map(|shard| to_ask.get(shard)).flatten().copied().collect();
                let body = |some: &[&str]| {
                    json!({ "ids": some, "fields": [primary_key, INSERTED_AT_FIELD], "limit": some.len() })
                };
                ids.chunks(IDS_PER_REQUEST)
                    .map(|some| Call::post(path.clone(), body(some).to_string(), limit))
                    .collect()
            })
            .await?;
        // A known document must not be taken for a new one because nobody could be asked.
        let unknown: Vec<ShardId> =
            gathered.missing.iter().filter(|shard| to_ask.contains_key(shard)).copied().collect();
        if !unknown.is_empty() {
            return Err(shard_unavailable(&unknown));
        }
        for body in gathered.bodies(self, index)?.iter().flatten() {
            let page: Page = serde_json::from_slice(body).map_err(|error| {
                ApiError::internal(format!("A node's answer cannot be understood: {error}."))
            })?;
            let position =
                |fields: &Fields<'_>| Some((stored_id(fields, primary_key)?, stored_position(fields)?));
            known.extend(page.results.iter().filter_map(position));
        }
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_is_known_until_it_is_applied() {
        let mut pending = PendingWrites::default();
        pending.placed(1, [("a", 7)].into_iter());
        pending.deleted(2, ["b"].into_iter());
        assert_eq!(pending.fate("a"), Some(Fate::At(7)));
        assert_eq!(pending.fate("b"), Some(Fate::Gone));
        assert_eq!(pending.fate("c"), None, "only the nodes know");
        pending.placed(3, [("a", 9)].into_iter());
        pending.finished(&[1, 2]);
        assert_eq!(pending.fate("a"), Some(Fate::At(9)), "a later write is still on its way");
        assert_eq!(pending.fate("b"), None);
        pending.cleared(4);
        assert_eq!(pending.fate("c"), Some(Fate::Gone));
        pending.finished(&[4]);
        assert_eq!(pending.fate("c"), None);
    }

    #[test]
    fn an_id_is_new_without_asking_only_if_the_index_never_had_it() {
        let mut pending = PendingWrites::default();
        pending.begin_anew();
        pending.placed(1, [("a", 0)].into_iter());
        pending.finished(&[1]);
        assert_eq!(pending.fate("b"), Some(Fate::Gone));
        assert_eq!(pending.fate("a"), None, "it may have been deleted since");
        pending.every_id = None;
        assert_eq!(pending.fate("b"), None);
    }
}
