//! `matchingStrategy: frequency` over several nodes: words are dropped in the order that one Meilisearch would.
//!
//! Meilisearch drops the word that most documents match first, then the next, and at last one is left. A node only
//! counts its own documents. So every node is asked how many match each word alone, and the sums give the order.
//! A node whose own order is the same has answered rightly already. Any other is asked once more, for each level
//! of the right order: a word that is to be dropped is replaced by one that nobody can find. That one is the first
//! to be dropped whatever the node knows, and it keeps the place of the other words among each other, as dropping
//! does. Of such an answer only the hits count for which nothing more was dropped.
//!
//! Words are counted alone. Meilisearch also counts what matches two or three words written as one; that decides
//! an order only where counts are almost equal.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::plan::{SHOWING_MORE, SearchKind, SearchPlan};
use super::query_words::{QueryWords, WordSet};
use super::reorder::{Reordered, reorder};
use super::request::{Changes, ClientBody};
use super::scan::write_json;
use super::settings::SearchSettings;
use crate::cover::CoverPart;
use crate::hidden::{SHARD_FIELD, decode};

/// Levels a node is asked for at most. Words with equal counts make a level of each choice among them.
const MAX_LEVELS: usize = 16;
/// What a question for a number of documents leaves out of the client's parameters.
const NOT_COUNTED_BY: [&str; 8] = [
    "filter",
    "sort",
    "distinct",
    "page",
    "hitsPerPage",
    "rankingScoreThreshold",
    "attributesToRetrieve",
    "matchingStrategy",
];

/// A search that drops words by their frequency.
#[derive(Debug)]
pub struct FrequencySearch<'p> {
    plan: &'p SearchPlan,
    words: QueryWords,
}

impl<'p> FrequencySearch<'p> {
    /// `None` when the plan does not drop words by frequency, or when it is better left to the nodes.
    pub fn new(plan: &'p SearchPlan, settings: &SearchSettings) -> Option<Self> {
        let by_frequency = plan.body.raw("matchingStrategy") == Some("\"frequency\"");
        // Which languages a query may be in can change what its words are.
        let is_plain = plan.kind == SearchKind::Keyword
            && plan.counts_distinct().is_none()
            && plan.body.raw("locales").is_none();
        if !by_frequency || !is_plain {
            return None;
        }
        let query: String = plan.body.optional("q").ok()??;
        Some(Self { plan, words: QueryWords::read(&query, settings)? })
    }

    /// The body of the `POST /multi-search` that asks a node how many documents match each word. It is the same
    /// for every node, because a node drops words by all it holds; the shards tell what counts for the cover.
    pub fn counting_body(&self, index_uid: &str) -> Vec<u8> {
        let mut changes = Changes::default();
        SHOWING_MORE.into_iter().chain(NOT_COUNTED_BY).for_each(|name| changes.remove(name));
        changes.set("offset", "0");
        changes.set("limit", "0");
        // Totals stop at what can be reached; facets do not.
        changes.set_list("facets", &[SHARD_FIELD.to_owned()]);
        let queries = (0..self.words.len()).filter_map(|word| {
            let mut changes = changes.clone();
            changes.set("q", json_string(&self.words.alone(word)?));
            changes.set("indexUid", json_string(index_uid));
            Some(self.plan.body.write_with(&changes))
        });
        multi_search(queries)
    }

    /// Compares the order in which each node drops words with that of all of them together. `None` when all agree,
    /// or when they cannot be made to.
    pub fn learn<'f>(&'f self, parts: &[CoverPart], counts: &[Bytes]) -> Option<AgreedOrder<'f, 'p>> {
        let words = self.words.len();
        let mut sums = vec![0u64; words];
        let mut orders = Vec::with_capacity(parts.len());
        for (part, answer) in parts.iter().zip(counts) {
            let answer: Counts = serde_json::from_slice(answer).ok()?;
            if answer.results.len() != words {
                return None;
            }
            let mut held = Vec::with_capacity(words);
            for (sum, count) in sums.iter_mut().zip(&answer.results) {
                let empty = BTreeMap::new();
                let by_shard = count.by_facet.get(SHARD_FIELD).unwrap_or(&empty);
                let is_asked = |shard: &str| {
                    decode(shard).is_some_and(|shard| part.shards.iter().any(|own| u64::from(own.0) == shard))
                };
                *sum +=
                    by_shard.iter().filter(|(shard, _)| is_asked(shard)).map(|(_, count)| count).sum::<u64>();
                held.push(by_shard.values().sum());
            }
            orders.push(removal_order(&held));
        }
        let order = removal_order(&sums);
        let differs: Vec<bool> = orders.iter().map(|own| *own != order).collect();
        if !differs.contains(&true) {
            return None;
        }
        let is_dead = |word: usize| sums.get(word) == Some(&0);
        let dead = (0..words).filter(|word| is_dead(*word)).fold(0, |set, word| set | 1 << word);
        let levels = levels(&order, dead)?;
        Some(AgreedOrder { search: self, levels, order, differs })
    }
}

