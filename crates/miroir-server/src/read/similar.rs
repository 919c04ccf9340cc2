//! Similar documents: the vector of the one asked about from the shard that has it, then what is near it from all.

use std::collections::HashSet;
use std::time::Instant;

use bytes::Bytes;
use miroir_core::error::{ApiError, ErrorType};
use miroir_core::pinning::Narrowing;
use miroir_core::search::{MergeError, PlanError, Reference, SimilarPlan, similar_body_from_query_string};
use miroir_core::shard::{ShardId, shard_of};
use miroir_node::Call;
use serde::Deserialize;

use super::search::reserved_name_in;
use super::{ReadAnswer, SearchInput, reserved_field, shard_unavailable};
use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::read::gather::Reading;
use crate::write::encode;

#[derive(Deserialize)]
struct Counted {
    total: u64,
}

impl Cluster {
    /// Answers a request for similar documents.
    pub async fn similar(&self, uid: &str, input: SearchInput) -> Result<ReadAnswer, ApiError> {
        let begun = Instant::now();
        let index = self.readable_index(uid)?;
        let body = match &input {
            SearchInput::Body(body) => body.clone(),
            SearchInput::Query(query) => match similar_body_from_query_string(query) {
                Ok(body) => body.into(),
                Err(_) => return Err(self.refusal_of_similar(&index, &input).await),
            },
        };
        let plan = match SimilarPlan::new(&body, &index.search) {
            // Each document has a place of its own.
            Ok(plan) => plan.of_at_most(usize::try_from(index.record.next_position).unwrap_or(usize::MAX)),
            Err(PlanError::Forward(_)) => return Err(self.refusal_of_similar(&index, &input).await),
        };
        if let Some(name) = plan.filter().and_then(reserved_name_in) {
            return Err(reserved_field(&name));
        }
        let reading = Reading::with_limit(self.config.node_timeout);
        let cover = self.cover_without(&index, &reading, &HashSet::new());
        let (merged, missing) = if cover.missing.is_empty() && reading.is_answered_by(&cover) {
            self.similar_on_one_node(&index, &plan, &reading).await?
        } else {
            self.similar_on_several(&index, &plan, &reading, begun).await?
        };
        let body = merged.map_err(|error| cannot_merge(&index, error))?;
        Ok(ReadAnswer { body: body.into(), missing, settings_inconsistent: index.settings_are_changing() })
    }

    /// What one node says to a request that Meilisearch cannot accept either.
    pub(crate) async fn refusal_of_similar(&self, index: &IndexView, input: &SearchInput) -> ApiError {
        let path = path_of(index);
        let call = match input {
            SearchInput::Body(body) => Call::post(path, body.clone(), self.config.node_timeout),
            SearchInput::Query(query) => Call::get(format!("{path}?{query}"), self.config.node_timeout),
        };
        self.refusal_of_one_node(Some(index), &call).await
    }

    /// Asks the node that has the whole index. Should it fail and no other have it, they are asked together.
    async fn similar_on_one_node(
        &self,
        index: &IndexView,
        plan: &SimilarPlan,
        reading: &Reading,
    ) -> Result<(Result<Vec<u8>, MergeError>, Vec<ShardId>), ApiError> {
        let limit = self.config.node_timeout;
        let path = path_of(index);
        let gathered = self
            .gather(index, reading, |ask| vec![Call::post(path.clone(), plan.body_alone(ask.filter), limit)])
            .await?;
        if !gathered.alone {
            return self.similar_on_several(index, plan, reading, Instant::now()).await;
        }
        let answers = gathered.bodies(self, index)?.concat();
        let finished =
            answers.first().map_or(Err(MergeError::MissingAnswer), |answer| plan.finish_alone(answer));
        Ok((finished, gathered.missing))
    }

    async fn similar_on_several(
        &self,
        index: &IndexView,
        plan: &SimilarPlan,
        reading: &Reading,
        begun: Instant,
    ) -> Result<(Result<Vec<u8>, MergeError>, Vec<ShardId>), ApiError> {
        let reference = self.reference_of(index, plan, reading).await?;
        if !plan.can_be_spread() {
            return Err(cannot_spread());
        }
        let uid = &index.record.node_uid;
        let limit = self.config.node_timeout;
        let elapsed = || begun.elapsed().as_millis() as u64;
        if !reference.has_vector() {
            let path = format!("/indexes/{}/documents/fetch", encode(uid));
            let gathered = self
                .gather(index, reading, |ask| {
                    vec![Call::post(path.clone(), plan.counting_body(&reference, ask.filter), limit)]
                })
                .await?;
            let mut total = 0u64;
            for answer in gathered.bodies(self, index)?.concat() {
                let counted = serde_json::from_slice::<Counted>(&answer);
                total += counted.map_err(|_| cannot_merge(index, MergeError::MissingAnswer))?.total;
            }
            return Ok((plan.nothing_similar(total, elapsed()), gathered.missing));
        }
        let gathered = self
            .gather(index, reading, |ask| {
                let bodies = plan.bodies(uid, &reference, ask.filter).into_iter();
                bodies.map(|body| Call::post("/multi-search", body, limit)).collect()
            })
            .await?;
        let answers = gathered.bodies(self, index)?;
        match plan.merge(&answers, elapsed()) {
            Err(MergeError::TooFewHits) => Err(cannot_spread()),
            merged => Ok((merged, gathered.missing)),
        }
    }

    /// The document asked about, from a node that has it and finds nothing wrong with the request.
    async fn reference_of(
        &self,
        index: &IndexView,
        plan: &SimilarPlan,
        reading: &Reading,
    ) -> Result<Reference, ApiError> {
        let limit = self.config.node_timeout;
        let shard = shard_of(plan.id(), index.record.shards);
        let at_home = reading.clone().narrowed(Narrowing::To([shard].into()), false);
        let documents = format!("/indexes/{}/documents/fetch", encode(&index.record.node_uid));
        let gathered = self
            .gather(index, &at_home, |_| {
                vec![
                    Call::post(path_of(index), plan.body_to_check(), limit),
                    Call::post(documents.clone(), plan.reference_body(), limit),
                ]
            })
            .await?;
        // Nodes without the shard would say that there is no such document.
        if gathered.missing.contains(&shard) {
            return Err(shard_unavailable(&[shard]));
        }
        let answers: Vec<Bytes> = gathered.bodies(self, index)?.concat();
        let fetched = answers.last().ok_or_else(|| cannot_merge(index, MergeError::MissingAnswer))?;
        let reference = plan.reference(fetched).map_err(|error| cannot_merge(index, error))?;
        // It was there when the request was checked, and has been deleted since.
        reference.ok_or_else(|| {
            let message = format!("Document `{}` not found.", plan.id());
            ApiError::new(404, "not_found_similar_id", ErrorType::InvalidRequest, message)
        })
    }
}

fn path_of(index: &IndexView) -> String {
    format!("/indexes/{}/similar", encode(&index.record.node_uid))
}

fn cannot_spread() -> ApiError {
    let message = "Similar documents cannot be told on several nodes for this index: its `rankingRules` sort by an \
                   attribute before any other rule, and it has too many documents to compare them all. Put a rule such as \
                   `words` first.";
    ApiError::new(501, "miroir_unsupported", ErrorType::InvalidRequest, message)
}

fn cannot_merge(index: &IndexView, error: MergeError) -> ApiError {
    tracing::error!(index = %index.record.uid, %error, "cannot merge the answers of the nodes");
    ApiError::internal(format!("The answers of the nodes cannot be merged: {error}."))
}
