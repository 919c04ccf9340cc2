//! Searching the values of one facet: the answers of several nodes as one Meilisearch would give them.
//!
//! Every document is in one shard, so the counts of a value add up. Meilisearch lists the first values in the order
//! in which it comes upon them, or those with the highest counts; nodes list more than that where their answers are
//! added up, so the first of all are among them.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use serde::Deserialize;
use unicode_normalization::char::is_combining_mark;

use super::facet_values::SpeltBy;
use super::facets::{FacetConflict, Spelling};
use super::merge::{MergeError, MergedAnswer};
use super::normalise::normalise;
use super::plan::{PlanError, SearchPlan};
use super::request::{Changes, ClientBody, ForwardRaw, filter_with_shards};
use super::scan::{Cursor, Malformed, ObjectWriter, write_json};
use super::settings::{FacetOrder, SearchSettings};
use super::spelling::SpellingChoices;
use crate::hidden::is_reserved;

/// One search for facet values, planned.
#[derive(Debug, Clone)]
pub struct FacetSearchPlan {
    body: ClientBody,
    facet: String,
    reserved: Option<String>,
    /// Values that match a text are come upon in another order than all of them.
    has_query: bool,
    max_values: usize,
    order: FacetOrder,
    everything: SearchPlan,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeAnswer<'a> {
    #[serde(borrow)]
    facet_hits: Vec<FacetHit<'a>>,
}

#[derive(Deserialize)]
struct FacetHit<'a> {
    #[serde(borrow)]
    value: Cow<'a, str>,
    count: u64,
}

/// One value, over all nodes.
struct Found<'a> {
    /// What decides when Meilisearch comes upon it.
    place: (String, Cow<'a, str>),
    count: u64,
    spellings: Vec<SpeltBy<'a>>,
    /// How many nodes list it.
    lists: usize,
    is_listed: bool,
}

impl FacetSearchPlan {
    /// Plans the facet search a client asked for with this body, in an index with these settings.
    pub fn new(body: &[u8], settings: &SearchSettings) -> Result<Self, PlanError> {
        let body = ClientBody::parse(body)?;
        let facet: String = body.optional("facetName")?.ok_or(ForwardRaw)?;
        let query: Option<String> = body.optional("facetQuery")?;
        let searched: Option<Vec<String>> = body.optional("attributesToSearchOn")?;
        let reserved = searched.iter().flatten().chain([&facet]).find(|name| is_reserved(name)).cloned();
        Ok(Self {
            reserved,
            has_query: query.is_some(),
            max_values: settings.max_values_per_facet,
            order: settings.order_of(&facet),
            everything: SearchPlan::new(b"{}", &SearchSettings::default())?,
            facet,
            body,
        })
    }

    /// A field of Miroir's own that the client names, which is to be refused.
    pub fn names_reserved_field(&self) -> Option<&str> {
        self.reserved.as_deref()
    }

    /// The filter as the client wrote it, raw JSON; `None` when there is none.
    pub fn filter(&self) -> Option<&str> {
        self.body.raw("filter")
    }

    /// The body for a node, restricted to some of its shards if a filter is given.
    pub fn body(&self, shard_filter: Option<&str>) -> Vec<u8> {
        let mut changes = Changes::default();
        if let Some(filter) = shard_filter.and_then(|shards| filter_with_shards(self.filter(), shards)) {
            changes.set("filter", filter);
        }
        self.body.write_with(&changes)
    }

    /// The search by which a [`SpellingRound`](super::SpellingRound) settles spellings: that for all documents,
    /// because the oldest of all decides here and not the oldest that matches.
    pub fn everything(&self) -> &SearchPlan {
        &self.everything
    }

    /// Makes one answer of those of nodes that cover the index together.
    pub fn merge(
        &self,
        answers: &[Bytes],
        elapsed_ms: u64,
        choices: &SpellingChoices,
    ) -> Result<MergedAnswer, MergeError> {
        let first = answers.first().ok_or(MergeError::MissingAnswer)?;
        let nodes: Vec<NodeAnswer> = answers.iter().map(|answer| read(answer)).collect::<Result<_, _>>()?;
        let (mut values, lists) = self.collect(nodes);
        let order = match self.order {
            FacetOrder::Alpha => first_of_all(&mut values, &lists, self.max_values),
            FacetOrder::Count => most_frequent(&values, self.max_values, |found| self.shown(found, choices)),
        };
        let listed: Vec<&Found> = order.into_iter().filter_map(|index| values.get(index)).collect();

        let mut body = Vec::new();
        let mut writer = ObjectWriter::begin(&mut body);
        let mut cursor = Cursor::new(first);
        cursor.begin_object()?;
        while let Some(key) = cursor.next_key()? {
            let value = cursor.value()?;
            match key {
                b"facetHits" => self.write_hits(writer.key(key), &listed, choices),
                b"processingTimeMs" => write_json(writer.key(key), &elapsed_ms),
                _ => writer.member(key, value),
            }
        }
        writer.end();
        Ok(MergedAnswer { body, facet_conflicts: self.conflicts(&listed, choices) })
    }

