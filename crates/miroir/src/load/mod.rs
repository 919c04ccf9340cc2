//! `miroir load`: a file into an index, in batches, with a progress bar, until every document can be searched.

mod rows;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::client::{Client, SendError, Target};
use crate::failure::Failure;

/// What `miroir load` is told.
#[derive(Args)]
pub struct LoadArguments {
    /// The file: a JSON array of objects, an object per line (NDJSON), or CSV.
    file: PathBuf,
    /// The index to load into; it is created when there is none.
    #[arg(long, value_name = "UID")]
    index: String,
    #[command(flatten)]
    target: Target,
    /// The field that identifies a document [default: the index's, or what Meilisearch infers].
    #[arg(long, value_name = "FIELD")]
    primary_key: Option<String>,
    /// Documents sent at once.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// For data without an identifier: give each document its row number, counted from 1, as `id`.
    #[arg(long)]
    number_rows: bool,
    /// The form of the file [default: by its extension].
    #[arg(long, value_enum)]
    format: Option<Format>,
}

/// The forms a file can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// An array of objects.
    Json,
    /// An object per line.
    Ndjson,
    /// A line of names, then a line per document.
    Csv,
}

impl Format {
    fn of(path: &Path) -> Result<Self, Failure> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Ok(Self::Json),
            Some("ndjson" | "jsonl") => Ok(Self::Ndjson),
            Some("csv") => Ok(Self::Csv),
            _ => Err(Failure::new(format!(
                "the name of {} does not tell its form; add --format json, ndjson or csv",
                path.display()
            ))),
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            // Arrays are sent as lines: a batch is then the documents as they are, one after the other.
            Self::Json | Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
        }
    }
}

/// Some documents, ready to be sent.
#[derive(Debug, Default, PartialEq, Eq)]
struct Batch {
    body: Vec<u8>,
    documents: u64,
    /// Bytes of the file read when the batch was full.
    read: u64,
}

/// A body is also cut here, however few documents it has.
const BATCH_BYTES: usize = 20 * 1024 * 1024;
/// How long a batch is tried again while Miroir cannot take it.
const RETRY_LIMIT: Duration = Duration::from_secs(60);
/// How long a task may show no progress at all.
const TASK_LIMIT: Duration = Duration::from_secs(3_600);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Accepted {
    task_uid: u64,
}

#[derive(Deserialize)]
struct Task {
    status: String,
    error: Option<TaskError>,
}

#[derive(Deserialize)]
struct TaskError {
    message: String,
    code: String,
}

/// Loads the file and waits for its last task.
pub async fn load(arguments: LoadArguments) -> Result<(), Failure> {
    let started = Instant::now();
    let client = Client::new(&arguments.target)?;
    let format = match arguments.format {
        Some(format) => format,
        None => Format::of(&arguments.file)?,
    };
    let file = std::fs::File::open(&arguments.file)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", arguments.file.display())))?;
    let size = file.metadata().map_or(0, |data| data.len());
    let path = documents_path(&arguments)?;

    // The file is read in a thread of its own, never more than two batches ahead.
    let (sender, mut batches) = mpsc::channel::<Result<Batch, Failure>>(2);
    let (batch_size, number_rows) = (u64::from(arguments.batch_size), arguments.number_rows);
    let shown_name = arguments.file.display().to_string();
    tokio::task::spawn_blocking(move || {
        let outcome = rows::read(file, format, number_rows, batch_size, &mut |batch| {
            sender.blocking_send(Ok(batch)).map_err(|_| Failure::new("the load was given up"))
        });
        if let Err(failure) = outcome {
            sender.blocking_send(Err(Failure::new(format!("{shown_name}: {failure}")))).ok();
        }
    });

    let bar = progress_bar("sending ", size, "{bytes}/{total_bytes}");
    let mut sent: Vec<(u64, u64)> = Vec::new();
    while let Some(batch) = batches.recv().await {
        let batch = batch.map_err(|failure| after(&sent, failure))?;
        let (documents, read) = (batch.documents, batch.read);
        let task = send(&client, &path, format, batch).await.map_err(|failure| after(&sent, failure))?;
        sent.push((task, documents));
        bar.set_position(read);
    }
    bar.finish();
    let total: u64 = sent.iter().map(|(_, documents)| documents).sum();

    let bar = progress_bar("indexing", total, "{pos}/{len} documents");
    for (task, documents) in &sent {
        wait_for(&client, *task).await?;
        bar.inc(*documents);
    }
    bar.finish();
    println!(
        "{total} documents are in index {} after {:.1} s ({} batches)",
        arguments.index,
        started.elapsed().as_secs_f64(),
        sent.len()
    );
    Ok(())
}

