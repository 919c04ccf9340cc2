//! The documents and the searches, made from a seed, the same for everybody.

use miroir_core::search::{Depth, SearchPlan, SearchSettings};
use miroir_testkit::corpus::{Corpus, catalogue};
use miroir_testkit::profile::Profile;
use miroir_testkit::request::{Generator, Kind, SearchRequest};
use serde_json::{Value, json};

use crate::connection::Part;
use crate::options::Options;
use crate::subject::{Route, Subject};

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
pub struct Workload {
    /// The index's settings.
    pub settings: Value,
    /// Bodies of documents, in the order to send them.
    pub batches: Vec<Vec<u8>>,
    /// The searches.
    pub searches: Vec<SearchRequest>,
    corpus: Corpus,
}

impl Workload {
    /// The workload of a seed.
    pub fn generate(options: &Options) -> Self {
        let mut corpus = catalogue(options.seed, options.documents);
        // Few indexes have vectors, and those of the corpus are there to be right about, not to be fast with.
        corpus.vector_dimensions = 0;
        for document in &mut corpus.documents {
            document.as_object_mut().map(|fields| fields.shift_remove("_vectors"));
        }
        let mut settings = Profile::Default.settings(&corpus);
        settings.as_object_mut().map(|fields| fields.shift_remove("searchCutoffMs"));
        let batches = corpus
            .documents
            .chunks(options.batch)
            .map(|batch| serde_json::to_vec(batch).expect("documents are JSON"))
            .collect();
        let searches = searches(&corpus, options);
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

    /// The searches as a subject is sent them: one part, or for the floor as many as Miroir would send to its nodes.
    pub fn parts(&self, subject: Subject, route: &Route) -> Vec<Vec<Part>> {
        let path = format!("/indexes/{INDEX}/search");
        let settings = SearchSettings::from_settings(&self.settings);
        let of_search = |search: &SearchRequest| {
            let body = serde_json::to_vec(&search.body).expect("a search is JSON");
            let bodies = match subject {
                Subject::FloorOne => vec![plan(&body, &settings).body_alone(None)],
                Subject::FloorThree => {
                    plan(&body, &settings).bodies(None, Depth::Likely { share: 1.0 / 3.0 })
                }
                _ => vec![body],
            };
            let calls =
                route.addresses.iter().flat_map(|address| bodies.iter().map(move |body| (address, body)));
            calls.map(|(address, body)| Part::post(address, &path, route.key, body)).collect()
        };
        self.searches.iter().map(of_search).collect()
    }
}

fn searches(corpus: &Corpus, options: &Options) -> Vec<SearchRequest> {
    let mut generator = Generator::new(corpus, options.seed);
    std::iter::repeat_with(|| generator.next_request())
        .filter(|request| MIX.contains(&request.kind))
        .take(options.searches)
        .collect()
}

fn plan(body: &[u8], settings: &SearchSettings) -> SearchPlan {
    SearchPlan::new(body, settings).unwrap_or_else(|_| {
        panic!("Miroir would refuse a generated search: {}", String::from_utf8_lossy(body))
    })
}
