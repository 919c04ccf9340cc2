//! Keys and tenant tokens: whoever presents one is let in, kept out and shown the same as by a real Meilisearch.
//!
//! Both servers have the same master key and the same uids of keys, so what clients present is the same as well.

#![allow(clippy::expect_used)]

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use miroir_testkit::cluster::Shape;
use miroir_testkit::compare::{INCIDENTAL_TO_SEARCH, INCIDENTAL_TO_TASKS, compare_answers};
use miroir_testkit::oracle::Oracle;
use reqwest::Method;
use serde_json::{Value, json};

const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };
const SEARCH_UID: &str = "11111111-aaaa-4bbb-8ccc-000000000001";
const SHOP_UID: &str = "11111111-aaaa-4bbb-8ccc-000000000002";
const WRITER_UID: &str = "11111111-aaaa-4bbb-8ccc-000000000003";
const READER_UID: &str = "11111111-aaaa-4bbb-8ccc-000000000004";
const ADMIN_UID: &str = "11111111-aaaa-4bbb-8ccc-000000000005";

/// Asks both servers the same, and gathers what differs.
struct Script {
    oracle: Oracle,
    differences: String,
}

impl Script {
    async fn start() -> Self {
        let against_itself = std::env::var_os("MIROIR_TEST_AGAINST_ITSELF").is_some();
        let oracle = if against_itself { Oracle::against_itself().await } else { Oracle::start(SHAPE).await };
        Self { oracle, differences: String::new() }
    }

    /// With the master key.
    async fn ask(&mut self, method: Method, path: &str, body: Value, incidental: &[&str]) -> Value {
        let body = (!body.is_null()).then_some(body);
        let (expected, found) = self.oracle.both(method.clone(), path, body.as_ref()).await;
        let difference = compare_answers(&expected, &found, incidental);
        if !difference.is_empty() {
            self.differences += &format!("- {method} {path} {body:?}\n{difference}");
        }
        expected.body
    }

    /// As somebody who presents this. Returns the status.
    async fn ask_as(&mut self, key: Option<&str>, method: Method, path: &str, body: Value) -> u16 {
        let body = (!body.is_null()).then_some(body);
        let (one, other) =
            (self.oracle.reference_client().with_key(key), self.oracle.subject_client().with_key(key));
        let (expected, found) = tokio::join!(
            one.call(method.clone(), path, body.as_ref()),
            other.call(method.clone(), path, body.as_ref())
        );
        if let (Some(one), Some(other)) = (expected.task_uid(), found.task_uid()) {
            // What comes next must find it done.
            tokio::join!(
                self.oracle.reference_client().wait_task(one),
                self.oracle.subject_client().wait_task(other)
            );
        }
        let mut incidental = [INCIDENTAL_TO_TASKS, INCIDENTAL_TO_SEARCH].concat();
        if path.ends_with("/stats") {
            // Sizes are each server's own.
            incidental.extend(["databaseSize", "usedDatabaseSize", "rawDocumentDbSize", "avgDocumentSize"]);
        }
        if path.starts_with("/tasks") {
            // One Meilisearch counts what it does not show.
            incidental.extend(["from", "next", "total"]);
            if let (Some(results), Some(total)) =
                (found.body["results"].as_array(), found.body["total"].as_u64())
            {
                assert_eq!(results.len() as u64, total, "what is not shown is not counted");
            }
        }
        let mut expected = expected;
        let mut found = found;
        for answer in [&mut expected, &mut found] {
            // The first tells the time; the second is how a library says it, which changes with its version.
            for beginning in ["Tenant token expired", "Could not decode tenant token, JSON error: UUID"] {
                let message = answer.body.get("message").and_then(Value::as_str).unwrap_or_default();
                if message.starts_with(beginning) {
                    answer.body["message"] = json!(beginning);
                }
            }
        }
        let difference = compare_answers(&expected, &found, &incidental);
        if !difference.is_empty() {
            let key = key.unwrap_or("nothing");
            self.differences += &format!("- {method} {path} {body:?} with {key}\n{difference}");
        }
        expected.status
    }

    async fn make_key(&mut self, uid: &str, actions: Value, indexes: Value) -> String {
        let body = json!({
            "uid": uid, "name": format!("key {uid}"), "actions": actions, "indexes": indexes, "expiresAt": null,
        });
        let made = self.ask(Method::POST, "/keys", body, INCIDENTAL_TO_TASKS_BUT_UID).await;
        made["key"].as_str().map(str::to_owned).expect("a key was made")
    }

