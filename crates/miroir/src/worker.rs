//! `miroir worker list`: the background jobs, and what each is doing.

use clap::Subcommand;
use serde::Deserialize;

use crate::client::{Client, OperatorTarget};
use crate::failure::Failure;
use crate::table;

/// What can be asked about workers.
#[derive(Subcommand)]
pub enum WorkerCommand {
    /// List the background jobs and what each is doing.
    List(OperatorTarget),
}

#[derive(Deserialize)]
struct Workers {
    workers: Vec<Worker>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Worker {
    name: String,
    doing: String,
    since: String,
    finished: u64,
    last_error: Option<String>,
}

/// Carries out a command on workers.
pub async fn worker(command: WorkerCommand) -> Result<(), Failure> {
    let WorkerCommand::List(target) = command;
    let found: Workers = Client::for_operator(&target)?.get("/_miroir/workers").await?;
    let row = |worker: Worker| {
        let trouble = worker.last_error.unwrap_or_else(|| "-".to_owned());
        vec![worker.name, worker.doing, worker.since, worker.finished.to_string(), trouble]
    };
    let rows: Vec<Vec<String>> = found.workers.into_iter().map(row).collect();
    print!("{}", table::render(&["worker", "doing", "since", "finished", "last trouble"], &rows));
    Ok(())
}
