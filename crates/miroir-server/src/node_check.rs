//! What a node that answers again is asked before it is read and written.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt, ready};
use miroir_node::{Node, NodeCheck};

/// Trusts every node that answers.
pub struct Trusting;

impl NodeCheck for Trusting {
    fn check<'a>(&'a self, _node: &'a Arc<Node>) -> BoxFuture<'a, Result<(), String>> {
        ready(Ok(())).boxed()
    }
}
