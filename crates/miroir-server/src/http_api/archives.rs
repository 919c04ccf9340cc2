//! `/dumps` and `/snapshots`: copies of everything; `/_miroir/dumps/import`: taking one in.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use miroir_core::error::{ApiError, ErrorType};

use super::answer::{self, Failure};
use super::marks::Marks;
use super::parameters;
use crate::archives::{ArchiveKind, Import};
use crate::cluster::Cluster;
use crate::store_error;

/// Makes a dump.
pub async fn dump(State(cluster): State<Arc<Cluster>>, marks: Marks) -> Result<Response, Failure> {
    let summary = cluster.request_archive(ArchiveKind::Dump, marks.without_body()).await?;
    Ok(answer::json(StatusCode::ACCEPTED, &summary))
}

/// Makes a snapshot of all nodes.
pub async fn snapshot(State(cluster): State<Arc<Cluster>>, marks: Marks) -> Result<Response, Failure> {
    let summary = cluster.request_archive(ArchiveKind::Snapshot, marks.without_body()).await?;
    Ok(answer::json(StatusCode::ACCEPTED, &summary))
}

/// Takes in a dump: the body. It is answered when all of it is here and nothing is wrong with it.
pub async fn import(
    State(cluster): State<Arc<Cluster>>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Failure> {
    let pairs = parameters::pairs(query.as_deref());
    let overwrite = match pairs.as_slice() {
        [] => false,
        [(name, value)] if name == "overwrite" && value == "true" => true,
        [(name, value)] if name == "overwrite" && value == "false" => false,
        _ => {
            let message = "The one parameter is `overwrite`, `true` or `false`. Nothing was done.";
            return Err(ApiError::bad_request("bad_request", message).into());
        }
    };
    let upload = cluster.receive_dump(body).await?;
    let beginning = Arc::clone(&cluster);
    let begun = async move { beginning.begin_import(upload, overwrite).await };
    let import = cluster.undisturbed(begun).await?;
    Ok(answer::json(StatusCode::ACCEPTED, &import.view()))
}

/// How far the last import has come.
pub async fn import_status(State(cluster): State<Arc<Cluster>>) -> Result<Response, Failure> {
    let import = Import::load(cluster.store.as_ref()).await.map_err(store_error)?;
    let import = import.ok_or_else(|| {
        let message = "No dump has been imported.";
        ApiError::new(404, "miroir_import_not_found", ErrorType::InvalidRequest, message)
    })?;
    Ok(answer::json(StatusCode::OK, &import.view()))
}