    fn finish(self) {
        assert!(self.differences.is_empty(), "the servers differ:\n{}", self.differences);
    }
}

const INCIDENTAL_TO_TASKS_BUT_UID: &[&str] = &["createdAt", "updatedAt"];

async fn load(script: &mut Script) {
    for index in ["movies", "shop_shoes", "shop_hats"] {
        let oracle = &script.oracle;
        oracle.apply_ok(Method::POST, "/indexes", &json!({ "uid": index, "primaryKey": "id" })).await;
        let settings = json!({ "filterableAttributes": ["tenant", "kind"], "sortableAttributes": ["id"] });
        oracle.apply_ok(Method::PATCH, &format!("/indexes/{index}/settings"), &settings).await;
        let documents: Vec<Value> = (0..40)
            .map(|id| {
                let kind = if id % 2 == 0 { "a" } else { "b" };
                json!({ "id": id, "tenant": id % 4, "kind": kind, "title": format!("{index} {id}") })
            })
            .collect();
        oracle.apply_ok(Method::POST, &format!("/indexes/{index}/documents"), &json!(documents)).await;
    }
}

#[tokio::test]
async fn keys_are_made_listed_changed_and_taken_away_alike() {
    let mut script = Script::start().await;
    let incidental = &["createdAt", "updatedAt"];
    // The four that every server begins with, each with a uid of its own.
    let defaults =
        script.ask(Method::GET, "/keys", Value::Null, &["createdAt", "updatedAt", "uid", "key"]).await;
    assert_eq!(defaults["total"], 4);

    let whole = json!({
        "uid": SEARCH_UID, "name": "search", "description": "of movies", "actions": ["search", "documents.*"],
        "indexes": ["movies", "shop_*"], "expiresAt": "2999-01-01",
    });
    let made = script.ask(Method::POST, "/keys", whole.clone(), incidental).await;
    let secret = made["key"].as_str().unwrap_or_default().to_owned();
    assert_eq!(secret.len(), 64);
    script.ask(Method::POST, "/keys", whole, incidental).await;
    let expiries =
        ["2999-01-01T10:00:00Z", "2999-01-01T10:00:00+01:00", "2999-01-01 10:00:00", "2999-01-01T10:00:00"];
    for (number, expiry) in expiries.into_iter().enumerate() {
        let uid = format!("22222222-aaaa-4bbb-8ccc-00000000000{number}");
        let body = json!({ "uid": uid, "actions": [], "indexes": [], "expiresAt": expiry });
        script.ask(Method::POST, "/keys", body, incidental).await;
    }
    for wrong in [
        json!({}),
        json!({ "actions": ["search"] }),
        json!({ "indexes": ["*"], "expiresAt": null }),
        json!({ "actions": ["search"], "indexes": ["*"] }),
        json!({ "actions": ["fly"], "indexes": ["*"], "expiresAt": null }),
        json!({ "actions": "search", "indexes": ["*"], "expiresAt": null }),
        json!({ "actions": ["search"], "indexes": ["a b"], "expiresAt": null }),
        json!({ "actions": ["search"], "indexes": ["a*b"], "expiresAt": null }),
        json!({ "actions": ["search"], "indexes": [7], "expiresAt": null }),
        json!({ "actions": ["search"], "indexes": ["*"], "expiresAt": "yesterday" }),
        json!({ "actions": ["search"], "indexes": ["*"], "expiresAt": "1999-01-01" }),
        json!({ "actions": ["search"], "indexes": ["*"], "expiresAt": 7 }),
        json!({ "actions": ["search"], "indexes": ["*"], "expiresAt": null, "uid": "seven" }),
        json!({ "actions": ["search"], "indexes": ["*"], "expiresAt": null, "uid": null }),
        json!({ "actions": ["search"], "indexes": ["*"], "expiresAt": null, "name": 7 }),
        json!({ "actions": ["search"], "indexes": ["*"], "expiresAt": null, "description": [] }),
        json!({ "uid": "seven", "actions": ["fly"] }),
        json!([]),
        json!("key"),
    ] {
        script.ask(Method::POST, "/keys", wrong, &[]).await;
    }

    let newest = "/keys?limit=5";
    script.ask(Method::GET, newest, Value::Null, &["createdAt", "updatedAt"]).await;
    for query in ["offset=1&limit=2", "offset=100", "limit=0", "limit=x", "offset=-1", "page=1"] {
        script.ask(Method::GET, &format!("/keys?{query}"), Value::Null, incidental).await;
    }
    script.ask(Method::GET, &format!("/keys/{SEARCH_UID}"), Value::Null, incidental).await;
    script.ask(Method::GET, &format!("/keys/{}", SEARCH_UID.replace('-', "")), Value::Null, incidental).await;
    script.ask(Method::GET, &format!("/keys/{secret}"), Value::Null, incidental).await;
    script.ask(Method::GET, "/keys/nobody", Value::Null, &[]).await;
    script.ask(Method::GET, "/keys/33333333-aaaa-4bbb-8ccc-000000000000", Value::Null, &[]).await;

    let path = format!("/keys/{SEARCH_UID}");
    for change in [
        json!({ "name": "renamed" }),
        json!({ "description": null }),
        json!({ "name": null, "description": "again" }),
        json!({}),
        json!({ "name": 7 }),
        json!({ "uid": SHOP_UID }),
        json!({ "actions": ["*"] }),
        json!({ "indexes": ["*"] }),
        json!({ "expiresAt": null }),
        json!({ "createdAt": "2020-01-01" }),
        json!({ "key": "mine" }),
        json!([]),
    ] {
        script.ask(Method::PATCH, &path, change, incidental).await;
    }
    script.ask(Method::PATCH, "/keys/nobody", json!({ "name": "x" }), &[]).await;
    script.ask(Method::GET, &path, Value::Null, incidental).await;

    script.ask(Method::DELETE, &format!("/keys/{secret}"), Value::Null, &[]).await;
    script.ask(Method::DELETE, &path, Value::Null, &[]).await;
    script.ask_as(Some(&secret), Method::POST, "/indexes/movies/search", json!({})).await;
    for name in ["Default Search API Key", "Default Admin API Key"] {
        for client in [script.oracle.reference_client(), script.oracle.subject_client()] {
            let keys = client.get("/keys").await.ok();
            let all = keys["results"].as_array().cloned().unwrap_or_default();
            assert!(all.iter().any(|key| key["name"] == name), "{name} is there");
        }
    }
    script.finish();
}

