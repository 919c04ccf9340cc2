//! The table of routes, held against a real Meilisearch and against Miroir: the same routes, verbs and doors.
#![allow(clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use miroir_server::{Asks, Origin, ROUTES, Route, SETTINGS, Served};
use miroir_testkit::client::{Answer, Client};
use miroir_testkit::cluster::Shape;
use miroir_testkit::oracle::Oracle;
use reqwest::Method;
use serde_json::{Value, json};

const SHAPE: Shape = Shape { nodes: 1, replication_factor: 1, replica_groups: 1, shards: 2 };
const ONE_SETTING: &str = "/indexes/{uid}/settings/{name}";
const VERBS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// A path with something in the places that have names. What it names does not exist.
fn example(verb: &str, path: &str) -> String {
    let of_numbers = path.starts_with("/tasks") || path.starts_with("/batches");
    path.replace("{uid}", if of_numbers { "7" } else { "nowhere" })
        .replace("{id}", "1")
        // Meilisearch has one verb or the other for each setting.
        .replace("{name}", if verb == "PATCH" { "typo-tolerance" } else { "stop-words" })
        .replace("{key}", "6062abda-a5aa-4414-ac91-ecd7944c0f8d")
        .replace("{uuid}", "627ea538-733d-4545-8d2d-03526eb381ce")
        .replace("{workspace}", "office")
}

async fn ask(client: &Client, verb: &str, path: &str) -> Answer {
    // Of these, one Meilisearch looks at the body before it looks at the key.
    let body = match path.rsplit('/').next() {
        Some("facet-search") => Some(json!({ "facetName": "colour" })),
        Some("export") => Some(json!({ "url": "http://127.0.0.1:9" })),
        Some("completions") => Some(json!({ "model": "a", "messages": [] })),
        _ => None,
    };
    client
        .call(Method::from_bytes(verb.as_bytes()).expect("it is a verb"), &example(verb, path), body.as_ref())
        .await
}

fn is_of_the_oracle(route: &&Route) -> bool {
    route.origin == Origin::OLDEST
}

/// Nobody comes in without a key, and by that both tell that they have the route.
async fn the_same_routes_are_there(oracle: &Oracle) {
    let (reference, subject) =
        (oracle.reference_client().with_key(None), oracle.subject_client().with_key(None));
    for route @ Route { method, path, .. } in ROUTES {
        let found = ask(&subject, method, path).await;
        if route.asks != Asks::Nothing {
            assert_eq!(found.body["code"], "missing_authorization_header", "{method} {path}");
        }
        let expected = ask(&reference, method, path).await;
        let is_there = ![404, 405].contains(&expected.status);
        assert_eq!(is_there, is_of_the_oracle(&route), "{method} {path}: {expected:?}");
    }
    for setting in SETTINGS.iter().filter(|setting| setting.since == "1.21") {
        for (verb, is_there) in [("GET", true), ("DELETE", true), ("PUT", setting.verb == "PUT")] {
            let path = format!("/indexes/nowhere/settings/{}", setting.name);
            let status = ask(&reference, verb, &path).await.status;
            assert_eq!(status, if is_there { 401 } else { 405 }, "{verb} {path}");
        }
    }
}

/// A verb that a route does not have, and a path that is no route, are answered alike.
async fn the_same_routes_are_not_there(oracle: &Oracle) {
    let mut verbs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for route in ROUTES.iter().filter(is_of_the_oracle) {
        verbs.entry(route.path).or_default().insert(route.method);
    }
    // Which verb changes a setting is for the nodes to say.
    verbs.remove(ONE_SETTING);
    for path in ["/nowhere", "/indexes/nowhere/nothing", "/tasks/7/nothing", "/health/nothing"] {
        verbs.insert(path, BTreeSet::new());
    }
    for (path, there) in verbs {
        for verb in VERBS.into_iter().filter(|verb| !there.contains(verb)) {
            let is_newer = |route: &Route| (route.path, route.method) == (path, verb);
            if ROUTES.iter().any(is_newer) {
                continue;
            }
            let (expected, found) = tokio::join!(
                ask(oracle.reference_client(), verb, path),
                ask(oracle.subject_client(), verb, path)
            );
            let expected_and_found = ((expected.status, &expected.body), (found.status, &found.body));
            assert_eq!(expected_and_found.0, expected_and_found.1, "{verb} {path}");
        }
    }
}

