//! The API around search, as clients see it: every request here is sent to a real Meilisearch and to Miroir, and
//! the answers and the finished tasks must be equal but for clocks and counters.

use miroir_testkit::client::Client;
use miroir_testkit::cluster::Shape;
use miroir_testkit::compare::{Difference, INCIDENTAL_TO_STATS, INCIDENTAL_TO_TASKS, compare_answers};
use miroir_testkit::oracle::Oracle;
use reqwest::Method;
use serde_json::{Value, json};

const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };

/// Compares one request after another, and reports all differences at the end.
struct Script {
    oracle: Oracle,
    differences: String,
}

impl Script {
    async fn start() -> Self {
        // The comparison itself can be tested by setting this: nothing may differ then.
        let against_itself = std::env::var_os("MIROIR_TEST_AGAINST_ITSELF").is_some();
        let oracle = if against_itself { Oracle::against_itself().await } else { Oracle::start(SHAPE).await };
        Self { oracle, differences: String::new() }
    }

    fn note(&mut self, what: &str, difference: &Difference) {
        if !difference.is_empty() {
            self.differences += &format!("- {what}\n{difference}");
        }
    }

    /// A JSON request and its task, if it makes one.
    async fn json(&mut self, method: Method, path: &str, body: Value) {
        let difference = self.oracle.apply(method.clone(), path, Some(&body)).await;
        self.note(&format!("{method} {path} {body}"), &difference);
    }

    /// A request without a body.
    async fn bare(&mut self, method: Method, path: &str) {
        let difference = self.oracle.apply(method.clone(), path, None).await;
        self.note(&format!("{method} {path}"), &difference);
    }

    async fn get(&mut self, path: &str) {
        self.bare(Method::GET, path).await;
    }

    /// Statistics, without the sizes that are each server's own.
    async fn stats(&mut self, path: &str) {
        let difference = self.oracle.compare_get(path, INCIDENTAL_TO_STATS).await;
        self.note(path, &difference);
    }

    /// A body that is refused with the same code, in whatever words.
    async fn refused(&mut self, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) {
        let body = body.into();
        let (expected, found) = tokio::join!(
            self.oracle.reference_client().send(Method::POST, path, headers, Some(body.clone())),
            self.oracle.subject_client().send(Method::POST, path, headers, Some(body.clone()))
        );
        let difference = compare_answers(&expected, &found, &["message"]);
        self.note(&format!("POST {path} {headers:?} {:?}", String::from_utf8_lossy(&body)), &difference);
    }

    /// A body of any bytes.
    async fn raw(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) {
        let body = body.into();
        let difference = self.oracle.apply_raw(method.clone(), path, headers, body.clone()).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        self.note(&format!("{method} {path} {headers:?} {shown}"), &difference);
    }

    async fn post_text(&mut self, path: &str, content_type: &str, body: impl Into<Vec<u8>>) {
        self.raw(Method::POST, path, &[("content-type", content_type)], body).await;
    }

    /// The same as another client.
    async fn with_key(&mut self, method: Method, path: &str, key: Option<&str>) {
        let ask = |client: &Client| {
            let (client, method, path) = (client.with_key(key), method.clone(), path.to_owned());
            async move { client.call(method, &path, None).await }
        };
        let (expected, found) =
            tokio::join!(ask(self.oracle.reference_client()), ask(self.oracle.subject_client()));
        let difference = compare_answers(&expected, &found, INCIDENTAL_TO_TASKS);
        self.note(&format!("{method} {path} with key {key:?}"), &difference);
    }

    #[track_caller]
    fn finish(self) {
        assert!(
            self.differences.is_empty(),
            "Miroir does not answer as Meilisearch does:\n{}",
            self.differences
        );
    }
}

