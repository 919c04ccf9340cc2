//! An API key. What a client presents is not part of it: that follows from its uid and the master key.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::action::Action;
use super::matches;

/// An API key, with the names Meilisearch gives its fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApiKey {
    /// For people.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// UUID, hyphenated, in lower case.
    pub uid: String,
    /// What it allows.
    pub actions: Vec<String>,
    /// Names of indexes, or beginnings of names followed by `*`.
    pub indexes: Vec<String>,
    /// From when on it opens nothing any more, RFC 3339.
    pub expires_at: Option<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it was changed last, RFC 3339.
    pub updated_at: String,
}

impl ApiKey {
    /// Whether an action is among those it allows.
    pub fn grants(&self, action: Action) -> bool {
        self.actions.iter().any(|name| action.is_granted_by(name))
    }

    /// Whether it is for this index.
    pub fn allows_index(&self, uid: &str) -> bool {
        self.indexes.iter().any(|pattern| matches(pattern, uid))
    }

    /// Whether it is for all indexes.
    pub fn allows_all_indexes(&self) -> bool {
        self.indexes.iter().any(|pattern| pattern == "*")
    }

    /// The indexes it is for, sorted.
    pub fn patterns(&self) -> Vec<String> {
        let mut patterns = self.indexes.clone();
        patterns.sort_unstable();
        patterns.dedup();
        patterns
    }

    /// Whether it opens nothing any more at a moment, in nanoseconds since 1970.
    pub fn has_expired(&self, now: i128) -> bool {
        let Some(expires_at) = &self.expires_at else { return false };
        // What cannot be read must not open anything.
        OffsetDateTime::parse(expires_at, &Rfc3339).map_or(true, |end| end.unix_timestamp_nanos() <= now)
    }
}
