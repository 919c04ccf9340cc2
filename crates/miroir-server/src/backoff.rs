//! How long to wait before something that failed is tried again, and whether to say so in the log again.
//!
//! What is tried for ever must neither keep a broken node busy nor fill the log.

use std::time::Duration;

/// The pauses between tries: each twice the one before, up to a longest.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// For something that has not failed yet.
    pub fn new(shortest: Duration, longest: Duration) -> Self {
        Self { next: shortest, longest, failures: 0 }
    }

    /// Takes note of a failure; returns the pause before the next try.
    pub fn fail(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }

    /// Whether the last failure is worth a line in the log: the 1st, 2nd, 4th, 8th and so on.
    pub fn is_worth_telling(&self) -> bool {
        self.failures.is_power_of_two()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_and_are_told_ever_more_rarely() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let tries: Vec<(u64, bool)> =
            (0..9).map(|_| (backoff.fail().as_secs(), backoff.is_worth_telling())).collect();
        let pauses: Vec<u64> = tries.iter().map(|(pause, _)| *pause).collect();
        assert_eq!(pauses, [1, 2, 4, 5, 5, 5, 5, 5, 5]);
        let told: Vec<usize> = (1..=9).filter(|number| tries[number - 1].1).collect();
        assert_eq!(told, [1, 2, 4, 8]);
    }
}
