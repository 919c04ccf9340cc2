//! `/swap-indexes`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use http::HeaderMap;
use miroir_core::access::{Access, refused};
use miroir_core::error::ApiError;
use miroir_node::Call;
use miroir_store::IndexSwap;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{self, Failure};
use super::body::require_json;
use super::marks::Marks;
use crate::cluster::Cluster;
use crate::index_uid;
use crate::write::{Later, LaterRequest};

/// One swap as a client asks for it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    indexes: Vec<String>,
    #[serde(default)]
    rename: bool,
}

/// Exchanges the names of indexes.
pub async fn post(
    State(cluster): State<Arc<Cluster>>,
    Extension(access): Extension<Access>,
    headers: HeaderMap,
    marks: Marks,
    body: Body,
) -> Result<Response, Failure> {
    require_json(&headers)?;
    let body = cluster.read_body(&headers, body).await?;
    let Some(wanted) = parse(&body) else {
        let call = Call::post("/swap-indexes", spoilt(&body), cluster.config.node_timeout);
        return Err(cluster.refusal_of_one_node(None, &call).await.into());
    };
    let mut swaps = Vec::with_capacity(wanted.len());
    for Wanted { indexes, rename } in wanted {
        let [left, right] = <[String; 2]>::try_from(indexes).map_err(|indexes| wrong_length(&indexes))?;
        if !access.allows_index(&left) || !access.allows_index(&right) {
            return Err(refused().into());
        }
        swaps.push(IndexSwap { indexes: (left, right), rename });
    }
    check_duplicates(&swaps)?;
    let request = LaterRequest {
        details: json!({ "swaps": swaps }),
        later: Later::SwapIndexes { swaps },
        index_uid: None,
        kind: "indexSwap",
    };
    Ok(answer::accepted(&cluster.submit_later(request, marks.with_body(&body)).await?))
}

/// The swaps; `None` when the request is wrong in a way that a node can tell.
fn parse(body: &[u8]) -> Option<Vec<Wanted>> {
    // A list of its fields would be taken for a swap.
    let swaps: Vec<Map<String, Value>> = serde_json::from_slice(body).ok()?;
    let wanted = swaps.into_iter().map(|swap| serde_json::from_value(Value::Object(swap)));
    let wanted: Vec<Wanted> = wanted.collect::<Result<_, _>>().ok()?;
    let names = wanted.iter().flat_map(|swap| &swap.indexes);
    names.into_iter().all(|name| index_uid::check(name).is_ok()).then_some(wanted)
}

/// The request to send to a node for its error. Should a newer node find nothing wrong with it, nothing is no swap.
fn spoilt(body: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<Vec<Value>>(body) {
        Ok(mut swaps) => {
            swaps.push(json!({}));
            Value::Array(swaps).to_string().into_bytes()
        }
        Err(_) => body.to_vec(),
    }
}

fn wrong_length(indexes: &[String]) -> ApiError {
    let message = format!(
        "Two indexes must be given for each swap. The list `{indexes:?}` contains {} indexes.",
        indexes.len()
    );
    ApiError::bad_request("invalid_swap_indexes", message)
}

fn check_duplicates(swaps: &[IndexSwap]) -> Result<(), ApiError> {
    let mut seen = BTreeSet::new();
    let names = swaps.iter().flat_map(|swap| [&swap.indexes.0, &swap.indexes.1]);
    let again: BTreeSet<&String> = names.filter(|name| !seen.insert(*name)).collect();
    let named: Vec<String> = again.iter().map(|name| format!("`{name}`")).collect();
    let verb = match named.len() {
        0 => return Ok(()),
        1 => "was",
        _ => "were",
    };
    let message = format!(
        "Indexes must be declared only once during a swap. {} {verb} specified several times.",
        named.join(", ")
    );
    Err(ApiError::bad_request("invalid_swap_duplicate_index_found", message))
}
