//! Whether a node is worth asking: a state machine over what was seen of it.
//!
//! What counts as life is an answer to anything, since a node busy with a heavy batch may be late with one thing and
//! prompt with another. What counts against a node is silence: time in which it was asked something and answered
//! nothing. Silence is added up from ticks, and a tick that comes late adds little: a process that was itself
//! stopped or starved must not conclude that all its nodes have died.

use std::time::Duration;

use serde::Serialize;

/// Silence after which reads prefer other nodes.
pub const LATE_AFTER: Duration = Duration::from_millis(700);
/// Silence after which a node is given up.
pub const DOWN_AFTER: Duration = Duration::from_millis(1_500);
/// How often to send [`HealthEvent::Tick`].
pub const TICK_EVERY: Duration = Duration::from_millis(200);
/// The most silence that one tick adds.
const LONGEST_STEP: Duration = Duration::from_millis(300);
/// Broken connections in a row, or bad probes in a row, that say more than an accident would.
const STRIKES: u32 = 2;
/// Good probes in a row that make a suspect node healthy.
const PROBES_TO_TRUST: u32 = 2;
/// A node that goes down again within this time flaps.
const FLAPS_WITHIN: Duration = Duration::from_secs(60);
/// However much a node flaps, it is not asked for more than 2 to this power good probes in a row.
const MOST_DOUBLINGS: u32 = 4;

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// Read and written.
    Healthy,
    /// Late or failing now and then: written, and read where nobody else can be.
    Suspect,
    /// Neither read nor written.
    Down,
    /// It answers, or has not been asked yet. Neither read nor written until it has been checked.
    Recovering,
}

impl HealthState {
    /// Whether the node may be read and written.
    pub fn is_in_service(self) -> bool {
        matches!(self, Self::Healthy | Self::Suspect)
    }
}

/// What was seen of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthEvent {
    /// It was asked something.
    Asked,
    /// It answered something; with a 5xx or nonsense, the answer is not usable.
    Answered {
        /// It was an answer that one would expect.
        usable: bool,
    },
    /// It did not answer a call that had been given enough time.
    TimedOut,
    /// A connection broke.
    Failed,
    /// A probe was answered, and showed a node that cannot do its work. Answers to other calls do not outweigh that:
    /// one whose database broke on a full disk may well go on answering what it can.
    BadProbe,
    /// Nobody listens, or it refuses the key: there is no doubt.
    Refused,
    /// A probe was answered as it should.
    Probed,
    /// The check of a recovering node found nothing wrong.
    Checked,
    /// Time has passed.
    Tick,
}

/// The state machine of one node. Instants are durations since some start of the caller's.
#[derive(Debug, Clone)]
pub struct NodeHealth {
    state: HealthState,
    /// The oldest question since the last answer.
    asked_at: Option<Duration>,
    ticked_at: Duration,
    silence: Duration,
    strikes: u32,
    bad_probes: u32,
    good_probes: u32,
    /// How many times it went down, each time soon after the time before.
    downs: u32,
    down_at: Duration,
}

impl Default for NodeHealth {
    fn default() -> Self {
        Self {
            state: HealthState::Recovering,
            asked_at: None,
            ticked_at: Duration::ZERO,
            silence: Duration::ZERO,
            strikes: 0,
            bad_probes: 0,
            good_probes: 0,
            downs: 0,
            down_at: Duration::ZERO,
        }
    }
}

impl NodeHealth {
    /// How the node is.
    pub fn state(&self) -> HealthState {
        self.state
    }

    /// Whether the node answered probes for long enough to be checked.
    pub fn wants_check(&self) -> bool {
        self.state == HealthState::Recovering && self.good_probes >= self.probes_to_return()
    }

    /// Good probes in a row before a node that was down may return: one at the start, two after it was down, more
    /// after it was down repeatedly.
    fn probes_to_return(&self) -> u32 {
        1 << self.downs.min(MOST_DOUBLINGS)
    }

