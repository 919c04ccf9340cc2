//! A node's answer taken apart, and its hits written for the client.
//!
//! Hits are copied member by member from the bytes the node sent. Only what must not be seen is left out and only
//! scores on another scale are written anew.

use super::details::Details;
use super::distinct::Unretrieve;
use super::projection::Projection;
use super::scan::{Cursor, Malformed, ObjectWriter, number, string_content, unescape, unsigned, write_json};
use super::score::Rescaled;
use crate::hidden::{INSERTED_AT_FIELD, RESERVED_PREFIX, TIE_BREAK_RULE};

/// One hit as a node sent it.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawHit<'a> {
    pub(super) raw: &'a [u8],
    pub(super) details: Option<&'a [u8]>,
    pub(super) score: Option<f64>,
    /// The document's place in insertion order, which also names the document within its index.
    pub(super) inserted_at: Option<&'a [u8]>,
}

impl<'a> RawHit<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Malformed> {
        let start = cursor.at();
        let (mut details, mut score, mut inserted_at) = (None, None, None);
        cursor.begin_object()?;
        while let Some(key) = cursor.next_key()? {
            let value = cursor.value()?;
            // A document may have fields of these names; the node's own come last.
            match key {
                b"_rankingScoreDetails" => details = Some(value),
                b"_rankingScore" => score = number(value),
                _ if key == INSERTED_AT_FIELD.as_bytes() => inserted_at = string_content(value),
                _ => {}
            }
        }
        Ok(Self { raw: cursor.since(start), details, score, inserted_at })
    }

    pub(super) fn parse_details(&self) -> Result<Details<'a>, Malformed> {
        self.details.map(Details::parse).transpose().map(Option::unwrap_or_default)
    }
}

/// One node's answer to one search.
#[derive(Debug, Default)]
pub(super) struct Answer<'a> {
    pub(super) hits: Vec<RawHit<'a>>,
    /// All members in order, raw; the value of `hits` is left empty.
    pub(super) members: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Answer<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut answer = Self::default();
        let mut cursor = Cursor::new(bytes);
        cursor.begin_object()?;
        while let Some(key) = cursor.next_key()? {
            if key != b"hits" {
                answer.members.push((key, cursor.value()?));
                continue;
            }
            answer.members.push((key, b""));
            cursor.begin_array()?;
            while cursor.next_element()? {
                answer.hits.push(RawHit::read(&mut cursor)?);
            }
        }
        Ok(answer)
    }

    pub(super) fn member(&self, name: &str) -> Option<&'a [u8]> {
        self.members.iter().find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| *value)
    }

    /// How many documents match, by whichever of the two names it goes.
    pub(super) fn total(&self) -> u64 {
        let total = self.member("totalHits").or_else(|| self.member("estimatedTotalHits"));
        total.and_then(unsigned).unwrap_or_default()
    }

    /// Whether a hit shows that vectors were sent with documents, rather than made by an embedder.
    pub(super) fn came_with_vectors(&self) -> bool {
        self.hits.iter().any(|hit| came_with_vectors(hit.raw))
    }
}

/// Whether a text with hits shows that vectors were sent with documents.
pub(super) fn came_with_vectors(raw: &[u8]) -> bool {
    let mark = br#""regenerate":false"#;
    raw.windows(mark.len()).any(|window| window == mark)
}

/// What of a hit the client is to see.
#[derive(Debug, Clone, Copy)]
pub(super) struct HitView<'p> {
    pub(super) projection: &'p Projection,
    pub(super) unretrieve: Option<&'p Unretrieve>,
    pub(super) shows_score: bool,
    pub(super) shows_details: bool,
    pub(super) hides_vectors: bool,
    /// Nodes say of hits what only Miroir can say of them.
    pub(super) hides_federation: bool,
    /// Of the ranking, only how near the vectors are.
    pub(super) shows_vector_rule_only: bool,
}

/// A hit's new scores, when they change.
pub(super) type NewScale<'s> = Option<(&'s Details<'s>, &'s Rescaled)>;

