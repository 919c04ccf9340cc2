//! Background jobs that an operator can see: each is a worker with a name and one step that is taken over and over.
//!
//! A worker tells what it is doing through its `Report`; the list of all of them is `GET /_miroir/workers`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::Notify;

use crate::clock::now;
use crate::cluster::Cluster;

/// What a worker is doing.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkerStatus {
    /// Its name.
    pub name: &'static str,
    /// In a few words; `idle` when it waits for something to do.
    pub doing: String,
    /// Since when (RFC 3339).
    pub since: String,
    /// How often it has come to the end of a job.
    pub finished: u64,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
}

/// Where a worker tells what it is doing.
#[derive(Debug, Clone)]
pub(crate) struct Report(Arc<Mutex<WorkerStatus>>);

impl Report {
    /// A worker that has not begun.
    pub fn new(name: &'static str) -> Self {
        let status =
            WorkerStatus { name, doing: "idle".to_owned(), since: now(), finished: 0, last_error: None };
        Self(Arc::new(Mutex::new(status)))
    }

    /// A copy of what it told.
    pub fn status(&self) -> WorkerStatus {
        self.change(|status| status.clone())
    }

    /// It is busy with this now.
    pub fn doing(&self, what: String) {
        self.change(|status| {
            status.doing = what;
            status.since = now();
        });
    }

    /// It has come to the end of a job.
    pub fn finished(&self) {
        self.change(|status| status.finished += 1);
    }

    /// Something went wrong; it will be tried again.
    pub fn failed(&self, error: &str) {
        self.change(|status| status.last_error = Some(error.to_owned()));
    }

    fn change<T>(&self, change: impl FnOnce(&mut WorkerStatus) -> T) -> T {
        match self.0.lock() {
            Ok(mut status) => change(&mut status),
            Err(poisoned) => change(&mut poisoned.into_inner()),
        }
    }
}

/// A background job.
#[async_trait]
pub(crate) trait Worker: Send {
    /// Its name, for operators.
    fn name(&self) -> &'static str;

    /// Looks for something to do and does one piece of it. Returns how long to wait before the next step. May be
    /// dropped at any `await` when the process stops.
    async fn step(&mut self, cluster: &Arc<Cluster>, report: &Report) -> Duration;

    /// What may cut the wait for the next step short.
    fn woken_by<'a>(&self, _cluster: &'a Cluster) -> Option<&'a Notify> {
        None
    }
}

/// Runs a worker until told to stop.
pub(crate) fn start(cluster: &Arc<Cluster>, mut worker: impl Worker + 'static) {
    let report = Report::new(worker.name());
    cluster.add_worker(report.clone());
    let running = Arc::clone(cluster);
    cluster.tasks.spawn(async move {
        let work = async {
            loop {
                let pause = worker.step(&running, &report).await;
                report.doing("idle".to_owned());
                match worker.woken_by(&running) {
                    // Either way it is time for the next step.
                    Some(call) => drop(tokio::time::timeout(pause, call.notified()).await),
                    None => tokio::time::sleep(pause).await,
                }
            }
        };
        tokio::select! {
            () = running.stop.cancelled() => {}
            () = work => {}
        }
    });
}
