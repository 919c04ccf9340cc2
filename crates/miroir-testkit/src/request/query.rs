//! Generated query texts: words of the documents themselves, as they are and as people get them wrong.

use serde_json::Value;

use crate::corpus::{misspell, value_at};
use crate::request::Generator;

impl Generator<'_> {
    /// A text of some document.
    fn any_text(&mut self) -> String {
        loop {
            let document = self.dice.pick(&self.corpus.documents);
            let field = self.dice.pick(self.corpus.text_fields);
            match value_at(document, field) {
                Some(Value::String(text)) if !text.is_empty() => return text.clone(),
                Some(Value::Array(items)) => {
                    if let Some(Value::String(text)) = items.first() {
                        return text.clone();
                    }
                }
                _ => {}
            }
        }
    }

    /// Neighbouring words of some document, at most `count`.
    pub(super) fn words(&mut self, count: usize) -> String {
        let text = self.any_text();
        let words: Vec<&str> = text.split_whitespace().collect();
        let start = self.dice.below(words.len().max(1));
        words.iter().skip(start).take(count).copied().collect::<Vec<_>>().join(" ")
    }

    /// Words from one or more documents.
    pub(super) fn some_words(&mut self, least: usize, most: usize) -> String {
        let count = least + self.dice.below(most - least + 1);
        if count > 1 && self.dice.once_in(2) {
            return self.words(count);
        }
        let words: Vec<String> = (0..count).map(|_| self.words(1)).collect();
        words.join(" ")
    }

    pub(super) fn typo(&mut self) -> String {
        let text = self.some_words(1, 3);
        let words: Vec<String> = text.split(' ').map(|word| misspell(&mut self.dice, word)).collect();
        words.join(" ")
    }

    pub(super) fn prefix(&mut self) -> String {
        let mut text = self.some_words(1, 2);
        let last = text.rsplit(' ').next().map_or(0, |word| word.chars().count());
        for _ in 0..self.dice.below(last.max(1)) {
            text.pop();
        }
        text
    }

    pub(super) fn phrase(&mut self) -> String {
        let length = 2 + self.dice.below(3);
        let phrase = self.words(length).replace('"', "");
        let (before, after) = (self.some_words(0, 1), self.some_words(0, 1));
        match self.dice.below(3) {
            0 => format!("\"{phrase}\""),
            1 => format!("\"{phrase}\" {after}"),
            _ => format!("{before} \"{phrase}\""),
        }
    }

    pub(super) fn number(&mut self) -> String {
        let digits = match self.dice.below(4) {
            0 => self.dice.between(0, 50).to_string(),
            1 => self.dice.between(1_900, 2_030).to_string(),
            2 => (self.dice.between(0, 10_000) as f64 / 100.0).to_string(),
            _ => {
                (*self.dice.pick(&["seven", "one thousand", "007", "3,14", "1,000", "1e3", "-7"])).to_owned()
            }
        };
        if self.dice.once_in(3) { format!("{} {digits}", self.words(1)) } else { digits }
    }

    pub(super) fn unicode(&mut self) -> String {
        const FEARED: [&str; 18] = [
            "東京",
            "東京タワー",
            "緑",
            "烤鸭",
            "서울",
            "cafe creme",
            "café",
            "strasse",
            "STRASSE",
            "СМАРТФОН",
            "🎸",
            "☕ coffee",
            "ελληνικα",
            "élan",
            "muller sohne",
            "zazolc",
            "c++",
            "a&b",
        ];
        if !self.dice.once_in(3) {
            self.some_words(1, 2).to_uppercase()
        } else {
            (*self.dice.pick(&FEARED)).to_owned()
        }
    }
}
