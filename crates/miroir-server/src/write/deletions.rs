//! How many documents a deletion will delete, told before it is sent.
//!
//! Nodes say how many documents they deleted, not of which shards. With copies, their sum counts documents more than
//! once, and dividing it is right only if no node misses the deletion, which is known too late. So the documents are
//! counted first, by a read that takes each shard from one replica.

use miroir_core::hidden::shard_filter;
use miroir_node::Call;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::read::Reading;
use crate::write::operation::encode;
use crate::write::positions::PendingWrites;

/// What is to be deleted.
pub(super) enum Deletion<'a> {
    /// These documents.
    Ids(&'a [String]),
    /// Those that a filter selects.
    Filter(&'a Value),
    /// All.
    Everything,
}

impl Cluster {
    /// The value of `deletedDocuments`, or null where there are no copies, or where writes before it are still on
    /// their way and the sum of what nodes tell is the best there is.
    pub(super) async fn foretell(
        &self,
        index: &IndexView,
        pending: &PendingWrites,
        deletion: Deletion<'_>,
    ) -> Value {
        let has_copies = index.record.placement.iter().any(|nodes| nodes.len() > 1);
        // Nor can nodes be asked for an index that they are still to make.
        if !has_copies || index.record.settings_version == 0 {
            return Value::Null;
        }
        let counted = match (deletion, &index.record.primary_key) {
            (Deletion::Ids(ids), Some(primary_key)) => {
                let ids = ids.iter().map(String::as_str);
                let known = self.known_positions(index, primary_key, pending, ids).await;
                known.map(|known| known.len() as u64).ok()
            }
            (Deletion::Ids(_), None) => Some(0),
            (Deletion::Filter(filter), _) if pending.is_empty() => self.count_matching(index, filter).await,
            (Deletion::Everything, _) if pending.is_empty() => self.count_documents(index).await.ok(),
            (Deletion::Filter(_) | Deletion::Everything, _) => None,
        };
        json!(counted)
    }

    /// `None` also when the filter is wrong, which the deletion itself will tell.
    async fn count_matching(&self, index: &IndexView, filter: &Value) -> Option<u64> {
        let path = format!("/indexes/{}/documents/fetch", encode(&index.record.node_uid));
        let limit = self.config.node_timeout;
        let body = |shards: Option<String>| {
            let mut all = match filter {
                Value::Array(parts) => parts.clone(),
                one => vec![one.clone()],
            };
            all.extend(shards.map(Value::String));
            json!({ "limit": 0, "filter": all }).to_string()
        };
        let gathered = self
            .gather(index, &Reading::with_limit(limit), |ask| {
                let shards = ask.shards.map(|shards| shard_filter(shards.iter().copied()));
                vec![Call::post(path.clone(), body(shards), limit)]
            })
            .await
            .ok()?;
        if !gathered.missing.is_empty() {
            return None;
        }
        let total = |body: &bytes::Bytes| serde_json::from_slice::<Value>(body).ok()?["total"].as_u64();
        gathered.bodies(self, index).ok()?.iter().flatten().map(total).sum()
    }
}
