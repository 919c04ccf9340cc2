//! The write path: `sequencer` orders and records a write, `operation` says what it asks of each node,
//! `dispatch` sends it, `recovery` sends again what a crash interrupted.

mod dispatch;
mod operation;
mod positions;
mod prepare;
mod recovery;
mod sequencer;

pub(crate) use operation::encode;
pub use positions::PendingWrites;
pub use prepare::WriteRequest;
pub use sequencer::Accepted;
pub(crate) use sequencer::{parse_refusal, settle_settings};
