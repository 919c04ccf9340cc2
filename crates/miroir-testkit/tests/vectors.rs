//! Similar documents, and searches by meaning: Miroir over several nodes answers as one Meilisearch does.

#![allow(clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use miroir_testkit::cluster::Shape;
use miroir_testkit::compare::{INCIDENTAL_TO_SEARCH, compare_answers};
use miroir_testkit::corpus::{Dice, vector};
use miroir_testkit::oracle::{Oracle, Subject};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 16 };
/// So few, and of so many dimensions, that Meilisearch's index of vectors is exact. It is approximate and built at random
/// otherwise, and one Meilisearch differs from another.
const DOCUMENTS: usize = 80;
const DIMENSIONS: usize = 96;
const WORDS: [&str; 12] =
    ["red", "blue", "lamp", "garden", "chair", "winter", "paper", "river", "stone", "green", "train", "song"];

/// An embedding service: the vector of a text is made of how often it has each of some words.
struct Embedder {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Embedder {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}/embed", listener.local_addr().expect("it is bound"));
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    counted.fetch_add(1, Ordering::Relaxed);
                    answer_one(stream).await
                });
            }
        });
        Self { url, asked }
    }
}

async fn answer_one(mut stream: tokio::net::TcpStream) -> Option<()> {
    let mut request = Vec::new();
    let body: Value = loop {
        let mut buffer = [0; 16 * 1024];
        let length = stream.read(&mut buffer).await.ok().filter(|length| *length > 0)?;
        request.extend_from_slice(buffer.get(..length)?);
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some(body) = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok())
        {
            break body;
        }
    };
    let embed = |text: &Value| {
        let text = text.as_str().unwrap_or_default().to_lowercase();
        let count = |word: &&str| 0.125 + text.matches(*word).count() as f64;
        json!({ "embedding": WORDS.iter().map(count).cycle().take(DIMENSIONS).collect::<Vec<f64>>() })
    };
    let data: Vec<Value> = body["input"].as_array()?.iter().map(embed).collect();
    let body = json!({ "data": data }).to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body.as_bytes()).await.ok()
}

fn documents() -> Vec<Value> {
    let mut dice = Dice::new(7);
    (0..DOCUMENTS)
        .map(|number| {
            let words: Vec<&str> = (0..dice.between(2, 6)).map(|_| *dice.pick(&WORDS)).collect();
            let given = vector(&mut dice, DIMENSIONS);
            // Some have none, and some the same as another.
            let manual = match number % 10 {
                3 => Value::Null,
                4 => json!(vec![0.5; DIMENSIONS]),
                _ => json!(given),
            };
            json!({
                "id": if number % 2 == 0 { json!(number) } else { json!(format!("doc-{number}")) },
                "title": words.join(" "), "year": 1990 + number % 17, "sku": number % 30, "secret": number,
                "_vectors": { "manual": manual, "small": vector(&mut dice, DIMENSIONS) },
            })
        })
        .collect()
}

struct Script {
    oracle: Oracle,
    differences: String,
    hits: usize,
}

impl Script {
    async fn start(embedder: &Embedder) -> Self {
        let against_itself = std::env::var_os("MIROIR_TEST_AGAINST_ITSELF").is_some();
        let oracle = if against_itself { Oracle::against_itself().await } else { Oracle::start(SHAPE).await };
        let rest = json!({
            "source": "rest", "url": embedder.url, "dimensions": DIMENSIONS, "documentTemplate": "{{doc.title}}",
            "request": { "input": ["{{text}}", "{{..}}"] },
            "response": { "data": [{ "embedding": "{{embedding}}" }, "{{..}}"] },
        });
        let manual = json!({ "source": "userProvided", "dimensions": DIMENSIONS });
        let shifted = json!({ "source": "userProvided", "dimensions": DIMENSIONS,
                              "distribution": { "mean": 0.7, "sigma": 0.3 } });
        let small = json!({ "source": "userProvided", "dimensions": DIMENSIONS, "binaryQuantized": true });
        let plain = json!({
            "filterableAttributes": ["year", "sku", "id"], "sortableAttributes": ["year"],
            "searchCutoffMs": 30_000, "embedders": { "manual": manual, "small": small, "rest": rest },
        });
        let custom = json!({
            "filterableAttributes": ["year", "sku"], "sortableAttributes": ["year"], "searchCutoffMs": 30_000,
            "displayedAttributes": ["id", "title", "year"], "distinctAttribute": "sku",
            "rankingRules": ["year:desc", "words", "typo", "sku:asc"], "pagination": { "maxTotalHits": 15 },
            "embedders": { "manual": shifted, "small": small },
        });
        for (index, settings) in [("plain", plain), ("custom", custom)] {
            oracle.apply_ok(Method::POST, "/indexes", &json!({ "uid": index, "primaryKey": "id" })).await;
            oracle.apply_ok(Method::PATCH, &format!("/indexes/{index}/settings"), &settings).await;
            oracle.apply_ok(Method::POST, &format!("/indexes/{index}/documents"), &json!(documents())).await;
        }
        // Nodes break ties by themselves from the first deletion on.
        oracle.apply_ok(Method::POST, "/indexes/custom/documents/delete-batch", &json!([2, "doc-9"])).await;
        Self { oracle, differences: String::new(), hits: 0 }
    }