#[tokio::test]
async fn indexes() {
    let mut script = Script::start().await;
    script.get("/indexes").await;
    script.json(Method::POST, "/indexes", json!({ "uid": "films", "primaryKey": "id" })).await;
    script.json(Method::POST, "/indexes", json!({ "uid": "books" })).await;
    script.json(Method::POST, "/indexes", json!({ "uid": "films" })).await;
    for wrong in [
        json!({}),
        json!({ "uid": 7 }),
        json!({ "uid": "no spaces" }),
        json!({ "uid": "" }),
        json!({ "uid": "a".repeat(600) }),
        json!({ "uid": "x", "primaryKey": 1 }),
        json!({ "uid": "x", "unknown": 1 }),
        json!([]),
    ] {
        script.json(Method::POST, "/indexes", wrong).await;
    }
    script.get("/indexes/films").await;
    script.get("/indexes/nowhere").await;
    script.get("/indexes/no%20spaces").await;
    script.get("/indexes?limit=1").await;
    script.get("/indexes?offset=1").await;
    script.get("/indexes?offset=5&limit=2").await;
    script.get("/indexes?limit=x").await;
    script.json(Method::PATCH, "/indexes/books", json!({ "primaryKey": "isbn" })).await;
    script.get("/indexes/books").await;
    script.json(Method::PATCH, "/indexes/nowhere", json!({ "primaryKey": "isbn" })).await;
    script.json(Method::POST, "/indexes/books/documents", json!([{ "isbn": 1 }])).await;
    script.json(Method::PATCH, "/indexes/books", json!({ "primaryKey": "other" })).await;
    script.bare(Method::DELETE, "/indexes/books").await;
    script.bare(Method::DELETE, "/indexes/books").await;
    script.get("/indexes").await;
    script.finish();
}

/// Each settings sub-route: name, method that writes it, a value, a wrong value.
fn settings_routes() -> Vec<(&'static str, Method, Value, Value)> {
    let (put, patch) = (Method::PUT, Method::PATCH);
    vec![
        ("displayed-attributes", put.clone(), json!(["id", "title", "tags"]), json!("id")),
        ("searchable-attributes", put.clone(), json!(["title", "tags"]), json!(7)),
        ("filterable-attributes", put.clone(), json!(["tags", "year", "_geo"]), json!([7])),
        ("sortable-attributes", put.clone(), json!(["year", "title"]), json!({ "a": 1 })),
        ("ranking-rules", put.clone(), json!(["typo", "words", "year:desc"]), json!(["nonsense"])),
        ("stop-words", put.clone(), json!(["the", "a"]), json!([1])),
        ("synonyms", put.clone(), json!({ "wolverine": ["logan"], "logan": ["wolverine"] }), json!(["a"])),
        ("distinct-attribute", put.clone(), json!("year"), json!(["year"])),
        ("typo-tolerance", patch.clone(), json!({ "disableOnWords": ["cat"] }), json!({ "enabled": "no" })),
        (
            "faceting",
            patch.clone(),
            json!({ "maxValuesPerFacet": 7, "sortFacetValuesBy": { "tags": "count" } }),
            json!({ "maxValuesPerFacet": -1 }),
        ),
        ("pagination", patch.clone(), json!({ "maxTotalHits": 50 }), json!({ "maxTotalHits": "x" })),
        ("non-separator-tokens", put.clone(), json!(["@", "#"]), json!("@")),
        ("separator-tokens", put.clone(), json!(["|"]), json!(7)),
        ("dictionary", put.clone(), json!(["J. R. R."]), json!(7)),
        ("proximity-precision", put.clone(), json!("byAttribute"), json!("byHand")),
        ("search-cutoff-ms", put.clone(), json!(150), json!(-4)),
        (
            "localized-attributes",
            put.clone(),
            json!([{ "locales": ["jpn"], "attributePatterns": ["*_ja"] }]),
            json!(7),
        ),
        ("facet-search", put.clone(), json!(false), json!("no")),
        ("prefix-search", put, json!("disabled"), json!("sometimes")),
        (
            "embedders",
            patch,
            json!({ "mine": { "source": "userProvided", "dimensions": 3 } }),
            json!({ "mine": { "source": "nothing" } }),
        ),
    ]
}

