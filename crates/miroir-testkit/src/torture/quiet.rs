//! A quiet point: everything is healed and over. Copies must be equal, the cluster must equal the model, and answer
//! as one Meilisearch that was given the model.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::model::Expected;
use super::nemesis::{revive, unrest};
use super::report::Violation;
use super::write::{Document, first_settings, id_of};
use super::{INDEX, Stage};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::compare::{Difference, INCIDENTAL_TO_SEARCH, compare_answers, compare_values};
use crate::corpus::{Dice, Vocabulary};
use crate::process::MeilisearchProcess;

/// Longest wait until all is in order again.
const LIMIT: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(100);
const PAGE: usize = 1_000;
/// Searches compared with one Meilisearch.
const SEARCHES: usize = 60;
const SHARD: &str = "_miroir_shard";

/// Waits until all is in order, and checks everything.
pub async fn check(stage: &Stage, cluster: &mut Cluster, reference: &MeilisearchProcess, dice: &mut Dice) {
    revive(stage, cluster).await;
    let started = Instant::now();
    while let Some(reason) = unrest(cluster).await {
        if started.elapsed() > LIMIT {
            return stage.give_up(format!("not in order after {LIMIT:?}: {reason}"));
        }
        tokio::time::sleep(POLL).await;
    }
    stage.report.note(format_args!("QUIET after {:?}", started.elapsed()));
    stage.report.count("quiet points", "checked");
    stage.report.took("quiet points until all was in order", started.elapsed());
    check_copies(stage, cluster).await;
    check_documents(stage, cluster.client()).await;
    check_oracle(stage, cluster.client(), reference, dice).await;
}

/// All documents of a server, as it gives them.
async fn all_documents(client: &Client) -> Vec<Document> {
    let mut documents = Vec::new();
    loop {
        let body = json!({ "offset": documents.len(), "limit": PAGE });
        let answer = client.post(&format!("/indexes/{INDEX}/documents/fetch"), &body).await;
        let page = answer.body["results"].as_array().cloned().unwrap_or_default();
        let is_last = page.len() < PAGE;
        documents.extend(page.into_iter().filter_map(|document| document.as_object().cloned()));
        if is_last {
            return documents;
        }
    }
}

type Shards = BTreeMap<String, BTreeMap<u64, Document>>;

/// Every copy of a shard is the same on every node that has it, as many nodes as there should be have it, and no other.
async fn check_copies(stage: &Stage, cluster: &Cluster) {
    let mut held: Vec<Shards> = Vec::new();
    for node in &cluster.nodes {
        let mut shards = Shards::new();
        for document in all_documents(node.client()).await {
            let shard = document.get(SHARD).map(Value::to_string).unwrap_or_default();
            shards.entry(shard).or_default().insert(id_of(&document).unwrap_or_default(), document);
        }
        held.push(shards);
    }
    let groups = stage.options.shape.replica_groups;
    let mut names: Vec<&String> = held.iter().flat_map(BTreeMap::keys).collect();
    names.sort_unstable();
    names.dedup();
    let mut indexes: Vec<String> = Vec::new();
    for shard in names {
        for group in 0..groups {
            let copies: Vec<(usize, &BTreeMap<u64, Document>)> = (held.iter().enumerate())
                .filter(|(number, _)| number % groups == group)
                .filter_map(|(number, shards)| Some((number, shards.get(shard)?)))
                .collect();
            if copies.len() != stage.options.shape.replication_factor {
                let nodes: Vec<(usize, usize)> =
                    copies.iter().map(|(number, documents)| (*number, documents.len())).collect();
                let what = format!("shard {shard}: group {group} has it on (node, documents) {nodes:?}");
                stage.report.violation(Violation::CopiesDiffer, what);
            }
        }
        let copies =
            held.iter().enumerate().filter_map(|(number, shards)| Some((number, shards.get(shard)?)));
        let copies: Vec<(usize, &BTreeMap<u64, Document>)> = copies.collect();
        for pair in copies.windows(2) {
            let ((one, left), (other, right)) = (pair[0], pair[1]);
            if left != right {
                indexes.push(describe(shard, one, left, other, right));
            }
        }
    }
    for difference in indexes {
        stage.report.violation(Violation::CopiesDiffer, difference);
    }
    let mut settings = Vec::new();
    for node in &cluster.nodes {
        settings.push(node_settings(node.client()).await);
    }
    for (number, pair) in settings.windows(2).enumerate() {
        let mut difference = Difference::default();
        compare_values("", &pair[0], &pair[1], &mut difference);
        if !difference.is_empty() {
            let what = format!("settings of node {number} and {}:\n{difference}", number + 1);
            stage.report.violation(Violation::CopiesDiffer, what);
        }
    }
}

fn describe(
    shard: &str,
    one: usize,
    left: &BTreeMap<u64, Document>,
    other: usize,
    right: &BTreeMap<u64, Document>,
) -> String {
    let mut ids: Vec<&u64> = left.keys().chain(right.keys()).collect();
    ids.sort_unstable();
    ids.dedup();
    let differing: Vec<&&u64> = ids.iter().filter(|id| left.get(**id) != right.get(**id)).collect();
    let first = differing.first().copied().copied();
    let show = |documents: &BTreeMap<u64, Document>| {
        first
            .and_then(|id| documents.get(id))
            .map_or("nothing".to_owned(), |document| json!(document).to_string())
    };
    let (count, left, right) = (differing.len(), show(left), show(right));
    format!(
        "shard {shard}: {count} documents differ; {first:?} is {left} on node {one}, {right} on node {other}"
    )
}

