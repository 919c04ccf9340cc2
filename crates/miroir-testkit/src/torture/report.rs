//! What a run did and what it found: counts, and a history in a file for finding out what led to something.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Violations of one kind that are told in full.
const TOLD: usize = 8;
const LONGEST_TOLD: usize = 600;
/// What takes longer counts as slow.
const SLOW: Duration = Duration::from_secs(1);

/// A promise that was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// An acknowledged write is not there at a quiet point.
    Lost,
    /// A deleted document is there.
    Resurrected,
    /// A document is found twice.
    Duplicate,
    /// A read lacks or shows outdated what it must show, and does not say so.
    SilentPartial,
    /// An answer is wrong in another way.
    WrongAnswer,
    /// A failed task was carried out all the same.
    FailedButDone,
    /// Copies differ, or there are too many or too few.
    CopiesDiffer,
    /// The answer differs from that of one Meilisearch.
    OracleDiffers,
    /// Something was not over in time.
    NeverEnded,
    /// A process ended by itself.
    Crashed,
}

impl Violation {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Lost,
        Self::Resurrected,
        Self::Duplicate,
        Self::SilentPartial,
        Self::WrongAnswer,
        Self::FailedButDone,
        Self::CopiesDiffer,
        Self::OracleDiffers,
        Self::NeverEnded,
        Self::Crashed,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Lost => "acknowledged writes lost",
            Self::Resurrected => "deleted documents resurrected",
            Self::Duplicate => "duplicates",
            Self::SilentPartial => "silent partial answers",
            Self::WrongAnswer => "answers wrong otherwise",
            Self::FailedButDone => "failed tasks done all the same",
            Self::CopiesDiffer => "copies that differ",
            Self::OracleDiffers => "differences from one Meilisearch",
            Self::NeverEnded => "things that never ended",
            Self::Crashed => "processes that ended by themselves",
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    events: BTreeMap<(&'static str, String), u64>,
    /// How long answered requests took, by what they are.
    times: BTreeMap<&'static str, Vec<Duration>>,
    violations: BTreeMap<Violation, u64>,
    told: Vec<String>,
}

/// What a run did and found so far; shared by everyone who takes part.
#[derive(Debug)]
pub struct Report {
    counts: Mutex<Counts>,
    history: Mutex<std::io::LineWriter<std::fs::File>>,
    started: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Report {
    /// A report whose history goes to a new file.
    pub fn new(history: &Path) -> Self {
        let file = std::fs::File::create(history).expect("the history can be written");
        let history = Mutex::new(std::io::LineWriter::new(file));
        Self { counts: Mutex::default(), history, started: Instant::now() }
    }

    /// Adds a line to the history.
    pub fn note(&self, line: impl std::fmt::Display) {
        let at = self.started.elapsed().as_secs_f64();
        // A history that cannot be written costs the reason of a failure, not the run.
        let _ = writeln!(lock(&self.history), "{at:10.3} {line}");
    }

    /// Counts something of a group.
    pub fn count(&self, group: &'static str, what: impl Into<String>) {
        *lock(&self.counts).events.entry((group, what.into())).or_default() += 1;
    }

    /// How often something of a group was counted.
    pub fn total(&self, group: &str) -> u64 {
        lock(&self.counts).events.iter().filter(|((of, _), _)| *of == group).map(|(_, count)| count).sum()
    }

    /// Notes how long something took.
    pub fn took(&self, what: &'static str, time: Duration) {
        lock(&self.counts).times.entry(what).or_default().push(time);
    }

    /// Notes that a promise was not kept.
    pub fn violation(&self, violation: Violation, what: impl std::fmt::Display) {
        let mut what = what.to_string();
        self.note(format_args!("VIOLATION {violation:?}: {what}"));
        if let Some((end, _)) = what.char_indices().nth(LONGEST_TOLD) {
            what.truncate(end);
            what.push('…');
        }
        let at = self.started.elapsed().as_secs_f64();
        let counts = &mut *lock(&self.counts);
        let count = counts.violations.entry(violation).or_default();
        *count += 1;
        if *count as usize <= TOLD {
            counts.told.push(format!("{at:.3} s, {}: {what}", violation.label()));
        }
    }

    /// Whether some promise was not kept.
    pub fn has_violations(&self) -> bool {
        !lock(&self.counts).violations.is_empty()
    }

    /// Says it all for a person.
    pub fn text(&self) -> String {
        let counts = &mut *lock(&self.counts);
        let mut text = String::new();
        let mut last = "";
        for ((group, what), count) in &counts.events {
            if *group != last {
                let _ = writeln!(text, "{group}");
                last = group;
            }
            let _ = writeln!(text, "  {count:8}  {what}");
        }
        if !counts.times.is_empty() {
            let _ = writeln!(text, "times");
        }
        for (what, times) in &mut counts.times {
            times.sort_unstable();
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
            let slow = times.iter().filter(|time| **time > SLOW).count();
            let (number, median, late, slowest) = (times.len(), at(0.5), at(0.99), at(1.0));
            let _ = writeln!(
                text,
                "  {number:8}  {what}: p50 {median:.1?}, p99 {late:.1?}, slowest {slowest:.1?}, {slow} over {SLOW:?}"
            );
        }
        let _ = writeln!(text, "promises not kept");
        for violation in Violation::ALL {
            let count = counts.violations.get(&violation).copied().unwrap_or_default();
            let _ = writeln!(text, "  {count:8}  {}", violation.label());
        }
        for line in &counts.told {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}
