//! What the nodes of one index need besides what the user set.
//!
//! Two of Miroir's additions cost nodes time at every search, so they are made only where they are needed.
//!
//! The ranking rule that breaks ties takes a descent through all positions for every hit. A node's own last order
//! is that in which it was given documents, which is the order of insertion until a document was deleted (its place
//! is given to another) or copied from another node. Only from then on does a node need the rule.
//!
//! More values per facet than the user wants are needed only where the answers of several nodes are added up.

use serde_json::Value;

use super::RANKING_RULES;
use crate::hidden::TIE_BREAK_RULE;

/// What the nodes of one index need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeNeeds {
    /// Major and minor version of the oldest node, on which defaults depend.
    pub version: (u64, u64),
    /// Not every node holds the whole index, so answers may have to be merged.
    pub merges: bool,
    /// Documents may stand in another order than that of insertion.
    pub breaks_ties: bool,
}

/// Whether a node that shows these settings at `GET /settings` breaks ties by the order of insertion.
pub fn breaks_ties(node_settings: &Value) -> bool {
    let rules = node_settings.get(RANKING_RULES).and_then(Value::as_array);
    rules.is_some_and(|rules| rules.iter().any(|rule| rule == TIE_BREAK_RULE))
}
