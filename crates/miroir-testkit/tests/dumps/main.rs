//! Dumps both ways: one of Miroir's starts a Meilisearch, and one of a Meilisearch is taken in by Miroir. Either way
//! both answer the same afterwards.
#![allow(clippy::expect_used)]

mod parts;
mod refused;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use miroir_testkit::client::Client;
use miroir_testkit::cluster::{ADMIN_API_KEY, Cluster, MASTER_KEY, Shape};
use miroir_testkit::corpus::{Corpus, catalogue};
use miroir_testkit::oracle::{Oracle, Subject};
use miroir_testkit::process::{MeilisearchProcess, miroir_binary};
use miroir_testkit::profile::Profile;
use reqwest::Method;
use serde_json::{Value, json};

use parts::Parts;
use refused::{assert_refused, import};

const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };
const SEED: u64 = 23;
const DOCUMENTS: usize = 1_200;
const MANY: usize = 12_000;
/// Longest wait for something to be noticed.
const PATIENCE: Duration = Duration::from_secs(60);
const REQUESTS: usize = 150;

/// An index with everything, one without documents, one without a primary key, and a key.
async fn fill(client: &Client, corpus: &Corpus) {
    let creation = json!({ "uid": "draft", "primaryKey": corpus.primary_key });
    client.wait_success(client.post("/indexes", &creation).await).await;
    client.wait_success(client.patch("/indexes/draft", &json!({ "uid": "catalogue" })).await).await;
    let mut settings = Profile::Explicit.settings(corpus);
    // A secret that is not shown, and must be in the dump.
    settings["embedders"]["remote"] = json!({
        "source": "rest", "url": "http://127.0.0.1:9/", "apiKey": "a-secret-of-some-length", "dimensions": 2,
        "request": "{{text}}", "response": "{{embedding}}", "documentTemplate": "{{doc.title}}",
    });
    client.wait_success(client.patch("/indexes/catalogue/settings", &settings).await).await;
    for batch in corpus.documents.chunks(400) {
        let mut batch = batch.to_vec();
        for document in &mut batch {
            document["_vectors"]["remote"] = json!({ "embeddings": [[0.25, 0.5]], "regenerate": true });
        }
        client.wait_success(client.post("/indexes/catalogue/documents", &json!(batch)).await).await;
    }
    // Places in the order of insertion are taken again after this.
    let some: Vec<&Value> = corpus.documents.iter().skip(3).step_by(40).map(|one| &one["id"]).collect();
    let deletion = client.post("/indexes/catalogue/documents/delete-batch", &json!(some)).await;
    client.wait_success(deletion).await;
    for (uid, key) in [("empty", json!("sku")), ("keyless", json!(null))] {
        let creation = json!({ "uid": uid, "primaryKey": key });
        client.wait_success(client.post("/indexes", &creation).await).await;
    }
    let key = json!({
        "uid": "6062abda-a5aa-4414-ac91-ecd7944c0f8d", "name": "of the catalogue", "actions": ["search"],
        "indexes": ["cat*"], "expiresAt": "2999-01-02T03:04:05Z"
    });
    client.post("/keys", &key).await.ok();
    client.patch("/experimental-features", &json!({ "containsFilter": true })).await.ok();
    // Nobody listens there.
    let webhook = json!({ "url": "http://127.0.0.1:9/told", "headers": { "authorization": "a secret" } });
    client.post("/webhooks", &webhook).await.ok();
}

/// Makes a dump of a server that writes them to this directory.
async fn dump(client: &Client, directory: &Path) -> PathBuf {
    let answer = client.call(Method::POST, "/dumps", None).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(answer.body["type"], "dumpCreation");
    assert_eq!(answer.body["indexUid"], Value::Null);
    let task = client.wait_success(answer).await;
    let uid = task["details"]["dumpUid"].as_str().expect("a dump has a uid");
    directory.join(format!("{uid}.dump"))
}

/// Writes the same documents over and over, all of them with the number of the round, until the end of a dump. Gives the
/// last round that was acknowledged before it was asked for, and the file.
async fn dump_while_writing(client: &Client, directory: &Path) -> (u64, PathBuf) {
    let (writer, acknowledged) = (client.clone(), Arc::new(AtomicU64::new(0)));
    let noted = Arc::clone(&acknowledged);
    let writing = tokio::spawn(async move {
        for round in 1.. {
            let documents: Vec<Value> = (0..60).map(|id| json!({ "id": id, "round": round })).collect();
            writer.post("/indexes/moving/documents", &json!(documents)).await.ok();
            noted.store(round, Ordering::SeqCst);
        }
    });
    let started = Instant::now();
    while acknowledged.load(Ordering::SeqCst) < 3 {
        assert!(started.elapsed() < PATIENCE, "nothing is written");
        tokio::task::yield_now().await;
    }
    let before = acknowledged.load(Ordering::SeqCst);
    let file = dump(client, directory).await;
    assert!(acknowledged.load(Ordering::SeqCst) > before, "writes go on meanwhile");
    writing.abort();
    (before, file)
}

