//! Having a function edit documents.
//!
//! A function must not be applied twice, nor on each copy apart, nor see Miroir's fields. So it is applied once, to
//! copies of the documents in a scratch index, and what it did becomes a write like any other: documents replaced and
//! documents deleted, numbered, recorded as an intent, and repeatable.

use std::sync::Arc;

use bytes::Bytes;
use miroir_core::documents::{DocumentBatch, Edited, Edition, Format};
use miroir_core::error::{ApiError, ErrorBody, ErrorType};
use miroir_core::hidden::shard_filter;
use miroir_core::node_message::rename_indexes;
use miroir_core::shard::{ShardId, shard_of};
use miroir_node::{Node, NodeAnswer, NodeError};
use miroir_store::{IndexRecord, Intent, TaskOutcome};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::later::{Done, LaterError, succeeded};
use super::scratch::{PAGE, Scratch, new_name, read_page};
use crate::clock::now;
use crate::cluster::{Cluster, index_not_found};
use crate::index::{Index, IndexView};
use crate::read::reserved_field;
use crate::write::dispatch::Dispatched;
use crate::write::operation::{Operation, Payload};
use crate::write::outcome::{failed_outcome, with_changes_of_others};
use crate::write::positions::PendingWrites;
use crate::write::prepare::content_rules;
use crate::write::recovery::Interrupted;
use crate::write::sequencer::{index_change, remember};

/// What a client asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Edit {
    filter: Option<Value>,
    context: Option<Value>,
    function: String,
    /// Name of the scratch index.
    scratch: String,
}

/// What a function did to documents.
struct Applied {
    /// How many it was applied to.
    matched: usize,
    edited: Edited,
}

/// A node, and the shards to read from it.
type Source<'a> = (&'a Arc<Node>, Vec<ShardId>);

/// What a client is told, or why that cannot be found out yet.
enum Failed {
    Told(ApiError),
    NotNow(LaterError),
}

impl From<NodeError> for Failed {
    fn from(error: NodeError) -> Self {
        Self::NotNow(error.into())
    }
}

impl Edit {
    /// What a client asks for.
    pub fn new(filter: Option<Value>, context: Option<Value>, function: String) -> Self {
        Self { filter, context, function, scratch: new_name() }
    }

    /// Meilisearch's `details`.
    pub fn details(&self, edited: Option<usize>, deleted: Option<usize>) -> Value {
        json!({
            "editedDocuments": edited,
            "deletedDocuments": deleted,
            "originalFilter": self.filter.as_ref().map(Value::to_string),
            "context": self.context,
            "function": self.function,
        })
    }
}

impl Cluster {
    /// Applies a function to documents, and makes a write of what it did. The index's queue is held, and nothing is on
    /// its way.
    pub(super) async fn edit(
        &self,
        index: &Index,
        pending: &mut PendingWrites,
        task: u64,
        edit: &Edit,
    ) -> Result<Done, LaterError> {
        let ended = async |outcome: TaskOutcome| {
            self.store.abandon_intent(task, outcome, Vec::new()).await.map_err(LaterError::Store)?;
            Ok(Done::Ended)
        };
        let failed = |error: &ApiError| TaskOutcome {
            details: Some(edit.details(Some(0), None)),
            ..failed_outcome(error)
        };
        let Some(view) = index.view() else { return ended(failed(&index_not_found(&index.uid))).await };
        let downs = self.downs(&view);
        let applied = match self.apply_aside(&view, edit).await {
            Ok(applied) => applied,
            Err(Failed::Told(error)) => return ended(failed(&error)).await,
            Err(Failed::NotNow(error)) => return Err(error),
        };
        if self.downs(&view) != downs {
            // What was read may be of two disks.
            return Err(LaterError::NotNow("a node went down meanwhile".to_owned()));
        }
        let details = edit.details(Some(applied.matched), Some(applied.matched));
        if applied.edited.changed.is_empty() && applied.edited.dropped.is_empty() {
            return ended(succeeded(Some(details))).await;
        }
        match self.write_of(&view, pending, applied.edited).await {
            Err(Failed::Told(error)) => ended(failed(&error)).await,
            Err(Failed::NotNow(error)) => Err(error),
            Ok((operation, payload, record)) => {
                self.record_edit(index, pending, &view, task, details, (operation, payload, record)).await
            }
        }
    }

