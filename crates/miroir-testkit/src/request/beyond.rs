//! Generated requests that are more than one search, or none: several at once, one list of several, similar documents.

use serde_json::{Value, json};

use super::{Generator, Kind, SearchRequest};

/// What queries of one request are made of: kinds whose answers have to be equal.
const QUERIES: [Kind; 5] =
    [Kind::Word, Kind::Phrase, Kind::FilterCompare, Kind::FilterText, Kind::Placeholder];

impl Generator<'_> {
    /// With dice of its own, so that the searches between are what they would be without.
    pub(super) fn beyond_search(&mut self, kind: Kind) -> SearchRequest {
        std::mem::swap(&mut self.dice, &mut self.other_dice);
        let body = match kind {
            Kind::Similar => self.similar(),
            Kind::MultiSearch => json!({ "queries": self.queries() }),
            _ => self.federated(),
        };
        std::mem::swap(&mut self.dice, &mut self.other_dice);
        SearchRequest { kind, body }
    }

    fn queries(&mut self) -> Vec<Value> {
        (0..self.dice.between(1, 4))
            .map(|_| {
                let kind = *self.dice.pick(&QUERIES);
                self.body(kind)
            })
            .collect()
    }

    fn federated(&mut self) -> Value {
        let mut queries = self.queries();
        for query in &mut queries {
            if let Some(parameters) = query.as_object_mut() {
                parameters.remove("limit");
            }
            if self.dice.once_in(2) {
                query["federationOptions"] = json!({ "weight": *self.dice.pick(&[0.5, 0.75, 1.0, 1.5]) });
            }
        }
        let (offset, limit) = (self.dice.between(0, 10), self.dice.between(1, 40));
        json!({ "federation": { "offset": offset, "limit": limit }, "queries": queries })
    }

    fn similar(&mut self) -> Value {
        let with_vector: Vec<&Value> = self
            .corpus
            .documents
            .iter()
            .filter(|document| document["_vectors"]["manual"].is_array())
            .collect();
        let document = *self.dice.pick(&with_vector);
        let mut body = json!({ "id": document[self.corpus.primary_key], "embedder": "manual" });
        if self.dice.once_in(2) {
            body["limit"] = json!(self.dice.between(1, 40));
        }
        if self.dice.once_in(3) {
            body["offset"] = json!(self.dice.between(0, 15));
        }
        if self.dice.once_in(3) {
            body["filter"] = self.comparison();
        }
        if self.dice.once_in(3) {
            body["rankingScoreThreshold"] = json!(self.dice.between(40, 60) as f64 / 100.0);
        }
        if self.dice.once_in(3) {
            body["showRankingScore"] = json!(true);
        }
        body
    }
}
