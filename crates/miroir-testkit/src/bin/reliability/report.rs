//! The measurement as goals and tables.

use miroir_testkit::figures::goal::{self, Bound, Goal, Unit};

use crate::injury::{How, Injured};
use crate::intents::{Until, Writing};
use crate::repair::{Absence, Repairs};
use crate::slow::{DELAY, Slow, Stretch, typical};

/// Everything that was measured.
#[derive(Default)]
pub struct Report {
    /// Killed and frozen nodes.
    pub injured: Vec<Injured>,
    /// A slow node.
    pub slow: Option<Slow>,
    /// A node that came back, by what the documents are.
    pub repairs: Vec<(&'static str, Repairs)>,
    /// With and without intents.
    pub writing: Vec<Writing>,
}

impl Report {
    /// All tables.
    pub fn tables(&self) -> String {
        let injured = if self.injured.is_empty() { String::new() } else { injury_table(&self.injured) };
        let slow = self.slow.as_ref().map(slow_table).unwrap_or_default();
        let repairs = if self.repairs.is_empty() { String::new() } else { repair_table(&self.repairs) };
        let writing = if self.writing.is_empty() { String::new() } else { writing_table(&self.writing) };
        [goal::table(&self.goals()), injured, slow, repairs, writing].concat()
    }

    fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        // What is frozen is reported; the goals are about what is killed.
        for injured in self.injured.iter().filter(|injured| injured.injury.how == How::Kill) {
            let label = injured.injury.label();
            let not_right = injured.sum(|round| round.failed + round.partial) as f64;
            let what = |figure: &str| format!("{label}: {figure}");
            let (slowest, back) = (injured.worst(|round| round.slowest), injured.worst(|round| round.back));
            goals.extend([
                Goal::new(what("failed or partial searches"), Bound::AtMost(0.0), not_right, Unit::Count),
                Goal::new(what("slowest answer"), Bound::Below(1.0), slowest, Unit::Seconds),
                Goal::new(what("p99 back to twice normal after"), Bound::AtMost(2.0), back, Unit::Seconds),
            ]);
        }
        if let Some(slow) = &self.slow {
            let what = |figure: &str| format!("one node of three {} ms late: {figure}", DELAY.as_millis());
            goals.extend([
                Goal::new(what("p99 to that without"), Bound::AtMost(1.5), slow.ratio(), Unit::Times),
                Goal::new(
                    what("extra requests to nodes"),
                    Bound::Below(5.0),
                    slow.extra_load(),
                    Unit::Percent,
                ),
            ]);
        }
        for (of, repairs) in &self.repairs {
            for (absence, how) in [(Absence::CutOff, "cut off"), (Absence::Killed, "killed")] {
                let what =
                    format!("repair of a node that was {how} and missed 1 % to a full copy, in time; {of}");
                goals.push(Goal::new(what, Bound::AtMost(0.1), repairs.ratio(absence), Unit::Times));
            }
        }
        for (writing, until) in self.writing.iter().flat_map(|one| Until::ALL.map(|until| (one, until))) {
            let (size, until_when) = (documents(writing.size), until.label());
            let what = format!("writes {until_when} in a second with intents to without, bodies of {size}");
            goals.push(Goal::new(what, Bound::AtLeast(0.95), writing.ratio(until), Unit::Times));
        }
        goals
    }
}

fn injury_table(injuries: &[Injured]) -> String {
    let line = |injured: &Injured| {
        let noise = injured.sum(|round| round.bad_before.0);
        format!(
            "| {} | {} | {} | {} | {} | {} | {:.1} ms | {:.1} ms | {:.2} s | {} | {noise} of {} |\n",
            injured.injury.label(),
            injured.rounds.len(),
            injured.sum(|round| round.searches),
            injured.sum(|round| round.failed),
            injured.sum(|round| round.partial),
            injured.sum(|round| round.other),
            injured.worst(|round| round.normal_p50),
            injured.worst(|round| round.normal_p99),
            injured.worst(|round| round.slowest),
            seconds_or_never(injured.worst(|round| round.back)),
            injured.sum(|round| round.bad_before.1),
        )
    };
    let lines: String = injuries.iter().map(line).collect();
    format!(
        "\n### Nodes killed and frozen\n\nSearches from the injury on; times are those of the worst round.\n\n\
         | | rounds | searches | failed | partial | other hits | p50 before | p99 before | slowest | p99 back to \
         twice after | windows beyond twice before |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n{lines}"
    )
}

