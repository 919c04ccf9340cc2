//! The task API, next to one Meilisearch: lists with every filter, batches, and deletion. Both servers get the same
//! requests one after the other, so uids are equal as well; only clocks differ.

use std::time::{Duration, Instant};

use miroir_testkit::client::{Answer, Client};
use miroir_testkit::cluster::{Cluster, Shape};
use miroir_testkit::compare::compare_answers;
use miroir_testkit::oracle::Oracle;
use reqwest::Method;
use serde_json::{Value, json};

const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 7 };
/// What clocks say.
const CLOCKS: [&str; 4] = ["enqueuedAt", "startedAt", "finishedAt", "duration"];
/// What a batch says about the insides of one server, besides clocks.
const INSIDES: [&str; 8] = [
    "enqueuedAt",
    "startedAt",
    "finishedAt",
    "duration",
    "batchStrategy",
    "progressTrace",
    "writeChannelCongestion",
    "internalDatabaseSizes",
];
/// Longest wait for something to be noticed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Tasks that `some_tasks` makes.
const TASKS: u64 = 10;

/// Tasks of several kinds about two indexes, three of them failed.
async fn some_tasks(oracle: &Oracle) {
    let films = "/indexes/films/documents";
    for (method, path, body) in [
        (Method::POST, "/indexes", json!({ "uid": "films", "primaryKey": "id" })),
        (Method::POST, films, json!([{ "id": 1, "t": "a" }, { "id": 2, "t": "b" }])),
        (Method::POST, films, json!([{ "no": 1 }])),
        (Method::PUT, "/indexes/films/settings/stop-words", json!(["the"])),
        (Method::POST, "/indexes/films/documents/delete-batch", json!([2, 3])),
        (Method::POST, "/indexes/books/documents", json!([{ "id": 7 }])),
        (Method::POST, "/indexes", json!({ "uid": "films" })),
        (Method::PATCH, "/indexes/books", json!({ "primaryKey": "other" })),
        (Method::PUT, films, json!([{ "id": 1, "u": 2 }])),
        (Method::DELETE, "/indexes/books", Value::Null),
    ] {
        let difference = oracle.apply(method.clone(), path, Some(&body)).await;
        assert!(difference.is_empty(), "{method} {path}:\n{difference}");
    }
}

/// Collects differences, to show all of them at the end.
#[derive(Default)]
struct Differences(String);

impl Differences {
    fn compare(&mut self, what: &str, (expected, found): (Answer, Answer), incidental: &[&str]) {
        let difference = compare_answers(&expected, &found, incidental);
        if !difference.is_empty() {
            self.0 += &format!("- {what}\n{difference}");
        }
    }

    async fn get(&mut self, oracle: &Oracle, path: &str, incidental: &[&str]) {
        self.compare(path, oracle.both(Method::GET, path, None).await, incidental);
    }

    #[track_caller]
    fn finish(self) {
        assert!(self.0.is_empty(), "Miroir does not answer as Meilisearch does:\n{}", self.0);
    }
}