#[tokio::test]
async fn a_key_opens_the_same_doors() {
    let mut script = Script::start().await;
    load(&mut script).await;
    let search = script.make_key(SEARCH_UID, json!(["search"]), json!(["*"])).await;
    let shop = script.make_key(SHOP_UID, json!(["*"]), json!(["shop_*"])).await;
    let writer = script
        .make_key(WRITER_UID, json!(["documents.add", "tasks.get", "settings.*"]), json!(["movies", "new"]))
        .await;
    let reader = script.make_key(READER_UID, json!(["*.get"]), json!(["*"])).await;
    let admin = script.make_key(ADMIN_UID, json!(["*"]), json!(["*"])).await;
    let presented =
        [Some(&*search), Some(&*shop), Some(&*writer), Some(&*reader), Some(&*admin), Some("wrong"), None];
    let document = json!([{ "id": 100, "title": "one more" }]);
    let both = json!({ "queries": [
        { "indexUid": "shop_hats", "q": "hats", "limit": 2 }, { "indexUid": "movies", "q": "movies", "limit": 2 },
    ] });
    let requests = [
        (Method::POST, "/indexes/movies/search", json!({ "q": "movies", "limit": 3 })),
        (Method::GET, "/indexes/shop_hats/search?q=7", Value::Null),
        (Method::POST, "/indexes/nowhere/search", json!({})),
        (Method::GET, "/indexes", Value::Null),
        (Method::GET, "/indexes/movies", Value::Null),
        (Method::GET, "/indexes/movies/documents?limit=2", Value::Null),
        (Method::POST, "/indexes/shop_hats/documents/fetch", json!({ "limit": 1 })),
        (Method::GET, "/indexes/movies/documents/7", Value::Null),
        (Method::GET, "/indexes/movies/settings", Value::Null),
        (Method::PATCH, "/indexes/movies/settings", json!({ "stopWords": ["the"] })),
        (Method::GET, "/indexes/movies/stats", Value::Null),
        (Method::GET, "/stats", Value::Null),
        (Method::POST, "/indexes/movies/documents", document.clone()),
        (Method::PUT, "/indexes/shop_hats/documents", document.clone()),
        (Method::DELETE, "/indexes/movies/documents/100", Value::Null),
        (Method::POST, "/indexes/shop_hats/documents/delete-batch", json!([100])),
        // Made by writing to it only by who may make indexes.
        (Method::POST, "/indexes/new/documents", document.clone()),
        (Method::PATCH, "/indexes/new/settings", json!({ "stopWords": ["the"] })),
        (Method::DELETE, "/indexes/new", Value::Null),
        (Method::POST, "/indexes", json!({ "uid": "shop_new" })),
        (Method::DELETE, "/indexes/shop_new", Value::Null),
        (Method::GET, "/tasks?limit=500&types=settingsUpdate", Value::Null),
        (Method::GET, "/tasks?indexUids=movies,shop_hats&limit=500", Value::Null),
        (Method::GET, "/batches?indexUids=nowhere", Value::Null),
        (Method::GET, "/tasks/0", Value::Null),
        (Method::POST, "/indexes/shop_hats/facet-search", json!({ "facetName": "kind" })),
        (Method::POST, "/multi-search", both.clone()),
        (Method::GET, "/keys?limit=1", Value::Null),
        (Method::POST, "/keys", json!({ "actions": ["fly"] })),
        (Method::DELETE, "/keys/nobody", Value::Null),
        (Method::GET, "/version", Value::Null),
        (Method::GET, "/health", Value::Null),
    ];
    let mut let_in = 0;
    for key in presented {
        for (method, path, body) in &requests {
            if *path == "/version" && key == Some(&*admin) {
                continue;
            }
            let status = script.ask_as(key, method.clone(), path, body.clone()).await;
            let_in += usize::from(status < 400);
        }
    }
    assert!(let_in > 40, "{let_in} requests were let in");
    // In the words Meilisearch wants, and not.
    for header in ["bearer KEY", "Basic KEY", "Bearer", "Bearer  KEY", "KEY", "Bearer KEY "] {
        let header = header.replace("KEY", &search);
        let headers = [("authorization", header.as_str()), ("content-type", "application/json")];
        let ask = async |client: &miroir_testkit::client::Client| {
            let client = client.with_key(None);
            client.send(Method::POST, "/indexes/movies/search", &headers, Some(b"{}".to_vec())).await
        };
        let (expected, found) =
            tokio::join!(ask(script.oracle.reference_client()), ask(script.oracle.subject_client()));
        let difference = compare_answers(&expected, &found, INCIDENTAL_TO_SEARCH);
        assert!(difference.is_empty(), "{header}:\n{difference}");
    }
    script.finish();
}

