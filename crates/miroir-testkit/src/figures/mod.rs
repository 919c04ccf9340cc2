//! What the programs that measure have in common: the workload, a client that costs next to nothing, the figures a
//! list of measurements is reduced to, goals, and the page they are written to.

pub mod connection;
pub mod goal;
pub mod machine;
pub mod page;
pub mod statistics;
pub mod workload;
