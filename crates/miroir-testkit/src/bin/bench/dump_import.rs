//! Measuring how long it takes to take in a dump of a Meilisearch: by another Meilisearch, which does it before it
//! answers anybody, and by Miroir, which serves meanwhile.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use miroir_testkit::client::Client;
use miroir_testkit::cluster::{Cluster, MASTER_KEY};
use miroir_testkit::process::MeilisearchProcess;
use reqwest::Method;
use serde_json::json;

use crate::options::Options;
use crate::process_stat::{forget_peak, memory_peak};
use crate::subject::{Servers, Subject};

/// Who takes it in, in the order of the table.
const TAKING: [Subject; 3] = [Subject::Direct, Subject::OneNode, Subject::ThreeNodes];
/// Longest wait for the end of an import.
const IMPORT_LIMIT: Duration = Duration::from_secs(1_200);
/// How often it is looked for.
const PACE: Duration = Duration::from_millis(20);
const IMPORT: &str = "/_miroir/dumps/import";

/// What taking in a dump took.
pub struct DumpImport {
    /// Who took it in.
    pub subject: Subject,
    /// Seconds until everything in it can be found, per round. Of one Meilisearch with its start.
    pub seconds: Vec<f64>,
    /// Most megabytes Miroir held.
    pub peak: Option<f64>,
}

/// Has the one Meilisearch make a dump of what it has, and gives it to new servers, in turns.
pub async fn measure(servers: &Servers, options: &Options) -> Vec<DumpImport> {
    let dump = dump(servers).await;
    let mut results = TAKING
        .map(|subject| DumpImport { subject, seconds: Vec::new(), peak: None })
        .into_iter()
        .collect::<Vec<_>>();
    for round in 0..options.ingest_rounds {
        for result in &mut results {
            let (seconds, peak) = match result.subject.shape() {
                None => (into_meilisearch(&dump).await, None),
                Some(shape) => {
                    let cluster = Cluster::start(shape).await;
                    let (seconds, peak) = into_miroir(&cluster, &dump).await;
                    (seconds, Some(peak))
                }
            };
            println!("dump import, round {}: {}: {seconds:.2} s", round + 1, result.subject.label());
            result.seconds.push(seconds);
            result.peak = peak.map(|peak| result.peak.map_or(peak, |earlier| earlier.max(peak)));
        }
    }
    results
}

async fn dump(servers: &Servers) -> PathBuf {
    let client = servers.client(Subject::Direct);
    let task = client.wait_success(client.call(Method::POST, "/dumps", None).await).await;
    let uid = task["details"]["dumpUid"].as_str().expect("a dump has a uid");
    servers.direct_directory().join("dumps").join(format!("{uid}.dump"))
}

async fn into_meilisearch(dump: &Path) -> f64 {
    let file = dump.to_str().expect("temporary paths are UTF-8");
    let begun = Instant::now();
    let server = MeilisearchProcess::start_with(Some(MASTER_KEY), &["--import-dump", file]).await;
    let seconds = begun.elapsed().as_secs_f64();
    drop(server);
    seconds
}

async fn into_miroir(cluster: &Cluster, dump: &Path) -> (f64, f64) {
    let (admin, pid) = (cluster.admin(), cluster.miroir.pid());
    let body = std::fs::read(dump).expect("the dump can be read");
    forget_peak(pid);
    let begun = Instant::now();
    let taken = admin.send(Method::POST, IMPORT, &[], Some(body)).await;
    assert_eq!(taken.status, 202, "the dump was refused: {}", taken.body);
    wait_for_its_end(&admin).await;
    (begun.elapsed().as_secs_f64(), memory_peak(pid))
}

async fn wait_for_its_end(admin: &Client) {
    let begun = Instant::now();
    while begun.elapsed() < IMPORT_LIMIT {
        let import = admin.get(IMPORT).await.ok();
        if import["status"] == "succeeded" {
            return;
        }
        assert_eq!(import["status"], json!("running"), "the dump was not taken in: {import}");
        tokio::time::sleep(PACE).await;
    }
    panic!("the dump is not taken in after {IMPORT_LIMIT:?}");
}
