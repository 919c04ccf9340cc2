//! Every mistake is refused, and the message says where and what to do.

use super::*;

const GOOD: &str = "\
bind: 127.0.0.1:7700
master_key: a-master-key
shards: 64
replication_factor: 2
task_store: { backend: sqlite, path: miroir.db }
scatter:
  node_timeout_ms: 250
  unavailable_shard_policy: error
nodes:
  - { id: meili-0, address: \"http://10.0.0.1:7700\" }
  # a comment between two nodes
  - { id: meili-1, address: \"http://10.0.0.2:7700/\" }
";

fn with_variables(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    parse("miroir.yaml", text, variables).map_err(|failure| failure.to_string())
}

/// Replaces a part of the good file, which must be there, and expects a refusal.
fn refusal(part: &str, replacement: &str) -> String {
    assert!(GOOD.contains(part), "{part:?} is not in the good file");
    with_variables(&GOOD.replace(part, replacement), &[]).expect_err("this should be refused")
}

#[test]
fn a_good_file_is_read() {
    let config = with_variables(GOOD, &[]).unwrap();
    assert_eq!((config.default_shards, config.replication_factor), (64, 2));
    assert_eq!(config.node_timeout.as_millis(), 250);
    assert_eq!(config.nodes[1].address, "http://10.0.0.2:7700");
    assert_eq!(config.admin_api_key, config.master_key);
    assert_eq!(config.max_body_bytes, 100_000_000);
}

#[test]
fn the_example_in_the_repository_is_good_once_it_has_a_key() {
    let example = include_str!("../../../../miroir.yaml");
    let without_key = with_variables(example, &[]).expect_err("the example holds no key");
    assert!(without_key.contains("master_key is empty"), "{without_key}");
    with_variables(example, &[("MIROIR_MASTER_KEY", "a-master-key")]).unwrap();
}

#[test]
fn mistakes_are_refused_with_their_line_and_a_remedy() {
    let cases = [
        ("shards: 64", "shard: 64", "line 3", "unknown field `shard`"),
        ("shards: 64", "shards: many", "line 3", "invalid type"),
        ("shards: 64", "shards: 0", "line 3", "from 1 to 65535"),
        ("shards: 64", "shards: 65536", "line 3", "from 1 to 65535"),
        ("bind: 127.0.0.1:7700", "bind: 7700", "line 1", "such as 127.0.0.1:7700"),
        ("bind: 127.0.0.1:7700", "bind: 127.0.0.1", "line 1", "such as 127.0.0.1:7700"),
        ("master_key: a-master-key", "master_key: \"\"", "line 2", "only `miroir dev` runs without"),
        ("master_key: a-master-key", "master_key: \"sécrèt\"", "line 2", "HTTP header"),
        ("replication_factor: 2", "replication_factor: 3", "line 4", "lower it to 2"),
        ("replication_factor: 2", "replication_factor: -1", "line 4", "from 1 to"),
        ("shards: 64", "min_write_acks: 3", "line 3", "no write could ever be acknowledged"),
        ("shards: 64", "replica_groups: 2", "line 3", "no node is in group 1"),
        ("backend: sqlite", "backend: redis", "line 5", "one backend, sqlite"),
        ("path: miroir.db", "url: x", "line 5", "means nothing to sqlite"),
        ("node_timeout_ms: 250", "node_timeout_ms: 0", "line 7", "from 1 to"),
        ("policy: error", "policy: maybe", "line 8", "write partial"),
        ("id: meili-1", "id: meili-0", "line 12", "two nodes have the id meili-0"),
        ("id: meili-1", "id: \"a b\"", "line 12", "letters, digits"),
        ("id: meili-1, ", "", "line 12", "letters, digits"),
        ("10.0.0.2", "10.0.0.1", "line 12", "same address"),
        ("http://10.0.0.1:7700", "https://10.0.0.1:7700", "line 10", "only http"),
        ("http://10.0.0.1:7700", "10.0.0.1:7700", "line 10", "http://host:port"),
        ("http://10.0.0.1:7700", "http://10.0.0.1:7700/meili", "line 10", "after the port"),
        ("http://10.0.0.1:7700", "http://127.0.0.1:7700", "line 10", "Miroir itself"),
        ("meili-1,", "meili-1, replica_group: -1,", "line 12", "numbered from 0"),
        ("meili-1,", "meili-1, weight: 2,", "line 12", "unknown field `weight`"),
        ("shards: 64", "shards: [", "line", "miroir.yaml"),
    ];
    for (part, replacement, line, remedy) in cases {
        let message = refusal(part, replacement).to_lowercase();
        let prefix = format!("miroir.yaml, {line}");
        assert!(message.starts_with(&prefix), "{replacement:?}: {message:?} does not name {line}");
        assert!(message.contains(&remedy.to_lowercase()), "{replacement:?}: {message:?} lacks {remedy:?}");
    }
    assert!(with_variables("", &[("MIROIR_MASTER_KEY", "k")]).unwrap_err().contains("no nodes"));
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = with_variables(
        GOOD,
        &[
            ("MIROIR_MASTER_KEY", "another"),
            ("MIROIR_SHARDS", "7"),
            ("MIROIR_TASK_STORE__PATH", "/data/miroir.db"),
            ("MIROIR_NODES__0__ADDRESS", "http://10.9.9.9:1"),
            ("MIROIR_NODES__2__ID", "meili-2"),
            ("MIROIR_NODES__2__ADDRESS", "http://10.0.0.3:7700"),
            ("MIROIR_SERVICE_HOST", "set by Kubernetes"),
        ],
    )
    .unwrap();
    assert_eq!(config.default_shards, 7);
    assert_eq!(config.master_key.unwrap().reveal(), "another");
    assert_eq!(config.store_path.to_str(), Some("/data/miroir.db"));
    let addresses: Vec<&str> = config.nodes.iter().map(|node| node.address.as_str()).collect();
    assert_eq!(addresses, ["http://10.9.9.9:1", "http://10.0.0.2:7700", "http://10.0.0.3:7700"]);
}

#[test]
fn a_mistake_in_the_environment_is_traced_to_it() {
    for (name, value) in [
        ("MIROIR_SHARDS", "0"),
        ("MIROIR_SHARDS", "ten"),
        ("MIROIR_NODES__1__ID", "meili-0"),
        ("MIROIR_NODES__5__ID", "meili-5"),
    ] {
        let message = with_variables(GOOD, &[(name, value)]).expect_err("this should be refused");
        assert!(message.starts_with(&format!("environment variable {name}: ")), "{message}");
    }
}

#[test]
fn secrets_are_in_no_message() {
    let secret = "740921";
    for text in [
        GOOD.replace("a-master-key", secret),
        GOOD.replace("a-master-key", &format!("\"{secret} \"")),
        GOOD.replace("a-master-key", &format!("[{secret}]")),
        GOOD.replace("http://10", &format!("http://me:{secret}@10")),
        GOOD.replace("path: miroir.db", &format!("url: \"redis://:{secret}@host\"")),
    ] {
        let message = with_variables(&text, &[]).expect_err("this should be refused");
        assert!(!message.contains(secret), "{message}");
    }
    let config = with_variables(GOOD, &[("MIROIR_NODE_MASTER_KEY", secret)]).unwrap();
    assert!(!format!("{config:?}").contains(secret) && !format!("{config:?}").contains("a-master-key"));
}
