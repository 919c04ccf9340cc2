//! `/tasks`: Miroir's own tasks, in the form Meilisearch gives its.

use std::sync::Arc;

use axum::extract::{Extension, Path, RawQuery, State};
use axum::response::Response;
use http::{Method, StatusCode};
use miroir_core::access::Access;
use miroir_core::error::{ApiError, ErrorType};
use miroir_node::Call;
use miroir_store::{TaskQuery, TaskRecord};
use serde_json::{Value, json};

use super::answer::{self, Failure};
use super::marks::Marks;
use super::task_filter::{ListRequest, Malformed, parse_list, parse_selection, spoilt};
use crate::clock::duration_between;
use crate::cluster::Cluster;
use crate::store_error;
use crate::write::{HIDDEN_DETAILS, encode};

/// How long it took, once it has ended.
pub(super) fn duration(task: &TaskRecord) -> Option<String> {
    duration_between(task.started_at.as_ref()?, task.finished_at.as_ref()?)
}

/// The details without what is kept for the end of the task, which is no business of clients.
pub(super) fn visible_details(task: &TaskRecord) -> Value {
    let mut details = task.details.clone();
    if let Some(fields) = details.as_object_mut() {
        for hidden in HIDDEN_DETAILS {
            fields.remove(hidden);
        }
    }
    details
}

/// A task as clients see it.
pub(crate) fn view(task: &TaskRecord) -> Value {
    let mut view = json!({
        "uid": task.uid,
        "batchUid": task.batch_uid(),
        "indexUid": task.index_uid,
        "status": task.status.as_str(),
        "type": task.kind,
        "canceledBy": task.canceled_by,
        "details": visible_details(task),
        "error": task.error,
        "duration": duration(task),
        "enqueuedAt": task.enqueued_at,
        "startedAt": task.started_at,
        "finishedAt": task.finished_at,
    });
    // Of a kind that never has any, Meilisearch does not show them.
    if let (Value::Null, Some(fields)) = (&task.details, view.as_object_mut()) {
        fields.shift_remove("details");
    }
    view
}

/// One task.
pub async fn get(
    State(cluster): State<Arc<Cluster>>,
    Extension(access): Extension<Access>,
    Path(uid): Path<String>,
) -> Result<Response, Failure> {
    let Ok(number) = uid.parse::<u32>() else {
        let call = Call::get(format!("/tasks/{}", encode(&uid)), cluster.config.node_timeout);
        return Err(cluster.refusal_of_one_node(None, &call).await.into());
    };
    let task = cluster.store.task(u64::from(number)).await.map_err(store_error)?;
    let visible = task.filter(|task| access.allows_what_is_about(task.index_uid.as_deref()));
    let task = visible.ok_or_else(|| {
        ApiError::new(404, "task_not_found", ErrorType::InvalidRequest, format!("Task `{number}` not found."))
    })?;
    Ok(answer::json(StatusCode::OK, &view(&task)))
}

/// The tasks that match, newest first.
pub async fn list(
    State(cluster): State<Arc<Cluster>>,
    Extension(access): Extension<Access>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let Ok(ListRequest { query, limit }) = parse_list(query.as_deref()) else {
        let call = Call::get(format!("/tasks?{}", query.unwrap_or_default()), cluster.config.node_timeout);
        return Err(cluster.refusal_of_one_node(None, &call).await.into());
    };
    let page =
        cluster.store.tasks(TaskQuery { visible: access.visible(), ..query }).await.map_err(store_error)?;
    let results: Vec<Value> = page.tasks.iter().map(view).collect();
    let from = page.tasks.first().map(|task| task.uid);
    let body =
        json!({ "results": results, "total": page.total, "limit": limit, "from": from, "next": page.next });
    Ok(answer::json(StatusCode::OK, &body))
}

/// The documents that a task brought: an experiment of Meilisearch's that is off unless somebody turns it on, which is
/// not supported, so this is always refused.
pub async fn documents(State(cluster): State<Arc<Cluster>>, Path(uid): Path<String>) -> Failure {
    let call = Call::get(format!("/tasks/{}/documents", encode(&uid)), cluster.config.node_timeout);
    cluster.refusal_of_one_node(None, &call).await.into()
}

/// Deletes the finished tasks that match.
pub async fn delete(
    State(cluster): State<Arc<Cluster>>,
    Extension(access): Extension<Access>,
    RawQuery(query): RawQuery,
    marks: Marks,
) -> Result<Response, Failure> {
    let filter = query.unwrap_or_default();
    let selection = match parse_selection(Some(&filter)) {
        Ok(Some(selection)) => TaskQuery { visible: access.visible(), ..selection },
        Ok(None) => return Err(missing_filters("delete").into()),
        Err(Malformed) => return Err(refused(&cluster, Method::DELETE, "/tasks", &filter).await),
    };
    let summary = cluster.delete_tasks(selection, &format!("?{filter}"), marks.without_body()).await?;
    Ok(answer::json(StatusCode::OK, &summary))
}

/// Cancels the tasks that match, as far as it is not too late for them.
pub async fn cancel(
    State(cluster): State<Arc<Cluster>>,
    Extension(access): Extension<Access>,
    RawQuery(query): RawQuery,
    marks: Marks,
) -> Result<Response, Failure> {
    let filter = query.unwrap_or_default();
    let selection = match parse_selection(Some(&filter)) {
        Ok(Some(selection)) => TaskQuery { visible: access.visible(), ..selection },
        Ok(None) => return Err(missing_filters("cancel").into()),
        Err(Malformed) => return Err(refused(&cluster, Method::POST, "/tasks/cancel", &filter).await),
    };
    let summary = cluster.cancel_tasks(selection, &format!("?{filter}"), marks.without_body()).await?;
    Ok(answer::json(StatusCode::OK, &summary))
}

/// A node's refusal of filters that are wrong.
async fn refused(cluster: &Cluster, method: Method, path: &str, filter: &str) -> Failure {
    let call = Call::new(method, format!("{path}?{}", spoilt(filter)), cluster.config.node_timeout);
    cluster.refusal_of_one_node(None, &call).await.into()
}

/// Nobody means all tasks by saying nothing.
fn missing_filters(to_do: &str) -> ApiError {
    ApiError::bad_request(
        "missing_task_filters",
        format!(
            "Query parameters to filter the tasks to {to_do} are missing. Available query parameters are: `uids`, \
             `indexUids`, `statuses`, `types`, `canceledBy`, `beforeEnqueuedAt`, `afterEnqueuedAt`, \
             `beforeStartedAt`, `afterStartedAt`, `beforeFinishedAt`, `afterFinishedAt`."
        ),
    )
}
