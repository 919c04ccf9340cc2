//! Settings and messages translated for a node, against a Meilisearch that needs no translation.
//!
//! One server plays the single Meilisearch of the user, the other a node of Miroir. Each change is made on both,
//! translated for the node; then both must show the same settings, and fail in the same words.
// In a test, stopping at the first surprise is the wanted behaviour.
#![allow(clippy::expect_used)]

use std::sync::{Arc, Mutex};

use miroir_core::hidden::{encode_position, encode_shard};
use miroir_core::node_message::rewrite;
use miroir_core::settings::{
    NodeNeeds, SettingsChange, SettingsContext, SettingsMethod, SettingsRoute, canonical_hash,
    default_node_settings, full_node_form, repair_node_form, to_node, to_user,
};
use miroir_core::shard::ShardId;
use miroir_testkit::client::{Answer, Client};
use miroir_testkit::process::MeilisearchProcess;
use reqwest::Method;
use serde_json::{Value, json};

const NEEDS: NodeNeeds = NodeNeeds { version: (1, 21), merges: true, breaks_ties: true };
const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// The user's Meilisearch and a node, with the index `films` on both.
struct Pair {
    single: MeilisearchProcess,
    node: MeilisearchProcess,
    overlay: Value,
    user_settings: Value,
}

impl Pair {
    async fn start() -> Self {
        let (single, node) = tokio::join!(MeilisearchProcess::start(None), MeilisearchProcess::start(None));
        let mut pair = Self { single, node, overlay: Value::Null, user_settings: Value::Null };
        for server in [&pair.single, &pair.node] {
            let made = server.client().post("/indexes", &json!({"uid": "films", "primaryKey": "id"})).await;
            server.client().wait_success(made).await;
        }
        let defaults = default_node_settings(NEEDS);
        let answer = pair.node().patch("/indexes/films/settings", &defaults).await;
        pair.node().wait_success(answer).await;
        pair.compare_settings("a new index").await;
        pair
    }

    fn single(&self) -> &Client {
        self.single.client()
    }

    fn node(&self) -> &Client {
        self.node.client()
    }

    fn displayed(&self) -> Option<Vec<String>> {
        let list = self.user_settings["displayedAttributes"].as_array()?;
        let names: Vec<String> = list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        (names != ["*"]).then_some(names)
    }

    /// Makes one change on both and compares what they say about it.
    async fn change(&mut self, method: SettingsMethod, route: &str, body: Option<&[u8]>) {
        let what = format!("{method:?} {route} {}", String::from_utf8_lossy(body.unwrap_or_default()));
        let requested = SettingsChange {
            route: match route {
                "" => SettingsRoute::Whole,
                name => SettingsRoute::Sub(name.to_owned()),
            },
            method,
            body,
        };
        let context =
            SettingsContext { overlay: &self.overlay, user_settings: &self.user_settings, needs: NEEDS };
        let translated = to_node(&requested, &context);
        assert!(translated.is_ok(), "{what} is refused: {translated:?}");
        let Ok(translated) = translated else { return };

        let suffix = if route.is_empty() { String::new() } else { format!("/{route}") };
        let on_single = send(self.single(), method, &suffix, body.map(<[u8]>::to_vec)).await;
        let on_node = send(self.node(), translated.method, &translated.path_suffix, translated.body).await;
        assert_eq!(on_single.status, on_node.status, "{what}: {} and {}", on_single.body, on_node.body);
        let (Some(single_uid), Some(node_uid)) = (on_single.task_uid(), on_node.task_uid()) else {
            assert_eq!(on_single.body, self.visible(on_node.body), "{what}");
            return;
        };
        let single_task = self.single().wait_task(single_uid).await;
        let node_task = self.node().wait_task(node_uid).await;
        assert_eq!(single_task["status"], node_task["status"], "{what}: {}", node_task["error"]);
        assert_eq!(single_task["error"], self.visible(node_task["error"].clone()), "{what}");
        assert_eq!(single_task["details"], translated.details, "{what}");
        if single_task["status"] == "succeeded" {
            self.overlay = translated.overlay;
        }
        self.compare_settings(&what).await;
    }

