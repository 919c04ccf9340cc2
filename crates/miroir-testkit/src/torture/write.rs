//! The writes of one client, drawn from the seed, and what each does to a document.
//!
//! Each client has ids of its own, scattered among those of the others, so that the order of the writes to one
//! document is known. A lot is a few of a client's ids, for good: deleting by filter takes a whole lot.

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::corpus::{Dice, Vocabulary};

/// Ids from here on belong to documents that are never changed.
pub const FIRST_SEALED: u64 = 500_000;
/// Ids of a client in one lot.
/// Words that may become stop words; no synonyms are made of them.
const STOP_WORDS: [&str; 4] = ["the", "of", "from", "and"];
const LOT: u64 = 12;
/// Most documents in one write.
const BATCH: usize = 30;
const CATEGORIES: [&str; 6] = ["tool", "book", "song", "plant", "stone", "lamp"];
const WORDS: usize = 400;

/// A document as clients see it.
pub type Document = Map<String, Value>;

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// `POST` of whole documents.
    Replace(Vec<Document>),
    /// `PUT` of some of the fields.
    Update(Vec<Document>),
    /// `DELETE` of one.
    DeleteOne(u64),
    /// `delete-batch`.
    DeleteBatch(Vec<u64>),
    /// By filter: a lot, and the ids that are in it.
    DeleteLot(String, Vec<u64>),
    /// `PATCH` of settings.
    Settings(Value),
}

impl Write {
    /// As the report names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Replace(_) => "add or replace",
            Self::Update(_) => "update",
            Self::DeleteOne(_) => "delete one",
            Self::DeleteBatch(_) => "delete batch",
            Self::DeleteLot(..) => "delete by filter",
            Self::Settings(_) => "settings",
        }
    }

    /// Method, path and body.
    pub fn request(&self, index: &str) -> (Method, String, Option<Value>) {
        let documents = format!("/indexes/{index}/documents");
        match self {
            Self::Replace(batch) => (Method::POST, documents, Some(json!(batch))),
            Self::Update(batch) => (Method::PUT, documents, Some(json!(batch))),
            Self::DeleteOne(id) => (Method::DELETE, format!("{documents}/{id}"), None),
            Self::DeleteBatch(ids) => (Method::POST, format!("{documents}/delete-batch"), Some(json!(ids))),
            Self::DeleteLot(lot, _) => {
                let filter = json!({ "filter": format!("lot = {lot}") });
                (Method::POST, format!("{documents}/delete"), Some(filter))
            }
            Self::Settings(change) => {
                (Method::PATCH, format!("/indexes/{index}/settings"), Some(change.clone()))
            }
        }
    }

    /// The documents it may change.
    pub fn ids(&self) -> Vec<u64> {
        match self {
            Self::Replace(batch) | Self::Update(batch) => batch.iter().filter_map(id_of).collect(),
            Self::DeleteOne(id) => vec![*id],
            Self::DeleteBatch(ids) | Self::DeleteLot(_, ids) => ids.clone(),
            Self::Settings(_) => Vec::new(),
        }
    }

    /// What becomes of one of its documents.
    pub fn effect(&self, id: u64, before: Option<Document>) -> Option<Document> {
        match self {
            Self::Replace(batch) => find(batch, id).cloned(),
            Self::Update(batch) => {
                let mut merged = before.unwrap_or_default();
                merged.extend(find(batch, id).cloned().unwrap_or_default());
                Some(merged)
            }
            Self::DeleteOne(_) | Self::DeleteBatch(_) | Self::DeleteLot(..) => None,
            Self::Settings(_) => before,
        }
    }
}

fn find(batch: &[Document], id: u64) -> Option<&Document> {
    batch.iter().find(|document| id_of(document) == Some(id))
}

/// The id of a document.
pub fn id_of(document: &Document) -> Option<u64> {
    document.get("id").and_then(Value::as_u64)
}

/// The lot of an id.
pub fn lot_of(id: u64, clients: u64) -> String {
    format!("c{}x{}", id % clients, id / clients / LOT)
}

/// A word that only this version of this document has. All are of one length, so that none begins another.
fn unique_word(id: u64, version: u64) -> String {
    let letters = |mut number: u64, width: usize| -> String {
        let mut text = vec![0; width];
        for place in text.iter_mut().rev() {
            *place = b'a' + (number % 26) as u8;
            number /= 26;
        }
        text.into_iter().map(char::from).collect()
    };
    format!("zq{}{}", letters(id, 5), letters(version, 5))
}

/// What settings the index starts with. What the checks rely on is never changed: the filters, the sort, and that
/// unique words are found without typos.
pub fn first_settings() -> Value {
    json!({
        "filterableAttributes": ["id", "lot", "sealed", "category", "price"],
        "sortableAttributes": ["rank", "price"],
        "searchableAttributes": ["title", "word", "note"],
        "typoTolerance": { "disableOnAttributes": ["word"] },
        "pagination": { "maxTotalHits": 5_000 },
        "searchCutoffMs": 30_000,
    })
}

/// The writes of one client, without an end.
#[derive(Debug)]
pub struct Writes {
    dice: Dice,
    vocabulary: Vocabulary,
    client: u64,
    clients: u64,
    ids: u64,
    version: u64,
    changes_settings: bool,
}

