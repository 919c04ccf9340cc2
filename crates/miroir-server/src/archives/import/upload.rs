//! Taking in the file of a dump, and deciding what becomes of it.

use std::path::{Path, PathBuf};

use axum::body::Body;
use futures_util::StreamExt;
use miroir_core::error::{ApiError, ErrorType};
use tokio::io::{AsyncWriteExt, BufWriter};
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use super::reading::Fault;
use super::record::{Import, ImportStatus};
use super::survey::Survey;
use crate::archives::file::Temporary;
use crate::archives::file_error;
use crate::cluster::Cluster;
use crate::store_error;

const BUFFER: usize = 1 << 20;

/// A dump on disk that nothing has been done with.
pub(crate) struct Upload {
    file: std::fs::File,
    temporary: Temporary,
    digest: String,
}

/// Where the file of an import is.
pub(super) fn import_path(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}.import"))
}

impl Cluster {
    /// Writes the body of a request to disk.
    pub(crate) async fn receive_dump(&self, body: Body) -> Result<Upload, ApiError> {
        let directory = &self.config.dump_dir;
        let failed = |error: std::io::Error| {
            file_error(&format!("The dump cannot be kept in {}", directory.display()), &error)
        };
        let name = format!("{}.import", Uuid::new_v4());
        let (temporary, file) = Temporary::create(directory, &name).map_err(failed)?;
        let mut writer =
            BufWriter::with_capacity(BUFFER, tokio::fs::File::from_std(file.try_clone().map_err(failed)?));
        let mut digest = Xxh3::new();
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| {
                ApiError::bad_request(
                    "bad_request",
                    format!("The dump did not come to its end: {error}. Nothing was done."),
                )
            })?;
            digest.update(&chunk);
            writer.write_all(&chunk).await.map_err(failed)?;
        }
        writer.flush().await.map_err(failed)?;
        Ok(Upload { file, temporary, digest: format!("{:032x}", digest.digest128()) })
    }

    /// Begins to take in a dump, or goes on with the one that stopped. An error means that nothing was done.
    pub(crate) async fn begin_import(&self, upload: Upload, overwrite: bool) -> Result<Import, ApiError> {
        let (path, longest_line) = (upload.temporary.path().to_owned(), self.config.max_body_bytes);
        let survey = tokio::task::spawn_blocking(move || Survey::of(&path, longest_line)).await;
        let survey = survey.map_err(|_| ApiError::internal("Reading the dump was interrupted."))?;
        let survey = survey.map_err(|fault| wrong_dump(&fault))?;

        let mut surveyed = self.import_decision.lock().await;
        let last = Import::load(self.store.as_ref()).await.map_err(store_error)?;
        let is_same = |last: &Import| last.digest == upload.digest && last.overwrite == overwrite;
        let import = match last {
            Some(last) if last.status == ImportStatus::Running => {
                return if is_same(&last) { Ok(last) } else { Err(another_is_running(&last)) };
            }
            Some(mut last) if last.status == ImportStatus::Failed && is_same(&last) => {
                last.go_on(|uid| self.handle(uid).view().is_some());
                last
            }
            last => {
                self.check_new(&survey, overwrite)?;
                if let Some(last) = last {
                    // Of one that failed and is given up now. Of one that succeeded it is gone.
                    let _ = std::fs::remove_file(import_path(&self.config.dump_dir, &last.id));
                }
                Import::new(Uuid::new_v4().to_string(), upload.digest, overwrite, &survey)
            }
        };
        let target = import_path(&self.config.dump_dir, &import.id);
        let kept = upload.temporary.keep_as(&upload.file, &target);
        kept.map_err(|error| {
            file_error(&format!("The dump cannot be kept as {}", target.display()), &error)
        })?;
        import.save(self.store.as_ref()).await.map_err(store_error)?;
        *surveyed = Some(survey);
        self.import_wanted.notify_one();
        Ok(import)
    }

    /// Refuses indexes that are there, unless they are to be replaced.
    fn check_new(&self, survey: &Survey, overwrite: bool) -> Result<(), ApiError> {
        if let Some(together) = self.webhooks.too_many_with(survey.webhooks.iter().map(|(uuid, _)| *uuid)) {
            let fault = format!(
                "with its webhooks there would be {together} of them, which is too many. Delete some first"
            );
            return Err(wrong_dump(&Fault::Wrong(fault)));
        }
        let exists = |uid: &str| self.handle(uid).view().is_some();
        let uids = survey.indexes.iter().map(|index| index.metadata.uid.as_str());
        let existing: Vec<String> = uids.filter(|uid| exists(uid)).map(|uid| format!("`{uid}`")).collect();
        if overwrite || existing.is_empty() {
            return Ok(());
        }
        let message = format!(
            "The dump has indexes that exist already: {}. Nothing was done. Delete them first, or add \
             `?overwrite=true` (`--overwrite`) to have them replaced.",
            existing.join(", ")
        );
        Err(ApiError::new(409, "index_already_exists", ErrorType::InvalidRequest, message))
    }
}

/// The error for a dump that cannot be taken in.
pub(super) fn wrong_dump(fault: &Fault) -> ApiError {
    match fault {
        Fault::File(error) => file_error("The dump cannot be read back", error),
        fault => ApiError::bad_request(
            "miroir_invalid_dump",
            format!("The dump cannot be imported: {fault}. Nothing was done."),
        ),
    }
}

fn another_is_running(running: &Import) -> ApiError {
    let message = format!(
        "Another dump is being imported (`{}`, since {}). Nothing was done. Wait until it has ended: \
         `GET /_miroir/dumps/import` tells how far it is.",
        running.id, running.started_at
    );
    ApiError::new(409, "miroir_import_running", ErrorType::InvalidRequest, message)
}
