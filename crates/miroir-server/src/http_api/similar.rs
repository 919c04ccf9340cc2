//! `/indexes/{uid}/similar`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::response::Response;
use http::HeaderMap;
use miroir_core::access::Access;

use super::answer::{self, Failure};
use crate::cluster::Cluster;
use crate::index_uid;
use crate::read::SearchInput;

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
    similar(&cluster, &uid, &access, SearchInput::Body(body)).await
}

/// `GET`.
pub async fn by_query(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    Extension(access): Extension<Access>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    similar(&cluster, &uid, &access, SearchInput::Query(query.unwrap_or_default())).await
}

async fn similar(
    cluster: &Cluster,
    uid: &str,
    access: &Access,
    input: SearchInput,
) -> Result<Response, Failure> {
    let input = match access.search_filter(uid) {
        None => input,
        Some(rule) => match input.similar_restricted_by(rule) {
            Ok(restricted) => restricted,
            Err(unreadable) => {
                let index = cluster.readable_index(uid)?;
                return Err(cluster.refusal_of_similar(&index, &unreadable).await.into());
            }
        },
    };
    Ok(answer::read(cluster.similar(uid, input).await?))
}
