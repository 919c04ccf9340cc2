//! The measurement as tables.

use std::fmt::Write as _;

use miroir_testkit::figures::goal;
use miroir_testkit::figures::statistics::{median, median_ratio};
use miroir_testkit::figures::workload::Workload;

use crate::criterion_results::PureResult;
use crate::dump_import::DumpImport;
use crate::goals::goals;
use crate::options::Options;
use crate::requests::Measured;
use crate::searching::Contestant;
use crate::subject::Subject;
use crate::writing::{AtRest, Ingest, LargeBody};

/// Everything that was measured.
pub struct Report {
    /// Searches.
    pub contestants: Vec<Contestant>,
    /// Documents in batches.
    pub ingests: Vec<Ingest>,
    /// Memory at rest.
    pub at_rest: Vec<AtRest>,
    /// A dump taken in.
    pub dump_imports: Vec<DumpImport>,
    /// Other requests.
    pub requests: Vec<Measured>,
    /// Documents in one piece.
    pub large_bodies: Vec<LargeBody>,
    /// The pure parts.
    pub pure: Vec<PureResult>,
}

impl Report {
    /// The searches of a subject.
    pub fn searched(&self, subject: Subject) -> &Contestant {
        self.contestants
            .iter()
            .find(|contestant| contestant.subject == subject)
            .unwrap_or_else(|| panic!("{} was not searched", subject.label()))
    }

    /// The ingest of a subject.
    pub fn ingested(&self, subject: Subject) -> &Ingest {
        self.ingests
            .iter()
            .find(|ingest| ingest.subject == subject)
            .unwrap_or_else(|| panic!("{} was not written to", subject.label()))
    }

    /// All tables.
    pub fn tables(&self, workload: &Workload, options: &Options) -> String {
        let mut page = goal::table(&goals(self));
        self.search_table(&mut page);
        self.kind_table(&mut page, workload);
        self.request_table(&mut page, options);
        self.ingest_table(&mut page, options);
        self.large_body_table(&mut page);
        self.dump_import_table(&mut page, options);
        self.pure_table(&mut page);
        page
    }

