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
