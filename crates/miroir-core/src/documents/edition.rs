//! What a function did to documents: the documents as it sees them, and which of them it changed or dropped.
//!
//! A function sees what its author wrote: no hidden fields, and of `_vectors` what no embedder took. Of what comes
//! back, only documents that are not what they were are written again.

use std::collections::HashMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_128;

use super::stored::{Fields, stored_id};
use crate::hidden::is_reserved;

const VECTORS: &str = "_vectors";

/// The documents that a function is applied to.
#[derive(Debug)]
pub struct Edition<'a> {
    primary_key: &'a str,
    embedders: Vec<&'a str>,
    /// Id to what tells the content before from another.
    before: HashMap<String, u128>,
    changed: Vec<u8>,
}

/// What a function did.
#[derive(Debug, PartialEq, Eq)]
pub struct Edited {
    /// The documents that are not what they were, a line each.
    pub changed: Vec<u8>,
    /// Ids of those that are not to be any more.
    pub dropped: Vec<String>,
}

impl<'a> Edition<'a> {
    /// No documents yet, of an index with this primary key and these settings.
    pub fn new(primary_key: &'a str, settings: &'a Value) -> Self {
        let embedders = settings.get("embedders").and_then(Value::as_object).into_iter().flatten();
        let embedders = embedders.map(|(name, _)| name.as_str()).collect();
        Self { primary_key, embedders, before: HashMap::new(), changed: Vec::new() }
    }

    /// Adds documents as they are stored. Returns them as the function is to see them, as a list.
    pub fn add(&mut self, documents: &[Box<RawValue>]) -> Result<Vec<u8>, serde_json::Error> {
        let mut list = Vec::new();
        for document in documents {
            let mut fields = fields_of(document)?;
            fields.retain(|name, _| !is_reserved(name));
            if let Some(Value::Object(vectors)) = fields.get_mut(VECTORS) {
                vectors.retain(|name, _| !self.embedders.contains(&name.as_str()));
            }
            without_empty_vectors(&mut fields);
            let Some(id) = id_of(document, self.primary_key)? else { continue };
            list.push(if list.is_empty() { b'[' } else { b',' });
            serde_json::to_writer(&mut list, &fields)?;
            self.before.insert(id, content(fields));
        }
        list.push(if list.is_empty() { b'[' } else { b' ' });
        list.push(b']');
        Ok(list)
    }

    /// How many documents there are.
    pub fn len(&self) -> usize {
        self.before.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.before.is_empty()
    }

    /// Takes documents as the function left them. Returns how many bytes of changed ones there are by now.
    pub fn take(&mut self, documents: &[Box<RawValue>]) -> Result<usize, serde_json::Error> {
        for document in documents {
            let Some(id) = id_of(document, self.primary_key)? else { continue };
            let mut fields = fields_of(document)?;
            without_empty_vectors(&mut fields);
            let line = serde_json::to_vec(&fields)?;
            if self.before.remove(&id) != Some(content(fields)) {
                self.changed.extend_from_slice(&line);
                self.changed.push(b'\n');
            }
        }
        Ok(self.changed.len())
    }

    /// What the function did, once all documents that it left were taken.
    pub fn finish(self) -> Edited {
        let mut dropped: Vec<String> = self.before.into_keys().collect();
        dropped.sort_unstable();
        Edited { changed: self.changed, dropped }
    }
}

fn fields_of(document: &RawValue) -> Result<Map<String, Value>, serde_json::Error> {
    serde_json::from_str(document.get())
}

fn id_of(document: &RawValue, primary_key: &str) -> Result<Option<String>, serde_json::Error> {
    let fields: Fields<'_> = serde_json::from_str(document.get())?;
    Ok(stored_id(&fields, primary_key))
}

/// A node that is asked for vectors shows that there are none.
fn without_empty_vectors(fields: &mut Map<String, Value>) {
    if fields.get(VECTORS).and_then(Value::as_object).is_some_and(Map::is_empty) {
        fields.shift_remove(VECTORS);
    }
}

fn content(fields: Map<String, Value>) -> u128 {
    let mut document = Value::Object(fields);
    document.sort_all_objects();
    xxh3_128(document.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn raw(documents: &[Value]) -> Vec<Box<RawValue>> {
        documents.iter().map(|document| RawValue::from_string(document.to_string()).unwrap()).collect()
    }

    #[test]
    fn a_function_sees_what_its_author_wrote() {
        let settings = json!({ "embedders": { "mine": { "source": "userProvided" } } });
        let mut edition = Edition::new("id", &settings);
        let shown = edition.add(&raw(&[
            json!({ "id": 1, "_miroir_shard": "!", "t": 1.0, "_vectors": { "mine": { "embeddings": [[1.0]] } } }),
            json!({ "id": "b", "_vectors": { "other": [1], "mine": null } }),
            json!({ "no": "id" }),
        ]));
        let shown: Value = serde_json::from_slice(&shown.unwrap()).unwrap();
        assert_eq!(shown, json!([{ "id": 1, "t": 1.0 }, { "id": "b", "_vectors": { "other": [1] } }]));
        assert_eq!(edition.len(), 2);
        assert_eq!(Edition::new("id", &settings).add(&[]).unwrap(), b"[]");
    }

    #[test]
    fn only_what_was_changed_is_written_again() {
        let settings = json!({});
        let mut edition = Edition::new("key.id", &settings);
        let document = |id: u64, t: Value| json!({ "key": { "id": id, "x": 1 }, "t": t });
        edition.add(&raw(&[document(1, json!(1)), document(2, json!(2)), document(3, json!(3))])).unwrap();
        // The first comes back with its fields in another order, which is no change.
        let same = json!({ "t": 1, "_vectors": {}, "key": { "x": 1, "id": 1 } });
        edition.take(&raw(&[same])).unwrap();
        edition.take(&raw(&[document(3, json!(3.0))])).unwrap();
        let Edited { changed, dropped } = edition.finish();
        assert_eq!(String::from_utf8(changed).unwrap(), format!("{}\n", document(3, json!(3.0))));
        assert_eq!(dropped, ["2"]);
    }
}
