//! The single-node oracle: one real Meilisearch beside the server under test. Both are told the same; both must
//! answer the same.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::cluster::{Cluster, MASTER_KEY, Shape};
use crate::compare::{Difference, INCIDENTAL_TO_SEARCH, INCIDENTAL_TO_TASKS, compare_answers};
use crate::corpus::Corpus;
use crate::process::MeilisearchProcess;
use crate::profile::Profile;
use crate::request::{Generator, SearchRequest};
use crate::tally::Tally;

/// Documents sent in one request.
const BATCH: usize = 700;

/// What is compared with the single Meilisearch.
#[derive(Debug)]
pub enum Subject {
    /// Miroir over several nodes: what the tests are for.
    Cluster(Box<Cluster>),
    /// Another single Meilisearch: what the tests themselves are tested with.
    Meilisearch(Box<MeilisearchProcess>),
}

/// A single Meilisearch and the server compared with it.
#[derive(Debug)]
pub struct Oracle {
    /// The single Meilisearch, which is right by definition.
    pub reference: MeilisearchProcess,
    /// The server under test.
    pub subject: Subject,
}

impl Oracle {
    /// A Miroir of some shape beside a single Meilisearch.
    pub async fn start(shape: Shape) -> Self {
        let (reference, cluster) =
            tokio::join!(MeilisearchProcess::start(Some(MASTER_KEY)), Cluster::start(shape));
        Self { reference, subject: Subject::Cluster(Box::new(cluster)) }
    }

    /// A running cluster beside a single Meilisearch.
    pub async fn with_cluster(cluster: Cluster) -> Self {
        let reference = MeilisearchProcess::start(Some(MASTER_KEY)).await;
        Self { reference, subject: Subject::Cluster(Box::new(cluster)) }
    }

    /// Two single Meilisearch: they must never differ, or the tests are wrong.
    pub async fn against_itself() -> Self {
        let (reference, other) = tokio::join!(
            MeilisearchProcess::start(Some(MASTER_KEY)),
            MeilisearchProcess::start(Some(MASTER_KEY))
        );
        Self { reference, subject: Subject::Meilisearch(Box::new(other)) }
    }

    /// A client for the single Meilisearch.
    pub fn reference_client(&self) -> &Client {
        self.reference.client()
    }

    /// A client for the server under test.
    pub fn subject_client(&self) -> &Client {
        match &self.subject {
            Subject::Cluster(cluster) => cluster.client(),
            Subject::Meilisearch(process) => process.client(),
        }
    }

    /// The cluster under test; panics when there is none.
    pub fn cluster(&mut self) -> &mut Cluster {
        match &mut self.subject {
            Subject::Cluster(cluster) => cluster,
            Subject::Meilisearch(_) => panic!("the subject is a single Meilisearch"),
        }
    }

    /// Sends the same request to both, without waiting for tasks.
    pub async fn both(&self, method: Method, path: &str, body: Option<&Value>) -> (Answer, Answer) {
        tokio::join!(
            self.reference_client().call(method.clone(), path, body),
            self.subject_client().call(method, path, body)
        )
    }

    /// Does the same to both, waits for both tasks, and says how the answers and the finished tasks differ.
    pub async fn apply(&self, method: Method, path: &str, body: Option<&Value>) -> Difference {
        let (expected, found) = self.both(method, path, body).await;
        self.settle(&expected, &found).await
    }

