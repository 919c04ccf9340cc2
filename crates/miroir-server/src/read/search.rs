//! One search: planned, asked of the fewest nodes that hold everything, merged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use miroir_core::cover::CoverPart;
use miroir_core::error::{ApiError, ErrorType};
use miroir_core::filter::reserved_name_in_filter;
use miroir_core::health::HealthState;
use miroir_core::search::{
    Depth, FrequencySearch, MergeError, PlanError, SearchPlan, body_from_query_string,
};
use miroir_core::shard::ShardId;
use miroir_node::Call;

use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::index::is_split;
use crate::read::gather::{Ask, Reading};
use crate::read::missing::stand_in;
use crate::read::shared::SharedSearch;
use crate::read::{ReadAnswer, shard_unavailable};
use crate::write::encode;

/// A search as the client sent it.
pub enum SearchInput {
    /// `POST`, with its body.
    Body(Bytes),
    /// `GET`, with its query string.
    Query(String),
}

impl SearchInput {
    /// The same, asked of a node.
    fn call(&self, uid: &str, limit: Duration) -> Call {
        let path = format!("/indexes/{}/search", encode(uid));
        match self {
            Self::Body(body) => Call::post(path, body.clone(), limit),
            Self::Query(query) => Call::get(format!("{path}?{query}"), limit),
        }
    }
}

/// A search that has been understood.
pub(super) struct Planned {
    pub(super) index: Arc<IndexView>,
    generation: u64,
    body: Bytes,
    pub(super) plan: SearchPlan,
}

impl Cluster {
    /// Answers a search on one index.
    pub async fn search(&self, uid: &str, input: SearchInput) -> Result<ReadAnswer, ApiError> {
        let begun = Instant::now();
        let Planned { index, generation, body, plan } = self.plan_search(uid, &input).await?;
        let reading = self.reading_of(&index, &plan);
        let search = SharedSearch { generation, body };
        // Half of what a search may take, so that there is time left should the other one come to nothing.
        let patience = self.config.node_timeout;
        let answering = self.answer_search(&index, &plan, &reading, begun);
        match self.reads.shared.answer(search, patience, answering).await {
            // Nodes are asked with a body, and what is wrong is said in other words of a query string.
            Err(error) if error.status == 400 && matches!(input, SearchInput::Query(_)) => {
                let in_its_words = self.error_of_one_node(&index, &input).await;
                Err(if in_its_words.status == 400 { in_its_words } else { error })
            }
            answered => answered,
        }
    }

    /// Understands a search, or tells what is wrong with it.
    pub(super) async fn plan_search(&self, uid: &str, input: &SearchInput) -> Result<Planned, ApiError> {
        let (index, generation) = match self.readable_generation(uid) {
            Ok(readable) => readable,
            Err(missing) => {
                let call = input.call(stand_in(uid), self.config.node_timeout);
                return Err(self.error_without_index(missing, &call).await);
            }
        };
        let body = match input {
            SearchInput::Body(body) => body.clone(),
            SearchInput::Query(query) => match body_from_query_string(query) {
                Ok(body) => body.into(),
                Err(_) => return Err(self.error_of_one_node(&index, input).await),
            },
        };
        let plan = match SearchPlan::new(&body, &index.search) {
            Ok(plan) => plan,
            Err(PlanError::Forward(_)) => return Err(self.error_of_one_node(&index, input).await),
        };
        if let Some(name) = plan.names_reserved_field() {
            return Err(reserved_field(name));
        }
        if let Some(name) = plan.filter().and_then(reserved_name_in) {
            return Err(reserved_field(&name));
        }
        Ok(Planned { index, generation, body, plan })
    }

    /// How to go about a search.
    pub(super) fn reading_of(&self, index: &IndexView, plan: &SearchPlan) -> Reading {
        let narrowing = plan.narrowing(index.ids());
        Reading::of_search(self.config.node_timeout, plan.affinity())
            .narrowed(narrowing, plan.ranks_by_own_words() && is_split(&index.record))
    }

    /// Answers a search that has been understood.
    pub(super) async fn answer_search(
        &self,
        index: &IndexView,
        plan: &SearchPlan,
        reading: &Reading,
        begun: Instant,
    ) -> Result<ReadAnswer, ApiError> {
        let (merged, missing) = match self.ask_and_merge(index, plan, reading, false, begun).await? {
            (Err(MergeError::TooFewHits), _) => self.ask_and_merge(index, plan, reading, true, begun).await?,
            answered => answered,
        };
        let body = merged.map_err(|error| {
            tracing::error!(index = %index.record.uid, %error, "cannot merge the answers of the nodes");
            ApiError::internal(format!("The answers of the nodes cannot be merged: {error}."))
        })?;
        Ok(ReadAnswer { body: body.into(), missing, settings_inconsistent: index.settings_are_changing() })
    }

