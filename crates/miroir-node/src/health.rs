//! Whether a node is worth asking.
//!
//! Two states for now: a failed call or a failed probe takes a node out, a good probe brings it back. Requests
//! never wait for a probe: a node believed to be up that fails is noticed by the request itself.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// One late answer says little: a node may be busy with a heavy batch. This many in a row say that it is frozen.
const TIMEOUTS_IN_A_ROW: u32 = 3;

/// What is known of one node.
#[derive(Debug)]
pub struct Health {
    up: AtomicBool,
    timeouts: AtomicU32,
    down_since: RwLock<Option<Instant>>,
    last_error: RwLock<Option<String>>,
    version: RwLock<Option<String>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            up: AtomicBool::new(true),
            timeouts: AtomicU32::new(0),
            down_since: RwLock::new(None),
            last_error: RwLock::new(None),
            version: RwLock::new(None),
        }
    }
}

impl Health {
    /// Whether calls should be sent to the node.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// For how long the node has been down; `None` while it is up.
    pub fn down_for(&self) -> Option<Duration> {
        self.down_since.read().ok().and_then(|since| since.map(|instant| instant.elapsed()))
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

    /// Notes that a call was answered.
    pub(crate) fn note_answer(&self) {
        self.timeouts.store(0, Ordering::Relaxed);
    }

    /// Notes that a call was not answered in time; true when that has happened too often in a row.
    pub(crate) fn note_timeout(&self) -> bool {
        self.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_IN_A_ROW
    }

    /// Notes a failure; true when the node was up until now.
    pub(crate) fn mark_down(&self, error: String) -> bool {
        if let Ok(mut last) = self.last_error.write() {
            *last = Some(error);
        }
        let was_up = self.up.swap(false, Ordering::AcqRel);
        if was_up && let Ok(mut since) = self.down_since.write() {
            *since = Some(Instant::now());
        }
        was_up
    }

    /// Notes a good probe; true when the node was down until now.
    pub(crate) fn mark_up(&self) -> bool {
        self.note_answer();
        let was_down = !self.up.swap(true, Ordering::AcqRel);
        if was_down && let Ok(mut since) = self.down_since.write() {
            *since = None;
        }
        was_down
    }
}