impl HitView<'_> {
    /// Writes the hits of a node that answers alone, reading them from the list that comes next.
    ///
    /// The node added no scores that the client did not ask for, so all of those are shown, and on its own scale.
    pub(super) fn write_all(&self, out: &mut Vec<u8>, cursor: &mut Cursor) -> Result<(), Malformed> {
        cursor.begin_array()?;
        out.push(b'[');
        let mut is_first = true;
        while cursor.next_element()? {
            if !is_first {
                out.push(b',');
            }
            is_first = false;
            let mut writer = ObjectWriter::begin(out);
            cursor.begin_object()?;
            while let Some(key) = cursor.next_key()? {
                let value = cursor.value()?;
                if self.write_limited(&mut writer, key, value)? {
                    continue;
                }
                match key {
                    b"_rankingScoreDetails" if self.shows_details && value.starts_with(b"{") => {
                        self.write_details(writer.key(key), value, None)?;
                    }
                    _ => writer.member(key, value),
                }
            }
            writer.end();
        }
        out.push(b']');
        Ok(())
    }

    /// Writes a member of which the client may not see everything, or leaves it out; false for any other member.
    fn write_limited(&self, writer: &mut ObjectWriter, key: &[u8], value: &[u8]) -> Result<bool, Malformed> {
        if key.first() != Some(&b'_') {
            return Ok(false);
        }
        match key {
            _ if key.starts_with(RESERVED_PREFIX.as_bytes()) => {}
            b"_vectors" if self.hides_vectors => {}
            b"_federation" if self.hides_federation => {}
            b"_formatted" if value.starts_with(b"{") => self.write_formatted(writer, value)?,
            b"_matchesPosition" if value.starts_with(b"{") => self.write_positions(writer, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Writes a hit that was merged with those of other nodes.
    pub(super) fn write(&self, out: &mut Vec<u8>, hit: &RawHit, scale: NewScale) -> Result<(), Malformed> {
        let mut writer = ObjectWriter::begin(out);
        let mut cursor = Cursor::new(hit.raw);
        cursor.begin_object()?;
        while let Some(key) = cursor.next_key()? {
            let value = cursor.value()?;
            if self.write_limited(&mut writer, key, value)? {
                continue;
            }
            match key {
                b"_rankingScore" if is_the_nodes(hit.score.is_some(), value, hit) => {
                    self.write_score(&mut writer, key, value, hit, scale);
                }
                b"_rankingScoreDetails" if is_same_slice(hit.details, value) => {
                    if self.shows_details {
                        self.write_details(writer.key(key), value, scale)?;
                    }
                }
                _ => self.write_field(&mut writer, key, value, false),
            }
        }
        writer.end();
        Ok(())
    }

    fn write_field(&self, writer: &mut ObjectWriter, key: &[u8], value: &[u8], is_formatted: bool) {
        let Some(unretrieve) = self.unretrieve else { return writer.member(key, value) };
        let name = unescape(key);
        if !unretrieve.concerns(&name) {
            return writer.member(key, value);
        }
        if let Some(reduced) = unretrieve.reduce(&name, value, is_formatted) {
            writer.member(key, &reduced);
        }
    }

    fn write_formatted(&self, writer: &mut ObjectWriter, value: &[u8]) -> Result<(), Malformed> {
        let mut formatted = Vec::with_capacity(value.len());
        let mut members = ObjectWriter::begin(&mut formatted);
        let mut cursor = Cursor::new(value);
        cursor.begin_object()?;
        while let Some(key) = cursor.next_key()? {
            let value = cursor.value()?;
            if !key.starts_with(RESERVED_PREFIX.as_bytes()) {
                self.write_field(&mut members, key, value, true);
            }
        }
        let is_empty = members.is_empty();
        members.end();
        if !is_empty {
            writer.member(b"_formatted", &formatted);
        }
        Ok(())
    }

    fn write_positions(&self, writer: &mut ObjectWriter, value: &[u8]) -> Result<(), Malformed> {
        let mut members = ObjectWriter::begin(writer.key(b"_matchesPosition"));
        let mut cursor = Cursor::new(value);
        cursor.begin_object()?;
        while let Some(key) = cursor.next_key()? {
            let value = cursor.value()?;
            let is_shown =
                !key.starts_with(RESERVED_PREFIX.as_bytes()) && self.projection.shows(&unescape(key));
            if is_shown {
                members.member(key, value);
            }
        }
        members.end();
        Ok(())
    }

    fn write_score(
        &self,
        writer: &mut ObjectWriter,
        key: &[u8],
        value: &[u8],
        hit: &RawHit,
        scale: NewScale,
    ) {
        if !self.shows_score {
            return;
        }
        let new = hit
            .score
            .zip(scale)
            .and_then(|(score, (details, rescaled))| rescaled.global_score(details, score));
        match new {
            Some(score) => write_json(writer.key(key), &score),
            None => writer.member(key, value),
        }
    }

    fn write_details(&self, out: &mut Vec<u8>, value: &[u8], scale: NewScale) -> Result<(), Malformed> {
        let mut writer = ObjectWriter::begin(out);
        let mut cursor = Cursor::new(value);
        cursor.begin_object()?;
        let mut index = 0;
        while let Some(key) = cursor.next_key()? {
            let rule = cursor.value()?;
            if key == TIE_BREAK_RULE.as_bytes() {
                continue;
            }
            if self.shows_vector_rule_only {
                if key == b"vectorSort" {
                    write_as_first_rule(writer.key(key), rule)?;
                }
                continue;
            }
            let new = scale.and_then(|(details, rescaled)| {
                let maximum = rescaled.maximum(index)?;
                Some((maximum, rescaled.local_score(index, details.rules.get(index)?)?))
            });
            match (self.hidden_order(key, rule)?, new) {
                (Some(order), _) => {
                    let out = writer.key(format!("<hidden-rule-{order}>").as_bytes());
                    out.extend_from_slice(format!(r#"{{"order":{order},"value":"<hidden>"}}"#).as_bytes());
                }
                (None, Some((maximum, score))) => {
                    write_rescaled_rule(writer.key(key), rule, maximum, score)?;
                }
                (None, None) => writer.member(key, rule),
            }
            index += 1;
        }
        writer.end();
        Ok(())
    }

    /// The order of a sort rule that compared what the client may not see.
    fn hidden_order(&self, key: &[u8], rule: &[u8]) -> Result<Option<u64>, Malformed> {
        if self.projection.displayed.is_none() || key.starts_with(b"_geoPoint(") {
            return Ok(None);
        }
        let name = unescape(key);
        let attribute = name.strip_suffix(":asc").or_else(|| name.strip_suffix(":desc"));
        let Some(attribute) = attribute else { return Ok(None) };
        if self.projection.shows_sort_on(attribute) {
            return Ok(None);
        }
        let mut cursor = Cursor::new(rule);
        cursor.begin_object()?;
        while let Some(key) = cursor.next_key()? {
            let value = cursor.value()?;
            if key == b"order" {
                return Ok(unsigned(value));
            }
        }
        Ok(None)
    }
}

fn is_same_slice(one: Option<&[u8]>, other: &[u8]) -> bool {
    one.is_some_and(|one| std::ptr::eq(one.as_ptr(), other.as_ptr()))
}

/// Whether a `_rankingScore` is the node's and not a field of the document: the node's comes after all fields.
fn is_the_nodes(has_score: bool, value: &[u8], hit: &RawHit) -> bool {
    has_score && number(value).is_some_and(|value| Some(value) == hit.score)
}

fn write_as_first_rule(out: &mut Vec<u8>, rule: &[u8]) -> Result<(), Malformed> {
    let mut writer = ObjectWriter::begin(out);
    let mut cursor = Cursor::new(rule);
    cursor.begin_object()?;
    while let Some(key) = cursor.next_key()? {
        let value = cursor.value()?;
        writer.member(key, if key == b"order" { b"0" } else { value });
    }
    writer.end();
    Ok(())
}

fn write_rescaled_rule(out: &mut Vec<u8>, rule: &[u8], maximum: u32, score: f64) -> Result<(), Malformed> {
    let mut writer = ObjectWriter::begin(out);
    let mut cursor = Cursor::new(rule);
    cursor.begin_object()?;
    while let Some(key) = cursor.next_key()? {
        let value = cursor.value()?;
        match key {
            b"maxMatchingWords" | b"maxTypoCount" => write_json(writer.key(key), &maximum),
            b"score" => write_json(writer.key(key), &score),
            _ => writer.member(key, value),
        }
    }
    writer.end();
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::search::request::ClientBody;

    fn projection(displayed: Option<&[&str]>) -> Projection {
        let body = ClientBody::parse(b"{}").unwrap();
        let displayed = displayed.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        Projection::new(&body, displayed.as_ref()).unwrap()
    }

    fn written(hit: &str, projection: &Projection, shows: bool) -> String {
        let view = HitView {
            projection,
            unretrieve: None,
            shows_score: shows,
            shows_details: shows,
            hides_vectors: false,
            hides_federation: false,
            shows_vector_rule_only: false,
        };
        let answer = format!(r#"{{"hits":[{hit}]}}"#);
        let answer = Answer::parse(answer.as_bytes()).unwrap();
        let mut out = Vec::new();
        view.write(&mut out, &answer.hits[0], None).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hidden_fields_and_what_was_not_asked_for_are_left_out() {
        let hit = r#"{"id":1,"_miroir_shard":"!","_geo":{"lat":1},"_formatted":{"_miroir_shard":"!"},"_rankingScore":0.5,"_rankingScoreDetails":{"words":{"order":0,"matchingWords":1,"maxMatchingWords":1,"score":1.0},"price:asc":{"order":1,"value":3.0},"_miroir_inserted_at:asc":{"order":2,"value":"!!"}}}"#;
        assert_eq!(written(hit, &projection(None), false), r#"{"id":1,"_geo":{"lat":1}}"#);
        assert_eq!(
            written(hit, &projection(None), true),
            r#"{"id":1,"_geo":{"lat":1},"_rankingScore":0.5,"_rankingScoreDetails":{"words":{"order":0,"matchingWords":1,"maxMatchingWords":1,"score":1.0},"price:asc":{"order":1,"value":3.0}}}"#
        );
        assert_eq!(
            written(hit, &projection(Some(&["id"])), true),
            r#"{"id":1,"_geo":{"lat":1},"_rankingScore":0.5,"_rankingScoreDetails":{"words":{"order":0,"matchingWords":1,"maxMatchingWords":1,"score":1.0},"<hidden-rule-1>":{"order":1,"value":"<hidden>"}}}"#
        );
    }

    #[test]
    fn positions_are_shown_only_in_displayed_attributes() {
        let hit = r#"{"_matchesPosition":{"a":[],"b.c":[{"start":0}],"b.d":[],"_miroir_x":[]}}"#;
        assert_eq!(
            written(hit, &projection(Some(&["b.c"])), true),
            r#"{"_matchesPosition":{"b.c":[{"start":0}]}}"#
        );
    }

    #[test]
    fn a_document_may_have_fields_named_like_the_nodes() {
        let hit =
            r#"{"_rankingScore":9,"_rankingScoreDetails":7,"_rankingScore":0.5,"_rankingScoreDetails":{}}"#;
        assert_eq!(written(hit, &projection(None), false), r#"{"_rankingScore":9,"_rankingScoreDetails":7}"#);
    }

    proptest! {
        #[test]
        fn stripping_equals_removing_from_a_tree(
            fields in prop::collection::vec(("(_miroir_)?[a-c_\"]{1,3}", "[ -~é]{0,6}"), 0..8),
            formatted in prop::collection::vec(("(_miroir_)?[a-c]{1,2}", "[ -~]{0,6}"), 0..4),
        ) {
            let object = |fields: Vec<(String, String)>| -> Map<String, Value> {
                fields.into_iter().map(|(key, value)| (key, json!([value, { "n": 1.50 }]))).collect()
            };
            let mut hit = object(fields);
            let formatted = object(formatted);
            hit.insert("_formatted".to_owned(), formatted.clone().into());
            let text = serde_json::to_string(&hit).unwrap();

            let strip = |object: Map<String, Value>| -> Map<String, Value> {
                object.into_iter().filter(|(key, _)| !key.starts_with("_miroir_")).collect()
            };
            let mut expected = strip(hit);
            expected.insert("_formatted".to_owned(), strip(formatted.clone()).into());
            if expected["_formatted"].as_object().unwrap().is_empty() {
                expected.shift_remove("_formatted");
            }
            prop_assert_eq!(
                written(&text, &projection(None), false),
                serde_json::to_string(&expected).unwrap()
            );
        }
    }
}
