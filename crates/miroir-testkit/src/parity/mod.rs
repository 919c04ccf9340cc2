//! The parity suite: short sequences of requests, written down as text, that are sent to one Meilisearch and to
//! Miroir, which must answer alike to the last header.
//!
//! The sequences are in the directory `parity`, a file for each subject. Each has an index of its own, so that many run
//! at the same time. What may differ between the two servers, and why, is one table (`differs`).

pub mod codes;
pub mod differs;
pub mod run;
pub mod sequence;
mod token;

pub use run::{Outcome, run};
pub use sequence::{Subject, subjects};
