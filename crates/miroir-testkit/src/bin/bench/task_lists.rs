//! Measuring lists of tasks where there are many.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use miroir_testkit::client::Client;
use miroir_testkit::figures::connection::{Line, Part};

use crate::options::Options;
use crate::requests::{Measured, in_turns};
use crate::subject::{Servers, Subject};

/// Miroir lists its own tasks, whatever nodes there are.
const ASKED: [Subject; 2] = [Subject::Direct, Subject::OneNode];
/// Longest wait until all tasks have ended.
const END_LIMIT: Duration = Duration::from_secs(1_200);
/// Requests of a kind.
const REQUESTS: usize = 50;
/// An index that is not there: such tasks end at once and leave nothing but themselves.
const NOWHERE: &str = "/indexes/nowhere/documents/delete-batch";

/// Makes tasks, and lists them in several ways.
pub async fn measure(servers: &Servers, options: &Options) -> Vec<Measured> {
    for subject in ASKED {
        let route = servers.route(subject);
        let begun = Instant::now();
        make_tasks(&Part::post(&route.addresses[0], NOWHERE, route.key, b"[1]"), options);
        wait_for_their_end(servers.client(subject)).await;
        println!("{} tasks: {}: {:.1} s", options.tasks, subject.label(), begun.elapsed().as_secs_f64());
    }
    let middle = options.tasks / 2;
    let kinds: [(&str, String); 4] = [
        ("tasks, the first page", "/tasks".to_owned()),
        ("tasks, a page in the middle", format!("/tasks?from={middle}&limit=100")),
        ("tasks, failed ones of one index", "/tasks?statuses=failed&indexUids=nowhere".to_owned()),
        (
            "tasks, by status, type and date",
            "/tasks?statuses=succeeded,failed&types=documentDeletion&afterEnqueuedAt=2020-01-01".to_owned(),
        ),
    ];
    let mut measured = Vec::new();
    for (label, path) in kinds {
        let gets = |subject| {
            let route = servers.route(subject);
            vec![Part::get(&route.addresses[0], &path, route.key); REQUESTS]
        };
        measured.extend(in_turns(label, ASKED.map(|subject| (subject, gets(subject))).to_vec(), options));
    }
    measured
}

fn make_tasks(request: &Part, options: &Options) {
    let next = AtomicUsize::new(0);
    let client = || {
        let mut line = Line::default();
        while next.fetch_add(1, Ordering::Relaxed) < options.tasks {
            line.exchange(std::slice::from_ref(request)).unwrap_or_else(|error| panic!("{error}"));
        }
    };
    std::thread::scope(|scope| (0..options.clients).for_each(|_| drop(scope.spawn(client))));
}

async fn wait_for_their_end(client: &Client) {
    let begun = Instant::now();
    loop {
        let page = client.get("/tasks?statuses=enqueued,processing&limit=1").await.ok();
        if page["total"] == 0 {
            return;
        }
        assert!(begun.elapsed() < END_LIMIT, "the tasks do not end: {page}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
