//! The errors for writes that too few nodes took. A client must be able to tell whether anything was done.

use miroir_core::error::{ApiError, ErrorType};

/// The error for a write that cannot be carried out now, and of which nothing was done.
pub fn unavailable(reason: &str) -> ApiError {
    no_quorum(format!("The write was not accepted: {reason}. Nothing was done; send it again later."))
}

/// The error for a write that was recorded, but that too few nodes have.
pub fn not_acknowledged(task_uid: u64, reason: &str) -> ApiError {
    no_quorum(format!(
        "The write was not acknowledged: {reason}. It may still be carried out, as task {task_uid}, once the nodes \
         are there. Sending it again is safe."
    ))
}

/// Code of the errors for writes that too few nodes took.
pub const NO_QUORUM: &str = "miroir_no_quorum";

fn no_quorum(message: String) -> ApiError {
    ApiError::new(503, NO_QUORUM, ErrorType::Internal, message)
}