    async fn compare_settings(&mut self, what: &str) {
        let single = self.single().get("/indexes/films/settings").await.ok();
        let node = self.node().get("/indexes/films/settings").await.ok();
        self.user_settings = to_user(&node, &self.overlay);
        assert_eq!(single, self.user_settings, "after {what}");
        let values_to_merge = node["faceting"]["maxValuesPerFacet"].as_u64();
        assert!(values_to_merge >= Some(3000), "after {what}: {}", node["faceting"]);
    }

    /// A replica made from what the user sees is the same as the one that went through all the changes: a new
    /// one, and one that had other settings.
    async fn compare_with_replicas(&self) {
        let node = self.node().get("/indexes/films/settings").await.ok();
        let other = json!({
            "rankingRules": ["sort"], "synonyms": {"q": ["r"]}, "searchCutoffMs": 7, "stopWords": ["q"],
            "typoTolerance": {"disableOnWords": ["q"]}, "faceting": {"maxValuesPerFacet": 9, "sortFacetValuesBy": {"q": "count"}},
            "embedders": {
                "open": {"source": "userProvided", "dimensions": 9},
                "surplus": {"source": "openAi", "apiKey": "k"},
            },
        });
        for before in [Value::Null, other] {
            let mut form = full_node_form(&self.user_settings, &self.overlay, NEEDS);
            if !before.is_null() {
                let answer = self.node().patch("/indexes/replica/settings", &before).await;
                self.node().wait_success(answer).await;
                let found = self.node().get("/indexes/replica/settings").await.ok();
                form = repair_node_form(&self.user_settings, &self.overlay, NEEDS, &found);
            }
            let answer = self.node().patch("/indexes/replica/settings", &form).await;
            self.node().wait_success(answer).await;
            let replica = self.node().get("/indexes/replica/settings").await.ok();
            assert_eq!(node, replica, "coming from {before}");
            assert_eq!(canonical_hash(&node), canonical_hash(&replica));
            let answer = self.node().delete("/indexes/replica").await;
            self.node().wait_success(answer).await;
        }
    }

    /// An error of the node as a user sees it.
    fn visible(&self, mut error: Value) -> Value {
        let code = error["code"].as_str().unwrap_or_default().to_owned();
        if let Some(message) = error["message"].as_str() {
            error["message"] = json!(rewrite(&code, message, self.displayed().as_deref()));
        }
        error
    }

    /// Sends a request that fails to both, and compares the errors.
    async fn fail(&self, path: &str, body: &Value) {
        let single = self.single().post(path, body).await;
        let node = self.node().post(path, body).await;
        assert_eq!(single.status, 400, "{path} {body} was to fail: {}", single.body);
        assert_eq!(single.body, self.visible(node.body), "{path} {body}");
        assert!(!single.body.to_string().contains("_miroir_"));
    }
}

async fn send(client: &Client, method: SettingsMethod, suffix: &str, body: Option<Vec<u8>>) -> Answer {
    let method = match method {
        SettingsMethod::Patch => Method::PATCH,
        SettingsMethod::Put => Method::PUT,
        SettingsMethod::Delete => Method::DELETE,
        SettingsMethod::Post => Method::POST,
    };
    let headers = if body.is_some() { JSON } else { &[] };
    client.send(method, &format!("/indexes/films/settings{suffix}"), headers, body).await
}

