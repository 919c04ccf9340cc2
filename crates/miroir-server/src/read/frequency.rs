//! The round of requests that makes nodes drop the words of a query in one order.

use std::sync::Arc;

use bytes::Bytes;
use miroir_core::cover::CoverPart;
use miroir_core::hidden::shard_filter;
use miroir_core::search::FrequencySearch;
use miroir_node::{Call, Node, NodeAnswer};

use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::read::gather::Reading;

impl Cluster {
    /// Asks the nodes again that drop words in another order than all of them together, given how many documents of
    /// each match the words. A node that fails now keeps its own order: that is no reason to fail a search.
    pub(super) async fn settle_word_order(
        &self,
        index: &IndexView,
        search: &FrequencySearch<'_>,
        reading: &Reading,
        parts: &[CoverPart],
        counts: &[NodeAnswer],
        answers: &mut [Vec<Bytes>],
    ) {
        let counts: Vec<Bytes> = counts.iter().map(|answer| answer.body.clone()).collect();
        let Some(order) = search.learn(parts, &counts) else { return };
        let uid = &index.record.node_uid;
        let fleet: Vec<&Arc<Node>> = self.fleet.iter().collect();
        let asks = parts.iter().enumerate().filter_map(|(place, part)| {
            let filter = (!part.whole).then(|| shard_filter(part.shards.iter().copied()));
            let body = order.body(place, uid, filter.as_deref())?;
            let node = *fleet.get(part.node)?;
            let call = Call::post("/multi-search", body, reading.limit(self.config.node_timeout));
            Some(async move { (place, node.id(), node.send_trusted(&call).await) })
        });
        for (place, node, answer) in futures_util::future::join_all(asks).await {
            let Some(own) = answers.get_mut(place).and_then(|answers| answers.first_mut()) else { continue };
            let reordered = match answer {
                Ok(answer) if answer.status.is_success() => order.reordered(own, &answer.body),
                Ok(_) => None,
                Err(error) => {
                    tracing::debug!(index = %uid, %error, "asking for another order of words");
                    None
                }
            };
            match reordered {
                Some(reordered) => *own = reordered,
                None => tracing::debug!(index = %uid, %node, "words are dropped in the node's own order"),
            }
        }
    }
}