    /// Applies a function to copies of the documents.
    async fn apply_aside(&self, view: &IndexView, edit: &Edit) -> Result<Applied, Failed> {
        let primary_key = view.record.primary_key.as_deref().unwrap_or_default();
        let mut edition = Edition::new(primary_key, &view.record.settings);
        let Some(node) = self.fleet.up().next() else { return Err(not_now("no node can be reached")) };
        let scratch = Scratch { node, uid: &edit.scratch };
        let mut queued = Vec::new();
        for (source, shards) in self.sources(view)? {
            let filter = selection(edit.filter.as_ref(), &shards);
            let mut offset = 0;
            loop {
                let page =
                    read_page(source, &view.record.node_uid, json!({ "filter": filter }), offset).await?;
                let page = page.map_err(|answer| self.filter_refusal(view, &answer))?;
                let is_first = edition.is_empty();
                let documents = edition.add(&page.results).map_err(|error| unintelligible(source, &error))?;
                if !page.results.is_empty() {
                    if is_first {
                        scratch.make(primary_key).await?;
                    }
                    scratch.put(documents, &mut queued).await?;
                }
                if page.results.len() < PAGE {
                    break;
                }
                offset += PAGE;
            }
        }
        let matched = edition.len();
        if matched == 0 {
            return Ok(Applied { matched, edited: edition.finish() });
        }
        let context = edit.context.clone().unwrap_or_default();
        let done = scratch.edit(&edit.function, &context, &queued).await?;
        let fits = match done {
            Ok(()) => scratch.read_back(&mut edition, self.config.max_body_bytes).await?,
            Err(_) => true,
        };
        // What stays behind is dropped when the node is checked the next time.
        if let Err(error) = scratch.drop().await {
            tracing::warn!(index = %view.record.uid, %error, "a scratch index stays on a node");
        }
        if let Err(said) = done {
            return Err(Failed::Told(error_of(&said, &edit.scratch, &view.record.uid)));
        }
        if !fits {
            return Err(Failed::Told(too_much(self.config.max_body_bytes)));
        }
        Ok(Applied { matched, edited: edition.finish() })
    }