    /// Takes note of something; returns the state before and after when they differ.
    pub fn note(&mut self, event: HealthEvent, now: Duration) -> Option<(HealthState, HealthState)> {
        let before = self.state;
        match event {
            HealthEvent::Asked => {
                self.asked_at.get_or_insert(now);
            }
            HealthEvent::Answered { usable } => {
                self.end_silence();
                if usable {
                    self.strikes = 0;
                }
            }
            HealthEvent::TimedOut => self.doubt(),
            HealthEvent::Failed => {
                self.strikes += 1;
                self.doubt();
                if self.strikes >= STRIKES {
                    self.give_up(now);
                }
            }
            HealthEvent::BadProbe => {
                self.bad_probes += 1;
                self.doubt();
                if self.bad_probes >= STRIKES {
                    self.give_up(now);
                }
            }
            HealthEvent::Refused => self.give_up(now),
            HealthEvent::Probed => self.trust(),
            HealthEvent::Checked if self.state == HealthState::Recovering => {
                self.state = HealthState::Healthy
            }
            HealthEvent::Checked => {}
            HealthEvent::Tick => self.tick(now),
        }
        (self.state != before).then_some((before, self.state))
    }

    fn tick(&mut self, now: Duration) {
        if let Some(asked_at) = self.asked_at {
            let unseen = now.saturating_sub(asked_at.max(self.ticked_at));
            self.silence += unseen.min(LONGEST_STEP);
        }
        self.ticked_at = now;
        if self.silence >= LATE_AFTER {
            self.doubt();
        }
        if self.silence >= DOWN_AFTER {
            self.give_up(now);
        }
    }

    fn end_silence(&mut self) {
        self.asked_at = None;
        self.silence = Duration::ZERO;
    }

    fn doubt(&mut self) {
        self.good_probes = 0;
        if self.state == HealthState::Healthy {
            self.state = HealthState::Suspect;
        }
    }

    fn trust(&mut self) {
        self.end_silence();
        self.strikes = 0;
        self.bad_probes = 0;
        self.good_probes += 1;
        match self.state {
            HealthState::Suspect if self.good_probes >= PROBES_TO_TRUST => self.state = HealthState::Healthy,
            HealthState::Down => self.state = HealthState::Recovering,
            _ => {}
        }
    }

