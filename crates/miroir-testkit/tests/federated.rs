//! Federated search: the hits of several queries as one list, in the order in which one Meilisearch puts them.

use miroir_testkit::client::Answer;
use miroir_testkit::cluster::Shape;
use miroir_testkit::compare::{INCIDENTAL_TO_SEARCH, compare_answers};
use miroir_testkit::corpus::{Corpus, catalogue, movies, vector};
use miroir_testkit::oracle::Oracle;
use miroir_testkit::profile::Profile;
use reqwest::Method;
use serde_json::{Value, json};

const SEED: u64 = 11;
const DOCUMENTS: usize = 900;
const PATH: &str = "/multi-search";
const ONE_COPY: Shape = Shape { nodes: 3, replication_factor: 1, replica_groups: 1, shards: 7 };
const TWO_COPIES: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };

/// Compares one request after another, and reports all differences at the end.
struct Script {
    oracle: Oracle,
    differences: String,
    hits: usize,
}

impl Script {
    async fn start(shape: Shape) -> Self {
        // The comparison itself can be tested by setting this: nothing may differ then.
        let against_itself = std::env::var_os("MIROIR_TEST_AGAINST_ITSELF").is_some();
        let oracle = if against_itself { Oracle::against_itself().await } else { Oracle::start(shape).await };
        let corpus = catalogue(SEED, DOCUMENTS);
        oracle.load("plain", &corpus, Profile::Default).await;
        oracle.load_and_change("explicit", &corpus, Profile::Explicit).await;
        oracle.load("movies", &movies(), Profile::Default).await;
        Self { oracle, differences: String::new(), hits: 0 }
    }

    async fn compare(&mut self, federation: Value, queries: Value) -> Answer {
        let body = json!({ "federation": federation, "queries": queries });
        let (expected, found) = self.oracle.both(Method::POST, PATH, Some(&body)).await;
        self.hits += expected.body["hits"].as_array().map_or(0, Vec::len);
        let difference = compare_answers(&expected, &found, INCIDENTAL_TO_SEARCH);
        if !difference.is_empty() {
            let shown: String = body.to_string().chars().take(600).collect();
            self.differences += &format!("- {shown}\n{difference}");
        }
        expected
    }

    #[track_caller]
    fn finish(self, least_hits: usize) {
        assert!(self.hits >= least_hits, "only {} hits were compared", self.hits);
        assert!(self.differences.is_empty(), "Miroir answers otherwise:\n{}", self.differences);
    }
}

fn words(corpus: &Corpus, count: usize) -> Vec<String> {
    let titles =
        corpus.documents.iter().step_by(37).filter_map(|document| document[corpus.text_fields[0]].as_str());
    titles.filter_map(|title| title.split_whitespace().next().map(str::to_owned)).take(count).collect()
}

async fn assert_faithful(shape: Shape) {
    let mut script = Script::start(shape).await;
    let words = words(&catalogue(SEED, DOCUMENTS), 12);
    let titles = self::words(&movies(), 12);
    for (word, title) in words.iter().zip(&titles) {
        // One index, several indexes, the same index twice, with and without words.
        script.compare(json!({}), json!([{ "indexUid": "plain", "q": word }])).await;
        script
            .compare(
                json!({}),
                json!([{ "indexUid": "plain", "q": word }, { "indexUid": "movies", "q": title }]),
            )
            .await;
        script
            .compare(
                json!({ "limit": 7, "offset": 3 }),
                json!([{ "indexUid": "plain", "q": word }, { "indexUid": "plain", "q": words[0] },
                       { "indexUid": "movies", "q": word, "showRankingScore": true }]),
            )
            .await;
        script
            .compare(
                json!({}),
                json!([{ "indexUid": "plain", "q": word, "federationOptions": { "weight": 0.5 },
                         "showRankingScoreDetails": true },
                       { "indexUid": "plain", "q": title, "federationOptions": { "weight": 1.5 } },
                       { "indexUid": "movies", "q": title, "federationOptions": { "weight": 0 } }]),
            )
            .await;
        script
            .compare(
                json!({}),
                json!([{ "indexUid": "plain", "q": word, "filter": "price > 5", "attributesToRetrieve": ["title"],
                         "attributesToHighlight": ["title"], "matchingStrategy": "all" },
                       { "indexUid": "plain", "filter": "price < 50" }]),
            )
            .await;
    }
    let sort = json!([{ "indexUid": "plain", "sort": ["price:asc"] }, { "indexUid": "plain", "sort": ["price:asc"], "q": "" }]);
    script.compare(json!({ "limit": 30 }), sort).await;
    let sort = json!([{ "indexUid": "explicit", "sort": ["price:desc"] },
                      { "indexUid": "plain", "sort": ["price:desc", "title:asc"] }]);
    script.compare(json!({ "limit": 30 }), sort).await;
    let more_than_reached = json!({ "limit": 400, "offset": 900 });
    script.compare(more_than_reached, json!([{ "indexUid": "movies" }, { "indexUid": "plain" }])).await;
    script.compare(json!({ "limit": 0 }), json!([{ "indexUid": "movies" }, { "indexUid": "plain" }])).await;
    // Words are asked for together with everything, of nodes that have a ranking rule more.
    let together = json!([{ "indexUid": "explicit", "q": words[1] }, { "indexUid": "explicit" }]);
    script.compare(json!({}), together).await;
    script.finish(800);
}

