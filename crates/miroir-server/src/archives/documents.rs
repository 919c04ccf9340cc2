//! Reading all documents of an index in the order of insertion, a stretch of positions at a time.
//!
//! Each stretch is asked of a cover of its own, so a node may come and go in between. How long a stretch is follows
//! from how long its documents are: memory stays bounded whatever they are.

use std::time::Duration;

use bytes::Bytes;
use miroir_core::documents::append_in_order;
use miroir_core::error::ApiError;
use miroir_core::hidden::{INSERTED_AT_FIELD, encode_position};
use miroir_node::Call;
use serde::Deserialize;
use serde_json::json;

use super::NotMade;
use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::read::{Reading, shard_unavailable};
use crate::write::encode;

const PAGE_LIMIT: Duration = Duration::from_secs(60);
/// Bytes of documents aimed at, of all nodes together.
const BYTES_AT_ONCE: usize = 8 * 1024 * 1024;
/// Documents read at once of each node, before it is known how long they are, and at most.
const FIRST_DOCUMENTS: u64 = 50;
const MOST_DOCUMENTS: u64 = 4_000;
/// Positions in a stretch where hardly any has a document any more.
const MOST_POSITIONS: u64 = 1 << 20;

#[derive(Deserialize)]
struct Counted {
    total: u64,
}

/// Where a reader is in the order of insertion.
pub(super) struct Stretches {
    next: u64,
    positions: u64,
    documents: u64,
}

/// What was read at once.
pub(super) struct Stretch {
    /// A document per line.
    pub lines: Vec<u8>,
    /// How many there are.
    pub documents: u64,
}

impl Stretches {
    /// From the first document on.
    pub fn new() -> Self {
        Self { next: 0, positions: FIRST_DOCUMENTS, documents: FIRST_DOCUMENTS }
    }

    /// The first position that has not been read.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Reads the documents that come next, before the position `end`; `None` when there is none left.
    pub async fn read(
        &mut self,
        cluster: &Cluster,
        index: &IndexView,
        end: u64,
    ) -> Result<Option<Stretch>, NotMade> {
        while self.next < end {
            let until = self.next.saturating_add(self.positions).min(end);
            let pages = self.ask(cluster, index, until).await?;
            let mut found = 0;
            for page in &pages {
                let counted: Counted = serde_json::from_slice(page).map_err(|error| {
                    ApiError::internal(format!("A node's answer cannot be understood: {error}."))
                })?;
                found = counted.total.max(found);
            }
            if found > self.documents && self.positions > 1 {
                self.positions = (self.positions / 2).max(1);
                continue;
            }
            let mut lines = Vec::new();
            let documents = append_in_order(&pages, &mut lines)?;
            self.next = until;
            self.adapt(documents, found, lines.len());
            return Ok(Some(Stretch { lines, documents }));
        }
        Ok(None)
    }

    /// Decides how much to read next time.
    fn adapt(&mut self, documents: u64, found: u64, bytes: usize) {
        if documents > 0 {
            let fitting = BYTES_AT_ONCE as u64 * found / (bytes as u64).max(1);
            // Those that follow may be longer.
            self.documents = fitting.clamp(1, MOST_DOCUMENTS.min(self.documents * 4));
        }
        if found * 2 <= self.documents {
            self.positions = (self.positions * 2).min(MOST_POSITIONS);
        }
    }

    async fn ask(&self, cluster: &Cluster, index: &IndexView, until: u64) -> Result<Vec<Bytes>, NotMade> {
        let path = format!("/indexes/{}/documents/fetch", encode(&index.record.node_uid));
        let from = format!("{INSERTED_AT_FIELD} >= \"{}\"", encode_position(self.next));
        let to = format!("{INSERTED_AT_FIELD} < \"{}\"", encode_position(until));
        let gathered = cluster
            .gather(index, &Reading::with_limit(PAGE_LIMIT), |ask| {
                let filter: Vec<&str> = ask.filter.into_iter().chain([from.as_str(), to.as_str()]).collect();
                let body = json!({ "filter": filter, "limit": self.documents, "retrieveVectors": true });
                vec![Call::post(path.clone(), body.to_string(), PAGE_LIMIT)]
            })
            .await?;
        if !gathered.missing.is_empty() {
            return Err(shard_unavailable(&gathered.missing).into());
        }
        Ok(gathered.bodies(cluster, index)?.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_as_long_as_its_documents_allow() {
        let mut stretches = Stretches::new();
        stretches.adapt(150, 50, 150 * 1_000);
        assert_eq!((stretches.documents, stretches.positions), (200, 100), "more of short ones");
        stretches.adapt(200, 200, 200 * BYTES_AT_ONCE);
        assert_eq!((stretches.documents, stretches.positions), (1, 100), "fewer of long ones");
        for _ in 0..40 {
            stretches.adapt(0, 0, 0);
        }
        assert_eq!(
            (stretches.documents, stretches.positions),
            (1, MOST_POSITIONS),
            "a gap is passed quickly"
        );
    }
}
