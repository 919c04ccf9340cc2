//! A node that comes back: after it was cut off or killed and missed a few writes, and after it lost its disk as well.
//!
//! Each time the same number of documents is changed while it is away, so that there is no other difference but what
//! the node still has.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use miroir_testkit::cluster::{Cluster, Shape};
use miroir_testkit::figures::statistics::{median, median_ratio};
use miroir_testkit::figures::workload::{INDEX, Workload};
use miroir_testkit::proxy::Fault;
use serde_json::{Value, json};

use crate::options::Options;
use crate::whole::{load, wait_whole};

const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 64 };
/// Documents changed while the node is away, of a hundred.
const CHANGED: usize = 100;
/// Ids of documents that the corpus does not have.
const FIRST_NEW_ID: usize = 2_000_000;
/// Documents in one page of the comparison.
const PAGE: usize = 5_000;

/// How a node went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// Its connections were cut.
    CutOff,
    /// It was killed.
    Killed,
    /// It was killed, and has an empty disk.
    Emptied,
}

impl Absence {
    /// All of them, in the order in which they are measured.
    pub const ALL: [Self; 3] = [Self::CutOff, Self::Killed, Self::Emptied];

    /// For the tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::CutOff => "cut off; 1 % of the documents were changed meanwhile",
            Self::Killed => "killed; as many were changed",
            Self::Emptied => "killed, and its disk emptied; as many were changed",
        }
    }
}

/// What the repairs took.
pub struct Repairs {
    /// Seconds until the node was exact, per round, in the order of [`Absence::ALL`].
    pub seconds: [Vec<f64>; 3],
    /// Which repair did not come to its end and why, or what was wrong after it.
    pub failure: Option<String>,
}

impl Repairs {
    /// What they took after one kind of absence, per round.
    pub fn after(&self, absence: Absence) -> &[f64] {
        &self.seconds[absence as usize]
    }

    /// The time after an absence to that of a full copy; not a number after a failure, which proves nothing.
    pub fn ratio(&self, absence: Absence) -> f64 {
        match self.failure {
            Some(_) => f64::NAN,
            None => median_ratio(self.after(absence), self.after(Absence::Emptied)),
        }
    }

    /// The median of the rounds.
    pub fn typical(seconds: &[f64]) -> f64 {
        median(seconds.iter().copied())
    }
}

/// What the documents that were changed must be in the end: a title, or gone.
type Expected = HashMap<String, Option<String>>;

/// All repairs, in turns, each round of another node.
pub async fn measure(workload: &Workload, options: &Options) -> Repairs {
    let mut cluster = Cluster::start_with_proxies(SHAPE, "").await;
    load(cluster.client(), workload).await;
    let mut repairs = Repairs { seconds: Default::default(), failure: None };
    let mut expected = Expected::new();
    let rounds = (0..options.repair_rounds).flat_map(|round| Absence::ALL.map(|absence| (round, absence)));
    for (turn, (round, absence)) in rounds.enumerate() {
        let number = round % SHAPE.nodes;
        match absence {
            Absence::CutOff => cluster.proxies[number].set(Fault::Reset),
            Absence::Killed | Absence::Emptied => cluster.nodes[number].kill(),
        }
        change(&cluster, workload, turn, &mut expected).await;
        match absence {
            Absence::CutOff => cluster.proxies[number].set(Fault::None),
            Absence::Killed => cluster.nodes[number].restart().await,
            Absence::Emptied => cluster.nodes[number].restart_empty().await,
        }
        let what = format!("round {}, {}", round + 1, absence.label());
        match wait_exact(&cluster, workload, options.repair_limit, &expected).await {
            Ok(seconds) => {
                println!("repair, {what}: {seconds:.2} s");
                repairs.seconds[absence as usize].push(seconds);
            }
            Err(failure) => {
                let failure = format!("{what}: {failure}");
                println!("repair, {failure}");
                repairs.failure = Some(failure);
                break;
            }
        }
    }
    repairs
}

