//! A vocabulary that behaves like a language for a search engine: few very frequent words, many rare ones, families
//! that share a prefix, neighbours one typo apart, compounds that also exist in two words.

use std::collections::HashSet;

use crate::corpus::Dice;

/// The words every English text is full of, most frequent first.
const FREQUENT: &str = "the of and a to in for with on from by new that this as is it at your be an are or one all \
    has more home set black white red blue small large light water hand food book music world time day night man \
    woman child garden kitchen travel sport game city river mountain winter summer classic modern natural organic \
    wood steel glass paper stone gold silver green dark love story house school train road island king queen star \
    sun moon fire ice wind rain snow bird cat dog horse fish tree flower apple orange lemon coffee tea bread sugar \
    salt chair table lamp clock phone camera radio guitar piano drum paint brush pencil bag shoe shirt coat hat";

const ONSETS: [&str; 24] = [
    "b", "c", "d", "f", "g", "h", "j", "l", "m", "n", "p", "r", "s", "t", "v", "w", "br", "cl", "dr", "gr",
    "pl", "st", "th", "tr",
];
const VOWELS: [&str; 10] = ["a", "e", "i", "o", "u", "ea", "ai", "ou", "io", "ee"];
const CODAS: [&str; 14] = ["", "", "n", "r", "l", "t", "s", "m", "nd", "st", "ck", "rm", "x", "ng"];
const ENDINGS: [&str; 8] = ["", "s", "ed", "ing", "er", "ly", "ness", "able"];

/// Words, most frequent first.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    words: Vec<String>,
}

impl Vocabulary {
    /// A vocabulary of `size` words.
    pub fn generate(dice: &mut Dice, size: usize) -> Self {
        let mut words: Vec<String> = FREQUENT.split_whitespace().map(str::to_owned).collect();
        let mut known: HashSet<String> = words.iter().cloned().collect();
        while words.len() < size {
            let word = match dice.below(10) {
                // A neighbour of a known word, so that typos have something to be confused with.
                0 => misspell(dice, &words[dice.clone().below(words.len())]),
                // A compound of two known words.
                1 => {
                    let (left, right) = (dice.pick(&words).clone(), dice.pick(&words).clone());
                    if left.len() + right.len() > 14 { continue } else { left + &right }
                }
                _ => root(dice),
            };
            for ending in ENDINGS.iter().take(1 + dice.below(ENDINGS.len())) {
                let member = format!("{word}{ending}");
                if member.len() > 2 && known.insert(member.clone()) {
                    words.push(member);
                }
            }
        }
        words.truncate(size);
        Self { words }
    }

    /// A word, frequent ones more often.
    pub fn word(&self, dice: &mut Dice) -> &str {
        &self.words[dice.zipf(self.words.len())]
    }

    /// Some words separated by spaces.
    pub fn text(&self, dice: &mut Dice, words: usize) -> String {
        let picked: Vec<&str> = (0..words).map(|_| self.word(dice)).collect();
        picked.join(" ")
    }
}

fn root(dice: &mut Dice) -> String {
    (0..1 + dice.below(3))
        .map(|_| format!("{}{}{}", dice.pick(&ONSETS), dice.pick(&VOWELS), dice.pick(&CODAS)))
        .collect()
}

/// The word with one letter replaced, removed, doubled, or exchanged with its neighbour.
pub fn misspell(dice: &mut Dice, word: &str) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    if letters.len() < 2 {
        return word.to_owned();
    }
    let at = dice.below(letters.len() - 1);
    match dice.below(4) {
        0 => letters[at] = char::from(b'a' + dice.below(26) as u8),
        1 => drop(letters.remove(at)),
        2 => letters.insert(at, letters[at]),
        _ => letters.swap(at, at + 1),
    }
    letters.into_iter().collect()
}
