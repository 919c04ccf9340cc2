//! Taking a dump in: keys and features, then each index with its settings, then all documents, in the order of the dump,
//! and webhooks when there is nothing more to tell of them.
//!
//! Settings come first because documents are then indexed once, as a Meilisearch does it. Everything is written as a
//! client would write it, each request with a key of its own, so what a stopped process had sent is not done twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use miroir_core::documents::{DocumentBatch, Format};
use miroir_core::error::{ApiError, ErrorBody};
use miroir_core::settings::{SettingsMethod, SettingsRoute};
use miroir_store::{IdempotencyKey, StoreError, TaskStatus, WriteMarks};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::feed::{Batch, Feed};
use super::reading::Fault;
use super::record::{Import, SentBatch};
use super::survey::{DumpedIndex, Survey};
use super::upload::{import_path, wrong_dump};
use crate::archives::NotMade;
use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::workers::Report;
use crate::write::WriteRequest;

/// Batches whose tasks have not ended: more would only wait on the disks of the nodes.
const MOST_SENT: usize = 8;
/// For how long a write is tried again that cannot be carried out now, and a task waited for, before all begins again.
const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_secs(1);

impl Cluster {
    /// Takes in what is left of a dump. The record is kept up to date in the store, but for the end.
    pub(crate) async fn run_import(
        self: &Arc<Self>,
        import: &mut Import,
        report: &Report,
    ) -> Result<(), NotMade> {
        let path = import_path(&self.config.dump_dir, &import.id);
        let longest_line = self.config.max_body_bytes;
        // It has just been read, unless this goes on after something.
        let survey = match self.import_decision.lock().await.take() {
            Some(survey) => survey,
            None => {
                report.doing("import: reading the dump".to_owned());
                let path = path.clone();
                let survey = tokio::task::spawn_blocking(move || Survey::of(&path, longest_line)).await;
                let survey = survey.map_err(|_| ApiError::internal("Reading the dump was interrupted."))?;
                survey.map_err(|fault| NotMade::Ever(wrong_dump(&fault)))?
            }
        };
        for key in &survey.keys {
            if self.keys.of_uid(&key.uid).is_none() {
                self.keys.create(self.store.as_ref(), key.clone()).await.map_err(later)?;
            }
        }
        // Settings may be of the kind that needs one. Whoever turns one off later means it.
        let is_set_up = !import.indexes.is_empty() && import.indexes.iter().all(|index| index.is_ready);
        if !survey.features.is_empty() && !is_set_up {
            let features = survey.features.iter().map(|name| (name.clone(), true)).collect();
            self.change_features(features).await.map_err(later)?;
        }
        for (place, index) in survey.indexes.iter().enumerate() {
            self.make_index(import, place, index, report).await?;
        }
        let feed = Feed {
            places: places(&survey),
            sent: import.indexes.iter().map(|index| index.batches).collect(),
            longest_line,
        };
        let (sender, mut batches) = mpsc::channel::<Batch>(1);
        let feeding = tokio::task::spawn_blocking(move || feed.run(&path, &sender));
        while let Some(batch) = batches.recv().await {
            self.send_batch(import, batch, report).await?;
        }
        match feeding.await {
            Ok(Ok(()) | Err(Fault::GivenUp)) => {}
            Ok(Err(fault)) => return Err(NotMade::Ever(wrong_dump(&fault))),
            Err(_) => return Err(ApiError::internal("Reading the dump was interrupted.").into()),
        }
        while !import.sent.is_empty() {
            self.wait_for_oldest(import, report).await?;
        }
        for index in &survey.indexes {
            self.set_dates(index).await.map_err(unsaved)?;
        }
        for (uuid, webhook) in &survey.webhooks {
            if self.webhooks.find(*uuid).is_err() {
                self.webhooks.create_as(self.store.as_ref(), *uuid, webhook.clone()).await.map_err(later)?;
            }
        }
        Ok(())
    }

    /// Makes an index with its settings, unless that has been done.
    async fn make_index(
        self: &Arc<Self>,
        import: &mut Import,
        place: usize,
        index: &DumpedIndex,
        report: &Report,
    ) -> Result<(), NotMade> {
        let Some(progress) = import.indexes.get(place).cloned() else { return Ok(()) };
        let uid = &index.metadata.uid;
        if !progress.is_made {
            report.doing(format!("import: making index `{uid}`"));
            if import.overwrite && self.handle(uid).view().is_some() {
                let task =
                    self.write_once(import, uid, "delete", || Ok(WriteRequest::DeleteIndex), report).await?;
                self.wait_for_task(task).await?;
            }
            let primary_key = index.metadata.primary_key.clone();
            let create = || Ok(WriteRequest::CreateIndex { primary_key: primary_key.clone() });
            let task = self.write_once(import, uid, "create", create, report).await?;
            self.wait_for_task(task).await?;
            import.indexes.iter_mut().skip(place).take(1).for_each(|index| index.is_made = true);
            import.save(self.store.as_ref()).await.map_err(unsaved)?;
        }
        if !progress.is_ready {
            report.doing(format!("import: setting up index `{uid}`"));
            let body = Bytes::from(Value::Object(index.settings.clone()).to_string());
            let change = || {
                Ok(WriteRequest::ChangeSettings {
                    route: SettingsRoute::Whole,
                    method: SettingsMethod::Patch,
                    body: Some(body.clone()),
                    may_create: false,
                })
            };
            let task = self.write_once(import, uid, "settings", change, report).await?;
            self.wait_for_task(task).await?;
            import.indexes.iter_mut().skip(place).take(1).for_each(|index| index.is_ready = true);
            import.save(self.store.as_ref()).await.map_err(unsaved)?;
        }
        Ok(())
    }

