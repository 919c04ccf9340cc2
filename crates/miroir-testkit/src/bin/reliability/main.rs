//! Measures what faults cost: failed and slow searches, repair, and recording writes before they are sent. Writes
//! `docs/reliability.md`.
//!
//! `reliability [--quick] [--only a,b,c,d] [--documents N] [--searches N] [--clients N] [--rounds N]
//! [--before SECONDS] [--after SECONDS] [--repair-documents N] [--repair-rounds N] [--small-writes N]
//! [--large-writes N] [--write-rounds N] [--seed N] [--output FILE]`
//!
//! Nothing is asserted: goals are printed as reached or missed, whichever it is.
// A measurement that cannot go on stops with the reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;
mod injury;
mod intents;
mod options;
mod recovery;
mod repair;
mod report;
mod slow;
mod whole;
mod without_intents;

use miroir_testkit::figures::workload::Workload;
use miroir_testkit::figures::{machine, page};
use miroir_testkit::process::MeilisearchProcess;

use crate::options::{Options, Part};
use crate::report::Report;

/// Documents in one body of what is searched.
const BATCH: usize = 5_000;

#[tokio::main]
async fn main() {
    let options = Options::from_arguments();
    let machine = machine::description();
    println!("{machine}\nseed {}", options.seed);
    let version = node_version().await;
    let workload = |documents, searches| Workload::generate(options.seed, documents, BATCH, searches);

    let mut report = Report::default();
    if options.wants(Part::Injury) {
        report.injured = injury::measure(&workload(options.documents, options.searches), &options).await;
    }
    if options.wants(Part::Slow) {
        report.slow = Some(slow::measure(&workload(options.documents, options.searches), &options).await);
    }
    if options.wants(Part::Repair) {
        let without_places = Workload::without_places(options.seed, options.repair_documents, BATCH, 0);
        for (of, workload) in [
            ("documents without `_geo`", without_places),
            ("documents with `_geo`", workload(options.repair_documents, 0)),
        ] {
            println!("repair of {of}");
            report.repairs.push((of, repair::measure(&workload, &options).await));
        }
    }
    if options.wants(Part::Intents) {
        let documents = options.small_writes.max(options.large_writes * intents::LARGE);
        report.writing = intents::measure(&workload(documents, 0), &options).await;
    }

    let tables = format!("{}{}", heading(&options, &machine, &version), report.tables());
    println!("\n{tables}");
    if let Some(output) = &options.output {
        page::write(output, &tables);
    }
}

async fn node_version() -> String {
    let node = MeilisearchProcess::start(None).await;
    let version = node.client().get("/version").await.ok();
    version["pkgVersion"].as_str().unwrap_or("of an unknown version").to_owned()
}

fn heading(options: &Options, machine: &str, version: &str) -> String {
    let quick = if options.quick {
        "**A trial of the tool with `--quick`: these figures mean nothing.**\n\n"
    } else {
        ""
    };
    format!(
        "{quick}- Command: `./scripts/reliability`, on {}, seed {}.\n\
         - Versions: Miroir {} ({}), Meilisearch {version}.\n\
         - Machine: {machine}. Clients, Miroir and all nodes share it.\n\
         - Searching: {} documents, {} different searches, {} clients; {} s before each injury and {} s after it.\n\
         - Repair: {} documents. Writing: {} bodies of 1 document and {} of {}, {} rounds.\n\n",
        options.date,
        options.seed,
        env!("CARGO_PKG_VERSION"),
        options.revision,
        options.documents,
        options.searches,
        options.clients,
        options.before.as_secs(),
        options.after.as_secs(),
        options.repair_documents,
        options.small_writes,
        options.large_writes,
        intents::LARGE,
        options.write_rounds,
    )
}
