//! The measurement as goals and tables.

use miroir_testkit::figures::goal::{self, Bound, Goal, Unit};

use crate::injury::{How, Injured};
use crate::intents::Writing;
use crate::repair::{Absence, Repairs};
use crate::slow::{DELAY, Slow, Stretch, typical};

/// Everything that was measured.
#[derive(Default)]
pub struct Report {
    /// Killed and frozen nodes.
    pub injured: Vec<Injured>,
    /// A slow node.
    pub slow: Option<Slow>,
    /// A node that came back.
    pub repairs: Option<Repairs>,
    /// With and without intents.
    pub writing: Vec<Writing>,
}

impl Report {
    /// All tables.
    pub fn tables(&self) -> String {
        let injured = if self.injured.is_empty() { String::new() } else { injury_table(&self.injured) };
        let slow = self.slow.as_ref().map(slow_table).unwrap_or_default();
        let repairs = self.repairs.as_ref().map(repair_table).unwrap_or_default();
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
        if let Some(repairs) = &self.repairs {
            for (absence, how) in [(Absence::CutOff, "cut off"), (Absence::Killed, "killed")] {
                let what = format!("repair of a node that was {how} and missed 1 % to a full copy, in time");
                goals.push(Goal::new(what, Bound::AtMost(0.1), repairs.ratio(absence), Unit::Times));
            }
        }
        for writing in &self.writing {
            let what = format!("writes with intents to without, bodies of {}", documents(writing.size));
            goals.push(Goal::new(what, Bound::AtLeast(0.95), writing.ratio(), Unit::Times));
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

fn repair_table(repairs: &Repairs) -> String {
    let line = |label: &str, seconds: &[f64]| {
        let rounds: Vec<String> = seconds.iter().map(|one| format!("{one:.2}")).collect();
        let median = Repairs::typical(seconds);
        let median = if median.is_nan() { "not measured".to_owned() } else { format!("{median:.2} s") };
        format!("| {label} | {median} | {} |\n", rounds.join(", "))
    };
    let failure = repairs.failure.as_ref().map(|failure| format!("\nNot to the end: {failure}.\n"));
    format!(
        "\n### Repair\n\n3 nodes, RF 2; from the moment the node can be reached (the first answer of its `/health`) until \
         every replica was active, and found equal when read directly.\n\n\
         | a node comes back that was | median | rounds, in seconds |\n|---|---:|---|\n{}{}",
        Absence::ALL.map(|absence| line(absence.label(), repairs.after(absence))).concat(),
        failure.unwrap_or_default(),
    )
}

fn writing_table(results: &[Writing]) -> String {
    let line = |writing: &Writing| {
        let (with, without) = (Writing::typical(&writing.with), Writing::typical(&writing.without));
        let (size, ratio) = (writing.size as f64, writing.ratio());
        format!(
            "| {} | {with:.1} | {without:.1} | {:.0} | {:.0} | {ratio:.3} |\n",
            documents(writing.size),
            with * size,
            without * size,
        )
    };
    let lines: String = results.iter().map(line).collect();
    format!(
        "\n### Writes with and without intents\n\n3 nodes, RF 2, one index; until the last acknowledgement.\n\n\
         | bodies of | writes/s with | without | documents/s with | without | with to without |\n\
         |---|---:|---:|---:|---:|---:|\n{lines}"
    )
}

fn documents(count: usize) -> String {
    if count == 1 { "1 document".to_owned() } else { format!("{count} documents") }
}

fn seconds_or_never(seconds: f64) -> String {
    if seconds.is_finite() { format!("{seconds:.1} s") } else { "never".to_owned() }
}
