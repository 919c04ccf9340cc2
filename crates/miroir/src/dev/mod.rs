//! `miroir dev`: a whole cluster on this machine, from one command, gone with Ctrl-C.
//!
//! Real Meilisearch processes are started and watched over, and Miroir serves in front of them from this very
//! process. Data, ports and the nodes' key stay in a directory, so that the next start finds everything again.

mod binary;
mod directory;
mod node;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;
use miroir_server::{Config, NodeConfig, Secret, UnavailableShardPolicy};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::signals::StopSignals;
use crate::table;
use directory::DataDirectory;
use node::DevNode;

/// What `miroir dev` is told.
#[derive(Args)]
pub struct DevArguments {
    /// How many Meilisearch nodes to start.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=32))]
    nodes: u16,
    /// How many copies of each shard to keep [default: 2, or 1 when there is one node].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=32))]
    replication_factor: Option<u16>,
    /// The port Miroir listens on, on 127.0.0.1. Nodes take free ports after it.
    #[arg(long, default_value_t = 7700)]
    port: u16,
    /// Where the data, the logs and the nodes' ports are kept.
    #[arg(long, default_value = ".miroir-dev", value_name = "DIRECTORY")]
    data_dir: PathBuf,
    /// Shards of new indexes.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    shards: u16,
    /// The Meilisearch binary [default: $MEILISEARCH_BIN, else meilisearch on PATH, else the one in node_modules].
    #[arg(long, value_name = "PATH")]
    meilisearch: Option<PathBuf>,
    /// The key clients present [default: none, everybody on this machine may do everything].
    #[arg(long, env = "MIROIR_MASTER_KEY", hide_env_values = true, value_name = "KEY")]
    master_key: Option<String>,
}

impl DevArguments {
    fn copies(&self) -> u16 {
        self.replication_factor.unwrap_or(self.nodes.min(2))
    }

    /// The key clients present; an empty one is none.
    fn master_key(&self) -> Option<Secret> {
        self.master_key.as_ref().filter(|key| !key.is_empty()).map(Secret::new)
    }
}

/// How long Miroir itself may take to be ready to serve.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Runs the cluster until a stop signal.
pub async fn dev(arguments: DevArguments) -> Result<(), Failure> {
    let replication_factor = arguments.copies();
    if replication_factor > arguments.nodes {
        return Err(Failure::new(format!(
            "{replication_factor} copies of each shard need as many nodes, and there are {}; raise --nodes or \
             lower --replication-factor",
            arguments.nodes
        )));
    }
    let meilisearch = binary::find(arguments.meilisearch.as_deref())?;
    // Listening for signals comes before the first child, so that no signal can end this process unprepared.
    let mut signals = StopSignals::new()?;
    let mut directory = DataDirectory::open(&arguments.data_dir)?;
    directory.end_leftovers().await;
    let nodes = directory.nodes(arguments.nodes, arguments.port, &meilisearch)?;
    check_port_is_free(arguments.port)?;

    let stop_service = CancellationToken::new();
    let stop_nodes = CancellationToken::new();
    let hurry = CancellationToken::new();
    let service = async {
        let outcome = serve(&arguments, &directory, &nodes, &stop_service).await;
        stop_nodes.cancel();
        outcome
    };
    let watch = async {
        signals.next().await;
        println!("\nstopping (again to stop at once)");
        stop_service.cancel();
        signals.next().await;
        stop_nodes.cancel();
        hurry.cancel();
        // Time to kill and to be told; after that, dropping the rest kills whatever is left.
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    // All of this is polled on the main thread: see `node` for why the nodes must be started there.
    let supervised = join_all(nodes.iter().map(|node| node.supervise(&stop_nodes, &hurry)));
    let everything = async { tokio::join!(service, supervised).0 };
    let outcome = tokio::select! {
        outcome = everything => outcome,
        () = watch => Ok(()),
    };
    println!("all nodes are stopped; the data is kept in {}", arguments.data_dir.display());
    outcome
}

/// Waits for the nodes, then serves until told to stop.
async fn serve(
    arguments: &DevArguments,
    directory: &DataDirectory,
    nodes: &[DevNode],
    stop: &CancellationToken,
) -> Result<(), Failure> {
    println!("starting {} Meilisearch nodes in {}", nodes.len(), arguments.data_dir.display());
    tokio::select! {
        ready = join_all(nodes.iter().map(DevNode::wait_until_healthy)) => {
            ready.into_iter().collect::<Result<Vec<()>, Failure>>()?;
        }
        () = stop.cancelled() => return Ok(()),
    }

    let config = Config {
        bind: ([127, 0, 0, 1], arguments.port).into(),
        master_key: arguments.master_key(),
        node_master_key: Some(directory.node_key()),
        admin_api_key: arguments.master_key(),
        default_shards: arguments.shards,
        replication_factor: usize::from(arguments.copies()),
        min_write_acks: 1,
        nodes: nodes
            .iter()
            .map(|node| NodeConfig { id: node.id.clone(), address: node.address(), replica_group: 0 })
            .collect(),
        store_path: directory.store_path(),
        dump_dir: directory.dump_dir(),
        snapshot_dir: directory.snapshot_dir(),
        node_timeout: Duration::from_secs(5),
        unavailable_shard_policy: UnavailableShardPolicy::Partial,
        max_body_bytes: 100 * 1024 * 1024,
        shutdown_grace: Duration::from_secs(10),
        anti_entropy_interval: Duration::from_secs(600),
        task_webhook: None,
    };
    let mut serving = tokio::spawn(miroir_server::run(config, stop.clone()));
    let url = format!("http://127.0.0.1:{}", arguments.port);
    let health_url = format!("{url}/health");
    tokio::select! {
        ended = &mut serving => return finished(ended),
        ready = node::wait_for_http(&health_url, READY_LIMIT) => {
            if !ready {
                stop.cancel();
                return Err(Failure::new(format!("Miroir did not answer at {url} within a minute")));
            }
        }
    }
    announce(arguments, nodes, &url);
    finished(serving.await)
}

fn finished(
    ended: Result<Result<(), miroir_server::ServeError>, tokio::task::JoinError>,
) -> Result<(), Failure> {
    match ended {
        Ok(outcome) => outcome.map_err(|error| Failure::new(error.to_string())),
        Err(error) => Err(Failure::new(format!("the service ended unexpectedly: {error}"))),
    }
}

fn announce(arguments: &DevArguments, nodes: &[DevNode], url: &str) {
    let rows: Vec<Vec<String>> = nodes
        .iter()
        .map(|node| {
            let process = node.process_id().map_or_else(|| "-".to_owned(), |id| id.to_string());
            vec![node.id.clone(), node.address(), process, node.log_path().display().to_string()]
        })
        .collect();
    println!("\n{}", table::render(&["node", "address", "process", "log"], &rows));
    println!("  Miroir:       {url}");
    println!("  new indexes:  {} shards, {} copies of each", arguments.shards, arguments.copies());
    println!(
        "  key:          {}\n",
        if arguments.master_key().is_some() {
            "the one you gave"
        } else {
            "none needed (do not expose this port)"
        }
    );
    println!("Point any Meilisearch client at {url}. Ctrl-C stops everything and keeps the data.");
}

fn check_port_is_free(port: u16) -> Result<(), Failure> {
    match std::net::TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::new(format!(
            "cannot listen on port {port}: {error}; stop what uses it or choose another with --port"
        ))),
    }
}
