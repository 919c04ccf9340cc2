//! Deciding what a write amounts to, given the index as it stands: a task that fails at once, or an operation.
//!
//! A Meilisearch task is all or nothing, and nodes see only their own part of the documents. So everything a
//! node could refuse is checked here, with Meilisearch's own words, before anything is sent.

use std::sync::Arc;

use miroir_core::documents::{ContentRules, DocumentBatch, EmbedderRule, WriteMethod};
use miroir_core::error::{ApiError, ErrorType};
use miroir_core::placement::place;
use miroir_core::settings::{
    SettingsChange, SettingsContext, SettingsMethod, default_node_settings, ranking_rules_to_break_ties,
    to_node,
};
use miroir_core::shard::shard_of;
use miroir_store::{IndexRecord, moved_index_key};
use serde_json::{Value, json};

use crate::cluster::{Cluster, index_not_found};
use crate::index::IndexView;
use crate::read::SHARD_UNAVAILABLE;
use crate::store_error;
use crate::write::FORETOLD_ERROR;
use crate::write::deletions::Deletion;
use crate::write::operation::{Operation, Payload, TieBreak};
use crate::write::positions::PendingWrites;
use crate::write::refusal::unavailable;
use crate::write::request::{Prepared, ToSend, WriteRequest};

impl Cluster {
    /// Decides what a write amounts to. An `Err` is answered to the client at once, without a task.
    pub(crate) async fn prepare(
        &self,
        uid: &str,
        index: Option<&IndexView>,
        pending: &PendingWrites,
        request: WriteRequest,
        now: &str,
    ) -> Result<Prepared, ApiError> {
        let base = match index {
            Some(index) => index.record.clone(),
            None => self.new_record(uid, now).await?,
        };
        match request {
            WriteRequest::CreateIndex { primary_key } => {
                let details = json!({ "primaryKey": primary_key });
                if index.is_some() {
                    let message = format!("Index `{uid}` already exists.");
                    let error =
                        ApiError::new(409, "index_already_exists", ErrorType::InvalidRequest, message);
                    return Ok(Prepared::Ended { details, error: Some(error) });
                }
                let record = IndexRecord { primary_key: primary_key.clone(), ..base };
                let operation =
                    Operation::CreateIndex { primary_key, settings: self.default_node_settings(&record) };
                Ok(send(operation, details, Payload::None, Some(record)))
            }
            WriteRequest::UpdateIndex { primary_key } => {
                let details = json!({ "primaryKey": primary_key });
                let Some(index) = index else { return Ok(missing(uid, details)) };
                let Some(primary_key) = primary_key else {
                    return Ok(Prepared::Ended { details, error: None });
                };
                if let Some(current) = &index.record.primary_key
                    && *current != primary_key
                    && self.may_have_documents(index, pending).await
                {
                    let message = format!("Index `{uid}`: Index already has a primary key: `{current}`.");
                    let error = ApiError::bad_request("index_primary_key_already_exists", message);
                    return Ok(Prepared::Ended { details, error: Some(error) });
                }
                let record = IndexRecord {
                    primary_key: Some(primary_key.clone()),
                    updated_at: now.to_owned(),
                    ..index.record.clone()
                };
                Ok(send(Operation::UpdateIndex { primary_key }, details, Payload::None, Some(record)))
            }
            WriteRequest::DeleteIndex => match index {
                None => Ok(missing(uid, json!({ "deletedDocuments": 0 }))),
                Some(index) => {
                    let deleted = self.foretell(index, pending, Deletion::Everything).await;
                    let details = json!({ "deletedDocuments": deleted });
                    let operation = Operation::DeleteIndex { node_uid: Some(index.record.node_uid.clone()) };
                    Ok(send(operation, details, Payload::None, None))
                }
            },
            WriteRequest::ChangeSettings { route, method, body, may_create } => {
                let change = SettingsChange { route, method, body: body.as_deref() };
                self.prepare_settings(uid, index, base, &change, may_create, now)
            }
            WriteRequest::AddDocuments { batch, may_create: false, .. } if index.is_none() => {
                let details = json!({ "receivedDocuments": batch.received(), "indexedDocuments": 0 });
                Ok(missing(uid, details))
            }
            WriteRequest::AddDocuments { batch, update, primary_key, .. } => {
                self.prepare_documents(index, base, pending, batch, update, primary_key, now).await
            }
            WriteRequest::DeleteDocuments { ids } => {
                let details =
                    json!({ "providedIds": ids.len(), "deletedDocuments": null, "originalFilter": null });
                let Some(index) = index else { return Ok(nothing_to_delete(uid, details)) };
                if ids.is_empty() {
                    let details = json!({ "providedIds": 0, "deletedDocuments": 0, "originalFilter": null });
                    return Ok(Prepared::Ended { details, error: None });
                }
                let deleted = self.foretell(index, pending, Deletion::Ids(&ids)).await;
                let details =
                    json!({ "providedIds": ids.len(), "deletedDocuments": deleted, "originalFilter": null });
                let holders = index.holders(ids.iter().map(|id| shard_of(id, index.record.shards)));
                let (tie_break, record) = self.break_ties(index, holders, now);
                let operation = Operation::DeleteDocuments { ids, tie_break };
                Ok(send(operation, details, Payload::None, Some(record)))
            }
            WriteRequest::DeleteByFilter { filter } => {
                let details = json!({
                    "providedIds": 0, "deletedDocuments": null, "originalFilter": filter.to_string()
                });
                let Some(index) = index else { return Ok(nothing_to_delete(uid, details)) };
                let deleted = self.foretell(index, pending, Deletion::Filter(&filter)).await;
                let details = json!({
                    "providedIds": 0, "deletedDocuments": deleted, "originalFilter": filter.to_string()
                });
                let (tie_break, record) = self.break_ties(index, index.nodes(), now);
                let operation = Operation::DeleteByFilter { filter, tie_break };
                Ok(send(operation, details, Payload::None, Some(record)))
            }
            // What is added to an empty index is in order again.
            WriteRequest::ClearDocuments => {
                let details = json!({ "deletedDocuments": null });
                let Some(index) = index else { return Ok(nothing_to_delete(uid, details)) };
                let deleted = self.foretell(index, pending, Deletion::Everything).await;
                let details = json!({ "deletedDocuments": deleted });
                let record = IndexRecord { updated_at: now.to_owned(), ..index.record.clone() };
                Ok(send(Operation::ClearDocuments, details, Payload::None, Some(record)))
            }
        }
    }

