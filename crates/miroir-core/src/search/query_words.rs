//! The words of a query as Meilisearch counts them, where that can be told without its tokenizer.
//!
//! A query is cut at separators, and every piece is a word with a place of its own. That holds for letters of the
//! Latin alphabet and digits. Other scripts are cut by dictionaries, and what is quoted or excluded is not dropped
//! like a word; such a query is left to the nodes.

use std::ops::Range;

use super::settings::SearchSettings;

/// A word that no document has, nor one like it: more than the two letters off that a typo may be. It begins with a
/// capital and goes on in small letters, so that it is a word of its own wherever it is put.
const UNFINDABLE: &str = "Zqxjkwvzqxwjkqvxzjwq";
/// A node may have to be asked for every choice of words but the last: 31 times for six.
const MAX_WORDS: usize = 6;
/// The separators of ASCII, but for the quote. What else is neither letter nor digit is part of a word.
const SEPARATORS: &str = " \t\n\r!#%&'()*+,-./:;?@[\\]_`{}";
/// Separators beyond ASCII that are common in texts.
const MORE_SEPARATORS: &str = "\u{a0}«»‘’“”„…–—·¡¿";

/// A set of words, by their places among the words of a query.
pub(super) type WordSet = u16;

/// A query cut into words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueryWords {
    query: String,
    /// Where the words are, in bytes.
    places: Vec<Range<usize>>,
}

impl QueryWords {
    /// Cuts a query into words. `None` when there are less than two or too many, or when it is not clear what they are.
    pub(super) fn read(query: &str, settings: &SearchSettings) -> Option<Self> {
        if !settings.has_default_words {
            return None;
        }
        let mut places: Vec<Range<usize>> = Vec::new();
        let mut before = ' ';
        let mut is_excluded = false;
        for (at, character) in query.char_indices() {
            let is_inside = is_letter(before);
            if is_letter(character) {
                if is_excluded {
                    return None;
                }
                let end = at + character.len_utf8();
                match places.last_mut() {
                    Some(place) if is_inside => place.end = end,
                    _ => places.push(at..end),
                }
            } else if !SEPARATORS.contains(character) && !MORE_SEPARATORS.contains(character) {
                return None;
            }
            is_excluded = character == '-' && before.is_whitespace();
            before = character;
        }
        // A stop word takes its place, and is otherwise no word, unless the query ends with it or capitals differ.
        let is_stop_word = |place: &Range<usize>| {
            let word = query.get(place.clone()).unwrap_or_default();
            place.end < query.len() && settings.stop_words.contains(word)
        };
        places.retain(|place| !is_stop_word(place));
        (2..=MAX_WORDS).contains(&places.len()).then(|| Self { query: query.to_owned(), places })
    }

    /// How many words there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// A query for one of the words alone. Only the last can be the beginning of a word, and so it is here.
    pub(super) fn alone(&self, word: usize) -> Option<String> {
        let place = self.places.get(word)?;
        let text = self.query.get(place.clone())?;
        let end = if place.end < self.query.len() { " " } else { "" };
        Some(format!("{text}{end}"))
    }

    /// The last word, as it is.
    pub(super) fn last(&self) -> Option<&str> {
        self.query.get(self.places.last()?.clone())
    }

    /// The query with words that nobody can find in the places of some. Whatever a node knows, it drops these first.
    pub(super) fn with_unfindable(&self, words: WordSet) -> String {
        self.with_replaced(words, UNFINDABLE)
    }

    /// The query without some words. Others do not become neighbours by that: a word to exclude takes the place.
    pub(super) fn without(&self, words: WordSet) -> String {
        self.with_replaced(words, &format!(" -{UNFINDABLE}"))
    }

    fn with_replaced(&self, words: WordSet, replacement: &str) -> String {
        let mut text = String::with_capacity(self.query.len() + 16);
        let mut copied = 0;
        for (word, place) in self.places.iter().enumerate() {
            if words & (1 << word) != 0 {
                text.push_str(self.query.get(copied..place.start).unwrap_or_default());
                text.push_str(replacement);
                copied = place.end;
            }
        }
        text.push_str(self.query.get(copied..).unwrap_or_default());
        text
    }
}

/// Whether a character is part of words and never between two of them.
fn is_letter(character: char) -> bool {
    let is_latin = matches!(character, '\u{c0}'..='\u{24f}') && !matches!(character, '×' | '÷');
    character.is_ascii_alphanumeric() || is_latin
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(query: &str) -> Option<QueryWords> {
        let settings = json!({ "stopWords": ["the", "of"] });
        QueryWords::read(query, &SearchSettings::from_settings(&settings))
    }

    fn words(query: &str) -> Vec<String> {
        let words = read(query).unwrap();
        (0..words.len()).map(|word| words.alone(word).unwrap()).collect()
    }

    #[test]
    fn words_are_between_separators() {
        assert_eq!(words("red House"), ["red ", "House"]);
        assert_eq!(words(" Spider-Man, (2002) "), ["Spider ", "Man ", "2002 "]);
        assert_eq!(words("l'été - 3.14"), ["l ", "été ", "3 ", "14"]);
        assert_eq!(words("lord of the rings"), ["lord ", "rings"]);
        assert_eq!(words("lord of the"), ["lord ", "the"]);
        assert_eq!(words("The Ring"), ["The ", "Ring"]);
    }

    #[test]
    fn what_is_not_clear_is_left_alone() {
        for query in [
            "",
            "one",
            "the one",
            "a \"b c\"",
            "a -b",
            "-a b c",
            "東京 tower",
            "c $5",
            "a b c d e f g h i j k",
        ] {
            assert_eq!(read(query), None, "{query}");
        }
        let settings = SearchSettings::from_settings(&json!({ "separatorTokens": ["x"] }));
        assert_eq!(QueryWords::read("red house", &settings), None);
    }

    #[test]
    fn words_are_taken_out_in_place() {
        let words = read("the Spider-Man film").unwrap();
        assert_eq!(words.with_unfindable(0b110), format!("the Spider-{UNFINDABLE} {UNFINDABLE}"));
        assert_eq!(words.without(0b001), format!("the  -{UNFINDABLE}-Man film"));
    }

    proptest! {
        #[test]
        fn taking_nothing_out_changes_nothing(query in "[a-zé '.-]{0,20}") {
            if let Some(words) = read(&query) {
                prop_assert_eq!(words.with_unfindable(0), query.clone());
                prop_assert_eq!(words.without(0), query);
            }
        }

        #[test]
        fn unfindable_words_take_the_places(query in "[a-zé '.]{0,20}", set: WordSet) {
            if let Some(words) = read(&query) {
                let replaced = read(&words.with_unfindable(set)).unwrap();
                prop_assert_eq!(replaced.len(), words.len());
                for word in 0..words.len() {
                    let text = replaced.alone(word).unwrap();
                    if set & (1 << word) == 0 {
                        prop_assert_eq!(text, words.alone(word).unwrap());
                    } else {
                        prop_assert_eq!(text.trim_end(), UNFINDABLE);
                    }
                }
            }
        }
    }
}
