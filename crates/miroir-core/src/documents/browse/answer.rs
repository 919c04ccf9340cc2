//! What a node answered to a request for documents, and what to do about it.
//!
//! A node refuses to sort by a field that none of its documents ever had, in Meilisearch up to 1.21 at least.
//! One Meilisearch holding all documents would not, if another node's documents have it.
//!
//! Errors are as the node put them: [`crate::node_message`] says how the client is to see them.

use bytes::Bytes;

use super::BrowsePlan;
use crate::error::{ApiError, ErrorBody};
use crate::hidden::INSERTED_AT_FIELD;

/// A node's answer, as the merge sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeAnswer {
    /// A page to merge.
    Page(Bytes),
    /// The node never held a document of this index: it adds nothing.
    Empty,
    /// No document of this node ever had a field to sort by. If another node answered a page, ask this one
    /// again with [`BrowsePlan::counting_body`]; otherwise this error is the answer.
    LacksSortedField(ApiError),
    /// Any other error: the answer to the client.
    Refused(ApiError),
}

impl BrowsePlan {
    /// Tells what a node's answer means.
    pub fn classify(&self, status: u16, body: Bytes) -> NodeAnswer {
        if (200..300).contains(&status) {
            return NodeAnswer::Page(body);
        }
        let Ok(error) = serde_json::from_slice::<ErrorBody>(&body) else {
            return NodeAnswer::Refused(ApiError::internal(format!(
                "a node answered {status} without a readable error"
            )));
        };
        let lacks_field = |field: &str| {
            let prefix = format!("Attribute `{field}` is not sortable.");
            error.code == "invalid_document_sort" && error.message.starts_with(&prefix)
        };
        if lacks_field(INSERTED_AT_FIELD) {
            return NodeAnswer::Empty;
        }
        let lacks_sorted_field = self.rules.iter().any(|rule| lacks_field(rule.sorted_name()));
        let error = ApiError::new(status, error.code, error.kind, error.message);
        if lacks_sorted_field { NodeAnswer::LacksSortedField(error) } else { NodeAnswer::Refused(error) }
    }

    /// The answer when no node holds anything.
    pub fn empty_answer(&self) -> Vec<u8> {
        format!("{{\"results\":[],\"offset\":{},\"limit\":{},\"total\":0}}", self.offset, self.limit)
            .into_bytes()
    }
}