    async fn compare(&mut self, method: Method, path: &str, body: Option<&Value>) {
        let (expected, found) = self.oracle.both(method, path, body).await;
        self.hits += expected.body["hits"].as_array().map_or(0, Vec::len);
        let difference = compare_answers(&expected, &found, INCIDENTAL_TO_SEARCH);
        if !difference.is_empty() {
            let mut shown = body.cloned().unwrap_or_default();
            if let Some(vector) = shown.get_mut("vector") {
                *vector = json!("…");
            }
            self.differences += &format!("- {path} {shown}\n{difference}");
        }
    }

    async fn similar(&mut self, index: &str, body: &Value) {
        self.compare(Method::POST, &format!("/indexes/{index}/similar"), Some(body)).await;
    }

    #[track_caller]
    fn finish(self, least: usize) {
        assert!(self.hits >= least, "only {} hits were compared", self.hits);
        assert!(self.differences.is_empty(), "Miroir answers otherwise:\n{}", self.differences);
    }
}

fn with(base: &Value, more: Value) -> Value {
    let mut body = base.clone();
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body
}

#[tokio::test]
async fn vectors_mean_the_same() {
    let embedder = Embedder::start().await;
    let mut script = Script::start(&embedder).await;
    similar_documents(&mut script).await;
    hybrid_searches(&mut script, &embedder).await;
    script.finish(2_000);
}

async fn similar_documents(script: &mut Script) {
    for (index, embedders) in [("plain", &["manual", "small", "rest"][..]), ("custom", &["manual", "small"])]
    {
        for embedder in embedders {
            for id in
                [json!(0), json!("6"), json!("doc-3"), json!("doc-7"), json!(4), json!("doc-13"), json!(70)]
            {
                let base = json!({ "id": id, "embedder": embedder });
                script.similar(index, &base).await;
                for more in [
                    json!({ "limit": 5 }),
                    json!({ "offset": 7, "limit": 9 }),
                    json!({ "limit": 0 }),
                    json!({ "offset": 1_000 }),
                    json!({ "limit": 300, "attributesToRetrieve": ["id"] }),
                    json!({ "filter": "year > 2000" }),
                    json!({ "filter": ["year > 1995", ["sku < 20", "sku = 29"]], "showRankingScore": true }),
                    json!({ "filter": "year = 1" }),
                    json!({ "filter": "" }),
                    json!({ "showRankingScoreDetails": true, "limit": 3 }),
                    json!({ "rankingScoreThreshold": 0.75, "showRankingScore": true, "limit": 50 }),
                    json!({ "rankingScoreThreshold": 0.6, "offset": 4 }),
                    json!({ "rankingScoreThreshold": 1.0 }),
                    json!({ "retrieveVectors": true, "limit": 2 }),
                    json!({ "attributesToRetrieve": ["title", "secret"], "limit": 2 }),
                    json!({ "attributesToRetrieve": [], "limit": 2 }),
                    json!({ "attributesToRetrieve": ["*"], "retrieveVectors": true, "limit": 2 }),
                ] {
                    script.similar(index, &with(&base, more)).await;
                }
                let id = id.to_string().replace('"', "");
                for more in [
                    "",
                    "&limit=3&offset=2",
                    "&filter=year%20%3E%202000&showRankingScore=true",
                    "&attributesToRetrieve=id,year&rankingScoreThreshold=0.5&showRankingScoreDetails=true&limit=4",
                    "&retrieveVectors=true&limit=1",
                ] {
                    let path = format!("/indexes/{index}/similar?id={id}&embedder={embedder}{more}");
                    script.compare(Method::GET, &path, None).await;
                }
            }
        }
    }
    let base = json!({ "id": 0, "embedder": "manual" });
    for wrong in [
        json!({ "id": 9_999 }),
        json!({ "id": "nobody" }),
        json!({ "id": "a b" }),
        json!({ "id": 1.5 }),
        json!({ "id": null }),
        json!({ "id": [1] }),
        json!({ "embedder": "nothing" }),
        json!({ "embedder": null }),
        json!({ "embedder": 1 }),
        json!({ "limit": -1 }),
        json!({ "limit": "x" }),
        json!({ "offset": null }),
        json!({ "filter": "nothing = 1" }),
        json!({ "filter": "year =" }),
        json!({ "filter": 7 }),
        json!({ "filter": [7] }),
        json!({ "rankingScoreThreshold": 2 }),
        json!({ "rankingScoreThreshold": "x" }),
        json!({ "attributesToRetrieve": "id" }),
        json!({ "retrieveVectors": 1 }),
        json!({ "showRankingScore": "yes" }),
        json!({ "q": "x" }),
        json!({ "sort": ["year:asc"] }),
        json!({ "id": "nobody", "filter": "nothing = 1" }),
    ] {
        for index in ["plain", "custom"] {
            script.similar(index, &with(&base, wrong.clone())).await;
        }
    }
    for body in [json!({}), json!([]), json!({ "id": 0 }), json!({ "embedder": "manual" })] {
        script.similar("plain", &body).await;
    }
    script.similar("nowhere", &base).await;
    for query in
        ["", "?id=0", "?embedder=manual", "?id=0&embedder=manual&limit=x", "?id=0&embedder=manual&q=x"]
    {
        script.compare(Method::GET, &format!("/indexes/plain/similar{query}"), None).await;
    }
    if matches!(script.oracle.subject, Subject::Cluster(_)) {
        let reserved = json!({ "id": 0, "embedder": "manual", "filter": "_miroir_shard = 1" });
        let answer = script.oracle.subject_client().post("/indexes/plain/similar", &reserved).await;
        assert_eq!(answer.body["code"], "miroir_reserved_field", "{}", answer.body);
    }
}