#[tokio::test]
async fn settings_of_every_sub_route() {
    let mut script = Script::start().await;
    script.get("/indexes/nowhere/settings").await;
    script.json(Method::POST, "/indexes", json!({ "uid": "films", "primaryKey": "id" })).await;
    script.get("/indexes/films/settings").await;
    for (name, method, value, wrong) in settings_routes() {
        let path = format!("/indexes/films/settings/{name}");
        script.get(&path).await;
        script.json(method.clone(), &path, value).await;
        script.get(&path).await;
        script.json(method.clone(), &path, wrong).await;
        script.get("/indexes/films/settings").await;
        script.json(method, &path, Value::Null).await;
        script.get(&path).await;
        script.bare(Method::DELETE, &path).await;
        script.get(&path).await;
    }
    script.finish();
}

#[tokio::test]
async fn settings_together() {
    let mut script = Script::start().await;
    // Settings create the index.
    let all = json!({
        "displayedAttributes": ["id", "title"], "searchableAttributes": ["title"], "filterableAttributes": ["year"],
        "sortableAttributes": ["year"], "rankingRules": ["words", "year:asc"], "stopWords": ["the"],
        "synonyms": { "a": ["b"] }, "distinctAttribute": "year", "typoTolerance": { "enabled": false },
        "faceting": { "maxValuesPerFacet": 3 }, "pagination": { "maxTotalHits": 9 }, "searchCutoffMs": 500,
    });
    script.json(Method::PATCH, "/indexes/films/settings", all).await;
    script.get("/indexes/films/settings").await;
    script.json(Method::PATCH, "/indexes/films/settings", json!({ "rankingRules": null })).await;
    script.json(Method::PATCH, "/indexes/films/settings", json!({})).await;
    script.get("/indexes/films/settings").await;
    script.json(Method::PATCH, "/indexes/films/settings", json!({ "filterableAttributes": ["*"] })).await;
    script.get("/indexes/films/settings").await;
    let patterns = json!({ "filterableAttributes": [
        { "attributePatterns": ["y*"], "features": { "facetSearch": true, "filter": { "equality": true, "comparison": false } } }
    ] });
    script.json(Method::PATCH, "/indexes/films/settings", patterns).await;
    script.get("/indexes/films/settings").await;
    for wrong in [
        json!({ "noSuchSetting": 1 }),
        json!([]),
        json!("settings"),
        json!({ "rankingRules": ["words", "words"] }),
        json!({ "filterableAttributes": "year" }),
        json!({ "distinctAttribute": 5 }),
        json!({ "embedders": { "a": { "source": "userProvided" } } }),
    ] {
        script.json(Method::PATCH, "/indexes/films/settings", wrong).await;
    }
    script.post_text("/indexes/films/settings", "application/json", "{}").await;
    script
        .raw(Method::PATCH, "/indexes/films/settings", &[("content-type", "application/json")], "{\"a")
        .await;
    script.bare(Method::DELETE, "/indexes/films/settings").await;
    script.get("/indexes/films/settings").await;
    script.finish();
}

