//! What Miroir's tests are made of: real Meilisearch processes, a real Miroir in front of them, faults on demand,
//! generated documents and requests, and the oracle that compares Miroir with one single Meilisearch.
//!
//! Nothing here is mocked: a rule that holds against an imitation of Meilisearch says little about Meilisearch.
//! A component that is missing is a panic with the remedy, never a skipped test.
// Only tests use this crate, and in a test stopping at the first surprise is the wanted behaviour.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod client;
pub mod cluster;
pub mod compare;
pub mod copies;
pub mod corpus;
pub mod figures;
pub mod fuzz;
pub mod oracle;
pub mod parity;
pub mod process;
pub mod profile;
pub mod proxy;
pub mod request;
pub mod tally;
pub mod torture;
