//! How fast a node has been lately, and what follows from it: whom to ask, and when to ask another as well.
//!
//! The average forgets with time, not only with samples. A node that was slow and is therefore left alone would
//! otherwise never be asked again; so it looks better and better until one search tries it.

use std::time::Duration;

/// Samples remembered for the percentile.
const SAMPLES: usize = 64;
/// With fewer, nothing is said about the percentile.
const FEWEST_SAMPLES: usize = 8;
/// The percentile is computed anew after so many samples.
const RECOUNT_EVERY: usize = 8;
/// The share of a new sample in the average. Not the highest of late, as a peak would be: how long a search takes
/// depends on the search, and one heavy search is no reason to leave a node alone.
const NEW_SHARE: f64 = 0.2;
/// The time in which the average falls to 1/e of itself while there are no samples.
const FORGETS_WITHIN: Duration = Duration::from_secs(5);
/// Below this, differences between nodes say nothing.
const FASTEST: f64 = 0.001;
/// What a suspect node counts as, in multiples of what it would.
const SUSPECT_PENALTY: f64 = 1_000.0;
/// Another cover is taken when it costs less than this share of the first.
const CLEARLY_LESS: f64 = 0.5;

/// How long a node took for its latest searches.
#[derive(Debug, Clone)]
pub struct Latency {
    average: f64,
    sampled_at: Duration,
    /// In microseconds.
    samples: [u32; SAMPLES],
    count: usize,
    percentile: Option<Duration>,
}

impl Default for Latency {
    fn default() -> Self {
        Self { average: 0.0, sampled_at: Duration::ZERO, samples: [0; SAMPLES], count: 0, percentile: None }
    }
}

impl Latency {
    /// Takes note of a search that took so long, or longer when it was given up.
    pub fn note(&mut self, took: Duration, now: Duration) {
        let before = self.average(now).as_secs_f64();
        let sample = took.as_secs_f64();
        self.average = if self.count == 0 { sample } else { before + (sample - before) * NEW_SHARE };
        self.sampled_at = now;
        self.samples[self.count % SAMPLES] = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.count += 1;
        if self.count >= FEWEST_SAMPLES && self.count.is_multiple_of(RECOUNT_EVERY) {
            let mut sorted = self.samples;
            let known = &mut sorted[..self.count.min(SAMPLES)];
            let rank = known.len() * 95 / 100;
            let (_, percentile, _) = known.select_nth_unstable(rank.min(known.len() - 1));
            self.percentile = Some(Duration::from_micros(u64::from(*percentile)));
        }
    }

    /// The average, as far as it is remembered.
    pub fn average(&self, now: Duration) -> Duration {
        let idle = now.saturating_sub(self.sampled_at).as_secs_f64();
        Duration::from_secs_f64(self.average * (-idle / FORGETS_WITHIN.as_secs_f64()).exp())
    }

    /// What 95 % of the latest searches did not exceed; `None` while there were few.
    pub fn percentile(&self) -> Option<Duration> {
        self.percentile
    }

    /// What it costs to ask this node now, in no unit but comparable between nodes.
    pub fn cost(&self, now: Duration, in_flight: usize, is_suspect: bool) -> f64 {
        let penalty = if is_suspect { SUSPECT_PENALTY } else { 1.0 };
        self.average(now).as_secs_f64().max(FASTEST) * (in_flight + 1) as f64 * penalty
    }
}

/// Chooses one of several covers by their costs: the one that `turn` falls on, unless another costs clearly less.
/// Then one of those that do not cost clearly more than the cheapest.
///
/// All are compared and not only two of them, drawn at random: the covers of a small fleet have nodes in common, and
/// any two of the three covers that two of three nodes make have one chance in three to share the slow one.
pub fn choose_cover(costs: &[f64], turn: u64) -> Option<usize> {
    let cheapest = costs.iter().copied().reduce(f64::min)?;
    let is_fair = |cost: &f64| cheapest >= cost * CLEARLY_LESS;
    let first = (turn % costs.len() as u64) as usize;
    if costs.get(first).is_some_and(is_fair) {
        return Some(first);
    }
    let fair: Vec<usize> = (0..costs.len()).filter(|place| is_fair(&costs[*place])).collect();
    // Other bits than those that chose the first: what a slow node leaves is spread over all others.
    let other_bits = (turn >> 32) ^ (turn / costs.len() as u64);
    fair.get((other_bits % fair.len().max(1) as u64) as usize).copied()
}

/// The shortest time before another node is asked as well.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(5);
/// The same for nodes of which nothing is known.
const PATIENCE_WITH_STRANGERS: Duration = Duration::from_millis(50);

/// How long to wait for a node before another one is asked as well: for as long as 95 of 100 searches take it, but
/// at most twice as long as they take the fastest node.
pub fn patience(own: Option<Duration>, fastest: Option<Duration>) -> Duration {
    let own = own.unwrap_or(PATIENCE_WITH_STRANGERS);
    let longest = fastest.map_or(own, |fastest| fastest * 2);
    own.min(longest).max(SHORTEST_PATIENCE)
}

