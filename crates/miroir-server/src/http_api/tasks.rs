//! `/tasks`: Miroir's own tasks, in the form Meilisearch gives its.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use miroir_core::error::{ApiError, ErrorType};
use miroir_node::Call;
use miroir_store::{TaskQuery, TaskRecord, TaskStatus};
use serde_json::{Value, json};

use super::answer::{self, Failure};
use super::parameters;
use crate::clock::duration_between;
use crate::cluster::Cluster;
use crate::store_error;
use crate::write::encode;

/// Kinds of tasks that Meilisearch knows; asking for another is an error there.
const KINDS: [&str; 14] = [
    "documentAdditionOrUpdate",
    "documentEdition",
    "documentDeletion",
    "settingsUpdate",
    "indexCreation",
    "indexDeletion",
    "indexUpdate",
    "indexSwap",
    "taskCancelation",
    "taskDeletion",
    "dumpCreation",
    "snapshotCreation",
    "export",
    "upgradeDatabase",
];
const DEFAULT_LIMIT: u64 = 20;

fn view(task: &TaskRecord) -> Value {
    let duration = match (&task.started_at, &task.finished_at) {
        (Some(start), Some(end)) => duration_between(start, end),
        _ => None,
    };
    let mut details = task.details.clone();
    if let Some(fields) = details.as_object_mut() {
        // Kept for the end of the task; no business of clients.
        fields.remove("distinctDocuments");
    }
    // Every Miroir task is a batch of its own.
    let batch = (task.status != TaskStatus::Enqueued).then_some(task.uid);
    json!({
        "uid": task.uid,
        "batchUid": batch,
        "indexUid": task.index_uid,
        "status": task.status.as_str(),
        "type": task.kind,
        "canceledBy": task.canceled_by,
        "details": details,
        "error": task.error,
        "duration": duration,
        "enqueuedAt": task.enqueued_at,
        "startedAt": task.started_at,
        "finishedAt": task.finished_at,
    })
}

/// One task.
pub async fn get(State(cluster): State<Arc<Cluster>>, Path(uid): Path<String>) -> Result<Response, Failure> {
    let Ok(number) = uid.parse::<u32>() else {
        let call = Call::get(format!("/tasks/{}", encode(&uid)), cluster.config.node_timeout);
        return Err(cluster.refusal_of_one_node(None, &call).await.into());
    };
    let task = cluster.store.task(u64::from(number)).await.map_err(store_error)?;
    let task = task.ok_or_else(|| {
        ApiError::new(404, "task_not_found", ErrorType::InvalidRequest, format!("Task `{number}` not found."))
    })?;
    Ok(answer::json(StatusCode::OK, &view(&task)))
}

/// The tasks that match, newest first.
pub async fn list(
    State(cluster): State<Arc<Cluster>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let Some((filter, limit)) = parse(query.as_deref()) else {
        let call = Call::get(format!("/tasks?{}", query.unwrap_or_default()), cluster.config.node_timeout);
        return Err(cluster.refusal_of_one_node(None, &call).await.into());
    };
    let page = cluster.store.tasks(filter).await.map_err(store_error)?;
    let results: Vec<Value> = page.tasks.iter().map(view).collect();
    let from = page.tasks.first().map(|task| task.uid);
    let body =
        json!({ "results": results, "total": page.total, "limit": limit, "from": from, "next": page.next });
    Ok(answer::json(StatusCode::OK, &body))
}

/// `None` when something is not as Meilisearch wants it.
fn parse(query: Option<&str>) -> Option<(TaskQuery, u64)> {
    let mut filter = TaskQuery::default();
    let mut limit = DEFAULT_LIMIT;
    let list = |value: &str| -> Option<Vec<String>> {
        // `*` is everything.
        (value != "*").then(|| value.split(',').map(|item| item.trim().to_owned()).collect())
    };
    let numbers = |items: Option<Vec<String>>| -> Option<Option<Vec<u64>>> {
        let Some(items) = items else { return Some(None) };
        let numbers = items.iter().map(|item| item.parse::<u32>().ok().map(u64::from));
        numbers.collect::<Option<Vec<u64>>>().map(Some)
    };
    for (name, value) in parameters::pairs(query) {
        match name.as_str() {
            "limit" => limit = u64::from(value.parse::<u32>().ok()?),
            "from" => filter.from = Some(u64::from(value.parse::<u32>().ok()?)),
            "reverse" => filter.reverse = value.parse().ok()?,
            "uids" => filter.uids = numbers(list(&value))?,
            "canceledBy" => filter.canceled_by = numbers(list(&value))?,
            "indexUids" => filter.index_uids = list(&value),
            "statuses" => {
                filter.statuses = match list(&value) {
                    None => None,
                    Some(items) => {
                        Some(items.iter().map(|item| TaskStatus::parse(item)).collect::<Option<_>>()?)
                    }
                }
            }
            "types" => {
                let items = list(&value);
                let all_known = items
                    .as_ref()
                    .is_none_or(|items| items.iter().all(|item| KINDS.contains(&item.as_str())));
                filter.types = all_known.then_some(items)?;
            }
            _ => return None,
        }
    }
    filter.limit = Some(limit);
    Some((filter, limit))
}

/// Deleting tasks.
pub async fn delete() -> Result<Response, Failure> {
    Err(super::unsupported::unsupported("Deleting tasks").into())
}
