//! `/multi-search`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use http::HeaderMap;
use miroir_core::access::Access;
use miroir_core::search::MultiSearch;

use super::answer::{self, Failure};
use super::{body, marks};
use crate::cluster::Cluster;
use crate::read::restricted_searches;

/// `POST`.
pub async fn post(
    State(cluster): State<Arc<Cluster>>,
    Extension(access): Extension<Access>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    body::require_json(&headers)?;
    let body = cluster.read_body(&headers, body).await?;
    let restricted = restricted_searches(&body, &access).transpose()?;
    let Some(Ok(multi)) = restricted.map(|body| MultiSearch::parse(&body)) else {
        return Err(cluster.refusal_of_multi_search(body).await.into());
    };
    drop(body);
    let behind = marks::wait_for_indexes(&cluster, &headers, &multi).await?;
    let answer = match multi.is_federated() {
        true => cluster.federated_search(&multi).await?,
        false => cluster.multi_search(&multi).await?,
    };
    let mut response = answer::read(answer);
    marks::note_behind(&mut response, behind);
    Ok(response)
}
