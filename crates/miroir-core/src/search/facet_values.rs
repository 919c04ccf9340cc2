//! The values of facets as nodes list them, gathered by attribute.
//!
//! A node lists numbers before texts and does not say where the one ends and the other begins: the range it gives
//! for the numbers tells.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::facet_list::NumbersFirst;
use super::facets::FacetShape;
use super::normalise::normalise;
use super::scan::{Cursor, Malformed, number, unescape, unsigned};
use super::settings::FacetOrder;
use crate::hidden::{SHARD_FIELD, is_reserved};

/// Facets as one or several nodes gave them: raw `facetDistribution` and `facetStats`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RawFacets<'a> {
    pub(super) distribution: Option<&'a [u8]>,
    pub(super) stats: Option<&'a [u8]>,
}

/// The values of one facet, over all nodes.
#[derive(Default)]
pub(super) struct Values<'a> {
    pub(super) numbers: HashMap<Cow<'a, str>, (f64, u64)>,
    pub(super) strings: BTreeMap<Cow<'a, str>, (Vec<SpeltBy<'a>>, u64)>,
}

/// A spelling and the nodes that show it.
pub(super) type SpeltBy<'a> = (Cow<'a, str>, Vec<usize>);

impl<'a> Values<'a> {
    fn add_string(&mut self, original: Cow<'a, str>, count: u64, node: usize) {
        let key = match &original {
            Cow::Borrowed(text) => normalise(text),
            Cow::Owned(text) => Cow::Owned(normalise(text).into_owned()),
        };
        let (spellings, total) = self.strings.entry(key).or_default();
        *total = total.saturating_add(count);
        match spellings.iter_mut().find(|(spelling, _)| *spelling == original) {
            Some((_, nodes)) => nodes.push(node),
            None => spellings.push((original, vec![node])),
        }
    }

    fn add_number(&mut self, text: Cow<'a, str>, value: f64, count: u64) {
        let (_, total) = self.numbers.entry(text).or_insert((value, 0));
        *total = total.saturating_add(count);
    }
}

/// How many documents a node's facets are of: every document is in one shard, so the facet of shards tells, where
/// totals stop at what can be reached. At least as many as this, should the facet be cut.
pub(super) fn count_documents(facets: &RawFacets) -> Result<u64, Malformed> {
    let Some(distribution) = facets.distribution else { return Ok(0) };
    let mut documents = 0u64;
    let mut cursor = Cursor::new(distribution);
    cursor.begin_object()?;
    while let Some(attribute) = cursor.next_key()? {
        if attribute != SHARD_FIELD.as_bytes() {
            cursor.value()?;
            continue;
        }
        cursor.begin_object()?;
        while cursor.next_key()?.is_some() {
            documents = documents.saturating_add(unsigned(cursor.value()?).unwrap_or_default());
        }
    }
    Ok(documents)
}

/// Least and greatest number of a facet, each with its own text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stats<'a> {
    pub(super) min: (f64, &'a [u8]),
    pub(super) max: (f64, &'a [u8]),
}

impl Stats<'_> {
    pub(super) fn range(&self) -> (f64, f64) {
        (self.min.0, self.max.0)
    }
}

impl<'a> Stats<'a> {
    pub(super) fn widen(&mut self, other: Stats<'a>) {
        if other.min.0 < self.min.0 {
            self.min = other.min;
        }
        if other.max.0 > self.max.0 {
            self.max = other.max;
        }
    }
}

pub(super) fn read_stats(raw: &[u8]) -> Result<BTreeMap<Cow<'_, str>, Stats<'_>>, Malformed> {
    let mut all = BTreeMap::new();
    let mut cursor = Cursor::new(raw);
    cursor.begin_object()?;
    while let Some(attribute) = cursor.next_key()? {
        let (mut min, mut max) = (None, None);
        cursor.begin_object()?;
        while let Some(key) = cursor.next_key()? {
            let value = cursor.value()?;
            match key {
                b"min" => min = number(value).map(|parsed| (parsed, value)),
                b"max" => max = number(value).map(|parsed| (parsed, value)),
                _ => {}
            }
        }
        let attribute = unescape(attribute);
        if let (Some(min), Some(max), false) = (min, max, is_reserved(&attribute)) {
            all.insert(attribute, Stats { min, max });
        }
    }
    Ok(all)
}

pub(super) fn read_distribution<'a>(
    shape: &FacetShape,
    raw: &'a [u8],
    stats: &BTreeMap<Cow<'a, str>, Stats<'a>>,
    node: usize,
    all: &mut BTreeMap<Cow<'a, str>, Values<'a>>,
) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(raw);
    cursor.begin_object()?;
    while let Some(attribute) = cursor.next_key()? {
        let attribute = unescape(attribute);
        if is_reserved(&attribute) {
            cursor.value()?;
            continue;
        }
        let range = stats.get(&attribute).map(Stats::range);
        let is_by_count = shape.order_of(&attribute) == FacetOrder::Count;
        let mut listed = Vec::new();
        cursor.begin_object()?;
        while let Some(value) = cursor.next_key()? {
            listed.push((unescape(value), unsigned(cursor.value()?).unwrap_or_default()));
        }
        let mut numbers_first = NumbersFirst::new(range, is_by_count);
        let numbers: Vec<f64> = listed.iter().map_while(|(text, _)| numbers_first.next(text)).collect();
        let values = all.entry(attribute).or_default();
        let mut numbers = numbers.into_iter();
        for (text, count) in listed {
            match numbers.next() {
                Some(number) => values.add_number(text, number, count),
                None => values.add_string(text, count, node),
            }
        }
    }
    Ok(())
}
