//! `/indexes/{uid}/search`, `/indexes/{uid}/explain` and `/indexes/{uid}/facet-search`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::response::Response;
use http::HeaderMap;
use miroir_core::access::Access;
use miroir_core::error::ApiError;
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
    let input = restricted(cluster, uid, access, input).await?;
    Ok(answer::read(cluster.search(uid, input).await?))
}

/// A search within what its sender may find.
async fn restricted(
    cluster: &Cluster,
    uid: &str,
    access: &Access,
    input: SearchInput,
) -> Result<SearchInput, Failure> {
    let Some(rule) = access.search_filter(uid) else { return Ok(input) };
    match input.restricted_by(rule) {
        Ok(restricted) => Ok(restricted),
        Err(unreadable) => {
            let index = cluster.readable_index(uid)?;
            Err(cluster.error_of_one_node(&index, &unreadable).await.into())
        }
    }
}

/// `POST` to explain a search.
pub async fn explain_body(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    Extension(access): Extension<Access>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    super::body::require_json(&headers)?;
    let (execute, _) = take_execute(query.as_deref())?;
    let body = cluster.read_body(&headers, body).await?;
    explain(&cluster, &uid, &access, SearchInput::Body(body), execute).await
}

/// `GET` to explain a search.
pub async fn explain_query(
    State(cluster): State<Arc<Cluster>>,
    Path(uid): Path<String>,
    Extension(access): Extension<Access>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    index_uid::check(&uid)?;
    let (execute, search) = take_execute(query.as_deref())?;
    explain(&cluster, &uid, &access, SearchInput::Query(search), execute).await
}

async fn explain(
    cluster: &Cluster,
    uid: &str,
    access: &Access,
    input: SearchInput,
    execute: bool,
) -> Result<Response, Failure> {
    let input = restricted(cluster, uid, access, input).await?;
    Ok(answer::read(cluster.explain(uid, input, execute).await?))
}

/// Whether a query string asks for the search to be made, and what else it says.
fn take_execute(query: Option<&str>) -> Result<(bool, String), ApiError> {
    let pairs = query.unwrap_or_default().split('&');
    let (execute, search): (Vec<&str>, Vec<&str>) =
        pairs.partition(|pair| *pair == "execute" || pair.starts_with("execute="));
    let execute = match execute.last().copied() {
        None | Some("execute=false") => false,
        Some("execute=true") => true,
        Some(_) => {
            let message = "`execute` is either `true` or `false`.";
            return Err(ApiError::bad_request("miroir_invalid_explain_execute", message));
        }
    };
    Ok((execute, search.join("&")))
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
