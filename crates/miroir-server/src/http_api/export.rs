//! `/export`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use miroir_core::access::{Access, refused};
use miroir_core::export::Export;
use miroir_node::Call;

use super::answer::{self, Failure};
use super::body::require_json;
use super::marks::Marks;
use crate::cluster::Cluster;
use crate::write::{Later, LaterRequest};

/// Exports indexes to another server. Meilisearch answers it with 200, unlike everything else that becomes a task.
pub async fn post(
    State(cluster): State<Arc<Cluster>>,
    Extension(access): Extension<Access>,
    headers: HeaderMap,
    marks: Marks,
    body: Body,
) -> Result<Response, Failure> {
    require_json(&headers)?;
    let body = cluster.read_body(&headers, body).await?;
    let Some(export) = Export::parse(&body) else {
        let call = Call::post("/export", Export::spoilt(&body), cluster.config.node_timeout);
        return Err(cluster.refusal_of_one_node(None, &call).await.into());
    };
    cluster.check_export(&export)?;
    // One Meilisearch lets it: whoever may read some indexes would have all of them sent where he wants.
    if access.visible().is_some() {
        return Err(refused().into());
    }
    let request = LaterRequest {
        index_uid: None,
        kind: "export",
        details: export.details(),
        later: Later::Export { export },
    };
    let accepted = cluster.submit_later(request, marks.with_body(&body)).await?;
    Ok(answer::json(StatusCode::OK, &accepted.summary))
}
