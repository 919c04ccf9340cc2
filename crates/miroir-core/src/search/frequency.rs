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

use super::depth::Depth;
use super::plan::{SHOWING_MORE, SearchKind, SearchPlan};
use super::query_words::{QueryWords, WordSet};
use super::reorder::{Reordered, reorder};
use super::request::{Changes, ClientBody};
use super::scan::write_json;
use super::settings::SearchSettings;
use crate::cover::CoverPart;
use crate::hidden::{SHARD_FIELD, decode};

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
        let by_frequency = plan.drops_by_frequency();
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
    /// or when a count cannot be read.
    pub fn learn<'f>(&'f self, parts: &[CoverPart], counts: &[Bytes]) -> Option<AgreedOrder<'f, 'p>> {
        let words = self.words.len();
        let mut sums = vec![0u64; words];
        let mut own_levels = Vec::with_capacity(parts.len());
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
            own_levels.push(levels(&removal_order(&held)));
        }
        let mut levels = levels(&removal_order(&sums));
        let all_dropped = levels.iter().fold(0, |all, level| all | level);
        let differs: Vec<bool> = own_levels.iter().map(|own| *own != levels).collect();
        // Where a word that nothing matches is left, nothing is found.
        let found_nowhere =
            (0..words).filter(|word| sums.get(*word) == Some(&0)).fold(0, |set, word| set | 1 << word);
        levels.retain(|level| found_nowhere & all_dropped & !level == 0);
        let is_needed = differs.contains(&true);
        is_needed.then_some(AgreedOrder { search: self, levels, all_dropped, differs })
    }
}