#[tokio::test]
async fn hits_of_several_nodes() {
    assert_faithful(ONE_COPY).await;
}

#[tokio::test]
async fn hits_of_several_nodes_with_two_copies() {
    assert_faithful(TWO_COPIES).await;
}

#[tokio::test]
async fn hits_of_one_node() {
    assert_faithful(Shape { nodes: 2, replication_factor: 2, replica_groups: 1, shards: 7 }).await;
}

#[tokio::test]
async fn facets_of_several_indexes() {
    let mut script = Script::start(ONE_COPY).await;
    let queries = json!([{ "indexUid": "plain", "q": "a" }, { "indexUid": "plain", "filter": "price > 20" },
                         { "indexUid": "movies" }]);
    for federation in [
        json!({ "facetsByIndex": { "plain": ["category.main", "in_stock"] } }),
        json!({ "facetsByIndex": { "plain": ["category.main", "rating"], "movies": ["Major Genre", "IMDB Rating"] } }),
        json!({ "facetsByIndex": { "plain": ["rating"], "movies": null } }),
        json!({ "facetsByIndex": { "plain": [], "movies": null } }),
        json!({ "facetsByIndex": { "plain": null } }),
        json!({ "facetsByIndex": { "plain": ["rating"] }, "mergeFacets": {} }),
        json!({ "facetsByIndex": { "plain": ["rating", "category.main"], "movies": ["Major Genre"] },
                "mergeFacets": { "maxValuesPerFacet": 3 } }),
        json!({ "mergeFacets": {} }),
        json!({ "facetsByIndex": { "explicit": ["rating"] } }),
    ] {
        script.compare(federation, queries.clone()).await;
    }
    script.finish(100);
}

