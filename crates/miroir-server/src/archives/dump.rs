//! Making a dump: what Meilisearch would have written, from all nodes together.
//!
//! It begins once all tasks before it have ended, so what they did is in it. Each index is read with its queue held, so
//! it is in the dump as it was at one moment; a large one is not held for long (see `docs/architecture.md`). Documents
//! go to a file of their own first, because an archive wants to know how long its entries are.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use miroir_core::dump::{IndexMetadata, key_to_json, metadata};
use miroir_core::error::ApiError;
use miroir_core::settings::with_secrets;
use serde_json::Value;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::sync::MutexGuard;
use tokio::time::Instant;

use super::documents::Stretches;
use super::file::{DumpFile, Temporary};
use super::{NotMade, file_error};
use crate::clock::now;
use crate::cluster::Cluster;
use crate::index::{Index, IndexView};
use crate::replicas::ensure::{HOLD_LIMIT, QUEUE_LIMIT, RepairError, drain};
use crate::webhooks::dumped;
use crate::workers::Report;
use crate::write::PendingWrites;

/// Rounds in which documents added meanwhile are read, of an index that is not held.
const MOST_ROUNDS: usize = 10;

/// The documents of an index, on their way into a dump.
struct Spool {
    file: File,
    bytes: u64,
    /// Removes the file in the end.
    _temporary: Temporary,
}

impl Cluster {
    /// Makes a dump of everything and returns its uid.
    pub(crate) async fn make_dump(&self, report: &Report) -> Result<String, NotMade> {
        let uid = dump_uid(OffsetDateTime::now_utc())?;
        let directory = &self.config.dump_dir;
        let (major, minor) = self.fleet.oldest_version();
        let metadata = metadata(&format!("{major}.{minor}.0"), &now()).to_string();
        let keys: Vec<Value> =
            self.keys.newest_first().iter().map(|issued| key_to_json(&issued.key)).collect();
        let (features, webhooks) = (self.features.show(), dumped(&self.webhooks.all()));
        let name = uid.clone();
        let mut file = blocking(directory, move |directory| {
            let mut file = DumpFile::create(directory, &name)?;
            file.add("metadata.json", metadata.as_bytes())?;
            file.add("keys.jsonl", lines(&keys).as_bytes())?;
            file.add("experimental-features.json", features.to_string().as_bytes())?;
            file.add("webhooks.json", webhooks.to_string().as_bytes())?;
            // A Meilisearch wants the file. Tasks that have ended are the past of another server.
            file.add("tasks/queue.jsonl", b"")?;
            file.add_directory("indexes/")?;
            Ok(file)
        })
        .await?;
        // Names may be exchanged meanwhile, and then it is begun again. Were they held, a swap would wait for the dump with
        // the queues of its indexes in its hands, and the dump for one of these.
        for view in self.readable_indexes() {
            file = self.dump_index(&view, file, report).await?;
        }
        blocking(directory, move |_| file.finish()).await?;
        Ok(uid)
    }

