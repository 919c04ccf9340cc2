//! Measures Miroir next to one Meilisearch, side by side on one machine, and writes `docs/benchmarks.md`.
//!
//! `bench [--quick] [--documents N] [--searches N] [--rounds N] [--load N] [--clients N] [--ingest-rounds N]
//! [--batch N] [--tasks N] [--large-body BYTES] [--seed N] [--hold SECONDS] [--output FILE] [--criterion DIRECTORY]`
//!
//! Nothing is asserted: goals are printed as reached or missed, whichever it is.
// A measurement that cannot go on stops with the reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod criterion_results;
mod dump_import;
mod goals;
mod options;
mod parts;
mod process_stat;
mod report;
mod requests;
mod searching;
mod subject;
mod task_lists;
mod writing;

use std::time::Duration;

use miroir_testkit::figures::workload::{INDEX, Workload};
use miroir_testkit::figures::{machine, page};

use crate::options::Options;
use crate::report::Report;
use crate::subject::{Servers, Subject};
use crate::writing::AtRest;

#[tokio::main]
async fn main() {
    let options = Options::from_arguments();
    let machine = machine::description();
    println!("{machine}\nseed {}", options.seed);
    let workload = Workload::generate(options.seed, options.documents, options.batch, options.searches);
    let servers = Servers::start().await;

    let started = writing::at_rest(&servers).await;
    let ingests = writing::ingest(&servers, &workload, &options).await;
    let ingested = writing::at_rest(&servers).await;
    let at_rest = started.into_iter().zip(ingested).map(|((subject, started), (_, ingested))| AtRest {
        subject,
        started,
        ingested,
    });

    let mut contestants = searching::contestants(&servers, &workload);
    searching::warm_up(&mut contestants, &workload);
    searching::measure_latency(&mut contestants, &workload, &options);
    searching::measure_throughput(&mut contestants, &options);

    // Before there are tasks by the thousand, which would be in the dump.
    let dump_imports = dump_import::measure(&servers, &options).await;
    let mut requests = requests::measure(&servers, &workload, &options).await;
    requests.extend(task_lists::measure(&servers, &options).await);

    let mut large_bodies = Vec::new();
    for subject in [Subject::ThreeNodes, Subject::OneNode] {
        large_bodies.extend(writing::large_body(&servers, subject, &workload, &options).await);
    }

    let pure = options.criterion.as_deref().map(criterion_results::read).unwrap_or_default();
    let at_rest = at_rest.collect();
    let report = Report { contestants, ingests, at_rest, dump_imports, requests, large_bodies, pure };
    let versions = versions(&servers).await;
    let tables = format!("{}{}", heading(&options, &machine, &versions), report.tables(&workload, &options));
    println!("\n{tables}");
    if let Some(output) = &options.output {
        page::write(output, &tables);
    }
    if options.hold_seconds > 0 {
        hold(&servers, &options).await;
    }
}

async fn versions(servers: &Servers) -> String {
    let version = servers.client(Subject::Direct).get("/version").await.ok();
    format!("Meilisearch {}", version["pkgVersion"].as_str().unwrap_or("of an unknown version"))
}

fn heading(options: &Options, machine: &str, versions: &str) -> String {
    let quick = if options.quick {
        "**A trial of the tool with `--quick`: these figures mean nothing.**\n\n"
    } else {
        ""
    };
    format!(
        "{quick}- Command: `./scripts/bench`, on {}, seed {}.\n\
         - Versions: Miroir {} ({}), {versions}.\n\
         - Machine: {machine}. Load generator, Miroir and all nodes share it.\n\
         - Documents: {} in bodies of {}, {} rounds of ingest, medians.\n\
         - Searches: {} different ones, {} rounds; one at a time for the latencies, {} clients and {} searches per \
         round for the throughput.\n\n",
        options.date,
        options.seed,
        env!("CARGO_PKG_VERSION"),
        options.revision,
        options.documents,
        options.batch,
        options.ingest_rounds,
        options.searches,
        options.rounds,
        options.clients,
        options.load,
    )
}

/// Leaves the servers running, to be looked at with a profiler.
async fn hold(servers: &Servers, options: &Options) {
    println!("holding the servers for {} s; the index is {INDEX}", options.hold_seconds);
    for subject in Subject::SEARCHED {
        let route = servers.route(subject);
        let miroir = servers.miroir(subject).map_or_else(String::new, |pid| format!(", Miroir's pid {pid}"));
        println!("{}: {}, key {}{miroir}", subject.label(), route.addresses.join(" "), route.key);
    }
    tokio::time::sleep(Duration::from_secs(options.hold_seconds)).await;
}
