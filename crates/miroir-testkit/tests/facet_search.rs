//! Searching facet values: Miroir over several nodes lists the values that one Meilisearch lists, in its order and
//! with its counts.

use miroir_testkit::cluster::Shape;
use miroir_testkit::compare::{INCIDENTAL_TO_SEARCH, compare_answers};
use miroir_testkit::corpus::{Corpus, catalogue, movies};
use miroir_testkit::oracle::Oracle;
use miroir_testkit::profile::Profile;
use reqwest::Method;
use serde_json::{Value, json};

const SEED: u64 = 11;
const DOCUMENTS: usize = 1_200;
const ONE_COPY: Shape = Shape { nodes: 3, replication_factor: 1, replica_groups: 1, shards: 7 };
const TWO_COPIES: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };

/// Compares one request after another, and reports all differences at the end.
struct Script {
    oracle: Oracle,
    differences: String,
    listed: usize,
}

impl Script {
    async fn start(shape: Shape) -> Self {
        // The comparison itself can be tested by setting this: nothing may differ then.
        let against_itself = std::env::var_os("MIROIR_TEST_AGAINST_ITSELF").is_some();
        let oracle = if against_itself { Oracle::against_itself().await } else { Oracle::start(shape).await };
        Self { oracle, differences: String::new(), listed: 0 }
    }

    async fn post(&mut self, path: &str, body: &Value) {
        let (expected, found) = self.oracle.both(Method::POST, path, Some(body)).await;
        self.listed += expected.body["facetHits"].as_array().map_or(0, Vec::len);
        let difference = compare_answers(&expected, &found, INCIDENTAL_TO_SEARCH);
        if !difference.is_empty() {
            self.differences += &format!("- {path} {body}\n{difference}");
        }
    }

    async fn settings(&self, index: &str, settings: Value) {
        self.oracle.apply_ok(Method::PATCH, &format!("/indexes/{index}/settings"), &settings).await;
    }

    #[track_caller]
    fn finish(self) {
        assert!(self.listed > 100, "only {} values were listed", self.listed);
        assert!(self.differences.is_empty(), "Miroir lists other values:\n{}", self.differences);
    }
}

/// Every facet with every text, under every order and length.
async fn compare_values(script: &mut Script, index: &str, corpus: &Corpus) {
    let path = format!("/indexes/{index}/facet-search");
    let facets: Vec<&str> =
        [corpus.plain_facets, corpus.spelling_facets, corpus.mixed_facets, &[corpus.count_facet]].concat();
    for faceting in [
        json!({ "maxValuesPerFacet": null, "sortFacetValuesBy": null }),
        json!({ "maxValuesPerFacet": 3 }),
        json!({ "maxValuesPerFacet": 7, "sortFacetValuesBy": { "*": "count" } }),
        json!({ "maxValuesPerFacet": 500 }),
    ] {
        script.settings(index, json!({ "faceting": faceting })).await;
        for facet in &facets {
            for text in
                [None, Some(""), Some("b"), Some("new"), Some("BLUE yonder"), Some("nrthwind"), Some("éla")]
            {
                script.post(&path, &json!({ "facetName": facet, "facetQuery": text })).await;
            }
            script.post(&path, &json!({ "facetName": facet })).await;
        }
    }
}