#[tokio::test]
async fn documents_in_every_form() {
    let mut script = Script::start().await;
    let path = "/indexes/films/documents";
    script.get(path).await;
    let films: Vec<Value> = (0..50)
        .map(|id| json!({ "id": id, "title": format!("film {id}"), "year": 1950 + id % 7, "tags": ["a", "b"] }))
        .collect();
    // The primary key is inferred and the index created.
    script.json(Method::POST, path, json!(films)).await;
    script.get("/indexes/films").await;
    script.json(Method::POST, path, json!({ "id": 100, "title": "an object" })).await;
    script.post_text(path, "application/x-ndjson", "{\"id\":101,\"title\":\"one\"}\n{\"id\":102}\n").await;
    script.post_text(path, "text/csv", "id,title,year:number\n103,\"a, b\",1999\n104,c,2.5\n").await;
    script.post_text(&format!("{path}?csvDelimiter=;"), "text/csv", "id;title\n105;semi\n").await;
    script
        .json(Method::PUT, path, json!([{ "id": 3, "director": "someone" }, { "id": 200, "title": "new" }]))
        .await;
    script
        .json(
            Method::POST,
            path,
            json!([{ "id": 4, "title": "replaced" }, { "id": "5", "title": "text id" }]),
        )
        .await;
    script.json(Method::POST, path, json!([])).await;
    // The same id twice in one body: the last one counts, in the place of the first.
    script
        .json(Method::POST, path, json!([{ "id": 300, "v": 1 }, { "id": 301 }, { "id": 300, "v": 2 }]))
        .await;
    script.json(Method::POST, &format!("{path}?primaryKey=other"), json!([{ "id": 1, "other": 2 }])).await;
    let reads = [
        "",
        "?limit=5",
        "?offset=45&limit=20",
        "?fields=id,title",
        "?fields=*",
        "?limit=0",
        "?offset=1000",
        "?ids=3,4,100",
        "?ids=3,4&limit=1",
        "?limit=x",
        "?noSuch=1",
        "?filter=year%20%3D%201951",
        "?retrieveVectors=true",
        "/3",
        "/3?fields=title",
        "/5",
        "/nowhere",
        "/no%2Fslash",
    ];
    for read in reads {
        script.get(&format!("{path}{read}")).await;
    }
    script.json(Method::PUT, "/indexes/films/settings/filterable-attributes", json!(["year", "id"])).await;
    script.json(Method::PUT, "/indexes/films/settings/sortable-attributes", json!(["year", "title"])).await;
    for fetch in [
        json!({}),
        json!({ "filter": "year = 1951", "limit": 3 }),
        json!({ "filter": [["year = 1951", "year = 1952"]], "offset": 2, "limit": 5, "fields": ["id", "year"] }),
        json!({ "ids": [3, "4", 999] }),
        json!({ "ids": [3, 50], "filter": "year > 1900" }),
        json!({ "sort": ["year:desc", "title:asc"], "limit": 60 }),
        json!({ "sort": ["nowhere:asc"] }),
        json!({ "filter": "nowhere = 1" }),
        json!({ "limit": -1 }),
        json!({ "fields": "id" }),
        json!({ "unknown": 1 }),
    ] {
        script.json(Method::POST, &format!("{path}/fetch"), fetch).await;
    }
    script.bare(Method::DELETE, &format!("{path}/3")).await;
    script.bare(Method::DELETE, &format!("{path}/nowhere")).await;
    script.json(Method::POST, &format!("{path}/delete-batch"), json!([4, "5", 999])).await;
    script.json(Method::POST, &format!("{path}/delete-batch"), json!([])).await;
    script.json(Method::POST, &format!("{path}/delete"), json!({ "filter": "year = 1952" })).await;
    for wrong in [
        json!({ "filter": "nowhere = 1" }),
        json!({ "filter": "year =" }),
        json!({}),
        json!({ "filter": "" }),
        json!([1]),
    ] {
        script.json(Method::POST, &format!("{path}/delete"), wrong).await;
    }
    script.get(&format!("{path}?limit=100")).await;
    script.stats("/indexes/films/stats").await;
    script.bare(Method::DELETE, path).await;
    script.get(path).await;
    script.bare(Method::DELETE, "/indexes/nowhere/documents").await;
    script.finish();
}

