//! A federated search: the hits of every query, and the totals and facets of every index, each asked of a cover of
//! nodes, made into one answer.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use miroir_core::error::ApiError;
use miroir_core::node_message::rename_indexes;
use miroir_core::search::{
    FederatedHits, FederatedPlan, FederatedQuery, FrequencySearch, IndexSummary, MergeError, MultiSearch,
    SearchSettings, inside,
};
use miroir_core::shard::ShardId;
use miroir_node::Call;
use serde_json::Value;

use super::multi_search::{MOST_BYTES, QUERIES_AT_ONCE, answer_too_large};
use super::search::reserved_name_in;
use crate::cluster::{Cluster, index_not_found};
use crate::index::IndexView;
use crate::read::gather::Reading;
use crate::read::{ReadAnswer, reserved_field};

/// Code of the error for queries whose hits cannot be compared.
const RANKING_RULES_DIFFER: &str = "invalid_multi_search_query_ranking_rules";

/// Queries that a node is given as much time for as for one search.
const QUERIES_PER_TIMEOUT: u32 = 64;
/// Most time that a node is given for queries more than that.
const MOST_MORE_TIME: Duration = Duration::from_secs(60);

type Views = HashMap<String, Arc<IndexView>>;

/// What was learnt from nodes, and the shards nobody answered for.
type Learnt<T> = (T, Vec<ShardId>);

impl Cluster {
    /// Answers a federated search.
    pub async fn federated_search(&self, multi: &MultiSearch) -> Result<ReadAnswer, ApiError> {
        let begun = Instant::now();
        let uids: BTreeSet<String> = multi.index_uids().map(|(_, uid)| uid).collect();
        let views: Views =
            uids.into_iter().filter_map(|uid| Some((uid.clone(), self.readable_index(&uid).ok()?))).collect();
        let settings: HashMap<String, SearchSettings> =
            views.iter().map(|(uid, view)| (uid.clone(), view.search.clone())).collect();
        let planned = FederatedPlan::new(multi, &settings);
        let mut plan = match planned {
            Ok(plan) => plan,
            Err(_) => {
                // An index that is being made or deleted is there for nodes only.
                let absent = |(index, uid): (usize, String)| {
                    (!views.contains_key(&uid)).then(|| inside(index, index_not_found(&uid)))
                };
                let absent = multi.index_uids().find_map(absent);
                let body = self.on_nodes(multi.federated_body_to_check(), &views);
                let refusal = self.refusal_of_multi_search(body.into()).await;
                let refusal = to_clients(refusal, &views);
                return Err(absent.filter(|_| refusal.status >= 500).unwrap_or(refusal));
            }
        };
        if let Some(name) = plan.names_reserved_field() {
            return Err(reserved_field(name));
        }
        if let Some(name) = plan.queries().iter().find_map(|query| reserved_name_in(query.plan.filter()?)) {
            return Err(reserved_field(&name));
        }
        // What queries and indexes have to have in common is judged by one node, with all of them at once.
        let refusal = self.refusal_of_federated(multi, &views);
        let (refusal, asked) =
            futures_util::future::join(refusal, self.hits_and_summaries(&views, &mut plan)).await;
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let (hits, summaries) = asked?;
        let mut missing: BTreeSet<ShardId> = hits.iter().flat_map(|(_, missing)| missing).copied().collect();
        missing.extend(summaries.iter().flat_map(|(_, missing)| missing));
        let hits = hits.into_iter().map(|(hits, _)| hits).collect();
        let summaries: Vec<IndexSummary> = summaries.into_iter().map(|(summary, _)| summary).collect();
        let body = plan.answer(hits, &summaries, begun.elapsed().as_millis() as u64).map_err(cannot_merge)?;
        Ok(ReadAnswer {
            body: body.into(),
            missing: missing.into_iter().collect(),
            settings_inconsistent: views.values().any(|view| view.settings_are_changing()),
        })
    }

