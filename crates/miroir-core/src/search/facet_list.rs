//! The list of one facet's values: reading a node's, and cutting one as Meilisearch does.
//!
//! A list has the numbers first, then the strings, all written as strings. A value that is a number in some
//! documents and a string in others is listed once, in the number's place with the string's count.

use std::collections::HashMap;
use std::hash::Hash;

/// Tells numbers from strings in a node's list, from its beginning.
///
/// Only a facet that has numbers has statistics. Numbers are written as Meilisearch writes numbers, lie within
/// the statistics, and come before any string; unless sorted by count, they are in order of size or of text.
/// A string that passes for a number on all these grounds is taken for one.
#[derive(Debug)]
pub(super) struct NumbersFirst<'a> {
    /// Least and greatest number; `None` once a string was met.
    range: Option<(f64, f64)>,
    is_by_count: bool,
    previous: Option<(f64, &'a str)>,
    is_in_order_of_size: bool,
    is_in_order_of_text: bool,
}

impl<'a> NumbersFirst<'a> {
    pub(super) fn new(range: Option<(f64, f64)>, is_by_count: bool) -> Self {
        Self { range, is_by_count, previous: None, is_in_order_of_size: true, is_in_order_of_text: true }
    }

    /// The number that the next value of the list is; `None` for a string.
    pub(super) fn next(&mut self, text: &'a str) -> Option<f64> {
        let number = self.accept(text);
        if number.is_none() {
            self.range = None;
        }
        number
    }

    fn accept(&mut self, text: &'a str) -> Option<f64> {
        let (min, max) = self.range?;
        let number: f64 = text.parse().ok()?;
        if number < min || max < number || number.to_string() != text {
            return None;
        }
        if let Some((previous, previous_text)) = self.previous {
            let by_size = self.is_in_order_of_size && previous <= number;
            let by_text = self.is_in_order_of_text && previous_text <= text;
            if !by_size && !by_text && !self.is_by_count {
                return None;
            }
            (self.is_in_order_of_size, self.is_in_order_of_text) = (by_size, by_text);
        }
        self.previous = Some((number, text));
        Some(number)
    }

    /// Whether the numbers met show that the node listed by level, as it does when many documents match or the
    /// facet is sorted by count; `None` when both orders come to the same.
    pub(super) fn is_listed_by_level(&self) -> Option<bool> {
        match (self.is_in_order_of_size, self.is_in_order_of_text) {
            _ if self.is_by_count => Some(true),
            (true, true) => None,
            (by_size, _) => Some(by_size),
        }
    }
}

/// Lists numbers and strings, both in their order, up to `max` values.
///
/// Few documents listed by value: as many strings as the numbers leave room for, even when they take places of
/// numbers. By level, Meilisearch stops at the very moment the list is full, so if numbers filled it, strings
/// are all listed; unless the first takes the place of a number, after which the list is full again.
pub(super) fn list<K: Clone + Eq + Hash, C>(
    max: usize,
    is_listed_by_level: bool,
    numbers: impl Iterator<Item = (K, C)>,
    strings: impl Iterator<Item = (K, C)>,
) -> Vec<(K, C)> {
    let is_never_full = is_listed_by_level && max == 0;
    let mut listed: Vec<(K, C)> = numbers.take(if is_never_full { usize::MAX } else { max }).collect();
    let places: HashMap<K, usize> =
        listed.iter().enumerate().map(|(place, (number, _))| (number.clone(), place)).collect();
    let room = if is_listed_by_level { usize::MAX } else { max - listed.len() };
    for (string, count) in strings.take(room) {
        match places.get(&string).and_then(|place| listed.get_mut(*place)) {
            Some((_, count_of_number)) => *count_of_number = count,
            None => listed.push((string, count)),
        }
        if is_listed_by_level && listed.len() == max {
            break;
        }
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(max: usize, is_listed_by_level: bool, numbers: &[&str], strings: &[&str]) -> String {
        let numbers = numbers.iter().map(|number| (*number, 'n'));
        let strings = strings.iter().map(|string| (*string, 's'));
        let listed = list(max, is_listed_by_level, numbers, strings);
        listed.into_iter().map(|(value, kind)| format!("{value}{kind} ")).collect()
    }

    #[test]
    fn a_string_takes_the_place_of_the_number_written_like_it() {
        for is_listed_by_level in [false, true] {
            assert_eq!(listed(9, is_listed_by_level, &["4", "5"], &["5", "x"]), "4n 5s xs ");
        }
        // It is one of the strings there is room for, but adds nothing to a list that stops when it is full.
        assert_eq!(listed(3, false, &["4", "5"], &["5", "x"]), "4n 5s ");
        assert_eq!(listed(3, true, &["4", "5"], &["5", "x", "y"]), "4n 5s xs ");
    }

    #[test]
    fn strings_are_all_listed_by_level_when_numbers_filled_the_list() {
        assert_eq!(listed(2, false, &["4", "5", "6"], &["x", "y"]), "4n 5n ");
        assert_eq!(listed(2, true, &["4", "5", "6"], &["x", "y"]), "4n 5n xs ys ");
        assert_eq!(listed(2, true, &["4", "5", "6"], &["5", "x"]), "4n 5s ");
        assert_eq!(listed(2, true, &["4", "5", "6"], &["6", "x"]), "4n 5n 6s xs ");
        assert_eq!(listed(0, false, &["4"], &["x"]), "");
        assert_eq!(listed(0, true, &["4", "5"], &["5", "x"]), "4n 5s xs ");
    }

    fn numbers(is_by_count: bool, texts: &[&str]) -> (usize, Option<bool>) {
        let mut numbers_first = NumbersFirst::new(Some((1.0, 20.0)), is_by_count);
        let count = texts.iter().filter(|text| numbers_first.next(text).is_some()).count();
        (count, numbers_first.is_listed_by_level())
    }

    #[test]
    fn numbers_end_where_a_string_must_be() {
        assert_eq!(numbers(false, &["1", "2", "11"]), (3, Some(true)));
        assert_eq!(numbers(false, &["1", "11", "2"]), (3, Some(false)));
        assert_eq!(numbers(false, &["1", "11", "20"]), (3, None));
        assert_eq!(numbers(true, &["11", "2", "20"]), (3, Some(true)));
        // In neither order; not written as a number is; outside the range; after a string.
        assert_eq!(numbers(false, &["1", "2", "11", "3"]), (3, Some(true)));
        assert_eq!(numbers(false, &["1", "11", "2", "1.5"]), (3, Some(false)));
        assert_eq!(numbers(false, &["1", "2.0", "3"]), (1, None));
        assert_eq!(numbers(false, &["1", "21", "3"]), (1, None));
        assert_eq!(numbers(true, &["1", "a", "3"]), (1, Some(true)));
    }
}
