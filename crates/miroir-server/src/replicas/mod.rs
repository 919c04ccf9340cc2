//! Replicas compared and made equal: `holdings` reads what a node holds, `copy` makes a stale replica equal to an
//! active one, `verify` compares active ones and mends what differs, `node_tasks` waits for what nodes are told,
//! `identity` tells whether a node that comes back still has its disk, `promote` is the operator's last resort.

pub(crate) mod copy;
pub(crate) mod holdings;
pub(crate) mod identity;
pub(crate) mod node_tasks;
pub(crate) mod promote;
pub(crate) mod verify;
