//! Checking `_vectors` (see [`super::content`]).

use serde_json::value::RawValue;

use super::content::ContentRules;
use crate::error::ApiError;

/// Judges the `_vectors` field of one document.
pub(super) fn check_vectors(
    _rules: &ContentRules,
    _document_id: &str,
    _vectors: &RawValue,
) -> Result<(), ApiError> {
    Ok(())
}
