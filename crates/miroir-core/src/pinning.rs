//! Which shards a filter leaves: a filter that names the primary keys it wants need not be asked of every node.
//!
//! `id = 7`, `id IN [7, 8]`, and either joined with anything by `AND`, match only documents whose ids are known, and
//! a document is on the shard of its id. Whatever is not understood pins nothing, so a filter that is wrong, or that
//! a later Meilisearch reads otherwise, costs a wider search and not an answer.
//!
//! A value matches more ids than its own text. Meilisearch compares texts without case, and what reads as a number
//! with numbers as well: `id = Ab` finds the ids `AB` and `ab`, `id = 1e1` finds `1E1` and `10`. All of them count
//! when they are few; a value of many letters, such as a UUID, pins nothing.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::documents::is_valid_document_id;
use crate::shard::{ShardId, shard_of};

/// Spellings of one value above which it pins nothing: with so many, hardly a shard would be left out.
const MOST_SPELLINGS: u32 = 16;
/// Longest value that pins, in bytes. Meilisearch cuts longer ones before it compares them.
const LONGEST_VALUE: usize = 400;
/// Integers above this are not all different from each other as Meilisearch compares numbers.
const LARGEST_EXACT: f64 = 9_007_199_254_740_991.0;
/// Parentheses inside each other that are looked into. Meilisearch itself stops at 200.
const MOST_NESTED: usize = 32;

/// Which shards a read has to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Narrowing {
    /// These, at least one; no other can have a document that matters.
    To(BTreeSet<ShardId>),
    /// All of them.
    Nothing(WhyAll),
}

/// Why a read asks for all shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyAll {
    /// There is no filter, or the index has no primary key yet.
    NothingToPin,
    /// The filter may match documents on any shard.
    NotPinned,
    /// The filter matches nothing on any shard, so it does not matter who says so.
    NothingMatches,
    /// The filter matches documents on every shard.
    EveryShard,
    /// The answer lists which fields there are.
    ListsFacets,
    /// The answer depends on how many documents words match.
    CountsWords,
}

impl WhyAll {
    /// As an operator is told.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NothingToPin => "no filter names ids of documents",
            Self::NotPinned => {
                "the filter may match any id: a condition on the primary key with `=` or `IN` that always has to hold, of \
                 values with few letters, would ask fewer shards"
            }
            Self::NothingMatches => {
                "the filter names no id that can exist, so it does not matter which nodes say so"
            }
            Self::EveryShard => "the filter names ids on every shard",
            Self::ListsFacets => "`facets` lists fields that only documents on other shards may have",
            Self::CountsWords => "`matchingStrategy: frequency` counts the words of all documents",
        }
    }
}

/// Which shards a read with this `filter` has to ask for.
pub fn narrow(filter: Option<&Value>, primary_key: Option<&str>, shards: u16) -> Narrowing {
    let (Some(filter), Some(primary_key)) = (filter, primary_key) else {
        return Narrowing::Nothing(WhyAll::NothingToPin);
    };
    match pinned_shards(filter, primary_key, shards) {
        None => Narrowing::Nothing(WhyAll::NotPinned),
        Some(pinned) if pinned.is_empty() => Narrowing::Nothing(WhyAll::NothingMatches),
        Some(pinned) if pinned.len() >= usize::from(shards) => Narrowing::Nothing(WhyAll::EveryShard),
        Some(pinned) => Narrowing::To(pinned),
    }
}

/// The shards that a document has to be on to match a search's `filter`; `None` when it may be on any. None at all
/// means that nothing matches.
pub fn pinned_shards(filter: &Value, primary_key: &str, shards: u16) -> Option<BTreeSet<ShardId>> {
    // The value of a nested key, which may be written in two ways, is not looked for.
    if primary_key.contains('.') {
        return None;
    }
    let pins = Pins { primary_key, shards };
    match filter {
        Value::String(expression) => pins.of_expression(expression),
        Value::Array(elements) => {
            let pinned = elements.iter().map(|element| match element {
                Value::String(expression) => pins.of_expression(expression),
                Value::Array(either) => pins
                    .any_of(either.iter().map(|side| pins.of_expression(side.as_str().unwrap_or_default()))),
                _ => None,
            });
            all_of(pinned)
        }
        _ => None,
    }
}

type Pinned = Option<BTreeSet<ShardId>>;

/// What every side allows; a side that pins nothing takes no part.
fn all_of(sides: impl Iterator<Item = Pinned>) -> Pinned {
    sides.flatten().reduce(|left, right| left.intersection(&right).copied().collect())
}

