//! Telling one node something outside the sequencer, and waiting until it is done.

use std::time::Duration;

use http::Method;
use miroir_node::{Call, Node, NodeError, NodeTaskState, NodeTaskStatus};
use serde::Deserialize;
use tokio::time::Instant;

use crate::write::encode;

const ASK_LIMIT: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How much longer than needed a wait may be for looking so seldom: a twentieth.
const PAUSES_PER_WAIT: u32 = 20;

/// What a node answers to whatever becomes a task.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Enqueued {
    /// Number of the task on that node.
    pub task_uid: u64,
    /// When the node took it, in its own words.
    pub enqueued_at: Option<String>,
}

#[derive(Deserialize)]
struct Newest {
    results: Vec<Listed>,
}

/// A task as a node lists it.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listed {
    /// Its number.
    pub uid: u64,
    /// When the node took it, in its own words.
    pub enqueued_at: Option<String>,
}

/// Sends one write to a node and returns its task.
pub(crate) async fn enqueue(node: &Node, call: &Call) -> Result<u64, NodeError> {
    Ok(node.fetch::<Enqueued>(call).await?.task_uid)
}

/// Sends one write to a node and waits until it is done.
pub(crate) async fn carry_out(node: &Node, call: &Call, limit: Duration) -> Result<u64, NodeError> {
    let task = enqueue(node, call).await?;
    wait_for(node, task, limit).await?;
    Ok(task)
}

/// Waits until a node has carried out one of its tasks; an error when it failed or took too long.
pub(crate) async fn wait_for(node: &Node, task: u64, limit: Duration) -> Result<(), NodeError> {
    let state = wait_for_end(node, task, limit).await?;
    if state.status == NodeTaskStatus::Succeeded {
        return Ok(());
    }
    Err(NodeError::TaskFailed { node: node.id().clone(), task, error: state.error.unwrap_or_default() })
}

/// Waits until one of a node's tasks has ended, however it did; an error when that took too long.
pub(crate) async fn wait_for_end(
    node: &Node,
    task: u64,
    limit: Duration,
) -> Result<NodeTaskState, NodeError> {
    let begun = Instant::now();
    loop {
        match node.tasks(&[task], ASK_LIMIT).await?.into_iter().next() {
            Some(state) if state.status.is_final() => return Ok(state),
            _ if begun.elapsed() > limit => {
                return Err(NodeError::TimedOut { node: node.id().clone(), limit });
            }
            _ => tokio::time::sleep(pause_after(begun)).await,
        }
    }
}

/// Tells a node to cancel some of its tasks and returns once that is done, whether or not it was too late for some.
pub(crate) async fn cancel(node: &Node, tasks: &[u64], limit: Duration) -> Result<(), NodeError> {
    let uids = tasks.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let call = Call::new(Method::POST, format!("/tasks/cancel?uids={uids}"), ASK_LIMIT);
    carry_out(node, &call, limit).await.map(|_| ())
}

/// Whether a node has nothing left to do for an index.
pub(crate) async fn is_idle(node: &Node, uid: &str) -> Result<bool, NodeError> {
    let path = format!("/tasks?indexUids={}&statuses=enqueued,processing&limit=1", encode(uid));
    Ok(node.fetch::<Newest>(&Call::get(path, ASK_LIMIT)).await?.results.is_empty())
}

/// Waits until a node has nothing left to do for an index.
pub(crate) async fn wait_until_idle(node: &Node, uid: &str, limit: Duration) -> Result<(), NodeError> {
    let begun = Instant::now();
    while !is_idle(node, uid).await? {
        if begun.elapsed() > limit {
            return Err(NodeError::TimedOut { node: node.id().clone(), limit });
        }
        tokio::time::sleep(pause_after(begun)).await;
    }
    Ok(())
}

/// The pause before a node is asked again by who began to wait then.
fn pause_after(begun: Instant) -> Duration {
    (begun.elapsed() / PAUSES_PER_WAIT).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

/// The newest tasks of a node about an index that came after another one, at most so many.
pub(crate) async fn tasks_since(
    node: &Node,
    uid: &str,
    before: Option<u64>,
    most: usize,
) -> Result<Vec<u64>, NodeError> {
    let path = format!("/tasks?indexUids={}&limit={most}", encode(uid));
    let page: Newest = node.fetch_trusted(&Call::get(path, ASK_LIMIT)).await?;
    Ok(page.results.into_iter().map(|task| task.uid).filter(|task| Some(*task) > before).collect())
}

/// Whether a task about an index failed on a node since another one.
pub(crate) async fn failed_since(node: &Node, uid: &str, before: Option<u64>) -> Result<bool, NodeError> {
    let path = format!("/tasks?indexUids={}&statuses=failed,canceled&limit=1", encode(uid));
    let page: Newest = node.fetch(&Call::get(path, ASK_LIMIT)).await?;
    Ok(page.results.first().is_some_and(|task| Some(task.uid) > before))
}

/// The newest task of a node, about one index or any; `None` when it never had one.
pub(crate) async fn newest(node: &Node, uid: Option<&str>) -> Result<Option<u64>, NodeError> {
    let about = uid.map_or(String::new(), |uid| format!("&indexUids={}", encode(uid)));
    let page: Newest = node.fetch(&Call::get(format!("/tasks?limit=1{about}"), ASK_LIMIT)).await?;
    Ok(page.results.first().map(|task| task.uid))
}

/// The newest task of a node, or the newest up to a number.
pub(crate) async fn newest_up_to(node: &Node, uid: Option<u64>) -> Result<Option<Listed>, NodeError> {
    let from = uid.map_or(String::new(), |uid| format!("&from={uid}"));
    let page: Newest = node.fetch(&Call::get(format!("/tasks?limit=1{from}"), ASK_LIMIT)).await?;
    Ok(page.results.into_iter().next())
}
