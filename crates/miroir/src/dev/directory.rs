//! The data directory of a local cluster: what one start leaves for the next.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use miroir_server::Secret;
use serde::{Deserialize, Serialize};

use super::node::{self, DevNode};
use crate::failure::Failure;

/// What is remembered between starts, as `cluster.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Remembered {
    /// The master key of all nodes.
    node_key: String,
    /// The port of each node, by position.
    ports: Vec<u16>,
}

/// An opened data directory. No other process can open it while this value lives.
#[derive(Debug)]
pub(super) struct DataDirectory {
    path: PathBuf,
    remembered: Remembered,
    lock: File,
}

impl Drop for DataDirectory {
    /// Closing the file would do, if no process that is just being started had it as well for a moment.
    fn drop(&mut self) {
        // The system does it otherwise, later.
        let _ = self.lock.unlock();
    }
}

impl DataDirectory {
    /// Opens the directory, making it when there is none.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let explain = |error: std::io::Error| {
            Failure::new(format!(
                "cannot use the data directory {}: {error}; choose another with --data-dir",
                path.display()
            ))
        };
        std::fs::create_dir_all(path).map_err(explain)?;
        let path = path.canonicalize().map_err(explain)?;
        let lock = File::create(path.join("lock")).map_err(explain)?;
        if lock.try_lock().is_err() {
            return Err(Failure::new(format!(
                "another `miroir dev` runs in {}; stop it, or choose another directory with --data-dir",
                path.display()
            )));
        }
        let remembered = match std::fs::read(path.join("cluster.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                Failure::new(format!(
                    "{} is damaged: {error}; restore it, or delete the directory to start afresh",
                    path.join("cluster.json").display()
                ))
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Remembered { node_key: random_key().map_err(explain)?, ports: Vec::new() }
            }
            Err(error) => return Err(explain(error)),
        };
        Ok(Self { path, remembered, lock })
    }

    /// The key the nodes require.
    pub fn node_key(&self) -> Secret {
        Secret::new(&self.remembered.node_key)
    }

    /// Miroir's own database.
    pub fn store_path(&self) -> PathBuf {
        self.path.join("miroir.db")
    }

    /// Where Miroir writes dumps.
    pub fn dump_dir(&self) -> PathBuf {
        self.path.join("dumps")
    }

    /// Where the copy of the database goes that belongs to a snapshot.
    pub fn snapshot_dir(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// Ends nodes that a killed `miroir dev` could not.
    pub async fn end_leftovers(&self) {
        for position in 0..self.remembered.ports.len() {
            node::end_leftover(&self.node_directory(position)).await;
        }
    }

    /// The nodes of this start, on the ports of the last one as far as these are free.
    pub fn nodes(
        &mut self,
        count: u16,
        miroir_port: u16,
        meilisearch: &Path,
    ) -> Result<Vec<DevNode>, Failure> {
        let count = usize::from(count);
        let before = self.remembered.ports.len();
        if count < before {
            return Err(Failure::new(format!(
                "{} holds a cluster of {before} nodes, and documents may be on any of them; start it with --nodes \
                 {before}, or another one with --data-dir",
                self.path.display()
            )));
        }
        // All listeners stay open until every port is chosen, so that none is given twice.
        let mut listeners = Vec::new();
        let mut ports = Vec::new();
        for position in 0..count {
            let last = self.remembered.ports.get(position).copied();
            let (port, listener) = free_port(last, miroir_port)
                .map_err(|error| Failure::new(format!("no free port on 127.0.0.1 for a node: {error}")))?;
            ports.push(port);
            listeners.push(listener);
        }
        drop(listeners);
        self.remembered.ports = ports;
        self.remember()?;

        self.remembered
            .ports
            .iter()
            .enumerate()
            .map(|(position, port)| {
                let directory = self.node_directory(position);
                std::fs::create_dir_all(&directory)
                    .map_err(|error| Failure::new(format!("cannot make {}: {error}", directory.display())))?;
                Ok(DevNode::new(node_id(position), *port, directory, meilisearch, self.node_key()))
            })
            .collect()
    }

    fn node_directory(&self, position: usize) -> PathBuf {
        self.path.join(node_id(position))
    }

    /// Writes `cluster.json`, whole or not at all.
    fn remember(&self) -> Result<(), Failure> {
        let new = self.path.join("cluster.json.new");
        let write = || {
            let text = serde_json::to_vec_pretty(&self.remembered)?;
            // It holds the nodes' key.
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&new, self.path.join("cluster.json"))
        };
        write().map_err(|error| Failure::new(format!("cannot write {}: {error}", new.display())))
    }
}

fn node_id(position: usize) -> String {
    format!("meili-{position}")
}

/// A port nobody listens on: the one of the last start if possible, else one of the next after Miroir's own. The
/// listener keeps it taken. The kernel is asked for a port only at last: it gives those that outgoing connections
/// use too, and a node that dies could find its port used when it is restarted.
fn free_port(last: Option<u16>, miroir_port: u16) -> std::io::Result<(u16, TcpListener)> {
    let after_miroir = miroir_port.saturating_add(1)..=miroir_port.saturating_add(1_000);
    for port in last.into_iter().chain(after_miroir).filter(|port| *port != miroir_port) {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return Ok((port, listener));
        }
    }
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    Ok((listener.local_addr()?.port(), listener))
}

fn random_key() -> std::io::Result<String> {
    let mut bytes = [0u8; 24];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ports that no other test, of this run or of another at the same time, looks at.
    fn ports_from(test: u16) -> u16 {
        10_000 + test * 5_000 + u16::try_from(std::process::id() % 250).unwrap() * 20
    }

    #[test]
    fn the_next_start_finds_ports_and_key_again() {
        let port = ports_from(0);
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("cluster");
        let meilisearch = Path::new("/bin/true");
        let mut first = DataDirectory::open(&path).unwrap();
        let addresses = |nodes: Vec<DevNode>| nodes.iter().map(DevNode::address).collect::<Vec<_>>();
        let before = addresses(first.nodes(3, port, meilisearch).unwrap());
        let key = first.node_key();

        let refusal = DataDirectory::open(&path).unwrap_err().to_string();
        assert!(refusal.contains("another `miroir dev` runs"), "{refusal}");
        drop(first);

        let mut second = DataDirectory::open(&path).unwrap();
        assert_eq!(second.node_key(), key);
        assert_eq!(addresses(second.nodes(3, port, meilisearch).unwrap()), before);
        let refusal = second.nodes(2, port, meilisearch).unwrap_err().to_string();
        assert!(refusal.contains("--nodes 3"), "{refusal}");
        assert_eq!(addresses(second.nodes(4, port, meilisearch).unwrap())[..3], before);
    }

    #[test]
    fn a_port_taken_by_somebody_else_is_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let mut directory = DataDirectory::open(parent.path()).unwrap();
        directory.nodes(1, ports_from(1), Path::new("/bin/true")).unwrap();
        let port = directory.remembered.ports[0];
        let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        directory.nodes(1, ports_from(1), Path::new("/bin/true")).unwrap();
        assert_ne!(directory.remembered.ports[0], port);
    }
}