/// One word of an expression. Quoted words are no keywords.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token<'e> {
    Word(&'e str),
    Quoted(&'e str),
    Equal,
    Comma,
    Open,
    Close,
    OpenList,
    CloseList,
    Other,
}

impl Token<'_> {
    fn is_keyword(&self, keyword: &str) -> bool {
        *self == Token::Word(keyword)
    }
}

struct Pins<'k> {
    primary_key: &'k str,
    shards: u16,
}

impl Pins<'_> {
    /// What any side allows; nothing is pinned unless all sides pin.
    fn any_of(&self, sides: impl Iterator<Item = Pinned>) -> Pinned {
        let mut sides = sides.peekable();
        sides.peek()?;
        let mut pinned = BTreeSet::new();
        for side in sides {
            pinned.extend(side?);
        }
        Some(pinned)
    }

    fn of_expression(&self, expression: &str) -> Pinned {
        if !expression.contains(self.primary_key) {
            return None;
        }
        self.of_tokens(&tokens(expression)?, MOST_NESTED)
    }

    fn of_tokens(&self, tokens: &[Token<'_>], depth: usize) -> Pinned {
        let depth = depth.checked_sub(1)?;
        let either = split(tokens, "OR")?;
        self.any_of(either.into_iter().map(|side| {
            let all = split(side, "AND")?;
            all_of(all.into_iter().map(|condition| self.of_condition(condition, depth)))
        }))
    }

    fn of_condition(&self, condition: &[Token<'_>], depth: usize) -> Pinned {
        match condition {
            [Token::Open, inside @ .., Token::Close] => self.of_tokens(inside, depth),
            [name, Token::Equal, value] if self.is_key(name) => self.of_value(value),
            [name, is_in, Token::OpenList, list @ .., Token::CloseList]
                if self.is_key(name) && is_in.is_keyword("IN") =>
            {
                let list = list.strip_suffix(&[Token::Comma]).unwrap_or(list);
                if list.is_empty() {
                    return Some(BTreeSet::new());
                }
                self.any_of(list.split(|token| *token == Token::Comma).map(|value| match value {
                    [value] => self.of_value(value),
                    _ => None,
                }))
            }
            _ => None,
        }
    }

    fn is_key(&self, token: &Token<'_>) -> bool {
        matches!(token, Token::Word(name) | Token::Quoted(name) if *name == self.primary_key)
    }

    fn of_value(&self, token: &Token<'_>) -> Pinned {
        let (Token::Word(value) | Token::Quoted(value)) = token else { return None };
        let ids = matching_ids(value)?;
        Some(ids.iter().map(|id| shard_of(id, self.shards)).collect())
    }
}

/// The texts of all ids that Meilisearch finds equal to a value; `None` when they are too many, or not known.
fn matching_ids(value: &str) -> Option<Vec<String>> {
    // Other alphabets have letters that stand for those of ids.
    if !value.is_ascii() || value.len() > LONGEST_VALUE {
        return None;
    }
    let mut ids = Vec::new();
    // Unlike a text, a number is not read with spaces around it.
    if let Ok(number) = value.parse::<f64>()
        && number.is_finite()
    {
        if number.abs() > LARGEST_EXACT {
            return None;
        }
        if number.fract() == 0.0 {
            ids.push((number as i64).to_string());
        }
    }
    let text = value.trim();
    if is_valid_document_id(text) {
        ids.extend(spellings(text)?);
    }
    Some(ids)
}

/// A text with its letters in either case.
fn spellings(text: &str) -> Option<Vec<String>> {
    let letters: Vec<usize> =
        text.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_alphabetic()).map(|(at, _)| at).collect();
    let count =
        1u32.checked_shl(u32::try_from(letters.len()).ok()?).filter(|count| *count <= MOST_SPELLINGS)?;
    let spelling = |choice: u32| {
        let is_upper = |at: usize| {
            letters.iter().position(|letter| *letter == at).is_some_and(|bit| choice >> bit & 1 == 1)
        };
        let letter = |(at, letter): (usize, char)| match is_upper(at) {
            true => letter.to_ascii_uppercase(),
            false => letter.to_ascii_lowercase(),
        };
        text.chars().enumerate().map(letter).collect()
    };
    Some((0..count).map(spelling).collect())
}