    async fn send_batch(
        self: &Arc<Self>,
        import: &mut Import,
        batch: Batch,
        report: &Report,
    ) -> Result<(), NotMade> {
        let Batch { index, number, before, documents, body } = batch;
        let Some(uid) = import.indexes.get(index).map(|index| index.uid.clone()) else { return Ok(()) };
        let parsed = tokio::task::spawn_blocking(move || DocumentBatch::parse(body, Format::Ndjson)).await;
        let parsed = parsed.map_err(|_| ApiError::internal("Reading the documents was interrupted."))??;
        if let Some(reserved) = parsed.reserved_field() {
            return Err(ApiError::from(reserved).into());
        }
        let add = || {
            let (batch, update, primary_key) = (parsed.clone(), false, None);
            Ok(WriteRequest::AddDocuments { batch, update, primary_key, may_create: false })
        };
        let task = self.write_once(import, &uid, &number.to_string(), add, report).await?;
        import.sent.push(SentBatch { index, batch: number, before, task });
        if let Some(progress) = import.indexes.get_mut(index) {
            progress.batches = number + 1;
            progress.documents = before + documents;
            let (done, total) = (progress.documents, progress.total);
            report.doing(format!("import: index `{uid}`, {done} of {total} documents"));
        }
        import.save(self.store.as_ref()).await.map_err(unsaved)?;
        while import.sent.len() >= MOST_SENT {
            self.wait_for_oldest(import, report).await?;
        }
        Ok(())
    }

    /// Waits until the batch that was sent first is there. One that failed takes the import back to before it.
    async fn wait_for_oldest(&self, import: &mut Import, report: &Report) -> Result<(), NotMade> {
        let Some(oldest) = import.sent.first().copied() else { return Ok(()) };
        report.doing(format!("import: waiting for task {}", oldest.task));
        match self.wait_for_task(oldest.task).await {
            Err(NotMade::Ever(error)) => {
                let sent = std::mem::take(&mut import.sent);
                sent.into_iter().rev().for_each(|batch| import.step_back(batch));
                Err(NotMade::Ever(error))
            }
            waited => {
                waited?;
                import.sent.remove(0);
                Ok(())
            }
        }
    }

    /// Writes something that is done once however often it is sent, and returns its task.
    async fn write_once(
        self: &Arc<Self>,
        import: &Import,
        uid: &str,
        what: &str,
        request: impl Fn() -> Result<WriteRequest, ApiError>,
        report: &Report,
    ) -> Result<u64, NotMade> {
        let key = format!("miroir-import:{}:{}:{uid}:{what}", import.id, import.attempt);
        let until = Instant::now() + PATIENCE;
        loop {
            let idempotency = Some(IdempotencyKey { key: key.clone(), digest: 0 });
            let marks = WriteMarks { idempotency, session: None };
            match self.submit(uid, request()?, marks).await {
                Ok(accepted) => return Ok(accepted.summary.task_uid),
                Err(error) if error.status < 500 => return Err(NotMade::Ever(error)),
                Err(error) if Instant::now() > until => return Err(NotMade::Now(error)),
                Err(error) => {
                    report.failed(&error.message);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Waits until a task has succeeded.
    async fn wait_for_task(&self, uid: u64) -> Result<(), NotMade> {
        let until = Instant::now() + PATIENCE;
        loop {
            let finished = self.task_finished.notified();
            tokio::pin!(finished);
            finished.as_mut().enable();
            let Some(task) = self.store.task(uid).await.map_err(unsaved)? else {
                let message =
                    format!("Task {uid} was deleted before it was known how it ended. Send the dump again.");
                return Err(NotMade::Ever(ApiError::internal(message)));
            };
            if task.status == TaskStatus::Succeeded {
                return Ok(());
            }
            if task.status.is_finished() {
                let error = task.error.and_then(|error| serde_json::from_value::<ErrorBody>(error).ok());
                return Err(NotMade::Ever(match error {
                    Some(error) => {
                        let message = format!("Task {uid} failed: {}", error.message);
                        ApiError::new(422, error.code, error.kind, message)
                    }
                    None => ApiError::internal(format!("Task {uid} failed.")),
                }));
            }
            if tokio::time::timeout_at(until, finished).await.is_err() {
                let message = format!("Task {uid} has not ended for {} s.", PATIENCE.as_secs());
                return Err(NotMade::Now(ApiError::internal(message)));
            }
        }
    }

    /// Gives an index the dates that it had.
    async fn set_dates(&self, dumped: &DumpedIndex) -> Result<(), StoreError> {
        let index = self.handle(&dumped.metadata.uid);
        let _recording = index.recording.lock().await;
        let Some(view) = index.view() else { return Ok(()) };
        let mut record = view.record.clone();
        record.created_at = dumped.metadata.created_at.clone();
        record.updated_at = dumped.metadata.updated_at.clone();
        self.store.put_index(record.clone()).await?;
        index.set_view(Some(IndexView::new(record, view.exceptions.clone(), Some(&view))));
        Ok(())
    }

    /// Removes the file of an import that needs it no more.
    pub(crate) fn forget_import_file(&self, import: &Import) {
        let path = import_path(&self.config.dump_dir, &import.id);
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "the file of an import stays behind");
        }
    }
}

fn places(survey: &Survey) -> HashMap<String, usize> {
    survey.indexes.iter().enumerate().map(|(place, index)| (index.directory.clone(), place)).collect()
}

/// A store that fails now may work later.
fn unsaved(error: StoreError) -> NotMade {
    NotMade::Now(crate::store_error(error))
}

fn later(error: ApiError) -> NotMade {
    if error.status >= 500 { NotMade::Now(error) } else { NotMade::Ever(error) }
}