/// An index is dumped as it was at one moment, with all that was written before.
fn assert_one_moment(dump: &Path, before: u64) {
    let parts = Parts::read(dump);
    let rounds: BTreeSet<u64> = parts
        .lines("indexes/moving/documents.jsonl")
        .iter()
        .map(|document| document["round"].as_u64().expect("each has one"))
        .collect();
    assert_eq!(rounds.len(), 1, "a write is there in part: {rounds:?}");
    assert!(rounds.iter().all(|round| *round >= before), "{rounds:?}, and {before} was acknowledged");
}

/// Compares all that both servers have of what `fill` made.
async fn assert_equal(oracle: &Oracle, corpus: &Corpus) {
    for index in ["catalogue", "empty", "keyless"] {
        let documents = oracle.compare_documents(index).await;
        assert!(documents.is_empty(), "the documents of {index} differ:\n{documents}");
        for path in [format!("/indexes/{index}"), format!("/indexes/{index}/settings")] {
            let difference = oracle.compare_get(&path, &["updatedAt"]).await;
            assert!(difference.is_empty(), "{path}:\n{difference}");
        }
    }
    let vectors = json!({ "limit": 200, "retrieveVectors": true });
    let (expected, found) =
        oracle.both(Method::POST, "/indexes/catalogue/documents/fetch", Some(&vectors)).await;
    assert_eq!(expected.ok(), found.ok());
    let tally = oracle.compare_generated("catalogue", corpus, SEED, REQUESTS).await;
    tally.assert_faithful("after a dump");
    for path in ["/experimental-features", "/webhooks"] {
        let difference = oracle.compare_get(path, &[]).await;
        assert!(difference.is_empty(), "{path}:\n{difference}");
    }
    let key = "/keys/6062abda-a5aa-4414-ac91-ecd7944c0f8d";
    let difference = oracle.compare_get(key, &[]).await;
    assert!(difference.is_empty(), "{difference}");
    let key = oracle.reference_client().get(key).await.ok()["key"].as_str().map(str::to_owned);
    for client in [oracle.reference_client(), oracle.subject_client()] {
        let client = client.with_key(key.as_deref());
        assert_eq!(client.post("/indexes/catalogue/search", &json!({})).await.status, 200);
        assert_eq!(client.post("/indexes/empty/search", &json!({})).await.status, 403);
    }
}

