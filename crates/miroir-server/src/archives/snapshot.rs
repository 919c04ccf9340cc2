//! Making a snapshot: every node makes its own, and Miroir copies its store beside them.
//!
//! The store is copied first: nodes that know more than Miroir can be compared and mended, but a node that knows less
//! than it acknowledged is not believed. Writes wait meanwhile, so that all of it is of one moment, but not for long.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use miroir_core::error::{ApiError, ErrorType};
use miroir_node::{Call, NodeError};
use tokio::time::Instant;

use super::file::Temporary;
use super::{NotMade, file_error};
use crate::cluster::Cluster;
use crate::index::Index;
use crate::replicas::ensure::{HOLD_LIMIT, QUEUE_LIMIT, RepairError, drain};
use crate::replicas::node_tasks::{enqueue, wait_for};
use crate::workers::Report;

const CALL_LIMIT: Duration = Duration::from_secs(30);
/// A node copies all that it has.
const NODE_LIMIT: Duration = Duration::from_secs(6 * 60 * 60);

impl Cluster {
    /// Makes a snapshot of everything.
    pub(crate) async fn make_snapshot(&self, report: &Report) -> Result<(), NotMade> {
        let indexes: Vec<Arc<Index>> =
            self.indexes().iter().map(|view| self.handle(&view.record.uid)).collect();
        for index in &indexes {
            drain(self, &index.uid).await?;
        }
        let held_until = Instant::now() + HOLD_LIMIT;
        let mut queues = Vec::new();
        for index in &indexes {
            let turn = index.turn(QUEUE_LIMIT.min(held_until.saturating_duration_since(Instant::now())));
            queues.push(turn.await.map_err(RepairError::NotNow)?);
            let late =
                || RepairError::NotNow(format!("earlier writes of index `{}` take too long", index.uid));
            tokio::time::timeout_at(held_until, drain(self, &index.uid))
                .await
                .map_err(|_elapsed| late())??;
        }
        report.doing("snapshot: copying the store".to_owned());
        self.copy_store().await?;
        report.doing("snapshot: waiting for the nodes".to_owned());
        let nodes = self.fleet.iter().map(async |node| {
            let task = enqueue(node, &Call::new(Method::POST, "/snapshots", CALL_LIMIT)).await?;
            wait_for(node, task, NODE_LIMIT).await
        });
        let all = futures_util::future::join_all(nodes);
        tokio::pin!(all);
        let outcomes = match tokio::time::timeout_at(held_until, &mut all).await {
            Ok(outcomes) => outcomes,
            Err(_elapsed) => {
                tracing::warn!(
                    "the nodes take long to make snapshots; writes go on, and may be in some of them"
                );
                queues.clear();
                all.await
            }
        };
        outcomes.into_iter().collect::<Result<(), NodeError>>().map_err(|error| {
            let message = format!("A node has made no snapshot: {error}.");
            NotMade::Now(ApiError::new(503, "miroir_archive_failed", ErrorType::Internal, message))
        })
    }

    async fn copy_store(&self) -> Result<(), NotMade> {
        let directory = &self.config.snapshot_dir;
        let failed = |error: std::io::Error| {
            file_error(&format!("The snapshot cannot be written in {}", directory.display()), &error)
        };
        let name = self.config.store_path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{name}.snapshot");
        let (temporary, empty) = Temporary::create(directory, &name).map_err(failed)?;
        drop(empty);
        // SQLite writes into a file that is not there, or empty.
        self.store.copy_to(temporary.path()).await?;
        let file = std::fs::File::open(temporary.path()).map_err(failed)?;
        Ok(temporary.keep_as(&file, &directory.join(&name)).map_err(failed)?)
    }
}
