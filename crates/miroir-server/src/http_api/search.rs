//! `/indexes/{uid}/search` and `/indexes/{uid}/facet-search`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::response::Response;
use http::HeaderMap;
use miroir_core::access::Access;

use super::answer::{self, Failure};
use crate::cluster::Cluster;
use crate::index_uid;
use crate::read::{SearchInput, restricted_body};

/// `POST`.
pub async fn by_body(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    Extension(access): Extension<Access>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    super::body::require_json(&headers)?;
    let body = cluster.read_body(&headers, body).await?;
    search(&cluster, &uid, &access, SearchInput::Body(body)).await
}

/// `GET`.
pub async fn by_query(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    Extension(access): Extension<Access>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    search(&cluster, &uid, &access, SearchInput::Query(query.unwrap_or_default())).await
}

async fn search(
    cluster: &Arc<Cluster>,
    uid: &str,
    access: &Access,
    input: SearchInput,
) -> Result<Response, Failure> {
    let input = match access.search_filter(uid) {
        Some(rule) => input.restricted_by(rule),
        None => input,
    };
    Ok(answer::read(cluster.search(uid, input).await?))
}

/// `POST` for the values of a facet.
pub async fn facets(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    Extension(access): Extension<Access>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    super::body::require_json(&headers)?;
    let body = cluster.read_body(&headers, body).await?;
    let rule = access.search_filter(&uid);
    let body = rule.and_then(|rule| restricted_body(&body, rule)).unwrap_or(body);
    Ok(answer::read(cluster.facet_search(&uid, body).await?))
}
