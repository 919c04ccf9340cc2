//! Reading an index that is not there: what is wrong with the request itself goes before that, and only a node can
//! tell it.

use miroir_core::error::ApiError;
use miroir_node::Call;

use crate::cluster::Cluster;
use crate::index_uid;
use crate::write::NOWHERE;

impl Cluster {
    /// The error for a read of an index that is not there. A node is asked the same about its `stand_in`.
    pub(crate) async fn error_without_index(&self, missing: ApiError, call: &Call) -> ApiError {
        for node in self.fleet.up() {
            match node.send_trusted(call).await {
                Ok(answer) if answer.status.is_client_error() => {
                    let refusal = self.node_refusal(None, answer.status, &answer.body);
                    return if refusal.status == missing.status { missing } else { refusal };
                }
                Ok(_) => return missing,
                Err(error) => tracing::warn!(%error, "asking another node"),
            }
        }
        missing
    }
}

/// What nodes are asked about in the place of an index that is not there. They may have another of that name, if indexes
/// were renamed; what is no name at all they are to refuse.
pub(crate) fn stand_in(uid: &str) -> &str {
    if index_uid::check(uid).is_ok() { NOWHERE } else { uid }
}
