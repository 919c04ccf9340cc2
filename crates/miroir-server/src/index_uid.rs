//! What may be the uid of an index.

use miroir_core::access::Access;
use miroir_core::error::ApiError;
use miroir_core::hidden::RESERVED_PREFIX;

/// The index that a write is for.
pub struct Target<'a> {
    /// Its uid, which may be one.
    pub uid: &'a str,
    /// Whether the caller may make it by writing to it.
    pub may_create: bool,
}

impl<'a> Target<'a> {
    /// The target that a path names.
    pub fn new(uid: &'a str, access: &Access) -> Result<Self, ApiError> {
        check(uid)?;
        Ok(Self { uid, may_create: access.may_create(uid) })
    }
}

/// In bytes. Meilisearch says 512 and takes 400.
const LONGEST: usize = 400;
const LONGEST_AS_TOLD: usize = 512;

/// Checks a uid, with Meilisearch's own words for a wrong one.
pub fn check(uid: &str) -> Result<(), ApiError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if uid.starts_with(RESERVED_PREFIX) {
        let message = format!("Indexes whose uids start with `{RESERVED_PREFIX}` are Miroir's own: `{uid}`.");
        return Err(ApiError::bad_request("miroir_reserved_index", message));
    }
    if !uid.is_empty() && uid.len() <= LONGEST && uid.bytes().all(is_allowed) {
        return Ok(());
    }
    Err(ApiError::bad_request("invalid_index_uid", message(uid)))
}

/// The words for a wrong uid.
pub fn message(uid: &str) -> String {
    format!(
        "`{uid}` is not a valid index uid. Index uid can be an integer or a string containing only alphanumeric \
         characters, hyphens (-) and underscores (_), and can not be more than {LONGEST_AS_TOLD} bytes."
    )
}
