//! Several searches in one request, each answered as if it came alone: a few at a time, however many there are.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use miroir_core::error::{ApiError, ErrorType};
use miroir_core::search::{MultiSearch, Query, finish_results, write_result};
use miroir_core::shard::ShardId;
use miroir_node::Call;

use crate::cluster::Cluster;
use crate::index_uid;
use crate::read::{ReadAnswer, SearchInput};

/// Queries of one request that are answered at the same time. One Meilisearch answers them one after the other.
pub(super) const QUERIES_AT_ONCE: usize = 8;
/// Most bytes of answers to one request that are kept until the last query is answered.
pub(super) const MOST_BYTES: usize = 512 * 1024 * 1024;

/// A query that failed.
struct Failed {
    error: ApiError,
    has_federation_options: bool,
}

impl Cluster {
    /// Answers several searches; the error is that of the first one that fails.
    pub async fn multi_search(&self, multi: &MultiSearch) -> Result<ReadAnswer, ApiError> {
        let queries = (0..multi.len()).map(|index| self.answer_query(multi, index));
        let mut answers = stream::iter(queries).buffered(QUERIES_AT_ONCE).enumerate();
        let mut body = Vec::new();
        let mut missing: BTreeSet<ShardId> = BTreeSet::new();
        let mut settings_inconsistent = false;
        while let Some((index, answered)) = answers.next().await {
            let (index_uid, answer) = match answered {
                Ok(answered) => answered,
                Err(failed) => return Err(self.error_of_query(multi, index, failed).await),
            };
            if body.len().saturating_add(answer.body.len()) > MOST_BYTES {
                return Err(answer_too_large(index));
            }
            write_result(&mut body, &index_uid, &answer.body);
            missing.extend(answer.missing);
            settings_inconsistent |= answer.settings_inconsistent;
        }
        Ok(ReadAnswer {
            body: finish_results(body).into(),
            missing: missing.into_iter().collect(),
            settings_inconsistent,
        })
    }

    async fn answer_query(&self, multi: &MultiSearch, index: usize) -> Result<(String, ReadAnswer), Failed> {
        let failed = |error| Failed { error, has_federation_options: false };
        let Query { index_uid: uid, body, has_federation_options } =
            multi.query(index).map_err(|_| failed(unreadable()))?;
        if has_federation_options {
            return Err(Failed { error: unreadable(), has_federation_options });
        }
        index_uid::check(&uid).map_err(failed)?;
        let answer = self.search(&uid, SearchInput::Body(body.into())).await.map_err(failed)?;
        Ok((uid, answer))
    }

    /// The error for a request of which a query failed. What is wrong with the form of any query goes before it.
    async fn error_of_query(&self, multi: &MultiSearch, index: usize, failed: Failed) -> ApiError {
        let Failed { error, has_federation_options } = failed;
        if error.status >= 500 {
            return miroir_core::search::inside(index, error);
        }
        let refusal = self.refusal_of_multi_search(multi.body_to_check().into()).await;
        multi.error(index, error, has_federation_options, refusal)
    }

    /// What one node says to several searches that Meilisearch cannot accept.
    pub async fn refusal_of_multi_search(&self, body: Bytes) -> ApiError {
        let call = Call::post("/multi-search", body, self.config.node_timeout);
        self.refusal_of_one_node(None, &call).await
    }
}

/// For a query that a node is to find fault with; shown only if no node can be asked.
fn unreadable() -> ApiError {
    ApiError::bad_request("bad_request", "The query cannot be read.")
}

/// The error for answers that together are too large, when there are those to so many queries.
pub(super) fn answer_too_large(index: usize) -> ApiError {
    let message = format!(
        "The answers to the first {index} queries come to {} MiB, which is all that is kept. Send fewer queries at \
         once, or ask for less of each hit.",
        MOST_BYTES / 1024 / 1024
    );
    ApiError::new(400, "miroir_answer_too_large", ErrorType::InvalidRequest, message)
}