/// A key with the action of a route and nothing else opens it; one with any other action does not.
async fn the_same_keys_open_them(oracle: &Oracle) {
    let mut keys: BTreeMap<&str, [Client; 2]> = BTreeMap::new();
    for route in ROUTES.iter().filter(is_of_the_oracle) {
        let Asks::Key(action) = route.asks else { continue };
        let name = action.name();
        if !keys.contains_key(name) {
            let body = json!({ "actions": [name], "indexes": ["*"], "expiresAt": null });
            let (one, other) = oracle.both(Method::POST, "/keys", Some(&body)).await;
            let client = |client: &Client, key: Answer| client.with_key(key.ok()["key"].as_str());
            let both = [client(oracle.reference_client(), one), client(oracle.subject_client(), other)];
            keys.insert(name, both);
        }
        let wrong = if name == "version" { "search" } else { "version" };
        for key in [name, wrong] {
            let Some([reference, subject]) = keys.get(key) else { continue };
            let expected = ask(reference, route.method, route.path).await;
            let found = ask(subject, route.method, route.path).await;
            let let_in = (expected.status != 403, found.status != 403);
            assert_eq!(let_in.0, let_in.1, "{} {} with `{key}`: {found:?}", route.method, route.path);
            // Editing documents takes more than what it is named after.
            assert_eq!(let_in.1, key == name && name != "documents.*", "{} {}", route.method, route.path);
        }
    }
}

/// What is not served says why; what is served does not say that it is not.
async fn what_is_not_served_says_why(oracle: &mut Oracle) {
    let (client, admin) = (oracle.subject_client().clone(), oracle.cluster().admin());
    for route in ROUTES {
        let client = if route.asks == Asks::Operator { &admin } else { &client };
        let answer = ask(client, route.method, route.path).await;
        let says_so = answer.body["code"] == "miroir_unsupported";
        let what = format!("{} {}: {answer:?}", route.method, route.path);
        assert_eq!(says_so, route.served == Served::Not, "{what}");
        if says_so {
            let message = answer.body["message"].as_str().unwrap_or_default();
            assert!(answer.status == 501 && message.ends_with(route.note), "{what}");
        } else {
            assert!(answer.status != 405 && answer.body != Value::Null || answer.status == 204, "{what}");
        }
    }
}

/// Slashes too many, and pages in browsers.
async fn the_entrance_is_the_same(oracle: &Oracle) {
    let page = ("origin", "https://shop.example");
    let wants = ("access-control-request-method", "POST");
    let with = ("access-control-request-headers", "authorization,x-meilisearch-client");
    type Headers = Vec<(&'static str, &'static str)>;
    let requests: [(&str, &str, Headers); 14] = [
        ("GET", "/indexes/", vec![]),
        ("GET", "//indexes//?limit=1", vec![]),
        ("GET", "/indexes//nowhere///stats/", vec![]),
        ("GET", "/indexes/%ff%41", vec![]),
        ("GET", "/indexes/a%C3%A9", vec![]),
        ("GET", "/tasks/7/", vec![]),
        ("GET", "/indexes", vec![page]),
        ("GET", "/indexes/nowhere/", vec![page]),
        ("GET", "/nowhere", vec![page]),
        ("PUT", "/health", vec![page]),
        ("OPTIONS", "/indexes", vec![page, wants, with]),
        ("OPTIONS", "/nowhere/at/all", vec![page, wants]),
        ("OPTIONS", "/indexes", vec![page]),
        ("OPTIONS", "/indexes", vec![wants]),
    ];
    for (verb, path, headers) in requests {
        let verb = Method::from_bytes(verb.as_bytes()).expect("it is a verb");
        let (reference, subject) = (oracle.reference_client(), oracle.subject_client());
        let (expected, found) = tokio::join!(
            reference.send(verb.clone(), path, &headers, None),
            subject.send(verb.clone(), path, &headers, None)
        );
        let relevant = |answer: &Answer| {
            let is_relevant = |(name, _): &&(String, String)| name.starts_with("access-") || name == "vary";
            // Lists come in any order. Meilisearch does not say of what it did not compress that it could have.
            let sorted = |value: &str| {
                let items = value.split(',').map(|item| item.trim().to_ascii_lowercase());
                items.filter(|item| item != "accept-encoding").collect::<BTreeSet<_>>()
            };
            let named = |(name, value): &(String, String)| (name.clone(), sorted(value));
            let headers: BTreeMap<_, _> = answer.headers.iter().filter(is_relevant).map(named).collect();
            (answer.status, answer.body.clone(), headers)
        };
        assert_eq!(relevant(&expected), relevant(&found), "{verb} {path} {headers:?}");
    }
}

#[tokio::test]
async fn the_surface_is_that_of_meilisearch() {
    let mut oracle = Oracle::start(SHAPE).await;
    the_same_routes_are_there(&oracle).await;
    the_same_routes_are_not_there(&oracle).await;
    the_entrance_is_the_same(&oracle).await;
    the_same_keys_open_them(&oracle).await;
    what_is_not_served_says_why(&mut oracle).await;
}
