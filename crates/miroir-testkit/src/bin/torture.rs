//! Injures nodes and Miroir for as long as wanted, and tells whether every promise was kept.
//!
//! `torture [--minutes N] [--seed N] [--shape NODES,RF,GROUPS] [--only KIND,…] [--without KIND,…] [--keep]`
//!
//! Exits 1 when a promise was not kept; logs, data and the history of the run are then kept, as with `--keep`.
// A measurement that cannot go on stops with the reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::ExitCode;
use std::time::Duration;

use miroir_testkit::cluster::Shape;
use miroir_testkit::torture::{FaultKind, Options, run};

fn options() -> Options {
    let mut options = Options::short(20_260_101);
    options.trouble = Duration::from_secs(600);
    options.round = Duration::from_secs(90);
    options.longest_fault = Duration::from_secs(40);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{name} needs a value"));
        match name.as_str() {
            "--minutes" => {
                let minutes: f64 = value().parse().expect("--minutes takes a number");
                options.trouble = Duration::from_secs_f64(minutes * 60.0);
            }
            "--seed" => options.seed = value().parse().expect("--seed takes a number"),
            "--shape" => options.shape = shape(&value()),
            "--only" => options.faults = kinds(&value()),
            "--keep" => options.keep = true,
            "--without" => {
                let without = kinds(&value());
                options.faults.retain(|kind| !without.contains(kind));
            }
            other => panic!("unknown argument {other}"),
        }
    }
    options
}

fn shape(text: &str) -> Shape {
    let numbers: Vec<usize> = text.split(',').filter_map(|number| number.parse().ok()).collect();
    let [nodes, replication_factor, replica_groups] = numbers[..] else {
        panic!("--shape takes three numbers: nodes, replication factor, groups; such as 3,2,1")
    };
    Shape { nodes, replication_factor, replica_groups, shards: 8 }
}

fn kinds(text: &str) -> Vec<FaultKind> {
    let known = || FaultKind::ALL.map(FaultKind::name).join(", ");
    let named = |name: &str| {
        FaultKind::named(name).unwrap_or_else(|| panic!("no fault is called {name}; there are {}", known()))
    };
    text.split(',').filter(|name| !name.is_empty()).map(named).collect()
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = options();
    let faults = options.faults.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(",");
    println!("seed {}, {}, {:?} of trouble: {faults}", options.seed, options.shape.label(), options.trouble);
    let seed = options.seed;
    let outcome = run(options).await;
    println!("{}", outcome.text);
    for (number, directory) in outcome.kept_directories.iter().enumerate() {
        let what = if number == 0 { " (history.log, miroir.log)" } else { "" };
        println!("kept: {}{what}", directory.display());
    }
    if outcome.kept {
        println!("every promise was kept");
        return ExitCode::SUCCESS;
    }
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--seed") {
        arguments.extend(["--seed".to_owned(), seed.to_string()]);
    }
    println!("a promise was not kept; to repeat it: ./scripts/torture {}", arguments.join(" "));
    ExitCode::FAILURE
}