fn token(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes()))
        .expect("it can be signed")
}

#[tokio::test]
async fn a_tenant_token_shows_what_it_should_and_nothing_else() {
    let mut script = Script::start().await;
    load(&mut script).await;
    let search = script.make_key(SEARCH_UID, json!(["search"]), json!(["movies", "shop_*"])).await;
    let writer = script.make_key(WRITER_UID, json!(["documents.add"]), json!(["*"])).await;
    let of =
        |rules: Value| json!({ "searchRules": rules, "apiKeyUid": SEARCH_UID, "exp": 4_000_000_000_u64 });
    let rules = [
        json!(["*"]),
        json!(["movies"]),
        json!(["shop_*"]),
        json!({ "*": null }),
        json!({ "*": {} }),
        json!({ "movies": { "filter": "tenant = 1" } }),
        json!({ "*": { "filter": ["tenant = 1", ["kind = a", "kind = b"]] } }),
        json!({ "*": { "filter": "tenant = 1" }, "shop_*": { "filter": "tenant = 2" }, "shop_hats": null }),
        json!({ "*": { "filter": "secret = 1" } }),
        json!({ "*": { "filter": "tenant = " } }),
        json!({ "*": { "filter": 7 } }),
        json!([]),
        json!({}),
    ];
    let mut tokens: Vec<String> =
        rules.iter().map(|rules| token(Algorithm::HS256, &search, &of(rules.clone()))).collect();
    let everything = of(json!(["*"]));
    tokens.push(token(Algorithm::HS384, &search, &everything));
    tokens.push(token(Algorithm::HS512, &search, &everything));
    tokens.push(token(Algorithm::HS256, "another secret", &everything));
    tokens.push(token(Algorithm::HS256, &search, &json!({ "searchRules": ["*"], "apiKeyUid": SEARCH_UID })));
    let expired = json!({ "searchRules": ["*"], "apiKeyUid": SEARCH_UID, "exp": 1_000_000_000 });
    tokens.push(token(Algorithm::HS256, &search, &expired));
    tokens.push(token(Algorithm::HS256, &search, &json!({ "searchRules": ["*"] })));
    tokens.push(token(Algorithm::HS256, &search, &json!({ "apiKeyUid": SEARCH_UID })));
    tokens.push(token(Algorithm::HS256, &search, &json!({ "searchRules": 7, "apiKeyUid": SEARCH_UID })));
    tokens.push(token(Algorithm::HS256, &search, &json!({ "searchRules": ["*"], "apiKeyUid": "nobody" })));
    let stranger = json!({ "searchRules": ["*"], "apiKeyUid": "44444444-aaaa-4bbb-8ccc-000000000000" });
    tokens.push(token(Algorithm::HS256, &search, &stranger));
    // Of a key that may not search.
    let of_writer = json!({ "searchRules": ["*"], "apiKeyUid": WRITER_UID });
    tokens.push(token(Algorithm::HS256, &writer, &of_writer));
    // Without a signature, in two ways; cut off; and far too long.
    let signed = token(Algorithm::HS256, &search, &everything);
    let (claims, _) = signed.rsplit_once('.').expect("a token has parts");
    let (_, payload) = claims.split_once('.').expect("a token has parts");
    tokens.push(format!("{claims}."));
    tokens.push(format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}."));
    tokens.push(signed[..signed.len() - 7].to_owned());
    tokens.push(claims.to_owned());
    tokens.push("a.b.c".to_owned());
    let long: Vec<String> = (0..300).map(|number| format!("an_index_{number}")).collect();
    tokens.push(token(Algorithm::HS256, &search, &of(json!(long))));

    let queries = json!({ "queries": [
        { "indexUid": "movies", "q": "movies", "filter": "kind = a OR tenant > -1", "limit": 30 },
        { "indexUid": "shop_shoes", "sort": ["id:desc"], "limit": 30 },
    ] });
    let mut federated = queries.clone();
    federated["federation"] = json!({ "limit": 50 });
    federated["queries"][1] = json!({ "indexUid": "movies", "q": "movies 7", "filter": ["kind = b"] });
    let searches = [
        (Method::POST, "/indexes/movies/search", json!({ "limit": 50, "sort": ["id:asc"] })),
        (
            Method::POST,
            "/indexes/shop_hats/search",
            json!({ "limit": 50, "filter": "kind = a", "sort": ["id:desc"] }),
        ),
        (
            Method::POST,
            "/indexes/shop_shoes/search",
            json!({ "limit": 50, "filter": ["kind = a", ["tenant = 2", "tenant = 3"]] }),
        ),
        // Out of its parentheses.
        (
            Method::POST,
            "/indexes/movies/search",
            json!({ "limit": 50, "filter": "kind = a) OR (tenant > -1" }),
        ),
        (Method::POST, "/indexes/movies/search", json!({ "limit": 50, "filter": "kind = a OR tenant > -1" })),
        (
            Method::POST,
            "/indexes/movies/search",
            json!({ "limit": 50, "filter": [["kind = a", "tenant > -1"]] }),
        ),
        (Method::POST, "/indexes/movies/search", json!({ "filter": null, "facets": ["tenant"] })),
        (Method::POST, "/indexes/movies/search", json!({ "filter": {} })),
        (Method::POST, "/indexes/movies/search", json!([])),
        (Method::GET, "/indexes/movies/search?limit=many", Value::Null),
        (
            Method::GET,
            "/indexes/movies/search?limit=50&filter=kind%20%3D%20a%20OR%20tenant%20%3E%20-1",
            Value::Null,
        ),
        (Method::GET, "/indexes/movies/search?limit=50&filter=%5B%22kind%20%3D%20a%22%5D", Value::Null),
        (Method::GET, "/indexes/movies/search", Value::Null),
        (Method::POST, "/indexes/nowhere/search", json!({})),
        (
            Method::POST,
            "/indexes/movies/facet-search",
            json!({ "facetName": "kind", "filter": "tenant > 0" }),
        ),
        (Method::POST, "/indexes/shop_hats/facet-search", json!({ "facetName": "tenant" })),
        (Method::POST, "/multi-search", queries.clone()),
        (Method::POST, "/multi-search", federated),
        (Method::POST, "/multi-search", json!({ "queries": 7 })),
        // Nothing but searching.
        (Method::GET, "/indexes/movies/documents", Value::Null),
        (Method::GET, "/keys", Value::Null),
    ];
    let mut answered = 0;
    for token in &tokens {
        for (method, path, body) in &searches {
            let status = script.ask_as(Some(token), method.clone(), path, body.clone()).await;
            answered += usize::from(status == 200);
        }
    }
    assert!(answered > 50, "{answered} searches were answered");
    script.finish();
}
