//! The round of requests that tells how facet values are spelt, when nodes show them differently.

use std::sync::Arc;

use miroir_core::cover::CoverPart;
use miroir_core::hidden::shard_filter;
use miroir_core::search::{FacetConflict, SearchPlan, SpellingChoices, SpellingRound};
use miroir_node::{Call, Node};

use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::read::gather::Reading;

impl Cluster {
    /// Asks the nodes that answered a search, each for the shards it answered for, which of them has the oldest
    /// document with each value. A node that fails now has no say: a spelling is not worth failing a search.
    pub(super) async fn settle_spellings(
        &self,
        index: &IndexView,
        plan: &SearchPlan,
        reading: &Reading,
        parts: &[CoverPart],
        conflicts: &[FacetConflict],
    ) -> SpellingChoices {
        let uid = &index.record.node_uid;
        let fleet: Vec<&Arc<Node>> = self.fleet.iter().collect();
        let mut round = SpellingRound::new(plan, conflicts);
        let asks = parts.iter().enumerate().filter_map(|(place, part)| {
            let filter = (!part.whole).then(|| shard_filter(part.shards.iter().copied()));
            let body = round.body(place, uid, filter.as_deref())?;
            let node = *fleet.get(part.node)?;
            let call = Call::post("/multi-search", body, reading.limit(self.config.node_timeout));
            Some(async move { (place, node.id(), node.send_trusted(&call).await) })
        });
        let answers = futures_util::future::join_all(asks).await;
        for (place, node, answer) in answers {
            match answer {
                Ok(answer) if answer.status.is_success() => round.learn(place, &answer.body),
                Ok(answer) => {
                    tracing::debug!(index = %uid, %node, status = %answer.status, "spellings stay unsettled");
                }
                Err(error) => tracing::debug!(index = %uid, %error, "spellings stay unsettled"),
            }
        }
        round.choices()
    }
}
