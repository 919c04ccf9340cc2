//! What may be the uid of an index.

use miroir_core::error::ApiError;

const LONGEST: usize = 512;

/// Checks a uid, with Meilisearch's own words for a wrong one.
pub fn check(uid: &str) -> Result<(), ApiError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !uid.is_empty() && uid.len() <= LONGEST && uid.bytes().all(is_allowed) {
        return Ok(());
    }
    Err(ApiError::bad_request("invalid_index_uid", message(uid)))
}

/// The words for a wrong uid.
pub fn message(uid: &str) -> String {
    format!(
        "`{uid}` is not a valid index uid. Index uid can be an integer or a string containing only alphanumeric \
         characters, hyphens (-) and underscores (_), and can not be more than {LONGEST} bytes."
    )
}
