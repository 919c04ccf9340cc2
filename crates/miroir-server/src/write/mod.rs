//! The write path: `sequencer` orders and records a write, `operation` says what it asks of each node,
//! `sending` has it sent, by `dispatch`, and tells what came of it, which `outcome` records, `recovery` sends again what was interrupted,
//! `repeat` answers what a client sent again. `prepare` turns a `request` into an operation or a task that failed,
//! `judgement` tells what the nodes' answers mean, `refusal` what a client is told when too few nodes took it.
//! `later` is for what is accepted at once and done when all before it has been applied: `swap`, which exchanges names, and
//! `edit`, which has a function edit documents, aside, in a `scratch` index.
//! `task_deletion` and `cancelation` are about tasks and no index, and so do not pass through the sequencer;
//! `cancel_on_nodes` is how nodes are told.

mod cancel_on_nodes;
mod cancelation;
mod deletions;
mod dispatch;
mod edit;
mod judgement;
mod later;
mod operation;
mod outcome;
mod positions;
mod prepare;
mod recovery;
mod refusal;
mod repeat;
mod request;
mod scratch;
mod sending;
mod sequencer;
mod swap;
mod task_deletion;

pub use edit::Edit;
pub use later::{Later, LaterRequest};
pub(crate) use operation::encode;
pub(crate) use outcome::{nothing_done, parse_refusal, settle_settings};
pub use positions::PendingWrites;
pub(crate) use refusal::unavailable;
pub(crate) use repeat::key_reused;
pub use request::WriteRequest;
pub(crate) use request::{INDEX_DELETION, SETTINGS_UPDATE};
pub(crate) use scratch::{NOWHERE, is_scratch};
pub use sequencer::{Accepted, TaskSummary};

/// Details of tasks that are kept for their end and not shown.
pub(crate) const HIDDEN_DETAILS: [&str; 3] = ["distinctDocuments", FORETOLD_ERROR, cancelation::WANTED];
/// The detail with the error that a task will have, of which all that is done is that its index is made.
pub(crate) const FORETOLD_ERROR: &str = "foretoldError";