impl Writes {
    /// The writes to documents of client `client` of `clients`, which has `ids` ids.
    pub fn to_documents(seed: u64, client: u64, clients: u64, ids: u64) -> Self {
        let mut dice = Dice::new(seed ^ (client + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let vocabulary = Vocabulary::generate(&mut dice, WORDS);
        Self { dice, vocabulary, client, clients, ids, version: 0, changes_settings: false }
    }

    /// The writes of the client that changes settings.
    pub fn to_settings(seed: u64) -> Self {
        Self { changes_settings: true, ..Self::to_documents(seed, u64::MAX - 1, 1, 1) }
    }

    /// Documents that no client changes afterwards.
    pub fn sealed(seed: u64, count: u64) -> Vec<Document> {
        let mut writes = Self::to_documents(seed, 0, 1, count);
        (0..count)
            .map(|number| {
                let mut document = writes.document(FIRST_SEALED + number);
                document.insert("sealed".to_owned(), json!(true));
                document
            })
            .collect()
    }

    fn id(&mut self) -> u64 {
        self.dice.below(self.ids as usize) as u64 * self.clients + self.client
    }

    fn some_ids(&mut self) -> Vec<u64> {
        let count = 1 + self.dice.zipf(BATCH);
        let mut ids: Vec<u64> = (0..count).map(|_| self.id()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// What every version of a document has, whole or not, so that an update that makes a document can be found too.
    fn core(&self, id: u64) -> Document {
        let core = json!({
            "id": id,
            "lot": lot_of(id, self.clients),
            "sealed": false,
            "version": self.version,
            "rank": id + self.version * 1_000_000,
            "word": unique_word(id, self.version),
        });
        core.as_object().cloned().unwrap_or_default()
    }

    fn document(&mut self, id: u64) -> Document {
        let words = 2 + self.dice.below(8);
        let mut document = self.core(id);
        document.insert("title".to_owned(), json!(self.vocabulary.text(&mut self.dice, words)));
        document.insert("category".to_owned(), json!(self.dice.pick(&CATEGORIES)));
        if !self.dice.once_in(5) {
            document.insert("price".to_owned(), json!(self.dice.below(50)));
        }
        document
    }

    fn part(&mut self, id: u64) -> Document {
        let mut document = self.core(id);
        match self.dice.below(3) {
            0 => document.insert("note".to_owned(), json!(self.vocabulary.text(&mut self.dice, 4))),
            1 => document.insert("price".to_owned(), json!(self.dice.below(50))),
            _ => {
                document.insert("details".to_owned(), json!({ "seen": self.version, "list": [1, null, "x"] }))
            }
        };
        document
    }

    fn settings(&mut self) -> Value {
        // Meilisearch drops a synonym of a stop word, and does not pick it up again when the word is one no longer:
        // what it does then depends on the order of the changes, which the settings do not tell.
        let word = |writes: &mut Self| loop {
            let word = writes.vocabulary.word(&mut writes.dice);
            if !STOP_WORDS.contains(&word) {
                return word.to_owned();
            }
        };
        match self.dice.below(6) {
            0 => json!({ "stopWords": ["the", STOP_WORDS[self.dice.below(STOP_WORDS.len())]] }),
            1 => json!({ "synonyms": { word(self): [word(self)], word(self): [word(self)] } }),
            2 => json!({ "typoTolerance": {
                "minWordSizeForTypos": { "oneTypo": 4 + self.dice.below(3), "twoTypos": 8 + self.dice.below(3) },
            } }),
            3 => json!({ "pagination": { "maxTotalHits": 5_000 + self.dice.below(100) } }),
            4 => json!({ "sortableAttributes": (if self.dice.once_in(2) {
                json!(["rank", "price", "version"])
            } else {
                json!(["rank", "price"])
            }) }),
            _ => json!({ "rankingRules": (if self.dice.once_in(2) {
                json!(["words", "typo", "proximity", "attribute", "sort", "exactness"])
            } else {
                json!(["sort", "words", "typo", "proximity", "attribute", "exactness", "price:desc"])
            }) }),
        }
    }
}

impl Iterator for Writes {
    type Item = Write;

    fn next(&mut self) -> Option<Write> {
        if self.changes_settings {
            return Some(Write::Settings(self.settings()));
        }
        self.version += 1;
        Some(match self.dice.below(20) {
            0..=8 => {
                let ids = self.some_ids();
                Write::Replace(ids.into_iter().map(|id| self.document(id)).collect())
            }
            9..=14 => {
                let ids = self.some_ids();
                Write::Update(ids.into_iter().map(|id| self.part(id)).collect())
            }
            15..=16 => Write::DeleteOne(self.id()),
            17..=18 => Write::DeleteBatch(self.some_ids()),
            _ => {
                let lot = lot_of(self.id(), self.clients);
                let all = (0..self.ids).map(|number| number * self.clients + self.client);
                let ids = all.filter(|id| lot_of(*id, self.clients) == lot).collect();
                Write::DeleteLot(lot, ids)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_means_the_same_writes_every_time() {
        let writes = |seed| Writes::to_documents(seed, 1, 3, 100).take(100).collect::<Vec<_>>();
        assert_eq!(writes(1), writes(1));
        assert_ne!(writes(1), writes(2));
    }

    #[test]
    fn clients_never_touch_each_others_documents() {
        let touched = |client| -> BTreeSet<u64> {
            Writes::to_documents(1, client, 3, 100).take(300).flat_map(|write| write.ids()).collect()
        };
        assert!(touched(0).is_disjoint(&touched(1)) && touched(1).is_disjoint(&touched(2)));
    }

    #[test]
    fn an_update_keeps_what_it_does_not_name() {
        let before = json!({ "id": 1, "title": "kept", "note": "old" }).as_object().cloned();
        let part = json!({ "id": 1, "note": "new" }).as_object().cloned();
        let write = Write::Update(part.into_iter().collect());
        let after = json!({ "id": 1, "title": "kept", "note": "new" });
        assert_eq!(write.effect(1, before).map(Value::Object), Some(after));
    }
}
