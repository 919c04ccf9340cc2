//! One Meilisearch server and the way to call it.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Request, StatusCode, Uri};
use http_body_util::BodyExt;
use miroir_core::health::{HealthEvent, HealthState, LATE_AFTER};
use miroir_core::latency::Latency;
use serde::de::DeserializeOwned;

use crate::call::{Call, CallBody};
use crate::error::NodeError;
use crate::health::Health;
use crate::transport::{self, ConnectionWatch};

/// How many times a call is sent to a node that says no request came.
const MOST_ATTEMPTS: usize = 3;

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
    /// The connection on which it came.
    pub(crate) connection: Option<ConnectionWatch>,
    /// The node is going to close it.
    pub(crate) closes: bool,
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
    started: Instant,
    latency: Mutex<Latency>,
    hedges: AtomicU64,
}

/// How fast a node answered searches lately.
#[derive(Debug, Clone, Copy)]
pub struct NodeSpeed {
    /// The average, which is forgotten while there are no searches.
    pub average: Duration,
    /// What 95 of 100 searches did not exceed; `None` while there were few.
    pub percentile: Option<Duration>,
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
        Ok(Self {
            health: Health::new(id.clone()),
            id,
            group,
            address,
            authority,
            authorization,
            in_flight: AtomicUsize::new(0),
            started: Instant::now(),
            latency: Mutex::default(),
            hedges: AtomicU64::new(0),
        })
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

    /// How fast it answered searches lately, as far as [`Node::note_search`] was told.
    pub fn speed(&self) -> NodeSpeed {
        let latency = self.latency();
        NodeSpeed { average: latency.average(self.started.elapsed()), percentile: latency.percentile() }
    }

    /// What it costs to ask this node now, comparable between nodes.
    pub fn cost(&self) -> f64 {
        let is_suspect = self.health.state() == HealthState::Suspect;
        self.latency().cost(self.started.elapsed(), self.in_flight(), is_suspect)
    }

    /// Takes note of how long it took for a search, or of how long it was waited for in vain.
    pub fn note_search(&self, took: Duration) {
        self.latency().note(took, self.started.elapsed());
    }

    /// How many times another node was asked because this one was late.
    pub fn hedges(&self) -> u64 {
        self.hedges.load(Ordering::Relaxed)
    }

    /// Takes note that another node is asked because this one is late.
    pub fn note_hedge(&self) {
        self.hedges.fetch_add(1, Ordering::Relaxed);
    }

