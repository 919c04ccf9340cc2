//! The error codes of Meilisearch 1.21: which of them the sequences must bring about, and why not the others.

use std::collections::BTreeSet;

const CODES: &str = include_str!("codes.txt");

/// What is wrong with the list, given the codes that were answered: codes that no sequence has brought about although
/// one should, and codes that the list does not know of or excuses.
pub fn unlisted_and_missing(answered: &BTreeSet<String>) -> Vec<String> {
    let (mut wrong, mut wanted) = (Vec::new(), BTreeSet::new());
    for line in CODES.lines().filter(|line| !line.starts_with('#')) {
        if !line.contains(':') {
            wanted.insert(line);
        }
    }
    for code in &wanted {
        if !answered.contains(*code) {
            wrong.push(format!("no sequence brings about {code}"));
        }
    }
    for code in answered.iter().filter(|code| !wanted.contains(code.as_str())) {
        wrong.push(format!("{code} is brought about, but not on the list"));
    }
    wrong
}
