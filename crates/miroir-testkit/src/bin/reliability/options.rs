//! The command line.

use std::path::PathBuf;
use std::time::Duration;

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Nodes that are killed or frozen under load.
    Injury,
    /// A node that is slow.
    Slow,
    /// A node that comes back.
    Repair,
    /// What recording writes before they are sent costs.
    Intents,
}

impl Part {
    fn parse(letter: &str) -> Self {
        match letter {
            "a" => Self::Injury,
            "b" => Self::Slow,
            "c" => Self::Repair,
            "d" => Self::Intents,
            other => panic!("--only takes a list of a, b, c and d, and not `{other}`"),
        }
    }
}

/// What to measure, and how thoroughly.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is measured.
    pub parts: Vec<Part>,
    /// Documents in the index that is searched.
    pub documents: usize,
    /// Different searches.
    pub searches: usize,
    /// Clients that each have one request in flight.
    pub clients: usize,
    /// Rounds of each injury, each with other nodes, and of the slow node.
    pub rounds: usize,
    /// How long is searched before an injury, and with and without the slow node.
    pub before: Duration,
    /// How long is searched after an injury.
    pub after: Duration,
    /// Documents in the index that is repaired.
    pub repair_documents: usize,
    /// Rounds of repair.
    pub repair_rounds: usize,
    /// Longest wait for one repair.
    pub repair_limit: Duration,
    /// Writes of one document in one round.
    pub small_writes: usize,
    /// Writes of a thousand documents in one round.
    pub large_writes: usize,
    /// Rounds of writing, each with and without intents.
    pub write_rounds: usize,
    /// Seed of documents and searches.
    pub seed: u64,
    /// The page to write.
    pub output: Option<PathBuf>,
    /// For the page.
    pub date: String,
    /// For the page.
    pub revision: String,
    /// A trial of the tool, whose figures mean nothing.
    pub quick: bool,
}

impl Options {
    fn thorough() -> Self {
        Self {
            parts: vec![Part::Injury, Part::Slow, Part::Repair, Part::Intents],
            documents: 20_000,
            searches: 330,
            clients: 8,
            rounds: 5,
            before: Duration::from_secs(10),
            after: Duration::from_secs(15),
            repair_documents: 60_000,
            repair_rounds: 3,
            repair_limit: Duration::from_secs(600),
            small_writes: 400,
            large_writes: 32,
            write_rounds: 9,
            seed: 20_260_101,
            output: None,
            date: "unknown".to_owned(),
            revision: "unknown".to_owned(),
            quick: false,
        }
    }

    fn quick() -> Self {
        Self {
            documents: 2_000,
            searches: 110,
            rounds: 1,
            before: Duration::from_secs(3),
            after: Duration::from_secs(8),
            repair_documents: 3_000,
            repair_rounds: 1,
            repair_limit: Duration::from_secs(60),
            small_writes: 40,
            large_writes: 8,
            write_rounds: 2,
            quick: true,
            ..Self::thorough()
        }
    }

    /// Whether a part is to be measured.
    pub fn wants(&self, part: Part) -> bool {
        self.parts.contains(&part)
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
            let seconds = || Duration::from_secs(number() as u64);
            match name.as_str() {
                "--only" => options.parts = value.split(',').map(Part::parse).collect(),
                "--documents" => options.documents = number(),
                "--searches" => options.searches = number(),
                "--clients" => options.clients = number(),
                "--rounds" => options.rounds = number(),
                "--before" => options.before = seconds(),
                "--after" => options.after = seconds(),
                "--repair-documents" => options.repair_documents = number(),
                "--repair-rounds" => options.repair_rounds = number(),
                "--small-writes" => options.small_writes = number(),
                "--large-writes" => options.large_writes = number(),
                "--write-rounds" => options.write_rounds = number(),
                "--seed" => options.seed = number() as u64,
                "--output" => options.output = Some(value.into()),
                "--date" => options.date = value,
                "--revision" => options.revision = value,
                other => panic!("unknown argument {other}"),
            }
        }
        options
    }
}
