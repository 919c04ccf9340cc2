//! Measures how often Miroir answers as one Meilisearch does, and writes the table of `docs/fidelity.md`.
//!
//! `fidelity [--requests N] [--documents N] [--seed N] [--only TEXT] [--output FILE] [--against-itself]`
//!
//! `--only` keeps the shapes whose label contains the text; `--against-itself` compares two single Meilisearch,
//! which must be equal in everything. Exits 1 when a promise of the contract is not kept.
// A measurement that cannot go on stops with the reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use miroir_testkit::cluster::Shape;
use miroir_testkit::corpus::{Corpus, catalogue, movies};
use miroir_testkit::oracle::Oracle;
use miroir_testkit::profile::Profile;
use miroir_testkit::request::Kind;
use miroir_testkit::tally::{Counts, Tally, percent};

/// Between these lines of the page the measurement is written; the rest of the page is kept.
const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

#[derive(Debug)]
struct Options {
    requests: usize,
    documents: usize,
    seed: u64,
    only: Option<String>,
    output: Option<String>,
    against_itself: bool,
}

fn options() -> Options {
    let mut options = Options {
        requests: 2_000,
        documents: 4_000,
        seed: 20_260_101,
        only: None,
        output: None,
        against_itself: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{name} needs a value"));
        match name.as_str() {
            "--requests" => options.requests = value().parse().expect("--requests takes a number"),
            "--documents" => options.documents = value().parse().expect("--documents takes a number"),
            "--seed" => options.seed = value().parse().expect("--seed takes a number"),
            "--only" => options.only = Some(value()),
            "--output" => options.output = Some(value()),
            "--against-itself" => options.against_itself = true,
            other => panic!("unknown argument {other}"),
        }
    }
    options
}

fn shapes() -> Vec<Shape> {
    let shape = |nodes, replication_factor, replica_groups, shards| Shape {
        nodes,
        replication_factor,
        replica_groups,
        shards,
    };
    vec![
        shape(1, 1, 1, 7),
        shape(3, 1, 1, 7),
        shape(3, 2, 1, 7),
        shape(3, 3, 1, 7),
        shape(5, 1, 1, 12),
        shape(5, 2, 1, 12),
        shape(3, 1, 2, 7),
        shape(5, 2, 2, 12),
    ]
}

/// The results of one index of one shape.
struct Measured {
    shape: String,
    corpus: &'static str,
    profile: Profile,
    same_documents: bool,
    tally: Tally,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = options();
    println!("seed {}", options.seed);
    let corpora = [catalogue(options.seed, options.documents), movies()];
    let mut measured = Vec::new();
    if options.against_itself {
        let oracle = Oracle::against_itself().await;
        measure(&oracle, "against itself", &corpora, &options, &mut measured).await;
    } else {
        for shape in shapes() {
            let label = shape.label();
            if options.only.as_ref().is_none_or(|only| label.contains(only)) {
                let oracle = Oracle::start(shape).await;
                measure(&oracle, &label, &corpora, &options, &mut measured).await;
            }
        }
    }
    let page = tables(&measured, &options);
    println!("{page}");
    if let Some(output) = &options.output {
        write_page(output, &page);
    }
    if kept(&measured) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn measure(
    oracle: &Oracle,
    shape: &str,
    corpora: &[Corpus],
    options: &Options,
    measured: &mut Vec<Measured>,
) {
    for corpus in corpora {
        for profile in [Profile::Default, Profile::Explicit] {
            let index = format!("{}-{}", corpus.name, profile.label());
            oracle.load_and_change(&index, corpus, profile).await;
            let documents = oracle.compare_documents(&index).await;
            if !documents.is_empty() {
                println!(
                    "== {shape}, {index}: the documents differ
{documents}"
                );
            }
            let same_documents = documents.is_empty();
            let tally = oracle.compare_generated(&index, corpus, options.seed, options.requests).await;
            println!("== {shape}, {index}: {}", tally.report());
            measured.push(Measured {
                shape: shape.to_owned(),
                corpus: corpus.name,
                profile,
                same_documents,
                tally,
            });
        }
    }
}

/// Whether the contract holds: 99.5 % of hits in each configuration, and everything for the kinds without exception.
/// The rows of one configuration (nodes and settings) together, in the order they were measured.
fn configurations(measured: &[Measured]) -> Vec<(String, Counts)> {
    let mut configurations: Vec<(String, Counts)> = Vec::new();
    for one in measured {
        let name = format!("{} | {}", one.shape, one.profile.label());
        let counts = one.tally.total();
        match configurations.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => sum.merge(counts),
            None => configurations.push((name, counts)),
        }
    }
    configurations
}

