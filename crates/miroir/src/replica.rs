//! `miroir replica promote`: the operator declares that what a node holds is what there is.

use std::io::{IsTerminal, Write};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::client::{Client, OperatorTarget, SendError};
use crate::failure::Failure;

/// What can be done to replicas.
#[derive(Subcommand)]
pub enum ReplicaCommand {
    /// Make the replicas of a node the active ones of the shards that no other node can serve any more. Shows what
    /// may be lost, and asks.
    Promote(PromoteArguments),
}

/// What `miroir replica promote` is told.
#[derive(Args)]
pub struct PromoteArguments {
    #[command(flatten)]
    target: OperatorTarget,
    /// The node whose replicas are promoted.
    #[arg(long)]
    node: String,
    /// Only this index.
    #[arg(long)]
    index: Option<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

#[derive(Deserialize)]
struct Promotions {
    shards: Vec<Promotion>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Promotion {
    index: String,
    shard: u64,
    reason: String,
    gives_up: Vec<String>,
}

/// Carries out a command on replicas.
pub async fn replica(command: ReplicaCommand) -> Result<(), Failure> {
    let ReplicaCommand::Promote(arguments) = command;
    let client = Client::for_operator(&arguments.target)?;
    let ask = async |confirm: bool| -> Result<Promotions, Failure> {
        let body = json!({ "node": arguments.node, "index": arguments.index, "confirm": confirm });
        let request = client.request(Method::POST, "/_miroir/replicas/promote").json(&body);
        client.send(request).await.map_err(SendError::into_failure)
    };
    let planned = ask(false).await?.shards;
    if planned.is_empty() {
        println!(
            "Nothing to promote: every shard on node {} is served, or is not its to decide.",
            arguments.node
        );
        return Ok(());
    }
    print!("{}", explain(&planned, &arguments.node));
    if !arguments.yes && !agrees()? {
        return Err(Failure::new("nothing was done"));
    }
    let done = ask(true).await?.shards;
    println!("{} shards are served by node {} from now on.", done.len(), arguments.node);
    Ok(())
}

fn explain(planned: &[Promotion], node: &str) -> String {
    let mut text = format!("No other node can serve these shards, and node {node} is not read because:\n");
    for promotion in planned {
        let gives_up = match promotion.gives_up.as_slice() {
            [] => "no other replica is left".to_owned(),
            nodes => format!("gives up what only {} may have", nodes.join(", ")),
        };
        text.push_str(&format!(
            "  {} shard {}: {}; {gives_up}\n",
            promotion.index, promotion.shard, promotion.reason
        ));
    }
    text.push_str(&format!(
        "Every write to them that node {node} missed will be lost for good, and a node that comes back with it is \
         made equal to {node}.\nStart the missing nodes instead if they can still be started.\n"
    ));
    text
}

fn agrees() -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new("not asked, because this is no terminal; repeat with --yes"));
    }
    print!("Promote? Type yes: ");
    let read = |error: std::io::Error| Failure::new(format!("cannot ask: {error}"));
    std::io::stdout().flush().map_err(read)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(read)?;
    Ok(answer.trim() == "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_lost_is_told() {
        let planned = [Promotion {
            index: "movies".to_owned(),
            shard: 3,
            reason: "missed a write".to_owned(),
            gives_up: vec!["b".to_owned()],
        }];
        let text = explain(&planned, "a");
        assert!(text.contains("  movies shard 3: missed a write; gives up what only b may have\n"), "{text}");
    }
}
