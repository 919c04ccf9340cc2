//! The import worker: takes in the dump that was sent, goes on with it after a restart, and notes how it ended.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::worker::{Report, Worker};
use crate::archives::{Import, ImportStatus, NotMade};
use crate::clock::now;
use crate::cluster::Cluster;

const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Pause before an import that cannot go on now is tried again.
const PAUSE: Duration = Duration::from_secs(2);

/// The import worker.
pub(crate) struct ImportWorker;

#[async_trait]
impl Worker for ImportWorker {
    fn name(&self) -> &'static str {
        "import"
    }

    async fn step(&mut self, cluster: &Arc<Cluster>, report: &Report) -> Duration {
        let store = cluster.store.as_ref();
        let mut import = match Import::load(store).await {
            Ok(Some(import)) if import.status == ImportStatus::Running => import,
            Ok(_) => return LOOK_EVERY,
            Err(error) => {
                report.failed(&error.to_string());
                return PAUSE;
            }
        };
        match cluster.run_import(&mut import, report).await {
            Ok(()) => {
                import.status = ImportStatus::Succeeded;
                import.finished_at = Some(now());
            }
            Err(NotMade::Ever(error)) => {
                tracing::error!(import = import.id, error = error.message, "a dump was not imported");
                report.failed(&error.message);
                import.fail(&error);
            }
            Err(NotMade::Now(error)) => report.failed(&error.message),
        }
        if let Err(error) = import.save(store).await {
            report.failed(&error.to_string());
            return PAUSE;
        }
        match import.status {
            ImportStatus::Running => PAUSE,
            ImportStatus::Failed => LOOK_EVERY,
            ImportStatus::Succeeded => {
                cluster.forget_import_file(&import);
                report.finished();
                LOOK_EVERY
            }
        }
    }

    fn woken_by<'a>(&self, cluster: &'a Cluster) -> Option<&'a Notify> {
        Some(&cluster.import_wanted)
    }
}
