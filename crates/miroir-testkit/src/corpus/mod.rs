//! Documents to index: generated ones that hold every oddity worth fearing, and a real data set.

mod catalogue;
mod dice;
mod movies;
mod words;

use serde_json::Value;

pub use catalogue::{catalogue, vector};
pub use dice::Dice;
pub use movies::movies;
pub use words::{Vocabulary, misspell};

/// Documents, and what a request generator has to know about their fields.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// Name, as in the fidelity table.
    pub name: &'static str,
    /// The field that identifies a document.
    pub primary_key: &'static str,
    /// The documents in the order to insert them.
    pub documents: Vec<Value>,
    /// Fields of text worth searching.
    pub text_fields: &'static [&'static str],
    /// Fields mostly of numbers.
    pub number_fields: &'static [&'static str],
    /// Fields of few different values.
    pub category_fields: &'static [&'static str],
    /// Fields whose values are each written in one way and of one type.
    pub plain_facets: &'static [&'static str],
    /// Fields where values differ in capitals or accents only.
    pub spelling_facets: &'static [&'static str],
    /// Fields where a number and a text look alike.
    pub mixed_facets: &'static [&'static str],
    /// A field with many values of equal counts; the explicit profile orders them by count.
    pub count_facet: &'static str,
    /// Fields to sort by, of every kind of value.
    pub sort_fields: &'static [&'static str],
    /// Fields to be distinct by.
    pub distinct_fields: &'static [&'static str],
    /// Whether some documents have `_geo`.
    pub has_geo: bool,
    /// Length of the vectors of the embedder `manual`; zero when the documents have none.
    pub vector_dimensions: usize,
}

/// The value at a path such as `category.main`, where an object's field may itself have a dotted name.
pub fn value_at<'document>(document: &'document Value, path: &str) -> Option<&'document Value> {
    if let Some(value) = document.get(path) {
        return Some(value);
    }
    path.match_indices('.').find_map(|(dot, _)| value_at(document.get(&path[..dot])?, &path[dot + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Generator, Kind};

    #[test]
    fn a_seed_means_the_same_documents_and_requests_every_time() {
        let (one, other, third) = (catalogue(3, 200), catalogue(3, 200), catalogue(4, 200));
        assert_eq!(one.documents, other.documents);
        assert_ne!(one.documents, third.documents);
        let requests = |corpus: &Corpus, seed| {
            let mut generator = Generator::new(corpus, seed);
            (0..200).map(|_| generator.next_request().body).collect::<Vec<Value>>()
        };
        assert_eq!(requests(&one, 1), requests(&other, 1));
        assert_ne!(requests(&one, 1), requests(&one, 2));
    }

    #[test]
    fn every_kind_of_request_is_generated() {
        let corpus = catalogue(3, 200);
        let mut generator = Generator::new(&corpus, 1);
        let kinds: std::collections::BTreeSet<Kind> =
            (0..Kind::ALL.len()).map(|_| generator.next_request().kind).collect();
        assert_eq!(kinds.len(), Kind::ALL.len());
    }

    #[test]
    fn the_catalogue_has_the_oddities_it_promises() {
        let corpus = catalogue(3, 500);
        let prices: Vec<Option<&Value>> =
            corpus.documents.iter().map(|document| document.get("price")).collect();
        assert!(prices.contains(&None) && prices.contains(&Some(&Value::Null)));
        assert!(prices.iter().flatten().any(|price| price.is_string()));
        assert!(prices.iter().flatten().any(|price| price.is_f64()));
        let ids: std::collections::HashSet<String> =
            corpus.documents.iter().map(|document| document["id"].to_string().replace('"', "")).collect();
        assert_eq!(ids.len(), corpus.documents.len());
    }
}
