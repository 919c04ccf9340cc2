//! `miroir serve`: the service in front of nodes that exist.

use std::path::PathBuf;

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::failure::Failure;
use crate::signals::StopSignals;

/// What `miroir serve` is told.
#[derive(Args)]
pub struct ServeArguments {
    /// The configuration file. Every key can be overridden by the environment: MIROIR_MASTER_KEY,
    /// MIROIR_TASK_STORE__PATH, MIROIR_NODES__0__ADDRESS.
    #[arg(long, env = "MIROIR_CONFIG", default_value = "miroir.yaml", value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration and exit.
    #[arg(long)]
    check: bool,
}

/// Serves until a stop signal, then lets what is in flight finish.
pub async fn serve(arguments: ServeArguments) -> Result<(), Failure> {
    let config = config::read(&arguments.config)?;
    if arguments.check {
        println!("{} is fine", arguments.config.display());
        return Ok(());
    }
    tracing::info!(
        bind = %config.bind,
        nodes = config.nodes.len(),
        replication_factor = config.replication_factor,
        store = %config.store_path.display(),
        "starting"
    );
    let mut signals = StopSignals::new()?;
    let stop = CancellationToken::new();
    let serving = tokio::spawn(miroir_server::run(config, stop.clone()));
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!("stopping: no new requests are taken, those in flight may finish");
        stop.cancel();
        signals.next().await;
        tracing::warn!("asked to stop again: stopping at once");
        // 128 + SIGTERM, as a shell reports a process ended by that signal.
        std::process::exit(143);
    });
    match serving.await {
        Ok(outcome) => outcome.map_err(|error| Failure::new(error.to_string())),
        Err(error) => Err(Failure::new(format!("the service ended unexpectedly: {error}"))),
    }
}