#[tokio::test]
async fn vectors_take_part() {
    let mut script = Script::start(ONE_COPY).await;
    let corpus = catalogue(SEED, DOCUMENTS);
    let mut dice = miroir_testkit::corpus::Dice::new(SEED);
    for word in words(&corpus, 4) {
        let vector = vector(&mut dice, corpus.vector_dimensions);
        let hybrid = |ratio: f64| json!({ "embedder": "manual", "semanticRatio": ratio });
        let semantic = json!({ "indexUid": "plain", "vector": vector, "hybrid": hybrid(1.0) });
        let mixed = json!({ "indexUid": "plain", "q": word, "vector": vector, "hybrid": hybrid(0.6) });
        let keyword = json!({ "indexUid": "plain", "q": word });
        script.compare(json!({}), json!([semantic])).await;
        script.compare(json!({}), json!([semantic, keyword])).await;
        script.compare(json!({}), json!([mixed, keyword])).await;
        let mut with_vectors = semantic.clone();
        with_vectors["retrieveVectors"] = json!(true);
        script.compare(json!({ "limit": 3 }), json!([keyword, with_vectors])).await;
    }
    script.finish(100);
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_same_words() {
    let mut script = Script::start(TWO_COPIES).await;
    let good = json!({ "indexUid": "plain", "q": "a" });
    let with = |query: Value| json!([good, query]);
    for query in [
        json!({}),
        json!({ "indexUid": "nowhere" }),
        json!({ "indexUid": "no spaces" }),
        json!({ "indexUid": "plain", "limit": 3 }),
        json!({ "indexUid": "plain", "page": 3 }),
        json!({ "indexUid": "plain", "facets": ["rating"] }),
        json!({ "indexUid": "plain", "facets": [] }),
        json!({ "indexUid": "plain", "filter": "nothing = 1" }),
        json!({ "indexUid": "explicit", "filter": "nothing = 1" }),
        json!({ "indexUid": "explicit", "sort": ["nothing:asc"] }),
        json!({ "indexUid": "plain", "cropLength": "x" }),
        json!({ "indexUid": "plain", "unknown": 1 }),
        json!({ "indexUid": "plain", "federationOptions": { "weight": -1 } }),
        json!({ "indexUid": "plain", "federationOptions": { "weight": "x" } }),
        json!({ "indexUid": "plain", "federationOptions": { "unknown": 1 } }),
        json!({ "indexUid": "plain", "federationOptions": { "remote": "other" } }),
        json!({ "indexUid": "plain", "federationOptions": { "queryPosition": 3 } }),
        json!({ "indexUid": "plain", "federationOptions": null }),
        json!({ "indexUid": "plain", "q": "", "sort": ["price:asc"] }),
    ] {
        script.compare(json!({}), with(query)).await;
    }
    let opposite = json!([{ "indexUid": "plain", "sort": ["price:asc"] }, { "indexUid": "movies", "sort": ["Title:desc"] }]);
    script.compare(json!({}), opposite).await;
    for federation in [
        json!(1),
        json!([]),
        json!({ "limit": -1 }),
        json!({ "limit": null }),
        json!({ "unknown": 1 }),
        json!({ "page": 1 }),
        json!({ "facetsByIndex": 1 }),
        json!({ "facetsByIndex": { "plain": 1 } }),
        json!({ "facetsByIndex": { "plain": ["nothing"] } }),
        json!({ "facetsByIndex": { "movies": ["nothing"] } }),
        json!({ "facetsByIndex": { "nowhere": ["nothing"] } }),
        json!({ "facetsByIndex": { "no spaces": [] } }),
        json!({ "mergeFacets": 1 }),
        json!({ "mergeFacets": { "maxValuesPerFacet": -1 } }),
        json!({ "facetsByIndex": { "plain": ["group"], "explicit": ["group"] }, "mergeFacets": {} }),
    ] {
        script.compare(federation, json!([good])).await;
    }
    script.compare(json!({}), json!([])).await;
    script.finish(20);
}

/// However many queries there are, they are answered a few at a time.
#[tokio::test]
async fn many_queries_make_one_list() {
    let mut script = Script::start(TWO_COPIES).await;
    let words = words(&catalogue(SEED, DOCUMENTS), 24);
    let queries: Vec<Value> = (0..600)
        .map(|number| {
            // With few digits: of many, Meilisearch reads some as the number next to them.
            let weight = 1.0 + f64::from(number) / 1024.0;
            let word = &words[number as usize % words.len()];
            json!({ "indexUid": "plain", "q": word, "federationOptions": { "weight": weight } })
        })
        .collect();
    script.compare(json!({ "limit": 50 }), json!(queries)).await;
    script.finish(50);
}

/// What belongs to Miroir is not there for clients.
#[tokio::test]
async fn hidden_fields_are_not_found() {
    let script = Script::start(ONE_COPY).await;
    for (federation, query) in [
        (json!({}), json!({ "indexUid": "plain", "filter": "_miroir_shard = 1" })),
        (json!({}), json!({ "indexUid": "plain", "sort": ["_miroir_inserted_at:asc"] })),
        (json!({ "facetsByIndex": { "plain": ["_miroir_shard"] } }), json!({ "indexUid": "plain" })),
    ] {
        let body = json!({ "federation": federation, "queries": [query] });
        let answer = script.oracle.subject_client().post(PATH, &body).await;
        let found = (answer.status, answer.body["code"].as_str());
        assert_eq!(found, (400, Some("miroir_reserved_field")), "{body}: {}", answer.body);
    }
}
