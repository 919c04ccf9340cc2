//! The archives worker: carries out the tasks that make a dump or a snapshot, one after the other.
//!
//! Such a task begins when all before it have ended. One that a stopped process left is begun anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use miroir_store::{TaskOutcome, TaskQuery, TaskRecord, TaskStatus};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::worker::{Report, Worker};
use crate::archives::{ArchiveKind, NotMade};
use crate::clock::now;
use crate::cluster::Cluster;

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The same while the next one waits for the tasks before it.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Pause before something that could not be done now is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// For how long it is tried again.
const PATIENCE: Duration = Duration::from_secs(600);

/// The archives worker.
#[derive(Default)]
pub(crate) struct ArchivesWorker {
    /// The task that cannot be done now, since when.
    put_off: Option<(u64, Instant)>,
}

#[async_trait]
impl Worker for ArchivesWorker {
    fn name(&self) -> &'static str {
        "archives"
    }

    async fn step(&mut self, cluster: &Arc<Cluster>, report: &Report) -> Duration {
        let unfinished = TaskQuery {
            statuses: Some(vec![TaskStatus::Enqueued, TaskStatus::Processing]),
            limit: Some(1),
            reverse: true,
            ..TaskQuery::default()
        };
        let ours = TaskQuery {
            types: Some(ArchiveKind::ALL.iter().map(|kind| kind.name().to_owned()).collect()),
            ..unfinished.clone()
        };
        // Only when there is one of ours, the oldest of all is of interest.
        let next = match cluster.store.tasks(ours).await {
            Ok(page) => page.tasks.into_iter().next(),
            Err(error) => {
                report.failed(&error.to_string());
                None
            }
        };
        let Some(task) = next else { return LOOK_EVERY };
        let Some(kind) = ArchiveKind::of(&task.kind) else { return LOOK_EVERY };
        let oldest = cluster.store.tasks(unfinished).await;
        if oldest.is_ok_and(|page| page.tasks.first().is_some_and(|oldest| oldest.uid < task.uid)) {
            report.doing(format!("task {}: waiting for those before it", task.uid));
            return LOOK_AGAIN;
        }
        match self.carry_out(cluster, kind, &task, report).await {
            Ok(()) => Duration::ZERO,
            Err(reason) => {
                report.failed(&reason);
                PAUSE
            }
        }
    }

    fn woken_by<'a>(&self, cluster: &'a Cluster) -> Option<&'a Notify> {
        Some(&cluster.archive_wanted)
    }
}

impl ArchivesWorker {
    /// Carries out a task to its end; an error says why not now.
    async fn carry_out(
        &mut self,
        cluster: &Cluster,
        kind: ArchiveKind,
        task: &TaskRecord,
        report: &Report,
    ) -> Result<(), String> {
        let begun = cluster.store.set_processing(vec![task.uid], now()).await;
        begun.map_err(|error| error.to_string())?;
        let made = match kind {
            ArchiveKind::Dump => cluster.make_dump(report).await.map(|uid| json!({ "dumpUid": uid })),
            ArchiveKind::Snapshot => cluster.make_snapshot(report).await.map(|()| Value::Null),
        };
        let outcome = match made {
            Ok(details) => outcome(TaskStatus::Succeeded, None, details),
            Err(failure) => {
                let (first, since) = self.put_off.unwrap_or((task.uid, Instant::now()));
                let since = if first == task.uid { since } else { Instant::now() };
                let error = failure.error();
                if matches!(failure, NotMade::Now(_)) && since.elapsed() < PATIENCE {
                    self.put_off = Some((task.uid, since));
                    return Err(error.message.clone());
                }
                tracing::error!(task = task.uid, error = error.message, "an archive was not made");
                let error = serde_json::to_value(error.body()).ok();
                outcome(TaskStatus::Failed, error, task.details.clone())
            }
        };
        self.put_off = None;
        cluster.store.finish(task.uid, outcome).await.map_err(|error| error.to_string())?;
        report.finished();
        cluster.tasks_have_ended();
        Ok(())
    }
}

fn outcome(status: TaskStatus, error: Option<Value>, details: Value) -> TaskOutcome {
    TaskOutcome {
        status,
        error,
        details: Some(details),
        canceled_by: None,
        started_at: None,
        finished_at: now(),
    }
}
