//! HTTP: understanding requests and writing answers. What a request means is decided elsewhere.

mod admin;
mod answer;
mod archives;
mod auth;
mod batches;
mod body;
mod documents;
mod entrance;
mod export;
mod features;
mod indexes;
mod keys;
mod marks;
mod multi_search;
mod parameters;
mod replicas;
mod routes;
mod search;
mod serving;
mod settings;
mod similar;
mod swap;
mod system;
mod task_filter;
mod tasks;
mod unsupported;
mod webhooks;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn;
use tower_http::decompression::RequestDecompressionLayer;

pub use self::routes::{Asks, Origin, ROUTES, Route, SETTINGS, Served, Setting};
pub use self::serving::serve;
pub(crate) use self::tasks::view as task_view;
use crate::cluster::Cluster;

fn service(cluster: Arc<Cluster>) -> Router {
    routes::router(&cluster)
        // Bodies are read by `body::read`, which has the limit that clients are told about.
        .layer(DefaultBodyLimit::disable())
        .layer(RequestDecompressionLayer::new())
        .layer(from_fn(entrance::allow_browsers))
        .with_state(cluster)
}
