//! The command line.

use std::path::PathBuf;

/// What to measure, and how thoroughly.
#[derive(Debug, Clone)]
pub struct Options {
    /// Documents in the index.
    pub documents: usize,
    /// Different searches.
    pub searches: usize,
    /// Rounds; each measures everything once.
    pub rounds: usize,
    /// Searches of one throughput measurement of one round.
    pub load: usize,
    /// Clients that each have one search in flight, for throughput.
    pub clients: usize,
    /// Rounds of ingest.
    pub ingest_rounds: usize,
    /// Documents in one body.
    pub batch: usize,
    /// Tasks to be listed.
    pub tasks: usize,
    /// Bytes of the large body.
    pub large_body: usize,
    /// Seed of documents and searches.
    pub seed: u64,
    /// The page to write.
    pub output: Option<PathBuf>,
    /// Criterion's results, `target/criterion`.
    pub criterion: Option<PathBuf>,
    /// For the page.
    pub date: String,
    /// For the page.
    pub revision: String,
    /// Keep the servers for so many seconds after the measurement, to look at them.
    pub hold_seconds: u64,
    /// A trial of the tool, whose figures mean nothing.
    pub quick: bool,
}

impl Options {
    fn thorough() -> Self {
        Self {
            documents: 60_000,
            searches: 330,
            rounds: 7,
            load: 660,
            clients: 8,
            ingest_rounds: 3,
            batch: 5_000,
            tasks: 100_000,
            // Meilisearch's own limit is 100 MB; this leaves room for the last document.
            large_body: 100_000_000 - 4_096,
            seed: 20_260_101,
            output: None,
            criterion: None,
            date: "unknown".to_owned(),
            revision: "unknown".to_owned(),
            hold_seconds: 0,
            quick: false,
        }
    }

    fn quick() -> Self {
        Self {
            documents: 3_000,
            searches: 110,
            rounds: 2,
            load: 110,
            ingest_rounds: 1,
            batch: 1_000,
            tasks: 1_000,
            large_body: 5_000_000,
            quick: true,
            ..Self::thorough()
        }
    }

    /// From the arguments; anything unknown is a panic.
    pub fn from_arguments() -> Self {
        let quick = std::env::args().any(|argument| argument == "--quick");
        let mut options = if quick { Self::quick() } else { Self::thorough() };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            if name == "--quick" {
                continue;
            }
            let value = arguments.next().unwrap_or_else(|| panic!("{name} needs a value"));
            let number = || value.parse::<usize>().unwrap_or_else(|_| panic!("{name} takes a number"));
            match name.as_str() {
                "--documents" => options.documents = number(),
                "--searches" => options.searches = number(),
                "--rounds" => options.rounds = number(),
                "--load" => options.load = number(),
                "--clients" => options.clients = number(),
                "--ingest-rounds" => options.ingest_rounds = number(),
                "--batch" => options.batch = number(),
                "--tasks" => options.tasks = number(),
                "--large-body" => options.large_body = number(),
                "--seed" => options.seed = number() as u64,
                "--hold" => options.hold_seconds = number() as u64,
                "--output" => options.output = Some(value.into()),
                "--criterion" => options.criterion = Some(value.into()),
                "--date" => options.date = value,
                "--revision" => options.revision = value,
                other => panic!("unknown argument {other}"),
            }
        }
        options
    }
}