/// The parts between a keyword that stands in no parentheses and no list; `None` when these do not match up.
fn split<'t, 'e>(tokens: &'t [Token<'e>], keyword: &str) -> Option<Vec<&'t [Token<'e>]>> {
    let mut parts = Vec::new();
    let (mut depth, mut begin) = (0usize, 0usize);
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Open | Token::OpenList => depth += 1,
            Token::Close | Token::CloseList => depth = depth.checked_sub(1)?,
            _ if depth == 0 && token.is_keyword(keyword) => {
                parts.push(tokens.get(begin..at)?);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(tokens.get(begin..)?);
    (depth == 0).then_some(parts)
}

/// The words of an expression, told apart as Meilisearch tells them; `None` where an escape or an unusual character
/// may mean something else to it.
fn tokens(expression: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '\\' => return None,
            '\'' | '"' => {
                let inside = rest.get(1..)?;
                let quoted = inside.get(..inside.find(first)?)?;
                if quoted.contains('\\') {
                    return None;
                }
                (Some(Token::Quoted(quoted)), quoted.len() + 2)
            }
            _ if is_word_character(first) => {
                let end = rest.find(|character| !is_word_character(character)).unwrap_or(rest.len());
                (Some(Token::Word(rest.get(..end)?)), end)
            }
            ' ' | '\t' | '\r' | '\n' => (None, 1),
            '=' => (Some(Token::Equal), 1),
            ',' => (Some(Token::Comma), 1),
            '(' => (Some(Token::Open), 1),
            ')' => (Some(Token::Close), 1),
            '[' => (Some(Token::OpenList), 1),
            ']' => (Some(Token::CloseList), 1),
            _ if first.is_ascii() => (Some(Token::Other), 1),
            _ => return None,
        };
        tokens.extend(token);
        rest = rest.get(length..)?;
    }
    Some(tokens)
}

