//! A write sent again with its key: answered with what the first one came to, and not carried out a second time.

use miroir_core::error::{ApiError, ErrorType};
use miroir_store::IdempotencyKey;

use crate::clock::now;
use crate::cluster::Cluster;
use crate::store_error;
use crate::write::refusal::not_acknowledged;
use crate::write::sequencer::{Accepted, TaskSummary};

/// Kinds of tasks whose intent is open although their clients were told that they are accepted.
const ACCEPTED_WHEN_RECORDED: [&str; 3] = ["indexSwap", "documentEdition", "export"];

impl Cluster {
    /// The answer to a request whose key was used before; `None` for the first.
    ///
    /// To be asked when the queue was had or refused: the same request is about the same index, so the first one
    /// has come to its acknowledgement by then, or is what holds the queue up. (Another request with that key may
    /// be on its way to another index; that is found out when it is recorded.)
    pub(crate) async fn repeated(&self, key: Option<&IdempotencyKey>) -> Result<Option<Accepted>, ApiError> {
        let Some(IdempotencyKey { key, digest }) = key else { return Ok(None) };
        let earlier = self.store.keyed_task(key, &now()).await.map_err(store_error)?;
        let Some(earlier) = earlier else { return Ok(None) };
        if earlier.digest != *digest {
            return Err(key_reused(key, earlier.uid));
        }
        // What is carried out later was accepted when it was recorded.
        if earlier.is_open && !ACCEPTED_WHEN_RECORDED.contains(&earlier.kind.as_str()) {
            return Err(not_acknowledged(earlier.uid, "not every node concerned has it yet"));
        }
        let summary = TaskSummary {
            task_uid: earlier.uid,
            index_uid: earlier.index_uid,
            status: "enqueued",
            kind: earlier.kind.into(),
            enqueued_at: earlier.enqueued_at,
        };
        Ok(Some(Accepted { summary, missed_shards: Vec::new() }))
    }
}

/// The error for a key that was used for another request.
pub fn key_reused(key: &str, task: u64) -> ApiError {
    // As the client gave it: what goes before is whose it is.
    let key = key.rsplit(' ').next().unwrap_or(key);
    let message = format!(
        "The idempotency key `{key}` was used for another request, which became task {task}. Nothing was done. Give \
         each request a key of its own, and send it again with the same key only unchanged."
    );
    ApiError::new(409, "miroir_idempotency_key_reused", ErrorType::InvalidRequest, message)
}
