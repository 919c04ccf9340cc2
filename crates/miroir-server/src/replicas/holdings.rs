//! What a node holds: each document's id, version and place, read in pages.
//!
//! Comparing by the write that last changed a document reads two small fields of each; comparing by content reads
//! everything, and is for replicas of which it is not known how they came to be what they are.

use std::collections::HashMap;
use std::time::Duration;

use miroir_core::documents::{Fields, stored_id, stored_position, stored_version};
use miroir_core::hidden::{INSERTED_AT_FIELD, UPDATED_AT_FIELD, encode_position, shard_filter};
use miroir_core::reconcile::Version;
use miroir_core::shard::ShardId;
use miroir_node::{Call, Node, NodeError};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::index::IndexView;
use crate::write::encode;

const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Documents on a page of ids and stamps, about 100 bytes each.
const STAMPS_PER_PAGE: usize = 10_000;
/// Documents on a page of whole ones.
const DOCUMENTS_PER_PAGE: usize = 500;

/// How documents are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    /// By the write that last changed them.
    ByWrite,
    /// By everything in them.
    ByContent,
}

/// What is known of one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// Which version of it.
    pub version: Version,
    /// Its place in the order of insertion.
    pub position: Option<u64>,
}

/// Document id to what is held.
pub(crate) type Holdings = HashMap<String, Held>;

/// Positions read at once by who goes through everything in the order of insertion.
const POSITIONS_AT_ONCE: u64 = 200_000;

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    results: Vec<Fields<'a>>,
}

/// Which documents are meant, as the fields of a request that say so.
#[derive(Debug, PartialEq)]
pub(crate) struct Selection(Map<String, Value>);

impl Selection {
    fn filter(filter: String) -> Self {
        Self(Map::from_iter([("filter".to_owned(), filter.into())]))
    }

    /// Everything in these shards.
    pub fn shards(shards: &[ShardId]) -> Self {
        Self::filter(shard_filter(shards.iter().copied()))
    }

    /// Of these, only the documents with some ids.
    pub fn among<S: AsRef<str>>(mut self, ids: &[S]) -> Self {
        let ids: Vec<&str> = ids.iter().map(AsRef::as_ref).collect();
        self.0.insert("ids".to_owned(), json!(ids));
        self
    }

    /// The same, cut into parts that follow each other in the order of insertion.
    pub fn in_order(shards: &[ShardId], next_position: u64) -> Vec<Self> {
        let everything = shard_filter(shards.iter().copied());
        if next_position <= POSITIONS_AT_ONCE {
            return vec![Self::filter(everything)];
        }
        let part = |first: u64| {
            let end = first + POSITIONS_AT_ONCE;
            let from = format!("{INSERTED_AT_FIELD} >= \"{}\"", encode_position(first));
            // The last part has no end: a node may hold what is left of an index that was larger.
            let range = match end < next_position {
                true => format!("{from} AND {INSERTED_AT_FIELD} < \"{}\"", encode_position(end)),
                false => from,
            };
            // What has no place is somebody else's, and must be seen once as well.
            let or_placeless =
                if first == 0 { format!(" OR {INSERTED_AT_FIELD} NOT EXISTS") } else { String::new() };
            Self::filter(format!("{everything} AND ({range}{or_placeless})"))
        };
        (0..next_position).step_by(POSITIONS_AT_ONCE as usize).map(part).collect()
    }

    /// What belongs to none of the shards that are placed on a node: not written there through Miroir, or left of
    /// another index of the same name.
    pub fn strays(placed: &[ShardId]) -> Self {
        Self::filter(format!("NOT {}", shard_filter(placed.iter().copied())))
    }
}

