//! The write path: `sequencer` orders and records a write, `operation` says what it asks of each node,
//! `dispatch` sends it, `outcome` records what came of it, `recovery` sends again what was interrupted,
//! `repeat` answers what a client sent again.

mod dispatch;
mod operation;
mod outcome;
mod positions;
mod prepare;
mod recovery;
mod repeat;
mod sequencer;

pub(crate) use operation::encode;
pub(crate) use outcome::{parse_refusal, settle_settings};
pub use positions::PendingWrites;
pub use prepare::WriteRequest;
pub(crate) use prepare::unavailable;
pub(crate) use repeat::key_reused;
pub use sequencer::Accepted;