/// Filters that need no clock.
const FILTERS: &[&str] = &[
    "",
    "?",
    "?limit=3",
    "?limit=0",
    "?limit=4294967295",
    "?limit=3&from=6",
    "?limit=3&from=600",
    "?from=2&reverse=true",
    "?reverse=true&limit=4",
    "?reverse=false",
    "?uids=1,3,5,77",
    "?uids=1,,3",
    "?uids=",
    "?uids=*",
    "?uids=1,*",
    "?uids=x&uids=2",
    "?batchUids=2,4",
    "?batchUids=*",
    "?batchUids=1&uids=1,2",
    "?statuses=failed",
    "?statuses=FAILED",
    "?statuses=",
    "?statuses=succeeded,failed&limit=2",
    "?statuses=enqueued,processing,canceled",
    "?statuses=succeeded,*",
    "?types=documentAdditionOrUpdate&limit=1",
    "?types=INDEXCREATION,indexDeletion",
    "?types=dumpCreation,upgradeDatabase,export",
    "?indexUids=books",
    "?indexUids=books,films&statuses=failed",
    "?indexUids=nowhere",
    "?indexUids=*",
    "?indexUids=films&types=documentAdditionOrUpdate&statuses=succeeded&limit=1&from=5",
    "?canceledBy=1",
    "?canceledBy=*",
    "?beforeEnqueuedAt=*&afterEnqueuedAt=*",
    "?beforeEnqueuedAt=2020-01-01",
    "?afterEnqueuedAt=2020-01-01&beforeFinishedAt=2100-01-01T10:00:00%2B02:00",
    "?afterStartedAt=9999-12-31",
    "?afterEnqueuedAt=1970-01-01&limit=1",
    // Refused.
    "?limit=x",
    "?limit=",
    "?limit=-1",
    "?from=x",
    "?reverse",
    "?reverse=yes",
    "?uids=1,x",
    "?uids=+1",
    "?uids=4294967296",
    "?uids=2&uids=x",
    "?batchUids=x",
    "?canceledBy=x",
    "?statuses=nonsense",
    "?statuses=failed,+succeeded",
    "?types=nonsense",
    "?types=x&statuses=y",
    "?statuses=y&types=x",
    "?indexUids=no%20spaces",
    "?beforeEnqueuedAt=nonsense",
    "?afterEnqueuedAt=+2024-01-01",
    "?beforeStartedAt=2024-02-30",
    "?afterStartedAt=2024-02-01T00:00",
    "?beforeFinishedAt=2024-1-1",
    "?afterFinishedAt=",
    "?unknown=1",
];

/// The clock of a task on one server, and the day it shows.
async fn clock(client: &Client, task: u64, name: &str) -> (String, String) {
    let record = client.get(&format!("/tasks/{task}")).await.ok();
    let time = record[name].as_str().unwrap_or_default().to_owned();
    let day = time[..10].to_owned();
    (time.replace('+', "%2B"), day)
}

/// The same filters on both servers, each with what its own clock showed for this task.
async fn timed_filters(client: &Client, task: u64) -> Vec<String> {
    let mut filters = Vec::new();
    for name in ["EnqueuedAt", "StartedAt", "FinishedAt"] {
        let (time, day) = clock(client, task, &format!("{}{}", name[..1].to_lowercase(), &name[1..])).await;
        for side in ["before", "after"] {
            filters.push(format!("?{side}{name}={time}"));
            filters.push(format!("?{side}{name}={day}"));
            filters.push(format!("?{side}{name}={time}&statuses=failed,succeeded&limit=2"));
        }
        filters.push(format!("?before{name}={time}&after{name}={time}"));
    }
    filters
}

async fn compare_lists(oracle: &Oracle, route: &str, incidental: &[&str]) {
    let mut differences = Differences::default();
    for filter in FILTERS {
        differences.get(oracle, &format!("{route}{filter}"), incidental).await;
    }
    for task in [0, 4, TASKS - 1] {
        let expected = timed_filters(oracle.reference_client(), task).await;
        let found = timed_filters(oracle.subject_client(), task).await;
        for (one, other) in expected.iter().zip(&found) {
            let (one, other) = (format!("{route}{one}"), format!("{route}{other}"));
            let answers =
                tokio::join!(oracle.reference_client().get(&one), oracle.subject_client().get(&other));
            differences.compare(&one, answers, incidental);
        }
    }
    for one in ["/0", "/3", "/9", "/9999", "/x", "/-1", "/%20", "/4294967296"] {
        differences.get(oracle, &format!("{route}{one}"), incidental).await;
    }
    differences.finish();
}

#[tokio::test]
async fn tasks_are_filtered_as_meilisearch_does() {
    let oracle = Oracle::start(SHAPE).await;
    some_tasks(&oracle).await;
    compare_lists(&oracle, "/tasks", &CLOCKS).await;
    let mut differences = Differences::default();
    for task in ["0", "9999", "x"] {
        differences.get(&oracle, &format!("/tasks/{task}/documents"), &CLOCKS).await;
    }
    differences.get(&oracle, "/tasks/cancel", &CLOCKS).await;
    for filter in ["", "?", "?uids=x", "?statuses=nonsense", "?limit=1", "?beforeStartedAt=x&uids=1"] {
        let path = format!("/tasks/cancel{filter}");
        let answers = oracle.both(Method::POST, &path, None).await;
        differences.compare(&format!("POST {path}"), answers, &CLOCKS);
    }
    differences.finish();
}