/// Reads what a node holds. While documents are being deleted there, some of the others may be missed: pages are
/// counted off.
pub(crate) async fn holdings(
    node: &Node,
    index: &IndexView,
    selection: &Selection,
    compare: Compare,
) -> Result<Holdings, NodeError> {
    let mut holdings = Holdings::new();
    let Some(primary_key) = &index.record.primary_key else { return Ok(holdings) };
    let path = format!("/indexes/{}/documents/fetch", encode(&index.record.node_uid));
    let mut offset = 0;
    loop {
        let (mut body, page_length) = match compare {
            Compare::ByWrite => {
                let fields = [primary_key.as_str(), UPDATED_AT_FIELD, INSERTED_AT_FIELD];
                (json!({ "fields": fields }), STAMPS_PER_PAGE)
            }
            Compare::ByContent => (json!({ "retrieveVectors": has_embedders(index) }), DOCUMENTS_PER_PAGE),
        };
        body["offset"] = offset.into();
        body["limit"] = page_length.into();
        for (field, value) in &selection.0 {
            body[field] = value.clone();
        }
        let answer = node.send_trusted(&Call::post(path.clone(), body.to_string(), CALL_LIMIT)).await?;
        if !answer.status.is_success() {
            let said = String::from_utf8_lossy(&answer.body);
            return Err(node.unintelligible(format!("its documents cannot be read: {said}")));
        }
        let page: Page<'_> =
            serde_json::from_slice(&answer.body).map_err(|error| node.unintelligible(error.to_string()))?;
        let read = page.results.len();
        holdings.extend(
            page.results.iter().filter_map(|fields| Some((stored_id(fields, primary_key)?, held(fields)))),
        );
        offset += read;
        if read < page_length {
            return Ok(holdings);
        }
    }
}

fn held(fields: &Fields<'_>) -> Held {
    Held { version: stored_version(fields), position: stored_position(fields) }
}

/// Whether documents have vectors that must be asked for.
pub(crate) fn has_embedders(index: &IndexView) -> bool {
    let embedders = index.record.settings.get("embedders").and_then(|all| all.as_object());
    embedders.is_some_and(|all| !all.is_empty())
}

/// What a replica lacks, or has too much, compared with another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Documents that are missing or of another version, with their places.
    pub to_copy: Vec<(Option<u64>, String)>,
    /// Documents that the other does not have.
    pub to_remove: Vec<String>,
}

/// What a target must change to hold what the source does. A document without a stamp is never taken for equal
/// where only stamps were read.
pub(crate) fn difference(source: &Holdings, mut target: Holdings, compare: Compare) -> Difference {
    let mut to_copy = Vec::new();
    for (id, held) in source {
        let is_equal = target.remove(id) == Some(*held);
        let is_telling = compare == Compare::ByContent || held.version.write.is_some();
        if !is_equal || !is_telling {
            to_copy.push((held.position, id.clone()));
        }
    }
    Difference { to_copy, to_remove: target.into_keys().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_leave_nothing_out_at_either_end() {
        let parts: Vec<String> = Selection::in_order(&[ShardId(3)], 3 * POSITIONS_AT_ONCE)
            .into_iter()
            .map(|part| part.0["filter"].to_string())
            .collect();
        assert_eq!(parts.len(), 3);
        assert!(parts[0].contains("NOT EXISTS") && !parts[1].contains("NOT EXISTS"));
        assert_eq!(parts.iter().map(|part| part.contains(" < ")).collect::<Vec<_>>(), [true, true, false]);
        assert_eq!(Selection::in_order(&[ShardId(3)], 1).len(), 1);
    }

    #[test]
    fn the_difference_is_what_is_missing_other_or_too_much() {
        let held = |documents: &[(&str, Option<u64>)]| -> Holdings {
            let held = |write| Held { version: Version { write, content: 0 }, position: write };
            documents.iter().map(|(id, write)| ((*id).to_owned(), held(*write))).collect()
        };
        let source = held(&[("same", Some(1)), ("newer", Some(5)), ("missing", Some(2)), ("bare", None)]);
        let target = held(&[("same", Some(1)), ("newer", Some(3)), ("gone", Some(1)), ("bare", None)]);
        let mut found = difference(&source, target.clone(), Compare::ByWrite);
        found.to_copy.sort();
        let to_copy: Vec<&str> = found.to_copy.iter().map(|(_, id)| id.as_str()).collect();
        assert_eq!(to_copy, ["bare", "missing", "newer"], "in the order of insertion");
        assert_eq!(found.to_remove, ["gone"]);
        let found = difference(&source, target, Compare::ByContent);
        assert!(found.to_copy.iter().all(|(_, id)| id != "bare"), "its content was compared");
    }
}
