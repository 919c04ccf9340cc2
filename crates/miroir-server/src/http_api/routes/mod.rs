//! Every route there is, in one table: what the router is made from, what a key is asked for, what is answered for the
//! routes that are not served, and `docs/compatibility.md`. A row without a handler, or the other way round, cannot be
//! written down.

#[cfg(test)]
mod page;
mod settings;
mod table;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::MethodRouter;
use miroir_core::access::Action;

pub use settings::{SETTINGS, Setting};
pub use table::ROUTES;

use super::{auth, marks};
use crate::cluster::Cluster;

/// One route and one verb.
pub struct Route {
    /// The verb, in capitals.
    pub method: &'static str,
    /// The path, with names for what stands in between.
    pub path: &'static str,
    /// Whose route it is.
    pub origin: Origin,
    /// Who may come in.
    pub asks: Asks,
    /// How it is answered.
    pub served: Served,
    /// What is worth knowing; for a route that is not served, why, and what to do instead.
    pub note: &'static str,
    handler: fn() -> MethodRouter<Arc<Cluster>>,
}

/// Whose route it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Meilisearch's, and the first version that has it; 1.21 may have had it from long before.
    Meilisearch(&'static str),
    /// Miroir's own.
    Miroir,
}

impl Origin {
    /// The version of Meilisearch that Miroir was made for.
    pub const OLDEST: Self = Self::Meilisearch("1.21");
}

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// Everybody.
    Nothing,
    /// Who has the master key, or a key that allows this.
    Key(Action),
    /// Who has the key of the operators, if there is one.
    Operator,
}

/// How a route is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// From what Miroir keeps itself.
    Itself,
    /// From the nodes that hold the shards concerned.
    Merged,
    /// By a task, carried out on all nodes that hold a copy of what it changes.
    Task,
    /// By the nodes, as they are.
    Node,
    /// With `miroir_unsupported`.
    Not,
}

impl Route {
    /// The handler behind the one who asks for keys.
    fn guarded(&self, cluster: &Arc<Cluster>) -> MethodRouter<Arc<Cluster>> {
        let handler = (self.handler)();
        let cluster = Arc::clone(cluster);
        match self.asks {
            Asks::Nothing => handler,
            Asks::Operator => handler.route_layer(from_fn_with_state(cluster, auth::require_admin_key)),
            Asks::Key(action) => handler
                .route_layer(from_fn_with_state(Arc::clone(&cluster), marks::read_your_writes))
                .route_layer(from_fn_with_state((cluster, action), auth::authorise)),
        }
    }
}

/// The router that the table makes.
pub fn router(cluster: &Arc<Cluster>) -> Router<Arc<Cluster>> {
    ROUTES.iter().fold(Router::new(), |router, route| router.route(route.path, route.guarded(cluster)))
}
