//! Which nodes a read asks: those that hold the ids a filter names, and no answer changes by it.

use miroir_testkit::client::Client;
use miroir_testkit::cluster::{Cluster, Shape};
use miroir_testkit::compare::{INCIDENTAL_TO_SEARCH, compare_answers};
use miroir_testkit::oracle::Oracle;
use reqwest::Method;
use serde_json::{Value, json};

const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 32 };
const INDEX: &str = "things";

/// Ids that Meilisearch finds equal to others, and ids that only look so.
const IDS: [&str; 22] = [
    "AB",
    "ab",
    "aB",
    "Ab",
    "abc",
    "07",
    "007",
    "1e1",
    "1E1",
    "0x10",
    "-3",
    "-03",
    "a-1",
    "A-1",
    "a_1",
    "_",
    "-",
    "nan",
    "inf",
    "NaN",
    "true",
    "9007199254740993",
];

fn documents() -> Vec<Value> {
    let text = IDS.iter().map(|id| json!(id));
    let numbers = (0..60).map(|number| json!(number));
    let large = [json!(9_007_199_254_740_992_u64), json!(18_446_744_073_709_551_615_u64), json!(-7)];
    let ids = text.chain(numbers).chain(large);
    ids.enumerate()
        .map(|(at, id)| {
            let kind = ["Red", "red", "blue"][at % 3];
            let mut document = json!({
                "id": id, "group": at % 5, "price": (at * 7) % 31, "kind": kind,
                "title": format!("thing {} of the {} kind", at, ["first", "second", "thrd"][at % 3]),
            });
            if at == 40 {
                document["rare"] = json!(1);
            }
            document
        })
        .collect()
}

/// Compares what both say, one request after another.
struct Script {
    oracle: Oracle,
    differences: String,
    hits: usize,
}

impl Script {
    async fn start() -> Self {
        Self::start_with(&documents()).await
    }

    async fn start_with(documents: &[Value]) -> Self {
        let cluster = Cluster::start_with_proxies(SHAPE, "").await;
        let oracle = Oracle::with_cluster(cluster).await;
        oracle.apply_ok(Method::POST, "/indexes", &json!({ "uid": INDEX, "primaryKey": "id" })).await;
        let settings = json!({
            "filterableAttributes": ["id", "group", "price", "kind", "rare"],
            "sortableAttributes": ["price", "rare"],
            "searchCutoffMs": 30_000,
        });
        oracle.apply_ok(Method::PATCH, &format!("/indexes/{INDEX}/settings"), &settings).await;
        oracle.apply_ok(Method::POST, &format!("/indexes/{INDEX}/documents"), &json!(documents)).await;
        Self { oracle, differences: String::new(), hits: 0 }
    }

    async fn compare(&mut self, path: &str, body: &Value) {
        let (expected, found) = self.oracle.both(Method::POST, path, Some(body)).await;
        self.hits += ["hits", "results"]
            .iter()
            .filter_map(|list| expected.body[*list].as_array())
            .map(Vec::len)
            .sum::<usize>();
        let difference = compare_answers(&expected, &found, INCIDENTAL_TO_SEARCH);
        if !difference.is_empty() {
            self.differences += &format!("- {path} {body}\n{difference}");
        }
    }

    fn subject(&self) -> &Client {
        self.oracle.subject_client()
    }

    async fn explain(&self, body: &Value) -> Value {
        self.subject().post(&format!("/indexes/{INDEX}/explain"), body).await.ok()
    }

    /// How many nodes a search with this filter is to ask.
    async fn nodes_for(&self, filter: &Value) -> u64 {
        let explained = self.explain(&json!({ "filter": filter })).await;
        assert!(explained["fanOut"]["nodes"].is_u64(), "no fan-out: {explained}");
        explained["fanOut"]["nodes"].as_u64().unwrap_or_default()
    }

    /// How many requests for documents have reached the nodes.
    fn fetches(&mut self) -> u64 {
        let path = format!("POST /indexes/{INDEX}/documents/fetch");
        self.oracle.cluster().proxies.iter().map(|proxy| proxy.requests(&path)).sum()
    }

