//! Background jobs, one file each. Every one belongs to the cluster's task tracker and ends when told to stop.

mod anti_entropy;
mod archives;
mod follower;
mod import;
mod repair;
mod settings;
mod task_end;
mod webhooks;
mod worker;

use std::sync::Arc;

use crate::cluster::Cluster;
use crate::webhooks::Sender;

pub(crate) use follower::follow_tasks;
pub(crate) use worker::{Report, WorkerStatus};

/// Starts the workers that look for something to do on their own.
pub(crate) fn start_workers(cluster: &Arc<Cluster>) {
    worker::start(cluster, repair::RepairWorker::default());
    match Sender::new() {
        Ok(sender) => worker::start(cluster, webhooks::WebhookWorker::new(sender)),
        Err(error) => tracing::error!(%error, "there is no TLS, so no webhook will be told of anything"),
    }
    worker::start(cluster, archives::ArchivesWorker::default());
    worker::start(cluster, import::ImportWorker);
    worker::start(cluster, anti_entropy::AntiEntropyWorker::new(cluster.config.anti_entropy_interval));
}
