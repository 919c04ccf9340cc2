//! `/experimental-features`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode};
use miroir_node::Call;
use serde_json::{Map, Value, json};

use super::answer::{self, Failure};
use super::body::require_json;
use crate::cluster::Cluster;
use crate::features::FEATURES;

/// Which features are on.
pub async fn get(State(cluster): State<Arc<Cluster>>) -> Response {
    answer::json(StatusCode::OK, &cluster.features.show())
}

/// Turns features on or off.
pub async fn update(
    State(cluster): State<Arc<Cluster>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    require_json(&headers)?;
    let body = cluster.read_body(&headers, body).await?;
    let Some(changes) = parse(&body) else {
        let path = "/experimental-features";
        let call = Call::new(Method::PATCH, path, cluster.config.node_timeout).json(spoilt(&body));
        return Err(cluster.refusal_of_one_node(None, &call).await.into());
    };
    let changing = Arc::clone(&cluster);
    let shown = cluster.undisturbed(async move { changing.change_features(changes).await }).await?;
    Ok(answer::json(StatusCode::OK, &shown))
}

fn is_known(name: &str) -> bool {
    FEATURES.iter().any(|(known, _)| *known == name)
}

/// What is to be changed; `None` when the request is wrong, or more than Miroir knows.
fn parse(body: &[u8]) -> Option<BTreeMap<String, bool>> {
    let fields: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let mut changes = BTreeMap::new();
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
        changes.insert(name, value.as_bool()?);
    }
    changes.keys().all(|name| is_known(name)).then_some(changes)
}

/// The request to send to a node for its error: what is wrong with it comes first. Should a newer node find nothing
/// wrong with that, there is no feature that is neither on nor off.
fn spoilt(body: &[u8]) -> Vec<u8> {
    let Ok(mut fields) = serde_json::from_slice::<Map<String, Value>>(body) else { return body.to_vec() };
    let is_wrong =
        |(name, value): (&String, &Value)| is_known(name) && !value.is_boolean() && !value.is_null();
    if !fields.iter().any(is_wrong) {
        let (last, _) = FEATURES[FEATURES.len() - 1];
        fields.shift_remove(last);
        fields.insert(last.to_owned(), json!("neither"));
    }
    Value::Object(fields).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_understood_is_taken() {
        let parsed = |body: &str| parse(body.as_bytes());
        assert_eq!(parsed("{}"), Some(BTreeMap::new()));
        let changes = BTreeMap::from([("containsFilter".to_owned(), true)]);
        assert_eq!(parsed(r#"{"containsFilter":true,"metrics":null}"#), Some(changes));
        for wrong in ["[]", "", r#"{"containsFilter":1}"#, r#"{"later":true}"#] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_sent_for_its_error_stays_wrong() {
        let sent = |body: &str| String::from_utf8(spoilt(body.as_bytes())).unwrap();
        assert_eq!(sent("[]"), "[]");
        assert_eq!(sent(r#"{"metrics":1,"x":true}"#), r#"{"metrics":1,"x":true}"#);
        assert_eq!(
            sent(r#"{"vectorStoreSetting":true,"x":true}"#),
            r#"{"x":true,"vectorStoreSetting":"neither"}"#
        );
    }
}
