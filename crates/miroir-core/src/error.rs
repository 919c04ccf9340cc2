//! Errors as clients see them: Meilisearch's own shape, for Meilisearch's errors and for ours.
//!
//! A client library matches on `code`, so a code that Meilisearch has is used with Meilisearch's status and
//! type; a situation that a single Meilisearch cannot be in gets a `miroir_*` code in the same shape.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The `type` field of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorType {
    /// The request is wrong; sending it again will not help.
    InvalidRequest,
    /// The server failed; the same request may work later.
    Internal,
    /// The caller is not allowed to do this.
    Auth,
    /// The machine under the server is the cause (a full disk).
    System,
}

/// An error in the form every route answers with: `{"message","code","type","link"}` and a status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// Stable machine-readable code, such as `index_not_found`.
    pub code: Cow<'static, str>,
    /// Class of the error.
    pub kind: ErrorType,
    /// What happened and what to do, for a person.
    pub message: String,
}

/// The JSON body of an [`ApiError`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What happened and what to do, for a person.
    pub message: String,
    /// Stable machine-readable code.
    pub code: String,
    /// Class of the error.
    #[serde(rename = "type")]
    pub kind: ErrorType,
    /// Where the code is documented.
    pub link: String,
}

impl ApiError {
    /// An error with every part given.
    pub fn new(
        status: u16,
        code: impl Into<Cow<'static, str>>,
        kind: ErrorType,
        message: impl Into<String>,
    ) -> Self {
        Self { status, code: code.into(), kind, message: message.into() }
    }

    /// A 400 of type `invalid_request`: by far the most common.
    pub fn bad_request(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(400, code, ErrorType::InvalidRequest, message)
    }

    /// A 500 of type `internal` with Meilisearch's own code for it.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "internal", ErrorType::Internal, message)
    }

    /// The body to send.
    pub fn body(&self) -> ErrorBody {
        let link = if self.code.starts_with("miroir_") {
            format!("docs/errors.md#{}", self.code)
        } else {
            format!("https://docs.meilisearch.com/errors#{}", self.code)
        };
        ErrorBody { message: self.message.clone(), code: self.code.to_string(), kind: self.kind, link }
    }
}
