//! Nodes that missed writes, lost their disk, or were written to by somebody else are made equal again, and what they
//! hold meanwhile is not read.

use std::time::{Duration, Instant};

use miroir_core::shard::shard_of;
use miroir_testkit::cluster::{Cluster, Shape};
use miroir_testkit::copies::{assert_copies_agree, replicas_behind, wait_until_whole};
use miroir_testkit::corpus::{Corpus, catalogue};
use miroir_testkit::oracle::Oracle;
use miroir_testkit::process::MeilisearchProcess;
use miroir_testkit::profile::Profile;
use reqwest::Method;
use serde_json::{Value, json};

const SEED: u64 = 23;
const DOCUMENTS: usize = 1_500;
/// Longest wait for something to be noticed.
const PATIENCE: Duration = Duration::from_secs(60);
const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };
/// The node that goes away.
const LOST: usize = 1;

async fn loaded() -> (Oracle, Corpus) {
    let corpus = catalogue(SEED, DOCUMENTS);
    let oracle = Oracle::start(SHAPE).await;
    oracle.load("load", &corpus, Profile::Default).await;
    (oracle, corpus)
}

async fn assert_same(oracle: &Oracle, corpus: &Corpus, when: &str) {
    oracle.compare_generated("load", corpus, SEED, 60).await.assert_faithful(when);
    let documents = oracle.compare_documents("load").await;
    assert!(documents.is_empty(), "{when}, the documents differ:\n{documents}");
}

/// Documents that a node was sent since a task of its own.
async fn documents_received_since(node: &MeilisearchProcess, task: u64) -> u64 {
    let page =
        node.client().get("/tasks?indexUids=load&types=documentAdditionOrUpdate&limit=1000").await.ok();
    let tasks = page["results"].as_array().cloned().unwrap_or_default();
    let is_later = |found: &&Value| found["uid"].as_u64().is_some_and(|uid| uid > task);
    tasks.iter().filter(is_later).filter_map(|task| task["details"]["receivedDocuments"].as_u64()).sum()
}

