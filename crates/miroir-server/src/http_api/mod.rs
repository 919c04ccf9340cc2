//! HTTP: understanding requests and writing answers. What a request means is decided elsewhere.

mod admin;
mod answer;
mod around;
mod auth;
mod batches;
mod body;
mod documents;
mod indexes;
mod keys;
mod marks;
mod multi_search;
mod parameters;
mod replicas;
mod search;
mod serving;
mod settings;
mod system;
mod task_filter;
mod tasks;
mod unsupported;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{any, get, post};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::decompression::RequestDecompressionLayer;

pub use self::serving::serve;
use crate::cluster::Cluster;

fn routes(cluster: Arc<Cluster>) -> Router {
    let clients = Router::new()
        .route("/indexes", get(indexes::list).post(indexes::create))
        .route("/indexes/{uid}", get(indexes::get).patch(indexes::update).delete(indexes::delete))
        .route("/indexes/{uid}/stats", get(system::index_stats))
        .route("/indexes/{uid}/search", get(search::by_query).post(search::by_body))
        .route("/indexes/{uid}/facet-search", post(search::facets))
        .route("/multi-search", post(multi_search::post))
        .route("/indexes/{uid}/settings", any(settings::whole))
        .route("/indexes/{uid}/settings/{name}", any(settings::one))
        .route(
            "/indexes/{uid}/documents",
            get(documents::browse).post(documents::replace).put(documents::update).delete(documents::clear),
        )
        .route("/indexes/{uid}/documents/fetch", post(documents::fetch))
        .route("/indexes/{uid}/documents/delete-batch", post(documents::delete_batch))
        .route("/indexes/{uid}/documents/delete", post(documents::delete_by_filter))
        .route("/indexes/{uid}/documents/{id}", get(documents::get).delete(documents::delete))
        .route("/tasks", get(tasks::list).delete(tasks::delete))
        .route("/tasks/cancel", post(tasks::cancel))
        .route("/tasks/{uid}", get(tasks::get))
        .route("/keys", get(keys::list).post(keys::create))
        .route("/keys/{key}", get(keys::get).patch(keys::update).delete(keys::delete))
        .route("/tasks/{uid}/documents", get(tasks::documents))
        .route("/batches", get(batches::list))
        .route("/batches/{uid}", get(batches::get))
        .route("/stats", get(system::stats))
        .route("/version", get(system::version))
        .merge(unsupported::routes())
        .route_layer(from_fn_with_state(Arc::clone(&cluster), marks::read_your_writes))
        .route_layer(from_fn_with_state(Arc::clone(&cluster), auth::authorise));
    let operators = Router::new()
        .route("/_miroir/topology", get(admin::topology))
        .route("/_miroir/shards", get(admin::shards))
        .route("/_miroir/replicas", get(replicas::list))
        .route("/_miroir/replicas/promote", post(replicas::promote))
        .route("/_miroir/verify", post(replicas::verify))
        .route("/_miroir/workers", get(replicas::workers))
        .route_layer(from_fn_with_state(Arc::clone(&cluster), auth::require_admin_key));
    let routes = Router::new()
        .route("/health", any(system::health))
        .route("/_miroir/ready", get(admin::ready))
        .merge(clients)
        .merge(operators)
        // Bodies are read by `body::read`, which has the limit that clients are told about.
        .layer(DefaultBodyLimit::disable())
        // As Meilisearch does, bodies in an encoding nobody knows are taken as they are.
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true))
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .with_state(cluster);
    // What is changed about a path must be before routes are looked up.
    Router::new().fallback_service(routes).layer(from_fn(around::around))
}
