//! Explaining a search: which shards and nodes it takes, and why, by the code that would make it.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use miroir_core::cover::{Cover, CoverPart};
use miroir_core::error::ApiError;
use miroir_core::hidden::shard_filter;
use miroir_core::pinning::Narrowing;
use miroir_core::search::{FrequencySearch, SearchPlan, Warning};
use miroir_node::Node;
use serde_json::{Value, json};

use super::gather::{Ask, Asked, Journal, Reading};
use super::search::Planned;
use super::{ReadAnswer, SearchInput};
use crate::cluster::Cluster;
use crate::index::IndexView;

impl Cluster {
    /// How a search would be answered; if `execute`, it is answered as well, and timed.
    pub async fn explain(
        &self,
        uid: &str,
        input: SearchInput,
        execute: bool,
    ) -> Result<ReadAnswer, ApiError> {
        let begun = Instant::now();
        let Planned { index, plan, .. } = self.plan_search(uid, &input).await?;
        let reading = self.reading_of(&index, &plan);
        let cover = self.cover_without(&index, &reading, &HashSet::new());
        let mut explained = self.describe(&index, &plan, &reading, &cover);
        let (mut missing, mut settings_inconsistent) = (Vec::new(), false);
        if execute {
            let (execution, answer) = self.execute(&index, &plan, reading, begun).await;
            explained["execution"] = execution;
            // The answer that is shown is no more whole than when it is given.
            if let Some(answer) = answer {
                (missing, settings_inconsistent) = (answer.missing, answer.settings_inconsistent);
            }
        }
        Ok(ReadAnswer { body: explained.to_string().into(), missing, settings_inconsistent })
    }

    fn describe(&self, index: &IndexView, plan: &SearchPlan, reading: &Reading, cover: &Cover) -> Value {
        let record = &index.record;
        let fleet: Vec<&Arc<Node>> = self.fleet.iter().collect();
        let alone = cover.missing.is_empty() && reading.is_answered_by(cover);
        let by_frequency = FrequencySearch::new(plan, &index.search);
        let covered = cover.parts.iter().map(|part| part.shards.len()).sum();
        let mut requests = 0;
        let mut nodes = Vec::with_capacity(cover.parts.len());
        for part in &cover.parts {
            let Some(node) = fleet.get(part.node) else { continue };
            let filter = (!part.whole).then(|| shard_filter(part.shards.iter().copied()));
            let shards = (!part.whole).then_some(part.shards.as_slice());
            let ask = Ask { part, covered, shards, filter: filter.as_deref(), alone };
            let calls = self.calls_of_search(index, plan, by_frequency.as_ref(), &ask, false).len();
            requests += calls;
            nodes.push(describe_node(node, part, filter.as_deref(), calls));
        }
        let groups: BTreeSet<u32> =
            cover.parts.iter().filter_map(|part| Some(fleet.get(part.node)?.group())).collect();
        let why = match plan.narrowing(index.ids()) {
            Narrowing::To(_) => "the filter names the ids it wants, which are on these shards",
            Narrowing::Nothing(why) => why.reason(),
        };
        let asked: BTreeSet<_> = cover.parts.iter().flat_map(|part| part.shards.iter().copied()).collect();
        let mut warnings = plan.warnings(&record.settings, nodes.len());
        warnings.extend(self.warnings_of_index(index, cover));
        let warnings: Vec<Value> = (warnings.into_iter())
            .map(|warning| json!({ "code": warning.code, "message": warning.message }))
            .collect();
        json!({
            "indexUid": record.uid,
            "primaryKey": record.primary_key,
            "placementEpoch": record.placement_epoch,
            "settingsVersion": record.settings_version,
            "kind": plan.kind_name(),
            "shards": {
                "total": record.shards,
                "asked": asked,
                "unavailable": cover.missing,
                "reason": why,
            },
            "replicaGroups": groups,
            "nodes": nodes,
            "fanOut": { "nodes": nodes.len(), "requests": requests, "merges": !alone },
            "warnings": warnings,
        })
    }

    /// What is questionable about the index at this moment.
    fn warnings_of_index(&self, index: &IndexView, cover: &Cover) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if index.settings_are_changing() {
            let message =
                "A change of settings is on its way: nodes may answer by the old ones or the new ones.";
            warnings.push(Warning { code: "settings_drifting", message: message.to_owned() });
        }
        if !index.exceptions.is_empty() {
            let message = format!(
                "{} replicas are behind and not read until they are repaired; `GET /_miroir/replicas` tells which.",
                index.exceptions.len()
            );
            warnings.push(Warning { code: "replicas_behind", message });
        }
        if !cover.missing.is_empty() {
            let message = "No node that can be reached holds some of the shards.".to_owned();
            warnings.push(Warning { code: "shards_unavailable", message });
        }
        warnings
    }

    /// Makes the search, and tells how long everything took.
    async fn execute(
        &self,
        index: &IndexView,
        plan: &SearchPlan,
        reading: Reading,
        begun: Instant,
    ) -> (Value, Option<ReadAnswer>) {
        let journal: Arc<Journal> = Arc::new(Mutex::default());
        let reading = reading.noted_in(&journal);
        let planned = begun.elapsed();
        let answer = self.answer_search(index, plan, &reading, begun).await;
        let total = begun.elapsed();
        let fleet: Vec<&Arc<Node>> = self.fleet.iter().collect();
        let asked: Vec<Asked> = std::mem::take(&mut *journal.lock().unwrap_or_else(PoisonError::into_inner));
        let slowest = asked.iter().map(|asked| asked.took).max().unwrap_or_default();
        let nodes: Vec<Value> = (asked.iter())
            .filter_map(|asked| {
                let node = fleet.get(asked.node)?.id().as_str();
                let (shards, requests) = (asked.shards, asked.requests);
                let (ms, answered) = (millis(asked.took), asked.answered);
                Some(json!({
                    "node": node, "shards": shards, "requests": requests, "ms": ms, "answered": answered,
                }))
            })
            .collect();
        let mut executed = json!({
            "totalMs": millis(total),
            "planningMs": millis(planned),
            "slowestNodeMs": millis(slowest),
            "nodes": nodes,
        });
        match answer {
            Ok(answer) => {
                executed["shardsUnavailable"] = json!(answer.missing);
                executed["answer"] = serde_json::from_slice(&answer.body).unwrap_or_default();
                (executed, Some(answer))
            }
            Err(error) => {
                executed["error"] = json!(error.body());
                (executed, None)
            }
        }
    }
}

fn describe_node(node: &Node, part: &CoverPart, filter: Option<&str>, requests: usize) -> Value {
    let speed = node.speed();
    json!({
        "node": node.id().as_str(),
        "replicaGroup": node.group(),
        "health": node.health().state(),
        "shards": part.shards,
        "filterAdded": filter,
        "requests": requests,
        "callsInFlight": node.in_flight(),
        "searchMs": { "average": millis(speed.average), "p95": speed.percentile.map(millis) },
    })
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}
