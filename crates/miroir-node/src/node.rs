//! One Meilisearch server and the way to call it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Request, StatusCode, Uri};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use crate::call::{Call, CallBody};
use crate::error::NodeError;
use crate::health::Health;
use crate::transport;

/// Name of a node, as the configuration gives it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub Arc<str>);

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl NodeId {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for NodeId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for NodeId {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

/// What a node said, with a status below 500.
#[derive(Debug, Clone)]
pub struct NodeAnswer {
    /// HTTP status.
    pub status: StatusCode,
    /// The body as it came.
    pub body: Bytes,
}

/// One Meilisearch server.
#[derive(Debug)]
pub struct Node {
    id: NodeId,
    group: u32,
    address: String,
    authority: Authority,
    authorization: Option<HeaderValue>,
    health: Health,
    in_flight: AtomicUsize,
}

impl Node {
    pub(crate) fn new(
        id: NodeId,
        group: u32,
        address: &str,
        authorization: Option<HeaderValue>,
    ) -> Result<Self, NodeError> {
        let address = address.trim_end_matches('/').to_owned();
        let authority = address.strip_prefix("http://").and_then(|rest| rest.parse().ok());
        let Some(authority) = authority else {
            let reason = format!("its address `{address}` is not of the form http://host:port");
            return Err(NodeError::Unreachable { node: id, reason });
        };
        let (health, in_flight) = Default::default();
        Ok(Self { id, group, address, authority, authorization, health, in_flight })
    }

    /// Its name.
    pub fn id(&self) -> &NodeId {
        &self.id
    }

    /// The replica group it belongs to.
    pub fn group(&self) -> u32 {
        self.group
    }

    /// Where it listens, without a trailing slash.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What is known of its health.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Calls sent and not answered yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Sends a call and reads the whole answer. A failure of the node itself (no connection, a reset, a 5xx, a
    /// refused key) takes the node out of service until the next good probe; so do several time-outs in a row.
    pub async fn send(&self, call: &Call) -> Result<NodeAnswer, NodeError> {
        let _counted = Counted::new(&self.in_flight);
        let outcome = match tokio::time::timeout(call.limit, self.exchange(call)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(NodeError::TimedOut { node: self.id.clone(), limit: call.limit }),
        };
        match &outcome {
            Ok(_) => self.health.note_answer(),
            Err(NodeError::TimedOut { .. }) if !self.health.note_timeout() => {}
            Err(NodeError::Failed { .. } | NodeError::Unintelligible { .. }) => {}
            Err(error) => self.mark_down(error),
        }
        outcome
    }

    /// Sends a call and reads a successful answer as JSON; anything else is an error.
    pub async fn fetch<T: DeserializeOwned>(&self, call: &Call) -> Result<T, NodeError> {
        let answer = self.send(call).await?;
        if !answer.status.is_success() {
            return Err(self.unintelligible(format!(
                "{} {} was answered with status {}",
                call.method, call.path, answer.status
            )));
        }
        serde_json::from_slice(&answer.body).map_err(|error| self.unintelligible(error.to_string()))
    }

    /// An error for an answer this node should not have given.
    pub fn unintelligible(&self, reason: String) -> NodeError {
        NodeError::Unintelligible { node: self.id.clone(), reason }
    }

    /// Takes the node out of service until the next good probe.
    pub fn mark_down(&self, error: &NodeError) {
        if self.health.mark_down(error.to_string()) {
            warn!(node = %self.id, %error, "node is down");
        }
    }

    pub(crate) fn mark_up(&self) {
        if self.health.mark_up() {
            info!(node = %self.id, "node is up again");
        }
    }

    async fn exchange(&self, call: &Call) -> Result<NodeAnswer, NodeError> {
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone());
        let mut request = Request::builder().method(call.method.clone());
        request = match uri.path_and_query(call.path.as_str()).build() {
            Ok(uri) => request.uri(uri),
            Err(error) => return Err(self.unreachable(&error)),
        };
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let content_type = match &call.body {
            CallBody::Empty => None,
            CallBody::Json(_) => Some("application/json"),
            CallBody::Ndjson(_) => Some("application/x-ndjson"),
        };
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        let request = request.body(transport::body(&call.body)).map_err(|error| self.unreachable(&error))?;
        let response = transport::send(request).await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| self.unreachable(&error))?.to_bytes();
        match status.as_u16() {
            // A client of Miroir never gets this far without a valid key, so it is ours that is wrong.
            401 | 403 => Err(NodeError::Refused { node: self.id.clone() }),
            status @ 500.. => Err(NodeError::Failed {
                node: self.id.clone(),
                status,
                message: String::from_utf8_lossy(&body).chars().take(200).collect(),
            }),
            _ => Ok(NodeAnswer { status, body }),
        }
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> NodeError {
        // The client's own message hides the cause behind "client error"; the innermost one says it.
        let mut innermost = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        NodeError::Unreachable { node: self.id.clone(), reason: innermost.to_string() }
    }
}

/// Counts a call for as long as it lives, however it ends.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