async fn hybrid_searches(script: &mut Script, embedder: &Embedder) {
    let mut dice = Dice::new(3);
    for text in
        [Some("red lamp"), Some("winter"), Some("gardn chair train"), Some("nothing of it"), Some(""), None]
    {
        for embedder in ["manual", "rest", "small"] {
            for ratio in [json!(0.0), json!(0.5), json!(0.9), json!(1.0)] {
                let mut base = json!({ "hybrid": { "embedder": embedder, "semanticRatio": ratio } });
                if let Some(text) = text {
                    base["q"] = json!(text);
                }
                // Without a vector, only one that can embed has anything to search by.
                let mut bases = vec![with(&base, json!({ "vector": vector(&mut dice, DIMENSIONS) }))];
                if embedder == "rest" || ratio == 0.0 {
                    bases.push(base);
                }
                for base in bases {
                    for more in [
                        json!({}),
                        json!({ "retrieveVectors": true, "limit": 3 }),
                        json!({ "showRankingScoreDetails": true, "showRankingScore": true, "limit": 6 }),
                        json!({ "filter": "year > 2000", "offset": 3, "limit": 7 }),
                        json!({ "page": 2, "hitsPerPage": 5 }),
                        json!({ "attributesToHighlight": ["title"], "limit": 4 }),
                        json!({ "sort": ["year:desc"], "limit": 8 }),
                        json!({ "filter": "id = 4" }),
                    ] {
                        let body = with(&base, more);
                        script.compare(Method::POST, "/indexes/plain/search", Some(&body)).await;
                    }
                    let mut query = base.clone();
                    query["indexUid"] = json!("plain");
                    let keyword = json!({ "indexUid": "plain", "q": "red" });
                    let queries = json!([query, keyword]);
                    let several = json!({ "queries": queries });
                    script.compare(Method::POST, "/multi-search", Some(&several)).await;
                    let federated = json!({ "federation": { "limit": 12 }, "queries": queries });
                    script.compare(Method::POST, "/multi-search", Some(&federated)).await;
                }
            }
        }
    }
    for path in [
        "/indexes/plain/search?q=red&hybridEmbedder=rest&hybridSemanticRatio=0.5",
        "/indexes/plain/search?q=red&hybridEmbedder=rest&hybridSemanticRatio=1&retrieveVectors=true&limit=2",
        "/indexes/plain/search?hybridEmbedder=manual&vector=1,2,3",
        "/indexes/plain/search?hybridEmbedder=nothing&q=x",
    ] {
        script.compare(Method::GET, path, None).await;
    }
    for wrong in [
        json!({ "q": "x", "hybrid": { "embedder": "nothing" } }),
        json!({ "q": "x", "hybrid": { "embedder": "manual" } }),
        json!({ "q": "x", "hybrid": { "embedder": "manual", "semanticRatio": 1 } }),
        json!({ "vector": [1, 2], "hybrid": { "embedder": "manual" } }),
        json!({ "vector": [1, 2] }),
        json!({ "q": "x", "hybrid": {} }),
    ] {
        script.compare(Method::POST, "/indexes/plain/search", Some(&wrong)).await;
    }
    assert!(embedder.asked.load(Ordering::Relaxed) > 0, "the embedding service was used");
}