#[tokio::test]
async fn documents_that_are_wrong() {
    let mut script = Script::start().await;
    let path = "/indexes/films/documents";
    // The index has no documents yet, so its primary key is inferred from each body.
    for wrong in [
        json!([{ "title": "no id" }]),
        json!([{ "a_id": 1, "b_id": 2 }]),
        json!([{ "name": 1 }, { "id": 2 }]),
    ] {
        script.json(Method::POST, path, wrong).await;
    }
    script.json(Method::POST, path, json!([{ "id": 1, "title": "kept" }])).await;
    for id in [
        json!(-5),
        json!(1.5),
        json!("a/b"),
        json!("a b"),
        json!(""),
        json!("é"),
        json!(null),
        json!([1]),
        json!({ "a": 1 }),
        json!(true),
        json!("x".repeat(511)),
        json!("x".repeat(512)),
        json!(18_446_744_073_709_551_615_u64),
        json!("a-b_C9"),
    ] {
        script.json(Method::POST, path, json!([{ "id": 2 }, { "id": id }, { "id": 3 }])).await;
        script.json(Method::PUT, path, json!([{ "id": id }])).await;
    }
    for wrong in [
        json!([{ "id": 9, "_geo": "here" }]),
        json!([{ "id": 9, "_geo": { "lat": 1 } }]),
        json!([{ "id": 9, "_geo": { "lat": "x", "lng": 2 } }]),
        json!([{ "id": 9, "_geo": { "lat": 100, "lng": 2 } }]),
        json!([{ "id": 9, "_geo": { "lat": "1.5", "lng": 2, "more": 1 } }]),
        json!([{ "id": 9, "_vectors": 7 }]),
        json!([{ "title": "no id" }]),
        json!("text"),
        json!(7),
        json!(null),
    ] {
        script.json(Method::POST, path, wrong).await;
    }
    for (content_type, body) in [
        ("application/json", ""),
        ("application/json", "[{\"id\":1}"),
        ("application/json", "[{\"id\":1},]"),
        ("application/json", "{\"id\":1}{\"id\":2}"),
        ("application/json", "nonsense"),
        ("application/x-ndjson", ""),
        ("application/x-ndjson", "{\"id\":1}\n{\"id\":"),
        ("text/csv", ""),
        ("text/csv", "id,title\n1\n"),
        ("text/csv", "id,year:number\n1,x\n"),
        ("text/csv", "id,title\n1,\"open\n"),
        ("text/plain", "[{\"id\":1}]"),
    ] {
        script.post_text(path, content_type, body).await;
    }
    script.raw(Method::POST, path, &[], "[{\"id\":1}]").await;
    let json_type = ("content-type", "application/json");
    script.refused(path, &[json_type], b"[{\"id\":1,\"t\":\"\xff\xfe\"}]".to_vec()).await;
    script.refused(path, &[json_type, ("content-encoding", "gzip")], "not gzip").await;
    script.post_text(&format!("{path}?csvDelimiter=;;"), "text/csv", "id\n1\n").await;
    script.post_text(&format!("{path}?csvDelimiter=;"), "application/json", "[]").await;
    script.post_text(&format!("{path}?unknown=1"), "application/json", "[]").await;
    script.post_text("/indexes/no%20spaces/documents", "application/json", "[]").await;
    // Meilisearch 1.21 has an internal error for elements that are no objects; that is not worth imitating.
    for body in ["[7]", "[[]]", "[{\"id\":10},7]"] {
        let headers = [json_type];
        let answer =
            script.oracle.subject_client().send(Method::POST, path, &headers, Some(body.into())).await;
        assert_eq!((answer.status, answer.body["code"].as_str()), (400, Some("malformed_payload")), "{body}");
    }
    // What was refused left nothing behind.
    script.get(path).await;
    script.stats("/indexes/films/stats").await;
    script.finish();
}

/// Vectors are checked by the nodes for the documents they get: Miroir has to fail the whole, with one message.
#[tokio::test]
async fn documents_without_the_vectors_they_need() {
    let mut script = Script::start().await;
    let embedders = json!({ "embedders": { "mine": { "source": "userProvided", "dimensions": 3 } } });
    script.json(Method::PATCH, "/indexes/films/settings", embedders).await;
    let path = "/indexes/films/documents";
    let missing: Vec<Value> = (0..20).map(|id| json!({ "id": id })).collect();
    script.json(Method::POST, path, json!(missing)).await;
    for vectors in [
        json!({ "mine": [1, 2, 3] }),
        json!({ "mine": [1, 2] }),
        json!({ "mine": "x" }),
        json!({ "mine": [[1, 2, 3], [3, 2, 1]] }),
        json!({ "mine": { "embeddings": [1, 2, 3], "regenerate": false } }),
        json!({ "mine": { "embeddings": [1, 2, 3] } }),
        json!({ "other": [1], "mine": null }),
    ] {
        script
            .json(
                Method::POST,
                path,
                json!([{ "id": 1, "_vectors": vectors }, { "id": 2, "_vectors": { "mine": null } }]),
            )
            .await;
        script.get(&format!("{path}?retrieveVectors=true")).await;
    }
    script.stats("/indexes/films/stats").await;
    script.finish();
}

