//! What the documents must be, by the writes that were acknowledged.
//!
//! A document is settled when no write to it is on its way: then there is one right answer, and every read must
//! give it. Of a document that is not settled nothing is asked.

use std::collections::BTreeMap;

use serde_json::Value;

use super::write::{Document, Write, id_of};

/// One document.
#[derive(Debug, Default)]
struct State {
    /// After all writes that have ended; `None` when there is no such document.
    content: Option<Document>,
    /// Writes that have begun and not ended.
    on_their_way: usize,
    /// Grows with every beginning and end of a write: equal numbers mean that nothing happened in between.
    changes: u64,
    /// What it would be had the writes that failed been done, and the failed task.
    doubt: Option<(u64, Option<Document>)>,
}

/// What one settled document must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// Its id.
    pub id: u64,
    /// What it must be; `None` when it must not be there.
    pub content: Option<Document>,
    /// When the failed task named here was done all the same, it is this.
    pub doubt: Option<(u64, Option<Document>)>,
    changes: u64,
}

/// All documents and settings.
#[derive(Debug, Default)]
pub struct Model {
    documents: BTreeMap<u64, State>,
    settings: Vec<Value>,
}

impl Model {
    /// Adds documents that are there from the start.
    pub fn seal(&mut self, documents: &[Document]) {
        for document in documents {
            let Some(id) = id_of(document) else { continue };
            let state = State { content: Some(document.clone()), ..State::default() };
            self.documents.insert(id, state);
        }
    }

    /// A write is about to be sent.
    pub fn begin(&mut self, write: &Write) {
        for id in write.ids() {
            let state = self.documents.entry(id).or_default();
            state.on_their_way += 1;
            state.changes += 1;
        }
    }

    /// A write has ended. To be called in the order in which a client sent its writes.
    pub fn end(&mut self, write: &Write, task: u64, succeeded: bool) {
        for id in write.ids() {
            let state = self.documents.entry(id).or_default();
            state.on_their_way -= 1;
            state.changes += 1;
            if succeeded {
                state.content = write.effect(id, state.content.take());
                // Only an update leaves something of what was before.
                state.doubt = match (state.doubt.take(), write) {
                    (Some((task, doubt)), Write::Update(_)) => Some((task, write.effect(id, doubt))),
                    _ => None,
                };
            } else {
                state.doubt = Some((task, write.effect(id, state.content.clone())));
            }
        }
        if let Write::Settings(change) = write
            && succeeded
        {
            self.settings.push(change.clone());
        }
    }

    fn expected(id: u64, state: &State) -> Expected {
        Expected { id, content: state.content.clone(), doubt: state.doubt.clone(), changes: state.changes }
    }

    /// What these documents must be; unsettled ones are left out.
    pub fn settled(&self, ids: impl IntoIterator<Item = u64>) -> Vec<Expected> {
        let states = ids.into_iter().filter_map(|id| Some((id, self.documents.get(&id)?)));
        states
            .filter(|(_, state)| state.on_their_way == 0)
            .map(|(id, state)| Self::expected(id, state))
            .collect()
    }

    /// Whether nothing has happened to the document since it was told what it must be.
    pub fn still_holds(&self, expected: &Expected) -> bool {
        self.documents.get(&expected.id).is_some_and(|state| state.changes == expected.changes)
    }

    /// Every id that was ever written.
    pub fn ids(&self) -> Vec<u64> {
        self.documents.keys().copied().collect()
    }

    /// The documents that must be there, for filling a server with.
    pub fn documents(&self) -> Vec<Document> {
        self.documents.values().filter_map(|state| state.content.clone()).collect()
    }

    /// The settings changes that have been carried out, in order.
    pub fn settings(&self) -> &[Value] {
        &self.settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_judged_only_between_writes() {
        let (mut model, mut id) = (Model::default(), 0);
        let mut writes = super::super::write::Writes::to_documents(1, 0, 1, 50);
        let write = writes.find(|write| matches!(write, Write::Replace(_))).unwrap();
        id += write.ids()[0];
        model.begin(&write);
        assert!(model.settled([id]).is_empty());
        model.end(&write, 1, true);
        let expected = model.settled([id]).remove(0);
        assert!(expected.content.is_some() && model.still_holds(&expected));
        let deletion = Write::DeleteOne(id);
        model.begin(&deletion);
        assert!(!model.still_holds(&expected));
        model.end(&deletion, 2, false);
        let failed = model.settled([id]).remove(0);
        assert_eq!((failed.content, failed.doubt), (expected.content, Some((2, None))));
    }
}