/// Waits until a node that came back has the index, and has been given something since task `before`: the newest of the
/// disk it has, from before it was started, because that may be quick.
async fn wait_until_filled(node: &MeilisearchProcess, before: u64) {
    let started = Instant::now();
    loop {
        let is_there = node.client().get("/indexes/load").await.status == 200;
        if is_there && newest_task(node).await > before {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "the node is not filled");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How many repairs have come to their end.
async fn repairs_finished(cluster: &Cluster) -> Option<u64> {
    let workers = cluster.admin().get("/_miroir/workers").await.ok();
    let workers = workers["workers"].as_array().cloned().unwrap_or_default();
    let repair = workers.iter().find(|worker| worker["name"] == "repair");
    repair?["finished"].as_u64()
}

async fn newest_task(node: &MeilisearchProcess) -> u64 {
    node.client().get("/tasks?limit=1").await.ok()["results"][0]["uid"].as_u64().unwrap_or_default()
}

#[tokio::test]
async fn a_node_that_missed_writes_gets_what_it_missed_and_no_more() {
    let (mut oracle, corpus) = loaded().await;
    oracle.apply_ok(Method::PUT, "/indexes/load/settings/filterable-attributes", &json!(["id"])).await;
    let last = newest_task(&oracle.cluster().nodes[LOST]).await;
    oracle.cluster().nodes[LOST].kill();
    let id = |place: usize| corpus.documents[place]["id"].clone();
    let updates: Vec<Value> = (0..20).map(|place| json!({ "id": id(place), "title": "changed" })).collect();
    oracle.apply_ok(Method::PUT, "/indexes/load/documents", &json!(updates)).await;
    // Changed twice, of which the second change alone would not tell what the first one did.
    let again: Vec<Value> = (10..30).map(|place| json!({ "id": id(place), "extra": place })).collect();
    oracle.apply_ok(Method::PUT, "/indexes/load/documents", &json!(again)).await;
    let new: Vec<Value> = (0..5)
        .map(
            |number| json!({ "id": format!("new-{number}"), "title": "new", "_vectors": { "manual": null } }),
        )
        .collect();
    oracle.apply_ok(Method::POST, "/indexes/load/documents", &json!(new)).await;
    let gone: Vec<Value> = (40..60).map(id).collect();
    oracle.apply_ok(Method::POST, "/indexes/load/documents/delete-batch", &json!(gone)).await;
    // The tasks are compared too: what is deleted is counted once, with copies and with a copy away.
    let picked = json!({ "filter": format!("id IN [{}, {}]", id(60), id(61)) });
    oracle.apply_ok(Method::POST, "/indexes/load/documents/delete", &picked).await;

    oracle.cluster().nodes[LOST].restart().await;
    wait_until_whole(oracle.cluster()).await;
    assert_copies_agree(oracle.cluster(), "load", DOCUMENTS - 22 + 5, 2).await;
    let received = documents_received_since(&oracle.cluster().nodes[LOST], last).await;
    assert!(received <= 35, "{received} documents were copied, of which 35 at most had changed");
    let documents = oracle.compare_documents("load").await;
    assert!(documents.is_empty(), "the documents differ:\n{documents}");
}

#[tokio::test]
async fn an_index_emptied_while_a_node_was_away_is_empty_on_all() {
    let (mut oracle, _) = loaded().await;
    oracle.cluster().nodes[LOST].kill();
    oracle.apply_ok(Method::DELETE, "/indexes/load/documents", &Value::Null).await;
    let new = json!([{ "id": "new", "title": "the only one", "_vectors": { "manual": null } }]);
    oracle.apply_ok(Method::POST, "/indexes/load/documents", &new).await;
    oracle.cluster().nodes[LOST].restart().await;
    wait_until_whole(oracle.cluster()).await;
    assert_copies_agree(oracle.cluster(), "load", 1, 2).await;
}

/// Nodes do not know the index yet, and must not be blamed for that.
#[tokio::test]
async fn deleting_from_an_index_that_is_just_being_made_takes_no_node_out_of_service() {
    let cluster = Cluster::start(SHAPE).await;
    let (client, admin) = (cluster.client().clone(), cluster.admin());
    for round in 0..10 {
        let uid = format!("brief-{round}");
        let made = client.post("/indexes", &json!({ "uid": uid, "primaryKey": "id" })).await;
        let emptied = client.delete(&format!("/indexes/{uid}/documents")).await;
        let dropped = client.delete(&format!("/indexes/{uid}")).await;
        for answer in [made, emptied, dropped] {
            client.wait_success(answer).await;
        }
        let topology = admin.get("/_miroir/topology").await.ok();
        let nodes = topology["nodes"].as_array().cloned().unwrap_or_default();
        assert!(nodes.iter().all(|node| node["health"] == "healthy"), "{topology}");
    }
}

/// Nobody asks for a comparison: the one that is made now and then finds it.
#[tokio::test]
async fn drift_is_mended_without_being_asked() {
    let often = "anti_entropy_interval_ms: 500\n";
    let cluster = Cluster::start_with_proxies(SHAPE, often).await;
    let client = cluster.client().clone();
    let documents: Vec<Value> = (0..200).map(|id| json!({ "id": id, "title": "film" })).collect();
    let answer = client.post("/indexes/films/documents", &json!(documents)).await;
    client.wait_success(answer).await;
    let node = cluster.nodes[LOST].client().clone();
    let held = node.get("/indexes/films/documents?limit=1").await.ok()["results"][0].clone();
    let path = format!("/indexes/films/documents/{}", held["id"]);
    let answer = node.delete(&path).await;
    node.wait_success(answer).await;
    let started = Instant::now();
    loop {
        let found = node.get(&path).await;
        if found.status == 200 {
            assert_eq!(found.ok(), held, "the document is what it was");
            break;
        }
        assert!(started.elapsed() < PATIENCE, "nobody noticed that a document is missing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_empty_disk_is_noticed_before_it_is_read_and_filled_again() {
    let (mut oracle, corpus) = loaded().await;
    oracle.cluster().nodes[LOST].kill();
    oracle.cluster().nodes[LOST].restart_empty().await;
    assert_same(&oracle, &corpus, "with an empty node").await;
    wait_until_filled(&oracle.cluster().nodes[LOST], 0).await;
    wait_until_whole(oracle.cluster()).await;
    assert_copies_agree(oracle.cluster(), "load", DOCUMENTS, 2).await;
    assert_same(&oracle, &corpus, "after the empty node was filled").await;
}

/// Its disk is an older copy of itself: what it acknowledged since, done or not, is not there any more.
#[tokio::test]
async fn a_node_that_forgets_what_it_acknowledged_is_given_it_again() {
    let (mut oracle, corpus) = loaded().await;
    let node = &mut oracle.cluster().nodes[LOST];
    node.kill();
    node.save_disk();
    node.restart().await;
    wait_until_whole(oracle.cluster()).await;
    let changed = |word: &str| -> Value {
        let change = |document: &Value| json!({ "id": document["id"], "title": word });
        corpus.documents.iter().map(change).collect()
    };
    oracle.apply_ok(Method::PUT, "/indexes/load/documents", &changed("done")).await;
    let (reference, subject) = (oracle.reference_client().clone(), oracle.subject_client().clone());
    let path = "/indexes/load/documents";
    let (change, repaired) = (changed("acknowledged"), repairs_finished(oracle.cluster()).await);
    let acknowledged = tokio::join!(reference.put(path, &change), subject.put(path, &change));
    let node = &mut oracle.cluster().nodes[LOST];
    node.kill();
    node.restore_disk();
    node.restart().await;
    tokio::join!(reference.wait_success(acknowledged.0), subject.wait_success(acknowledged.1));
    let started = Instant::now();
    while repairs_finished(oracle.cluster()).await == repaired {
        assert!(started.elapsed() < PATIENCE, "nobody noticed that the disk is an old one");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    wait_until_whole(oracle.cluster()).await;
    assert_copies_agree(oracle.cluster(), "load", DOCUMENTS, 2).await;
    assert_same(&oracle, &corpus, "after the old disk was brought up to date").await;
}

/// Started again between two probes, on an older disk: nobody has seen it go, and clients ask at once.
#[tokio::test]
async fn an_old_disk_is_not_read_even_before_the_next_probe() {
    let mut cluster = Cluster::start(Shape { nodes: 2, replication_factor: 2, ..SHAPE }).await;
    let client = cluster.client().clone();
    let documents =
        |round: usize| -> Value { (0..50).map(|id| json!({ "id": id, "round": round })).collect() };
    let added = client.post("/indexes/load/documents?primaryKey=id", &documents(0)).await;
    client.wait_success(added).await;
    cluster.nodes[LOST].kill();
    cluster.nodes[LOST].save_disk();
    cluster.nodes[LOST].restart().await;
    for round in 1..=6 {
        wait_until_whole(&cluster).await;
        client.wait_success(client.post("/indexes/load/documents", &documents(round)).await).await;
        cluster.nodes[LOST].kill();
        cluster.nodes[LOST].restore_disk();
        cluster.nodes[LOST].restart().await;
        for id in 0..50 {
            let document = client.get(&format!("/indexes/load/documents/{id}")).await.ok();
            assert_eq!(document["round"], round, "document {id} is read from an old disk");
        }
    }
}

#[tokio::test]
async fn what_is_deleted_while_a_node_is_away_does_not_come_back_with_it() {
    let (mut oracle, _) = loaded().await;
    let before = newest_task(&oracle.cluster().nodes[LOST]).await;
    oracle.cluster().nodes[LOST].kill();
    let answer = oracle.subject_client().delete("/indexes/load").await;
    oracle.subject_client().wait_success(answer).await;
    let again = json!([{ "id": "new-1", "title": "of the new index" }]);
    let answer = oracle.subject_client().post("/indexes/load/documents", &again).await;
    oracle.subject_client().wait_success(answer).await;
    let answer = oracle.subject_client().post("/indexes", &json!({ "uid": "brief" })).await;
    oracle.subject_client().wait_success(answer).await;
    oracle.cluster().nodes[LOST].restart().await;
    wait_until_filled(&oracle.cluster().nodes[LOST], before).await;
    wait_until_whole(oracle.cluster()).await;
    assert_copies_agree(oracle.cluster(), "load", 1, 2).await;
}

/// Left to itself a node would keep the key that the index had, or find two fields that could be one, and would refuse
/// vectors of another length.
#[tokio::test]
async fn a_node_is_told_primary_keys_and_settings_that_it_missed_before_it_is_given_documents() {
    let mut oracle = Oracle::start(SHAPE).await;
    let dimensions = |dimensions: usize| json!({ "embedders": { "manual": { "source": "userProvided", "dimensions": dimensions } } });
    for (index, key) in [("keyless", None), ("rekeyed", Some("rival_id")), ("vectors", Some("id"))] {
        oracle.apply_ok(Method::POST, "/indexes", &json!({ "uid": index, "primaryKey": key })).await;
    }
    oracle.apply_ok(Method::PATCH, "/indexes/vectors/settings", &dimensions(3)).await;
    let old: Vec<Value> =
        (0..9).map(|id| json!({ "id": id, "_vectors": { "manual": [id, 1, 1] } })).collect();
    oracle.apply_ok(Method::POST, "/indexes/vectors/documents", &json!(old)).await;
    oracle.cluster().nodes[LOST].kill();
    oracle.apply_ok(Method::DELETE, "/indexes/rekeyed", &Value::Null).await;
    oracle.apply_ok(Method::DELETE, "/indexes/vectors/documents", &Value::Null).await;
    oracle.apply_ok(Method::PATCH, "/indexes/vectors/settings", &dimensions(2)).await;
    // More than writes would wait for, so that most is copied before the last difference.
    let documents: Vec<Value> = (0..3_000)
        .map(|id| json!({ "id": id, "rival_id": id % 7, "_vectors": { "manual": [id, 1] } }))
        .collect();
    for index in ["keyless", "rekeyed", "vectors"] {
        let path = format!("/indexes/{index}/documents?primaryKey=id");
        oracle.apply_ok(Method::POST, &path, &json!(documents)).await;
    }
    oracle.cluster().nodes[LOST].restart().await;
    wait_until_whole(oracle.cluster()).await;
    for index in ["keyless", "rekeyed", "vectors"] {
        assert_copies_agree(oracle.cluster(), index, documents.len(), 2).await;
        let documents = oracle.compare_documents(index).await;
        assert!(documents.is_empty(), "{index}: the documents differ:\n{documents}");
    }
}

#[tokio::test]
async fn a_node_that_missed_a_settings_change_has_no_say_in_the_next() {
    let (mut oracle, _) = loaded().await;
    oracle.cluster().nodes[LOST].kill();
    oracle.apply_ok(Method::PATCH, "/indexes/load/settings", &json!({ "stopWords": ["and", "or"] })).await;
    oracle.cluster().nodes[LOST].restart().await;
    // As soon as it is back, before and while it is repaired.
    for length in 3..9 {
        let change = json!({ "typoTolerance": { "minWordSizeForTypos": { "oneTypo": length } } });
        oracle.apply_ok(Method::PATCH, "/indexes/load/settings", &change).await;
    }
    wait_until_whole(oracle.cluster()).await;
    let settings = oracle.compare_get("/indexes/load/settings", &[]).await;
    assert!(settings.is_empty(), "the settings differ:\n{settings}");
    let verified = oracle.cluster().admin().post("/_miroir/verify", &json!({ "index": "load" })).await.ok();
    assert_eq!(
        (&verified["settings"], &verified["documents"]["differing"]),
        (&json!({}), &json!(0)),
        "{verified}"
    );
}

#[tokio::test]
async fn a_search_that_meets_the_deletion_of_its_index_takes_no_node_out_of_service() {
    let mut oracle = Oracle::start(SHAPE).await;
    let (client, admin) = (oracle.subject_client().clone(), oracle.cluster().admin());
    for round in 0..8 {
        let path = format!("/indexes/brief-{round}");
        let documents: Vec<Value> = (0..200).map(|id| json!({ "id": id, "title": "film" })).collect();
        let answer = client.post(&format!("{path}/documents"), &json!(documents)).await;
        client.wait_success(answer).await;
        let searching = tokio::spawn({
            let (client, path) = (client.clone(), format!("{path}/search"));
            async move { while client.post(&path, &json!({ "q": "film" })).await.status != 404 {} }
        });
        let answer = client.delete(&path).await;
        client.wait_success(answer).await;
        searching.await.unwrap();
        let topology = admin.get("/_miroir/topology").await.ok();
        let nodes = topology["nodes"].as_array().unwrap();
        assert!(nodes.iter().all(|node| node["health"] == "healthy"), "{topology}");
    }
}

#[tokio::test]
async fn what_somebody_else_wrote_to_a_node_is_found_and_undone() {
    let (mut oracle, corpus) = loaded().await;
    let admin = oracle.cluster().admin();
    let verify = async |repair: bool| -> Value {
        admin.post("/_miroir/verify", &json!({ "index": "load", "repair": repair })).await.ok()
    };
    let clean = verify(false).await;
    assert_eq!(
        (&clean["documents"]["differing"], &clean["documents"]["documents"]),
        (&json!(0), &json!(DOCUMENTS))
    );

    let node = oracle.cluster().nodes[LOST].client().clone();
    let held = node.get("/indexes/load/documents?limit=2").await.ok()["results"].clone();
    let shard = held[0]["_miroir_shard"].clone();
    let foreign = json!({ "id": "foreign", "title": "not through Miroir", "_miroir_shard": shard, "_vectors": { "manual": null } });
    // Without what Miroir adds, as somebody would who does not know of it.
    let mut changed = held[0].clone();
    for field in ["_miroir_shard", "_miroir_inserted_at", "_miroir_updated_at"] {
        changed.as_object_mut().map(|fields| fields.remove(field));
    }
    changed["title"] = json!("changed behind Miroir's back");
    changed["_vectors"] = json!({ "manual": null });
    for answer in [
        node.post("/indexes/load/documents", &json!([changed, foreign])).await,
        node.delete(&format!("/indexes/load/documents/{}", held[1]["id"].to_string().replace('"', ""))).await,
        node.patch("/indexes/load/settings", &json!({ "stopWords": ["the"] })).await,
    ] {
        node.wait_success(answer).await;
    }
    let found = verify(false).await;
    // The changed one is a stray where it was changed, and missing in its shard.
    assert_eq!(found["documents"]["differing"], 4, "{found}");
    assert_eq!(found["settings"].as_object().map(serde_json::Map::len), Some(1), "{found}");
    verify(true).await;
    let mended = verify(false).await;
    assert_eq!((&mended["documents"]["differing"], &mended["settings"]), (&json!(0), &json!({})), "{mended}");
    assert_copies_agree(oracle.cluster(), "load", DOCUMENTS, 2).await;
    assert_same(&oracle, &corpus, "after the drift was mended").await;
}

/// The shards of the only copy are unavailable, and say so, until the operator accepts the loss.
#[tokio::test]
async fn the_only_copy_is_given_up_by_the_operator_alone() {
    let shape = Shape { nodes: 2, replication_factor: 1, replica_groups: 1, shards: 4 };
    let mut cluster = Cluster::start(shape).await;
    let client = cluster.client().clone();
    let documents: Vec<Value> = (0..100).map(|id| json!({ "id": id, "title": "film" })).collect();
    let answer = client.post("/indexes/films/documents", &json!(documents)).await;
    client.wait_success(answer).await;
    let whole = client.post("/indexes/films/search", &json!({ "limit": 1_000 })).await;
    assert_eq!(whole.header("x-miroir-degraded"), None);

    cluster.nodes[LOST].kill();
    cluster.nodes[LOST].restart_empty().await;
    let (admin, started) = (cluster.admin(), Instant::now());
    loop {
        let topology = admin.get("/_miroir/topology").await.ok();
        let said = topology["nodes"][LOST]["lastError"].as_str().unwrap_or_default().to_owned();
        if said.contains("only copy") {
            assert!(said.contains("miroir replica promote"), "{said}");
            break;
        }
        assert!(started.elapsed() < PATIENCE, "the empty disk is not noticed: {topology}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let partial = client.post("/indexes/films/search", &json!({ "limit": 1_000 })).await;
    assert!(partial.header("x-miroir-degraded").is_some_and(|said| said.starts_with("shards=")));
    let kept = partial.ok()["hits"].as_array().map_or(0, Vec::len);
    assert!((1..100).contains(&kept), "{kept} documents are left");
    assert!(replicas_behind(&admin).await.is_empty(), "the last replica never becomes stale by itself");

    let ask = json!({ "node": format!("meili-{LOST}") });
    let planned = admin.post("/_miroir/replicas/promote", &ask).await.ok();
    assert_eq!(planned["promoted"], false);
    let shards: Vec<u64> =
        planned["shards"].as_array().unwrap().iter().filter_map(|shard| shard["shard"].as_u64()).collect();
    let lost = (0..100).filter(|id| shards.contains(&u64::from(shard_of(&id.to_string(), 4).0))).count();
    assert_eq!(lost + kept, 100, "the shards that were lost are those that are told");
    let confirmed = json!({ "node": format!("meili-{LOST}"), "confirm": true });
    admin.post("/_miroir/replicas/promote", &confirmed).await.ok();
    wait_until_whole(&cluster).await;
    let answer = client.post("/indexes/films/documents", &json!(documents)).await;
    client.wait_success(answer).await;
    let whole = client.post("/indexes/films/search", &json!({ "limit": 1_000 })).await;
    assert_eq!(whole.header("x-miroir-degraded"), None);
    assert_eq!(whole.ok()["hits"].as_array().map(Vec::len), Some(100));
}
