//! The pure rules of Miroir: what goes where, what is asked of whom, and how answers become one answer.
//!
//! Nothing here knows a network, a clock or an executor, so every rule can be tested by the thousand.
//! The words used (shard, replica, group, cover, placement) are those of `docs/architecture.md`.

pub mod access;
pub mod cover;
pub mod documents;
pub mod dump;
pub mod error;
pub mod export;
pub mod filter;
pub mod health;
pub mod hidden;
pub mod latency;
pub mod marks;
pub mod node_message;
pub mod pinning;
pub mod placement;
pub mod reconcile;
pub mod replica;
pub mod search;
pub mod settings;
pub mod shard;
pub mod taking_back;
