//! Starting and stopping the service.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use miroir_node::{Fleet, NodeCheck};
use miroir_store::{SqliteStore, Store, StoreError, TaskQuery};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::archives;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::http_api;
use crate::index::IndexView;
use crate::workers;
use crate::write::{INDEX_DELETION, SETTINGS_UPDATE};

/// Acknowledged tasks that may wait for the follower; more are found in the store.
const FOLLOWER_QUEUE: usize = 1_024;

/// Why the service could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}; choose another `bind`, or stop what listens there")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node key cannot be sent.
    #[error(transparent)]
    Node(#[from] miroir_node::NodeError),
    /// The listener broke.
    #[error("the service stopped: {0}")]
    Listener(std::io::Error),
}

/// A service that is ready to answer, listening already.
pub struct Server {
    cluster: Arc<Cluster>,
    listener: TcpListener,
}

impl Server {
    /// Opens the store, takes up what an earlier life left, and starts to listen.
    pub async fn start(config: Config, stop: CancellationToken) -> Result<Self, ServeError> {
        let store = Arc::new(SqliteStore::open(&config.store_path)?);
        Self::start_on(store, config, stop).await
    }

    /// As [`Server::start`], on a store that is open already.
    pub async fn start_on(
        store: Arc<dyn Store>,
        config: Config,
        stop: CancellationToken,
    ) -> Result<Self, ServeError> {
        let nodes =
            config.nodes.iter().map(|node| (node.id.as_str(), node.replica_group, node.address.as_str()));
        let fleet = Fleet::new(nodes, config.node_master_key.as_ref().map(|key| key.reveal()))?;
        let address = config.bind;
        let listener =
            TcpListener::bind(address).await.map_err(|source| ServeError::Bind { address, source })?;
        let (acknowledged, to_follow) = mpsc::channel(FOLLOWER_QUEUE);
        let cluster = Arc::new(Cluster::new(config, store, fleet, stop.clone(), acknowledged));
        cluster.load().await?;
        cluster.keys.load(cluster.store.as_ref()).await?;
        let webhook = cluster.config.task_webhook.as_ref();
        cluster.webhooks.load(cluster.store.as_ref(), webhook).await?;
        cluster.features.load(cluster.store.as_ref()).await?;
        let check: Arc<dyn NodeCheck> = Arc::clone(&cluster) as Arc<dyn NodeCheck>;
        cluster.fleet.probe_once(check.as_ref()).await;
        cluster.fleet.keep_probing(&cluster.tasks, &stop, &check);
        let cancelations = cluster.unfinished_cancelations().await?;
        cluster.tasks.spawn(workers::follow_tasks(Arc::clone(&cluster), to_follow));
        for directory in [&cluster.config.dump_dir, &cluster.config.snapshot_dir] {
            if let Err(error) = archives::remove_unfinished(directory) {
                tracing::warn!(directory = %directory.display(), %error, "unfinished files stay behind");
            }
        }
        cluster.recover_writes(cancelations).await?;
        workers::start_workers(&cluster);
        Ok(Self { cluster, listener })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until told to stop, then lets what is in flight finish.
    pub async fn serve(self) -> Result<(), ServeError> {
        let stop = self.cluster.stop.clone();
        let grace = self.cluster.config.shutdown_grace;
        let served = http_api::serve(Arc::clone(&self.cluster), self.listener, &stop, grace).await;
        stop.cancel();
        self.cluster.tasks.close();
        if tokio::time::timeout(grace, self.cluster.tasks.wait()).await.is_err() {
            tracing::warn!("stopped before everything in flight had finished");
        }
        served.map_err(ServeError::Listener)
    }
}

/// Starts the service and serves until told to stop.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), ServeError> {
    Server::start(config, stop).await?.serve().await
}

impl Cluster {
    /// Reads the indexes and the states of their replicas from the store.
    async fn load(&self) -> Result<(), StoreError> {
        let mut exceptions: std::collections::HashMap<String, crate::index::Exceptions> = Default::default();
        for status in self.store.replica_states().await? {
            let states = exceptions.entry(status.key.index_uid).or_default();
            states.insert((status.key.shard, status.key.node), status.state);
        }
        for record in self.store.indexes().await? {
            let states = exceptions.remove(&record.uid).unwrap_or_default();
            self.handle(&record.uid).set_view(Some(IndexView::new(record, states, None)));
        }
        let unfinished = self.store.unfinished().await?;
        // A deletion takes the record away as it begins, so an index that is there was made after the last one, and has
        // nothing of settings changes from before it.
        let changes = unfinished.iter().filter(|task| task.kind == SETTINGS_UPDATE);
        let changed: BTreeSet<String> = changes.filter_map(|task| task.index_uid.clone()).collect();
        for uid in changed {
            let handle = self.handle(&uid);
            let query = TaskQuery {
                index_uids: Some(vec![uid]),
                types: Some(vec![INDEX_DELETION.to_owned()]),
                limit: Some(1),
                ..TaskQuery::default()
            };
            let deletions = self.store.tasks(query).await?.tasks;
            if let (Some(deletion), Some(_)) = (deletions.first(), handle.view()) {
                handle.begins_with(deletion.uid + 1);
            }
        }
        for task in unfinished {
            let handle = self.handle(task.index_uid.as_deref().unwrap_or_default());
            handle.queue.lock().await.unknown.push(task.uid);
            let view = handle.view().filter(|_| handle.has_begun_by(task.uid));
            if let (SETTINGS_UPDATE, Some(view)) = (task.kind.as_str(), view) {
                view.settings_in_flight.fetch_add(1, Ordering::AcqRel);
            }
        }
        Ok(())
    }
}