/// A node's settings without the rule that breaks ties, which a node gets only when it needs it.
async fn node_settings(client: &Client) -> Value {
    let mut settings = client.get(&format!("/indexes/{INDEX}/settings")).await.body;
    if let Some(rules) = settings["rankingRules"].as_array_mut() {
        rules.retain(|rule| !rule.as_str().is_some_and(|rule| rule.starts_with("_miroir_")));
    }
    settings
}

/// The cluster's documents are those of the model.
async fn check_documents(stage: &Stage, client: &Client) {
    let mut found: BTreeMap<u64, Document> = BTreeMap::new();
    for document in all_documents(client).await {
        let id = id_of(&document).unwrap_or_default();
        if found.insert(id, document).is_some() {
            stage.report.violation(Violation::Duplicate, format_args!("document {id} is listed twice"));
        }
    }
    let expected = {
        let model = stage.model();
        let ids = model.ids();
        model.settled(ids)
    };
    for Expected { id, content, doubt, .. } in expected {
        let found = found.remove(&id);
        if found == content {
            continue;
        }
        let what = format!("document {id} must be {}, is {}", json!(content), json!(found));
        match (doubt, &content, &found) {
            (Some((task, doubt)), ..) if doubt == found => {
                stage
                    .report
                    .violation(Violation::FailedButDone, format_args!("task {task} has failed: {what}"));
            }
            (_, None, Some(_)) => stage.report.violation(Violation::Resurrected, what),
            _ => stage.report.violation(Violation::Lost, what),
        }
    }
    for (id, document) in found {
        let what = format!("document {id} was never written: {}", json!(document));
        stage.report.violation(Violation::Resurrected, what);
    }
}

/// One Meilisearch that is given the settings and the documents of the model answers alike. Every search has a total
/// order, because the order of equal hits depends on insertions and deletions that the model does not keep.
async fn check_oracle(stage: &Stage, client: &Client, reference: &MeilisearchProcess, dice: &mut Dice) {
    let (documents, settings) = {
        let model = stage.model();
        (model.documents(), model.settings().to_vec())
    };
    let one = reference.client();
    let deletion = one.delete(&format!("/indexes/{INDEX}")).await;
    one.wait_task(deletion.task_uid().unwrap_or_default()).await;
    let creation = one.post("/indexes", &json!({ "uid": INDEX, "primaryKey": "id" })).await;
    one.wait_success(creation).await;
    let mut last = None;
    for change in [first_settings()].iter().chain(&settings) {
        last = Some(one.patch(&format!("/indexes/{INDEX}/settings"), change).await);
    }
    if let Some(answer) = last {
        one.wait_success(answer).await;
    }
    let answer = one.post(&format!("/indexes/{INDEX}/documents"), &json!(documents)).await;
    one.wait_success(answer).await;

    let path = format!("/indexes/{INDEX}/settings");
    let (right, found) = (one.get(&path).await, client.get(&path).await);
    let difference = compare_answers(&right, &found, &[]);
    if !difference.is_empty() {
        // Each search would differ as a consequence.
        return stage.report.violation(Violation::Lost, format_args!("settings:\n{difference}"));
    }
    let vocabulary = Vocabulary::generate(&mut Dice::new(stage.options.seed), 400);
    for _ in 0..SEARCHES {
        let request = search(dice, &vocabulary);
        let path = format!("/indexes/{INDEX}/search");
        let (right, found) = tokio::join!(one.post(&path, &request), client.post(&path, &request));
        stage.report.count("quiet points", "searches compared with one Meilisearch");
        let difference = compare_answers(&right, &found, INCIDENTAL_TO_SEARCH);
        if !difference.is_empty() {
            stage.report.violation(Violation::OracleDiffers, format_args!("{request}:\n{difference}"));
        }
    }
}

/// A search whose hits have a total order.
fn search(dice: &mut Dice, vocabulary: &Vocabulary) -> Value {
    let mut request = Map::new();
    if dice.once_in(2) {
        request.insert("q".to_owned(), json!(vocabulary.word(dice)));
    }
    let filter = match dice.below(5) {
        0 => Some("sealed = false".to_owned()),
        1 => Some(format!("price < {}", dice.below(50))),
        2 => Some("category IN [tool, lamp]".to_owned()),
        3 => Some(format!("id > {}", dice.below(1_500))),
        _ => None,
    };
    request.extend(filter.map(|filter| ("filter".to_owned(), json!(filter))));
    request.insert("sort".to_owned(), json!([dice.pick(&["rank:asc", "rank:desc"])]));
    request.insert("facets".to_owned(), json!(["category", "sealed"]));
    request.insert("limit".to_owned(), json!(1 + dice.below(60)));
    request.insert("offset".to_owned(), json!(dice.below(30)));
    Value::Object(request)
}