    /// Asks the nodes, for all the hits that could be needed or those that likely are, and makes one answer of
    /// theirs. Also the shards nobody answered for.
    async fn ask_and_merge(
        &self,
        index: &IndexView,
        plan: &SearchPlan,
        reading: &Reading,
        asks_for_all: bool,
        begun: Instant,
    ) -> Result<(Result<Vec<u8>, MergeError>, Vec<ShardId>), ApiError> {
        let by_frequency = FrequencySearch::new(plan, &index.search);
        let calls_for =
            |ask: Ask<'_>| self.calls_of_search(index, plan, by_frequency.as_ref(), &ask, asks_for_all);
        let mut gathered = self.gather(index, reading, calls_for).await?;
        if gathered.alone {
            let answers = gathered.bodies(self, index)?;
            let answer = answers.first().and_then(|answers| answers.first());
            let finished = answer.map_or(Err(MergeError::MissingAnswer), |answer| plan.finish_alone(answer));
            return Ok((finished, gathered.missing));
        }
        let counts = by_frequency.as_ref().map(|search| (search, gathered.take_last()));
        let mut answers = gathered.bodies(self, index)?;
        if let Some((search, counts)) = counts {
            self.settle_word_order(index, search, reading, &gathered.parts, &counts, &mut answers).await;
        }
        let is_reranked = self.settle_last_word(index, plan, reading, &gathered.parts, &mut answers).await;
        // What a node held back by another ranking than the right one may belong to the best.
        if is_reranked && !asks_for_all {
            return Ok((Err(MergeError::TooFewHits), gathered.missing));
        }
        let merged = self.merge(index, plan, reading, &gathered.parts, &answers, begun).await;
        Ok((merged, gathered.missing))
    }

    /// What to ask a node for a search.
    pub(super) fn calls_of_search(
        &self,
        index: &IndexView,
        plan: &SearchPlan,
        by_frequency: Option<&FrequencySearch<'_>>,
        ask: &Ask<'_>,
        asks_for_all: bool,
    ) -> Vec<Call> {
        let uid = &index.record.node_uid;
        let path = format!("/indexes/{}/search", encode(uid));
        let limit = self.config.node_timeout;
        if ask.alone {
            return vec![Call::post(path, plan.body_alone(ask.filter), limit)];
        }
        let share = ask.part.shards.len() as f64 / ask.covered.max(1) as f64;
        let depth = if asks_for_all { Depth::Whole } else { Depth::Likely { share } };
        let searches = plan.bodies(ask.filter, depth).into_iter();
        let counting = by_frequency.map(|search| search.counting_body(uid));
        let counting = counting.map(|body| Call::post("/multi-search", body, limit));
        searches.map(|body| Call::post(path.clone(), body, limit)).chain(counting).collect()
    }

    /// Merges, once more if it takes another round to tell how facet values are spelt.
    async fn merge(
        &self,
        index: &IndexView,
        plan: &SearchPlan,
        reading: &Reading,
        parts: &[CoverPart],
        answers: &[Vec<Bytes>],
        begun: Instant,
    ) -> Result<Vec<u8>, MergeError> {
        let elapsed = || begun.elapsed().as_millis() as u64;
        let merged = plan.merge(answers, elapsed())?;
        if merged.facet_conflicts.is_empty() {
            return Ok(merged.body);
        }
        let choices = self.settle_spellings(index, plan, reading, parts, &merged.facet_conflicts).await;
        Ok(plan.merge_settled(answers, elapsed(), &choices)?.body)
    }

    /// What one node says to a search that Meilisearch cannot accept either.
    pub(crate) async fn error_of_one_node(&self, index: &IndexView, input: &SearchInput) -> ApiError {
        let call = input.call(&index.record.node_uid, self.config.node_timeout);
        self.refusal_of_one_node(Some(index), &call).await
    }

    /// Sends a request that changes nothing to one node; what it finds wrong with it, or `None`.
    pub(crate) async fn judgement_of_one_node(&self, call: &Call) -> Result<Option<ApiError>, ApiError> {
        for node in self.fleet.up() {
            match node.send_trusted(call).await {
                Ok(answer) if answer.status.is_success() => return Ok(None),
                Ok(answer) => return Ok(Some(self.node_refusal(None, answer.status, &answer.body))),
                Err(error) => tracing::warn!(%error, "asking another node"),
            }
        }
        Err(shard_unavailable(&[]))
    }

    /// Sends a read that is known to be wrong to one node, for its error.
    pub(crate) async fn refusal_of_one_node(&self, index: Option<&IndexView>, call: &Call) -> ApiError {
        let reading = Reading::with_limit(call.limit);
        let mut nodes: Vec<_> = self.fleet.up().collect();
        nodes.sort_by_key(|node| node.health().state() != HealthState::Healthy);
        for node in nodes {
            if reading.is_over() {
                break;
            }
            if index.is_some_and(|index| !index.is_read_on(node.id().as_str())) {
                continue;
            }
            let call = Call { limit: reading.limit(call.limit), ..call.clone() };
            match node.send_trusted(&call).await {
                Ok(answer) if answer.status.is_client_error() => {
                    return self.node_refusal(index, answer.status, &answer.body);
                }
                Ok(_) => {
                    tracing::error!(path = %call.path, "a node accepts what Miroir does not understand");
                    let message = "The nodes accept this request, but Miroir cannot tell what it means for several \
                                   nodes. Please report it.";
                    return ApiError::new(501, "miroir_unsupported", ErrorType::InvalidRequest, message);
                }
                Err(error) => tracing::warn!(%error, "asking another node"),
            }
        }
        shard_unavailable(&[])
    }
}

pub(super) fn reserved_name_in(filter: &str) -> Option<String> {
    reserved_name_in_filter(&serde_json::from_str(filter).ok()?)
}

/// The error for a request that names one of Miroir's own fields.
pub(crate) fn reserved_field(name: &str) -> ApiError {
    ApiError::bad_request(
        "miroir_reserved_field",
        format!("`{name}` is reserved: names starting with `_miroir_` belong to Miroir. Use another name."),
    )
}
