//! A whole Miroir: nodes, a generated `miroir.yaml`, and the Miroir process in front.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::client::Client;
use crate::process::{MeilisearchProcess, MiroirProcess, free_port};
use crate::proxy::Proxy;

/// What clients of a test cluster present.
pub const MASTER_KEY: &str = "a-master-key-for-tests";
/// What Miroir presents to the nodes of a test cluster.
pub const NODE_MASTER_KEY: &str = "a-node-master-key-for-tests";
/// What gates `/_miroir/` in a test cluster.
pub const ADMIN_API_KEY: &str = "an-admin-key-for-tests";

/// The shape of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Nodes in all groups together.
    pub nodes: usize,
    /// Copies of a shard in each group.
    pub replication_factor: usize,
    /// Groups, each holding everything; nodes are dealt to them in turn.
    pub replica_groups: usize,
    /// Shards of a new index.
    pub shards: u16,
}

impl Shape {
    /// As the fidelity table names it.
    pub fn label(&self) -> String {
        format!(
            "{} node{}, RF {}, {} group{}, S {}",
            self.nodes,
            if self.nodes == 1 { "" } else { "s" },
            self.replication_factor,
            self.replica_groups,
            if self.replica_groups == 1 { "" } else { "s" },
            self.shards
        )
    }
}

/// Running nodes and the Miroir in front of them.
#[derive(Debug)]
pub struct Cluster {
    /// The Miroir process. Declared first so that it ends first.
    pub miroir: MiroirProcess,
    /// The nodes, in the order of the configuration (`meili-0`, `meili-1`, …).
    pub nodes: Vec<MeilisearchProcess>,
    /// In front of each node, when the cluster was started with proxies.
    pub proxies: Vec<Proxy>,
    directory: TempDir,
}

impl Cluster {
    /// Starts the nodes, writes the configuration, starts Miroir.
    pub async fn start(shape: Shape) -> Self {
        Self::start_nodes_and_miroir(shape, "", false).await
    }

    /// As [`Cluster::start`], with lines added to the configuration, and a proxy in front of each node.
    pub async fn start_with_proxies(shape: Shape, extra: &str) -> Self {
        Self::start_nodes_and_miroir(shape, extra, true).await
    }

    async fn start_nodes_and_miroir(shape: Shape, extra: &str, with_proxies: bool) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let nodes = start_nodes(shape.nodes).await;
        let port = free_port();
        let mut yaml = format!(
            "bind: 127.0.0.1:{port}\n\
             master_key: \"{MASTER_KEY}\"\n\
             node_master_key: \"{NODE_MASTER_KEY}\"\n\
             admin_api_key: \"{ADMIN_API_KEY}\"\n\
             shards: {}\n\
             replication_factor: {}\n\
             replica_groups: {}\n\
             task_store: {{ backend: sqlite, path: \"{}\" }}\n\
             dump_dir: \"{}\"\n\
             snapshot_dir: \"{}\"\n\
             nodes:\n",
            shape.shards,
            shape.replication_factor,
            shape.replica_groups,
            directory.path().join("miroir.db").display(),
            directory.path().join("dumps").display(),
            directory.path().join("snapshots").display(),
        );
        let mut proxies = Vec::new();
        for (number, node) in nodes.iter().enumerate() {
            let (mut address, group) = (node.address(), number % shape.replica_groups);
            if with_proxies {
                let proxy = Proxy::start(address.trim_start_matches("http://")).await;
                address = proxy.address();
                proxies.push(proxy);
            }
            writeln!(yaml, "  - {{ id: meili-{number}, address: \"{address}\", replica_group: {group} }}")
                .expect("a string can be written to");
        }
        yaml.push_str(extra);
        let config = directory.path().join("miroir.yaml");
        std::fs::write(&config, yaml).expect("the configuration can be written");
        let miroir = MiroirProcess::start(&config, port, MASTER_KEY).await;
        Self { miroir, nodes, proxies, directory }
    }

    /// A client for Miroir, with the master key.
    pub fn client(&self) -> &Client {
        self.miroir.client()
    }

    /// A client for Miroir's own routes.
    pub fn admin(&self) -> Client {
        self.client().with_key(Some(ADMIN_API_KEY))
    }

    /// Where the configuration, Miroir's state and its log are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Whether the directories of Miroir and the nodes outlive this value, for looking into what went wrong.
    pub fn keep_directories(&mut self, keep: bool) {
        self.directory.disable_cleanup(keep);
        for node in &mut self.nodes {
            node.keep_directory(keep);
        }
    }

    /// Where Miroir keeps its state.
    pub fn store_path(&self) -> PathBuf {
        self.directory.path().join("miroir.db")
    }
}

/// Starts several nodes at once, since each takes a moment.
async fn start_nodes(count: usize) -> Vec<MeilisearchProcess> {
    let starting = (0..count).map(|_| MeilisearchProcess::start(Some(NODE_MASTER_KEY)));
    futures_util::future::join_all(starting).await
}
