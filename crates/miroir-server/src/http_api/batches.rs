//! `/batches`: what a node would do at once. Miroir carries out each task by itself, so each task is a batch of its own;
//! only the tasks that another canceled are in the batch of that one, as with Meilisearch.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Extension, Path, RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use miroir_core::access::Access;
use miroir_core::error::{ApiError, ErrorType};
use miroir_node::Call;
use miroir_store::{BatchRecord, TaskQuery, TaskRecord, TaskStatus};
use serde_json::{Value, json};

use super::answer::{self, Failure};
use super::task_filter::{ListRequest, parse_list};
use super::tasks::{duration, visible_details};
use crate::cluster::Cluster;
use crate::store_error;
use crate::write::encode;

const FORGOTTEN: [&str; 9] = [
    "indexedDocuments",
    "editedDocuments",
    "primaryKey",
    "deletedDocuments",
    "canceledTasks",
    "deletedTasks",
    "originalFilter",
    "dumpUid",
    "context",
];

fn view(batch: &BatchRecord) -> Value {
    let task = &batch.task;
    json!({
        "uid": task.uid,
        // A node knows how far it is with its part, but not how much that is of the whole.
        "progress": null,
        "details": details(task),
        "stats": statistics(batch),
        "duration": duration(task),
        "startedAt": task.started_at,
        "finishedAt": task.finished_at,
        "batchStrategy": strategy(task.uid, &task.kind),
    })
}

/// The details of the task. Meilisearch writes batches down when they end, and then forgets which of these are known to
/// be nothing.
fn details(task: &TaskRecord) -> Value {
    let mut details = match visible_details(task) {
        Value::Null => json!({}),
        details => details,
    };
    if let (Value::Object(fields), true) = (&mut details, task.status.is_finished()) {
        fields.retain(|name, value| !value.is_null() || !FORGOTTEN.contains(&name.as_str()));
    }
    details
}

/// How many tasks of each status, kind and index there are.
fn statistics(batch: &BatchRecord) -> Value {
    let task = &batch.task;
    let mut total = 1;
    let mut statuses = BTreeMap::from([(task.status.as_str(), 1)]);
    let mut types = BTreeMap::from([(task.kind.as_str(), 1)]);
    let mut index_uids: BTreeMap<&str, u64> = task.index_uid.iter().map(|uid| (uid.as_str(), 1)).collect();
    for members in &batch.others {
        total += members.tasks;
        *statuses.entry(TaskStatus::Canceled.as_str()).or_default() += members.tasks;
        *types.entry(&members.kind).or_default() += members.tasks;
        if let Some(uid) = &members.index_uid {
            *index_uids.entry(uid).or_default() += members.tasks;
        }
    }
    json!({ "totalNbTasks": total, "status": statuses, "types": types, "indexUids": index_uids })
}

/// Why no other task is in the batch, in Meilisearch's words. Where it says that there were no more tasks, which Miroir
/// does not look for, these are the words for a task that is always alone.
fn strategy(uid: u64, kind: &str) -> String {
    match kind {
        "indexDeletion" => format!("stopped after task with id {uid} because it deletes the index"),
        "taskDeletion" | "snapshotCreation" => format!(
            "stopped after the last task of type `{kind}` because they cannot be batched with tasks of any other type."
        ),
        _ => format!(
            "created batch containing only task with id {uid} of type `{kind}` that cannot be batched with any other \
             task."
        ),
    }
}

/// One batch.
pub async fn get(
    State(cluster): State<Arc<Cluster>>,
    Extension(access): Extension<Access>,
    Path(uid): Path<String>,
) -> Result<Response, Failure> {
    let Ok(number) = uid.parse::<u32>() else {
        let call = Call::get(format!("/batches/{}", encode(&uid)), cluster.config.node_timeout);
        return Err(cluster.refusal_of_one_node(None, &call).await.into());
    };
    let batch_uids = Some(vec![number.into()]);
    let query = TaskQuery { batch_uids, visible: access.visible(), ..TaskQuery::default() };
    let page = cluster.store.batches(query).await.map_err(store_error)?;
    let batch = page.batches.first().ok_or_else(|| {
        let message = format!("Batch `{number}` not found.");
        ApiError::new(404, "batch_not_found", ErrorType::InvalidRequest, message)
    })?;
    Ok(answer::json(StatusCode::OK, &view(batch)))
}

/// The batches with a task that matches, newest first.
pub async fn list(
    State(cluster): State<Arc<Cluster>>,
    Extension(access): Extension<Access>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let Ok(ListRequest { query, limit }) = parse_list(query.as_deref()) else {
        let call = Call::get(format!("/batches?{}", query.unwrap_or_default()), cluster.config.node_timeout);
        return Err(cluster.refusal_of_one_node(None, &call).await.into());
    };
    let page =
        cluster.store.batches(TaskQuery { visible: access.visible(), ..query }).await.map_err(store_error)?;
    let results: Vec<Value> = page.batches.iter().map(view).collect();
    let from = page.batches.first().map(|batch| batch.task.uid);
    let body =
        json!({ "results": results, "total": page.total, "limit": limit, "from": from, "next": page.next });
    Ok(answer::json(StatusCode::OK, &body))
}
