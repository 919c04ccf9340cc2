//! What a node holds of some shards: each document's id and version, read in pages.
//!
//! Comparing by the write that last changed a document reads two small fields of each; comparing by content reads
//! everything, and is for replicas of which it is not known how they came to be what they are.

use std::collections::HashMap;
use std::time::Duration;

use miroir_core::documents::{Fields, stored_id, stored_version};
use miroir_core::hidden::{UPDATED_AT_FIELD, shard_filter};
use miroir_core::reconcile::Version;
use miroir_core::shard::ShardId;
use miroir_node::{Call, Node, NodeError};
use serde::Deserialize;
use serde_json::json;

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

/// Document id to the version held.
pub(crate) type Holdings = HashMap<String, Version>;

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    results: Vec<Fields<'a>>,
}

/// Reads what a node holds of some shards. While documents are being deleted there, some of the others may be
/// missed: pages are counted off.
pub(crate) async fn holdings(
    node: &Node,
    index: &IndexView,
    shards: &[ShardId],
    compare: Compare,
) -> Result<Holdings, NodeError> {
    let mut holdings = Holdings::new();
    let Some(primary_key) = &index.record.primary_key else { return Ok(holdings) };
    let filter = shard_filter(shards.iter().copied());
    let path = format!("/indexes/{}/documents/fetch", encode(&index.record.uid));
    let mut offset = 0;
    loop {
        let (body, page_length) = match compare {
            Compare::ByWrite => {
                let fields = [primary_key.as_str(), UPDATED_AT_FIELD];
                let body =
                    json!({ "filter": filter, "fields": fields, "offset": offset, "limit": STAMPS_PER_PAGE });
                (body, STAMPS_PER_PAGE)
            }
            Compare::ByContent => {
                let vectors = has_embedders(index);
                let body = json!({
                    "filter": filter, "offset": offset, "limit": DOCUMENTS_PER_PAGE, "retrieveVectors": vectors
                });
                (body, DOCUMENTS_PER_PAGE)
            }
        };
        let answer = node.send(&Call::post(path.clone(), body.to_string(), CALL_LIMIT)).await?;
        if !answer.status.is_success() {
            let said = String::from_utf8_lossy(&answer.body);
            return Err(node.unintelligible(format!("its documents cannot be read: {said}")));
        }
        let page: Page<'_> =
            serde_json::from_slice(&answer.body).map_err(|error| node.unintelligible(error.to_string()))?;
        let read = page.results.len();
        holdings.extend(
            page.results
                .iter()
                .filter_map(|fields| Some((stored_id(fields, primary_key)?, stored_version(fields)))),
        );
        offset += read;
        if read < page_length {
            return Ok(holdings);
        }
    }
}

/// Whether documents have vectors that must be asked for.
pub(crate) fn has_embedders(index: &IndexView) -> bool {
    let embedders = index.record.settings.get("embedders").and_then(|all| all.as_object());
    embedders.is_some_and(|all| !all.is_empty())
}

/// What a replica lacks, or has too much, compared with another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Documents that are missing or of another version.
    pub to_copy: Vec<String>,
    /// Documents that the other does not have.
    pub to_remove: Vec<String>,
}

/// What a target must change to hold what the source does. A document without a stamp is never taken for equal
/// where only stamps were read.
pub(crate) fn difference(source: &Holdings, mut target: Holdings, compare: Compare) -> Difference {
    let mut to_copy = Vec::new();
    for (id, version) in source {
        let held = target.remove(id);
        let is_telling = compare == Compare::ByContent || version.write.is_some();
        if held != Some(*version) || !is_telling {
            to_copy.push(id.clone());
        }
    }
    Difference { to_copy, to_remove: target.into_keys().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_is_what_is_missing_other_or_too_much() {
        let held = |documents: &[(&str, Option<u64>)]| -> Holdings {
            let version = |write| Version { write, content: 0 };
            documents.iter().map(|(id, write)| ((*id).to_owned(), version(*write))).collect()
        };
        let source = held(&[("same", Some(1)), ("newer", Some(5)), ("missing", Some(2)), ("bare", None)]);
        let target = held(&[("same", Some(1)), ("newer", Some(3)), ("gone", Some(1)), ("bare", None)]);
        let mut found = difference(&source, target.clone(), Compare::ByWrite);
        found.to_copy.sort();
        assert_eq!(found.to_copy, ["bare", "missing", "newer"]);
        assert_eq!(found.to_remove, ["gone"]);
        let found = difference(&source, target, Compare::ByContent);
        assert!(!found.to_copy.contains(&"bare".to_owned()), "its content was compared");
    }
}
