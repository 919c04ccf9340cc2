//! How far an import has come, as it is kept in the store and as operators see it.

use miroir_core::error::ApiError;
use miroir_store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::survey::Survey;
use crate::clock::now;

/// Where the store keeps it. There is one at a time; the last one stays to be looked at.
const KEY: &str = "dump-import";

/// Where an import is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ImportStatus {
    /// Being taken in.
    Running,
    /// All of it is there.
    Succeeded,
    /// Stopped where it was. The same dump sent again goes on from there.
    Failed,
}

/// An import.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Import {
    /// Names its file.
    pub id: String,
    /// Tells this dump from others.
    pub digest: String,
    /// Where it is in its life.
    pub status: ImportStatus,
    /// Why it failed.
    pub error: Option<Value>,
    /// When the dump was taken (RFC 3339).
    pub started_at: String,
    /// When it ended (RFC 3339).
    pub finished_at: Option<String>,
    /// Indexes that are there already are deleted first.
    pub overwrite: bool,
    /// How many keys it has.
    pub keys: usize,
    /// What is in the dump and is not taken in.
    pub left_out: Vec<String>,
    /// How often it was begun: what is sent again after a failure is something new.
    pub attempt: u32,
    /// The indexes, in the order of the survey.
    pub indexes: Vec<ImportedIndex>,
    /// Batches that were sent, and whose tasks may not have ended.
    pub sent: Vec<SentBatch>,
}

/// How far an index has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImportedIndex {
    /// Its uid.
    pub uid: String,
    /// How many documents the dump has.
    pub total: u64,
    /// How many of them have been sent.
    pub documents: u64,
    /// In how many batches.
    pub batches: u64,
    /// It has been made.
    pub is_made: bool,
    /// It has its settings.
    pub is_ready: bool,
}

/// A batch of documents on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SentBatch {
    /// Place of the index among the indexes.
    pub index: usize,
    /// Place of the batch among those of the index.
    pub batch: u64,
    /// Documents of the index before it.
    pub before: u64,
    /// The task it became.
    pub task: u64,
}

impl Import {
    /// An import that is about to begin.
    pub(super) fn new(id: String, digest: String, overwrite: bool, survey: &Survey) -> Self {
        let index = |index: &super::survey::DumpedIndex| ImportedIndex {
            uid: index.metadata.uid.clone(),
            total: index.documents,
            documents: 0,
            batches: 0,
            is_made: false,
            is_ready: false,
        };
        Self {
            id,
            digest,
            status: ImportStatus::Running,
            error: None,
            started_at: now(),
            finished_at: None,
            overwrite,
            keys: survey.keys.len(),
            left_out: survey.left_out.clone(),
            attempt: 0,
            indexes: survey.indexes.iter().map(index).collect(),
            sent: Vec::new(),
        }
    }

    /// The last import; `None` when there never was one.
    pub async fn load(store: &dyn Store) -> Result<Option<Self>, StoreError> {
        let Some(text) = store.meta(KEY).await? else { return Ok(None) };
        let import = serde_json::from_str(&text);
        import.map(Some).map_err(|error| StoreError::Invalid(format!("an import cannot be read ({error})")))
    }

    /// Keeps how far it has come.
    pub async fn save(&self, store: &dyn Store) -> Result<(), StoreError> {
        let text = serde_json::to_string(self)
            .map_err(|error| StoreError::Invalid(format!("an import cannot be recorded ({error})")))?;
        store.put_meta(KEY, &text).await
    }

    /// Takes note that it has stopped with an error.
    pub fn fail(&mut self, error: &ApiError) {
        self.status = ImportStatus::Failed;
        self.error = serde_json::to_value(error.body()).ok();
        self.finished_at = Some(now());
    }

    /// Begins again where it stopped; with indexes that somebody has deleted since, from their beginning.
    pub fn go_on(&mut self, exists: impl Fn(&str) -> bool) {
        for index in self.indexes.iter_mut().filter(|index| !exists(&index.uid)) {
            (index.is_made, index.is_ready, index.batches, index.documents) = (false, false, 0, 0);
        }
        self.status = ImportStatus::Running;
        self.error = None;
        self.finished_at = None;
        self.attempt += 1;
    }

    /// Takes note that the task of a batch failed: it has to be sent again, with all that came after it.
    pub fn step_back(&mut self, failed: SentBatch) {
        if let Some(index) = self.indexes.get_mut(failed.index)
            && index.batches > failed.batch
        {
            (index.batches, index.documents) = (failed.batch, failed.before);
        }
    }

    /// What an operator sees of it.
    pub fn view(&self) -> Value {
        let indexes: Vec<Value> = (self.indexes.iter())
            .map(|index| json!({ "uid": index.uid, "documents": index.total, "importedDocuments": index.documents }))
            .collect();
        json!({
            "id": self.id,
            "status": self.status,
            "error": self.error,
            "startedAt": self.started_at,
            "finishedAt": self.finished_at,
            "keys": self.keys,
            "indexes": indexes,
            "leftOut": self.left_out,
        })
    }
}

#[cfg(test)]
mod tests {
    use miroir_store::SqliteStore;

    use super::*;

    #[tokio::test]
    async fn it_goes_on_before_the_first_batch_that_failed() {
        let index = |uid: &str| ImportedIndex {
            uid: uid.to_owned(),
            total: 30,
            documents: 25,
            batches: 3,
            is_made: true,
            is_ready: true,
        };
        let mut import = Import::new("id".to_owned(), "00".to_owned(), false, &Survey::default());
        import.indexes = vec![index("a"), index("b")];
        let sent = |index, batch, before| SentBatch { index, batch, before, task: 7 };
        for batch in [sent(0, 2, 20), sent(0, 1, 10), sent(1, 3, 25)] {
            import.step_back(batch);
        }
        let progress: Vec<(u64, u64)> =
            import.indexes.iter().map(|index| (index.batches, index.documents)).collect();
        assert_eq!(progress, [(1, 10), (3, 25)]);

        import.fail(&ApiError::bad_request("a_code", "a reason"));
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("miroir.db")).unwrap();
        assert!(Import::load(&store).await.unwrap().is_none());
        import.save(&store).await.unwrap();
        let mut kept = Import::load(&store).await.unwrap().unwrap();
        assert_eq!(
            (kept.status, kept.view()["error"]["code"].as_str()),
            (ImportStatus::Failed, Some("a_code"))
        );
        kept.go_on(|_| true);
        assert_eq!((kept.status, kept.attempt, kept.error), (ImportStatus::Running, 1, None));
    }
}
