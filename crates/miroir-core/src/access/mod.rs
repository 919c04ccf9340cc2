//! Who may do what: API keys, the tenant tokens made with them, and what follows for one request.
//!
//! The rules are Meilisearch's (its documentation of `/keys` and of tenant tokens), because a program that was given a
//! key must be let in, and kept out, exactly as before.

mod action;
mod key;
mod rules;

use crate::error::{ApiError, ErrorType};

pub use action::Action;
pub use key::ApiKey;
pub use rules::{SearchRules, restricted};

/// What one request may see and do.
#[derive(Debug, Clone, Default)]
pub struct Access {
    key: Option<ApiKey>,
    rules: Option<SearchRules>,
}

impl Access {
    /// Everything: the master key, or a server without one.
    pub fn unlimited() -> Self {
        Self::default()
    }

    /// The uid of the key that was presented; `None` for the master key.
    pub fn key_uid(&self) -> Option<&str> {
        self.key.as_ref().map(|key| key.uid.as_str())
    }

    /// Whether it is everything.
    pub fn is_unlimited(&self) -> bool {
        self.key.is_none()
    }

    /// What a key may do, and nothing beyond the rules of a tenant token made with it. The error is what is told to
    /// who may not do `action`, with `index` if that is named; `now` is in nanoseconds since 1970.
    pub fn granted(
        key: &ApiKey,
        rules: Option<SearchRules>,
        action: Action,
        index: Option<&str>,
        now: i128,
    ) -> Result<Self, ApiError> {
        if let Some(index) = index {
            // What a token allows is written in it, so it can be told; what its key allows is not.
            if let Some(rules) = rules.as_ref().filter(|rules| !rules.allow(index)) {
                let allowed = rules.patterns();
                return Err(invalid_key(format!(
                    "The provided tenant token cannot acces the index `{index}`, allowed indexes are {allowed:?}."
                )));
            }
            if !key.allows_index(index) {
                let allowed = key.patterns();
                return Err(invalid_key(match rules {
                    Some(_) => format!(
                        "The API key used to generate this tenant token cannot acces the index `{index}`."
                    ),
                    None => format!(
                        "The API key cannot acces the index `{index}`, authorized indexes are {allowed:?}."
                    ),
                }));
            }
        }
        if !key.grants(action) || key.indexes.is_empty() || key.has_expired(now) {
            return Err(refused());
        }
        Ok(Self { key: Some(key.clone()), rules })
    }

    /// Whether an index may be seen.
    pub fn allows_index(&self, uid: &str) -> bool {
        self.key.as_ref().is_none_or(|key| key.allows_index(uid))
            && self.rules.as_ref().is_none_or(|rules| rules.allow(uid))
    }

    /// Whether something may be seen that is about an index, or about none in particular.
    pub fn allows_what_is_about(&self, uid: Option<&str>) -> bool {
        self.visible().is_none() || uid.is_some_and(|uid| self.allows_index(uid))
    }

    /// Whether an index that is not there may be made by writing to it.
    pub fn may_create(&self, uid: &str) -> bool {
        let may = |key: &ApiKey| key.grants(Action::INDEXES_CREATE);
        self.key.as_ref().is_none_or(may) && self.allows_index(uid)
    }

    /// The patterns of the indexes that may be seen; `None` when all may.
    pub fn visible(&self) -> Option<Vec<String>> {
        let key = self.key.as_ref()?;
        // Tokens are for searches only, which name their indexes.
        (!key.allows_all_indexes()).then(|| key.patterns())
    }

    /// The filter that searches of an index are restricted by.
    pub fn search_filter(&self, uid: &str) -> Option<&serde_json::Value> {
        self.rules.as_ref()?.filter(uid)
    }
}

/// The error for a key that is not known, has expired, or does not allow what was asked for.
pub fn refused() -> ApiError {
    invalid_key("The provided API key is invalid.".to_owned())
}

/// The error for a key, with the reason.
pub fn invalid_key(message: String) -> ApiError {
    ApiError::new(403, "invalid_api_key", ErrorType::Auth, message)
}

/// Whether a pattern, a name or the beginning of one followed by `*`, means an index.
pub(crate) fn matches(pattern: &str, uid: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => uid.starts_with(beginning),
        None => pattern == uid,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(actions: &[&str], indexes: &[&str]) -> ApiKey {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        ApiKey { actions: owned(actions), indexes: owned(indexes), ..ApiKey::default() }
    }

    fn message(outcome: Result<Access, ApiError>) -> String {
        outcome.err().map(|error| error.message).unwrap_or_default()
    }

    #[test]
    fn a_key_opens_what_it_names_and_no_more() {
        let key = key(&["search", "documents.*"], &["movies", "shop_*"]);
        let granted = |action, index| Access::granted(&key, None, action, index, 0);
        assert!(granted(Action::SEARCH, Some("movies")).is_ok());
        assert!(granted(Action::DOCUMENTS_ADD, Some("shop_1")).is_ok());
        assert!(granted(Action::SEARCH, None).is_ok());
        assert_eq!(
            message(granted(Action::SETTINGS_GET, Some("movies"))),
            "The provided API key is invalid."
        );
        let told = message(granted(Action::SEARCH, Some("books")));
        assert_eq!(
            told,
            "The API key cannot acces the index `books`, authorized indexes are [\"movies\", \"shop_*\"]."
        );
        let access = granted(Action::SEARCH, None).unwrap();
        assert!(access.allows_index("shop_2") && !access.allows_index("shopping"));
        assert!(!access.may_create("movies"), "that takes indexes.create");
        assert_eq!(access.visible(), Some(vec!["movies".to_owned(), "shop_*".to_owned()]));
        assert_eq!(Access::unlimited().visible(), None);
    }

    #[test]
    fn a_token_narrows_its_key_and_never_widens_it() {
        let key = key(&["search"], &["movies", "books"]);
        let rules = |rules| Some(serde_json::from_value(rules).unwrap());
        let granted = |rules, index| Access::granted(&key, rules, Action::SEARCH, Some(index), 0);
        assert!(granted(rules(json!(["*"])), "movies").is_ok());
        let told = message(granted(rules(json!(["*"])), "secret"));
        assert_eq!(told, "The API key used to generate this tenant token cannot acces the index `secret`.");
        let told = message(granted(rules(json!({ "books": null })), "movies"));
        assert_eq!(
            told,
            "The provided tenant token cannot acces the index `movies`, allowed indexes are [\"books\"]."
        );
        let access = granted(rules(json!({ "*": { "filter": "a = 1" } })), "movies").unwrap();
        assert_eq!(access.search_filter("movies"), Some(&json!("a = 1")));
    }

    #[test]
    fn a_key_for_no_index_opens_nothing() {
        let none = key(&["*"], &[]);
        assert!(Access::granted(&none, None, Action::SEARCH, None, 0).is_err());
        assert!(Access::granted(&none, None, Action::TASKS_GET, None, 0).is_err());
    }

    #[test]
    fn an_expired_key_opens_nothing() {
        let key = ApiKey { expires_at: Some("2030-01-01T00:00:00Z".to_owned()), ..key(&["*"], &["*"]) };
        let at = |now| Access::granted(&key, None, Action::SEARCH, Some("movies"), now);
        let expiry = 1_893_456_000_000_000_000;
        assert!(at(expiry - 1).is_ok() && at(expiry).is_err());
    }
}