    /// Holds the queue of an index in which all writes have been applied, until when it may be held. Where that does not
    /// come about soon, nobody is kept waiting.
    async fn hold_quiet<'a>(&self, index: &'a Index) -> (Option<MutexGuard<'a, PendingWrites>>, Instant) {
        let quiet = async {
            drain(self, &index.uid).await?;
            let queue = index.turn(QUEUE_LIMIT).await.map_err(RepairError::NotNow)?;
            let held_until = Instant::now() + HOLD_LIMIT;
            let late = |_elapsed| RepairError::NotNow("earlier writes are still being applied".to_owned());
            tokio::time::timeout_at(held_until, drain(self, &index.uid)).await.map_err(late)??;
            Ok::<_, RepairError>((Some(queue), held_until))
        };
        quiet.await.unwrap_or_else(|error| {
            tracing::info!(index = index.uid, %error, "it is dumped while writes go on");
            (None, Instant::now())
        })
    }

    /// The index that was listed, as it is now; `None` when it has been deleted. One that has another name now would be
    /// there twice or not at all, so it is an error.
    fn still(&self, listed: &IndexView) -> Result<Option<Arc<IndexView>>, RepairError> {
        let is_it = |view: &Arc<IndexView>| view.record.node_uid == listed.record.node_uid;
        match self.indexes().into_iter().find(is_it) {
            Some(view) if view.record.created_at != listed.record.created_at => {
                // Made anew, or given the dates of a dump that was taken in.
                let reason = format!("index `{}` is another one now", listed.record.uid);
                Err(RepairError::NotNow(reason))
            }
            Some(view) if view.record.uid == listed.record.uid => Ok(Some(view)),
            None => Ok(None),
            Some(_) => {
                let reason =
                    format!("index `{}` got another name while indexes were read", listed.record.uid);
                Err(RepairError::NotNow(reason))
            }
        }
    }

    /// Adds an index, unless it has been deleted meanwhile.
    async fn dump_index(
        &self,
        listed: &IndexView,
        mut file: DumpFile,
        report: &Report,
    ) -> Result<DumpFile, NotMade> {
        let uid = listed.record.uid.as_str();
        let index = self.handle(uid);
        let (mut queue, held_until) = self.hold_quiet(&index).await;
        let Some(view) = self.still(listed)? else { return Ok(file) };

        let directory = &self.config.dump_dir;
        let name = format!("{uid}.documents");
        let mut spool = blocking(directory, move |directory| {
            let (temporary, file) = Temporary::create(directory, &name)?;
            Ok(Spool { file, bytes: 0, _temporary: temporary })
        })
        .await?;
        let (mut stretches, mut documents) = (Stretches::new(), 0);
        let mut current = view.clone();
        for _ in 0..MOST_ROUNDS {
            let end = current.record.next_position;
            while let Some(stretch) = stretches.read(self, &current, end).await? {
                documents += stretch.documents;
                report.doing(format!("dump: index `{uid}`, {documents} documents"));
                spool = blocking(directory, move |_| {
                    spool.file.write_all(&stretch.lines)?;
                    spool.bytes += stretch.lines.len() as u64;
                    Ok(spool)
                })
                .await?;
                if queue.is_some() && Instant::now() > held_until {
                    tracing::info!(index = uid, "it takes long to dump; writes go on meanwhile");
                    queue = None;
                }
                // Which replicas can be read changes all the time.
                match self.still(listed)? {
                    Some(now) => current = now,
                    None => return Ok(file),
                }
            }
            if queue.is_some() || stretches.next() >= current.record.next_position {
                break;
            }
        }
        drop(queue);
        let (uid, view) = (uid.to_owned(), view.clone());
        report.doing(format!("dump: packing the {documents} documents of index `{uid}`"));
        blocking(directory, move |_| {
            add_index(&mut file, &uid, &view, spool)?;
            Ok(file)
        })
        .await
    }
}

fn add_index(file: &mut DumpFile, uid: &str, view: &IndexView, mut spool: Spool) -> io::Result<()> {
    let record = &view.record;
    let metadata = IndexMetadata {
        uid: uid.to_owned(),
        primary_key: record.primary_key.clone(),
        created_at: record.created_at.clone(),
        updated_at: record.updated_at.clone(),
    };
    let settings = with_secrets(&record.settings, &record.overlay);
    file.add_directory(&format!("indexes/{uid}/"))?;
    file.add(&format!("indexes/{uid}/metadata.json"), metadata.to_json().to_string().as_bytes())?;
    file.add(&format!("indexes/{uid}/settings.json"), settings.to_string().as_bytes())?;
    spool.file.seek(SeekFrom::Start(0))?;
    file.add_from(&format!("indexes/{uid}/documents.jsonl"), spool.bytes, io::BufReader::new(&spool.file))
}

/// Does something with files off the threads that others wait for.
async fn blocking<T: Send + 'static>(
    directory: &Path,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, NotMade> {
    let directory = directory.to_owned();
    let done = tokio::task::spawn_blocking(move || {
        work(&directory).map_err(|error| {
            file_error(&format!("The dump cannot be written in {}", directory.display()), &error)
        })
    });
    let done = done.await.map_err(|_| ApiError::internal("Writing the dump was interrupted."))?;
    Ok(done?)
}

fn lines(values: &[Value]) -> String {
    values.iter().map(|value| format!("{value}\n")).collect()
}

/// The name that Meilisearch would give a dump begun at this moment.
fn dump_uid(moment: OffsetDateTime) -> Result<String, ApiError> {
    let form = format_description!("[year][month][day]-[hour][minute][second][subsecond digits:3]");
    moment.format(form).map_err(|error| ApiError::internal(format!("The clock cannot be read: {error}.")))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_dump_is_named_after_its_beginning() {
        let uid = dump_uid(datetime!(2026-01-02 03:04:05.0678 UTC)).unwrap();
        assert_eq!(uid, "20260102-030405067");
    }
}
