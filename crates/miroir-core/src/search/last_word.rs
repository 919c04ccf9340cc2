//! A last word that a node does not know as a whole, and what that does to the rule `exactness`.
//!
//! Meilisearch judges whether an attribute is just the query, or begins with it, by the words of the query that it
//! knows as whole words, and the last may be missing. A node that knows `90` but no `9` takes `books` for the whole
//! of `books 9`, and calls a category of that name an exact match. One Meilisearch that has a `9` in any document
//! does not. So when there are such hits, the nodes are asked whether they know the word, and the hits of one that
//! does not, while another does, are ranked anew: none of them can be exact, because none has the word. Where the
//! hits themselves show the word, as most that are exact do, nobody need be asked.
//!
//! Their `_rankingScore` stays, because it does not tell the ranks it was made of.

use bytes::Bytes;
use memchr::memmem;

use super::details::Rule;
use super::hits::{Answer, RawHit};
use super::plan::{SearchKind, SearchPlan};
use super::query_words::QueryWords;
use super::reorder::{best_of, write_hits};
use super::scan::{Cursor, Malformed, ObjectWriter, write_json};
use super::settings::SearchSettings;

/// How the details name the two ways to be exact, in one piece.
const EXACT: [&[u8]; 2] = [br#""matchType":"exactMatch""#, br#""matchType":"matchesStart""#];

/// The last word of a search whose answers depend on who knows it.
#[derive(Debug)]
pub struct LastWord {
    word: String,
    /// How many words the query has.
    words: u32,
}

impl LastWord {
    /// `None` when it does not matter who knows the word, or when it is not clear what the words are.
    pub fn in_doubt(plan: &SearchPlan, settings: &SearchSettings, answers: &[Vec<Bytes>]) -> Option<Self> {
        let first = || answers.iter().filter_map(|node| node.first());
        if plan.kind != SearchKind::Keyword || !first().any(|answer| has_exact_hits(answer)) {
            return None;
        }
        let query: String = plan.body.optional("q").ok()??;
        let words = QueryWords::read(&query, settings)?;
        let doubt = Self { word: words.last()?.to_lowercase(), words: u32::try_from(words.len()).ok()? };
        first().any(|answer| doubt.concerns(answer)).then_some(doubt)
    }

    /// Whether the answer has an exact hit that does not show the word.
    fn concerns(&self, answer: &[u8]) -> bool {
        let Some(answer) = has_exact_hits(answer).then(|| Answer::parse(answer).ok()).flatten() else {
            return false;
        };
        answer
            .hits
            .iter()
            .filter(|hit| hit.details.is_some_and(has_exact_hits))
            .any(|hit| !self.is_shown_by(hit) && matches!(self.way_to_be_exact(hit), Ok(Some(_))))
    }

    fn is_shown_by(&self, hit: &RawHit) -> bool {
        // The details come last, and are not the document's.
        let document = memmem::rfind(hit.raw, b"_rankingScoreDetails").and_then(|end| hit.raw.get(..end));
        let text = String::from_utf8_lossy(document.unwrap_or(hit.raw)).to_lowercase();
        text.match_indices(&self.word).any(|(at, word)| {
            let before = text.get(..at).and_then(|text| text.chars().next_back());
            let after = text.get(at + word.len()..).and_then(|text| text.chars().next());
            ![before, after].into_iter().flatten().any(char::is_alphanumeric)
        })
    }

    /// The body of the search that finds something where the word is known.
    pub fn question(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let mut writer = ObjectWriter::begin(&mut body);
        write_json(writer.key(b"q"), &format!("\"{}\"", self.word));
        write_json(writer.key(b"limit"), &0);
        writer.end();
        body
    }

    /// Whether a node knows the word, by its answer to the question.
    pub fn is_known(answer: &[u8]) -> Option<bool> {
        let answer = Answer::parse(answer).ok()?;
        answer.member("estimatedTotalHits")?;
        Some(answer.total() > 0)
    }

    /// The answer of a node that does not know the word, where another does. `None` when it need not change.
    pub fn corrected(&self, answer: &[u8]) -> Option<Bytes> {
        has_exact_hits(answer).then(|| self.without_exact(answer).ok()).flatten().map(Bytes::from)
    }

    fn without_exact(&self, answer: &[u8]) -> Result<Vec<u8>, Malformed> {
        let own = Answer::parse(answer)?;
        // By what they were: each list is in order, and what was exact is no longer before what was not.
        let mut lists = [b"{\"hits\":[".to_vec(), b"{\"hits\":[".to_vec(), b"{\"hits\":[".to_vec()];
        for hit in &own.hits {
            let [changed @ .., unchanged] = &mut lists;
            match self.way_to_be_exact(hit)?.and_then(|way| changed.get_mut(way)) {
                Some(list) => self.write_inexact(next(list), hit)?,
                None => next(unchanged).extend_from_slice(hit.raw),
            }
        }
        lists.iter_mut().for_each(|list| list.extend_from_slice(b"]}"));
        let lists = lists.iter().map(|list| Answer::parse(list)).collect::<Result<Vec<_>, _>>()?;
        let hits = best_of(&lists, own.hits.len())?;
        let mut out = Vec::with_capacity(answer.len());
        let mut writer = ObjectWriter::begin(&mut out);
        for (key, value) in &own.members {
            match *key {
                b"hits" => write_hits(writer.key(key), &hits),
                _ => writer.member(key, value),
            }
        }
        writer.end();
        Ok(out)
    }

    /// Which of the two ways, for a hit that matches all words of the query.
    fn way_to_be_exact(&self, hit: &RawHit) -> Result<Option<usize>, Malformed> {
        let details = hit.parse_details()?;
        let matches_all = |rule: &Rule| matches!(rule, Rule::Words { matching, max } if matching == max);
        if !details.rules.iter().any(matches_all) {
            return Ok(None);
        }
        Ok(details.rules.iter().find_map(|rule| match rule {
            Rule::Exactness { match_type: 3, .. } => Some(0),
            Rule::Exactness { match_type: 2, .. } => Some(1),
            _ => None,
        }))
    }

    fn write_inexact(&self, out: &mut Vec<u8>, hit: &RawHit) -> Result<(), Malformed> {
        let mut writer = ObjectWriter::begin(out);
        let mut cursor = Cursor::new(hit.raw);
        cursor.begin_object()?;
        while let Some(key) = cursor.next_key()? {
            let value = cursor.value()?;
            if hit.details.is_none_or(|details| !std::ptr::eq(details.as_ptr(), value.as_ptr())) {
                writer.member(key, value);
                continue;
            }
            let mut rules = ObjectWriter::begin(writer.key(key));
            let mut cursor = Cursor::new(value);
            cursor.begin_object()?;
            while let Some(name) = cursor.next_key()? {
                let rule = cursor.value()?;
                match name {
                    b"exactness" => self.write_rule(rules.key(name), rule)?,
                    _ => rules.member(name, rule),
                }
            }
            rules.end();
        }
        writer.end();
        Ok(())
    }

    /// All words but the last are there exactly: that is why the hit was taken for exact.
    fn write_rule(&self, out: &mut Vec<u8>, rule: &[u8]) -> Result<(), Malformed> {
        let mut writer = ObjectWriter::begin(out);
        let mut cursor = Cursor::new(rule);
        cursor.begin_object()?;
        while let Some(key) = cursor.next_key()? {
            let value = cursor.value()?;
            if key == b"order" {
                writer.member(key, value);
            }
        }
        write_json(writer.key(b"matchType"), "noExactMatch");
        write_json(writer.key(b"matchingWords"), &self.words.saturating_sub(1));
        write_json(writer.key(b"maxMatchingWords"), &self.words);
        // The lowest of three ranks, and within it the words above none.
        let score = f64::from(self.words) / f64::from(3 * (self.words + 1));
        write_json(writer.key(b"score"), &score);
        writer.end();
        Ok(())
    }
}

fn has_exact_hits(answer: &[u8]) -> bool {
    EXACT.iter().any(|mark| memmem::find(answer, mark).is_some())
}

/// The place for one more hit in a list that has been begun.
fn next(list: &mut Vec<u8>) -> &mut Vec<u8> {
    if list.last() != Some(&b'[') {
        list.push(b',');
    }
    list
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn hit(id: u32, exactness: Value) -> Value {
        json!({ "id": id, "_miroir_inserted_at": format!("!{id}"), "_rankingScoreDetails": {
            "words": { "order": 0, "matchingWords": 2, "maxMatchingWords": 2, "score": 1.0 },
            "exactness": exactness,
        } })
    }

    fn exact(way: &str) -> Value {
        json!({ "order": 1, "matchType": way, "score": 1.0 })
    }

    fn inexact(matching: u32) -> Value {
        json!({ "order": 1, "matchType": "noExactMatch", "matchingWords": matching, "maxMatchingWords": 2,
                "score": f64::from(matching + 1) / 9.0 })
    }

    fn doubt(query: &str, answer: &Value) -> Option<LastWord> {
        let settings = SearchSettings::default();
        let plan = SearchPlan::new(json!({ "q": query }).to_string().as_bytes(), &settings).unwrap();
        LastWord::in_doubt(&plan, &settings, &[vec![Bytes::from(answer.to_string())]])
    }

    #[test]
    fn hits_that_cannot_be_exact_are_ranked_anew() {
        let answer = json!({ "hits": [hit(5, exact("exactMatch")), hit(2, exact("matchesStart")),
                                      hit(7, inexact(2)), hit(3, inexact(1))], "limit": 9 });
        let doubt = doubt("Books 9", &answer).unwrap();
        assert_eq!(doubt.question(), br#"{"q":"\"9\"","limit":0}"#);
        let found: Value =
            serde_json::from_slice(&doubt.corrected(answer.to_string().as_bytes()).unwrap()).unwrap();
        let expected = [hit(7, inexact(2)), hit(2, inexact(1)), hit(3, inexact(1)), hit(5, inexact(1))];
        assert_eq!(found, json!({ "hits": expected, "limit": 9 }));
    }

    #[test]
    fn without_exact_hits_or_a_second_word_nobody_is_asked() {
        let inexact = json!({ "hits": [hit(1, inexact(1))] });
        let exact = json!({ "hits": [hit(1, exact("exactMatch"))] });
        assert!(doubt("Books 9", &inexact).is_none());
        assert!(doubt("Books", &exact).is_none());
        assert!(doubt("Books 9", &exact).unwrap().corrected(inexact.to_string().as_bytes()).is_none());
    }

    #[test]
    fn a_hit_that_shows_the_word_raises_no_doubt() {
        let answer = |title: &str| {
            let mut hit = hit(1, exact("exactMatch"));
            hit["title"] = json!(title);
            let details = hit.as_object_mut().unwrap().shift_remove("_rankingScoreDetails").unwrap();
            hit["_rankingScoreDetails"] = details;
            json!({ "hits": [hit] })
        };
        assert!(doubt("red Dune", &answer("The red dune.")).is_none());
        assert!(doubt("red Dune", &answer("red dunes")).is_some());
        assert!(doubt("red words", &answer("red")).is_some());
    }

    #[test]
    fn a_node_knows_what_it_finds() {
        assert_eq!(LastWord::is_known(br#"{"hits":[],"estimatedTotalHits":2}"#), Some(true));
        assert_eq!(LastWord::is_known(br#"{"hits":[],"estimatedTotalHits":0}"#), Some(false));
        assert_eq!(LastWord::is_known(b"<html>"), None);
        assert_eq!(LastWord::is_known(b"{}"), None);
    }
}