    fn search_table(&self, page: &mut String) {
        line(
            page,
            "\n### Searches\n\n| | p50 | p95 | p99 | p50 to one Meilisearch | p50 to its floor | searches/s | to one \
             Meilisearch | to its floor | Miroir's CPU per search | Miroir's peak memory | other hits |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        );
        let direct = self.searched(Subject::Direct);
        for one in &self.contestants {
            let [p50, p95, p99] = [0.50, 0.95, 0.99].map(|share| one.percentile(share));
            let medians = one.round_medians();
            let to_direct = median_ratio(&medians, &direct.round_medians());
            let throughput_to_direct = median_ratio(&one.throughput, &direct.throughput);
            let floor = one.subject.floor().map(|floor| self.searched(floor));
            let latency_to_floor = floor.map(|floor| median_ratio(&medians, &floor.round_medians()));
            let throughput_to_floor = floor.map(|floor| median_ratio(&one.throughput, &floor.throughput));
            let other_hits = one.subject.is_miroir().then_some(one.differing);
            line(
                page,
                &format!(
                    "| {} | {p50:.2} ms | {p95:.2} ms | {p99:.2} ms | {to_direct:.2} | {} | {:.0} | \
                     {throughput_to_direct:.2} | {} | {} | {} | {} |",
                    one.subject.label(),
                    shown(latency_to_floor, |ratio| format!("{ratio:.2}")),
                    median(one.throughput.iter().copied()),
                    shown(throughput_to_floor, |ratio| format!("{ratio:.2}")),
                    shown(one.cpu_per_search(), |milliseconds| format!("{milliseconds:.3} ms")),
                    shown(one.peak, |megabytes| format!("{megabytes:.0} MB")),
                    shown(other_hits, |count| count.to_string()),
                ),
            );
        }
    }

    fn kind_table(&self, page: &mut String, workload: &Workload) {
        let mut kinds: Vec<_> = workload.searches.iter().map(|search| search.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let labels: Vec<&str> = self.contestants.iter().map(|one| one.subject.label()).collect();
        line(page, &format!("\nMedians in milliseconds, by kind of search:\n\n| | {} |", labels.join(" | ")));
        line(page, &format!("|---|{}", "---:|".repeat(labels.len())));
        for kind in kinds {
            let medians: Vec<String> = self
                .contestants
                .iter()
                .map(|one| format!("{:.2}", one.median_of(|number| workload.searches[number].kind == kind)))
                .collect();
            line(page, &format!("| {} | {} |", kind.label(), medians.join(" | ")));
        }
    }

    fn request_table(&self, page: &mut String, options: &Options) {
        line(
            page,
            &format!(
                "\n### Other requests\n\nOne at a time, in turns; {} tasks.\n\n| | asked | p50 | p95 | p50 to one \
                 Meilisearch |\n|---|---|---:|---:|---:|",
                options.tasks
            ),
        );
        for one in &self.requests {
            let direct = self
                .requests
                .iter()
                .find(|other| other.label == one.label && other.subject == Subject::Direct);
            let ratio = direct.map(|direct| median_ratio(&one.round_medians(), &direct.round_medians()));
            let (label, asked) = (one.label, one.subject.label());
            let [p50, p95] = [0.50, 0.95].map(|share| one.percentile(share));
            let ratio = shown(ratio, |ratio| format!("{ratio:.2}"));
            line(page, &format!("| {label} | {asked} | {p50:.2} ms | {p95:.2} ms | {ratio} |"));
        }
    }

    fn ingest_table(&self, page: &mut String, options: &Options) {
        line(
            page,
            "\n### Ingest\n\n| | until the last task succeeded | documents/s | to one Meilisearch | until the last \
             acknowledgement | Miroir's peak memory | at rest, after start | at rest, after ingest |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|",
        );
        let seconds = |ingest: &Ingest| median(ingest.seconds.iter().copied());
        let direct = seconds(self.ingested(Subject::Direct));
        for ingest in &self.ingests {
            let at_rest = self.at_rest.iter().find(|memory| memory.subject == ingest.subject);
            let (total, megabytes) = (seconds(ingest), |memory: f64| format!("{memory:.0} MB"));
            line(
                page,
                &format!(
                    "| {} | {total:.2} s | {:.0} | {:.2} | {:.2} s | {} | {} | {} |",
                    ingest.subject.label(),
                    options.documents as f64 / total,
                    total / direct,
                    median(ingest.acknowledged.iter().copied()),
                    shown(ingest.peak, megabytes),
                    shown(at_rest.map(|memory| memory.started), megabytes),
                    shown(at_rest.map(|memory| memory.ingested), megabytes),
                ),
            );
        }
    }

    fn large_body_table(&self, page: &mut String) {
        line(
            page,
            "\n### One large body\n\n| | bytes | documents | acknowledged after | succeeded after | Miroir's peak \
             memory |\n|---|---:|---:|---:|---:|---:|",
        );
        for body in &self.large_bodies {
            let (acknowledged, succeeded) = match &body.outcome {
                Ok((acknowledged, succeeded)) => {
                    (format!("{acknowledged:.2} s"), format!("{succeeded:.2} s"))
                }
                Err(error) => (format!("**failed**: {}", error.replace('|', "\\|")), String::new()),
            };
            line(
                page,
                &format!(
                    "| {} | {} | {} | {acknowledged} | {succeeded} | {:.0} MB |",
                    body.subject.label(),
                    body.size.0,
                    body.size.1,
                    body.peak,
                ),
            );
        }
    }

    fn dump_import_table(&self, page: &mut String, options: &Options) {
        line(
            page,
            &format!(
                "\n### A dump taken in\n\nOf {} documents, made by one Meilisearch, taken in by new servers; {} rounds, \
                 medians.\n\n| | until everything is there | documents/s | to one Meilisearch | Miroir's peak memory |\n\
                 |---|---:|---:|---:|---:|",
                options.documents, options.ingest_rounds
            ),
        );
        let direct = self.dump_imports.iter().find(|one| one.subject == Subject::Direct);
        for one in &self.dump_imports {
            let seconds = median(one.seconds.iter().copied());
            let ratio = direct.map(|direct| median_ratio(&one.seconds, &direct.seconds));
            line(
                page,
                &format!(
                    "| {} | {seconds:.2} s | {:.0} | {} | {} |",
                    one.subject.label(),
                    options.documents as f64 / seconds,
                    shown(ratio, |ratio| format!("{ratio:.2}")),
                    shown(one.peak, |megabytes| format!("{megabytes:.0} MB")),
                ),
            );
        }
    }

    fn pure_table(&self, page: &mut String) {
        if self.pure.is_empty() {
            return;
        }
        line(
            page,
            "\n### Pure parts\n\n| `cargo bench -p miroir-core` | median | bytes/s |\n|---|---:|---:|",
        );
        for result in &self.pure {
            let rate = result.bytes.map(|bytes| bytes as f64 / result.nanoseconds * 1_000.0);
            let rate = shown(rate, |megabytes| format!("{megabytes:.0} MB/s"));
            line(page, &format!("| {} | {} | {rate} |", result.name, duration(result.nanoseconds)));
        }
    }
}

fn shown<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map(show).unwrap_or_default()
}

/// Three digits and a unit.
fn duration(nanoseconds: f64) -> String {
    match nanoseconds {
        short if short < 1e3 => format!("{short:.0} ns"),
        short if short < 1e6 => format!("{:.1} µs", short / 1e3),
        long => format!("{:.2} ms", long / 1e6),
    }
}

fn line(page: &mut String, text: &str) {
    writeln!(page, "{text}").expect("a string can be written to");
}