/// Seconds, from the node's first sign of life, until it was exact.
async fn wait_exact(
    cluster: &Cluster,
    workload: &Workload,
    limit: Duration,
    expected: &Expected,
) -> Result<f64, String> {
    let (begun, documents) = (Instant::now(), workload.corpus.documents.len());
    wait_whole(cluster, SHAPE.replication_factor * documents, limit).await?;
    let seconds = begun.elapsed().as_secs_f64();
    compare(cluster, documents, expected).await?;
    Ok(seconds)
}

/// Replaces, updates, deletes and adds a quarter each of one document in a hundred, others each time.
async fn change(cluster: &Cluster, workload: &Workload, turn: usize, expected: &mut Expected) {
    let client = cluster.client();
    let path = format!("/indexes/{INDEX}/documents");
    let quarter = workload.corpus.documents.len().div_ceil(CHANGED * 4);
    let of_turn = &workload.corpus.documents[turn * quarter * 3..(turn + 1) * quarter * 3];
    let title = format!("changed in turn {turn}");
    let mut note = |id: &Value, title: Option<&String>| expected.insert(plain(id), title.cloned());

    let mut replaced = of_turn[..quarter].to_vec();
    for document in &mut replaced {
        document["title"] = json!(title);
        note(&document["id"], Some(&title));
    }
    let updated: Vec<Value> = of_turn[quarter..2 * quarter]
        .iter()
        .map(|document| json!({ "id": document["id"], "title": title }))
        .collect();
    updated.iter().for_each(|document| drop(note(&document["id"], Some(&title))));
    let deleted: Vec<&Value> = of_turn[2 * quarter..].iter().map(|document| &document["id"]).collect();
    deleted.iter().for_each(|id| drop(note(id, None)));
    let added: Vec<Value> = (0..quarter)
        .map(|number| json!({ "id": FIRST_NEW_ID + turn * quarter + number, "title": title }))
        .collect();
    added.iter().for_each(|document| drop(note(&document["id"], Some(&title))));

    let answers = [
        client.post(&path, &json!(replaced)).await,
        client.put(&path, &json!(updated)).await,
        client.post(&format!("{path}/delete-batch"), &json!(deleted)).await,
        client.post(&path, &json!(added)).await,
    ];
    for answer in answers {
        client.wait_success(answer).await;
    }
}

/// Reads every node directly: each document on as many nodes as there should be copies, the same on each, and what
/// was changed as it was changed.
async fn compare(cluster: &Cluster, documents: usize, expected: &Expected) -> Result<(), String> {
    let mut copies: HashMap<String, Vec<String>> = HashMap::with_capacity(documents);
    for node in &cluster.nodes {
        for offset in (0..).step_by(PAGE) {
            let path = format!("/indexes/{INDEX}/documents?limit={PAGE}&offset={offset}");
            let mut page = node.client().get(&path).await.ok();
            let results = page["results"].take();
            let page = results.as_array().map(Vec::as_slice).unwrap_or_default();
            for document in page {
                // Nodes keep fields in different orders.
                let fields: Option<BTreeMap<&String, &Value>> =
                    document.as_object().map(|fields| fields.iter().collect());
                copies.entry(plain(&document["id"])).or_default().push(json!(fields).to_string());
                let is_wrong = match expected.get(&plain(&document["id"])) {
                    None => false,
                    Some(title) => document["title"].as_str() != title.as_deref(),
                };
                if is_wrong {
                    return Err(format!("document {} is not as it was changed", document["id"]));
                }
            }
            if page.len() < PAGE {
                break;
            }
        }
    }
    if copies.len() != documents {
        return Err(format!("the nodes hold {} documents instead of {documents}", copies.len()));
    }
    let differs = |copies: &Vec<String>| {
        copies.len() != SHAPE.replication_factor || copies.windows(2).any(|pair| pair[0] != pair[1])
    };
    match copies.iter().find(|(_, copies)| differs(copies)) {
        Some((id, _)) => Err(format!("the copies of document {id} differ")),
        None => Ok(()),
    }
}

/// An id as text: `1` and `"1"` are the same document.
fn plain(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}
