//! One search for the values of a facet: asked of a cover of nodes, whose counts are added up.

use std::time::Instant;

use bytes::Bytes;
use miroir_core::error::ApiError;
use miroir_core::search::{FacetSearchPlan, MergeError, MergedAnswer, PlanError, SpellingChoices};
use miroir_node::Call;

use super::missing::stand_in;
use super::search::reserved_name_in;
use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::read::gather::{Gathered, Reading};
use crate::read::{ReadAnswer, reserved_field};
use crate::write::encode;

impl Cluster {
    /// Answers a search for the values of a facet.
    pub async fn facet_search(&self, uid: &str, body: Bytes) -> Result<ReadAnswer, ApiError> {
        let begun = Instant::now();
        let path_in = |uid: &str| format!("/indexes/{}/facet-search", encode(uid));
        let limit = self.config.node_timeout;
        let index = match self.readable_index(uid) {
            Ok(index) => index,
            Err(missing) => {
                let call = Call::post(path_in(stand_in(uid)), body, limit);
                return Err(self.error_without_index(missing, &call).await);
            }
        };
        let path = path_in(&index.record.node_uid);
        let plan = match FacetSearchPlan::new(&body, &index.search) {
            Ok(plan) => plan,
            Err(PlanError::Forward(_)) => {
                return Err(self.refusal_of_one_node(Some(&index), &Call::post(path, body, limit)).await);
            }
        };
        if let Some(name) = plan.names_reserved_field() {
            return Err(reserved_field(name));
        }
        if let Some(name) = plan.filter().and_then(reserved_name_in) {
            return Err(reserved_field(&name));
        }
        let reading = Reading::with_limit(limit);
        let gathered = self
            .gather(&index, &reading, |ask| vec![Call::post(path.clone(), plan.body(ask.filter), limit)])
            .await?;
        let answers: Vec<Bytes> = gathered.bodies(self, &index)?.into_iter().flatten().collect();
        let merged = self.merge_facet_search(&index, &plan, &reading, &gathered, &answers, begun).await;
        let body = merged.map_err(|error| {
            tracing::error!(index = uid, %error, "cannot merge the answers of the nodes");
            ApiError::internal(format!("The answers of the nodes cannot be merged: {error}."))
        })?;
        Ok(ReadAnswer {
            body: body.into(),
            missing: gathered.missing,
            settings_inconsistent: index.settings_are_changing(),
        })
    }

    /// Merges, once more if it takes another round to tell how values are spelt.
    async fn merge_facet_search(
        &self,
        index: &IndexView,
        plan: &FacetSearchPlan,
        reading: &Reading,
        gathered: &Gathered,
        answers: &[Bytes],
        begun: Instant,
    ) -> Result<Vec<u8>, MergeError> {
        let merge = |choices: &SpellingChoices| -> Result<MergedAnswer, MergeError> {
            plan.merge(answers, begun.elapsed().as_millis() as u64, choices)
        };
        let merged = merge(&SpellingChoices::default())?;
        if merged.facet_conflicts.is_empty() {
            return Ok(merged.body);
        }
        let conflicts = &merged.facet_conflicts;
        let choices =
            self.settle_spellings(index, plan.everything(), reading, &gathered.parts, conflicts).await;
        Ok(merge(&choices)?.body)
    }
}
