//! How Meilisearch writes a string before it compares facet and distinct values.
//!
//! Surrounding space is cut, every character is decomposed for compatibility, the whole is lowercased, and what
//! is longer than a database key may be is cut at a character. Two strings equal after that are one value.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

/// Longest value in bytes that Meilisearch keeps in a key.
const MAX_FACET_VALUE_LENGTH: usize = 468;

/// The form under which a string is one value with others.
pub(super) fn normalise(text: &str) -> Cow<'_, str> {
    let trimmed = text.trim();
    let whole = if trimmed.is_ascii() {
        if trimmed.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(trimmed.to_ascii_lowercase())
        } else {
            Cow::Borrowed(trimmed)
        }
    } else {
        // Character by character: marks of neighbouring characters are not put in canonical order.
        let decomposed: String =
            trimmed.chars().flat_map(|character| std::iter::once(character).nfkd()).collect();
        Cow::Owned(decomposed.to_lowercase())
    };
    if whole.len() <= MAX_FACET_VALUE_LENGTH {
        return whole;
    }
    let end = whole.floor_char_boundary(MAX_FACET_VALUE_LENGTH);
    Cow::Owned(whole[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_value_meet() {
        assert_eq!(normalise("  Drama "), "drama");
        assert_eq!(normalise("drama"), "drama");
        assert_eq!(normalise("É"), "e\u{301}");
        assert_eq!(normalise("ﬁn"), "fin");
        assert_eq!(normalise(&format!("a{}", "é".repeat(400))).len(), 467);
    }
}