/// Changes through `PATCH /settings`, valid and not.
fn whole_changes() -> Vec<Value> {
    let rule = |features: Value| json!({"attributePatterns": ["x*", "b"], "features": features});
    vec![
        json!({}),
        json!({"displayedAttributes": ["b", "a", "b"], "sortableAttributes": ["z", "a", "z"]}),
        json!({"filterableAttributes": ["z", "a", "z", {"attributePatterns": ["*"]}]}),
        json!({"filterableAttributes": [rule(json!({"facetSearch": true})), rule(json!({"filter": {"comparison": true}}))]}),
        json!({"filterableAttributes": [rule(json!({"facetSearch": true, "filter": {"equality": false}}))]}),
        json!({"filterableAttributes": ["a", 3]}),
        json!({"filterableAttributes": [{"attributePatterns": "a"}]}),
        json!({"filterableAttributes": ["a", {"attributePatterns": ["a"], "features": {"facetSearch": 3}}]}),
        json!({"filterableAttributes": [{"attributePatterns": ["a"], "new": true}]}),
        json!({"filterableAttributes": "a"}),
        json!({"sortableAttributes": ["a", 3]}),
        json!({"sortableAttributes": {"a": 3}}),
        json!({"rankingRules": ["words", "a:asc", "sort", "words"]}),
        json!({"rankingRules": ["words", "wrong"]}),
        json!({"rankingRules": []}),
        json!({"rankingRules": null, "sortableAttributes": null, "filterableAttributes": null}),
        json!({"displayedAttributes": ["a", 3]}),
        json!({"displayedAttributes": 3, "rankingRules": 4}),
        json!({"rankingRules": 4, "displayedAttributes": 3}),
        json!({"displayedAttributes": ["a", "*"]}),
        json!({"displayedAttributes": []}),
        json!({"displayedAttributes": null, "searchableAttributes": null, "embedders": null, "stopWords": null}),
        json!({"searchableAttributes": ["title", "a"], "distinctAttribute": "a"}),
        json!({"stopWords": ["the", "a", "the"], "dictionary": ["z", "y"], "separatorTokens": ["|", "&sep"]}),
        json!({"synonyms": {"b": ["c"], "a": ["b", "b"]}, "pagination": {"maxTotalHits": 9}, "searchCutoffMs": 50}),
        json!({"typoTolerance": {"disableOnWords": ["z", "a"], "minWordSizeForTypos": {"oneTypo": null, "twoTypos": 12}}}),
        json!({"typoTolerance": {"minWordSizeForTypos": {"oneTypo": 9, "twoTypos": 3}}}),
        json!({"localizedAttributes": [{"locales": ["jpn", "eng"], "attributePatterns": ["*_ja"]}]}),
        json!({"proximityPrecision": "byAttribute", "facetSearch": false, "prefixSearch": "disabled"}),
        json!({"faceting": {"maxValuesPerFacet": 5, "sortFacetValuesBy": {"a": "count"}}}),
        json!({"faceting": {"maxValuesPerFacet": "5"}}),
        json!({"faceting": {"sortFacetValuesBy": {"a": "up"}}}),
        json!({"faceting": {"sortFacetValuesBy": {"a": "alpha"}}, "rankingRules": ["sort"]}),
        json!({"faceting": {"maxValuesPerFacet": null, "sortFacetValuesBy": {"*": "count"}}}),
        json!({"faceting": null}),
        json!({"faceting": {}}),
        json!({"faceting": {"maxValuesPerFacet": 0}}),
        json!({"faceting": {"maxValuesPerFacet": 5000, "sortFacetValuesBy": null}}),
        json!({"faceting": {"maxValuesPerFacet": null}}),
        json!({"faceting": {"maxValuesPerFacet": 7}}),
        json!({"nope": 1}),
        json!({"chat": null}),
        json!({"chat": {}}),
        json!([]),
        json!(null),
        json!({"embedders": {
            "open": {"source": "openAi", "apiKey": "sk-0123456789012345678901234567890"},
            "own": {"source": "ollama", "model": "m", "documentTemplate": "{{doc.title}}", "dimensions": 3},
            "user": {"source": "userProvided", "dimensions": 2},
            "implied": {},
        }}),
        json!({"embedders": {"open": {"apiKey": "short"}, "own": {"documentTemplate": null}, "implied": null}}),
        json!({"embedders": {"user": {"documentTemplate": "x"}}}),
        json!({"embedders": {"user": {"source": "openAi", "dimensions": null}, "open": {"documentTemplate": "{{wrong"}}}),
        json!({"embedders": {"user": {"source": "openAi"}}}),
        json!({"embedders": {"open": {"source": "userProvided", "dimensions": 4}, "own": {"documentTemplate": "{{doc.a}}"}}}),
        json!({"embedders": {"open": {"source": "huggingFace"}, "other": 3}}),
        json!({"embedders": {"own": {"documentTemplateMaxBytes": 20}}}),
    ]
}

