//! Several searches in one request: Miroir answers each as one Meilisearch does, and refuses what it refuses.

use miroir_testkit::client::Answer;
use miroir_testkit::cluster::Shape;
use miroir_testkit::compare::{INCIDENTAL_TO_SEARCH, compare_answers};
use miroir_testkit::corpus::catalogue;
use miroir_testkit::oracle::Oracle;
use miroir_testkit::profile::Profile;
use miroir_testkit::request::Generator;
use reqwest::Method;
use serde_json::{Value, json};

const SEED: u64 = 11;
const DOCUMENTS: usize = 900;
const PATH: &str = "/multi-search";
const ONE_COPY: Shape = Shape { nodes: 3, replication_factor: 1, replica_groups: 1, shards: 7 };
const TWO_COPIES: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };

async fn start(shape: Shape) -> Oracle {
    let against_itself = std::env::var_os("MIROIR_TEST_AGAINST_ITSELF").is_some();
    let oracle = if against_itself { Oracle::against_itself().await } else { Oracle::start(shape).await };
    let corpus = catalogue(SEED, DOCUMENTS);
    for profile in [Profile::Default, Profile::Explicit] {
        oracle.load_and_change(profile.label(), &corpus, profile).await;
    }
    oracle
}

/// Sends the same to both, and says how the answers differ.
async fn compare(oracle: &Oracle, body: &Value) -> (Answer, String) {
    let (expected, found) = oracle.both(Method::POST, PATH, Some(body)).await;
    let difference = compare_answers(&expected, &found, INCIDENTAL_TO_SEARCH);
    let shown: String = body.to_string().chars().take(400).collect();
    let report = if difference.is_empty() { String::new() } else { format!("- {shown}\n{difference}") };
    (expected, report)
}

/// Whether totals or facets may depend on which nodes answer, for the reasons in docs/fidelity.md. Many at once are
/// answered by other nodes than one alone.
fn depends_on_the_cover(body: &Value) -> bool {
    let has = |name: &str| body.get(name).is_some_and(|value| !value.is_null());
    has("distinct")
        || has("rankingScoreThreshold")
        || has("facets")
        || body["matchingStrategy"] == "frequency"
}

/// Generated searches, many in one request, on two indexes.
async fn assert_faithful(shape: Shape) {
    let oracle = start(shape).await;
    let corpus = catalogue(SEED, DOCUMENTS);
    let mut generator = Generator::new(&corpus, SEED);
    let mut differences = String::new();
    let mut answered = 0;
    for _ in 0..12 {
        let mut queries = Vec::new();
        while queries.len() < 25 {
            let request = generator.next_request();
            let index = if queries.len() % 3 == 0 { "explicit" } else { "default" };
            let (method, path, body) = request.parts(index);
            let (Method::POST, Some(body)) = (method, body) else { continue };
            let body = body.as_ref();
            if request.kind.is_beyond_search() || depends_on_the_cover(body) {
                continue;
            }
            let (alone, found) = oracle.both(Method::POST, &path, Some(body)).await;
            // What differs on its own, for the reasons in docs/fidelity.md, differs here as well.
            if alone.status == 200 && compare_answers(&alone, &found, INCIDENTAL_TO_SEARCH).is_empty() {
                let mut query = body.clone();
                query["indexUid"] = json!(index);
                queries.push(query);
            }
        }
        let (expected, report) = compare(&oracle, &json!({ "queries": queries })).await;
        answered += expected.body["results"].as_array().map_or(0, Vec::len);
        differences += &report;
    }
    assert!(answered >= 300, "{answered} queries were answered");
    assert!(differences.is_empty(), "Miroir answers otherwise:\n{differences}");
}

#[tokio::test]
async fn queries_of_several_nodes() {
    assert_faithful(ONE_COPY).await;
}

