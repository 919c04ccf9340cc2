//! Making way on a node for what others hold and it refuses.
//!
//! Meilisearch 1.21 takes settings that its documents are against, and from then on refuses such documents. Places become
//! sortable or filterable whatever the documents hold: then it takes none whose `_geo` is no place, and neither replaces
//! nor deletes those that it has. An embedder is taken whatever the length of the vectors, if it comes with another
//! setting. The node may hold such documents, which were removed elsewhere in time; or others hold them, from before. Or it
//! refuses an embedder that it missed, because what it holds has no vectors.
//!
//! So it has none of these settings while documents are removed and copied, and is given them last. What it has in common
//! with others stays, so that a repair that is cut off goes on where it was.

use http::Method;
use miroir_core::replica::ReplicaState;
use miroir_core::settings::{repair_node_form, reset_form};
use miroir_node::{Call, NodeError};
use miroir_store::IndexRecord;
use serde_json::Value;

use super::copy::Copy;
use super::ensure::{CALL_LIMIT, RepairError, TASK_LIMIT, hold};
use super::holdings::Compare;
use super::node_tasks::{enqueue, wait_for};
use super::repair::{Repair, parts};
use super::settings::{read_settings, replicas_of};
use super::verify::{is_same, strays_of};
use crate::index::IndexView;
use crate::read::Reading;
use crate::write::encode;

/// Every difference, however small.
const ALL: usize = 1;

/// What a node refused documents for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A `_geo` that is no place.
    Place,
    /// Vectors of another length than their embedder's, or none where it has to be given some.
    Vectors,
}

impl Refusal {
    /// Whether, and for what, a node refused what a repair gave it.
    pub fn of(error: &RepairError) -> Option<Self> {
        let RepairError::Node(NodeError::TaskFailed { error, .. }) = error else { return None };
        match error["code"].as_str()? {
            "invalid_document_geo_field" | "invalid_document_geojson_field" => Some(Self::Place),
            "invalid_vector_dimensions" | "invalid_vectors_type" | "too_many_vectors" => Some(Self::Vectors),
            // An embedder that does not answer has the same code; that passes.
            "vector_embedding_error" => {
                let message = error["message"].as_str()?;
                message.contains("no vectors provided").then_some(Self::Vectors)
            }
            _ => None,
        }
    }
}

impl Repair<'_> {
    /// Has the node take what it refused, and then the agreed settings, and repairs it. These are all its replicas of the
    /// index. Returns how many documents were copied, or removed with the last difference.
    pub(super) async fn make_way(&self, begun: &IndexView, refusal: Refusal) -> Result<usize, RepairError> {
        self.put_all_aside(begun, refusal).await?;
        // Not for a place: they would have to embed everything anew. But where both are in the way, both must go.
        let embedders_too = refusal == Refusal::Vectors;
        self.give(begun, |view, _| reset_form(self.cluster.needs_of_one_behind(view), embedders_too)).await?;
        let compare = self.comparison(begun).await?;
        self.remove_surplus(begun, compare).await?;
        let (copied, _) = self.copy_in_rounds(&*self.now(begun)?, compare, ALL).await?;
        let agreed = |view: &IndexView, found: &Value| {
            let IndexRecord { settings, overlay, .. } = &view.record;
            repair_node_form(settings, overlay, self.cluster.needs_of_one_behind(view), found)
        };
        self.give(begun, agreed).await?;
        Ok(copied + self.attempt(begun).await?)
    }

    /// Puts the replicas aside that are still read, because a search could neither filter nor sort on the node, and waits
    /// for searches that ask it by an older picture.
    async fn put_all_aside(&self, begun: &IndexView, refusal: Refusal) -> Result<(), RepairError> {
        let name = self.target.id().as_str();
        let reason = match refusal {
            Refusal::Place => "the node refuses documents for their `_geo`",
            Refusal::Vectors => "the node refuses documents for their vectors",
        };
        // While no write is on its way: one that only this node took would be lost with it.
        hold(self.cluster, self.index, async {
            let Some(now) = self.index.view().filter(|now| is_same(now, begun)) else {
                return Err(RepairError::NotNow("the index was made anew meanwhile".to_owned()));
            };
            if now.is_read_on(name) {
                if !self.is_complete_elsewhere(&now) {
                    let until = "it can be made to take them once all that it holds is read elsewhere";
                    return Err(RepairError::NotNow(format!("{reason}; {until}")));
                }
                let to_fill = replicas_of(&now, name, ReplicaState::Stale, reason);
                self.cluster.put_aside(self.index, to_fill).await?;
            }
            tracing::info!(index = %self.index.uid, node = name, reason, "making way");
            Ok(())
        })
        .await?;
        self.tell("waiting for earlier searches");
        tokio::time::sleep(Reading::longest(self.cluster.config.node_timeout)).await;
        Ok(())
    }

    /// Gives the node other settings than it is found to have, which are waited for while writes go on.
    async fn give(
        &self,
        begun: &IndexView,
        settings: impl FnOnce(&IndexView, &Value) -> Value,
    ) -> Result<(), RepairError> {
        self.wait_until_idle(begun).await?;
        self.tell("making way for what others hold");
        let path = format!("/indexes/{}/settings", encode(&begun.record.node_uid));
        let task = hold(self.cluster, self.index, async {
            let found = read_settings(self.target, &begun.record.node_uid).await?;
            let settings = settings(&*self.now(begun)?, &found);
            let call = Call::new(Method::PATCH, path, CALL_LIMIT).json(settings.to_string());
            Ok(enqueue(self.target, &call).await?)
        })
        .await?;
        Ok(wait_for(self.target, task, TASK_LIMIT).await?)
    }

    /// Removes what the sources do not have.
    async fn remove_surplus(&self, begun: &IndexView, compare: Compare) -> Result<(), RepairError> {
        let view = self.now(begun)?;
        self.remove(begun, &strays_of(&view, self.target, |all| all).await?).await?;
        for part in parts(&view, &self.ways(&view, self.shards, compare)) {
            let (_, to_remove) = self.difference(&view, &part).await?;
            self.remove(begun, &to_remove).await?;
        }
        Ok(())
    }

    async fn remove(&self, begun: &IndexView, ids: &[String]) -> Result<(), RepairError> {
        let view = self.now(begun)?;
        let copy = Copy { index: &view, target: self.target };
        let removing = copy.remove(ids).await;
        self.disavow(begun).await?;
        Ok(copy.wait(&removing?).await?)
    }
}