/// The order in which all nodes are to drop words.
#[derive(Debug)]
pub struct AgreedOrder<'f, 'p> {
    search: &'f FrequencySearch<'p>,
    order: Vec<WordSet>,
    /// What is dropped, by the levels that are asked for.
    levels: Vec<WordSet>,
    /// Which nodes would have another order.
    differs: Vec<bool>,
}

impl AgreedOrder<'_, '_> {
    /// The body of the `POST /multi-search` for the node with this place among the answers, restricted to the
    /// shards it answered for. `None` when its answer is right already.
    pub fn body(&self, node: usize, index_uid: &str, shard_filter: Option<&str>) -> Option<Vec<u8>> {
        if !*self.differs.get(node)? {
            return None;
        }
        let (plan, words) = (self.search.plan, &self.search.words);
        let ordinary = ClientBody::parse(plan.bodies(shard_filter).first()?).ok()?;
        let mut common = Changes::default();
        common.set("indexUid", json_string(index_uid));
        let mut counting = common.clone();
        counting.set("q", json_string(&words.without(self.all_dropped())));
        counting.set("matchingStrategy", "\"all\"");
        let leaves_out_matches = plan.distinct.is_some() || plan.threshold.is_some();
        plan.ask_from_the_first(&mut counting, if leaves_out_matches { plan.reach() } else { 0 });
        // Documents of the levels before come again, and are as many as are wanted at most.
        plan.ask_from_the_first(&mut common, plan.reach().saturating_mul(2));
        common.remove("facets");
        let levels = self.levels.iter().map(|level| {
            let mut changes = common.clone();
            changes.set("q", json_string(&words.with_unfindable(*level)));
            ordinary.write_with(&changes)
        });
        Some(multi_search(std::iter::once(ordinary.write_with(&counting)).chain(levels)))
    }

    /// What the node would have answered in the order agreed on, given what it answered in its own and to
    /// [`AgreedOrder::body`]. `None` when it cannot be read.
    pub fn reordered(&self, own: &[u8], answer: &[u8]) -> Option<Bytes> {
        let answer: Levels = serde_json::from_slice(answer).ok()?;
        let (total, levels) = answer.results.split_first()?;
        if levels.len() != self.levels.len() {
            return None;
        }
        let dropped = std::iter::once(0).chain(self.levels.iter().map(|level| level.count_ones()));
        let answers = std::iter::once(own).chain(levels.iter().map(|level| level.get().as_bytes()));
        let max_words = self.all_dropped().count_ones() + 1;
        let answer = Reordered {
            own,
            total: total.get().as_bytes(),
            levels: dropped.zip(answers).collect(),
            max_words,
            reach: self.search.plan.reach(),
        };
        reorder(&answer).ok().map(Bytes::from)
    }

    fn all_dropped(&self) -> WordSet {
        self.order.iter().fold(0, |all, group| all | group)
    }
}

/// The words that are dropped, most frequent first and those with equal counts together. What nothing matches is
/// dropped before all else, and the last are never dropped.
fn removal_order(counts: &[u64]) -> Vec<WordSet> {
    let mut by_count: BTreeMap<u64, WordSet> = BTreeMap::new();
    for (word, count) in counts.iter().enumerate() {
        // Zero becomes the highest.
        *by_count.entry(count.wrapping_sub(1)).or_default() |= 1 << word;
    }
    by_count.into_values().skip(1).rev().collect()
}

/// What is dropped level by level, beyond nothing. Of words with equal counts, one may be dropped without the
/// other. Where a word nothing matches is left there are no hits. `None` when there are too many levels.
fn levels(order: &[WordSet], dead: WordSet) -> Option<Vec<WordSet>> {
    let mut levels = Vec::new();
    let mut before: WordSet = 0;
    for group in order {
        let choices = (1..=*group).filter(|choice| choice & !group == 0);
        for level in choices.map(|choice| before | choice).filter(|level| dead & !level == 0) {
            levels.push(level);
            if levels.len() > MAX_LEVELS {
                return None;
            }
        }
        before |= group;
    }
    Some(levels)
}

fn multi_search(queries: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut body = b"{\"queries\":[".to_vec();
    for (index, query) in queries.enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&query);
    }
    body.extend_from_slice(b"]}");
    body
}

fn json_string(text: &str) -> String {
    let mut json = Vec::with_capacity(text.len() + 2);
    write_json(&mut json, text);
    String::from_utf8_lossy(&json).into_owned()
}

#[derive(Deserialize)]
struct Counts {
    results: Vec<Count>,
}

#[derive(Deserialize)]
struct Count {
    #[serde(rename = "facetDistribution", default)]
    by_facet: BTreeMap<String, BTreeMap<String, u64>>,
}

#[derive(Deserialize)]
struct Levels<'a> {
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
}