fn is_word_character(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-' | '.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const SHARDS: u16 = 1_009;

    /// The ids that pin like the filter, when it pins.
    fn assert_pins(filter: &Value, ids: Option<&[&str]>) {
        let expected = ids.map(|ids| ids.iter().map(|id| shard_of(id, SHARDS)).collect());
        assert_eq!(pinned_shards(filter, "id", SHARDS), expected, "{filter}");
    }

    #[test]
    fn what_names_ids_pins() {
        let none: &[&str] = &[];
        for (filter, ids) in [
            ("id = 7", &["7"][..]),
            ("id=7", &["7"]),
            ("(id = 7)", &["7"]),
            ("'id' = \"7\"", &["7"]),
            ("id = -7", &["-7"]),
            ("id = 007", &["7", "007"]),
            ("id = 7.0", &["7"]),
            ("id = 1e1", &["10", "1e1", "1E1"]),
            ("id = ' 7 '", &["7"]),
            ("id = Ab", &["ab", "aB", "Ab", "AB"]),
            ("id = 'a b'", none),
            ("id = 7.5", none),
            ("id = ''", none),
            ("id IN [1, '2', \"3\",]", &["1", "2", "3"]),
            ("id IN[ ]", none),
            ("id = 7 AND price > 3", &["7"]),
            ("price 1 TO 3 AND id = 7 AND NOT x EXISTS", &["7"]),
            ("_geoRadius(1, 2, 3) AND id IN [1, 2]", &["1", "2"]),
            ("id = 1 AND id = 2", none),
            ("id IN [1, 2] AND id IN [2, 3]", &["2"]),
            ("id = 1 OR id = 2", &["1", "2"]),
            ("id = 1 OR (id = 2 AND x = y)", &["1", "2"]),
            ("(id = 1 OR id = 2) AND (x = 1 OR y = 2)", &["1", "2"]),
            ("x IN [a, b] AND id = 1", &["1"]),
            ("x = 'a OR id = 2' AND id = 1", &["1"]),
            ("x = \"it's\" AND id = 1", &["1"]),
            ("titre = 'été' AND id = 1", &["1"]),
        ] {
            assert_pins(&json!(filter), Some(ids));
            assert_pins(&json!([filter]), Some(ids));
        }
        assert_pins(&json!(["x = 1", "id = 1"]), Some(&["1"]));
        assert_pins(&json!(["x = 1", ["id = 1", "id = 2"]]), Some(&["1", "2"]));
        assert_pins(&json!([["id = 1"], ["x = 1", "id = 2"]]), Some(&["1"]));
    }

    #[test]
    fn what_does_not_or_may_not_pins_nothing() {
        for filter in [
            "",
            "x = 1",
            "id != 7",
            "id > 7",
            "id 7 TO 7",
            "NOT id = 7",
            "NOT (id = 7)",
            "id NOT IN [7]",
            "id EXISTS",
            "id STARTS WITH 7",
            "x = id",
            "ID = 7",
            "id.x = 7",
            "id = 1 OR x = 2",
            "id = 1 OR NOT id = 2",
            "id = abcdefgh",
            "id = 9007199254740992",
            "id = 1e300",
            "id IN [1, abcdefgh]",
            "id = '７'",
            "id = 'a\\'' OR x = '",
            "x = '\\' AND id = 1 AND y = '",
            "id = 7 x",
            "(id = 7",
            "id = 7)",
            "(id = 7) x (id = 7)",
            "id = 7 OR",
            "id IN [1 2]",
            "id IN [1,,2]",
        ] {
            assert_pins(&json!(filter), None);
        }
        for filter in [
            json!(null),
            json!(1),
            json!([]),
            json!([[]]),
            json!([["id = 1", "x = 1"]]),
            json!([["id = 1", ""]]),
        ] {
            assert_pins(&filter, None);
        }
        assert_pins(&json!(format!("{}id = 7{}", "(".repeat(40), ")".repeat(40))), None);
        assert_eq!(pinned_shards(&json!("a.b = 1"), "a.b", SHARDS), None);
    }

    /// A filter as Meilisearch understands it, with conditions on other fields that hold for some ids.
    #[derive(Debug, Clone)]
    enum Meaning {
        Is(String),
        In(Vec<String>),
        Else(u64),
        Not(Box<Meaning>),
        And(Vec<Meaning>),
        Or(Vec<Meaning>),
    }

    impl Meaning {
        fn text(&self) -> String {
            let joined = |sides: &[Meaning], with: &str| {
                sides.iter().map(|side| format!("({})", side.text())).collect::<Vec<_>>().join(with)
            };
            match self {
                Meaning::Is(value) => format!("id = \"{value}\""),
                Meaning::In(values) => format!("id IN [{}]", values.join(", ")),
                Meaning::Else(number) => format!("other = {number}"),
                Meaning::Not(side) => format!("NOT ({})", side.text()),
                Meaning::And(sides) => joined(sides, " AND "),
                Meaning::Or(sides) => joined(sides, " OR "),
            }
        }

        fn matches(&self, id: &str) -> bool {
            match self {
                Meaning::Is(value) => is_equal(id, value),
                Meaning::In(values) => values.iter().any(|value| is_equal(id, value)),
                Meaning::Else(number) => id.len() as u64 % 3 == *number,
                Meaning::Not(side) => !side.matches(id),
                Meaning::And(sides) => sides.iter().all(|side| side.matches(id)),
                Meaning::Or(sides) => sides.iter().any(|side| side.matches(id)),
            }
        }
    }

    fn is_equal(id: &str, value: &str) -> bool {
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
        let is_integer = id.parse::<i64>().is_ok_and(|number| number.to_string() == id);
        id.to_lowercase() == value.trim().to_lowercase() || (is_integer && number(id) == number(value))
    }

    fn meaning() -> impl Strategy<Value = Meaning> {
        let value = || "[0-3]{1,2}|[aAbB]{1,2}|0[0-3]|[0-3]e[01]|[0-3]\\.0|[0-3][aA]";
        let leaf = prop_oneof![
            3 => value().prop_map(Meaning::Is),
            3 => prop::collection::vec(value(), 1..4).prop_map(Meaning::In),
            1 => (0u64..3).prop_map(Meaning::Else),
        ];
        leaf.prop_recursive(4, 24, 3, |inner| {
            prop_oneof![
                1 => inner.clone().prop_map(|side| Meaning::Not(Box::new(side))),
                3 => prop::collection::vec(inner.clone(), 1..4).prop_map(Meaning::And),
                3 => prop::collection::vec(inner, 1..4).prop_map(Meaning::Or),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn nothing_that_matches_is_on_another_shard(
            meanings in prop::collection::vec(meaning(), 1..4),
            ids in prop::collection::vec("[0-9]{1,2}|[aAbB]{1,2}|0[0-3]|[0-3][eE][01]|[0-3][aA]", 1..40),
        ) {
            let filter = json!(meanings.iter().map(Meaning::text).collect::<Vec<_>>());
            if let Some(pinned) = pinned_shards(&filter, "id", SHARDS) {
                for id in ids.iter().filter(|id| meanings.iter().all(|meaning| meaning.matches(id))) {
                    prop_assert!(pinned.contains(&shard_of(id, SHARDS)), "{id} matches {filter}");
                }
            }
        }

        #[test]
        fn anything_can_be_read(expression in "[ idANORNT=<'\"\\\\()\\[\\],7é]{0,40}") {
            pinned_shards(&json!(expression), "id", SHARDS);
        }
    }
}
