//! The description of Miroir's own routes, held against the table of routes, both ways, and against real answers.
#![allow(clippy::expect_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use miroir_server::{Asks, Origin, ROUTES, Served};
use miroir_testkit::client::{Answer, Client};
use miroir_testkit::cluster::{Cluster, Shape};
use reqwest::Method;
use serde_json::{Value, json};

const SHAPE: Shape = Shape { nodes: 3, replication_factor: 2, replica_groups: 1, shards: 4 };
const VERBS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Of a wait for something that must come.
const LIMIT: Duration = Duration::from_secs(60);

/// The description, and what is wrong with answers by it.
struct Description {
    document: Value,
    wrong: Vec<String>,
    /// The routes, verbs and statuses that were seen.
    seen: BTreeSet<(String, String, u16)>,
}

impl Description {
    /// Follows a `$ref`.
    fn schema<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => self.document.pointer(&reference[1..]).expect("what is referred to is there"),
            None => schema,
        }
    }

    /// Checks a value against as much of JSON Schema as the description uses. Objects have what is listed only.
    fn check(&self, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
        let schema = self.schema(schema);
        if let Some(choices) = schema["oneOf"].as_array() {
            let fitting = choices.iter().filter(|choice| self.check(choice, value, place).is_ok()).count();
            return if fitting == 1 { Ok(()) } else { Err(format!("{place} fits {fitting} of several")) };
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => return Err(format!("{place} is not described")),
        };
        let is_of = |name: &&str| match *name {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => false,
        };
        if !types.iter().any(is_of) {
            return Err(format!("{place} is {value}, not {types:?}"));
        }
        if let Some(known) = schema["enum"].as_array()
            && !known.contains(value)
        {
            return Err(format!("{place} is {value}, not one of {known:?}"));
        }
        for (number, item) in value.as_array().into_iter().flatten().enumerate() {
            self.check(&schema["items"], item, &format!("{place}[{number}]"))?;
        }
        let Some(fields) = value.as_object() else { return Ok(()) };
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                return Err(format!("{place}.{name} is missing"));
            }
        }
        for (name, field) in fields {
            match (&schema["properties"][name], &schema["additionalProperties"]) {
                (Value::Null, Value::Bool(false)) => return Err(format!("{place}.{name} is not described")),
                (Value::Null, Value::Null) => {}
                (Value::Null, others) => self.check(others, field, &format!("{place}.{name}"))?,
                (described, _) => self.check(described, field, &format!("{place}.{name}"))?,
            }
        }
        Ok(())
    }

    /// Takes note of an answer that is not as described.
    fn hold(&mut self, verb: &str, path: &str, answer: &Answer) {
        let response = &self.document["paths"][path][verb]["responses"][answer.status.to_string()];
        let schema = &response["content"]["application/json"]["schema"];
        let result = match schema {
            Value::Null => Err(format!("the status {} is not described: {}", answer.status, answer.body)),
            schema => self.check(schema, &answer.body, "the answer"),
        };
        self.seen.insert((verb.to_owned(), path.to_owned(), answer.status));
        if let Err(wrong) = result {
            self.wrong.push(format!("{verb} {path}: {wrong}"));
        }
    }

    /// Asks, and holds the answer against the description.
    async fn ask(
        &mut self,
        client: &Client,
        verb: &str,
        path: &str,
        sent: &str,
        body: Option<Value>,
    ) -> Answer {
        let method = Method::from_bytes(verb.to_uppercase().as_bytes()).expect("it is a verb");
        let answer =
            client.call(method, &format!("{}{sent}", path.replace("{uid}", "films")), body.as_ref()).await;
        self.hold(verb, path, &answer);
        answer
    }
}

