//! Making a node's answer what it would have been, had it dropped the words of the query in another order.
//!
//! Of each level, only the hits for which just the words of that level were dropped are taken. How many words match
//! is then written on the scale of the right order, because a node that drops several words at a time counts them
//! as one level less.

use std::collections::HashSet;

use super::details::{Details, Rule};
use super::hits::{Answer, RawHit};
use super::rank::{BestFirst, place_pinned};
use super::scan::{Cursor, Malformed, ObjectWriter, number, write_json};
use super::score::with_words;

/// The answers of one node to be made one.
#[derive(Debug)]
pub(super) struct Reordered<'a> {
    /// The one in the node's own order, which gives everything but hits, totals and facets.
    pub(super) own: &'a [u8],
    /// The one that tells totals and facets.
    pub(super) total: &'a [u8],
    /// For each level, how many words are dropped, and the answer with its hits.
    pub(super) levels: Vec<(u32, &'a [u8])>,
    /// How many levels there are in the right order, the one where nothing is dropped included.
    pub(super) max_words: u32,
    /// Hits wanted at most.
    pub(super) reach: usize,
}

/// Writes the answer.
pub(super) fn reorder(answer: &Reordered) -> Result<Vec<u8>, Malformed> {
    let own = Answer::parse(answer.own)?;
    let total = Answer::parse(answer.total)?;
    let levels: Vec<Vec<u8>> = answer
        .levels
        .iter()
        .map(|(dropped, level)| of_level(level, *dropped, answer.max_words))
        .collect::<Result<_, _>>()?;
    let levels: Vec<Answer> = levels.iter().map(|level| Answer::parse(level)).collect::<Result<_, _>>()?;
    let hits = best_of(&levels, answer.reach)?;

    let mut out = Vec::with_capacity(answer.own.len());
    let mut writer = ObjectWriter::begin(&mut out);
    for (key, value) in &own.members {
        if *key == b"hits" {
            write_hits(writer.key(key), &hits);
            continue;
        }
        let is_counted =
            [&b"estimatedTotalHits"[..], b"totalHits", b"facetDistribution", b"facetStats"].contains(key);
        let counted = total.members.iter().find(|(name, _)| is_counted && name == key);
        writer.member(key, counted.map_or(value, |(_, value)| value));
    }
    writer.end();
    Ok(out)
}

/// The hits of all levels in order, each document once.
pub(super) fn best_of<'a>(levels: &[Answer<'a>], reach: usize) -> Result<Vec<RawHit<'a>>, Malformed> {
    let mut best = Vec::new();
    let mut seen: HashSet<&[u8]> = HashSet::new();
    let mut best_first = BestFirst::new(levels, |_| true, reach)?;
    while best.len() < reach {
        let Some(ranked) = best_first.next()? else { break };
        if ranked.hit.inserted_at.is_none_or(|document| seen.insert(document)) {
            best.push(ranked.hit);
        }
    }
    let pinned =
        best_first.into_pinned().into_iter().map(|(position, ranked)| (position, ranked.hit)).collect();
    Ok(place_pinned(best, pinned))
}

/// The answer of a level with only the hits that belong to it.
fn of_level(answer: &[u8], dropped: u32, max_words: u32) -> Result<Vec<u8>, Malformed> {
    let answer = Answer::parse(answer)?;
    let mut out = b"{\"hits\":[".to_vec();
    let mut is_first = true;
    for hit in &answer.hits {
        let details = hit.parse_details()?;
        let words = details.rules.iter().find_map(|rule| match rule {
            Rule::Words { matching, max } => Some((*matching, *max)),
            _ => None,
        });
        // A hit with a fixed place is one at any level.
        let here = words.map_or(0, |(matching, max)| max.saturating_sub(matching));
        if here != dropped {
            continue;
        }
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        let right = (max_words.saturating_sub(dropped), max_words);
        if words.is_none_or(|words| words == right) {
            out.extend_from_slice(hit.raw);
        } else {
            write_with_words(&mut out, hit, &details, right)?;
        }
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}

/// Writes hits as the list they are.
pub(super) fn write_hits(out: &mut Vec<u8>, hits: &[RawHit]) {
    out.push(b'[');
    for (index, hit) in hits.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(hit.raw);
    }
    out.push(b']');
}

