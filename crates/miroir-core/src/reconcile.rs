//! Which version of a document is right when active replicas hold different ones.
//!
//! That cannot come from a write that Miroir made: a replica that missed one is not active. Somebody wrote to a
//! node directly, or a disk lied. The majority is right; without one, the newest version is that has Miroir's
//! stamp, because what has none did not come through Miroir. A document that a majority does not have was
//! deleted, however new the copy that is left: nothing is ever resurrected by a minority.

/// What one replica holds of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Number of the write that last changed it; `None` without a stamp of Miroir's.
    pub write: Option<u64>,
    /// Digest of its content.
    pub content: u128,
}

/// What is to become of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All replicas hold the same.
    Equal,
    /// The replica at this place is right; the others get its version.
    Keep(usize),
    /// It is not to be: those that have it lose it.
    Remove,
}

/// Judges one document, given what each replica holds of it, in the order of preference.
pub fn judge(held: &[Option<Version>]) -> Verdict {
    let Some(first) = held.first() else { return Verdict::Equal };
    if held.iter().all(|version| version == first) {
        return Verdict::Equal;
    }
    let votes = |candidate: &Option<Version>| held.iter().filter(|version| *version == candidate).count();
    if let Some(winner) = held.iter().position(|candidate| votes(candidate) * 2 > held.len()) {
        return match held.get(winner) {
            Some(Some(_)) => Verdict::Keep(winner),
            _ => Verdict::Remove,
        };
    }
    // Of equals the first, so that the verdict does not depend on chance.
    let stamped =
        held.iter().enumerate().rev().filter_map(|(place, version)| Some((version.as_ref()?.write?, place)));
    match stamped.max_by_key(|(write, _)| *write) {
        Some((_, place)) => Verdict::Keep(place),
        // Nobody's document came through Miroir.
        None => Verdict::Remove,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(write: u64, content: u128) -> Option<Version> {
        Some(Version { write: Some(write), content })
    }

    const FOREIGN: Option<Version> = Some(Version { write: None, content: 9 });

    #[test]
    fn the_majority_is_right_and_otherwise_the_newest_stamp() {
        assert_eq!(judge(&[version(1, 1), version(1, 1)]), Verdict::Equal);
        assert_eq!(judge(&[version(9, 2), version(1, 1), version(1, 1)]), Verdict::Keep(1));
        assert_eq!(judge(&[version(1, 1), version(2, 2)]), Verdict::Keep(1));
        assert_eq!(
            judge(&[version(1, 1), version(1, 2)]),
            Verdict::Keep(0),
            "the first, for want of a reason"
        );
    }

    #[test]
    fn what_did_not_come_through_miroir_goes_and_what_did_comes_back() {
        assert_eq!(judge(&[FOREIGN, None]), Verdict::Remove);
        assert_eq!(judge(&[FOREIGN, version(1, 1)]), Verdict::Keep(1));
        assert_eq!(judge(&[None, version(1, 1)]), Verdict::Keep(1));
        assert_eq!(judge(&[None, version(7, 1), None]), Verdict::Remove, "deleted, and not resurrected");
    }

    fn held() -> impl Strategy<Value = Vec<Option<Version>>> {
        let version =
            (prop::option::of(0u64..3), 0u128..3).prop_map(|(write, content)| Version { write, content });
        prop::collection::vec(prop::option::of(version), 0..5)
    }

    proptest! {
        #[test]
        fn after_the_verdict_all_are_equal_and_it_stands(held in held()) {
            let after: Vec<Option<Version>> = match judge(&held) {
                Verdict::Equal => held,
                Verdict::Keep(place) => {
                    prop_assert!(held[place].is_some());
                    vec![held[place]; held.len()]
                }
                Verdict::Remove => vec![None; held.len()],
            };
            prop_assert_eq!(judge(&after), Verdict::Equal);
        }
    }
}
