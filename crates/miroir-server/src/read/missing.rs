//! Reading an index that is not there: what is wrong with the request itself goes before that, and only a node can
//! tell it.

use miroir_core::error::ApiError;
use miroir_node::Call;

use crate::cluster::Cluster;

impl Cluster {
    /// The error for a read of an index that is not there. A node is asked the same; what it finds there is of no
    /// interest, should it have an index of the name.
    pub(crate) async fn error_without_index(&self, missing: ApiError, call: &Call) -> ApiError {
        for node in self.fleet.up() {
            match node.send(call).await {
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