fn write_with_words(
    out: &mut Vec<u8>,
    hit: &RawHit,
    details: &Details,
    (matching, max): (u32, u32),
) -> Result<(), Malformed> {
    let mut writer = ObjectWriter::begin(out);
    let mut cursor = Cursor::new(hit.raw);
    cursor.begin_object()?;
    while let Some(key) = cursor.next_key()? {
        let value = cursor.value()?;
        let is_details = hit.details.is_some_and(|own| std::ptr::eq(own.as_ptr(), value.as_ptr()));
        // A document may have a field of this name; the node's own is the one with the score.
        let is_score = key == b"_rankingScore" && hit.score.is_some() && number(value) == hit.score;
        let score =
            hit.score.filter(|_| is_score).and_then(|score| with_words(details, score, matching, max));
        match score {
            Some(score) => write_json(writer.key(key), &score),
            None if is_details => write_details(writer.key(key), value, matching, max)?,
            None => writer.member(key, value),
        }
    }
    writer.end();
    Ok(())
}

fn write_details(out: &mut Vec<u8>, details: &[u8], matching: u32, max: u32) -> Result<(), Malformed> {
    let mut writer = ObjectWriter::begin(out);
    let mut cursor = Cursor::new(details);
    cursor.begin_object()?;
    while let Some(key) = cursor.next_key()? {
        let rule = cursor.value()?;
        if key != b"words" {
            writer.member(key, rule);
            continue;
        }
        let mut rule_writer = ObjectWriter::begin(writer.key(key));
        let mut rule_cursor = Cursor::new(rule);
        rule_cursor.begin_object()?;
        while let Some(key) = rule_cursor.next_key()? {
            let value = rule_cursor.value()?;
            match key {
                b"matchingWords" => write_json(rule_writer.key(key), &matching),
                b"maxMatchingWords" => write_json(rule_writer.key(key), &max),
                b"score" => {
                    write_json(rule_writer.key(key), &(f64::from(matching) / f64::from(max.max(1))));
                }
                _ => rule_writer.member(key, value),
            }
        }
        rule_writer.end();
    }
    writer.end();
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn hit(id: u32, matching: u32, max: u32, typos: u32) -> Value {
        let details = json!({
            "words": { "order": 0, "matchingWords": matching, "maxMatchingWords": max,
                       "score": f64::from(matching) / f64::from(max) },
            "typo": { "order": 1, "typoCount": typos, "maxTypoCount": 1, "score": 1.0 - f64::from(typos) / 2.0 },
        });
        // The words are all there is to the score but for one typo of one.
        let score = (f64::from(matching - 1) + 1.0 - f64::from(typos) / 2.0) / f64::from(max);
        let place = format!("!{id}");
        json!({ "id": id, "_miroir_inserted_at": place, "_rankingScore": score, "_rankingScoreDetails": details })
    }

    fn answer(hits: &[Value], total: usize) -> String {
        json!({ "hits": hits, "query": "a b c", "estimatedTotalHits": total, "facetDistribution": { "g": { "x": total } } })
            .to_string()
    }

    #[test]
    fn hits_are_taken_from_their_levels_and_written_on_one_scale() {
        // The node drops two words at a time, so that it has two levels where there are three.
        let own = answer(&[hit(1, 2, 2, 0), hit(9, 1, 2, 0)], 2);
        let first = answer(&[hit(1, 1, 2, 0), hit(2, 1, 2, 1), hit(8, 1, 3, 0)], 3);
        let second = answer(&[hit(3, 1, 3, 0), hit(1, 1, 3, 0), hit(2, 1, 3, 1)], 3);
        let total = answer(&[], 7);
        let levels = vec![(0, own.as_bytes()), (1, first.as_bytes()), (2, second.as_bytes())];
        let answer =
            Reordered { own: own.as_bytes(), total: total.as_bytes(), levels, max_words: 3, reach: 9 };
        let found: Value = serde_json::from_slice(&reorder(&answer).unwrap()).unwrap();
        let expected = json!({
            "hits": [hit(1, 3, 3, 0), hit(2, 2, 3, 1), hit(3, 1, 3, 0)],
            "query": "a b c", "estimatedTotalHits": 7, "facetDistribution": { "g": { "x": 7 } },
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn no_more_hits_are_taken_than_wanted() {
        let own = answer(&[hit(1, 2, 2, 0), hit(2, 2, 2, 1)], 2);
        let levels = vec![(0, own.as_bytes())];
        let answer = Reordered { own: own.as_bytes(), total: own.as_bytes(), levels, max_words: 2, reach: 1 };
        let found: Value = serde_json::from_slice(&reorder(&answer).unwrap()).unwrap();
        assert_eq!(found["hits"], json!([hit(1, 2, 2, 0)]));
    }
}
