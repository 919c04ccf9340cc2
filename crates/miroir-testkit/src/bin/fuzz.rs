//! Sends requests that nobody would send, for as long as wanted, and tells whether one of them did harm.
//!
//! `fuzz [--minutes N] [--seed N]`
//!
//! Exits 1 when something was wrong, with the request that caused it.
// A measurement that cannot go on stops with the reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::ExitCode;
use std::time::Duration;

use miroir_testkit::cluster::Shape;
use miroir_testkit::fuzz::{Options, run};

#[tokio::main]
async fn main() -> ExitCode {
    let shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 5 };
    let mut options = Options { seed: 1, duration: Duration::from_secs(300), shape };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{name} needs a value"));
        match name.as_str() {
            "--minutes" => {
                let minutes: f64 = value().parse().expect("--minutes takes a number");
                options.duration = Duration::from_secs_f64(minutes * 60.0);
            }
            "--seed" => options.seed = value().parse().expect("--seed takes a number"),
            other => panic!("unknown argument {other}"),
        }
    }
    println!("seed {}, {:?}", options.seed, options.duration);
    let outcome = run(options).await;
    println!("answers: {}", outcome.summary);
    if outcome.wrong.is_empty() {
        println!("no request did harm");
        return ExitCode::SUCCESS;
    }
    println!("{}", outcome.wrong.join("\n\n"));
    ExitCode::FAILURE
}
