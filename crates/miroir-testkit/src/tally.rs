//! Counting what was equal, by kind of request.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::client::Answer;
use crate::compare::Difference;
use crate::request::{Kind, SearchRequest};

/// Examples of differences kept for each kind.
const EXAMPLES: usize = 3;

/// The counts of one kind, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests compared.
    pub requests: usize,
    /// Answers, of the single Meilisearch, that hold at least one hit or facet: others prove little.
    pub telling: usize,
    /// Answers that differ where this kind has no exception.
    pub broken: usize,
    /// Answers equal in everything.
    pub equal: usize,
    /// Answers with equal hits.
    pub equal_hits: usize,
    /// Answers with equal totals.
    pub equal_totals: usize,
    /// Answers with equal facets.
    pub equal_facets: usize,
}

impl Counts {
    fn add(&mut self, kind: Kind, expected: &Answer, difference: &Difference) {
        self.requests += 1;
        self.broken += usize::from(is_broken(kind, difference));
        self.telling += usize::from(is_telling(&expected.body));
        self.equal += usize::from(difference.is_empty());
        self.equal_hits += usize::from(!difference.in_hits());
        self.equal_totals += usize::from(!difference.in_totals());
        self.equal_facets += usize::from(!difference.in_facets());
    }

    /// Adds the counts of another run.
    pub fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.telling += other.telling;
        self.broken += other.broken;
        self.equal += other.equal;
        self.equal_hits += other.equal_hits;
        self.equal_totals += other.equal_totals;
        self.equal_facets += other.equal_facets;
    }

    /// Whether something differs that may not, or too often.
    pub fn fails(&self, kind: Kind) -> bool {
        let must_be_equal = kind.exception().map_or(1.0, |exception| exception.at_least);
        // One more may differ by chance than the share says, because there are few of each kind.
        let may_differ = (self.requests as f64 * (1.0 - must_be_equal)).ceil() as usize + 1;
        self.broken > 0 || self.requests - self.equal > may_differ
    }

    /// Hits equal, in percent.
    pub fn hits_percent(&self) -> f64 {
        percent(self.equal_hits, self.requests)
    }
}

/// A share in percent; of nothing, everything.
pub fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 100.0 } else { 100.0 * part as f64 / whole as f64 }
}

fn is_broken(kind: Kind, difference: &Difference) -> bool {
    match kind.exception() {
        None => !difference.is_empty(),
        Some(exception) => difference.places.iter().any(|(place, _, _)| !exception.part.contains(place)),
    }
}

fn is_telling(body: &Value) -> bool {
    let filled = |field: &str| match body.get(field) {
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        _ => false,
    };
    let of_several = |body: &Value| body["results"].as_array().is_some_and(|all| all.iter().any(is_telling));
    filled("hits") || filled("facetDistribution") || of_several(body)
}

/// The result of comparing many requests.
#[derive(Debug, Clone)]
pub struct Tally {
    seed: u64,
    kinds: BTreeMap<Kind, Counts>,
    examples: BTreeMap<Kind, Vec<String>>,
}

impl Tally {
    /// No requests yet, of a generator with this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, kinds: BTreeMap::new(), examples: BTreeMap::new() }
    }

    /// Counts one compared request.
    pub fn add(&mut self, request: &SearchRequest, expected: &Answer, difference: Difference) {
        self.kinds.entry(request.kind).or_default().add(request.kind, expected, &difference);
        let examples = self.examples.entry(request.kind).or_default();
        let example = || format!("  {}\n{difference}", request.body);
        if is_broken(request.kind, &difference) {
            // What may not differ is shown first.
            examples.insert(0, example());
            examples.truncate(EXAMPLES);
        } else if !difference.is_empty() && examples.len() < EXAMPLES {
            examples.push(example());
        }
    }

    /// Counts by kind.
    pub fn kinds(&self) -> &BTreeMap<Kind, Counts> {
        &self.kinds
    }

    /// Counts of all kinds together.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.kinds.values().for_each(|counts| total.merge(*counts));
        total
    }

    /// What differed, by kind, with examples.
    pub fn report(&self) -> String {
        let total = self.total();
        let mut text = format!(
            "seed {}: {} of {} answers equal ({} hits, {} totals, {} facets)\n",
            self.seed, total.equal, total.requests, total.equal_hits, total.equal_totals, total.equal_facets
        );
        for (kind, counts) in self.kinds.iter().filter(|(_, counts)| counts.equal < counts.requests) {
            let (label, differing) = (kind.label(), counts.requests - counts.equal);
            writeln!(text, "- {label}: {differing} of {} differ", counts.requests)
                .expect("a string can be written to");
            for example in &self.examples[kind] {
                text.push_str(example);
            }
        }
        text
    }

    /// Panics when some kind of request finds nothing too often to prove anything.
    #[track_caller]
    pub fn assert_telling(&self) {
        for (kind, counts) in &self.kinds {
            let share = percent(counts.telling, counts.requests);
            // Of a handful, one has to.
            let enough = if counts.requests < 10 { counts.telling > 0 } else { share >= 30.0 };
            assert!(
                enough || *kind == Kind::Wrong,
                "only {share:.0} % of the requests of kind {:?} find anything",
                kind.label()
            );
        }
    }

    /// Whether no kind differs where it may not, and hits are equal in at least 99.5 of 100 answers; in a sample
    /// of less than 2,000, at least 99, because chance decides how many of the few exceptions it holds.
    pub fn is_faithful(&self) -> bool {
        let total = self.total();
        let least = if total.requests < 2_000 { 99.0 } else { 99.5 };
        total.hits_percent() >= least && !self.kinds.iter().any(|(kind, counts)| counts.fails(*kind))
    }

    /// Panics unless [`Self::is_faithful`].
    #[track_caller]
    pub fn assert_faithful(&self, what: &str) {
        let broken: Vec<&str> = self
            .kinds
            .iter()
            .filter(|(kind, counts)| counts.fails(**kind))
            .map(|(kind, _)| kind.label())
            .collect();
        let rate = self.total().hits_percent();
        assert!(
            self.is_faithful(),
            "{what}: hits equal in {rate:.2} % of the answers, and kinds that must be equal but are not: {broken:?}\n{}",
            self.report()
        );
    }
}