/// A failure in the middle says what was already sent, because that stays.
fn after(sent: &[(u64, u64)], failure: Failure) -> Failure {
    let documents: u64 = sent.iter().map(|(_, documents)| documents).sum();
    if documents == 0 {
        return failure;
    }
    Failure::new(format!("{failure}; the {documents} documents before it were sent"))
}

fn documents_path(arguments: &LoadArguments) -> Result<String, Failure> {
    // What an index may be called needs no escaping in a path; anything else is better refused here.
    if arguments.index.is_empty()
        || !arguments.index.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    {
        return Err(Failure::new(format!(
            "{:?} cannot be the name of an index; use letters, digits, hyphens and underscores",
            arguments.index
        )));
    }
    Ok(format!("/indexes/{}/documents{}", arguments.index, primary_key_parameter(arguments)))
}

fn primary_key_parameter(arguments: &LoadArguments) -> String {
    let key = match (&arguments.primary_key, arguments.number_rows) {
        (Some(key), _) => key.as_str(),
        // Otherwise a field such as `movie_id` would leave the choice open.
        (None, true) => "id",
        (None, false) => return String::new(),
    };
    let escaped: String = key
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    format!("?primaryKey={escaped}")
}

/// Sends a batch, again and again for a while when Miroir cannot take it now. Documents have identifiers, so
/// sending them twice does no harm.
async fn send(client: &Client, path: &str, format: Format, batch: Batch) -> Result<u64, Failure> {
    let started = Instant::now();
    let body = bytes::Bytes::from(batch.body);
    loop {
        let request = client
            .request(Method::POST, path)
            .header("content-type", format.content_type())
            .body(body.clone());
        match client.send::<Accepted>(request).await {
            Ok(accepted) => return Ok(accepted.task_uid),
            Err(SendError::Again(_)) if started.elapsed() < RETRY_LIMIT => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(error) => return Err(error.into_failure()),
        }
    }
}

async fn wait_for(client: &Client, uid: u64) -> Result<(), Failure> {
    let started = Instant::now();
    let mut wait = Duration::from_millis(10);
    let mut last_answer = Instant::now();
    while started.elapsed() < TASK_LIMIT {
        match client.send::<Task>(client.request(Method::GET, &format!("/tasks/{uid}"))).await {
            Ok(task) => match (task.status.as_str(), task.error) {
                ("succeeded", _) => return Ok(()),
                ("enqueued" | "processing", _) => last_answer = Instant::now(),
                (_, Some(error)) => {
                    return Err(Failure::new(format!("task {uid}: {} ({})", error.message, error.code)));
                }
                (status, None) => return Err(Failure::new(format!("task {uid} was {status}"))),
            },
            Err(SendError::Again(_)) if last_answer.elapsed() < RETRY_LIMIT => {}
            Err(error) => return Err(error.into_failure()),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_millis(200));
    }
    Err(Failure::new(format!(
        "task {uid} is not finished after an hour; it may still succeed: GET /tasks/{uid}"
    )))
}

/// A bar on a terminal; nothing elsewhere, where the last line says it all.
pub fn progress_bar(name: &'static str, length: u64, count: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("  {name} [{{bar:40}}] {count} {{elapsed}}"));
    let bar = ProgressBar::new(length).with_message(name);
    match style {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}
