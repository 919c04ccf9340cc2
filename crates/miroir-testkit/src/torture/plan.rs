//! What is going to be injured, and for how long: drawn from the seed, so that a run can be repeated. Moments are not
//! repeatable, since machines differ; the order of things is.

use std::time::Duration;

use crate::corpus::Dice;

/// A way to injure a node or Miroir.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// SIGKILL of a node, later a restart.
    Kill,
    /// SIGKILL of Miroir, later a restart.
    KillMiroir,
    /// SIGSTOP of a node, later SIGCONT.
    Freeze,
    /// The files of a node may not grow any more.
    FullDisk,
    /// Each piece of a node's traffic comes late.
    Latency,
    /// Connections to a node are cut.
    Reset,
    /// A node gets requests, and its answers are lost.
    HalfOpen,
    /// A node gets nothing and answers nothing.
    BlackHole,
    /// A node comes back with an empty disk.
    Wipe,
    /// A node comes back with its disk of a while ago.
    OldCopy,
    /// The clock of a node jumps, and back later.
    Clock,
    /// The clock of Miroir jumps, and back later.
    ClockMiroir,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Kill,
        Self::KillMiroir,
        Self::Freeze,
        Self::FullDisk,
        Self::Latency,
        Self::Reset,
        Self::HalfOpen,
        Self::BlackHole,
        Self::Wipe,
        Self::OldCopy,
        Self::Clock,
        Self::ClockMiroir,
    ];

    /// As `--without` and the report name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillMiroir => "kill-miroir",
            Self::Freeze => "freeze",
            Self::FullDisk => "full-disk",
            Self::Latency => "latency",
            Self::Reset => "reset",
            Self::HalfOpen => "half-open",
            Self::BlackHole => "black-hole",
            Self::Wipe => "wipe",
            Self::OldCopy => "old-copy",
            Self::Clock => "clock",
            Self::ClockMiroir => "clock-miroir",
        }
    }

    /// The kind of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Takes away what a node had acknowledged. That may be done to one node only at a time, and only while all other
    /// copies are whole: otherwise the writes would be gone by right.
    pub fn destroys(self) -> bool {
        matches!(self, Self::Wipe | Self::OldCopy)
    }

    /// Needs the library that shifts the clock.
    pub fn shifts_a_clock(self) -> bool {
        matches!(self, Self::Clock | Self::ClockMiroir)
    }
}

/// One fault at one place, with how hard it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// Number of the node; without meaning when Miroir is injured.
    pub node: usize,
    /// Milliseconds, hours, a share, or yes and no, whatever the kind measures.
    pub amount: i64,
}

/// One or two faults at the same time, for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injury {
    /// The faults, each at a place of its own.
    pub faults: Vec<Fault>,
    /// How long they last.
    pub hold: Duration,
    /// How long everything is left in peace afterwards, which may be too short for all to be well again.
    pub pause: Duration,
}

/// The injuries of a run, without an end.
#[derive(Debug)]
pub struct Injuries {
    dice: Dice,
    nodes: usize,
    kinds: Vec<FaultKind>,
    deck: Vec<FaultKind>,
    longest_hold: Duration,
}

impl Injuries {
    /// The injuries of a seed. None lasts longer than `longest_hold`.
    pub fn new(seed: u64, nodes: usize, kinds: Vec<FaultKind>, longest_hold: Duration) -> Self {
        Self { dice: Dice::new(seed), nodes, kinds, deck: Vec::new(), longest_hold }
    }

    /// The kinds are dealt like cards, so that a short run has them all.
    fn deal(&mut self) -> Option<FaultKind> {
        if self.deck.is_empty() {
            self.deck.clone_from(&self.kinds);
            for last in (1..self.deck.len()).rev() {
                self.deck.swap(last, self.dice.below(last + 1));
            }
        }
        self.deck.pop()
    }

    fn fault(&mut self, kind: FaultKind, node: usize) -> Fault {
        let amount = match kind {
            FaultKind::Latency => self.dice.between(50, 800),
            // The share of its size at which the largest file is cut off; zero also refuses what nodes are sent.
            FaultKind::FullDisk => *self.dice.pick(&[0, 50, 90, 100]),
            // Whether writes wait until the node is back. If so, it misses none, and only its disk shows what it lacks.
            FaultKind::Wipe | FaultKind::OldCopy => self.dice.between(0, 1),
            FaultKind::Clock | FaultKind::ClockMiroir => {
                *self.dice.pick(&[-24 * 365, -26, -1, 1, 26, 24 * 365])
            }
            _ => 0,
        };
        Fault { kind, node, amount }
    }

    fn milliseconds(&mut self, low: i64, high: i64) -> Duration {
        Duration::from_millis(self.dice.between(low, high).unsigned_abs())
    }
}

impl Iterator for Injuries {
    type Item = Injury;

    fn next(&mut self) -> Option<Injury> {
        let kind = self.deal()?;
        let node = self.dice.below(self.nodes);
        let mut faults = vec![self.fault(kind, node)];
        // With two nodes injured some shards may have no copy left, which must be told, and healed.
        if self.nodes > 1 && !kind.destroys() && self.dice.once_in(4) {
            let other = (node + 1 + self.dice.below(self.nodes - 1)) % self.nodes;
            let others: Vec<FaultKind> = (self.kinds.iter().copied())
                .filter(|other| !other.destroys() && !other.shifts_a_clock() && *other != kind)
                .collect();
            if !others.is_empty() {
                let second = *self.dice.pick(&others);
                faults.push(self.fault(second, other));
            }
        }
        // Some are over before any time-out, most take longer than those of one call, some longer than all.
        let hold = match self.dice.below(6) {
            0 => self.milliseconds(100, 900),
            1 => self.milliseconds(11_000, 14_000),
            2 => self.milliseconds(31_000, 36_000),
            _ => self.milliseconds(1_500, 5_000),
        };
        let pause =
            if self.dice.once_in(3) { self.milliseconds(0, 500) } else { self.milliseconds(2_000, 6_000) };
        Some(Injury { faults, hold: hold.min(self.longest_hold), pause })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn injuries(seed: u64) -> Vec<Injury> {
        Injuries::new(seed, 3, FaultKind::ALL.to_vec(), Duration::from_secs(12)).take(200).collect()
    }

    #[test]
    fn a_seed_means_the_same_injuries_every_time() {
        assert_eq!(injuries(1), injuries(1));
        assert_ne!(injuries(1), injuries(2));
    }

    #[test]
    fn every_kind_comes_before_any_comes_again() {
        let dealt: BTreeSet<FaultKind> =
            injuries(3)[..FaultKind::ALL.len()].iter().map(|injury| injury.faults[0].kind).collect();
        assert_eq!(dealt.len(), FaultKind::ALL.len());
    }

    #[test]
    fn what_destroys_comes_alone() {
        for injury in injuries(4) {
            assert!(injury.faults.len() == 1 || injury.faults.iter().all(|fault| !fault.kind.destroys()));
            assert!(injury.faults.len() < 2 || injury.faults[0].node != injury.faults[1].node);
        }
    }
}