    /// The values of all nodes, and the list of each node.
    fn collect<'a>(&self, nodes: Vec<NodeAnswer<'a>>) -> (Vec<Found<'a>>, Vec<Vec<usize>>) {
        let mut values: Vec<Found> = Vec::new();
        let mut known: HashMap<Cow<str>, usize> = HashMap::new();
        let mut lists = Vec::with_capacity(nodes.len());
        for (node, answer) in nodes.into_iter().enumerate() {
            let mut list: Vec<usize> = Vec::with_capacity(answer.facet_hits.len());
            for hit in answer.facet_hits {
                let key: Cow<'a, str> = match &hit.value {
                    Cow::Borrowed(text) => normalise(text),
                    Cow::Owned(text) => Cow::Owned(normalise(text).into_owned()),
                };
                let index = *known.entry(key.clone()).or_insert(values.len());
                list.push(index);
                let Some(found) = values.get_mut(index) else {
                    let searched = if self.has_query { searched_form(&key) } else { String::new() };
                    values.push(Found {
                        place: (searched, key),
                        count: hit.count,
                        spellings: vec![(hit.value, vec![node])],
                        lists: 1,
                        is_listed: false,
                    });
                    continue;
                };
                found.count = found.count.saturating_add(hit.count);
                found.lists += 1;
                match found.spellings.iter_mut().find(|(spelling, _)| *spelling == hit.value) {
                    Some((_, nodes)) => nodes.push(node),
                    None => found.spellings.push((hit.value, vec![node])),
                }
            }
            lists.push(list);
        }
        values.iter_mut().for_each(|found| found.spellings.sort_unstable());
        (values, lists)
    }

    /// How a value is shown: as is settled, else in the spelling that sorts first.
    fn shown<'f>(&self, found: &'f Found, choices: &SpellingChoices) -> &'f str {
        let settled = found.spellings.iter().find(|(spelling, _)| choices.has(&self.facet, spelling));
        settled.or(found.spellings.first()).map_or("", |(spelling, _)| spelling)
    }

    fn write_hits(&self, out: &mut Vec<u8>, listed: &[&Found], choices: &SpellingChoices) {
        out.push(b'[');
        for (index, found) in listed.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let mut writer = ObjectWriter::begin(out);
            write_json(writer.key(b"value"), self.shown(found, choices));
            write_json(writer.key(b"count"), &found.count);
            writer.end();
        }
        out.push(b']');
    }

    fn conflicts(&self, listed: &[&Found], choices: &SpellingChoices) -> Vec<FacetConflict> {
        let is_open = |found: &&&Found| {
            found.spellings.len() > 1
                && !found.spellings.iter().any(|(spelling, _)| choices.has(&self.facet, spelling))
        };
        let conflict = |found: &&Found| {
            let spellings = found.spellings.iter();
            let spelling =
                |(text, nodes): &SpeltBy| Spelling { text: text.clone().into_owned(), nodes: nodes.clone() };
            FacetConflict { attribute: self.facet.clone(), spellings: spellings.map(spelling).collect() }
        };
        listed.iter().filter(is_open).map(conflict).collect()
    }
}

fn read(answer: &[u8]) -> Result<NodeAnswer<'_>, Malformed> {
    serde_json::from_slice(answer).map_err(|error| Malformed { at: error.column() })
}

/// The first values of several lists that are each in the order in which Meilisearch comes upon values. That order
/// is known for sure only within a list, so it goes before what the values themselves tell.
fn first_of_all(values: &mut [Found], lists: &[Vec<usize>], wanted: usize) -> Vec<usize> {
    let mut lists: Vec<std::iter::Peekable<std::slice::Iter<usize>>> =
        lists.iter().map(|list| list.iter().peekable()).collect();
    let mut order = Vec::new();
    while order.len() < wanted {
        let heads: Vec<usize> =
            lists.iter_mut().filter_map(|list| list.peek().map(|index| **index)).collect();
        // What another list has further on cannot be next, unless lists contradict each other.
        let waits = |index: usize| {
            let ahead = heads.iter().filter(|head| **head == index).count();
            values.get(index).is_some_and(|found| found.lists > ahead)
        };
        let place = |index: usize| values.get(index).map(|found| &found.place);
        let next = heads.iter().copied().min_by(|left, right| {
            waits(*left).cmp(&waits(*right)).then_with(|| place(*left).cmp(&place(*right)))
        });
        let Some(next) = next else { break };
        order.push(next);
        if let Some(found) = values.get_mut(next) {
            found.is_listed = true;
        }
        let is_listed = |index: &usize| values.get(*index).is_none_or(|found| found.is_listed);
        lists.iter_mut().for_each(|list| while list.next_if(|index| is_listed(index)).is_some() {});
    }
    order
}

/// The most frequent values, the first of them first. Of equals, those that Meilisearch comes upon last stay, and
/// are shown from the last to the first by their text.
fn most_frequent<'f>(values: &'f [Found], wanted: usize, shown: impl Fn(&'f Found) -> &'f str) -> Vec<usize> {
    let mut by_place: Vec<(usize, &Found)> = values.iter().enumerate().collect();
    by_place.sort_unstable_by(|(_, left), (_, right)| left.place.cmp(&right.place));
    let mut best: BTreeSet<(u64, &str, usize)> = BTreeSet::new();
    for (index, found) in by_place {
        if best.len() >= wanted {
            match best.first() {
                Some((worst, _, _)) if *worst <= found.count => best.pop_first(),
                _ => continue,
            };
        }
        best.insert((found.count, shown(found), index));
    }
    best.into_iter().rev().map(|(_, _, index)| index).collect()
}

/// The form in which Meilisearch looks a normalised value up when there is a text to look for, as far as it can be
/// told without its dictionaries: right for the Latin alphabet, which leaves other scripts as they are.
fn searched_form(normalised: &str) -> String {
    let mut form = String::with_capacity(normalised.len());
    for character in normalised.chars() {
        match character {
            'œ' => form.push_str("oe"),
            'æ' => form.push_str("ae"),
            'ı' => form.push('i'),
            '‘' | '’' | '‛' => form.push('\''),
            _ if is_combining_mark(character) => {}
            _ if character.is_control() && !character.is_whitespace() => {}
            _ => form.push(character),
        }
    }
    form
}