    fn latency(&self) -> MutexGuard<'_, Latency> {
        match self.latency.lock() {
            Ok(latency) => latency,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// Sends a call and reads the whole answer. Ends at once when the node is down, or goes down meanwhile.
    pub async fn send(&self, call: &Call) -> Result<NodeAnswer, NodeError> {
        tokio::select! {
            biased;
            () = self.health.until_down() => Err(self.is_down()),
            outcome = self.probe(call) => outcome,
        }
    }

    /// The same for what is read or written: the answer counts if the node is what it was. One that may have been started
    /// again, with another disk perhaps, is recognised first.
    pub async fn send_trusted(&self, call: &Call) -> Result<NodeAnswer, NodeError> {
        let (begun, downs) = (Instant::now(), self.health.downs());
        let answer = self.send(call).await?;
        let left = call.limit.saturating_sub(begun.elapsed());
        let opened = answer.connection.as_ref().map(ConnectionWatch::opened);
        match tokio::time::timeout(left, self.health.until_recognised(opened)).await {
            Ok(()) if self.health.downs() == downs && self.health.is_up() => Ok(answer),
            Ok(()) => Err(self.is_down()),
            Err(_elapsed) => Err(NodeError::TimedOut { node: self.id.clone(), limit: call.limit }),
        }
    }

    /// The same even if the node is down, or nobody looks after its health.
    pub async fn send_anyway(&self, call: &Call) -> Result<NodeAnswer, NodeError> {
        self.probe(call).await
    }

    /// The same, to see whether it is down.
    pub(crate) async fn probe(&self, call: &Call) -> Result<NodeAnswer, NodeError> {
        let _counted = Counted::new(&self.in_flight);
        self.health.note(HealthEvent::Asked);
        let outcome = match tokio::time::timeout(call.limit, self.exchange(call)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failure)) => {
                let (event, error) = (failure.event(), self.error_of(failure));
                if let Some(event) = event {
                    self.health.set_error(&error.to_string());
                    self.health.note(event);
                }
                return Err(error);
            }
            Err(_elapsed) => Err(NodeError::TimedOut { node: self.id.clone(), limit: call.limit }),
        };
        match &outcome {
            Ok(_) => self.health.note(HealthEvent::Answered { usable: true }),
            // A call that came at the end of somebody's time says nothing about the node.
            Err(error) if call.limit >= LATE_AFTER => {
                self.health.set_error(&error.to_string());
                self.health.note(HealthEvent::TimedOut);
            }
            Err(_) => {}
        }
        outcome
    }

    fn is_down(&self) -> NodeError {
        let reason = self.health.last_error().unwrap_or_else(|| "it is down".to_owned());
        NodeError::Unreachable { node: self.id.clone(), reason }
    }

    /// Sends a call and reads a successful answer as JSON; anything else is an error.
    pub async fn fetch<T: DeserializeOwned>(&self, call: &Call) -> Result<T, NodeError> {
        self.parse(call, &self.send(call).await?)
    }

    /// The same, like [`Node::send_trusted`].
    pub async fn fetch_trusted<T: DeserializeOwned>(&self, call: &Call) -> Result<T, NodeError> {
        self.parse(call, &self.send_trusted(call).await?)
    }

    fn parse<T: DeserializeOwned>(&self, call: &Call, answer: &NodeAnswer) -> Result<T, NodeError> {
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

    /// Takes the node out of service because it is not what it was, until it has been checked.
    pub fn disown(&self, reason: &str) {
        self.health.set_error(reason);
        self.health.note(HealthEvent::Refused);
    }

    /// Takes note that a probe got no answer, or not the one it should have got.
    pub(crate) fn note_bad_probe(&self, error: &NodeError) {
        let event = match error {
            NodeError::Failed { .. } => HealthEvent::BadProbe,
            // Whatever it is, it is not a Meilisearch, or not one that can be used.
            NodeError::Unintelligible { .. } | NodeError::TaskFailed { .. } => HealthEvent::Refused,
            // The call itself has taken note.
            NodeError::Unreachable { .. } | NodeError::TimedOut { .. } | NodeError::Refused { .. } => return,
        };
        self.health.set_error(&error.to_string());
        self.health.note(event);
    }

    /// Sends a call, and sends it again when the node says that no request came. It says so on a connection that was
    /// opened in advance and not used for five seconds, which may be the moment in which it is used at last. What it
    /// has not read it has not done.
    async fn exchange(&self, call: &Call) -> Result<NodeAnswer, Failure> {
        for _ in 0..MOST_ATTEMPTS {
            let answer = self.exchange_once(call).await?;
            if answer.status != StatusCode::REQUEST_TIMEOUT {
                return Ok(answer);
            }
        }
        Err(Failure::Broken("it says again and again that no request came".to_owned()))
    }

    async fn exchange_once(&self, call: &Call) -> Result<NodeAnswer, Failure> {
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone());
        let mut request = Request::builder().method(call.method.clone());
        request = match uri.path_and_query(call.path.as_str()).build() {
            Ok(uri) => request.uri(uri),
            Err(error) => return Err(Failure::NotSent(error.to_string())),
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
        let request =
            request.body(transport::body(&call.body)).map_err(|error| Failure::NotSent(error.to_string()))?;
        let response = transport::send(request).await.map_err(|error| Failure::of_connection(&error))?;
        let (status, closes) = (response.status(), transport::announces_close(&response));
        let connection = ConnectionWatch::of(&response);
        let body = response.into_body().collect().await;
        let body = body.map_err(|error| Failure::of_connection(&error))?.to_bytes();
        match status.as_u16() {
            // A client of Miroir never gets this far without a valid key, so it is ours that is wrong.
            401 | 403 => Err(Failure::KeyRefused),
            status @ 500.. => {
                Err(Failure::Status(status, String::from_utf8_lossy(&body).chars().take(200).collect()))
            }
            _ => Ok(NodeAnswer { status, body, connection, closes }),
        }
    }

    fn error_of(&self, failure: Failure) -> NodeError {
        let node = self.id.clone();
        match failure {
            Failure::NotSent(reason) | Failure::NobodyListens(reason) | Failure::Broken(reason) => {
                NodeError::Unreachable { node, reason }
            }
            Failure::KeyRefused => NodeError::Refused { node },
            Failure::Status(status, message) => NodeError::Failed { node, status, message },
        }
    }
}

/// Why an exchange failed, as far as it says something about the node.
enum Failure {
    /// The request cannot be written down. That is nobody's fault but ours.
    NotSent(String),
    NobodyListens(String),
    Broken(String),
    KeyRefused,
    Status(u16, String),
}

impl Failure {
    fn of_connection(error: &(dyn std::error::Error + 'static)) -> Self {
        // The client's own message hides the cause behind "client error"; the innermost one says it.
        let mut innermost = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        let kind = innermost.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        match kind {
            Some(std::io::ErrorKind::ConnectionRefused) => Self::NobodyListens(innermost.to_string()),
            _ => Self::Broken(innermost.to_string()),
        }
    }

    fn event(&self) -> Option<HealthEvent> {
        match self {
            Self::NotSent(_) => None,
            Self::NobodyListens(_) | Self::KeyRefused => Some(HealthEvent::Refused),
            Self::Broken(_) => Some(HealthEvent::Failed),
            Self::Status(..) => Some(HealthEvent::Answered { usable: false }),
        }
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