    fn prepare_settings(
        &self,
        uid: &str,
        index: Option<&IndexView>,
        record: IndexRecord,
        change: &SettingsChange<'_>,
        may_create: bool,
        now: &str,
    ) -> Result<Prepared, ApiError> {
        let context = SettingsContext {
            overlay: &record.overlay,
            user_settings: &record.settings,
            needs: self.needs(&record),
        };
        let node_change = to_node(change, &context)?;
        // A reset does not make an index.
        if index.is_none() && (change.method == SettingsMethod::Delete || !may_create) {
            return Ok(missing(uid, node_change.details));
        }
        let create = index.is_none().then(|| self.default_node_settings(&record));
        let operation = Operation::ChangeSettings {
            create,
            method: method_name(node_change.method).to_owned(),
            suffix: node_change.path_suffix,
            body: node_change.body.map(|body| String::from_utf8_lossy(&body).into_owned()),
        };
        let record = IndexRecord { overlay: node_change.overlay, updated_at: now.to_owned(), ..record };
        Ok(send(operation, node_change.details, Payload::None, Some(record)))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one request, named where it is taken apart")]
    async fn prepare_documents(
        &self,
        index: Option<&IndexView>,
        record: IndexRecord,
        pending: &PendingWrites,
        mut batch: DocumentBatch,
        update: bool,
        requested: Option<String>,
        now: &str,
    ) -> Result<Prepared, ApiError> {
        let received = batch.received();
        let mut record = IndexRecord { updated_at: now.to_owned(), ..record };
        let empty = index.is_none().then(|| record.clone());
        let failed = |error: ApiError| {
            let mut details = json!({ "receivedDocuments": received, "indexedDocuments": 0 });
            // Meilisearch makes an index that is not there before it looks at the documents.
            let Some(empty) = empty else { return Ok(Prepared::Ended { details, error: Some(error) }) };
            details["indexedDocuments"] = Value::Null;
            details[FORETOLD_ERROR] = json!(error.body());
            let create = Some(self.default_node_settings(&empty));
            let operation = Operation::AddDocuments { create, update, primary_key: None, settles_key: false };
            Ok(send(operation, details, Payload::None, Some(empty)))
        };
        let changes_nothing = received == 0 && index.is_some() && requested.is_none();
        if changes_nothing {
            let details = json!({ "receivedDocuments": 0, "indexedDocuments": 0 });
            return Ok(Prepared::Ended { details, error: None });
        }
        let primary_key = match batch.resolve_primary_key(record.primary_key.as_deref(), requested.as_deref())
        {
            Ok(primary_key) => primary_key,
            Err(error) => return failed(error),
        };
        if let Some(primary_key) = &primary_key {
            let rules = content_rules(&record.uid, &record.settings, update);
            if let Err(error) = batch.identify(primary_key, record.shards, &rules) {
                return failed(error);
            }
            let known = match index {
                None => Default::default(),
                Some(index) => {
                    let known = self.known_positions(index, primary_key, pending, batch.distinct_ids()).await;
                    known.map_err(|error| match error.code == SHARD_UNAVAILABLE {
                        true => unavailable("nodes that may have some of the documents cannot be reached"),
                        false => error,
                    })?
                }
            };
            if let Err(error) = batch.check_required_vectors(&rules, |id| !known.contains_key(id)) {
                return failed(error);
            }
            record.next_position = batch.assign_positions(record.next_position, |id| known.get(id).copied());
            record.primary_key = Some(primary_key.clone());
            record.capital_ids |= batch.has_capital_ids();
        }
        let details = json!({
            "receivedDocuments": received,
            "indexedDocuments": null,
            "distinctDocuments": batch.distinct_len(),
        });
        let create = index.is_none().then(|| self.default_node_settings(&record));
        let settles_key =
            primary_key.is_some() && index.is_none_or(|index| index.record.primary_key.is_none());
        let operation = Operation::AddDocuments { create, update, primary_key, settles_key };
        Ok(send(operation, details, Payload::Batch(Arc::new(batch)), Some(record)))
    }

    /// A record for an index that is about to be made: placement over the nodes of every group.
    async fn new_record(&self, uid: &str, now: &str) -> Result<IndexRecord, ApiError> {
        // An index that went by this name may still have it on nodes, or be on its way off them.
        let moved = self.store.meta(&moved_index_key(uid)).await.map_err(store_error)?;
        let node_uid = if moved.is_some() { unused_node_uid() } else { uid.to_owned() };
        let shards = self.config.default_shards;
        let mut placement = vec![Vec::new(); usize::from(shards)];
        let groups: std::collections::BTreeSet<u32> =
            self.config.nodes.iter().map(|node| node.replica_group).collect();
        for group in groups {
            let nodes: Vec<&str> = (self.config.nodes.iter())
                .filter(|node| node.replica_group == group)
                .map(|node| node.id.as_str())
                .collect();
            let placed = place(&node_uid, shards, &nodes, self.config.replication_factor);
            for (shard, chosen) in placement.iter_mut().zip(placed) {
                shard.extend(
                    chosen.into_iter().filter_map(|node| nodes.get(node)).map(|node| (*node).to_owned()),
                );
            }
        }
        Ok(IndexRecord {
            uid: uid.to_owned(),
            node_uid,
            primary_key: None,
            shards,
            created_at: now.to_owned(),
            updated_at: now.to_owned(),
            next_position: 0,
            settings: Value::Null,
            overlay: Value::Null,
            settings_version: 0,
            settings_hash: String::new(),
            placement,
            placement_epoch: 0,
            disordered: Vec::new(),
            capital_ids: false,
        })
    }

    fn default_node_settings(&self, record: &IndexRecord) -> Value {
        default_node_settings(self.needs(record))
    }

    /// What the nodes on which documents are deleted must be told first, and the index's record after that. An
    /// index on one node is left alone: there is no other order to agree with.
    pub(super) fn break_ties(
        &self,
        index: &IndexView,
        nodes: Vec<String>,
        now: &str,
    ) -> (Option<TieBreak>, IndexRecord) {
        let mut record = IndexRecord { updated_at: now.to_owned(), ..index.record.clone() };
        // A node that missed something may have missed the rule as well; it is sent again in vain at worst.
        let may_lack_it = |node: &String| {
            !record.disordered.contains(node) || index.exceptions.keys().any(|(_, other)| other == node)
        };
        let nodes: Vec<String> = nodes.into_iter().filter(may_lack_it).collect();
        if nodes.is_empty() || index.nodes().len() < 2 {
            return (None, record);
        }
        record.disordered.extend(nodes.iter().cloned());
        record.disordered.sort();
        record.disordered.dedup();
        let ranking_rules =
            ranking_rules_to_break_ties(&record.overlay, &record.settings, self.fleet.oldest_version());
        (Some(TieBreak { nodes, ranking_rules }), record)
    }

    async fn may_have_documents(&self, index: &IndexView, pending: &PendingWrites) -> bool {
        if index.record.next_position == 0 {
            return false;
        }
        !pending.is_empty() || self.count_documents(index).await.map_or(true, |documents| documents > 0)
    }
}

/// A name that no index has on any node.
fn unused_node_uid() -> String {
    format!("_miroir_{}", uuid::Uuid::new_v4().simple())
}

/// What the settings ask of documents.
pub(super) fn content_rules(uid: &str, settings: &Value, update: bool) -> ContentRules {
    let names_geo = |list: &str| {
        let entries = settings.get(list).and_then(Value::as_array);
        entries.into_iter().flatten().any(|entry| match entry.get("attributePatterns") {
            None => entry == "_geo",
            Some(patterns) => {
                patterns.as_array().is_some_and(|all| all.iter().any(|pattern| pattern == "_geo"))
            }
        })
    };
    let embedders = settings.get("embedders").and_then(Value::as_object).into_iter().flatten();
    let rule = |(name, embedder): (&String, &Value)| EmbedderRule {
        name: name.clone(),
        dimensions: embedder.get("dimensions").and_then(Value::as_u64).map(|dimensions| dimensions as usize),
        user_provided: embedder.get("source").is_some_and(|source| source == "userProvided"),
    };
    ContentRules {
        index_uid: uid.to_owned(),
        method: if update { WriteMethod::Update } else { WriteMethod::Replace },
        geo: names_geo("filterableAttributes") || names_geo("sortableAttributes"),
        embedders: embedders.map(rule).collect(),
    }
}

fn method_name(method: SettingsMethod) -> &'static str {
    match method {
        SettingsMethod::Patch => "PATCH",
        SettingsMethod::Put => "PUT",
        SettingsMethod::Delete => "DELETE",
        SettingsMethod::Post => "POST",
    }
}

fn send(operation: Operation, details: Value, payload: Payload, record: Option<IndexRecord>) -> Prepared {
    Prepared::Send(Box::new(ToSend { operation, details, payload, record }))
}

fn missing(uid: &str, details: Value) -> Prepared {
    Prepared::Ended { details, error: Some(index_not_found(uid)) }
}

fn nothing_to_delete(uid: &str, mut details: Value) -> Prepared {
    if let Some(details) = details.as_object_mut() {
        details.insert("deletedDocuments".to_owned(), json!(0));
    }
    missing(uid, details)
}
