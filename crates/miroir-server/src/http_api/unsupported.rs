//! What Meilisearch has and Miroir does not have says so, instead of looking like a mistake of the client.

use miroir_core::error::{ApiError, ErrorType};

use super::answer::Failure;

/// The error for a part of a request that is not served yet.
pub fn unsupported(what: &str) -> ApiError {
    error(format!("{what} is not supported by this version of Miroir."))
}

/// The answer of a route that is not served, with the reason.
pub fn refusal(what: &str, why: &str) -> Failure {
    error(format!("{what} is not supported by Miroir: {why}")).into()
}

fn error(message: String) -> ApiError {
    ApiError::new(501, "miroir_unsupported", ErrorType::InvalidRequest, message)
}