#[tokio::test]
async fn batches_are_listed_as_meilisearch_does() {
    let oracle = Oracle::start(SHAPE).await;
    some_tasks(&oracle).await;
    compare_lists(&oracle, "/batches", &INSIDES).await;
}

#[tokio::test]
async fn tasks_are_deleted_as_meilisearch_does() {
    let oracle = Oracle::start(SHAPE).await;
    some_tasks(&oracle).await;
    let mut differences = Differences::default();
    for filter in [
        // Refused.
        "",
        "?",
        "?limit=2&uids=1",
        "?uids=x",
        "?statuses=nonsense",
        "?statuses=nonsense&uids=x",
        "?uids=4294967296&statuses=failed",
        "?afterEnqueuedAt=nonsense",
        "?indexUids=no%20spaces",
        "?unknown=1",
        "?uids=x&batchUids=1&canceledBy=2",
        // Carried out.
        "?uids=1,3,77",
        "?uids=1",
        "?statuses=failed&indexUids=films",
        "?statuses=enqueued,processing",
        "?batchUids=4",
        "?types=indexCreation&beforeEnqueuedAt=2020-01-01",
        "?canceledBy=3",
        "?types=taskDeletion,indexDeletion",
        "?afterFinishedAt=2020-01-01T00:00:00%2B02:00&types=settingsUpdate",
    ] {
        let path = format!("/tasks{filter}");
        let (expected, found) = oracle.both(Method::DELETE, &path, None).await;
        if let (Some(one), Some(other)) = (expected.task_uid(), found.task_uid()) {
            tokio::join!(oracle.reference_client().wait_task(one), oracle.subject_client().wait_task(other));
        }
        differences.compare(&format!("DELETE {path}"), (expected, found), &CLOCKS);
        differences.get(&oracle, "/tasks?limit=100", &CLOCKS).await;
        differences.get(&oracle, "/batches?limit=100", &INSIDES).await;
    }
    // Everything, and then the task that did so.
    for (filter, next) in [("?uids=*", 28), ("?statuses=*", 29)] {
        let path = format!("/tasks{filter}");
        let difference = oracle.apply(Method::DELETE, &path, None).await;
        assert!(difference.is_empty(), "{path}:\n{difference}");
        differences.get(&oracle, "/tasks", &CLOCKS).await;
        differences.get(&oracle, &format!("/tasks/{next}"), &CLOCKS).await;
    }
    // Uids go on where they were.
    let creation = json!({ "uid": "later" });
    let difference = oracle.apply(Method::POST, "/indexes", Some(&creation)).await;
    assert!(difference.is_empty(), "{difference}");
    differences.get(&oracle, "/tasks?types=indexCreation", &CLOCKS).await;
    differences.finish();
}

/// That an index was deleted must be known when a node comes back that still has it, whatever became of the task.
#[tokio::test]
async fn what_is_left_of_a_deleted_index_goes_although_its_task_is_deleted() {
    let mut cluster = Cluster::start(SHAPE).await;
    let client = cluster.client().clone();
    for index in ["films", "kept"] {
        let documents = json!([{ "id": 1 }, { "id": 2 }, { "id": 3 }]);
        let answer = client.post(&format!("/indexes/{index}/documents"), &documents).await;
        client.wait_success(answer).await;
    }
    cluster.nodes[1].kill();
    let answer = client.delete("/indexes/films").await;
    client.wait_success(answer).await;
    let answer = client.delete("/tasks?statuses=*").await;
    let task = client.wait_success(answer).await;
    assert_eq!(
        task["details"],
        json!({ "matchedTasks": 3, "deletedTasks": 3, "originalFilter": "?statuses=*" })
    );

    cluster.nodes[1].restart().await;
    let started = Instant::now();
    while cluster.nodes[1].client().get("/indexes/films").await.status != 404 {
        assert!(started.elapsed() < PATIENCE, "the deleted index is still on the node");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(cluster.nodes[1].client().get("/indexes/kept").await.status, 200);
}