/// How many more questions nodes may be asked than searches need: one for every twenty, and a few at once.
#[derive(Debug, Clone, Copy)]
pub struct HedgeBudget {
    /// In twentieths.
    saved: u32,
}

/// What one more question costs, when each needed one earns 1.
const PRICE: u32 = 20;
/// The most that is saved up.
const MOST_SAVED: u32 = 10 * PRICE;

impl Default for HedgeBudget {
    fn default() -> Self {
        Self { saved: MOST_SAVED }
    }
}

impl HedgeBudget {
    /// Takes note of questions that were needed.
    pub fn earn(&mut self, questions: usize) {
        let earned = u32::try_from(questions).unwrap_or(MOST_SAVED);
        self.saved = self.saved.saturating_add(earned).min(MOST_SAVED);
    }

    /// Whether so many more may be asked; they are taken off if so.
    pub fn spend(&mut self, questions: usize) -> bool {
        let price = u32::try_from(questions).unwrap_or(u32::MAX).saturating_mul(PRICE);
        let left = self.saved.checked_sub(price);
        self.saved = left.unwrap_or(self.saved);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_slow_node_left_alone_is_tried_again() {
        let (mut slow, mut fast) = (Latency::default(), Latency::default());
        slow.note(ms(500), ms(0));
        let mut tried_after = None;
        for second in 1..120 {
            fast.note(ms(2), ms(second * 1_000));
            let costs = [slow.cost(ms(second * 1_000), 0, false), fast.cost(ms(second * 1_000), 0, false)];
            if choose_cover(&costs, 0) == Some(0) {
                tried_after = tried_after.or(Some(second));
            }
        }
        assert!(matches!(tried_after, Some(20..60)), "after {tried_after:?} s");
    }

    #[test]
    fn one_heavy_search_is_not_taken_for_a_slow_node() {
        let mut latency = Latency::default();
        for _ in 0..50 {
            latency.note(ms(10), ms(0));
        }
        latency.note(ms(50), ms(0));
        let fast = [10, 10].map(|millis| {
            let mut other = Latency::default();
            other.note(ms(millis), ms(0));
            other.cost(ms(0), 0, false)
        });
        assert_eq!(choose_cover(&[latency.cost(ms(0), 0, false), fast[0], fast[1]], 0), Some(0));
    }

    #[test]
    fn the_percentile_is_of_the_latest_searches() {
        let mut latency = Latency::default();
        assert_eq!(latency.percentile(), None);
        for millis in 1..=64 {
            latency.note(ms(millis), ms(0));
        }
        assert_eq!(latency.percentile(), Some(ms(61)));
        for _ in 0..64 {
            latency.note(ms(3), ms(0));
        }
        assert_eq!(latency.percentile(), Some(ms(3)));
    }

    #[test]
    fn patience_is_bounded_by_the_fastest_node() {
        assert_eq!(patience(Some(ms(900)), Some(ms(20))), ms(40));
        assert_eq!(patience(Some(ms(30)), Some(ms(20))), ms(30));
        assert_eq!(patience(Some(ms(1)), Some(ms(1))), SHORTEST_PATIENCE);
        assert_eq!(patience(None, None), PATIENCE_WITH_STRANGERS);
    }

    #[test]
    fn the_turn_decides_between_equals_and_load_between_others() {
        assert_eq!(choose_cover(&[], 3), None);
        assert_eq!(
            (0..4).filter_map(|turn| choose_cover(&[1.0, 1.5], turn)).collect::<Vec<_>>(),
            [0, 1, 0, 1]
        );
        let spread: std::collections::BTreeSet<usize> =
            (0..100).filter_map(|turn| choose_cover(&[9.0, 1.0, 1.0, 9.0], turn)).collect();
        assert_eq!(spread.into_iter().collect::<Vec<_>>(), [1, 2]);
        let mut busy = Latency::default();
        busy.note(ms(2), ms(0));
        assert!(busy.cost(ms(0), 5, false) > busy.cost(ms(0), 0, false) * 2.0);
        assert!(busy.cost(ms(0), 0, true) > busy.cost(ms(0), 100, false));
    }

    proptest! {
        /// However searches and late nodes come, one question in twenty is the most that is added, after the first few.
        #[test]
        fn a_budget_is_kept(needs in prop::collection::vec((0usize..5, 0usize..4), 0..500)) {
            let mut budget = HedgeBudget::default();
            let (mut asked, mut more) = (0, 0);
            for (needed, wanted) in needs {
                budget.earn(needed);
                asked += needed;
                if budget.spend(wanted) {
                    more += wanted;
                }
                prop_assert!(more * 20 <= asked + 10 * 20);
            }
        }

        #[test]
        fn a_chosen_cover_is_never_clearly_dearer_than_another(
            costs in prop::collection::vec(0.001f64..100.0, 1..20), turn in any::<u64>(),
        ) {
            let chosen = choose_cover(&costs, turn).unwrap();
            prop_assert!(costs.iter().all(|cost| *cost >= costs[chosen] * CLEARLY_LESS));
        }
    }
}