    async fn hits_and_summaries(
        &self,
        views: &Views,
        plan: &mut FederatedPlan,
    ) -> Result<(Vec<Learnt<FederatedHits>>, Vec<Learnt<IndexSummary>>), ApiError> {
        if !plan.counts_after_hits() {
            let hits = self.hits_of_queries(views, plan);
            return futures_util::future::try_join(hits, self.summaries_of_indexes(views, plan)).await;
        }
        let hits = self.hits_of_queries(views, plan).await?;
        plan.learn(hits.iter().map(|(hits, _)| hits));
        Ok((hits, self.summaries_of_indexes(views, plan).await?))
    }

    async fn hits_of_queries(
        &self,
        views: &Views,
        plan: &FederatedPlan,
    ) -> Result<Vec<Learnt<FederatedHits>>, ApiError> {
        let asks = (0..plan.queries().len()).map(|index| self.hits_of_query(views, plan, index));
        let mut answers = stream::iter(asks).buffered(QUERIES_AT_ONCE);
        let mut all = Vec::with_capacity(plan.queries().len());
        let mut bytes = 0usize;
        while let Some(answer) = answers.next().await {
            let (hits, missing) = answer?;
            bytes = bytes.saturating_add(hits.bytes());
            if bytes > MOST_BYTES {
                return Err(answer_too_large(all.len()));
            }
            all.push((hits, missing));
        }
        Ok(all)
    }

    async fn summaries_of_indexes(
        &self,
        views: &Views,
        plan: &FederatedPlan,
    ) -> Result<Vec<Learnt<IndexSummary>>, ApiError> {
        let asks = plan.index_uids().into_iter().map(|uid| self.summary_of_index(views, plan, uid));
        stream::iter(asks).buffered(QUERIES_AT_ONCE).try_collect().await
    }

    async fn hits_of_query(
        &self,
        views: &Views,
        plan: &FederatedPlan,
        index: usize,
    ) -> Result<Learnt<FederatedHits>, ApiError> {
        let query = plan.queries().get(index).ok_or_else(|| cannot_merge(MergeError::MissingAnswer))?;
        let view = view_of(views, &query.index_uid)?;
        self.ask_query(view, query).await.map_err(|error| inside(index, error))
    }

    async fn ask_query(
        &self,
        index: &IndexView,
        query: &FederatedQuery,
    ) -> Result<Learnt<FederatedHits>, ApiError> {
        let limit = self.config.node_timeout;
        let narrowing = query.plan.narrowing(index.ids());
        let reading = Reading::with_limit(limit).narrowed(narrowing, false);
        let by_frequency = FrequencySearch::new(&query.plan, &index.search);
        let mut gathered = self
            .gather(index, &reading, |ask| {
                let counting =
                    by_frequency.as_ref().map(|search| search.counting_body(&index.record.node_uid));
                let bodies = query.bodies(ask.filter).into_iter().chain(counting);
                bodies.map(|body| Call::post("/multi-search", body, limit)).collect()
            })
            .await?;
        let counts = by_frequency.as_ref().map(|search| (search, gathered.take_last()));
        let mut answers = gathered.bodies(self, index)?;
        if let Some((search, counts)) = counts {
            self.settle_word_order(index, search, &reading, &gathered.parts, &counts, &mut answers).await;
        }
        self.settle_last_word(index, &query.plan, &reading, &gathered.parts, &mut answers).await;
        Ok((query.merge(&answers).map_err(cannot_merge)?, gathered.missing))
    }

    async fn summary_of_index(
        &self,
        views: &Views,
        plan: &FederatedPlan,
        uid: String,
    ) -> Result<Learnt<IndexSummary>, ApiError> {
        let uid = uid.as_str();
        let index = view_of(views, uid)?;
        let limit = self.limit_for(plan.of_index(uid).count());
        let narrowing = plan.narrowing(uid, index.ids());
        let reading = Reading::with_limit(limit).narrowed(narrowing, false);
        let gathered = self
            .gather(index, &reading, |ask| {
                vec![Call::post("/multi-search", plan.summary_body(uid, ask.filter), limit)]
            })
            .await?;
        let together = match gathered.bodies(self, index) {
            Err(error) if error.code == RANKING_RULES_DIFFER => None,
            bodies => Some(bodies?),
        };
        if let Some(answers) = together {
            let summary = plan.summarise(uid, &index.search, &answers.concat()).map_err(cannot_merge)?;
            return Ok((summary, gathered.missing));
        }
        // A rule of Miroir's own keeps the queries from being asked together. Then that with the most documents
        // stands for all.
        let gathered = self
            .gather(index, &reading, |ask| {
                let bodies = plan.summary_bodies_apart(uid, ask.filter).into_iter();
                bodies.map(|body| Call::post("/multi-search", body, limit)).collect()
            })
            .await?;
        let bodies = gathered.bodies(self, index)?;
        let summary = plan.summarise_apart(uid, &index.search, &bodies).map_err(cannot_merge)?;
        Ok((summary, gathered.missing))
    }

