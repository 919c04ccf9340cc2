//! Clients that search all the time, each sending its next search when the last one was answered, and what they saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use miroir_testkit::cluster::{Cluster, MASTER_KEY};
use miroir_testkit::figures::connection::{Line, Part};
use miroir_testkit::figures::workload::{INDEX, Workload};
use serde_json::Value;

/// What a client does after an error, so that a server that refuses everybody is not flooded.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// What became of one search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The hits that were found before anything happened.
    Same,
    /// Other hits, without a word.
    Other,
    /// An answer that says it is partial.
    Partial,
    /// No answer, or an error.
    Failed(String),
}

/// One search.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it was sent, in seconds since the clients started.
    pub begun: f64,
    /// When it was answered.
    pub ended: f64,
    /// How.
    pub outcome: Outcome,
}

impl Sample {
    /// Milliseconds from question to answer.
    pub fn took(&self) -> f64 {
        1_000.0 * (self.ended - self.begun)
    }
}

/// The searches as they are sent, and the hits to expect.
#[derive(Debug)]
pub struct Searches {
    parts: Vec<Part>,
    expected: Vec<Value>,
}

impl Searches {
    /// Sends every search once while all is well.
    pub fn learn(cluster: &Cluster, workload: &Workload) -> Arc<Self> {
        let address = cluster.client().base_url().trim_start_matches("http://").to_owned();
        let path = format!("/indexes/{INDEX}/search");
        let part = |body: &Value| Part::post(&address, &path, MASTER_KEY, body.to_string().as_bytes());
        let parts: Vec<Part> = workload.searches.iter().map(|search| part(&search.body)).collect();
        let mut line = Line::default();
        let expected = parts.iter().map(|part| {
            line.exchange(std::slice::from_ref(part)).unwrap_or_else(|error| panic!("{error}"));
            hits(&line)
        });
        Arc::new(Self { expected: expected.collect(), parts })
    }

    fn send(&self, number: usize, line: &mut Line) -> Result<(), String> {
        line.exchange(&self.parts[number..=number])
    }

    fn judge(&self, number: usize, line: &Line) -> Outcome {
        match () {
            () if line.first_has_header("x-miroir-degraded") => Outcome::Partial,
            () if hits(line) == self.expected[number] => Outcome::Same,
            () => Outcome::Other,
        }
    }
}

fn hits(line: &Line) -> Value {
    let mut answer: Value = serde_json::from_slice(line.first_body()).unwrap_or_default();
    answer["hits"].take()
}

/// Running clients.
pub struct Clients {
    started: Instant,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Sample>>>,
}

impl Clients {
    /// Starts so many.
    pub fn start(searches: &Arc<Searches>, count: usize) -> Self {
        let (started, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let next = Arc::new(AtomicUsize::new(0));
        let threads = (0..count).map(|_| {
            let (searches, stop, next) = (Arc::clone(searches), Arc::clone(&stop), Arc::clone(&next));
            std::thread::spawn(move || search_until(&searches, &stop, &next, started))
        });
        let threads = threads.collect();
        Self { started, stop, threads }
    }

    /// Seconds since they started.
    pub fn now(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Waits for the answers under way; everything that was asked, in the order of the answers.
    pub fn finish(self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.threads.into_iter().map(|thread| thread.join().expect("a client ends well"));
        let mut samples: Vec<Sample> = ended.flatten().collect();
        samples.sort_by(|one, other| one.ended.total_cmp(&other.ended));
        samples
    }
}

fn search_until(searches: &Searches, stop: &AtomicBool, next: &AtomicUsize, started: Instant) -> Vec<Sample> {
    let (mut line, mut samples) = (Line::default(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed) % searches.parts.len();
        let begun = started.elapsed().as_secs_f64();
        let answered = searches.send(number, &mut line);
        let ended = started.elapsed().as_secs_f64();
        let outcome = match answered {
            Ok(()) => searches.judge(number, &line),
            Err(error) => {
                std::thread::sleep(PAUSE_AFTER_FAILURE);
                Outcome::Failed(error)
            }
        };
        samples.push(Sample { begun, ended, outcome });
    }
    samples
}
