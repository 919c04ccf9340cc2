//! The `miroir` command: serve, play with a local cluster, load data, look at the state.

mod client;
mod config;
mod dev;
mod dump;
mod failure;
mod listing;
mod load;
mod replica;
mod serve;
mod signals;
mod status;
mod table;
mod verify;
mod worker;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// Bodies of a hundred megabytes come and go in many threads; this allocator gives their memory back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Makes a fleet of Meilisearch servers behave like one larger, redundant Meilisearch.
#[derive(Parser)]
#[command(name = "miroir", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the Meilisearch API in front of the nodes that a configuration file lists.
    Serve(serve::ServeArguments),
    /// Start a whole cluster on this machine, Meilisearch nodes included, to try things out.
    Dev(dev::DevArguments),
    /// Load a JSON, NDJSON or CSV file into an index and wait until it can be searched.
    Load(load::LoadArguments),
    /// Take the dump of a Meilisearch into the cluster.
    #[command(subcommand)]
    Dump(dump::DumpCommand),
    /// Show the nodes, and which shards and documents each of them holds.
    Status(status::StatusArguments),
    /// Compare all replicas of every shard; fails when they are not the same.
    Verify(verify::VerifyArguments),
    /// Decide about replicas that nothing decides by itself.
    #[command(subcommand)]
    Replica(replica::ReplicaCommand),
    /// Look at the background jobs.
    #[command(subcommand)]
    Worker(worker::WorkerCommand),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A cluster on a terminal reports through its own few lines; a service logs what it does.
    let default_level = if matches!(arguments.command, Command::Dev(_)) { "warn" } else { "info" };
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_env("MIROIR_LOG").unwrap_or_else(|_| EnvFilter::new(default_level)),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();

    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start the runtime: {error}")))?;
    // The command itself runs on the main thread, which lives as long as the process: child processes that
    // are to die with their parent die with the thread that started them.
    let outcome = runtime.block_on(async {
        match command {
            Command::Serve(arguments) => serve::serve(arguments).await,
            Command::Dev(arguments) => dev::dev(arguments).await,
            Command::Load(arguments) => load::load(arguments).await,
            Command::Dump(command) => dump::dump(command).await,
            Command::Status(arguments) => status::status(arguments).await,
            Command::Verify(arguments) => verify::verify(arguments).await,
            Command::Replica(command) => replica::replica(command).await,
            Command::Worker(command) => worker::worker(command).await,
        }
    });
    // A blocking read of standard input or of a slow disk must not keep the process.
    runtime.shutdown_background();
    outcome
}
