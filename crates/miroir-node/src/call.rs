//! One request to a node, described before it is sent.
//!
//! A description can be sent again (after a restart, to another node), which a half-consumed request cannot.
//! A body made of chunks is therefore given as a recipe that can be started anew.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;

/// Starts a body from its beginning.
pub type ChunkSource = Arc<dyn Fn() -> Box<dyn Iterator<Item = Bytes> + Send> + Send + Sync>;

/// The body of a call.
#[derive(Clone, Default)]
pub enum CallBody {
    /// No body at all.
    #[default]
    Empty,
    /// A JSON body.
    Json(Bytes),
    /// Newline-delimited JSON, produced chunk by chunk while it is sent.
    Ndjson(ChunkSource),
}

impl fmt::Debug for CallBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => formatter.write_str("Empty"),
            Self::Json(body) => write!(formatter, "Json({} bytes)", body.len()),
            Self::Ndjson(_) => formatter.write_str("Ndjson"),
        }
    }
}

/// One request to a node.
#[derive(Debug, Clone)]
pub struct Call {
    /// HTTP method.
    pub method: Method,
    /// Path and query, starting with `/`.
    pub path: String,
    /// What is sent along.
    pub body: CallBody,
    /// When to give up, counted from the start of the call.
    pub limit: Duration,
}

impl Call {
    /// A call without a body.
    pub fn new(method: Method, path: impl Into<String>, limit: Duration) -> Self {
        Self { method, path: path.into(), body: CallBody::Empty, limit }
    }

    /// A `GET`.
    pub fn get(path: impl Into<String>, limit: Duration) -> Self {
        Self::new(Method::GET, path, limit)
    }

    /// A `POST` of JSON.
    pub fn post(path: impl Into<String>, body: impl Into<Bytes>, limit: Duration) -> Self {
        Self::new(Method::POST, path, limit).json(body)
    }

    /// The same call with a JSON body.
    pub fn json(mut self, body: impl Into<Bytes>) -> Self {
        self.body = CallBody::Json(body.into());
        self
    }
}