fn slow_table(slow: &Slow) -> String {
    let line = |label: &str, stretches: &[Stretch]| {
        let sum = |figure: fn(&Stretch) -> usize| stretches.iter().map(figure).sum::<usize>();
        format!(
            "| {label} | {} | {} | {:.1} ms | {:.1} ms | {:.0} ms | {:.3} |\n",
            sum(|one| one.searches),
            sum(|one| one.wrong),
            typical(stretches, |one| one.p50),
            typical(stretches, |one| one.p99),
            stretches.iter().map(|one| one.slowest).fold(f64::NAN, f64::max),
            typical(stretches, |one| one.asked),
        )
    };
    format!(
        "\n### One slow node\n\n3 nodes, RF 2, {} rounds of both in turns; medians of the rounds, and the slowest \
         of all.\n\n\
         | | searches | failed, partial or other hits | p50 | p99 | slowest | requests to nodes for a search |\n\
         |---|---:|---:|---:|---:|---:|---:|\n{}{}",
        slow.healthy.len(),
        line("all nodes as usual", &slow.healthy),
        line(&format!("one node {} ms late", DELAY.as_millis()), &slow.slow),
    )
}

fn repair_table(all: &[(&str, Repairs)]) -> String {
    let line = |of: &str, absence: Absence, seconds: &[f64]| {
        let rounds: Vec<String> = seconds.iter().map(|one| format!("{one:.2}")).collect();
        let median = Repairs::typical(seconds);
        let median = if median.is_nan() { "not measured".to_owned() } else { format!("{median:.2} s") };
        format!("| {of} | {} | {median} | {} |\n", absence.label(), rounds.join(", "))
    };
    let lines = |(of, repairs): &(&str, Repairs)| {
        Absence::ALL.map(|absence| line(of, absence, repairs.after(absence))).concat()
    };
    let failure = |(of, repairs): &(&str, Repairs)| {
        let failure = repairs.failure.as_ref()?;
        Some(format!("\n{of}: not to the end: {failure}.\n"))
    };
    format!(
        "\n### Repair\n\n3 nodes, RF 2; from the moment the node can be reached (the first answer of its `/health`) until \
         every replica was active, and found equal when read directly.\n\n\
         | of | a node comes back that was | median | rounds, in seconds |\n|---|---|---:|---|\n{}{}",
        all.iter().map(lines).collect::<String>(),
        all.iter().filter_map(failure).collect::<String>(),
    )
}

fn writing_table(results: &[Writing]) -> String {
    let line = |writing: &Writing, until: Until| {
        let [with, without] = writing.typical(until);
        let (size, ratio) = (writing.size as f64, writing.ratio(until));
        format!(
            "| {} | {} | {with:.1} | {without:.1} | {:.0} | {:.0} | {ratio:.3} |\n",
            documents(writing.size),
            until.label(),
            with * size,
            without * size,
        )
    };
    let lines: String =
        results.iter().flat_map(|writing| Until::ALL.map(|until| line(writing, until))).collect();
    format!(
        "\n### Writes with and without intents\n\n3 nodes, RF 2, one index; from the first request until the last write is \
         acknowledged, and until the last is carried out.\n\n\
         | bodies of | until | writes/s with | without | documents/s with | without | with to without |\n\
         |---|---|---:|---:|---:|---:|---:|\n{lines}"
    )
}

fn documents(count: usize) -> String {
    if count == 1 { "1 document".to_owned() } else { format!("{count} documents") }
}

fn seconds_or_never(seconds: f64) -> String {
    if seconds.is_finite() { format!("{seconds:.1} s") } else { "never".to_owned() }
}
