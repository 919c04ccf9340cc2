//! Measuring searches. Everybody gets the same searches, in turns, so that a machine that is slow for a while is
//! slow for all of them.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use miroir_testkit::corpus::Dice;
use miroir_testkit::figures::connection::{Line, Part};
use miroir_testkit::figures::statistics::{percentile, sorted};
use miroir_testkit::figures::workload::Workload;
use serde_json::Value;

use crate::options::Options;
use crate::parts::parts;
use crate::process_stat::{cpu_time, forget_peak, memory_peak};
use crate::subject::{Servers, Subject};

/// One subject under measurement, and what was found.
pub struct Contestant {
    /// Who.
    pub subject: Subject,
    /// The searches as it gets them.
    parts: Vec<Vec<Part>>,
    miroir: Option<i32>,
    line: Line,
    /// Milliseconds of each search, per round.
    pub latencies: Vec<Vec<f64>>,
    /// Searches in a second, per round.
    pub throughput: Vec<f64>,
    cpu: Duration,
    /// Searches the CPU time was spent on.
    searches: usize,
    /// Most megabytes Miroir held while searched.
    pub peak: Option<f64>,
    /// Searches answered with other hits than one Meilisearch gives; of no meaning for the floors.
    pub differing: usize,
}

impl Contestant {
    /// The medians of the rounds, in milliseconds.
    pub fn round_medians(&self) -> Vec<f64> {
        self.latencies.iter().map(|round| percentile(&sorted(round.iter().copied()), 0.5)).collect()
    }

    /// A percentile over all rounds, in milliseconds.
    pub fn percentile(&self, share: f64) -> f64 {
        percentile(&sorted(self.latencies.iter().flatten().copied()), share)
    }

    /// The median over all rounds of the searches with these numbers, in milliseconds.
    pub fn median_of(&self, wanted: impl Fn(usize) -> bool) -> f64 {
        let of_round = |round: &Vec<f64>| {
            let chosen = round.iter().enumerate().filter(|(number, _)| wanted(*number));
            chosen.map(|(_, latency)| *latency).collect::<Vec<f64>>()
        };
        percentile(&sorted(self.latencies.iter().flat_map(of_round)), 0.5)
    }

    /// Milliseconds of CPU that Miroir itself spent on one search.
    pub fn cpu_per_search(&self) -> Option<f64> {
        self.miroir.map(|_| 1_000.0 * self.cpu.as_secs_f64() / self.searches as f64)
    }
}

/// Everybody to be searched.
pub fn contestants(servers: &Servers, workload: &Workload) -> Vec<Contestant> {
    let contestant = |subject| Contestant {
        subject,
        parts: parts(workload, subject, &servers.route(subject)),
        miroir: servers.miroir(subject),
        line: Line::default(),
        latencies: Vec::new(),
        throughput: Vec::new(),
        cpu: Duration::ZERO,
        searches: 0,
        peak: None,
        differing: 0,
    };
    Subject::SEARCHED.map(contestant).into_iter().collect()
}

/// Sends every search once to everybody, and counts the answers whose hits differ: fast and wrong is no result.
pub fn warm_up(contestants: &mut [Contestant], workload: &Workload) {
    for number in 0..workload.searches.len() {
        let mut expected = None;
        for contestant in contestants.iter_mut() {
            search(&mut contestant.line, &contestant.parts[number]);
            let mut answer: Value =
                serde_json::from_slice(contestant.line.first_body()).expect("an answer is JSON");
            let hits = answer["hits"].take();
            contestant.differing += usize::from(*expected.get_or_insert_with(|| hits.clone()) != hits);
        }
    }
    for contestant in contestants {
        contestant.miroir.inspect(|pid| forget_peak(*pid));
    }
}

/// One search at a time, everybody in turns, in another order for each search.
pub fn measure_latency(contestants: &mut [Contestant], workload: &Workload, options: &Options) {
    let mut dice = Dice::new(options.seed);
    let mut order: Vec<usize> = (0..contestants.len()).collect();
    for round in 0..options.rounds {
        contestants.iter_mut().for_each(|contestant| contestant.latencies.push(Vec::new()));
        for number in 0..workload.searches.len() {
            for last in (1..order.len()).rev() {
                order.swap(last, dice.below(last + 1));
            }
            for position in &order {
                let contestant = &mut contestants[*position];
                let begun = Instant::now();
                search(&mut contestant.line, &contestant.parts[number]);
                contestant.latencies[round].push(1_000.0 * begun.elapsed().as_secs_f64());
            }
        }
        println!("latency, round {} of {}", round + 1, options.rounds);
    }
}

/// So many clients, each sending its next search when the last one was answered; everybody in turns.
pub fn measure_throughput(contestants: &mut [Contestant], options: &Options) {
    for round in 0..options.rounds {
        for contestant in contestants.iter_mut() {
            let cpu_before = contestant.miroir.map_or(Duration::ZERO, cpu_time);
            let seconds = closed_loop(&contestant.parts, options);
            let cpu_after = contestant.miroir.map_or(Duration::ZERO, cpu_time);
            contestant.cpu += cpu_after - cpu_before;
            contestant.searches += options.load;
            contestant.throughput.push(options.load as f64 / seconds);
        }
        println!("throughput, round {} of {}", round + 1, options.rounds);
    }
    for contestant in contestants {
        contestant.peak = contestant.miroir.map(memory_peak);
    }
}

/// Seconds from the first request of the first client to the last answer.
fn closed_loop(searches: &[Vec<Part>], options: &Options) -> f64 {
    let (next, ready) = (AtomicUsize::new(0), Barrier::new(options.clients));
    let client = |number: usize| {
        let mut line = Line::default();
        // Connections are opened before the clock starts.
        search(&mut line, &searches[number % searches.len()]);
        ready.wait();
        let begun = Instant::now();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= options.load {
                return begun;
            }
            search(&mut line, &searches[number % searches.len()]);
        }
    };
    let first = std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..options.clients).map(|number| scope.spawn(move || client(number))).collect();
        clients.into_iter().map(|client| client.join().expect("a client ends well")).min()
    });
    first.map_or(f64::NAN, |begun| begun.elapsed().as_secs_f64())
}

/// One search; one that is not answered well ends the measurement.
fn search(line: &mut Line, parts: &[Part]) {
    line.exchange(parts).unwrap_or_else(|error| panic!("{error}"));
}
