//! `miroir dump`: taking the dump of a Meilisearch into the cluster.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use futures_util::StreamExt;
use indicatif::ProgressBar;
use reqwest::Method;
use serde::Deserialize;
use tokio_util::io::ReaderStream;

use crate::client::{Client, OperatorTarget, SendError};
use crate::failure::Failure;
use crate::load::progress_bar;

/// Bytes read from the file at once.
const CHUNK: usize = 256 * 1024;
/// How long sending the file may take.
const UPLOAD_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);
/// How long Miroir may be away while it takes the dump in.
const AWAY_LIMIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What can be done with dumps.
#[derive(Subcommand)]
pub enum DumpCommand {
    /// Take in a dump: its indexes with settings and documents, and its API keys. Sent again, the same file goes on
    /// where it stopped.
    Import(ImportArguments),
}

/// What `miroir dump import` is told.
#[derive(Args)]
pub struct ImportArguments {
    /// The file that a Meilisearch wrote into its --dump-dir.
    file: PathBuf,
    #[command(flatten)]
    target: OperatorTarget,
    /// Replace the indexes that exist already. Without it, one that exists is an error, and nothing is done.
    #[arg(long)]
    overwrite: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Import {
    id: String,
    status: String,
    error: Option<ImportError>,
    keys: u64,
    indexes: Vec<Index>,
    left_out: Vec<String>,
}

#[derive(Deserialize)]
struct ImportError {
    message: String,
    code: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    documents: u64,
    imported_documents: u64,
}

/// Carries out a command.
pub async fn dump(command: DumpCommand) -> Result<(), Failure> {
    match command {
        DumpCommand::Import(arguments) => import(arguments).await,
    }
}

async fn import(arguments: ImportArguments) -> Result<(), Failure> {
    let started = Instant::now();
    let client = Client::for_operator(&arguments.target)?;
    let begun = send(&client, &arguments.file, arguments.overwrite).await?;
    for left_out in &begun.left_out {
        eprintln!("not taken in, because Miroir does not have it: {left_out}");
    }
    let total: u64 = begun.indexes.iter().map(|index| index.documents).sum();
    let bar = progress_bar("importing", total, "{pos}/{len} documents");
    let ended = follow(&client, &begun.id, &bar).await?;
    bar.finish();
    if let Some(error) = ended.error {
        return Err(Failure::new(format!(
            "{} ({}); what was imported until then is there, and the same command goes on from there",
            error.message, error.code
        )));
    }
    println!(
        "{total} documents of {} indexes and {} keys are there after {:.1} s",
        ended.indexes.len(),
        ended.keys,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Sends the file. The answer comes once Miroir has read all of it and found nothing wrong.
async fn send(client: &Client, path: &Path, overwrite: bool) -> Result<Import, Failure> {
    let unreadable = |error: std::io::Error| Failure::new(format!("cannot read {}: {error}", path.display()));
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let size = file.metadata().await.map_err(unreadable)?.len();
    let bar = progress_bar("sending  ", size, "{bytes}/{total_bytes}");
    let shown = bar.clone();
    let chunks = ReaderStream::with_capacity(file, CHUNK).inspect(move |chunk| {
        shown.inc(chunk.as_ref().map_or(0, |chunk| chunk.len() as u64));
    });
    let request = client
        .request(Method::POST, &format!("/_miroir/dumps/import?overwrite={overwrite}"))
        .header("content-length", size)
        .timeout(UPLOAD_LIMIT)
        .body(reqwest::Body::wrap_stream(chunks));
    let begun = client.send(request).await.map_err(SendError::into_failure);
    bar.finish();
    begun
}

/// Waits until the import has ended. Miroir may be started again meanwhile, and goes on then.
async fn follow(client: &Client, id: &str, bar: &ProgressBar) -> Result<Import, Failure> {
    let mut last_answer = Instant::now();
    loop {
        match client.send::<Import>(client.request(Method::GET, "/_miroir/dumps/import")).await {
            Ok(import) if import.id != id => {
                return Err(Failure::new("another dump has been imported since"));
            }
            Ok(import) => {
                last_answer = Instant::now();
                bar.set_position(import.indexes.iter().map(|index| index.imported_documents).sum());
                if import.status != "running" {
                    return Ok(import);
                }
            }
            Err(SendError::Again(_)) if last_answer.elapsed() < AWAY_LIMIT => {}
            Err(error) => return Err(error.into_failure()),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
