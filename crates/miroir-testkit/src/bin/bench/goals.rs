//! What was to be reached, and whether it was.

use miroir_testkit::figures::goal::{Bound, Goal, Unit};
use miroir_testkit::figures::statistics::{median, median_ratio};

use crate::report::Report;
use crate::subject::Subject;
use crate::writing::{AtRest, LargeBody};

/// Megabytes Miroir may hold while it handles a large body.
const LARGE_BODY_LIMIT: f64 = 300.0;
/// Megabytes Miroir may hold at rest.
const AT_REST_LIMIT: f64 = 40.0;

/// All goals, with what was measured.
pub fn goals(report: &Report) -> Vec<Goal> {
    let latency = |subject, reference| {
        median_ratio(&report.searched(subject).round_medians(), &report.searched(reference).round_medians())
    };
    let throughput = |subject, reference| {
        median_ratio(&report.searched(subject).throughput, &report.searched(reference).throughput)
    };
    let ingest = |subject| median(report.ingested(subject).seconds.iter().copied());
    let most_at_rest = |read: fn(&AtRest) -> f64| report.at_rest.iter().map(read).fold(f64::NAN, f64::max);
    let mut goals = vec![
        ratio(
            "p50, 1 node, to one Meilisearch",
            Bound::AtMost(1.10),
            latency(Subject::OneNode, Subject::Direct),
        ),
        ratio(
            "p50, 3 nodes RF 1, to one Meilisearch",
            Bound::AtMost(1.5),
            latency(Subject::ThreeNodes, Subject::Direct),
        ),
        ratio(
            "throughput, 3 nodes RF 1, to the floor of 3 raw searches",
            Bound::AtLeast(0.90),
            throughput(Subject::ThreeNodes, Subject::FloorThree),
        ),
        ratio(
            "p50, 3 nodes RF 3, to one Meilisearch",
            Bound::AtMost(1.10),
            latency(Subject::ThreeCopies, Subject::Direct),
        ),
        ratio(
            "throughput, 3 nodes RF 3, to one Meilisearch",
            Bound::AtLeast(0.90),
            throughput(Subject::ThreeCopies, Subject::Direct),
        ),
        ratio(
            "ingest time, 3 nodes RF 1, to one Meilisearch",
            Bound::AtMost(1.0),
            ingest(Subject::ThreeNodes) / ingest(Subject::Direct),
        ),
    ];
    goals.extend(report.large_bodies.iter().map(large_body));
    goals.push(megabytes(
        "Miroir's memory at rest, after its start",
        Bound::Below(AT_REST_LIMIT),
        most_at_rest(|memory| memory.started),
    ));
    goals.push(megabytes(
        "Miroir's memory at rest, after ingest",
        Bound::Below(AT_REST_LIMIT),
        most_at_rest(|memory| memory.ingested),
    ));
    goals
}

fn large_body(body: &LargeBody) -> Goal {
    let what =
        format!("Miroir's peak memory, body of {} MB, {}", body.size.0 / 1_000_000, body.subject.nodes());
    // A body that was not taken proves nothing about memory.
    let measured = if body.outcome.is_ok() { body.peak } else { f64::NAN };
    megabytes(what, Bound::AtMost(LARGE_BODY_LIMIT), measured)
}

fn ratio(what: impl Into<String>, bound: Bound, measured: f64) -> Goal {
    Goal::new(what, bound, measured, Unit::Times)
}

fn megabytes(what: impl Into<String>, bound: Bound, measured: f64) -> Goal {
    Goal::new(what, bound, measured, Unit::Megabytes)
}