#[tokio::test]
async fn tasks_and_stats() {
    let mut script = Script::start().await;
    script.json(Method::POST, "/indexes", json!({ "uid": "films", "primaryKey": "id" })).await;
    let path = "/indexes/films/documents";
    script.json(Method::POST, path, json!([{ "id": 1, "t": "a" }, { "id": 2, "u": null }])).await;
    script.json(Method::POST, path, json!([{ "no": 1 }])).await;
    script.json(Method::PUT, "/indexes/films/settings/stop-words", json!(["the"])).await;
    for query in [
        "",
        "?limit=2",
        "?statuses=failed",
        "?statuses=succeeded,failed&limit=1",
        "?types=indexCreation",
        "?indexUids=films",
        "?indexUids=nowhere",
        "?limit=x",
        "?statuses=nonsense",
        "?types=nonsense",
        "?from=1",
        "?reverse=true",
        "?uids=0,1",
        "?canceledBy=1",
        "?beforeEnqueuedAt=nonsense",
        "?unknown=1",
        "/0",
        "/9999",
        "/x",
    ] {
        script.get(&format!("/tasks{query}")).await;
    }
    script.stats("/stats").await;
    script.stats("/indexes/films/stats").await;
    script.get("/indexes/nowhere/stats").await;
    script.get("/health").await;
    let version = script.oracle.compare_get("/version", &["commitSha", "commitDate"]).await;
    script.note("/version", &version);
    script.get("/no/such/route").await;
    script.bare(Method::POST, "/health").await;
    script.bare(Method::DELETE, "/indexes").await;
    script.finish();
}

#[tokio::test]
async fn authentication() {
    let mut script = Script::start().await;
    script.json(Method::POST, "/indexes", json!({ "uid": "films", "primaryKey": "id" })).await;
    for key in [None, Some("wrong"), Some("")] {
        for path in [
            "/indexes",
            "/indexes/films/search",
            "/tasks",
            "/stats",
            "/version",
            "/health",
            "/indexes/films/settings",
        ] {
            script.with_key(Method::GET, path, key).await;
        }
        script.with_key(Method::DELETE, "/indexes/films", key).await;
        script.with_key(Method::POST, "/indexes/films/documents", key).await;
    }
    script.finish();
}

#[tokio::test]
async fn hostile_bodies_get_an_answer_and_leave_the_server_well() {
    let mut script = Script::start().await;
    let path = "/indexes/films/documents";
    script.json(Method::POST, path, json!([{ "id": 1, "title": "kept" }])).await;
    let deep = |levels: usize| format!("[{{\"id\":2,\"d\":{}{}}}]", "[".repeat(levels), "]".repeat(levels));
    script.post_text(path, "application/json", deep(10_000)).await;
    script.post_text(path, "application/json", "[".repeat(10_000)).await;
    script
        .post_text(
            "/indexes/films/search",
            "application/json",
            format!("{{\"filter\":{}", "[".repeat(10_000)),
        )
        .await;
    script.post_text("/indexes/films/search", "application/json", "{\"q\":\"a\"").await;
    script.post_text("/indexes/films/search", "application/json", "").await;
    script.post_text("/indexes/films/search", "text/plain", "{}").await;
    script.post_text("/indexes/films/search", "application/json", b"{\"q\":\"\xff\"}".to_vec()).await;
    script.json(Method::POST, "/indexes/nowhere/search", json!({})).await;
    script.json(Method::POST, "/indexes/no%20spaces/search", json!({})).await;
    script.get(path).await;
    script.get("/health").await;
    script.finish();
}
