//! A read with `X-Miroir-Session` sees what its session wrote before, or says that it does not.

use std::time::{Duration, Instant};

use miroir_testkit::client::{Answer, Client};
use miroir_testkit::cluster::{Cluster, Shape};
use miroir_testkit::proxy::Fault;
use reqwest::Method;
use serde_json::{Value, json};

const BEHIND: &str = "x-miroir-session-behind";
const BATCH: u64 = 5_000;
/// Longest wait for something that must come about.
const PATIENCE: Duration = Duration::from_secs(60);

async fn send(client: &Client, method: Method, path: &str, session: &str, body: Option<&Value>) -> Answer {
    let headers = [("content-type", "application/json"), ("x-miroir-session", session)];
    client.send(method, path, &headers, body.map(|body| body.to_string().into_bytes())).await
}

/// Documents of all shards; each tenth has the same words, because no more than 1,000 hits are counted.
fn batch(round: u64) -> Value {
    let title = |id: u64| format!("round{round} part{}", id % 10);
    let document = |id: u64| json!({ "id": round * BATCH + id, "title": title(id) });
    json!((0..BATCH).map(document).collect::<Vec<_>>())
}

#[tokio::test]
async fn a_session_reads_what_it_wrote() {
    let shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 6 };
    // As long as it takes: whoever is behind must not be because of a busy machine.
    let mut cluster = Cluster::start_with_proxies(shape, "scatter: { node_timeout_ms: 60000 }\n").await;
    let path = "/indexes/films";
    // In the first round there is no index yet.
    for round in 0..8 {
        let documents = "/indexes/films/documents?primaryKey=id";
        let write = send(cluster.client(), Method::POST, documents, "s", Some(&batch(round))).await;
        assert_eq!(write.status, 202, "{}", write.body);
        if round == 4 {
            cluster.miroir.restart().await;
        }
        let client = cluster.client();
        // A phrase, which has no typos.
        let newest = json!({ "q": format!("\"round{round} part7\""), "limit": 1 });
        let (found, field) = match round % 4 {
            0 if round > 0 => {
                let mut query = newest;
                query["indexUid"] = json!("films");
                let body = json!({ "queries": [{ "indexUid": "films", "limit": 0 }, query] });
                let search = send(client, Method::POST, "/multi-search", "s", Some(&body)).await;
                (search, "/results/1/estimatedTotalHits")
            }
            0 => {
                let search = send(client, Method::POST, &format!("{path}/search"), "s", Some(&newest)).await;
                (search, "/estimatedTotalHits")
            }
            1 => {
                let query = format!("{path}/search?q=%22round{round}%20part7%22&limit=1");
                (send(client, Method::GET, &query, "s", None).await, "/estimatedTotalHits")
            }
            2 => (send(client, Method::GET, &format!("{path}/documents?limit=1"), "s", None).await, "/total"),
            _ => (send(client, Method::GET, &format!("{path}/stats"), "s", None).await, "/numberOfDocuments"),
        };
        assert_eq!((found.status, found.header(BEHIND)), (200, None), "round {round}: {}", found.body);
        let expected = if round % 4 < 2 { BATCH / 10 } else { (round + 1) * BATCH };
        assert_eq!(found.body.pointer(field), Some(&json!(expected)), "round {round}: {}", found.body);
    }

    let client = cluster.client();
    let change = json!({ "filterableAttributes": ["title"] });
    let change = send(client, Method::PATCH, &format!("{path}/settings"), "s", Some(&change)).await;
    assert_eq!(change.status, 202, "{}", change.body);
    let settings = send(client, Method::GET, &format!("{path}/settings"), "s", None).await.ok();
    assert_eq!(settings["filterableAttributes"], json!(["title"]));
    let changed = json!([{ "id": 0, "title": "changed" }]);
    for method in [Method::POST, Method::PUT] {
        send(client, method, &format!("{path}/documents"), "s", Some(&changed)).await.ok();
    }
    let document = send(client, Method::GET, &format!("{path}/documents/0"), "s", None).await.ok();
    assert_eq!(document, changed[0]);
    send(client, Method::DELETE, &format!("{path}/documents/0"), "s", None).await.ok();
    let fetch = json!({ "filter": "title = changed" });
    let fetched = send(client, Method::POST, &format!("{path}/documents/fetch"), "s", Some(&fetch)).await;
    assert_eq!(fetched.ok()["total"], 0);
    send(client, Method::DELETE, path, "s", None).await.ok();
    assert_eq!(send(client, Method::GET, path, "s", None).await.status, 404);

    let refused = send(client, Method::GET, path, "two words", None).await;
    assert_eq!((refused.status, &refused.body["code"]), (400, &json!("miroir_invalid_session")));
    let refused = send(client, Method::POST, &format!("{path}/documents"), "", Some(&changed)).await;
    assert_eq!((refused.status, &refused.body["code"]), (400, &json!("miroir_invalid_session")));
}

#[tokio::test]
async fn a_read_that_cannot_wait_longer_says_what_it_lacks() {
    let shape = Shape { nodes: 2, replication_factor: 2, replica_groups: 1, shards: 4 };
    let cluster = Cluster::start_with_proxies(shape, "scatter: { node_timeout_ms: 1000 }\n").await;
    let client = cluster.client();
    for uid in ["films", "books"] {
        client.wait_success(client.post("/indexes", &json!({ "uid": uid, "primaryKey": "id" })).await).await;
    }
    let search = async |uid: &str, session: &str| {
        send(client, Method::POST, &format!("/indexes/{uid}/search"), session, Some(&json!({}))).await
    };
    let started = Instant::now();
    for round in 0.. {
        let write = send(client, Method::POST, "/indexes/films/documents", "s", Some(&batch(round))).await;
        let task = write.task_uid().unwrap_or_else(|| panic!("{} {}", write.status, write.body));
        // The node has it, and nobody hears when it is done.
        cluster.proxies[1].set(Fault::Blackhole);
        let found = search("films", "s").await;
        assert_eq!(found.status, 200, "{}", found.body);
        if let Some(behind) = found.header(BEHIND) {
            assert_eq!(behind, task.to_string());
            assert_eq!(client.get(&format!("/tasks/{task}")).await.ok()["finishedAt"], Value::Null);
            // Nobody else is held up or told.
            for (uid, session) in [("films", "other"), ("books", "s")] {
                let found = search(uid, session).await;
                assert_eq!((found.status, found.header(BEHIND)), (200, None), "{uid}, {session}");
            }
            cluster.proxies[1].set(Fault::None);
            client.wait_task(task).await;
            assert_eq!(search("films", "s").await.header(BEHIND), None);
            break;
        }
        // The node was faster than the fault.
        assert!(started.elapsed() < PATIENCE, "the fault never hit a write");
        cluster.proxies[1].set(Fault::None);
        client.wait_task(task).await;
    }

    // A write that has failed is not waited for.
    let failed =
        send(client, Method::POST, "/indexes/films/documents", "s", Some(&json!([{ "no": 1 }]))).await;
    let failed = client.wait_task(failed.task_uid().unwrap()).await;
    assert_eq!(failed["status"], "failed");
    assert_eq!(search("films", "s").await.header(BEHIND), None);
}
