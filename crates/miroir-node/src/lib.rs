//! Talking to Meilisearch nodes: one client per node, what is known of its health, and the fleet of them.
//!
//! Only the public HTTP API of an unmodified server is used. Every call carries a limit in time, and an answer
//! is handed over as bytes: what is inside concerns `miroir-core`.

mod call;
mod error;
mod fleet;
mod health;
mod node;
mod probe;
mod task;
mod transport;
mod version;

pub use call::{Call, CallBody};
pub use error::NodeError;
pub use fleet::Fleet;
pub use health::Health;
pub use node::{Node, NodeAnswer, NodeId, NodeSpeed};
pub use probe::NodeCheck;
pub use task::{NodeTaskState, NodeTaskStatus};