#[tokio::test]
async fn queries_of_several_nodes_with_two_copies() {
    assert_faithful(TWO_COPIES).await;
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_same_words() {
    let oracle = start(TWO_COPIES).await;
    let good = json!({ "indexUid": "default", "q": "a", "limit": 2 });
    let with = |query: Value| json!({ "queries": [good, query, good] });
    let bad_filter = json!({ "indexUid": "default", "filter": "nothing = 1" });
    let mut differences = String::new();
    for body in [
        json!({ "queries": [] }),
        json!({}),
        json!([]),
        json!({ "queries": {} }),
        json!({ "queries": null }),
        json!({ "queries": [1] }),
        json!({ "queries": [good], "unknown": 1 }),
        json!({ "queries": [good], "federation": null }),
        json!({ "queries": [good], "federation": 1 }),
        with(json!({})),
        with(json!({ "indexUid": "nowhere" })),
        with(json!({ "indexUid": "no spaces" })),
        with(json!({ "indexUid": 1 })),
        with(json!({ "indexUid": "default", "limit": null, "offset": null, "page": null })),
        with(json!({ "indexUid": "default", "limit": -1 })),
        with(json!({ "indexUid": "default", "cropLength": "x" })),
        with(json!({ "indexUid": "default", "unknown": 1 })),
        with(json!({ "indexUid": "default", "q": 1 })),
        with(json!({ "indexUid": "default", "filter": 1 })),
        with(bad_filter.clone()),
        with(json!({ "indexUid": "default", "sort": ["nothing:asc"] })),
        with(json!({ "indexUid": "explicit", "sort": ["nothing:asc"] })),
        with(json!({ "indexUid": "default", "facets": ["nothing"] })),
        with(json!({ "indexUid": "default", "federationOptions": {} })),
        with(json!({ "indexUid": "default", "federationOptions": null })),
        with(json!({ "indexUid": "default", "federationOptions": { "weight": -1 } })),
        with(json!({ "indexUid": "default", "federationOptions": { "unknown": 1 } })),
        with(json!({ "indexUid": "nowhere", "federationOptions": {} })),
        // The form of a later query goes before what is wrong with an earlier one.
        json!({ "queries": [bad_filter, good, { "indexUid": "default", "cropLength": "x" }] }),
        json!({ "queries": [bad_filter, { "indexUid": "nowhere" }] }),
        json!({ "queries": [{ "indexUid": "nowhere" }, bad_filter] }),
        json!({ "queries": [{ "indexUid": "default", "federationOptions": {} }, bad_filter] }),
        json!({ "queries": [bad_filter, { "indexUid": "default", "federationOptions": {} }] }),
    ] {
        differences += &compare(&oracle, &body).await.1;
    }
    for body in ["", "{", "{\"queries\":[{\"indexUid\":\"default\"}]", "nonsense"] {
        let send = |client: &miroir_testkit::client::Client| {
            let client = client.clone();
            async move {
                let headers = [("content-type", "application/json")];
                client.send(Method::POST, PATH, &headers, Some(body.into())).await
            }
        };
        let (expected, found) = tokio::join!(send(oracle.reference_client()), send(oracle.subject_client()));
        let difference = compare_answers(&expected, &found, &[]);
        if !difference.is_empty() {
            differences += &format!("- {body}\n{difference}");
        }
    }
    assert!(differences.is_empty(), "Miroir refuses otherwise:\n{differences}");
}

/// However many queries there are, they are answered a few at a time, and other clients are answered meanwhile.
#[tokio::test]
async fn ten_thousand_queries_are_answered() {
    let mut oracle = start(TWO_COPIES).await;
    let queries: Vec<Value> = (0..10_000)
        .map(|number| json!({ "indexUid": "default", "q": (number % 50).to_string(), "limit": 1 }))
        .collect();
    let (expected, report) = compare(&oracle, &json!({ "queries": queries })).await;
    assert_eq!(expected.body["results"].as_array().map(Vec::len), Some(10_000));
    assert!(report.is_empty(), "{report}");

    let wrong: Vec<Value> =
        (0..10_000).map(|number| json!({ "indexUid": "nowhere", "q": number.to_string() })).collect();
    let (expected, report) = compare(&oracle, &json!({ "queries": wrong })).await;
    assert_eq!(expected.status, 400);
    assert!(report.is_empty(), "{report}");
    let health = oracle.cluster().client().get("/health").await;
    assert_eq!(health.status, 200);
}

/// Where shards cannot be reached, the answer names those of all queries together.
#[tokio::test]
async fn missing_shards_are_named() {
    let mut oracle = start(ONE_COPY).await;
    oracle.cluster().nodes[1].kill();
    let queries = json!([{ "indexUid": "default" }, { "indexUid": "explicit" }]);
    let found = oracle.subject_client().post(PATH, &json!({ "queries": queries })).await;
    assert_eq!(found.status, 200, "{}", found.body);
    assert!(found.header("x-miroir-degraded").is_some_and(|shards| shards.starts_with("shards=")));
}