/// The import, once something holds of it.
async fn import_that(admin: &Client, is_so: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let answer = admin.get("/_miroir/dumps/import").await;
        if answer.status == 200 && is_so(&answer.body) {
            return answer.body;
        }
        assert!(started.elapsed() < PATIENCE, "the import does not go on: {}", answer.body);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_comes_in_is_what_a_meilisearch_has() {
    let mut oracle = Oracle::start(SHAPE).await;
    assert_tasks_are_alike(&oracle).await;
    let corpus = catalogue(SEED, DOCUMENTS);
    let reference = oracle.reference_client().clone();
    fill(&reference, &corpus).await;
    // More than fits into one batch, so that there is a middle.
    let many: Vec<Value> = (0..MANY).map(|id| json!({ "id": id, "n": id % 7 })).collect();
    let added = reference.post("/indexes/many/documents", &json!(many)).await;
    reference.wait_success(added).await;
    let file = dump(&reference, &oracle.reference.directory().join("dumps")).await;
    let cluster = oracle.cluster();
    assert_refused(cluster, &file).await;

    let mut command = tokio::process::Command::new(miroir_binary());
    command.args(["dump", "import"]).arg(&file).args(["--admin-key", ADMIN_API_KEY]);
    command.args(["--url", cluster.client().base_url()]).kill_on_drop(true);
    let importing = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("miroir can be run");
    let admin = cluster.admin();
    let sent = |import: &Value| import["indexes"][3]["importedDocuments"].as_u64() > Some(0);
    import_that(&admin, sent).await;
    cluster.miroir.kill();
    cluster.miroir.restart().await;
    let imported = importing.wait_with_output().await.expect("the command ends");
    let said = String::from_utf8_lossy(&imported.stdout).into_owned();
    assert!(imported.status.success(), "{said}{}", String::from_utf8_lossy(&imported.stderr));
    assert!(said.contains("of 4 indexes and 5 keys"), "{said}");

    assert_equal(&oracle, &corpus).await;
    let documents = oracle.compare_documents("many").await;
    assert!(documents.is_empty(), "{documents}");
    let uids = oracle.compare_get("/indexes", &["updatedAt"]).await;
    assert!(uids.is_empty(), "{uids}");

    // What is there is not touched unless that is asked for.
    let whole = std::fs::read(&file).expect("the dump is there");
    let (status, code, message) = import(&admin, whole.clone()).await;
    assert_eq!((status, code.as_str()), (409, "index_already_exists"), "{message}");
    assert!(message.contains("`catalogue`, `empty`, `keyless`, `many`"), "{message}");
    let client = oracle.subject_client();
    client.wait_success(client.delete("/indexes/many/documents/3").await).await;
    let path = "/_miroir/dumps/import?overwrite=true";
    assert_eq!(admin.send(Method::POST, path, &[], Some(whole)).await.status, 202);
    let ended = import_that(&admin, |import| import["status"] != "running").await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    let documents = oracle.compare_documents("many").await;
    assert!(documents.is_empty(), "{documents}");
    let made = assert_begun_anew(oracle.cluster()).await;
    assert_same_content(&Parts::read(&file), &Parts::read(&made));
}

/// What Meilisearch writes into a dump of these indexes is what Miroir writes.
fn assert_same_content(expected: &Parts, found: &Parts) {
    for index in ["catalogue", "empty", "keyless", "many"] {
        for file in ["documents.jsonl", "settings.json", "metadata.json"] {
            let name = format!("indexes/{index}/{file}");
            let (mut expected, found) = (expected.lines(&name), found.lines(&name));
            if let (Some(Value::Object(settings)), "settings.json") = (expected.first_mut(), file) {
                settings.retain(|name, _| name != "chat" && name != "vectorStore");
            }
            assert_eq!(expected.len(), found.len(), "{name}");
            for (expected, found) in expected.iter().zip(&found) {
                assert_eq!(expected, found, "{name}");
            }
        }
    }
    for name in ["experimental-features.json", "webhooks.json"] {
        assert_eq!(expected.lines(name), found.lines(name), "{name}");
    }
    let keys = |parts: &Parts| -> Vec<Value> {
        let mut keys = parts.lines("keys.jsonl");
        keys.retain(|key| key["name"] == "of the catalogue");
        keys
    };
    assert_eq!(keys(expected), keys(found));
    assert_eq!(keys(found).len(), 1);
}

/// A dump that a killed process left is made again, and nothing of the first try has the name of a dump.
async fn assert_begun_anew(cluster: &mut Cluster) -> PathBuf {
    let client = cluster.client().clone();
    let answer = client.call(Method::POST, "/dumps", None).await;
    let started = Instant::now();
    let uid = answer.task_uid().expect("it became a task");
    while client.get(&format!("/tasks/{uid}")).await.ok()["status"] == "enqueued" {
        assert!(started.elapsed() < PATIENCE, "the dump is not begun");
    }
    cluster.miroir.kill();
    cluster.miroir.restart().await;
    let task = client.wait_success(answer).await;
    let dumps = cluster.directory().join("dumps");
    let names = std::fs::read_dir(&dumps).expect("a directory can be read");
    let names: Vec<String> = names
        .map(|entry| entry.expect("a directory can be read").file_name().display().to_string())
        .collect();
    assert!(names.iter().all(|name| name.ends_with(".dump")), "{names:?}");
    dumps.join(format!("{}.dump", task["details"]["dumpUid"].as_str().unwrap_or_default()))
}

/// What tasks and batches of both kinds look like, next to a Meilisearch that has done nothing else either.
async fn assert_tasks_are_alike(oracle: &Oracle) {
    let clocks = ["enqueuedAt", "startedAt", "finishedAt", "duration", "dumpUid"];
    let insides = ["progressTrace", "writeChannelCongestion", "internalDatabaseSizes"];
    for path in ["/dumps", "/snapshots"] {
        let difference = oracle.apply(Method::POST, path, None).await;
        assert!(difference.is_empty(), "{path}:\n{difference}");
    }
    for path in
        ["/tasks", "/tasks/0", "/tasks/1", "/batches", "/batches/0", "/batches/1", "/snapshots", "/dumps"]
    {
        let difference = oracle.compare_get(path, &[&clocks[..], &insides[..]].concat()).await;
        assert!(difference.is_empty(), "{path}:\n{difference}");
    }
    for uid in [0, 1] {
        let task = oracle.subject_client().get(&format!("/tasks/{uid}")).await.ok();
        assert!(task["startedAt"].is_string() && task["duration"].is_string(), "{task}");
    }
}

/// Makes a snapshot, writes more, and puts everything back.
async fn assert_snapshot_puts_back(oracle: &mut Oracle) {
    let client = oracle.subject_client().clone();
    client.wait_success(client.call(Method::POST, "/snapshots", None).await).await;
    client.wait_success(client.delete("/indexes/catalogue/documents").await).await;
    client.wait_success(client.post("/indexes", &json!({ "uid": "later" })).await).await;

    let cluster = oracle.cluster();
    cluster.miroir.kill();
    for node in &mut cluster.nodes {
        node.restart_from_snapshot().await;
    }
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(cluster.directory().join(format!("miroir.db{end}")));
    }
    let copy = cluster.directory().join("snapshots/miroir.db.snapshot");
    std::fs::copy(copy, cluster.store_path()).expect("the copy of the store is there");
    cluster.miroir.restart().await;
}

