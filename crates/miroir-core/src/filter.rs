//! Whether a filter names a field of Miroir's own.
//!
//! A filter that does would not be understood by one Meilisearch, and would let clients depend on fields that are
//! nobody's business. Only the place of an attribute counts: a value that reads `_miroir_shard` is a value. The
//! expression is split into words as Meilisearch splits it, but not parsed: a wrong one is for nodes to refuse.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::hidden::{RESERVED_PREFIX, is_reserved};

/// One word of a filter expression.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    /// An attribute, a value or a keyword, without its quotes.
    Text { text: String, is_quoted: bool },
    /// A comparison operator: what follows is a value.
    Comparison,
    /// `[`: values follow, until `]`.
    Open,
    /// `]`.
    Close,
    /// Anything else, such as a parenthesis.
    Other,
}

/// The first attribute of Miroir's own that a search's `filter` names: a string, or arrays of strings.
pub fn reserved_name_in_filter(filter: &Value) -> Option<String> {
    match filter {
        Value::String(expression) => reserved_name_in_expression(expression),
        Value::Array(parts) => parts.iter().find_map(reserved_name_in_filter),
        _ => None,
    }
}

/// The first attribute of Miroir's own that one filter expression names.
pub fn reserved_name_in_expression(expression: &str) -> Option<String> {
    if !expression.contains(RESERVED_PREFIX) {
        return None;
    }
    let words = words(expression);
    let mut depth = 0_usize;
    for (place, word) in words.iter().enumerate() {
        match word {
            Word::Open => depth += 1,
            Word::Close => depth = depth.saturating_sub(1),
            Word::Text { text, .. } if depth == 0 && is_reserved(text) && !is_value(&words, place) => {
                return Some(text.clone());
            }
            _ => {}
        }
    }
    None
}

/// The attributes that a search's `filter` has conditions on, in no order; some may be missed in a wrong one.
pub fn attributes_in_filter(filter: &Value) -> BTreeSet<String> {
    match filter {
        Value::String(expression) => attributes_in_expression(expression),
        Value::Array(parts) => parts.iter().flat_map(attributes_in_filter).collect(),
        _ => BTreeSet::new(),
    }
}

fn attributes_in_expression(expression: &str) -> BTreeSet<String> {
    const CONDITIONS: [&str; 6] = ["IN", "NOT", "EXISTS", "IS", "CONTAINS", "STARTS"];
    let words = words(expression);
    let is_keyword = |place: usize, keywords: &[&str]| matches!(words.get(place), Some(Word::Text { text, is_quoted: false }) if keywords.contains(&text.as_str()));
    let has_condition = |place: usize| {
        matches!(words.get(place + 1), Some(Word::Comparison))
            || is_keyword(place + 1, &CONDITIONS)
            || is_keyword(place + 2, &["TO"])
    };
    let is_attribute = |place: usize| {
        !is_keyword(place, &["AND", "OR", "NOT", "IS"]) && !is_value(&words, place) && has_condition(place)
    };
    let texts = words.iter().enumerate().filter_map(|(place, word)| match word {
        Word::Text { text, .. } if is_attribute(place) => Some(text.clone()),
        _ => None,
    });
    texts.collect()
}

/// Whether the word at `place` is where a value stands: after an operator, or in `attribute value TO value`.
fn is_value(words: &[Word], place: usize) -> bool {
    let keyword = |place: usize, keyword: &str| match words.get(place) {
        Some(Word::Text { text, is_quoted: false }) => text == keyword,
        _ => false,
    };
    let Some(before) = place.checked_sub(1) else { return false };
    match &words[before] {
        Word::Comparison => true,
        Word::Text { .. } if keyword(before, "CONTAINS") || keyword(before, "TO") => true,
        Word::Text { .. } if keyword(before, "WITH") => before > 0 && keyword(before - 1, "STARTS"),
        Word::Text { text, is_quoted } => {
            keyword(place + 1, "TO") && (*is_quoted || !matches!(text.as_str(), "AND" | "OR" | "NOT"))
        }
        _ => false,
    }
}

fn words(expression: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' | '"' => {
                let (text, length) = quoted(rest, first);
                words.push(Word::Text { text, is_quoted: true });
                length
            }
            _ if is_word_character(first) => {
                let end = rest.find(|character| !is_word_character(character)).unwrap_or(rest.len());
                words.push(Word::Text { text: rest[..end].to_owned(), is_quoted: false });
                end
            }
            _ => {
                match first {
                    '=' | '<' | '>' | '!' => words.push(Word::Comparison),
                    '[' => words.push(Word::Open),
                    ']' => words.push(Word::Close),
                    _ if first.is_whitespace() => {}
                    _ => words.push(Word::Other),
                }
                first.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    words
}

