//! All the nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::HeaderValue;

use crate::error::NodeError;
use crate::node::{Node, NodeId};
use crate::version::{OLDEST, release};

/// All the nodes, by name. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fleet {
    nodes: Arc<BTreeMap<NodeId, Arc<Node>>>,
}

impl Fleet {
    /// Makes a fleet from (name, group, address) and the key to present to the nodes.
    pub fn new<'a>(
        nodes: impl IntoIterator<Item = (&'a str, u32, &'a str)>,
        node_key: Option<&str>,
    ) -> Result<Self, NodeError> {
        let authorization = match node_key {
            None => None,
            Some(key) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| {
                    let reason = "node_master_key holds a character that no HTTP header can carry";
                    NodeError::Unreachable { node: "*".into(), reason: reason.to_owned() }
                })?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let nodes = nodes
            .into_iter()
            .map(|(id, group, address)| {
                let id = NodeId::from(id);
                let node = Node::new(id.clone(), group, address, authorization.clone())?;
                Ok((id, Arc::new(node)))
            })
            .collect::<Result<_, NodeError>>()?;
        Ok(Self { nodes: Arc::new(nodes) })
    }

    /// All nodes in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// The node of that name.
    pub fn get(&self, id: &str) -> Option<&Arc<Node>> {
        self.nodes.get(id)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node at all.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Major and minor version of the oldest node, on which defaults depend; the oldest supported one while no
    /// node has told its version.
    pub fn oldest_version(&self) -> (u64, u64) {
        let release = |node: &Arc<Node>| node.health().version().and_then(|version| release(&version));
        self.iter().filter_map(release).min().unwrap_or(OLDEST)
    }

    /// The nodes that are up.
    pub fn up(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.iter().filter(|node| node.health().is_up())
    }
}