/// A swap holds the queues of its indexes until it is done, and a dump comes to them when it has read others.
#[tokio::test]
async fn a_dump_and_a_swap_do_not_wait_for_each_other() {
    let cluster = Cluster::start(SHAPE).await;
    let client = cluster.client();
    let many: Vec<Value> = (0..MANY).map(|id| json!({ "id": id })).collect();
    for uid in ["a", "y", "z"] {
        let documents = if uid == "a" { json!(many) } else { json!([{ "id": 1, "name": uid }]) };
        let added = client.post(&format!("/indexes/{uid}/documents?primaryKey=id"), &documents).await;
        client.wait_success(added).await;
    }
    let asked = client.call(Method::POST, "/dumps", None).await;
    let path = format!("/tasks/{}", asked.task_uid().expect("it became a task"));
    let started = Instant::now();
    while client.get(&path).await.ok()["status"] == "enqueued" {
        assert!(started.elapsed() < PATIENCE, "the dump is not begun");
    }
    let swap = client.post("/swap-indexes", &json!([{ "indexes": ["y", "z"] }])).await;
    let added = json!([{ "id": 2 }]);
    let write = client.post("/indexes/y/documents", &added);
    let write = tokio::time::timeout(PATIENCE / 2, write).await.expect("a write is not kept waiting");
    client.wait_success(swap).await;
    client.wait_success(write).await;
    let dumped = client.wait_success(asked).await;
    let uid = dumped["details"]["dumpUid"].as_str().expect("a dump has a uid");
    let parts = Parts::read(&cluster.directory().join("dumps").join(format!("{uid}.dump")));
    let name = |index: &str| parts.lines(&format!("indexes/{index}/documents.jsonl"))[0]["name"].clone();
    assert!([("y", "z"), ("z", "y")].contains(&(name("y").as_str().unwrap(), name("z").as_str().unwrap())));
}

#[tokio::test]
async fn what_leaves_miroir_is_whole() {
    let (cluster, corpus) = (Cluster::start(SHAPE).await, catalogue(SEED, DOCUMENTS));
    let client = cluster.client().clone();
    fill(&client, &corpus).await;
    // Not waited for: what was asked for before the dump is in it.
    let vectors = json!({ "manual": null, "remote": [0.5, 0.25] });
    let late = json!([{ "id": "late", "title": "written just before the dump", "_vectors": vectors }]);
    let late = client.post("/indexes/catalogue/documents", &late).await;
    let (before, file) = dump_while_writing(&client, &cluster.directory().join("dumps")).await;
    assert_one_moment(&file, before);
    let late = client.get(&format!("/tasks/{}", late.task_uid().expect("it became a task"))).await.ok();
    assert!(late["finishedAt"].is_string(), "{late}");

    let file = file.to_str().expect("temporary paths are UTF-8");
    let reference = MeilisearchProcess::start_with(Some(MASTER_KEY), &["--import-dump", file]).await;
    let mut oracle = Oracle { reference, subject: Subject::Cluster(Box::new(cluster)) };
    assert_equal(&oracle, &corpus).await;
    let keys = oracle.compare_get("/keys", &[]).await;
    assert!(keys.is_empty(), "{keys}");

    oracle.apply(Method::DELETE, "/indexes/moving", None).await;

    assert_snapshot_puts_back(&mut oracle).await;
    let keys = oracle.compare_get("/keys", &[]).await;
    assert!(keys.is_empty(), "{keys}");
    let indexes = oracle.compare_get("/indexes", &["updatedAt"]).await;
    assert!(indexes.is_empty(), "what was made after the snapshot is gone:\n{indexes}");
    let documents = oracle.compare_documents("catalogue").await;
    assert!(documents.is_empty(), "{documents}");
    // And it goes on: a document that is there keeps its place, a new one comes last.
    let vectors = json!({ "manual": null, "remote": [0.5, 0.25] });
    let more = json!([{ "id": "late", "title": "again", "_vectors": vectors }, { "id": "new", "_vectors": vectors }]);
    oracle.apply_ok(Method::POST, "/indexes/catalogue/documents", &more).await;
    let documents = oracle.compare_documents("catalogue").await;
    assert!(documents.is_empty(), "{documents}");
    let verify = json!({ "index": "catalogue" });
    let verified = oracle.cluster().admin().post("/_miroir/verify", &verify).await.ok();
    assert_eq!(verified["documents"]["differing"], 0, "{verified}");
}
