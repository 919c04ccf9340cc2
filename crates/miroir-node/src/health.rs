//! What is known of the health of one node: the state machine of `miroir-core` with a clock, and whoever waits for it.
//!
//! Requests never wait for a probe: a node believed to be up that fails is noticed by the request itself. And a
//! request that waits for an answer learns at once that its node is down, whoever found out.
//!
//! A node is what a probe found it to be for as long as the connection on which it answered the probe is open: a process
//! that ends closes its connections before another one can take its place, on another disk perhaps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, RwLock};
use std::time::Instant;

use miroir_core::health::{HealthEvent, HealthState, NodeHealth};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::NodeId;
use crate::transport::ConnectionWatch;

/// What is known of one node.
#[derive(Debug)]
pub struct Health {
    node: NodeId,
    started: Instant,
    machine: Mutex<NodeHealth>,
    /// A copy of the machine's state for those who only look, or wait.
    state: watch::Sender<HealthState>,
    last_error: RwLock<Option<String>>,
    version: RwLock<Option<String>>,
    probe_wanted: Notify,
    recognition: watch::Sender<Option<Recognition>>,
    downs: AtomicU64,
}

/// A probe that found the node to be what it was.
#[derive(Debug, Clone)]
struct Recognition {
    /// When the probe began.
    begun: Instant,
    /// On which the node answered it; `None` where the node was going to close it anyway.
    connection: Option<ConnectionWatch>,
}

impl Recognition {
    /// Whether nothing speaks against its being so still.
    fn holds(&self) -> bool {
        self.connection.as_ref().is_none_or(ConnectionWatch::is_open)
    }

    /// Whether it tells who gave an answer that was there at that moment, on a connection opened at the other.
    fn covers(&self, answered: Instant, opened: Option<Instant>) -> bool {
        self.holds() || self.begun > answered || opened.is_some_and(|opened| opened < self.begun)
    }
}

impl Health {
    pub(crate) fn new(node: NodeId) -> Self {
        Self {
            node,
            started: Instant::now(),
            machine: Mutex::default(),
            state: watch::Sender::new(NodeHealth::default().state()),
            last_error: RwLock::new(None),
            version: RwLock::new(None),
            probe_wanted: Notify::new(),
            recognition: watch::Sender::new(None),
            downs: AtomicU64::new(0),
        }
    }

    /// How the node is.
    pub fn state(&self) -> HealthState {
        *self.state.borrow()
    }

    /// Whether the node may be read and written.
    pub fn is_up(&self) -> bool {
        self.state().is_in_service()
    }

    /// The last thing that went wrong.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.read().ok().and_then(|error| error.clone())
    }

    /// The node's Meilisearch version, once it has told it.
    pub fn version(&self) -> Option<String> {
        self.version.read().ok().and_then(|version| version.clone())
    }

    pub(crate) fn set_version(&self, version: String) {
        if let Ok(mut known) = self.version.write() {
            *known = Some(version);
        }
    }

    /// Takes note of something that went wrong; true when it is not what went wrong last.
    pub(crate) fn set_error(&self, error: &str) -> bool {
        let Ok(mut last) = self.last_error.write() else { return false };
        if last.as_deref() == Some(error) {
            return false;
        }
        *last = Some(error.to_owned());
        true
    }

    /// Waits until the node is down; returns at once when it is.
    pub(crate) async fn until_down(&self) {
        // The sender lives as long as `self`, so there is no other end to wait for.
        let _ = self.state.subscribe().wait_for(|state| *state == HealthState::Down).await;
    }

    /// Waits until the node is in service; returns at once when it is.
    pub async fn until_up(&self) {
        let _ = self.state.subscribe().wait_for(|state| state.is_in_service()).await;
    }

    /// Takes note that a probe which began then found the node to be what it was.
    pub(crate) fn recognise(&self, begun: Instant, connection: Option<ConnectionWatch>) {
        self.recognition.send_replace(Some(Recognition { begun, connection }));
    }

    /// Nobody will recognise the node any more, so nobody should wait for it: it counts as what it is now, or as down.
    pub(crate) fn stop_recognising(&self) {
        let is_doubtful = self.recognition.borrow().as_ref().is_some_and(|recognition| !recognition.holds());
        if is_doubtful {
            self.note(HealthEvent::Refused);
        }
        self.recognition.send_replace(None);
    }

    /// Waits until it is known that the node was what it was when it gave an answer, which it mostly is already, or until it
    /// is down. The answer is there since just now, on a connection that was opened at that moment, if that is known.
    pub(crate) async fn until_recognised(&self, opened: Option<Instant>) {
        let answered = Instant::now();
        let is_covered = |recognition: &Option<Recognition>| {
            recognition.as_ref().is_none_or(|recognition| recognition.covers(answered, opened))
        };
        if is_covered(&self.recognition.borrow()) || !self.is_up() {
            return;
        }
        self.probe_wanted.notify_one();
        let mut recognition = self.recognition.subscribe();
        tokio::select! {
            // The sender lives as long as `self`.
            _ = recognition.wait_for(is_covered) => {}
            () = self.until_down() => {}
        }
    }

    /// Waits until there is reason to doubt that the node is what it was.
    pub(crate) async fn until_doubtful(&self) {
        let connection = self.recognition.borrow().clone().and_then(|recognition| recognition.connection);
        match connection {
            Some(connection) => connection.until_closed().await,
            None => std::future::pending().await,
        }
    }

    /// How many times it went down: whoever reads several things of a node that go together compares it before and after.
    pub fn downs(&self) -> u64 {
        self.downs.load(Ordering::Acquire)
    }

    /// Whether the node has answered well for long enough to be checked.
    pub(crate) fn wants_check(&self) -> bool {
        self.machine().wants_check()
    }

    /// Waits until there is a reason not to wait for the next probe.
    pub(crate) async fn probe_wanted(&self) {
        self.probe_wanted.notified().await;
    }

    /// Takes note of what was seen, and tells of a transition.
    pub(crate) fn note(&self, event: HealthEvent) {
        // A connection that broke may be all that is seen of a node that was started again. One that is down already is
        // probed in its turn: its probes break as well.
        if event == HealthEvent::Failed && self.is_up() {
            self.probe_wanted.notify_one();
        }
        let mut machine = self.machine();
        let Some((_, after)) = machine.note(event, self.started.elapsed()) else { return };
        // Under the lock, so that transitions are told in their order.
        if after == HealthState::Down && event == HealthEvent::Tick {
            self.set_error("it has been silent for too long");
        }
        if after == HealthState::Down {
            self.downs.fetch_add(1, Ordering::AcqRel);
        }
        self.state.send_replace(after);
        let (node, error) = (&self.node, self.last_error().unwrap_or_default());
        match after {
            HealthState::Suspect => warn!(%node, "node is late or failing; reads prefer others"),
            HealthState::Down => warn!(%node, error, "node is down"),
            HealthState::Recovering => info!(%node, "node answers again; it is to be checked"),
            HealthState::Healthy => info!(%node, "node is healthy"),
        }
    }

    fn machine(&self) -> MutexGuard<'_, NodeHealth> {
        match self.machine.lock() {
            Ok(machine) => machine,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}
