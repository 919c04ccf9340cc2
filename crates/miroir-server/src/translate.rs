//! What nodes say, in the words a single Meilisearch would use: hidden names never reach a client.

use miroir_core::error::ApiError;
use miroir_core::node_message::rewrite;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::index::IndexView;
use crate::write::parse_refusal;

impl Cluster {
    /// A node's refusal of a request, as the client is to see it.
    pub(crate) fn node_refusal(
        &self,
        index: Option<&IndexView>,
        status: http::StatusCode,
        body: &[u8],
    ) -> ApiError {
        let mut error = parse_refusal(status, body);
        error.message =
            rewrite(&error.code, &error.message, index.and_then(|index| index.search.displayed.as_deref()));
        error
    }

    /// The error of a node's task, as the client is to see it.
    pub(crate) fn visible_error(&self, index: Option<&IndexView>, mut error: Value) -> Value {
        let code = error.get("code").and_then(Value::as_str).unwrap_or_default();
        if let Some(message) = error.get("message").and_then(Value::as_str) {
            let message = rewrite(code, message, index.and_then(|index| index.search.displayed.as_deref()));
            if let Some(fields) = error.as_object_mut() {
                fields.insert("message".to_owned(), Value::String(message));
            }
        }
        error
    }
}