/// The same documents everywhere, no difference without a documented exception, and equal hits in at least 99.5 of
/// 100 answers of every configuration. Says what is not so.
fn kept(measured: &[Measured]) -> bool {
    let mut broken = Vec::new();
    for one in measured {
        let what = format!("{}, {}, {}", one.shape, one.corpus, one.profile.label());
        if !one.same_documents {
            broken.push(format!("{what}: the documents differ"));
        }
        let kinds = one.tally.kinds();
        let failing = kinds.iter().filter(|(kind, counts)| counts.fails(**kind));
        broken.extend(failing.map(|(kind, _)| format!("{what}: {} differs more than it may", kind.label())));
    }
    for (name, counts) in configurations(measured) {
        if counts.hits_percent() < 99.5 {
            broken.push(format!("{name}: hits are equal in fewer than 99.5 %"));
        }
    }
    broken.iter().for_each(|line| println!("not kept: {line}"));
    broken.is_empty()
}

fn tables(measured: &[Measured], options: &Options) -> String {
    let mut page = format!(
        "Seed {}, {} documents in `catalogue` and 3,201 in `movies`, {} requests on each of the two.\n\n\
         | nodes | settings | equal hits | equal totals | equal facets | equal in everything |\n\
         |---|---|---:|---:|---:|---:|\n",
        options.seed, options.documents, options.requests
    );
    for (name, counts) in configurations(measured) {
        writeln!(page, "| {name} | {} |", columns(counts)).expect("a string can be written to");
    }
    page.push_str(
        "\nThe same, by documents:\n\n\
         | nodes | documents | settings | equal hits | equal totals | equal facets | equal in everything |\n\
         |---|---|---|---:|---:|---:|---:|\n",
    );
    let mut kinds: BTreeMap<Kind, Counts> = BTreeMap::new();
    for one in measured {
        let counts = one.tally.total();
        writeln!(page, "| {} | {} | {} | {} |", one.shape, one.corpus, one.profile.label(), columns(counts))
            .expect("a string can be written to");
        for (kind, counts) in one.tally.kinds() {
            kinds.entry(*kind).or_default().merge(*counts);
        }
    }
    page.push_str(
        "\nBy kind of request, over all rows above:\n\n\
         | kind | requests | equal hits | equal totals | equal facets | equal in everything |\n\
         |---|---:|---:|---:|---:|---:|\n",
    );
    for (kind, counts) in &kinds {
        let mark = kind
            .exception()
            .map_or(String::new(), |exception| format!(" (exception: {})", exception.part.label()));
        writeln!(page, "| {}{mark} | {} | {} |", kind.label(), counts.requests, columns(*counts))
            .expect("a string can be written to");
    }
    let exceptions: Vec<String> = kinds
        .keys()
        .filter_map(|kind| Some(format!("- {}: {}.\n", kind.label(), kind.exception()?.reason)))
        .collect();
    if !exceptions.is_empty() {
        write!(page, "\nExceptions:\n\n{}", exceptions.concat()).expect("a string can be written to");
    }
    page
}

fn columns(counts: Counts) -> String {
    [counts.equal_hits, counts.equal_totals, counts.equal_facets, counts.equal]
        .map(|part| share(part, counts.requests))
        .join(" | ")
}

/// A percentage that says 100 only when nothing differed.
fn share(part: usize, whole: usize) -> String {
    if part == whole {
        "100 %".to_owned()
    } else {
        format!("{:.2} % ({} differ)", percent(part, whole).min(99.99), whole - part)
    }
}

fn write_page(path: &str, tables: &str) {
    let page = std::fs::read_to_string(path).unwrap_or_else(|_| format!("# Fidelity\n\n{BEGIN}\n{END}\n"));
    let (before, rest) = page.split_once(BEGIN).unwrap_or_else(|| panic!("{path} has no line {BEGIN}"));
    let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("{path} has no line {END}"));
    std::fs::write(path, format!("{before}{BEGIN}\n{tables}{END}{after}"))
        .unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
}