#[tokio::test]
async fn users_see_the_settings_of_one_meilisearch() {
    let mut pair = Pair::start().await;
    for body in whole_changes() {
        pair.change(SettingsMethod::Patch, "", Some(body.to_string().as_bytes())).await;
    }
    pair.compare_with_replicas().await;
    for body in [&b"{\"a"[..], b"", b"{\"rankingRules\": [\"words\"], \"rankingRules\": [\"typo\"]}"] {
        pair.change(SettingsMethod::Patch, "", Some(body)).await;
    }
    let lists = json!({
        "displayedAttributes": ["a"], "filterableAttributes": ["a"], "sortableAttributes": ["a"],
        "rankingRules": ["words"], "nonSeparatorTokens": ["#"],
    });
    pair.change(SettingsMethod::Patch, "", Some(lists.to_string().as_bytes())).await;
    pair.compare_with_replicas().await;
    pair.change(SettingsMethod::Put, "", Some(b"{}")).await;
    pair.change(SettingsMethod::Delete, "", None).await;
    pair.change(SettingsMethod::Delete, "", None).await;
}

#[tokio::test]
async fn every_setting_has_its_route() {
    use SettingsMethod::{Delete, Patch, Post, Put};
    let mut pair = Pair::start().await;
    let changes = [
        (Put, "displayed-attributes", json!(["b", "a", "b"])),
        (Put, "displayed-attributes", json!(["a", 4])),
        (Put, "displayed-attributes", json!(3)),
        (Put, "displayed-attributes", json!(null)),
        (Put, "displayed-attributes", json!(["c"])),
        (Patch, "displayed-attributes", json!(3)),
        (
            Put,
            "filterable-attributes",
            json!(["z", {"attributePatterns": ["*"], "features": {"filter": {"equality": false}}}]),
        ),
        (Put, "filterable-attributes", json!(["z", 3])),
        (Put, "filterable-attributes", json!([{"attributePatterns": 3}])),
        (Put, "filterable-attributes", json!([{}])),
        (Put, "filterable-attributes", json!({})),
        (Put, "filterable-attributes", json!(null)),
        (Patch, "filterable-attributes", json!(["z"])),
        (Put, "sortable-attributes", json!(["z", "a"])),
        (Put, "sortable-attributes", json!(["z", null])),
        (Put, "ranking-rules", json!(["typo", "words"])),
        (Put, "ranking-rules", json!(["typo", "wrong:up"])),
        (Put, "ranking-rules", json!(["_geoPoint(1,2):asc"])),
        (Put, "ranking-rules", json!(null)),
        (Post, "ranking-rules", json!(["typo"])),
        (Put, "searchable-attributes", json!(["title", "*"])),
        (Put, "searchable-attributes", json!(["title", "b"])),
        (Put, "stop-words", json!(["the", "a"])),
        (Put, "non-separator-tokens", json!(["@", "#"])),
        (Put, "distinct-attribute", json!("a")),
        (Put, "distinct-attribute", json!(["a"])),
        (Patch, "typo-tolerance", json!({"enabled": false, "disableOnAttributes": ["b", "a"]})),
        (Patch, "faceting", json!({"sortFacetValuesBy": {"a": "count"}})),
        (Patch, "faceting", json!({"maxValuesPerFacet": 3})),
        (Patch, "faceting", json!({})),
        (Patch, "faceting", json!({"maxValuesPerFacet": -3})),
        (Patch, "faceting", json!({"maxValuesPerFacet": 1.5, "sortFacetValuesBy": {"a": "alpha"}})),
        (Patch, "faceting", json!({"unknown": 1})),
        (Patch, "faceting", json!({"sortFacetValuesBy": null})),
        (Patch, "faceting", json!(null)),
        (Put, "faceting", json!({"maxValuesPerFacet": 3})),
        (Patch, "faceting", json!({"maxValuesPerFacet": 4000})),
        (Patch, "faceting", json!({"maxValuesPerFacet": 4})),
        (Patch, "pagination", json!({"maxTotalHits": 5})),
        (Patch, "embedders", json!({"e": {"source": "openAi", "apiKey": "0123456789abcdef"}})),
        (Patch, "embedders", json!({"e": {"model": "text-embedding-3-large"}})),
        (Put, "search-cutoff-ms", json!(100)),
        (Put, "localized-attributes", json!([{"locales": ["fra"], "attributePatterns": ["a"]}])),
        (Put, "proximity-precision", json!("byAttribute")),
        (Put, "facet-search", json!(false)),
        (Put, "prefix-search", json!("disabled")),
        (Put, "dictionary", json!(["J. R. R."])),
        (Put, "synonyms", json!({"a": ["b"]})),
        (Put, "no-such-setting", json!(1)),
    ];
    for (method, route, body) in &changes {
        pair.change(*method, route, Some(body.to_string().as_bytes())).await;
    }
    pair.compare_with_replicas().await;
    for (_, route, _) in &changes {
        pair.change(Delete, route, None).await;
    }
    pair.compare_with_replicas().await;
    pair.change(Put, "ranking-rules", Some(b"[\"words")).await;
}