/// Each of Miroir's own routes is described, and nothing else is.
fn the_same_routes_are_described(document: &Value) {
    let paths = document["paths"].as_object().expect("paths are there");
    let verbs = |path: &Value| VERBS.into_iter().filter(|verb| path.get(verb).is_some()).collect::<Vec<_>>();
    let described: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, item)| verbs(item).into_iter().map(|verb| (verb.to_uppercase(), path.clone())))
        .collect();
    let own = ROUTES.iter().filter(|route| route.origin == Origin::Miroir);
    let there: BTreeSet<_> = own.map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
    assert_eq!(described, there);
    for route in ROUTES.iter().filter(|route| route.origin == Origin::Miroir) {
        let operation = &document["paths"][route.path][route.method.to_lowercase()];
        let security = operation.get("security").unwrap_or(&document["security"]);
        let schemes: Vec<&String> = security
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|one| one.as_object().expect("a map").keys())
            .collect();
        let expected: &[&str] = match route.asks {
            Asks::Nothing => &[],
            Asks::Operator => &["adminKey", "adminKeyHeader"],
            Asks::Key(_) => &["clientKey"],
        };
        assert_eq!(schemes, expected, "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn miroirs_own_routes_are_as_they_are_described() {
    let mut cluster = Cluster::start(SHAPE).await;
    let (client, admin, nobody) =
        (cluster.client().clone(), cluster.admin(), cluster.client().with_key(None));
    let answer = nobody.get("/_miroir/openapi.json").await;
    let document = answer.ok();
    the_same_routes_are_described(&document);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut described = Description { document, wrong: Vec::new(), seen: BTreeSet::new() };

    let films = json!([{ "id": 1, "title": "Heat" }, { "id": 2, "title": "Alien" }]);
    client.wait_success(client.post("/indexes/films/documents", &films).await).await;
    let reads = ["openapi.json", "ready", "topology", "shards", "replicas", "workers", "dumps/import"];
    for path in reads.map(|name| format!("/_miroir/{name}")) {
        described.ask(&admin, "get", &path, "", None).await;
    }
    for route in ROUTES.iter().filter(|route| route.origin == Origin::Miroir && route.asks != Asks::Nothing) {
        let (verb, wrong) = (route.method.to_lowercase(), client.with_key(Some("a-wrong-key")));
        described.ask(&nobody, &verb, route.path, "", None).await;
        described.ask(&wrong, &verb, route.path, "", None).await;
    }
    let verify = "/_miroir/verify";
    for body in [
        json!({ "index": "films" }),
        json!({ "index": "films", "shards": [0, 3], "repair": true }),
        json!({ "index": "films", "shards": [4] }),
        json!({ "index": "nowhere" }),
        json!({ "index": 7 }),
        json!({ "other": 7 }),
    ] {
        described.ask(&admin, "post", verify, "", Some(body)).await;
    }
    let promote = "/_miroir/replicas/promote";
    for body in
        [json!({ "node": "meili-0" }), json!({ "node": "no" }), json!({ "node": "meili-0", "index": "no" })]
    {
        described.ask(&admin, "post", promote, "", Some(body)).await;
    }
    described.ask(&admin, "post", "/_miroir/dumps/import", "", Some(json!("not a dump"))).await;
    described.ask(&admin, "post", "/_miroir/dumps/import", "?overwrite=perhaps", None).await;
    let explain = ROUTES.iter().find(|route| route.path == "/indexes/{uid}/explain");
    if explain.is_some_and(|route| route.served != Served::Not) {
        for sent in ["", "?execute=true", "?execute=perhaps"] {
            let body = json!({ "q": "heat", "filter": "id = 1" });
            described.ask(&client, "post", "/indexes/{uid}/explain", sent, Some(body)).await;
            described.ask(&client, "get", "/indexes/{uid}/explain", sent, None).await;
        }
    }

    // A document changed behind Miroir's back, and a node that is gone: answers with something in them.
    let differing = json!([{ "id": 1, "title": "Cold" }]);
    let node = &cluster.nodes[0];
    node.client().wait_success(node.client().put("/indexes/films/documents", &differing).await).await;
    let answer = described.ask(&admin, "post", verify, "", Some(json!({ "index": "films" }))).await;
    assert_ne!(answer.ok()["documents"]["findings"], json!([]), "there is something to find");
    for node in &mut cluster.nodes {
        node.kill();
    }
    described.ask(&admin, "post", verify, "", Some(json!({ "index": "films" }))).await;
    let noticed = async {
        // Nodes that are gone are noticed in a moment.
        while described.ask(&nobody, "get", "/_miroir/ready", "", None).await.status != 503 {}
    };
    tokio::time::timeout(LIMIT, noticed).await.expect("it is noticed that all nodes are gone");
    for path in ["topology", "shards", "replicas"].map(|name| format!("/_miroir/{name}")) {
        described.ask(&admin, "get", &path, "", None).await;
    }
    described.ask(&admin, "post", promote, "", Some(json!({ "node": "meili-0", "confirm": true }))).await;

    assert!(described.wrong.is_empty(), "answers are not as described:\n{}", described.wrong.join("\n"));
    for (verb, path, status) in
        [("post", verify, 200), ("post", promote, 200), ("get", "/_miroir/ready", 503)]
    {
        let what = (verb.to_owned(), path.to_owned(), status);
        assert!(described.seen.contains(&what), "{what:?} was not seen");
    }
}
