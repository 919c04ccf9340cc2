//! What Meilisearch has and Miroir does not have yet says so, instead of looking like a mistake of the client.

use axum::Router;
use axum::response::Response;
use axum::routing::any;
use miroir_core::error::{ApiError, ErrorType};

use super::answer::Failure;

/// Routes of Meilisearch that are not served, by what they do.
const ROUTES: [(&str, &str); 16] = [
    ("/chats", "Chat completion"),
    ("/chats/{*rest}", "Chat completion"),
    ("/dumps", "Making a dump"),
    ("/experimental-features", "Changing experimental features"),
    ("/export", "Exporting to another server"),
    ("/indexes/{uid}/compact", "Compacting an index"),
    ("/indexes/{uid}/documents/edit", "Editing documents by function"),
    ("/indexes/{uid}/fields", "Listing fields"),
    ("/logs/stderr", "Changing the log of a node"),
    ("/logs/stream", "Streaming the log of a node"),
    ("/metrics", "Metrics"),
    ("/network", "Meilisearch's own sharding"),
    ("/snapshots", "Making a snapshot"),
    ("/swap-indexes", "Swapping indexes"),
    ("/webhooks", "Webhooks"),
    ("/webhooks/{uuid}", "Webhooks"),
];

/// The error for something that is not served.
pub fn unsupported(what: &str) -> ApiError {
    let message = format!("{what} is not supported by this version of Miroir.");
    ApiError::new(501, "miroir_unsupported", ErrorType::InvalidRequest, message)
}

/// Answers for the routes that are not served.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    ROUTES.iter().fold(Router::new(), |router, (route, what)| {
        router.route(route, any(async move || -> Result<Response, Failure> { Err(unsupported(what).into()) }))
    })
}
