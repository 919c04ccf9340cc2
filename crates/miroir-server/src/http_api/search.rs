//! `/indexes/{uid}/search` and `/indexes/{uid}/facet-search`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::response::Response;
use http::HeaderMap;
use miroir_core::access::Access;
use miroir_node::Call;

use super::answer::{self, Failure};
use crate::cluster::Cluster;
use crate::index_uid;
use crate::read::{SearchInput, restricted_body};
use crate::write::encode;

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
        Some(rule) => match input.restricted_by(rule) {
            Ok(restricted) => restricted,
            Err(unreadable) => {
                let index = cluster.readable_index(uid)?;
                return Err(cluster.error_of_one_node(&index, &unreadable).await.into());
            }
        },
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
    let body = match access.search_filter(&uid) {
        Some(rule) => match restricted_body(&body, rule) {
            Some(restricted) => restricted,
            None => {
                let index = cluster.readable_index(&uid)?;
                let path = format!("/indexes/{}/facet-search", encode(&index.record.node_uid));
                let call = Call::post(path, body, cluster.config.node_timeout);
                return Err(cluster.refusal_of_one_node(Some(&index), &call).await.into());
            }
        },
        None => body,
    };
    Ok(answer::read(cluster.facet_search(&uid, body).await?))
}