/// The order in which all nodes are to drop words.
#[derive(Debug)]
pub struct AgreedOrder<'f, 'p> {
    search: &'f FrequencySearch<'p>,
    /// What is dropped, level by level, as far as there is anything to be found.
    levels: Vec<WordSet>,
    /// What is dropped at the last level.
    all_dropped: WordSet,
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
        let ordinary = ClientBody::parse(plan.bodies(shard_filter, Depth::Whole).first()?).ok()?;
        let mut common = Changes::default();
        common.set("indexUid", json_string(index_uid));
        let mut counting = common.clone();
        counting.set("q", json_string(&words.without(self.all_dropped)));
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
        let max_words = self.all_dropped.count_ones() + 1;
        let answer = Reordered {
            own,
            total: total.get().as_bytes(),
            levels: dropped.zip(answers).collect(),
            max_words,
            reach: self.search.plan.reach(),
        };
        reorder(&answer).ok().map(Bytes::from)
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

/// All that Meilisearch drops together, besides nothing, by how many words that is. When a word is dropped, so are
/// the more frequent ones that follow it in the query; those that come before it may match all the same.
fn levels(order: &[WordSet]) -> Vec<WordSet> {
    let droppable = order.iter().fold(0, |all, group| all | group);
    let is_level = |level: &WordSet| {
        let mut more_frequent: WordSet = 0;
        order.iter().all(|group| {
            let dropped_here = level & group;
            // The bits above the lowest one dropped are the words after it.
            let after = if dropped_here == 0 { 0 } else { !0 << dropped_here.trailing_zeros() };
            let must_be_dropped = more_frequent & after;
            more_frequent |= group;
            level & must_be_dropped == must_be_dropped
        })
    };
    let mut levels: Vec<WordSet> =
        (1..=droppable).filter(|level| level & !droppable == 0).filter(is_level).collect();
    levels.sort_by_key(|level| level.count_ones());
    levels
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::hidden::encode_shard;
    use crate::shard::ShardId;

    fn plan(body: Value) -> SearchPlan {
        SearchPlan::new(body.to_string().as_bytes(), &SearchSettings::default()).unwrap()
    }

    fn counts(per_word: &[&[(u16, u64)]]) -> Bytes {
        let count = |by_shard: &&[(u16, u64)]| {
            let values: BTreeMap<String, u64> =
                by_shard.iter().map(|(shard, count)| (encode_shard(ShardId(*shard)), *count)).collect();
            json!({ "facetDistribution": { SHARD_FIELD: values } })
        };
        Bytes::from(json!({ "results": per_word.iter().map(count).collect::<Vec<_>>() }).to_string())
    }

    fn part(node: usize, shards: &[u16]) -> CoverPart {
        CoverPart { node, shards: shards.iter().map(|shard| ShardId(*shard)).collect(), whole: true }
    }

    fn read(body: &[u8]) -> Value {
        serde_json::from_slice(body).unwrap()
    }

    #[test]
    fn the_most_frequent_word_is_dropped_first_and_one_that_nothing_matches_before_it() {
        assert_eq!(removal_order(&[5, 9, 1]), [0b010, 0b001]);
        assert_eq!(removal_order(&[5, 0, 9]), [0b010, 0b100]);
        assert_eq!(removal_order(&[5, 5, 1]), [0b011]);
        assert_eq!(removal_order(&[7, 7]), [0; 0]);
        assert_eq!(removal_order(&[0, 0]), [0; 0]);
    }

    #[test]
    fn a_frequent_word_may_match_when_a_rarer_one_after_it_is_dropped() {
        assert_eq!(levels(&[0b001, 0b010]), [0b001, 0b010, 0b011]);
        assert_eq!(levels(&[0b010, 0b001]), [0b010, 0b011]);
        assert_eq!(levels(&[0b110]), [0b010, 0b100, 0b110]);
        assert_eq!(levels(&[]), [0; 0]);
    }

    #[test]
    fn every_word_is_counted_alone() {
        let plan =
            plan(json!({ "q": "red dune", "matchingStrategy": "frequency", "filter": "a = 1", "page": 2,
                                "attributesToSearchOn": ["title"], "showRankingScore": true }));
        let search = FrequencySearch::new(&plan, &SearchSettings::default()).unwrap();
        let query = |words: &str| {
            json!({ "q": words, "attributesToSearchOn": ["title"], "offset": 0, "limit": 0, "facets": [SHARD_FIELD],
                    "indexUid": "books" })
        };
        assert_eq!(
            read(&search.counting_body("books")),
            json!({ "queries": [query("red "), query("dune")] })
        );
    }

    #[test]
    fn only_nodes_with_another_order_are_asked_again() {
        let plan =
            plan(json!({ "q": "red dune", "matchingStrategy": "frequency", "limit": 5, "facets": ["g"] }));
        let search = FrequencySearch::new(&plan, &SearchSettings::default()).unwrap();
        let parts = [part(0, &[0, 1]), part(1, &[2])];
        let same = [counts(&[&[(0, 4), (1, 5)], &[(0, 2)]]), counts(&[&[(2, 3)], &[(2, 1)]])];
        assert!(search.learn(&parts, &same).is_none());

        // What the second node holds of a shard it is not asked for makes its order, and does not count.
        let other = [counts(&[&[(0, 4), (1, 5)], &[(0, 2)]]), counts(&[&[(2, 3)], &[(2, 1), (0, 7)]])];
        let order = search.learn(&parts, &other).unwrap();
        assert_eq!(order.body(0, "books", None), None);
        let asked = read(&order.body(1, "books", Some("s = 2")).unwrap());
        let queries = asked["queries"].as_array().unwrap();
        assert_eq!(queries.len(), 2);
        assert_eq!((&queries[0]["matchingStrategy"], &queries[0]["limit"]), (&json!("all"), &json!(0)));
        assert_eq!(
            (&queries[0]["facets"], &queries[0]["filter"]),
            (&json!(["g", SHARD_FIELD]), &json!(["s = 2"]))
        );
        assert_eq!(
            (&queries[1]["matchingStrategy"], &queries[1]["limit"]),
            (&json!("frequency"), &json!(10))
        );
        assert!(queries[1].get("facets").is_none());
        let texts: Vec<&str> = queries.iter().map(|query| query["q"].as_str().unwrap()).collect();
        assert!(
            texts[0].starts_with(" -Z")
                && texts[1].starts_with('Z')
                && texts.iter().all(|text| text.ends_with(" dune"))
        );
    }

    #[test]
    fn an_answer_that_cannot_be_read_changes_nothing() {
        let plan = plan(json!({ "q": "red dune", "matchingStrategy": "frequency" }));
        let search = FrequencySearch::new(&plan, &SearchSettings::default()).unwrap();
        let parts = [part(0, &[0]), part(1, &[1])];
        assert!(search.learn(&parts, &[Bytes::from("<html>"), counts(&[&[], &[]])]).is_none());
        let order = search
            .learn(&parts, &[counts(&[&[(0, 4)], &[(0, 2)]]), counts(&[&[(1, 1)], &[(1, 2)]])])
            .unwrap();
        assert_eq!(order.reordered(b"{\"hits\":[]}", b"{\"results\":[{}]}"), None);
    }

    #[test]
    fn other_searches_are_left_alone() {
        let is_left = |body: Value| {
            let plan = plan(body);
            FrequencySearch::new(&plan, &SearchSettings::default()).is_none()
        };
        assert!(is_left(json!({ "q": "red dune" })));
        assert!(is_left(json!({ "q": "dune", "matchingStrategy": "frequency" })));
        assert!(is_left(json!({ "q": "red dune", "matchingStrategy": "frequency", "locales": ["deu"] })));
        assert!(is_left(
            json!({ "q": "red dune", "matchingStrategy": "frequency", "distinct": "g", "page": 1 })
        ));
    }

    proptest! {
        #[test]
        fn levels_are_just_what_can_be_dropped_word_by_word(counts in prop::collection::vec(0u64..5, 1..7)) {
            let order = removal_order(&counts);
            // Zero is the most frequent.
            let frequency = |word: usize| counts[word].wrapping_sub(1);
            let least = (0..counts.len()).map(frequency).min().unwrap();
            let is_level = |level: WordSet| {
                let has = |word: usize| level & (1 << word) != 0;
                (0..counts.len()).filter(|word| has(*word)).all(|word| {
                    frequency(word) != least
                        && (word + 1..counts.len()).all(|after| frequency(after) <= frequency(word) || has(after))
                })
            };
            let mut found = levels(&order);
            prop_assert!(found.is_sorted_by_key(|level| level.count_ones()));
            found.sort_unstable();
            let expected: Vec<WordSet> = (1..1 << counts.len()).filter(|level| is_level(*level)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
