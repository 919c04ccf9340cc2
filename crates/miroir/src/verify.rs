//! `miroir verify`: compares all replicas of every shard, and says whether they are the same.

use std::collections::BTreeMap;

use clap::Args;
use indicatif::ProgressBar;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::client::{Client, OperatorTarget, SendError};
use crate::failure::Failure;
use crate::listing::{IndexReplicas, Replicas};

/// What `miroir verify` is told.
#[derive(Args)]
pub struct VerifyArguments {
    #[command(flatten)]
    target: OperatorTarget,
    /// Only this index.
    #[arg(long)]
    index: Option<String>,
    /// Make equal what differs: the majority is right, otherwise the newest write.
    #[arg(long)]
    repair: bool,
}

#[derive(Deserialize)]
struct Verified {
    documents: Found,
    settings: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    documents: u64,
    shards_compared: u64,
    shards_alone: u64,
    differing: u64,
    findings: Vec<Finding>,
}

#[derive(Deserialize)]
struct Finding {
    shard: u64,
    document: String,
    held: BTreeMap<String, String>,
    right: Option<String>,
}

/// Shards of one request: few enough for a bar that moves.
const SHARDS_AT_ONCE: usize = 4;

/// Compares, and fails when anything differs.
pub async fn verify(arguments: VerifyArguments) -> Result<(), Failure> {
    let client = Client::for_operator(&arguments.target)?;
    let replicas: Replicas = client.get("/_miroir/replicas").await?;
    let wanted = |index: &&IndexReplicas| arguments.index.as_ref().is_none_or(|uid| *uid == index.uid);
    let indexes: Vec<&IndexReplicas> = replicas.indexes.iter().filter(wanted).collect();
    if let (Some(uid), true) = (&arguments.index, indexes.is_empty()) {
        return Err(Failure::new(format!("there is no index `{uid}`")));
    }
    let bar = ProgressBar::new(indexes.iter().map(|index| u64::from(index.shards)).sum());
    let mut differing = 0;
    for index in indexes {
        let all: Vec<u16> = (0..index.shards).collect();
        let (mut documents, mut compared, mut alone) = (0, 0, 0);
        for shards in all.chunks(SHARDS_AT_ONCE) {
            let body = json!({ "index": index.uid, "shards": shards, "repair": arguments.repair });
            let request = client.request(Method::POST, "/_miroir/verify").json(&body);
            let verified: Verified = client.send(request).await.map_err(SendError::into_failure)?;
            bar.inc(shards.len() as u64);
            documents += verified.documents.documents;
            compared += verified.documents.shards_compared;
            alone += verified.documents.shards_alone;
            differing += verified.documents.differing + verified.settings.len() as u64;
            for line in lines(&verified) {
                bar.suspend(|| println!("{}: {line}", index.uid));
            }
        }
        let behind = match index.other_replicas.len() {
            0 => String::new(),
            count => format!("; {count} replicas are being repaired and were not compared"),
        };
        bar.suspend(|| {
            println!(
                "{}: {documents} documents of {compared} shards compared, {alone} shards have one copy in reach{behind}",
                index.uid
            );
        });
    }
    bar.finish_and_clear();
    match (differing, arguments.repair) {
        (0, _) => {
            println!("All replicas that were compared are equal.");
            Ok(())
        }
        (count, true) => {
            Err(Failure::new(format!("{count} differences were found and repaired; verify again")))
        }
        (count, false) => Err(Failure::new(format!(
            "{count} differences; `miroir verify --repair` makes the replicas equal"
        ))),
    }
}

fn lines(verified: &Verified) -> Vec<String> {
    let finding = |finding: &Finding| {
        let held: Vec<String> = finding.held.iter().map(|(node, what)| format!("{node}: {what}")).collect();
        let right =
            finding.right.as_deref().map_or("no node is right".to_owned(), |node| format!("{node} is right"));
        format!(
            "document `{}` of shard {} differs ({}); {right}",
            finding.document,
            finding.shard,
            held.join("; ")
        )
    };
    let settings = verified.settings.iter().map(|(node, reason)| format!("node {node}: {reason}"));
    settings.chain(verified.documents.findings.iter().map(finding)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_with_who_is_right() {
        let verified: Verified = serde_json::from_str(
            r#"{"documents":{"documents":3,"shardsCompared":1,"shardsAlone":0,"differing":1,"repaired":false,
                "findings":[{"shard":2,"document":"7","held":{"a":"write 4","b":"missing"},"right":"a"}]},
                "settings":{"b":"its settings differ"}}"#,
        )
        .unwrap();
        assert_eq!(
            lines(&verified),
            [
                "node b: its settings differ",
                "document `7` of shard 2 differs (a: write 4; b: missing); a is right"
            ]
        );
    }
}
