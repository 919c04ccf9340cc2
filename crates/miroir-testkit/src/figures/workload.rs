//! The documents and the searches, made from a seed, the same for everybody.

use serde_json::{Value, json};

use crate::corpus::{Corpus, catalogue};
use crate::profile::Profile;
use crate::request::{Generator, Kind, SearchRequest};

/// The index everything happens in.
pub const INDEX: &str = "catalogue";

/// What people search most, in equal parts.
const MIX: [Kind; 11] = [
    Kind::Word,
    Kind::Words,
    Kind::Prefix,
    Kind::Typo,
    Kind::Phrase,
    Kind::FilterCompare,
    Kind::FilterText,
    Kind::SortNumber,
    Kind::SortText,
    Kind::Facets,
    Kind::Placeholder,
];

/// Everything the servers are given.
#[derive(Debug)]
pub struct Workload {
    /// The index's settings.
    pub settings: Value,
    /// Bodies of documents, in the order to send them.
    pub batches: Vec<Vec<u8>>,
    /// The searches.
    pub searches: Vec<SearchRequest>,
    /// The documents themselves.
    pub corpus: Corpus,
}

impl Workload {
    /// The workload of a seed: so many documents in bodies of `batch`, and so many searches.
    pub fn generate(seed: u64, documents: usize, batch: usize, searches: usize) -> Self {
        Self::of(catalogue(seed, documents), seed, batch, searches)
    }

    /// The same of documents without `_geo`. Meilisearch 1.21 writes the places of all documents of an index anew in
    /// every batch, however few it changes (its progress trace calls that "writing geo points").
    pub fn without_places(seed: u64, documents: usize, batch: usize, searches: usize) -> Self {
        let mut corpus = catalogue(seed, documents);
        corpus.has_geo = false;
        for document in &mut corpus.documents {
            document.as_object_mut().map(|fields| fields.shift_remove("_geo"));
        }
        Self::of(corpus, seed, batch, searches)
    }

    fn of(mut corpus: Corpus, seed: u64, batch: usize, searches: usize) -> Self {
        // Few indexes have vectors, and those of the corpus are there to be right about, not to be fast with.
        corpus.vector_dimensions = 0;
        for document in &mut corpus.documents {
            document.as_object_mut().map(|fields| fields.shift_remove("_vectors"));
        }
        let mut settings = Profile::Default.settings(&corpus);
        settings.as_object_mut().map(|fields| fields.shift_remove("searchCutoffMs"));
        let batches = corpus
            .documents
            .chunks(batch)
            .map(|batch| serde_json::to_vec(batch).expect("documents are JSON"))
            .collect();
        let searches = generate_searches(&corpus, seed, searches);
        Self { settings, batches, searches, corpus }
    }

    /// One array of other documents, as many as go into so many bytes.
    pub fn large_body(&self, bytes: usize) -> (Vec<u8>, usize) {
        let mut body = Vec::with_capacity(bytes);
        for (number, document) in self.corpus.documents.iter().cycle().enumerate() {
            let mut document = document.clone();
            document[self.corpus.primary_key] = json!(number);
            let written = serde_json::to_vec(&document).expect("a document is JSON");
            if body.len() + written.len() + 2 > bytes {
                body.push(b']');
                return (body, number);
            }
            body.push(if number == 0 { b'[' } else { b',' });
            body.extend_from_slice(&written);
        }
        unreachable!("a corpus is not empty")
    }
}

fn generate_searches(corpus: &Corpus, seed: u64, count: usize) -> Vec<SearchRequest> {
    let mut generator = Generator::new(corpus, seed);
    std::iter::repeat_with(|| generator.next_request())
        .filter(|request| MIX.contains(&request.kind))
        .take(count)
        .collect()
}