fn is_word_character(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-' | '.')
}

/// The text in quotes that `rest` starts with, and the length with quotes. Only the quote itself can be escaped.
fn quoted(rest: &str, quote: char) -> (String, usize) {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((place, character)) = characters.next() {
        match character {
            '\\' if characters.peek().is_some_and(|(_, next)| *next == quote) => {
                text.push(quote);
                characters.next();
            }
            _ if character == quote => return (text, place + character.len_utf8()),
            _ => text.push(character),
        }
    }
    (text, rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn attributes_are_found_wherever_they_stand() {
        for filter in [
            "_miroir_shard = 1",
            "_miroir_shard=1",
            "\"_miroir_shard\" = 1",
            "'_miroir_shard' != 1",
            "a = 1 AND _miroir_shard > 2",
            "a = 1 OR (b = 2 AND NOT _miroir_shard EXISTS)",
            "(_miroir_shard IS NULL)",
            "_miroir_shard IN [a, b]",
            "_miroir_shard NOT IN [a, b]",
            "_miroir_shard 1 TO 3",
            "a 1 TO 3 AND _miroir_shard 1 TO 3",
            "NOT _miroir_shard 1 TO 3",
            "a IN [1, 2] AND _miroir_shard = 1",
            "a = '\\'' AND _miroir_shard = '\\''",
            "a = \"it's\" AND _miroir_shard = 1",
            "a CONTAINS x AND _miroir_shard CONTAINS y",
            "_miroir_shard STARTS WITH y",
            "a = 'TO' OR _miroir_shard = 2",
            "été = 'été' AND _miroir_shard = 2",
            "'x' EXISTS AND _miroir_shard.nested = 2",
        ] {
            let found = reserved_name_in_expression(filter);
            assert!(found.as_deref().is_some_and(|name| name.starts_with("_miroir_shard")), "{filter}");
        }
        let nested = json!(["a = 1", ["b = 2", "_miroir_inserted_at = 3"]]);
        assert_eq!(reserved_name_in_filter(&nested).as_deref(), Some("_miroir_inserted_at"));
    }

    #[test]
    fn values_and_other_names_are_fine() {
        for filter in [
            "a = _miroir_shard",
            "a = \"_miroir_shard\"",
            "a=\"_miroir_shard = 1\"",
            "a != '_miroir_shard'",
            "a <= _miroir_x AND b = 1",
            "a IN [_miroir_shard, \"_miroir_x\"]",
            "a NOT IN ['_miroir_shard']",
            "a _miroir_a TO _miroir_b",
            "a CONTAINS _miroir_shard",
            "a NOT CONTAINS '_miroir_shard'",
            "a STARTS WITH _miroir_shard",
            "my_miroir_shard = 1",
            "a = 'x\\' OR _miroir_shard = 1'",
            "",
        ] {
            assert_eq!(reserved_name_in_expression(filter), None, "{filter}");
        }
        assert_eq!(reserved_name_in_filter(&json!({"filter": "_miroir_shard = 1"})), None);
        assert_eq!(reserved_name_in_filter(&json!(null)), None);
    }

    #[test]
    fn attributes_are_those_with_conditions() {
        for (filter, attributes) in [
            (json!("a = b AND c.d IN [e, f] OR NOT g EXISTS"), "a c.d g"),
            (json!("a 1 TO 2 AND (b IS NOT NULL OR c NOT IN [1])"), "a b c"),
            (json!("_geoRadius(1, 2, 3) AND 'a b' > 1"), "a b"),
            (json!(["a = AND", ["b STARTS WITH c", "d CONTAINS e"]]), "a b d"),
            (json!(null), ""),
        ] {
            let found: Vec<String> = attributes_in_filter(&filter).into_iter().collect();
            assert_eq!(found.join(" "), attributes, "{filter}");
        }
    }

    proptest! {
        #[test]
        fn anything_can_be_read(expression in "[ a_miror=<>!'\"\\\\()\\[\\]é,TO]{0,40}") {
            reserved_name_in_expression(&format!("{expression}_miroir_{expression}"));
            attributes_in_expression(&expression);
        }

        #[test]
        fn a_quoted_value_never_names_an_attribute(value in ".*", quote in "['\"]") {
            prop_assume!(!value.ends_with('\\') && !value.contains(&format!("\\{quote}")));
            let value = format!("_miroir_{}", value.replace(&quote, &format!("\\{quote}")));
            let filter = format!("a = {quote}{value}{quote}");
            prop_assert_eq!(reserved_name_in_expression(&filter), None);
            let filter = format!("{quote}{value}{quote} = a");
            prop_assert!(reserved_name_in_expression(&filter).is_some());
        }
    }
}