#[tokio::test]
async fn failures_are_told_in_the_words_of_one_meilisearch() {
    let mut pair = Pair::start().await;
    let mut document = json!({"id": 1, "title": "Heat", "genre": "crime", "price": 3, "secret": "x"});
    let answer = pair.single().post("/indexes/films/documents", &json!([document])).await;
    pair.single().wait_success(answer).await;
    document["_miroir_shard"] = json!(encode_shard(ShardId(3)));
    document["_miroir_inserted_at"] = json!(encode_position(9));
    let answer = pair.node().post("/indexes/films/documents", &json!([document])).await;
    pair.node().wait_success(answer).await;

    let restricted = json!({"attributePatterns": ["p*"], "features": {"facetSearch": false, "filter": {"equality": true}}});
    let unfilterable = json!({"attributePatterns": ["s*"], "features": {"facetSearch": true, "filter": {"equality": false}}});
    let settings = [
        json!({}),
        json!({"filterableAttributes": ["genre", "secret"], "sortableAttributes": ["price", "secret"]}),
        json!({"displayedAttributes": ["genre", "price"], "searchableAttributes": ["title", "genre", "secret"]}),
        json!({"displayedAttributes": ["title"], "searchableAttributes": ["genre"]}),
        json!({"displayedAttributes": []}),
        json!({"filterableAttributes": [restricted, unfilterable, "genre"], "sortableAttributes": []}),
        json!({"filterableAttributes": [], "displayedAttributes": null, "searchableAttributes": ["title"]}),
        json!({"rankingRules": ["words"]}),
    ];
    let search = "/indexes/films/search";
    let facet_search = "/indexes/films/facet-search";
    for change in settings {
        pair.change(SettingsMethod::Patch, "", Some(change.to_string().as_bytes())).await;
        pair.fail(search, &json!({"filter": "unknown = 1"})).await;
        pair.fail(search, &json!({"filter": ["unknown = 1 OR genre = 2"]})).await;
        pair.fail(search, &json!({"filter": "genre = 1 AND unknown 1 TO 3"})).await;
        pair.fail(search, &json!({"filter": "_geoRadius(1, 2, 3)"})).await;
        pair.fail(search, &json!({"filter": "genre ="})).await;
        pair.fail(search, &json!({"facets": ["unknown"]})).await;
        pair.fail(search, &json!({"facets": ["unknown", "other"]})).await;
        pair.fail(search, &json!({"distinct": "unknown"})).await;
        pair.fail(search, &json!({"sort": ["unknown:asc"]})).await;
        pair.fail(search, &json!({"sort": ["_geoPoint(1,2):asc"]})).await;
        pair.fail(search, &json!({"sort": ["unknown"]})).await;
        pair.fail(facet_search, &json!({"facetName": "unknown"})).await;
        pair.fail("/indexes/films/documents/fetch", &json!({"filter": "unknown = 1"})).await;
        pair.fail("/indexes/films/documents/fetch", &json!({"sort": ["unknown:asc"]})).await;
        pair.fail(
            "/multi-search",
            &json!({"queries": [{"indexUid": "films"}, {"indexUid": "films", "sort": ["unknown:asc"]}]}),
        )
        .await;
        if pair.user_settings["searchableAttributes"] != json!(["*"]) {
            pair.fail(search, &json!({"q": "a", "attributesToSearchOn": ["unknown"]})).await;
        }
        // These depend on a rule without the feature asked for.
        if pair.user_settings["filterableAttributes"][1]["features"].is_object() {
            pair.fail(search, &json!({"filter": "price > 3"})).await;
            pair.fail(search, &json!({"filter": "secret = 3"})).await;
            pair.fail(search, &json!({"facets": ["secret"]})).await;
            pair.fail(search, &json!({"distinct": "secret"})).await;
            pair.fail(facet_search, &json!({"facetName": "price"})).await;
        }
    }
}

