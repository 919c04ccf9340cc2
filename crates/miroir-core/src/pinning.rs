//! Which shards a filter leaves: a filter that names the primary keys it wants need not be asked of every node.
//!
//! `id = 7`, `id IN [7, 8]`, and either joined with anything by `AND`, match only documents whose ids are known, and
//! a document is on the shard of its id. Whatever is not understood pins nothing, so a filter that is wrong, or that
//! a later Meilisearch reads otherwise, costs a wider search and not an answer.
//!
//! A value matches more ids than its own text. Meilisearch compares texts without case, and what reads as a number
//! with numbers as well: `id = Ab` finds the ids `AB` and `ab`, `id = 1e1` finds `1E1` and `10`. All of them count
//! when they are few. A value of many letters, such as a UUID, pins only where no id has a capital letter, so that it
//! has one spelling.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::documents::is_valid_document_id;
use crate::shard::{ShardId, shard_of};

/// Spellings of one value above which it pins nothing: with so many, hardly a shard would be left out.
const MOST_SPELLINGS: u32 = 16;
/// Words and commas in a list of values, for each shard of the index, that are looked at.
const VALUES_PER_SHARD: usize = 32;
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
                 values with few letters if ids have capital ones, would ask fewer shards"
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

/// What is known of the ids of an index.
#[derive(Debug, Clone, Copy)]
pub struct Ids<'k> {
    /// The field they are in, once that is known.
    pub primary_key: Option<&'k str>,
    /// Over how many shards they are spread.
    pub shards: u16,
    /// Whether some may have capital letters.
    pub capitals: bool,
}

/// Which shards a read with this `filter` has to ask for.
pub fn narrow(filter: Option<&Value>, ids: Ids<'_>) -> Narrowing {
    let (Some(filter), Some(primary_key)) = (filter, ids.primary_key) else {
        return Narrowing::Nothing(WhyAll::NothingToPin);
    };
    match pinned_shards(filter, primary_key, ids) {
        None => Narrowing::Nothing(WhyAll::NotPinned),
        Some(pinned) if pinned.is_empty() => Narrowing::Nothing(WhyAll::NothingMatches),
        Some(pinned) if pinned.len() >= usize::from(ids.shards) => Narrowing::Nothing(WhyAll::EveryShard),
        Some(pinned) => Narrowing::To(pinned),
    }
}

/// The shards that a document has to be on to match a search's `filter`; `None` when it may be on any. None at all
/// means that nothing matches.
fn pinned_shards(filter: &Value, primary_key: &str, ids: Ids<'_>) -> Option<BTreeSet<ShardId>> {
    // The value of a nested key, which may be written in two ways, is not looked for.
    if primary_key.contains('.') {
        return None;
    }
    let pins = Pins { primary_key, shards: ids.shards, capitals: ids.capitals };
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
    capitals: bool,
}

impl Pins<'_> {
    /// What any side allows; nothing is pinned unless all sides pin.
    fn any_of(&self, sides: impl Iterator<Item = Pinned>) -> Pinned {
        let mut sides = sides.peekable();
        sides.peek()?;
        let mut pinned = BTreeSet::new();
        for side in sides {
            pinned.extend(side?);
            // Then it tells nothing, and the rest need not be looked at.
            if pinned.len() >= usize::from(self.shards) {
                return None;
            }
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
                // So many are hardly ever on few shards, and looking at them takes the time of other searches.
                if list.len() > VALUES_PER_SHARD * usize::from(self.shards) {
                    return None;
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
        let ids = matching_ids(value, self.capitals)?;
        Some(ids.iter().map(|id| shard_of(id, self.shards)).collect())
    }
}

/// The texts of all ids that Meilisearch finds equal to a value; `None` when they are too many, or not known.
fn matching_ids(value: &str, capitals: bool) -> Option<Vec<String>> {
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
        match capitals {
            true => ids.extend(spellings(text)?),
            false => ids.push(text.to_ascii_lowercase()),
        }
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
mod tests;