    #[track_caller]
    fn finish(self, least: usize) {
        assert!(self.hits >= least, "only {} hits were compared", self.hits);
        assert!(self.differences.is_empty(), "Miroir answers otherwise:\n{}", self.differences);
    }
}

/// Filters of which every value pins.
fn pinning() -> Vec<Value> {
    let mut filters: Vec<Value> = [
        "7", "07", "007", "7.0", "' 7 '", "1e1", "10", "-3", "-03", "ab", "AB", "Ab", "abc", "a-1", "A_1",
        "0x10", "nan", "inf", "true", "_", "-", "59", "60", "1e0", "0.5e1",
    ]
    .iter()
    .map(|value| json!(format!("id = {value}")))
    .collect();
    filters.extend([
        json!("id IN [1, 2]"),
        json!("id IN [ab, 1]"),
        json!("id = 7 AND group = 2"),
        json!("price > 3 AND (id = 7 OR id = 8)"),
        json!(["id = 3", "price >= 0"]),
        json!([["id = 3", "id = 4"]]),
        json!(["id IN [1, 2, 3]", "id IN [2]"]),
    ]);
    filters
}

/// Filters that do not say which shards matter.
fn not_pinning() -> Vec<Value> {
    vec![
        json!("id != 7"),
        json!("id > 7"),
        json!("NOT id = 7"),
        json!("id NOT IN [7]"),
        json!("id = 7 OR group = 2"),
        json!([["id = 7", "group = 2"]]),
        json!("id = 9007199254740993"),
        json!("id = 18446744073709551615"),
        json!("id STARTS WITH a"),
        json!("id = 7 AND id = 8"),
        json!("id = 'a b'"),
        json!("id IN []"),
        json!("id EXISTS"),
        json!("group = 2"),
    ]
}

#[tokio::test]
async fn reads_that_name_ids_ask_only_for_their_shards() {
    let mut script = Script::start().await;
    explanations_are_what_happens(&mut script).await;
    answers_are_the_same(&mut script).await;
    what_is_out_of_reach_is_named(&mut script).await;
    script.finish(1_000);
}

/// A UUID names one shard as long as no id has a capital letter, however it is written in the filter.
#[tokio::test]
async fn uuids_ask_one_node_until_an_id_has_capitals() {
    let mut script = Script::start_with(&[]).await;
    let uuid = |number: u64| format!("3f2504e0-4f89-11d3-9a0c-{number:012x}");
    let add = format!("/indexes/{INDEX}/documents");
    let documents: Vec<Value> =
        (0..40).map(|number| json!({ "id": uuid(number), "group": number % 3 })).collect();
    script.oracle.apply_ok(Method::POST, &add, &json!(documents)).await;
    let filters: Vec<Value> = (0..40)
        .flat_map(|number| [uuid(number), uuid(number).to_uppercase()])
        .map(|id| json!(format!("id = \"{id}\" AND group >= 0")))
        .collect();
    let search = format!("/indexes/{INDEX}/search");
    for filter in &filters {
        assert_eq!(script.nodes_for(filter).await, 1, "{filter}");
        script.compare(&search, &json!({ "filter": filter })).await;
    }
    let capital = json!([{ "id": uuid(7).to_uppercase(), "group": 7 }]);
    script.oracle.apply_ok(Method::POST, &add, &capital).await;
    for filter in &filters {
        assert_eq!(script.nodes_for(filter).await, 2, "{filter}");
        script.compare(&search, &json!({ "filter": filter })).await;
    }
    script.finish(160);
}

