//! Replicas compared and made equal: `holdings` reads what a node holds, `copy` carries documents from node to node,
//! `repair` makes stale replicas equal to active ones, `verify` compares active ones, `settle` mends what differs,
//! `settings` does the same for settings, `states` records which replicas are which, `ensure`, `node_tasks` and
//! `prepare` see to what must be done before, `make_way` to what a node refuses, `identity` tells whether a node that
//! comes back still has its disk, `promote` is the operator's last resort.

pub(crate) mod copy;
pub(crate) mod ensure;
pub(crate) mod holdings;
pub(crate) mod identity;
mod make_way;
pub(crate) mod node_tasks;
mod prepare;
pub(crate) mod promote;
pub(crate) mod repair;
pub(crate) mod settings;
mod settle;
pub(crate) mod states;
pub(crate) mod verify;