    /// How long a node may take to answer so many queries, one after the other.
    fn limit_for(&self, queries: usize) -> Duration {
        let queries = u32::try_from(queries).unwrap_or(u32::MAX);
        let more = self.config.node_timeout.saturating_mul(queries / QUERIES_PER_TIMEOUT);
        self.config.node_timeout + more.min(MOST_MORE_TIME)
    }

    /// The request with the names that nodes have for the indexes, where those are others.
    fn on_nodes(&self, body: Vec<u8>, views: &Views) -> Vec<u8> {
        let all = self.indexes();
        if all.iter().all(|view| view.record.node_uid == view.record.uid) {
            return body;
        }
        let Ok(mut request) = serde_json::from_slice::<Value>(&body) else { return body };
        let name = |uid: &str| match views.get(uid) {
            Some(view) => view.record.node_uid.clone(),
            None if all.iter().any(|view| view.record.node_uid == uid) => format!("{ABSENT}{uid}"),
            None => uid.to_owned(),
        };
        for query in request.get_mut("queries").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(Value::String(uid)) = query.get_mut("indexUid") {
                *uid = name(uid);
            }
        }
        if let Some(Value::Object(facets)) = request.pointer_mut("/federation/facetsByIndex") {
            *facets = std::mem::take(facets).into_iter().map(|(uid, names)| (name(&uid), names)).collect();
        }
        request.to_string().into_bytes()
    }

    /// What a node that all the indexes are read from finds wrong with a federated search; `None` when nothing, or when
    /// there is no such node.
    async fn refusal_of_federated(&self, multi: &MultiSearch, views: &Views) -> Option<ApiError> {
        let has_all = |name: &str| views.values().all(|view| view.is_read_on(name));
        let node = self.fleet.up().find(|node| has_all(node.id().as_str()))?;
        let body = self.on_nodes(multi.federated_body_to_check(), views);
        let answer =
            node.send_trusted(&Call::post("/multi-search", body, self.limit_for(multi.len()))).await.ok()?;
        if !answer.status.is_client_error() {
            return None;
        }
        // Messages tell of one index, and are about what is displayed of it.
        let refusal = self.node_refusal(None, answer.status, &answer.body);
        let named =
            views.values().find(|view| refusal.message.contains(&format!("`{}`", view.record.node_uid)));
        let only = if views.len() == 1 { views.values().next() } else { named };
        let all = views.values().map(Arc::as_ref);
        let refusal = self.node_refusal_naming(only.map(Arc::as_ref), all, answer.status, &answer.body);
        // Only a rule of Miroir's own keeps these from being compared.
        let is_ours = refusal.code == RANKING_RULES_DIFFER && refusal.message.contains("_miroir_");
        (!is_ours).then_some(refusal)
    }
}

fn view_of<'v>(views: &'v Views, uid: &str) -> Result<&'v IndexView, ApiError> {
    views.get(uid).map(Arc::as_ref).ok_or_else(|| index_not_found(uid))
}

fn cannot_merge(error: MergeError) -> ApiError {
    tracing::error!(%error, "cannot merge the answers of the nodes");
    ApiError::internal(format!("The answers of the nodes cannot be merged: {error}."))
}

/// Begins the names of indexes that are not there, where nodes have others of the same name.
const ABSENT: &str = "_miroir_absent_";

/// A node's refusal with the names that clients have for the indexes.
fn to_clients(refusal: ApiError, views: &Views) -> ApiError {
    let names: Vec<(&str, &str)> =
        views.iter().map(|(uid, view)| (view.record.node_uid.as_str(), uid.as_str())).collect();
    let message = rename_indexes(&refusal.message, &names).replace(ABSENT, "");
    ApiError { message, ..refusal }
}
