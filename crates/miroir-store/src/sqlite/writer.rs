//! The thread that writes. Writes that queue up while one is being committed share the next commit.
//!
//! A durable commit costs one wait for the disk, whatever it holds: with many writers at once, committing
//! together multiplies the throughput and costs nobody anything. Each write is a savepoint, so that one failing
//! does not undo the others of its batch.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::failure::Failure;
use crate::StoreError;

/// Writes waiting beyond this number make their callers wait.
const QUEUE: usize = 256;
/// The most writes in one commit.
const BATCH: usize = 128;

/// Told how the commit went, tells the caller.
type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// Runs one write inside the open transaction; the error, if any, is also in the reply.
type Job = Box<dyn FnOnce(Result<&Connection, StoreError>) -> (Reply, Option<StoreError>) + Send>;

/// A handle on the thread; dropping it lets the queue drain, closes the database and waits for that.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl Writer {
    /// Starts the thread. `lock` is released once the database is closed.
    pub(super) fn start(
        connection: Connection,
        path: PathBuf,
        lock: impl Send + 'static,
    ) -> Result<Self, StoreError> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let thread_path = path.clone();
        let thread = std::thread::Builder::new()
            .name("miroir-store".to_owned())
            .spawn(move || {
                run(&connection, jobs, &thread_path);
                drop(connection);
                drop(lock);
            })
            .map_err(|error| StoreError::Backend(format!("the writer thread cannot start: {error}")))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), path })
    }

    /// Runs statements in a savepoint and returns once they are durable.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        statements: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let path = self.path.clone();
        let job: Job = Box::new(move |transaction| {
            let outcome = transaction.and_then(|connection| {
                in_savepoint(connection, statements).map_err(|failure| failure.at(&path))
            });
            let error = outcome.as_ref().err().cloned();
            let reply: Reply = Box::new(move |committed| {
                // A caller that went away does not need its answer.
                let _ = sender.send(outcome.and_then(|value| committed.map(|()| value)));
            });
            (reply, error)
        });
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        queue.send(job).await.map_err(|_| StoreError::Closed)?;
        receiver.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.take();
        if let Some(thread) = self.thread.take() {
            // It can only have failed by panicking, which has been reported where it happened.
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, mut jobs: mpsc::Receiver<Job>, path: &Path) {
    while let Some(first) = jobs.blocking_recv() {
        let mut replies: Vec<Reply> = Vec::new();
        let outcome = commit_together(connection, first, &mut jobs, &mut replies, path);
        if let Err(error) = &outcome {
            tracing::error!(%error, writes = replies.len(), "the store could not commit");
        }
        for reply in replies {
            reply(outcome.clone());
        }
    }
}

fn commit_together(
    connection: &Connection,
    first: Job,
    jobs: &mut mpsc::Receiver<Job>,
    replies: &mut Vec<Reply>,
    path: &Path,
) -> Result<(), StoreError> {
    if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        let error = Failure::from(error).at(path);
        replies.push(first(Err(error.clone())).0);
        return Err(error);
    }
    let mut next = Some(first);
    while let Some(job) = next {
        let (reply, error) = job(Ok(connection));
        replies.push(reply);
        if connection.is_autocommit() {
            // A grave error, such as a full disk, may end the transaction with all that was in it.
            let unknown = || StoreError::Backend("the transaction ended by itself".to_owned());
            return Err(error.unwrap_or_else(unknown));
        }
        next = if replies.len() < BATCH { jobs.try_recv().ok() } else { None };
    }
    let Err(error) = connection.execute_batch("COMMIT") else {
        return Ok(());
    };
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        tracing::error!(%error, "the store could not roll back");
    }
    Err(Failure::from(error).at(path))
}

fn in_savepoint<T>(
    connection: &Connection,
    statements: impl FnOnce(&Connection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    connection.execute_batch("SAVEPOINT job")?;
    let outcome = statements(connection);
    if outcome.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK TO job")?;
    }
    if !connection.is_autocommit() {
        connection.execute_batch("RELEASE job")?;
    }
    outcome
}