/// Everything else a request can say.
async fn compare_parameters(script: &mut Script, index: &str, corpus: &Corpus) {
    let path = format!("/indexes/{index}/facet-search");
    let facet = corpus.spelling_facets[0];
    let number = corpus.number_fields[0];
    let word = corpus.documents[3][corpus.text_fields[0]].as_str().unwrap_or("a").to_owned();
    let filter = format!("{number} > 5");
    for body in [
        json!({ "q": word }),
        json!({ "q": "a b", "matchingStrategy": "all" }),
        json!({ "q": word, "facetQuery": "b" }),
        json!({ "filter": filter }),
        json!({ "filter": [filter, "rating > 2"], "facetQuery": "n" }),
        json!({ "filter": [[filter, "rating > 2"]] }),
        json!({ "filter": "" }),
        json!({ "q": word, "attributesToSearchOn": [corpus.text_fields[0]] }),
        json!({ "q": word, "exhaustiveFacetCount": true }),
        json!({ "q": word, "exhaustiveFacetCount": false, "locales": ["eng"] }),
        json!({ "q": "", "facetQuery": null, "unknown": 1, "limit": "x" }),
        json!({ "q": null, "filter": null, "hybrid": null, "vector": null }),
        json!({ "hybrid": { "embedder": "manual" }, "vector": vec![0.5; corpus.vector_dimensions] }),
        json!({ "q": word, "rankingScoreThreshold": 0.0 }),
        // Wrong, each in its own way.
        json!({ "facetName": null }),
        json!({ "facetName": 1 }),
        json!({ "facetName": "" }),
        json!({ "facetName": "nothing" }),
        json!({ "facetName": "title" }),
        json!({ "facetQuery": 1 }),
        json!({ "q": 1 }),
        json!({ "filter": 1 }),
        json!({ "filter": "nothing = 1" }),
        json!({ "filter": "brand =" }),
        json!({ "matchingStrategy": "best" }),
        json!({ "attributesToSearchOn": "title" }),
        json!({ "attributesToSearchOn": ["nothing"] }),
        json!({ "rankingScoreThreshold": 2 }),
        json!({ "locales": ["xyz"] }),
        json!({ "exhaustiveFacetCount": "yes" }),
        json!({ "hybrid": { "embedder": "nothing" }, "q": "x" }),
        json!({ "vector": [1] }),
    ] {
        let mut request = json!({ "facetName": facet });
        if let (Some(request), Some(body)) = (request.as_object_mut(), body.as_object()) {
            request.extend(body.clone());
        }
        script.post(&path, &request).await;
    }
    for body in [json!({}), json!([]), json!(null), json!("x")] {
        script.post(&path, &body).await;
    }
    script.post("/indexes/nowhere/facet-search", &json!({ "facetName": facet })).await;
    script.post("/indexes/no%20spaces/facet-search", &json!({ "facetName": facet })).await;
}

async fn assert_faithful(shape: Shape) {
    let mut script = Script::start(shape).await;
    let corpus = catalogue(SEED, DOCUMENTS);
    for profile in [Profile::Default, Profile::Explicit] {
        let index = profile.label();
        script.oracle.load_and_change(index, &corpus, profile).await;
        compare_values(&mut script, index, &corpus).await;
        compare_parameters(&mut script, index, &corpus).await;
    }
    let real = movies();
    script.oracle.load("movies", &real, Profile::Default).await;
    compare_values(&mut script, "movies", &real).await;

    let path = "/indexes/default/facet-search";
    let body = json!({ "facetName": "brand", "facetQuery": "nrthwind" });
    script.settings("default", json!({ "typoTolerance": { "enabled": false } })).await;
    script.post(path, &body).await;
    let typos =
        json!({ "enabled": true, "disableOnWords": ["nrthwind"], "minWordSizeForTypos": { "oneTypo": 2 } });
    script.settings("default", json!({ "typoTolerance": typos })).await;
    script.post(path, &body).await;
    script.post(path, &json!({ "facetName": "brand", "facetQuery": "acne" })).await;
    let rules = json!([{ "attributePatterns": ["tags"], "features": { "facetSearch": true } }, "brand"]);
    script.settings("default", json!({ "filterableAttributes": rules })).await;
    for facet in ["tags", "brand", "rating"] {
        script.post(path, &json!({ "facetName": facet, "facetQuery": "b" })).await;
    }
    script.settings("default", json!({ "facetSearch": false })).await;
    script.post(path, &body).await;
    script.finish();
}

#[tokio::test]
async fn values_of_several_nodes() {
    assert_faithful(ONE_COPY).await;
}

#[tokio::test]
async fn values_of_several_nodes_with_two_copies() {
    assert_faithful(TWO_COPIES).await;
}

/// Every node holds everything, and is asked for no more than one Meilisearch lists.
#[tokio::test]
async fn values_of_one_node() {
    assert_faithful(Shape { nodes: 2, replication_factor: 2, replica_groups: 1, shards: 7 }).await;
}

/// What belongs to Miroir is not there for clients.
#[tokio::test]
async fn hidden_fields_are_no_facets() {
    let script = Script::start(ONE_COPY).await;
    let oracle = &script.oracle;
    oracle.apply_ok(Method::POST, "/indexes", &json!({ "uid": "films", "primaryKey": "id" })).await;
    for body in [
        json!({ "facetName": "_miroir_shard" }),
        json!({ "facetName": "genre", "filter": "_miroir_shard = 1" }),
        json!({ "facetName": "genre", "attributesToSearchOn": ["_miroir_shard"] }),
    ] {
        let answer = oracle.subject_client().post("/indexes/films/facet-search", &body).await;
        let found = (answer.status, answer.body["code"].as_str());
        assert_eq!(found, (400, Some("miroir_reserved_field")), "{body}: {}", answer.body);
    }
}
