//! Facets of nodes, merged, against those of one Meilisearch that holds all their documents.
//!
//! What is compared is the text of the lists: their order counts.

use bytes::Bytes;
use miroir_core::hidden::{encode_position, encode_shard};
use miroir_core::search::{Depth, SearchPlan, SearchSettings};
use miroir_core::settings::{
    NodeNeeds, SettingsChange, SettingsContext, SettingsMethod, SettingsRoute, default_node_settings, to_node,
};
use miroir_core::shard::ShardId;
use miroir_testkit::client::Client;
use miroir_testkit::process::MeilisearchProcess;
use serde_json::{Value, json};

const NEEDS: NodeNeeds = NodeNeeds { version: (1, 21), merges: true, breaks_ties: true };
/// One more than are listed by text, most of them on the first node.
const DOCUMENTS: u64 = 3001;
const ON_THE_SECOND_NODE: u64 = 900;

/// Numbers in no order; a facet of numbers and other strings; and one with numbers on the second node that are
/// strings on the first, where no number is like them: had a node both, it would not show how many the numbers are.
fn document(id: u64) -> Value {
    let scattered = id * 7919 % 3011;
    let mixed = if id % 50 < 9 { json!(format!("text {}", id % 50)) } else { json!(scattered % 400) };
    let both = match id % 7 {
        of_number if id < ON_THE_SECOND_NODE => json!(of_number % 4),
        of_string @ 0..4 => json!(["!", "2", "3", "x"][usize::try_from(of_string).unwrap_or_default()]),
        _ => json!(4 + id % 2),
    };
    json!({"id": id, "price": scattered as f64 / 4.0, "mixed": mixed, "both": both, "few": id % 5})
}

async fn fill(client: &Client, settings: &[Value], documents: &[Value]) {
    let made = client.post("/indexes", &json!({"uid": "films", "primaryKey": "id"})).await;
    client.wait_success(made).await;
    for settings in settings {
        let answer = client.patch("/indexes/films/settings", settings).await;
        client.wait_success(answer).await;
    }
    let answer = client.post("/indexes/films/documents", &json!(documents)).await;
    client.wait_success(answer).await;
}

/// The settings nodes get when a user gives an index these.
fn translated(settings: &Value) -> Value {
    let body = settings.to_string();
    let change = SettingsChange {
        route: SettingsRoute::Whole,
        method: SettingsMethod::Patch,
        body: Some(body.as_bytes()),
    };
    let context = SettingsContext { overlay: &Value::Null, user_settings: &Value::Null, needs: NEEDS };
    let body = to_node(&change, &context).ok().and_then(|change| change.body);
    serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default()
}

async fn facets_of(client: &Client, body: &[u8]) -> Bytes {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    Bytes::from(client.post("/indexes/films/search", &body).await.ok().to_string())
}

fn shown(answer: &[u8]) -> (String, String) {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    (answer["facetDistribution"].to_string(), answer["facetStats"].to_string())
}

async fn set(servers: &[(&Client, &Value)]) {
    for (client, settings) in servers {
        let answer = client.patch("/indexes/films/settings", settings).await;
        client.wait_success(answer).await;
    }
}

#[tokio::test]
async fn merged_facets_are_those_of_one_meilisearch() {
    let (single, first, second, all) = tokio::join!(
        MeilisearchProcess::start(None),
        MeilisearchProcess::start(None),
        MeilisearchProcess::start(None),
        MeilisearchProcess::start(None),
    );
    let (single, first, second, all) = (single.client(), first.client(), second.client(), all.client());
    let filterable = json!({"filterableAttributes": ["price", "mixed", "both", "few"]});
    let documents: Vec<Value> = (0..DOCUMENTS).map(document).collect();
    let stamped: Vec<Value> = (0..DOCUMENTS)
        .map(|id| {
            let mut document = document(id);
            document["_miroir_shard"] = json!(encode_shard(ShardId(u16::from(id < ON_THE_SECOND_NODE))));
            document["_miroir_inserted_at"] = json!(encode_position(id));
            document
        })
        .collect();
    let for_nodes = [default_node_settings(NEEDS), translated(&filterable)];
    let (on_second, on_first) = stamped.split_at(ON_THE_SECOND_NODE as usize);
    fill(single, std::slice::from_ref(&filterable), &documents).await;
    fill(first, &for_nodes, on_first).await;
    fill(second, &for_nodes, on_second).await;
    fill(all, &for_nodes, &stamped).await;

    for faceting in [
        json!({"maxValuesPerFacet": 10}),
        json!({"maxValuesPerFacet": 100}),
        json!({"maxValuesPerFacet": 3500}),
        json!({"maxValuesPerFacet": 405}),
        json!({"maxValuesPerFacet": 50, "sortFacetValuesBy": {"few": "count"}}),
    ] {
        let settings = json!({"faceting": faceting});
        let for_nodes = translated(&settings);
        set(&[(single, &settings), (first, &for_nodes), (second, &for_nodes), (all, &for_nodes)]).await;
        for filter in [Value::Null, json!("few != 3"), json!("few = 3")] {
            for facets in [json!(["price", "mixed", "both", "few"]), json!(["*"])] {
                let body = json!({"facets": facets, "filter": filter, "limit": 1}).to_string();
                let what = format!("{faceting} {body}");
                let expected = shown(&facets_of(single, body.as_bytes()).await);
                let plan = SearchPlan::new(body.as_bytes(), &SearchSettings::from_settings(&settings));
                let Ok(plan) = plan else { panic!("{what} cannot be planned") };

                let mut answers = Vec::new();
                for node in [first, second] {
                    let bodies = plan.bodies(None, Depth::Whole);
                    assert_eq!(bodies.len(), 1);
                    answers.push(vec![facets_of(node, &bodies[0]).await]);
                }
                let merged = plan.merge(&answers, 1).map(|merged| shown(&merged.body));
                assert_eq!(merged.ok().as_ref(), Some(&expected), "merged, {what}");

                let alone = plan.finish_alone(&facets_of(all, &plan.body_alone(None)).await);
                assert_eq!(alone.ok().map(|alone| shown(&alone)).as_ref(), Some(&expected), "alone, {what}");
            }
        }
    }
}