/// With only one node of three left, some shards have no copy, and searches for what is on them say so.
async fn what_is_out_of_reach_is_named(script: &mut Script) {
    let cluster = script.oracle.cluster();
    cluster.nodes[0].kill();
    cluster.nodes[1].kill();
    let (mut found, mut degraded) = (0, 0);
    for id in 0..60 {
        let body = json!({ "filter": format!("id = {id}") });
        let answer = script.subject().post(&format!("/indexes/{INDEX}/search"), &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let hits = answer.body["hits"].as_array().map_or(0, Vec::len);
        let is_degraded = answer.header("x-miroir-degraded").is_some();
        assert_eq!(hits == 0, is_degraded, "{id}: {}", answer.body);
        let executed = script.subject().post(&format!("/indexes/{INDEX}/explain?execute=true"), &body).await;
        assert_eq!(executed.header("x-miroir-degraded"), answer.header("x-miroir-degraded"), "{id}");
        found += hits;
        degraded += usize::from(is_degraded);
    }
    assert!(found > 0 && degraded > 0, "{found} were found, {degraded} were out of reach");
}

async fn answers_are_the_same(script: &mut Script) {
    let (search, fetch) = (format!("/indexes/{INDEX}/search"), format!("/indexes/{INDEX}/documents/fetch"));
    let whole = script.nodes_for(&json!("group = 2")).await;
    assert_eq!(whole, 2, "two nodes hold everything");
    for filter in pinning().into_iter().chain(not_pinning()) {
        for more in [
            json!({}),
            json!({ "q": "thing" }),
            json!({ "q": "thng of the second", "showRankingScore": true, "attributesToHighlight": ["*"] }),
            json!({ "q": "first kind", "showRankingScoreDetails": true, "matchingStrategy": "frequency" }),
            json!({ "facets": ["kind", "rare"] }),
            json!({ "facets": ["*"], "q": "kind" }),
            json!({ "sort": ["rare:desc", "price:asc"], "hitsPerPage": 2, "page": 1 }),
        ] {
            let mut body = more;
            body["filter"] = filter.clone();
            script.compare(&search, &body).await;
        }
        for more in [json!({}), json!({ "sort": ["rare:asc"] }), json!({ "limit": 1, "fields": ["id"] })] {
            let mut body = more;
            body["filter"] = filter.clone();
            script.compare(&fetch, &body).await;
        }
        let query = json!({ "indexUid": INDEX, "filter": filter });
        let other = json!({ "indexUid": INDEX, "filter": "id = 5", "q": "thing" });
        script.compare("/multi-search", &json!({ "queries": [query, other] })).await;
        script.compare("/multi-search", &json!({ "federation": {}, "queries": [query, other] })).await;
    }
    for filter in pinning() {
        script.compare(&search, &json!({ "filter": filter, "distinct": "group", "limit": 3 })).await;
    }
    for ids in [json!(["7"]), json!(["7", "8", "AB"]), json!(["nothing"]), json!([]), json!(["ab", "AB"])] {
        script.compare(&fetch, &json!({ "ids": ids })).await;
        script.compare(&fetch, &json!({ "ids": ids, "filter": "id IN [7, ab]" })).await;
        script.compare(&fetch, &json!({ "ids": ids, "filter": "group < 3", "sort": ["price:asc"] })).await;
    }
}

async fn explanations_are_what_happens(script: &mut Script) {
    for filter in [json!("id = 7"), json!("id = 7.0 AND group > 0"), json!(["id IN [7]"]), json!("id = -3")] {
        assert_eq!(script.nodes_for(&filter).await, 1, "{filter}");
        let explained = script.explain(&json!({ "filter": filter })).await;
        assert_eq!(explained["shards"]["asked"].as_array().map(Vec::len), Some(1), "{explained}");
        assert_eq!(explained["nodes"][0]["filterAdded"], Value::Null, "{explained}");
        assert_eq!(explained["fanOut"]["merges"], false, "{explained}");
        let before = script.fetches();
        script
            .subject()
            .post(&format!("/indexes/{INDEX}/documents/fetch"), &json!({ "filter": filter }))
            .await
            .ok();
        assert_eq!(script.fetches() - before, 1, "{filter}");
    }
    for filter in not_pinning() {
        assert_eq!(script.nodes_for(&filter).await, 2, "{filter}");
    }
    let before = script.fetches();
    script.subject().post(&format!("/indexes/{INDEX}/documents/fetch"), &json!({ "ids": ["7"] })).await.ok();
    assert_eq!(script.fetches() - before, 1, "one id is on one node");
    let before = script.fetches();
    script.subject().post(&format!("/indexes/{INDEX}/documents/fetch"), &json!({})).await.ok();
    assert_eq!(script.fetches() - before, 2);

    // Whatever is not one node's to tell asks all, and says why.
    for (body, reason) in [
        (json!({ "filter": "id = 7", "facets": ["kind"] }), "`facets` lists fields"),
        (json!({ "filter": "id = 7", "matchingStrategy": "frequency" }), "counts the words"),
        (json!({}), "no filter names ids"),
        (json!({ "filter": "id = abcdefgh" }), "may match any id"),
        (json!({ "filter": "id = 1 AND id = 2" }), "names no id that can exist"),
    ] {
        let explained = script.explain(&body).await;
        let told = explained["shards"]["reason"].as_str().unwrap_or_default().to_owned();
        assert!(told.contains(reason), "{body}: {explained}");
        assert_eq!(explained["shards"]["asked"].as_array().map(Vec::len), Some(32), "{body}: {explained}");
    }

    let body =
        json!({ "q": "thing", "filter": "id IN [1, 2, 3, 4, 5]", "offset": 990, "sort": ["title:asc"] });
    let explained = script.explain(&body).await;
    assert_eq!(explained["kind"], "keyword");
    assert_eq!(explained["fanOut"]["merges"], true);
    assert_eq!(explained["placementEpoch"].as_u64(), Some(0), "{explained}");
    assert_eq!(explained["replicaGroups"], json!([0]));
    let codes = |explained: &Value| -> Vec<String> {
        let warnings = explained["warnings"].as_array().cloned().unwrap_or_default();
        warnings.iter().filter_map(|warning| warning["code"].as_str().map(str::to_owned)).collect()
    };
    assert_eq!(codes(&explained), ["attribute_not_sortable"], "{explained}");
    let explained = script.explain(&json!({ "filter": "title = x", "offset": 990, "limit": 500 })).await;
    assert_eq!(codes(&explained), ["attribute_not_filterable"], "{explained}");
    let by_query =
        script.subject().get(&format!("/indexes/{INDEX}/explain?filter=id%20%3D%207&q=thing")).await.ok();
    assert_eq!(by_query["fanOut"]["nodes"], 1, "{by_query}");

    let path = format!("/indexes/{INDEX}/explain?execute=true");
    let executed = script.subject().post(&path, &json!({ "q": "thing", "filter": "id = 7" })).await.ok();
    let execution = &executed["execution"];
    assert_eq!(execution["answer"]["hits"][0]["id"], 7, "{executed}");
    assert_eq!(execution["nodes"][0]["node"], executed["nodes"][0]["node"], "{executed}");
    assert!(execution["totalMs"].as_f64() >= execution["slowestNodeMs"].as_f64(), "{executed}");
    let refused = script.subject().post(&path, &json!({ "filter": "title = x" })).await.ok();
    assert_eq!(refused["execution"]["error"]["code"], "invalid_search_filter", "{refused}");
    let search = format!("/indexes/{INDEX}/search");
    for wrong in [json!({ "limit": -1 }), json!({ "unknown": 1 }), json!({ "filter": "_miroir_shard = 1" })] {
        let explained = script.subject().post(&format!("/indexes/{INDEX}/explain"), &wrong).await;
        let searched = script.subject().post(&search, &wrong).await;
        if wrong.get("unknown").is_none() {
            assert_eq!((explained.status, &explained.body), (searched.status, &searched.body), "{wrong}");
        }
    }
    let wrong = script.subject().post(&format!("/indexes/{INDEX}/explain?execute=1"), &json!({})).await;
    assert_eq!(wrong.body["code"], "miroir_invalid_explain_execute", "{}", wrong.body);
    let missing = script.subject().post("/indexes/nowhere/explain", &json!({})).await;
    assert_eq!(missing.body["code"], "index_not_found", "{}", missing.body);
}