    fn give_up(&mut self, now: Duration) {
        self.good_probes = 0;
        self.strikes = 0;
        self.bad_probes = 0;
        self.end_silence();
        // One that was not in service yet has not gone down again.
        if self.state.is_in_service() || self.downs == 0 {
            let flaps = self.downs > 0 && now.saturating_sub(self.down_at) < FLAPS_WITHIN;
            self.downs = if flaps { self.downs + 1 } else { 1 };
            self.down_at = now;
        }
        self.state = HealthState::Down;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HealthEvent::*;
    use HealthState::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A healthy node at the instant 0.
    fn healthy() -> NodeHealth {
        let mut health = NodeHealth::default();
        assert_eq!(health.note(Probed, at(0)), None);
        assert!(health.wants_check());
        assert_eq!(health.note(Checked, at(0)), Some((Recovering, Healthy)));
        health
    }

    /// The instants of the transitions while the clock ticks on.
    fn tick(health: &mut NodeHealth, from: u64, to: u64) -> Vec<(u64, HealthState)> {
        let ticks = (from..=to).step_by(TICK_EVERY.as_millis() as usize);
        ticks.filter_map(|now| Some((now, health.note(Tick, at(now))?.1))).collect()
    }

    #[test]
    fn one_that_is_asked_and_silent_is_down_within_two_seconds() {
        let mut health = healthy();
        assert!(tick(&mut health, 0, 4_000).is_empty(), "nobody asks it anything");
        health.note(Asked, at(4_050));
        assert_eq!(tick(&mut health, 4_200, 8_000), [(4_800, Suspect), (5_600, Down)]);
    }

    #[test]
    fn any_answer_is_life() {
        let mut health = healthy();
        for round in 0..10 {
            health.note(Asked, at(round * 1_000));
            let seen = tick(&mut health, round * 1_000 + 200, round * 1_000 + 800);
            assert!(seen.iter().all(|(_, state)| *state == Suspect), "{seen:?}");
            health.note(Answered { usable: false }, at(round * 1_000 + 900));
        }
        assert_eq!(health.state(), Suspect, "late, but there");
    }

    #[test]
    fn a_process_that_was_stopped_itself_does_not_blame_the_nodes() {
        let mut health = healthy();
        health.note(Asked, at(100));
        health.note(Tick, at(200));
        assert_eq!(health.note(Tick, at(60_000)), None);
    }

    #[test]
    fn failures_count_in_a_row_and_refusals_at_once() {
        let mut health = healthy();
        assert_eq!(health.note(Failed, at(1)), Some((Healthy, Suspect)));
        health.note(Answered { usable: true }, at(2));
        assert_eq!(health.note(Failed, at(3)), None);
        health.note(Answered { usable: false }, at(4));
        assert_eq!(health.note(Failed, at(5)), Some((Suspect, Down)));
        assert_eq!(healthy().note(Refused, at(1)), Some((Healthy, Down)));
        assert_eq!(healthy().note(TimedOut, at(1)), Some((Healthy, Suspect)));
    }

    #[test]
    fn bad_probes_count_whatever_else_is_answered() {
        let mut health = healthy();
        assert_eq!(health.note(BadProbe, at(1)), Some((Healthy, Suspect)));
        health.note(Answered { usable: true }, at(2));
        assert_eq!(health.note(BadProbe, at(3)), Some((Suspect, Down)));
        let mut health = healthy();
        health.note(BadProbe, at(1));
        health.note(Probed, at(2));
        assert_eq!(health.note(BadProbe, at(3)), None, "it was an accident");
    }

    #[test]
    fn a_suspect_is_trusted_after_two_good_probes() {
        let mut health = healthy();
        health.note(TimedOut, at(1));
        assert_eq!(health.note(Probed, at(2)), None);
        assert_eq!(health.note(Probed, at(3)), Some((Suspect, Healthy)));
    }

    #[test]
    fn one_that_flaps_has_to_prove_itself_for_longer() {
        let mut health = healthy();
        let mut needed = Vec::new();
        for round in 0..5 {
            health.note(Refused, at(round * 10_000));
            assert_eq!(health.note(Checked, at(round * 10_000)), None, "the check of an earlier life");
            let mut probes = 0;
            while !health.wants_check() {
                probes += 1;
                health.note(Probed, at(round * 10_000 + probes));
            }
            needed.push(probes);
            assert_eq!(health.note(Checked, at(round * 10_000 + 100)), Some((Recovering, Healthy)));
        }
        assert_eq!(needed, [2, 4, 8, 16, 16]);
        health.note(Refused, at(300_000));
        health.note(Probed, at(300_001));
        health.note(Probed, at(300_002));
        assert!(health.wants_check(), "it held out for long enough");
    }

    #[test]
    fn one_that_fails_while_it_recovers_begins_again() {
        let mut health = healthy();
        health.note(Refused, at(0));
        assert_eq!(health.note(Probed, at(1)), Some((Down, Recovering)));
        health.note(Asked, at(2));
        assert_eq!(tick(&mut health, 200, 3_000), [(1_600, Down)]);
        health.note(Probed, at(3_000));
        assert!(!health.wants_check());
        health.note(Probed, at(3_001));
        assert!(health.wants_check());
    }

    fn any_event() -> impl Strategy<Value = HealthEvent> {
        prop_oneof![
            Just(Asked),
            Just(Answered { usable: true }),
            Just(Answered { usable: false }),
            Just(TimedOut),
            Just(Failed),
            Just(BadProbe),
            Just(Refused),
            Just(Probed),
            Just(Checked),
            Just(Tick),
        ]
    }

    proptest! {
        /// Whatever happens: back in service only through a check of one that answers, and no other transition
        /// than the drawn ones.
        #[test]
        fn nobody_returns_unchecked(events in prop::collection::vec((any_event(), 0u64..400), 0..200)) {
            let mut health = NodeHealth::default();
            let mut now = 0;
            for (event, pause) in events {
                now += pause;
                let Some((before, after)) = health.note(event, at(now)) else { continue };
                let allowed = match (before, after) {
                    (Recovering, Healthy) => event == Checked,
                    (Suspect, Healthy) | (Down, Recovering) => event == Probed,
                    (Healthy, Suspect) => matches!(event, TimedOut | Failed | BadProbe | Tick),
                    (_, Down) => matches!(event, Failed | BadProbe | Refused | Tick),
                    _ => false,
                };
                prop_assert!(allowed, "{before:?} -> {after:?} by {event:?}");
            }
        }
    }
}
