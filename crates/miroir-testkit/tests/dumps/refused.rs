//! Dumps that cannot be taken in.

use std::path::Path;

use miroir_testkit::client::Client;
use miroir_testkit::cluster::Cluster;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::parts::{Parts, gzip};

/// Sends a dump: the status, the code and the message of the answer.
pub async fn import(admin: &Client, dump: Vec<u8>) -> (u16, String, String) {
    let answer = admin.send(Method::POST, "/_miroir/dumps/import", &[], Some(dump)).await;
    let text = |name: &str| answer.body[name].as_str().unwrap_or_default().to_owned();
    (answer.status, text("code"), text("message"))
}

/// What cannot be taken in is refused with what to do, and nothing has changed.
pub async fn assert_refused(cluster: &Cluster, dump: &Path) {
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
    let ours = json!({ "sortableAttributes": ["_miroir_inserted_at"] });
    let nowhere = json!({ "webhooks": { "627ea538-733d-4545-8d2d-03526eb381ce": { "url": "nowhere" } } });
    let crowd: Map<String, Value> = (1..=21)
        .map(|number| {
            (format!("627ea538-733d-4545-8d2d-{number:012}"), json!({ "url": "http://127.0.0.1:9/" }))
        })
        .collect();
    let crowd = json!({ "webhooks": crowd });
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
        ("half a document", parts.with("indexes/empty/documents.jsonl", "{\"id\":1").dump(), "document 1"),
        (
            "settings of ours",
            parts.with("indexes/empty/settings.json", &ours.to_string()).dump(),
            "through Miroir",
        ),
        ("a name that leads out", parts.with("indexes/../../escape", "x").dump(), "leads out"),
        ("a name from the root", parts.with("/etc/escape", "x").dump(), "leads out"),
        ("a link", gzip(&parts.tar(Some("/etc/passwd"))), "is a link"),
        (
            "a task that waits",
            parts.with("tasks/queue.jsonl", &waiting.to_string()).dump(),
            "task 7 was enqueued",
        ),
        (
            "more webhooks than there may be",
            parts.with("webhooks.json", &crowd.to_string()).dump(),
            "there would be 21 of them",
        ),
        ("a webhook that is none", parts.with("webhooks.json", &nowhere.to_string()).dump(), "Invalid URL"),
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
    let left = std::fs::read_dir(cluster.directory().join("dumps")).expect("a directory can be read");
    let is_dump = |name: &str| name.ends_with(".dump");
    let left = left.map(|entry| entry.expect("a directory can be read").file_name().display().to_string());
    assert!(left.into_iter().all(|name| is_dump(&name)), "nothing stays on the disk of what was refused");
    let (status, ..) = import(&client.with_key(None), whole).await;
    assert_eq!(status, 401);
}
