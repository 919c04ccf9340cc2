//! What nodes say, in the words a single Meilisearch would use: hidden names never reach a client.

use miroir_core::error::ApiError;
use miroir_core::node_message::{rename_indexes, rewrite};
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
        self.node_refusal_naming(index, index.into_iter(), status, body)
    }

    /// The same where several indexes may be named, and it is about one of them.
    pub(crate) fn node_refusal_naming<'a>(
        &self,
        index: Option<&IndexView>,
        named: impl Iterator<Item = &'a IndexView>,
        status: http::StatusCode,
        body: &[u8],
    ) -> ApiError {
        let mut error = parse_refusal(status, body);
        error.message = visible_message(index, named, &error.code, &error.message);
        error
    }

    /// The error of a node's task, as the client is to see it.
    pub(crate) fn visible_error(&self, index: Option<&IndexView>, mut error: Value) -> Value {
        let code = error.get("code").and_then(Value::as_str).unwrap_or_default();
        if let Some(message) = error.get("message").and_then(Value::as_str) {
            let message = visible_message(index, index.into_iter(), code, message);
            if let Some(fields) = error.as_object_mut() {
                fields.insert("message".to_owned(), Value::String(message));
            }
        }
        error
    }
}

fn visible_message<'a>(
    index: Option<&IndexView>,
    named: impl Iterator<Item = &'a IndexView>,
    code: &str,
    message: &str,
) -> String {
    let message = rewrite(code, message, index.and_then(|index| index.search.displayed.as_deref()));
    let names: Vec<(&str, &str)> =
        named.map(|view| (view.record.node_uid.as_str(), view.record.uid.as_str())).collect();
    match names.iter().all(|(on_nodes, to_clients)| on_nodes == to_clients) {
        true => message,
        false => rename_indexes(&message, &names),
    }
}
