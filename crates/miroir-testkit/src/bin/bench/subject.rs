//! What is measured: one Meilisearch, and Miroir over clusters of several shapes, all running at the same time so
//! that they can be measured in turns.

use std::path::Path;

use miroir_testkit::client::Client;
use miroir_testkit::cluster::{Cluster, MASTER_KEY, NODE_MASTER_KEY, Shape};
use miroir_testkit::process::MeilisearchProcess;

/// Shards of the index: Miroir's default.
const SHARDS: u16 = 64;

/// The name of something measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// One Meilisearch, asked directly.
    Direct,
    /// One node of Miroir, asked as Miroir would.
    FloorOne,
    /// Three nodes of Miroir, asked as Miroir would at the same time, answers not merged.
    FloorThree,
    /// Miroir in front of one node.
    OneNode,
    /// Miroir over three nodes, a third of the documents on each.
    ThreeNodes,
    /// Miroir over five nodes, a fifth of the documents on each.
    FiveNodes,
    /// Miroir over three nodes, all documents on each.
    ThreeCopies,
}

impl Subject {
    /// Those that are written to, in the order of the tables.
    pub const WRITTEN: [Self; 5] =
        [Self::Direct, Self::OneNode, Self::ThreeNodes, Self::FiveNodes, Self::ThreeCopies];
    /// Those that are searched, in the order of the tables.
    pub const SEARCHED: [Self; 7] = [
        Self::Direct,
        Self::FloorOne,
        Self::OneNode,
        Self::ThreeCopies,
        Self::FloorThree,
        Self::ThreeNodes,
        Self::FiveNodes,
    ];

    /// As the tables name it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Direct => "one Meilisearch",
            Self::FloorOne => "floor: 1 raw search",
            Self::FloorThree => "floor: 3 raw searches",
            Self::OneNode => "Miroir, 1 node",
            Self::ThreeNodes => "Miroir, 3 nodes, RF 1",
            Self::FiveNodes => "Miroir, 5 nodes, RF 1",
            Self::ThreeCopies => "Miroir, 3 nodes, RF 3",
        }
    }

    /// What the goals call a Miroir.
    pub fn nodes(self) -> &'static str {
        self.label().trim_start_matches("Miroir, ")
    }

    /// Whether Miroir is in front.
    pub fn is_miroir(self) -> bool {
        self.shape().is_some()
    }

    /// The least it could take: what Miroir asks of its nodes, without Miroir.
    pub fn floor(self) -> Option<Self> {
        match self {
            Self::OneNode | Self::ThreeCopies => Some(Self::FloorOne),
            Self::ThreeNodes => Some(Self::FloorThree),
            Self::Direct | Self::FloorOne | Self::FloorThree | Self::FiveNodes => None,
        }
    }

    /// The cluster behind a Miroir.
    pub fn shape(self) -> Option<Shape> {
        let (nodes, replication_factor) = match self {
            Self::Direct | Self::FloorOne | Self::FloorThree => return None,
            Self::OneNode => (1, 1),
            Self::ThreeNodes => (3, 1),
            Self::FiveNodes => (5, 1),
            Self::ThreeCopies => (3, 3),
        };
        Some(Shape { nodes, replication_factor, replica_groups: 1, shards: SHARDS })
    }
}

/// Every server of the measurement.
pub struct Servers {
    direct: MeilisearchProcess,
    clusters: Vec<(Subject, Cluster)>,
}

/// Where searches of a subject go.
pub struct Route {
    /// `host:port` of each server that is asked.
    pub addresses: Vec<String>,
    /// The key to present.
    pub key: &'static str,
}

impl Servers {
    /// Starts all of them.
    pub async fn start() -> Self {
        let direct = MeilisearchProcess::start(Some(NODE_MASTER_KEY)).await;
        let mut clusters = Vec::new();
        for subject in Subject::WRITTEN {
            if let Some(shape) = subject.shape() {
                clusters.push((subject, Cluster::start(shape).await));
            }
        }
        Self { direct, clusters }
    }

    fn cluster(&self, subject: Subject) -> Option<&Cluster> {
        self.clusters.iter().find(|(candidate, _)| *candidate == subject).map(|(_, cluster)| cluster)
    }

    /// A client for a subject that is written to.
    pub fn client(&self, subject: Subject) -> &Client {
        self.cluster(subject).map_or(self.direct.client(), Cluster::client)
    }

    /// Where the one Meilisearch has its files.
    pub fn direct_directory(&self) -> &Path {
        self.direct.directory()
    }

    /// The Miroir process, if the subject has one.
    pub fn miroir(&self, subject: Subject) -> Option<i32> {
        Some(self.cluster(subject)?.miroir.pid())
    }

    /// Where searches of a subject go.
    pub fn route(&self, subject: Subject) -> Route {
        let (urls, key) = match subject {
            Subject::Direct => (vec![self.direct.address()], NODE_MASTER_KEY),
            Subject::FloorOne => (self.node_addresses(Subject::OneNode), NODE_MASTER_KEY),
            Subject::FloorThree => (self.node_addresses(Subject::ThreeNodes), NODE_MASTER_KEY),
            _ => (vec![self.client(subject).base_url().to_owned()], MASTER_KEY),
        };
        Route {
            addresses: urls.iter().map(|url| url.trim_start_matches("http://").to_owned()).collect(),
            key,
        }
    }

    fn node_addresses(&self, subject: Subject) -> Vec<String> {
        let nodes = self.cluster(subject).map(|cluster| cluster.nodes.as_slice()).unwrap_or_default();
        nodes.iter().map(MeilisearchProcess::address).collect()
    }
}