    /// As [`Oracle::apply`], for a body of any type.
    pub async fn apply_raw(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Difference {
        let (expected, found) = tokio::join!(
            self.reference_client().send(method.clone(), path, headers, Some(body.clone())),
            self.subject_client().send(method, path, headers, Some(body.clone()))
        );
        self.settle(&expected, &found).await
    }

    async fn settle(&self, expected: &Answer, found: &Answer) -> Difference {
        let difference = compare_answers(expected, found, INCIDENTAL_TO_TASKS);
        match (expected.task_uid(), found.task_uid()) {
            (Some(one), Some(other)) => {
                let (one, other) = tokio::join!(
                    self.reference_client().wait_task(one),
                    self.subject_client().wait_task(other)
                );
                let mut difference = difference;
                let finished = compare_answers(&task_answer(one), &task_answer(other), INCIDENTAL_TO_TASKS);
                difference.places.extend(finished.places);
                difference
            }
            _ => difference,
        }
    }

    /// Does the same to both, and panics unless both tasks succeed alike.
    pub async fn apply_ok(&self, method: Method, path: &str, body: &Value) {
        let (expected, found) = self.both(method, path, Some(body)).await;
        let (expected, found) = tokio::join!(
            self.reference_client().wait_success(expected),
            self.subject_client().wait_success(found)
        );
        let difference = compare_answers(&task_answer(expected), &task_answer(found), INCIDENTAL_TO_TASKS);
        assert!(difference.is_empty(), "the tasks of {path} differ:\n{difference}");
    }

    /// Creates an index with a corpus: settings, then documents in several batches, some replaced, some updated.
    pub async fn load(&self, index: &str, corpus: &Corpus, profile: Profile) {
        let creation = json!({ "uid": index, "primaryKey": corpus.primary_key });
        self.apply_ok(Method::POST, "/indexes", &creation).await;
        let settings = profile.settings(corpus);
        self.apply_ok(Method::PATCH, &format!("/indexes/{index}/settings"), &settings).await;
        let documents = format!("/indexes/{index}/documents");
        for batch in corpus.documents.chunks(BATCH) {
            self.apply_ok(Method::POST, &documents, &json!(batch)).await;
        }
        // Replaced with its own content, reversed: no answer may change.
        let again: Vec<&Value> = corpus.documents.iter().step_by(17).rev().collect();
        self.apply_ok(Method::POST, &documents, &json!(again)).await;
        let key = corpus.primary_key;
        let updates: Vec<Value> = corpus
            .documents
            .iter()
            .step_by(23)
            .map(|document| json!({ key: document[key], corpus.text_fields[0]: "updated garden lamp" }))
            .collect();
        self.apply_ok(Method::PUT, &documents, &json!(updates)).await;
    }

    /// Loads a corpus; with explicit settings, some documents are deleted afterwards. Nodes break ties by themselves
    /// only from the first deletion on, so both ways are compared.
    pub async fn load_and_change(&self, index: &str, corpus: &Corpus, profile: Profile) {
        self.load(index, corpus, profile).await;
        if profile == Profile::Explicit {
            self.delete_some(index, corpus).await;
        }
    }

    /// Deletes some documents of a loaded corpus. To be done last, because one Meilisearch gives the place of a
    /// deleted document to the next new one.
    async fn delete_some(&self, index: &str, corpus: &Corpus) {
        let deleted: Vec<&Value> = corpus
            .documents
            .iter()
            .skip(5)
            .step_by(31)
            .map(|document| &document[corpus.primary_key])
            .collect();
        let path = format!("/indexes/{index}/documents/delete-batch");
        self.apply_ok(Method::POST, &path, &json!(deleted)).await;
    }

    /// Sends one search to both.
    pub async fn compare_search(&self, index: &str, request: &SearchRequest) -> Difference {
        self.search_both(index, request).await.1
    }

    /// The right answer, and how the other differs from it.
    async fn search_both(&self, index: &str, request: &SearchRequest) -> (Answer, Difference) {
        let (method, path, body) = request.parts(index);
        let (expected, found) = self.both(method, &path, body.as_deref()).await;
        let difference = compare_answers(&expected, &found, INCIDENTAL_TO_SEARCH);
        (expected, difference)
    }

    /// Reads the same from both.
    pub async fn compare_get(&self, path: &str, incidental: &[&str]) -> Difference {
        let (expected, found) = self.both(Method::GET, path, None).await;
        compare_answers(&expected, &found, incidental)
    }

    /// Compares all documents, in order, page by page.
    pub async fn compare_documents(&self, index: &str) -> Difference {
        const PAGE: usize = 500;
        let mut offset = 0;
        loop {
            let path = format!("/indexes/{index}/documents?offset={offset}&limit={PAGE}");
            let (expected, found) = self.both(Method::GET, &path, None).await;
            let difference = compare_answers(&expected, &found, &[]);
            let total = expected.ok()["total"].as_u64().unwrap_or_default() as usize;
            offset += PAGE;
            if !difference.is_empty() || offset >= total {
                return difference;
            }
        }
    }

    /// Compares `count` generated searches.
    pub async fn compare_generated(&self, index: &str, corpus: &Corpus, seed: u64, count: usize) -> Tally {
        let mut generator = Generator::new(corpus, seed);
        let mut tally = Tally::new(seed);
        for _ in 0..count {
            let request = generator.next_request();
            let (expected, difference) = self.search_both(index, &request).await;
            tally.add(&request, &expected, difference);
        }
        tally
    }
}

fn task_answer(task: Value) -> Answer {
    Answer { status: 200, headers: Vec::new(), body: task }
}