    /// For each shard one node to read it from.
    fn sources(&self, view: &IndexView) -> Result<Vec<Source<'_>>, Failed> {
        let mut sources: Vec<Source<'_>> = Vec::new();
        for (shard, nodes) in view.shards() {
            let readable = nodes.iter().filter(|node| view.replica_state(shard, node).is_readable());
            let mut up =
                readable.filter_map(|node| self.fleet.get(node)).filter(|node| node.health().is_up());
            let Some(node) = up.next() else {
                return Err(not_now(&format!("no replica of shard {} can be reached", shard.0)));
            };
            match sources.iter_mut().find(|(other, _)| other.id() == node.id()) {
                Some((_, shards)) => shards.push(shard),
                None => sources.push((node, vec![shard])),
            }
        }
        Ok(sources)
    }

    /// A node refuses to select documents. That the filter is wrong is the error of the task.
    fn filter_refusal(&self, view: &IndexView, answer: &NodeAnswer) -> Failed {
        let mut refusal = self.node_refusal(Some(view), answer.status, &answer.body);
        if !refusal.code.ends_with("_filter") && refusal.code != "feature_not_enabled" {
            return not_now(&refusal.message);
        }
        if !refusal.message.starts_with("Index `") {
            refusal.message = format!("Index `{}`: {}", view.record.uid, refusal.message);
        }
        Failed::Told(refusal)
    }

    /// The write that replaces what was changed and deletes what was dropped.
    async fn write_of(
        &self,
        view: &IndexView,
        pending: &PendingWrites,
        edited: Edited,
    ) -> Result<(Operation, Payload, IndexRecord), Failed> {
        let Edited { changed, dropped } = edited;
        let primary_key = view.record.primary_key.clone().unwrap_or_default();
        let holders = view.holders(dropped.iter().map(|id| shard_of(id, view.record.shards)));
        let (tie_break, mut record) = match dropped.is_empty() {
            true => (None, IndexRecord { updated_at: now(), ..view.record.clone() }),
            false => self.break_ties(view, holders, &now()),
        };
        let mut payload = Payload::None;
        if !changed.is_empty() {
            let mut batch =
                DocumentBatch::parse(Bytes::from(changed), Format::Ndjson).map_err(Failed::Told)?;
            if let Some(reserved) = batch.reserved_field() {
                return Err(Failed::Told(reserved_field(&reserved.name)));
            }
            let rules = content_rules(&record.uid, &record.settings, false);
            batch.identify(&primary_key, record.shards, &rules).map_err(Failed::Told)?;
            let known = self.known_positions(view, &primary_key, pending, batch.distinct_ids()).await;
            let known = known.map_err(|error| not_now(&error.message))?;
            record.next_position = batch.assign_positions(record.next_position, |id| known.get(id).copied());
            record.capital_ids |= batch.has_capital_ids();
            payload = Payload::Batch(Arc::new(batch));
        }
        Ok((Operation::EditDocuments { primary_key, dropped, tie_break }, payload, record))
    }

    /// Records the write in the place of the request.
    async fn record_edit(
        &self,
        index: &Index,
        pending: &mut PendingWrites,
        judged_by: &IndexView,
        task: u64,
        details: Value,
        (operation, payload, record): (Operation, Payload, IndexRecord),
    ) -> Result<Done, LaterError> {
        let recording = index.recording.lock().await;
        let before = index.view();
        let record = with_changes_of_others(record, Some(judged_by), before.as_deref());
        let every_shard: Arc<[bool]> = vec![true; usize::from(record.shards)].into();
        let intent = Intent {
            operation: serde_json::to_value(&operation)
                .map_err(|error| LaterError::NotNow(error.to_string()))?,
            payload: Box::new(payload.chunks(every_shard).map(Ok)),
            index_changes: vec![index_change(before.as_deref(), Some(&record), &index.uid)],
        };
        self.store.replace_intent(task, details, intent).await?;
        let exceptions = before.as_ref().map(|view| view.exceptions.clone()).unwrap_or_default();
        index.set_view(Some(IndexView::new(record, exceptions, before.as_deref())));
        drop(recording);
        remember(pending, task, &operation, &payload);
        let (dispatched, decided) = (Dispatched::default(), true);
        Ok(Done::ToSend(Box::new(Interrupted { task_uid: task, operation, dispatched, decided })))
    }
}

/// The client's filter for documents of some shards.
fn selection(filter: Option<&Value>, shards: &[ShardId]) -> Value {
    let mut all = match filter {
        None => Vec::new(),
        Some(Value::Array(parts)) => parts.clone(),
        Some(one) => vec![one.clone()],
    };
    all.push(Value::String(shard_filter(shards.iter().copied())));
    Value::Array(all)
}

/// What a node said of a function, about the index and not the scratch index.
fn error_of(said: &Value, scratch: &str, uid: &str) -> ApiError {
    match serde_json::from_value::<ErrorBody>(said.clone()) {
        Ok(error) => {
            let message = rename_indexes(&error.message, &[(scratch, uid)]);
            ApiError::new(400, error.code, error.kind, message)
        }
        Err(_) => ApiError::internal("a node could not apply the function, and did not say why"),
    }
}

fn too_much(most_bytes: usize) -> ApiError {
    let message = format!(
        "The function changes more than {} MiB of documents, which is the most that is written at once. Edit them in \
         parts, each selected by a filter.",
        most_bytes / 1024 / 1024
    );
    ApiError::new(413, "miroir_edit_too_large", ErrorType::InvalidRequest, message)
}

fn not_now(reason: &str) -> Failed {
    Failed::NotNow(LaterError::NotNow(reason.to_owned()))
}

fn unintelligible(node: &Node, error: &serde_json::Error) -> Failed {
    Failed::NotNow(node.unintelligible(error.to_string()).into())
}
