//! Statistics: each document counted once, however many copies there are.

use std::collections::BTreeMap;
use std::time::Duration;

use miroir_core::error::ApiError;
use miroir_core::hidden::is_reserved;
use miroir_core::shard::ShardId;
use miroir_node::Call;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::read::gather::Reading;
use crate::read::shard_unavailable;
use crate::write::encode;

/// What `GET /indexes/{uid}/stats` answers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IndexStats {
    /// Documents.
    pub number_of_documents: u64,
    /// Bytes the documents take.
    pub raw_document_db_size: u64,
    /// Mean bytes of one document.
    pub avg_document_size: u64,
    /// Whether some node is working on it.
    pub is_indexing: bool,
    /// Embeddings stored.
    pub number_of_embeddings: u64,
    /// Documents with embeddings.
    pub number_of_embedded_documents: u64,
    /// How many documents have each field.
    pub field_distribution: BTreeMap<String, u64>,
}

/// What `GET /stats` answers.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Bytes on all nodes.
    pub database_size: u64,
    /// Bytes in use on all nodes.
    pub used_database_size: u64,
    /// When anything last changed.
    pub last_update: Option<String>,
    /// By index.
    pub indexes: BTreeMap<String, IndexStats>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeStats {
    database_size: u64,
    #[serde(default)]
    used_database_size: u64,
}

#[derive(Deserialize)]
struct Total {
    total: u64,
}

const STATS_LIMIT: Duration = Duration::from_secs(10);

impl Cluster {
    /// Statistics of all nodes, and of the indexes that are to be shown.
    pub async fn stats(&self, shows: impl Fn(&str) -> bool) -> Result<Stats, ApiError> {
        let call = Call::get("/stats", STATS_LIMIT);
        let sizes = futures_util::future::join_all(
            self.fleet.up().map(|node| node.fetch_trusted::<NodeStats>(&call)),
        )
        .await;
        let (mut database_size, mut used_database_size) = (0, 0);
        for size in sizes.into_iter().flatten() {
            database_size += size.database_size;
            used_database_size += size.used_database_size;
        }
        let mut indexes = BTreeMap::new();
        let mut last_update = None;
        for view in self.readable_indexes().into_iter().filter(|view| shows(&view.record.uid)) {
            last_update = last_update.max(Some(view.record.updated_at.clone()));
            indexes.insert(view.record.uid.clone(), self.index_stats(&view).await?);
        }
        Ok(Stats { database_size, used_database_size, last_update, indexes })
    }

    /// Statistics of one index.
    ///
    /// Every document has the same number of copies, so the sums over the nodes of a group, divided by the
    /// replication factor, are exact while a whole group is there. Otherwise the documents are counted shard by
    /// shard, and the rest is estimated from the nodes that answer.
    pub async fn index_stats(&self, index: &IndexView) -> Result<IndexStats, ApiError> {
        let path = format!("/indexes/{}/stats", encode(&index.record.node_uid));
        let call = Call::get(path, STATS_LIMIT);
        let holders: Vec<_> =
            self.fleet.iter().filter(|node| !index.shards_on(node.id().as_str()).is_empty()).collect();
        let asks = holders.iter().map(async |node| {
            let stats =
                if node.health().is_up() { node.fetch_trusted::<IndexStats>(&call).await.ok() } else { None };
            (node.group(), node.id().as_str(), stats)
        });
        let answers = futures_util::future::join_all(asks).await;
        let is_whole = |group: u32| {
            answers.iter().filter(|(of, _, _)| *of == group).all(|(_, name, stats)| {
                stats.is_some() && !index.exceptions.keys().any(|(_, node)| node == name)
            })
        };
        let whole_group = answers.iter().map(|(group, _, _)| *group).find(|group| is_whole(*group));
        let counted = |group: u32| whole_group.is_none_or(|whole| whole == group);
        let mut sum = IndexStats::default();
        for stats in
            answers.iter().filter(|(group, _, _)| counted(*group)).filter_map(|(_, _, stats)| stats.as_ref())
        {
            sum.number_of_documents += stats.number_of_documents;
            sum.raw_document_db_size += stats.raw_document_db_size;
            sum.is_indexing |= stats.is_indexing;
            sum.number_of_embeddings += stats.number_of_embeddings;
            sum.number_of_embedded_documents += stats.number_of_embedded_documents;
            for (field, count) in stats.field_distribution.iter().filter(|(field, _)| !is_reserved(field)) {
                *sum.field_distribution.entry(field.clone()).or_default() += count;
            }
        }
        match whole_group {
            Some(_) => sum.scale(1, self.config.replication_factor.max(1) as u64),
            None => {
                let documents = self.count_reachable(index).await?.0;
                sum.scale(documents, sum.number_of_documents.max(1));
                sum.number_of_documents = documents;
            }
        }
        sum.avg_document_size = sum.raw_document_db_size / sum.number_of_documents.max(1);
        Ok(sum)
    }

    /// How many documents each node holds of an index, for those that answer.
    pub(crate) async fn documents_by_node(&self, index: &IndexView) -> BTreeMap<String, u64> {
        let call = Call::get(format!("/indexes/{}/stats", encode(&index.record.node_uid)), STATS_LIMIT);
        let asks = self.fleet.up().map(async |node| {
            let stats = node.fetch_trusted::<IndexStats>(&call).await.ok()?;
            Some((node.id().to_string(), stats.number_of_documents))
        });
        futures_util::future::join_all(asks).await.into_iter().flatten().collect()
    }

    /// How many documents an index has; an error when not all of its shards can be reached.
    pub(crate) async fn count_documents(&self, index: &IndexView) -> Result<u64, ApiError> {
        match self.count_reachable(index).await? {
            (documents, missing) if missing.is_empty() => Ok(documents),
            (_, missing) => Err(shard_unavailable(&missing)),
        }
    }

    /// How many documents there are in the shards that can be reached, and the other shards.
    async fn count_reachable(&self, index: &IndexView) -> Result<(u64, Vec<ShardId>), ApiError> {
        let path = format!("/indexes/{}/documents/fetch", encode(&index.record.node_uid));
        let gathered = self
            .gather(index, &Reading::with_limit(STATS_LIMIT), |ask| {
                let body = json!({ "limit": 0, "filter": ask.filter }).to_string();
                vec![Call::post(path.clone(), body, STATS_LIMIT)]
            })
            .await?;
        let bodies = gathered.bodies(self, index)?;
        let totals = bodies.iter().flatten().map(|body| serde_json::from_slice::<Total>(body));
        let documents = totals
            .map(|total| total.map(|total| total.total))
            .sum::<Result<u64, _>>()
            .map_err(|error| ApiError::internal(format!("A node's answer cannot be understood: {error}.")))?;
        Ok((documents, gathered.missing))
    }
}

impl IndexStats {
    fn scale(&mut self, numerator: u64, denominator: u64) {
        let scaled = |value: u64| (value * numerator + denominator / 2) / denominator;
        self.number_of_documents = scaled(self.number_of_documents);
        self.raw_document_db_size = scaled(self.raw_document_db_size);
        self.number_of_embeddings = scaled(self.number_of_embeddings);
        self.number_of_embedded_documents = scaled(self.number_of_embedded_documents);
        for count in self.field_distribution.values_mut() {
            *count = scaled(*count);
        }
    }
}
