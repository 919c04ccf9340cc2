//! Equally relevant documents come in the order of insertion, whether nodes see to it by a rule or by their own order.

use miroir_core::settings::breaks_ties;
use miroir_core::shard::shard_of;
use miroir_testkit::cluster::{Cluster, Shape};
use miroir_testkit::compare::{INCIDENTAL_TO_SEARCH, compare_answers};
use miroir_testkit::oracle::Oracle;
use reqwest::Method;
use serde_json::{Value, json};

const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };
const DOCUMENTS: u64 = 300;
const INDEX: &str = "/indexes/ties";

fn documents(ids: impl Iterator<Item = u64>) -> Value {
    ids.map(|id| json!({ "id": id * 7919 % 10_007, "kind": "lamp" })).collect()
}

/// The settings of the index, as each node holds them.
async fn settings_of_nodes(cluster: &Cluster) -> Vec<Value> {
    let mut all = Vec::new();
    for node in &cluster.nodes {
        all.push(node.client().get(&format!("{INDEX}/settings")).await.ok());
    }
    all
}

async fn assert_equal_pages(oracle: &mut Oracle, when: &str) {
    for offset in [0, 40, 280] {
        let search = json!({ "q": "lamp", "offset": offset, "limit": 40 });
        let (expected, found) = oracle.both(Method::POST, &format!("{INDEX}/search"), Some(&search)).await;
        let difference = compare_answers(&expected, &found, INCIDENTAL_TO_SEARCH);
        assert!(difference.is_empty(), "{when}, from {offset} on:\n{difference}");
    }
}

#[tokio::test]
async fn nodes_get_the_rule_when_their_own_order_ends() {
    let mut oracle = Oracle::start(SHAPE).await;
    oracle.apply_ok(Method::POST, "/indexes", &json!({ "uid": "ties", "primaryKey": "id" })).await;
    for batch in [0..100, 100..250, 250..DOCUMENTS] {
        oracle.apply_ok(Method::POST, &format!("{INDEX}/documents"), &documents(batch)).await;
    }
    assert!(!settings_of_nodes(oracle.cluster()).await.iter().any(breaks_ties));
    assert_equal_pages(&mut oracle, "before a deletion").await;

    // The rules the deletion adds to are those accepted last, although they are not in effect yet.
    let by_user = json!(["words", "proximity", "id:desc", "typo"]);
    let rules_path = format!("{INDEX}/settings/ranking-rules");
    let (expected, found) = oracle.both(Method::PUT, &rules_path, Some(&by_user)).await;
    assert_eq!((expected.status, found.status), (202, 202));
    let deleted = documents(std::iter::once(17));
    let id = deleted[0]["id"].clone();
    oracle.apply_ok(Method::POST, &format!("{INDEX}/documents/delete-batch"), &json!([id])).await;
    let shard = shard_of(&id.to_string(), SHAPE.shards);
    let placement = oracle.cluster().admin().get("/_miroir/shards").await.ok();
    let replicas = placement["indexes"][0]["shards"][usize::from(shard.0)]["replicas"].to_string();
    for (number, settings) in settings_of_nodes(oracle.cluster()).await.iter().enumerate() {
        let node = format!("meili-{number}");
        let kept = (0..4).all(|place| settings["rankingRules"][place] == by_user[place]);
        assert!(kept, "{node}: {settings}");
        assert_eq!(breaks_ties(settings), replicas.contains(&node), "{node}: {settings}");
    }
    assert_equal_pages(&mut oracle, "after a deletion").await;

    // From then on a change goes to all nodes with the rule, and users never see it.
    oracle.apply_ok(Method::PUT, &rules_path, &json!(["words", "typo"])).await;
    let of_nodes = settings_of_nodes(oracle.cluster()).await;
    assert!(of_nodes.iter().all(breaks_ties), "{of_nodes:?}");
    assert_eq!(oracle.subject_client().get(&rules_path).await.ok(), json!(["words", "typo"]));
    assert_equal_pages(&mut oracle, "after a change of rules").await;
}

#[tokio::test]
async fn an_index_on_one_node_never_needs_it() {
    let shape = Shape { nodes: 1, replication_factor: 1, ..SHAPE };
    let mut oracle = Oracle::start(shape).await;
    oracle.apply_ok(Method::POST, "/indexes", &json!({ "uid": "ties", "primaryKey": "id" })).await;
    oracle.apply_ok(Method::POST, &format!("{INDEX}/documents"), &documents(0..DOCUMENTS)).await;
    let filter = json!({ "filter": "id < 500" });
    oracle
        .apply_ok(Method::PATCH, &format!("{INDEX}/settings"), &json!({ "filterableAttributes": ["id"] }))
        .await;
    oracle.apply_ok(Method::POST, &format!("{INDEX}/documents/delete"), &filter).await;
    // One Meilisearch gives their places to these; its only node does the same.
    oracle.apply_ok(Method::POST, &format!("{INDEX}/documents"), &documents(400..460)).await;
    assert!(!settings_of_nodes(oracle.cluster()).await.iter().any(breaks_ties));
    assert_equal_pages(&mut oracle, "after deletions and additions").await;
}
