//! The round of requests that tells which nodes know the last word of a query, when hits depend on it.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use miroir_core::cover::CoverPart;
use miroir_core::search::{LastWord, SearchPlan};
use miroir_node::{Call, Node};

use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::read::gather::Reading;
use crate::write::encode;

impl Cluster {
    /// Ranks the hits anew of nodes that took the words before the last for the whole query. A node that fails now
    /// counts as one that knows the word: that is no reason to fail a search. True when any were.
    pub(super) async fn settle_last_word(
        &self,
        index: &IndexView,
        plan: &SearchPlan,
        reading: &Reading,
        parts: &[CoverPart],
        answers: &mut [Vec<Bytes>],
    ) -> bool {
        let Some(doubt) = LastWord::in_doubt(plan, &index.search, answers) else { return false };
        let path = format!("/indexes/{}/search", encode(&index.record.node_uid));
        let call = Call::post(path, doubt.question(), reading.limit(self.config.node_timeout));
        let fleet: Vec<&Arc<Node>> = self.fleet.iter().collect();
        let answered = parts.iter().map(|part| part.node);
        // Nodes that were not asked, because nothing they hold can match, may know the word all the same.
        let everything = reading.wanted.is_some().then(|| reading.of_everything());
        let everywhere = everything.map(|all| self.cover_without(index, &all, &HashSet::new()));
        let others = everywhere.iter().flat_map(|cover| &cover.parts).map(|part| part.node);
        let others = others.filter(|node| parts.iter().all(|part| part.node != *node));
        let asks = answered.chain(others).map(async |node| {
            let answer = fleet.get(node)?.send_trusted(&call).await.ok()?;
            LastWord::is_known(&answer.body)
        });
        let known = futures_util::future::join_all(asks).await;
        if !known.contains(&Some(true)) {
            return false;
        }
        let mut has_changed = false;
        for (answers, known) in answers.iter_mut().zip(known) {
            let Some(own) = answers.first_mut().filter(|_| known == Some(false)) else { continue };
            if let Some(corrected) = doubt.corrected(own) {
                *own = corrected;
                has_changed = true;
            }
        }
        has_changed
    }
}