/// Answers every request with one embedding, and keeps the bodies.
async fn embedder() -> (String, Arc<Mutex<Vec<Value>>>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let url = format!("http://{}/embed", listener.local_addr().expect("it is bound"));
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&bodies);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            let body = loop {
                let mut buffer = [0; 4096];
                let Ok(length @ 1..) = stream.read(&mut buffer).await else { break None };
                request.extend_from_slice(&buffer[..length]);
                let text = String::from_utf8_lossy(&request);
                let body = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
                if body.is_some() {
                    break body;
                }
            };
            kept.lock().expect("nobody panics with it").extend(body);
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\
                          connection: close\r\n\r\n{\"embedding\":[1, 2]}";
            let sent = stream.write_all(answer.as_bytes()).await;
            drop(sent);
        }
    });
    (url, bodies)
}

#[tokio::test]
async fn hidden_fields_are_not_embedded() {
    let mut pair = Pair::start().await;
    let (url, bodies) = embedder().await;
    let rest = json!({"embedders": {"e": {
        "source": "rest", "url": url, "dimensions": 2,
        "request": {"input": "{{text}}"}, "response": {"embedding": "{{embedding}}"},
    }}});
    pair.change(SettingsMethod::Patch, "", Some(rest.to_string().as_bytes())).await;
    bodies.lock().expect("nobody panics with it").clear();
    let document = json!({"id": 1, "title": "Heat", "nested": {"a": 1}});
    let mut stamped = document.clone();
    stamped["_miroir_shard"] = json!(encode_shard(ShardId(3)));
    stamped["_miroir_inserted_at"] = json!(encode_position(9));
    for (client, document) in [(pair.single(), document), (pair.node(), stamped)] {
        let answer = client.post("/indexes/films/documents", &json!([document])).await;
        client.wait_success(answer).await;
    }
    let bodies = bodies.lock().expect("nobody panics with it").clone();
    assert_eq!(bodies.len(), 2, "one document was embedded by each: {bodies:?}");
    assert!(bodies[0]["input"].as_str().is_some_and(|text| text.contains("title: Heat")), "{bodies:?}");
    assert_eq!(bodies[0], bodies[1]);
}
