//! What was to be reached, whether it was, and the line of the page that says so.

/// One goal.
#[derive(Debug, Clone)]
pub struct Goal {
    /// What is compared.
    pub what: String,
    /// What to.
    pub bound: Bound,
    /// What was measured; not a number when it could not be.
    pub measured: f64,
    /// What it is counted in.
    pub unit: Unit,
}

/// A limit.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// Not more.
    AtMost(f64),
    /// Not less.
    AtLeast(f64),
    /// Less.
    Below(f64),
}

/// What a figure is counted in.
#[derive(Debug, Clone, Copy)]
pub enum Unit {
    /// A quotient of two measurements.
    Times,
    /// 1,000,000 bytes.
    Megabytes,
    /// Time.
    Seconds,
    /// Hundredths.
    Percent,
    /// Things that can be counted.
    Count,
}

impl Unit {
    fn shown(self, value: f64) -> String {
        match self {
            _ if value.is_nan() => "not measured".to_owned(),
            _ if value.is_infinite() => "never".to_owned(),
            Self::Times => format!("{value:.2} ×"),
            Self::Megabytes => format!("{value:.0} MB"),
            Self::Seconds => format!("{value:.2} s"),
            Self::Percent => format!("{value:.1} %"),
            Self::Count => format!("{value:.0}"),
        }
    }
}

impl Goal {
    /// A goal and what was measured.
    pub fn new(what: impl Into<String>, bound: Bound, measured: f64, unit: Unit) -> Self {
        Self { what: what.into(), bound, measured, unit }
    }

    /// Whether it was reached. What could not be measured was not.
    pub fn reached(&self) -> bool {
        match self.bound {
            Bound::AtMost(limit) => self.measured <= limit,
            Bound::AtLeast(limit) => self.measured >= limit,
            Bound::Below(limit) => self.measured < limit,
        }
    }

    fn line(&self) -> String {
        let (relation, limit) = match self.bound {
            Bound::AtMost(limit) => ("≤", limit),
            Bound::AtLeast(limit) => ("≥", limit),
            Bound::Below(limit) => ("<", limit),
        };
        let verdict = if self.reached() { "reached" } else { "**missed**" };
        let (limit, measured) = (self.unit.shown(limit), self.unit.shown(self.measured));
        format!("| {} | {relation} {limit} | {measured} | {verdict} |\n", self.what)
    }
}

/// The table of all goals.
pub fn table(goals: &[Goal]) -> String {
    let lines: String = goals.iter().map(Goal::line).collect();
    format!("### Goals\n\n| what | goal | measured | |\n|---|---:|---:|---|\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_was_not_reached() {
        let goals = [
            Goal::new("failed", Bound::AtMost(0.0), 0.0, Unit::Count),
            Goal::new("slowest", Bound::Below(1.0), 1.0, Unit::Seconds),
            Goal::new("throughput", Bound::AtLeast(0.95), f64::NAN, Unit::Times),
        ];
        let expected = "### Goals\n\n| what | goal | measured | |\n|---|---:|---:|---|\n\
                        | failed | ≤ 0 | 0 | reached |\n\
                        | slowest | < 1.00 s | 1.00 s | **missed** |\n\
                        | throughput | ≥ 0.95 × | not measured | **missed** |\n";
        assert_eq!(table(&goals), expected);
    }
}
