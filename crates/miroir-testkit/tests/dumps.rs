//! Dumps both ways: one of Miroir's starts a Meilisearch, and one of a Meilisearch is taken in by Miroir. Either way
//! both answer the same afterwards.
#![allow(clippy::expect_used)]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use miroir_testkit::client::Client;
use miroir_testkit::cluster::{ADMIN_API_KEY, Cluster, MASTER_KEY, Shape};
use miroir_testkit::corpus::{Corpus, catalogue};
use miroir_testkit::oracle::{Oracle, Subject};
use miroir_testkit::process::{MeilisearchProcess, miroir_binary};
use miroir_testkit::profile::Profile;
use reqwest::Method;
use serde_json::{Value, json};

const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };
const SEED: u64 = 23;
const DOCUMENTS: usize = 1_200;
const MANY: usize = 12_000;
/// Longest wait for something to be noticed.
const PATIENCE: Duration = Duration::from_secs(60);
const REQUESTS: usize = 150;

/// An index with everything, one without documents, one without a primary key, and a key.
async fn fill(client: &Client, corpus: &Corpus) {
    let creation = json!({ "uid": "catalogue", "primaryKey": corpus.primary_key });
    client.wait_success(client.post("/indexes", &creation).await).await;
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

#[tokio::test]
async fn a_meilisearch_starts_from_a_dump_of_miroir() {
    let (cluster, corpus) = (Cluster::start(SHAPE).await, catalogue(SEED, DOCUMENTS));
    let client = cluster.client().clone();
    fill(&client, &corpus).await;
    // Not waited for: what was asked for before the dump is in it.
    let vectors = json!({ "manual": null, "remote": [0.5, 0.25] });
    let late = json!([{ "id": "late", "title": "written just before the dump", "_vectors": vectors }]);
    let late = client.post("/indexes/catalogue/documents", &late).await;
    let file = dump(&client, &cluster.directory().join("dumps")).await;
    let late = client.get(&format!("/tasks/{}", late.task_uid().expect("it became a task"))).await.ok();
    assert!(late["finishedAt"].is_string(), "{late}");

    let file = file.to_str().expect("temporary paths are UTF-8");
    let reference = MeilisearchProcess::start_with(Some(MASTER_KEY), &["--import-dump", file]).await;
    let oracle = Oracle { reference, subject: Subject::Cluster(Box::new(cluster)) };
    assert_equal(&oracle, &corpus).await;
    let keys = oracle.compare_get("/keys", &[]).await;
    assert!(keys.is_empty(), "{keys}");
}

/// The files of a dump, to be changed.
struct Parts(Vec<(String, Vec<u8>)>);

impl Parts {
    fn read(dump: &Path) -> Self {
        let file = std::fs::File::open(dump).expect("the dump is there");
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let mut parts = Vec::new();
        for entry in archive.entries().expect("a dump is an archive") {
            let mut entry = entry.expect("a dump is whole");
            if entry.header().entry_type().is_file() {
                let name = entry.path().expect("names are UTF-8").display().to_string();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).expect("a dump is whole");
                parts.push((name, content));
            }
        }
        Self(parts)
    }

    /// The same with one file's content replaced.
    fn with(&self, name: &str, content: &str) -> Self {
        let mut parts: Vec<_> = self.0.iter().filter(|(other, _)| other != name).cloned().collect();
        parts.push((name.to_owned(), content.as_bytes().to_vec()));
        Self(parts)
    }

    fn without(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|(other, _)| other != name).cloned().collect())
    }

    fn tar(&self, link: Option<&str>) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            // As somebody would write it who does not use a library that refuses it.
            header.as_gnu_mut().expect("it is one").name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            archive.append(&header, content.as_slice()).expect("memory can be written");
        }
        if let Some(target) = link {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, "indexes/link", target).expect("memory can be written");
        }
        archive.into_inner().expect("memory can be written")
    }

    fn dump(&self) -> Vec<u8> {
        gzip(&self.tar(None))
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

async fn import(admin: &Client, dump: Vec<u8>) -> (u16, String, String) {
    let answer = admin.send(Method::POST, "/_miroir/dumps/import", &[], Some(dump)).await;
    let text = |name: &str| answer.body[name].as_str().unwrap_or_default().to_owned();
    (answer.status, text("code"), text("message"))
}

/// What cannot be taken in is refused with what to do, and nothing has changed.
async fn assert_refused(cluster: &Cluster, dump: &Path) {
    let (whole, parts) = (std::fs::read(dump).expect("the dump is there"), Parts::read(dump));
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 0xff;
    let old = |version: &str| {
        let metadata =
            json!({ "dumpVersion": version, "dbVersion": "0.27.0", "dumpDate": "2020-01-01T00:00:00Z" });
        parts.with("metadata.json", &metadata.to_string()).dump()
    };
    let reserved = json!({
        "uid": "_miroir_node", "primaryKey": null, "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z"
    });
    let waiting = json!({ "uid": 7, "status": "enqueued", "type": "documentClear", "indexUid": "catalogue" });
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", Vec::new(), "not gzipped"),
        ("a text", b"hello".to_vec(), "not gzipped"),
        ("a gzipped text", gzip(b"hello"), "it is damaged"),
        ("an archive that is not gzipped", parts.tar(None), "not gzipped"),
        ("half a dump", whole[..whole.len() / 2].to_vec(), "ends in the middle"),
        ("all but the last byte", whole[..whole.len() - 1].to_vec(), "ends in the middle"),
        ("a damaged dump", damaged, ""),
        ("version 1", old("V1"), "--import-dump"),
        ("version 5", old("V5"), "--import-dump"),
        ("a version to come", old("V7"), "V7"),
        ("no metadata", parts.without("metadata.json").dump(), "no `metadata.json`"),
        ("no documents", parts.without("indexes/empty/documents.jsonl").dump(), "is missing"),
        (
            "an index of ours",
            parts.with("indexes/empty/metadata.json", &reserved.to_string()).dump(),
            "_miroir_node",
        ),
        (
            "a field of ours",
            parts.with("indexes/empty/documents.jsonl", "{\"_miroir_shard\":1}").dump(),
            "_miroir_shard",
        ),
        ("a name that leads out", parts.with("indexes/../../escape", "x").dump(), "leads out"),
        ("a name from the root", parts.with("/etc/escape", "x").dump(), "leads out"),
        ("a link", gzip(&parts.tar(Some("/etc/passwd"))), "is a link"),
        (
            "a task that waits",
            parts.with("tasks/queue.jsonl", &waiting.to_string()).dump(),
            "task 7 was enqueued",
        ),
        ("settings that are none", parts.with("indexes/empty/settings.json", "[").dump(), "settings.json"),
    ];
    let (client, admin) = (cluster.client(), cluster.admin());
    let before = (client.get("/keys").await.ok(), client.get("/tasks").await.ok());
    for (what, dump, reason) in cases {
        let (status, code, message) = import(&admin, dump).await;
        assert_eq!((status, code.as_str()), (400, "miroir_invalid_dump"), "{what}: {message}");
        assert!(message.contains(reason) && message.contains("Nothing was done"), "{what}: {message}");
    }
    assert_eq!(before, (client.get("/keys").await.ok(), client.get("/tasks").await.ok()));
    assert_eq!(admin.get("/_miroir/dumps/import").await.status, 404);
    let left = std::fs::read_dir(cluster.directory().join("dumps")).expect("a directory can be read").count();
    assert_eq!(left, 0, "nothing stays on the disk of what was refused");
    let (status, ..) = import(&client.with_key(None), whole).await;
    assert_eq!(status, 401);
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
async fn miroir_takes_in_a_dump_of_a_meilisearch() {
    let (reference, mut cluster) =
        tokio::join!(MeilisearchProcess::start(Some(MASTER_KEY)), Cluster::start(SHAPE));
    let corpus = catalogue(SEED, DOCUMENTS);
    fill(reference.client(), &corpus).await;
    // More than fits into one batch, so that there is a middle.
    let many: Vec<Value> = (0..MANY).map(|id| json!({ "id": id, "n": id % 7 })).collect();
    let added = reference.client().post("/indexes/many/documents", &json!(many)).await;
    reference.client().wait_success(added).await;
    let file = dump(reference.client(), &reference.directory().join("dumps")).await;
    assert_refused(&cluster, &file).await;

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

    let oracle = Oracle { reference, subject: Subject::Cluster(Box::new(cluster)) };
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
}
