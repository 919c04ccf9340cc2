//! The state one process holds while it serves: configuration, store, fleet and the indexes.
//!
//! What must survive lives in the store; what is here is a view of it, or can be found out again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};

use miroir_core::error::{ApiError, ErrorType};
use miroir_core::settings::NodeNeeds;
use miroir_node::Fleet;
use miroir_store::{IndexRecord, IndexSwap, Store};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::archives::Survey;
use crate::config::Config;
use crate::features::Features;
use crate::index::{Index, IndexView, is_split};
use crate::keys::Keys;
use crate::read::Reads;
use crate::webhooks::Webhooks;
use crate::workers::{Report, WorkerStatus};

/// The state one process holds while it serves. Shared as `Arc<Cluster>`.
pub struct Cluster {
    /// The configuration it was started with.
    pub config: Config,
    /// Durable state.
    pub store: Arc<dyn Store>,
    /// The nodes.
    pub fleet: Fleet,
    /// Cancelled when the process is to stop.
    pub stop: CancellationToken,
    /// Owns every spawned task; the process ends when all have.
    pub tasks: TaskTracker,
    /// Where writes run: not on the threads that answer searches.
    pub(crate) runtime: Handle,
    /// Acknowledged tasks on their way to the follower.
    pub(crate) acknowledged: mpsc::Sender<u64>,
    /// Woken whenever a task has reached its end.
    pub(crate) task_finished: Notify,
    /// Woken when a dump is asked for.
    pub(crate) archive_wanted: Notify,
    /// Woken when there is a dump to take in.
    pub(crate) import_wanted: Notify,
    /// Held while it is decided what becomes of a dump that was sent; what is in the one that is to be taken in.
    pub(crate) import_decision: tokio::sync::Mutex<Option<Survey>>,
    /// Woken when a replica needs repair.
    pub(crate) repair_wanted: Notify,
    /// Who is let in.
    pub(crate) keys: Keys,
    /// Who is told of tasks that have ended.
    pub(crate) webhooks: Webhooks,
    /// Which experimental features are on.
    pub(crate) features: Features,
    /// What reads know of each other.
    pub(crate) reads: Reads,
    /// Held to write while indexes get other names: who goes through all of them in a moment holds it to read.
    pub(crate) names: tokio::sync::RwLock<()>,
    /// The same for who goes through all of them for long, such as an export. Taken before the other.
    pub(crate) names_for_long: tokio::sync::RwLock<()>,
    indexes: RwLock<HashMap<String, Arc<Index>>>,
    workers: Mutex<Vec<Report>>,
}

impl Cluster {
    /// Puts the parts together. Indexes are added by `load`.
    pub(crate) fn new(
        config: Config,
        store: Arc<dyn Store>,
        fleet: Fleet,
        stop: CancellationToken,
        acknowledged: mpsc::Sender<u64>,
    ) -> Self {
        let keys = Keys::new(config.master_key.as_ref());
        Self {
            config,
            store,
            fleet,
            stop,
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            acknowledged,
            task_finished: Notify::new(),
            archive_wanted: Notify::new(),
            import_wanted: Notify::new(),
            import_decision: tokio::sync::Mutex::default(),
            repair_wanted: Notify::new(),
            keys,
            webhooks: Webhooks::default(),
            features: Features::default(),
            reads: Reads::default(),
            names: tokio::sync::RwLock::default(),
            names_for_long: tokio::sync::RwLock::default(),
            indexes: RwLock::default(),
            workers: Mutex::default(),
        }
    }

    /// What the nodes of an index need to hold besides what its user set.
    pub(crate) fn needs(&self, record: &IndexRecord) -> NodeNeeds {
        NodeNeeds {
            version: self.fleet.oldest_version(),
            merges: is_split(record),
            breaks_ties: !record.disordered.is_empty(),
        }
    }

    /// The same for a node that has to catch up with the others. It may have missed that it needs to break ties, or
    /// be about to hear it; doing so without need costs it only time.
    pub(crate) fn needs_of_one_behind(&self, view: &IndexView) -> NodeNeeds {
        let has_company = view.nodes().len() > 1;
        let needs = self.needs(&view.record);
        NodeNeeds { breaks_ties: needs.breaks_ties || has_company, ..needs }
    }

