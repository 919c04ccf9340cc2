//! `/indexes/{uid}/search` and `/indexes/{uid}/facet-search`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::HeaderMap;

use super::answer::{self, Failure};

use crate::cluster::Cluster;
use crate::index_uid;
use crate::read::SearchInput;

/// `POST`.
pub async fn by_body(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    super::body::require_json(&headers)?;
    let body = cluster.read_body(&headers, body).await?;
    Ok(answer::read(cluster.search(&uid, SearchInput::Body(body)).await?))
}

/// `GET`.
pub async fn by_query(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    Ok(answer::read(cluster.search(&uid, SearchInput::Query(query.unwrap_or_default())).await?))
}

/// `POST` for the values of a facet.
pub async fn facets(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    super::body::require_json(&headers)?;
    let body = cluster.read_body(&headers, body).await?;
    Ok(answer::read(cluster.facet_search(&uid, body).await?))
}