    /// Runs a change to its end even if whoever asked for it hangs up in the middle.
    pub(crate) async fn undisturbed<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
    ) -> Result<T, ApiError> {
        let working = self.tasks.spawn_on(work, &self.runtime);
        working.await.unwrap_or_else(|error| Err(ApiError::internal(format!("it was interrupted: {error}"))))
    }

    /// Takes note of a worker, to be listed.
    pub(crate) fn add_worker(&self, report: Report) {
        match self.workers.lock() {
            Ok(mut workers) => workers.push(report),
            Err(poisoned) => poisoned.into_inner().push(report),
        }
    }

    /// Wakes those who wait for tasks to end.
    pub(crate) fn tasks_have_ended(&self) {
        self.task_finished.notify_waiters();
        self.webhooks.news.notify_one();
    }

    /// What the workers are doing.
    pub(crate) fn workers(&self) -> Vec<WorkerStatus> {
        match self.workers.lock() {
            Ok(workers) => workers.iter().map(Report::status).collect(),
            Err(poisoned) => poisoned.into_inner().iter().map(Report::status).collect(),
        }
    }

    /// Copies of each document in the whole fleet, when nothing is missing.
    pub fn copies(&self) -> usize {
        let groups: std::collections::BTreeSet<u32> =
            self.config.nodes.iter().map(|node| node.replica_group).collect();
        self.config.replication_factor * groups.len()
    }

    /// How many times nodes that hold an index have gone down: what was read of them before and after does not go together,
    /// because one may have come back with another disk.
    pub(crate) fn downs(&self, index: &IndexView) -> u64 {
        let nodes = index.nodes();
        nodes.iter().filter_map(|node| self.fleet.get(node)).map(|node| node.health().downs()).sum()
    }

    /// The handle of an index uid, whether or not the index exists: writes to an index that does not exist yet
    /// must queue up like any others.
    pub fn handle(&self, uid: &str) -> Arc<Index> {
        if let Ok(indexes) = self.indexes.read()
            && let Some(index) = indexes.get(uid)
        {
            return Arc::clone(index);
        }
        let mut indexes = match self.indexes.write() {
            Ok(indexes) => indexes,
            Err(poisoned) => poisoned.into_inner(),
        };
        // Handles of indexes that do not exist are kept only while somebody waits in their queue.
        indexes.retain(|_, index| index.view().is_some() || Arc::strong_count(index) > 1);
        Arc::clone(indexes.entry(uid.to_owned()).or_insert_with(|| Arc::new(Index::new(uid))))
    }

    /// An index that can be read, or Meilisearch's own error. One that is still being created cannot: its
    /// settings have not been read back from the nodes yet.
    pub fn readable_index(&self, uid: &str) -> Result<Arc<IndexView>, ApiError> {
        self.readable_generation(uid).map(|(view, _)| view)
    }

    /// The same with its generation, which is at most as new as the picture.
    pub(crate) fn readable_generation(&self, uid: &str) -> Result<(Arc<IndexView>, u64), ApiError> {
        let read = |index: &Arc<Index>| {
            let generation = index.generation();
            let view = index.view().filter(|view| view.record.settings_version > 0)?;
            Some((view, generation))
        };
        // Under the lock, so that of two indexes whose names are exchanged none is seen twice.
        let found = self.indexes.read().ok().and_then(|indexes| indexes.get(uid).and_then(read));
        found.ok_or_else(|| index_not_found(uid))
    }

    /// Exchanges the names of indexes, for all to see at once. The queues and the records of all are held.
    pub(crate) fn exchange_views(&self, swaps: &[IndexSwap]) {
        let handles: Vec<(Arc<Index>, Arc<Index>)> =
            swaps.iter().map(|swap| (self.handle(&swap.indexes.0), self.handle(&swap.indexes.1))).collect();
        let _nobody_reads = match self.indexes.write() {
            Ok(indexes) => indexes,
            Err(poisoned) => poisoned.into_inner(),
        };
        for (left, right) in handles {
            let (from_left, from_right) = (left.view(), right.view());
            let named = |view: Option<Arc<IndexView>>, uid: &str| {
                let view = view?;
                let record = IndexRecord { uid: uid.to_owned(), ..view.record.clone() };
                Some(IndexView::new(record, view.exceptions.clone(), Some(&view)))
            };
            left.set_view(named(from_right, &left.uid));
            right.set_view(named(from_left, &right.uid));
        }
    }

    /// All indexes that can be read, in the order of their uids.
    pub fn readable_indexes(&self) -> Vec<Arc<IndexView>> {
        self.indexes().into_iter().filter(|view| view.record.settings_version > 0).collect()
    }

    /// All existing indexes, in the order of their uids.
    pub fn indexes(&self) -> Vec<Arc<IndexView>> {
        let mut views: Vec<Arc<IndexView>> = match self.indexes.read() {
            Ok(indexes) => indexes.values().filter_map(|index| index.view()).collect(),
            Err(_) => Vec::new(),
        };
        views.sort_by(|left, right| left.record.uid.cmp(&right.record.uid));
        views
    }
}

/// Meilisearch's error for an index that does not exist.
pub fn index_not_found(uid: &str) -> ApiError {
    ApiError::new(404, "index_not_found", ErrorType::InvalidRequest, format!("Index `{uid}` not found."))
}
