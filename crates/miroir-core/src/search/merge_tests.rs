//! The merge against a whole: documents ranked at once, or ranked on several nodes and merged.

use std::cmp::Reverse;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Depth, MergeError, SearchPlan, SearchSettings};
use crate::hidden::{INSERTED_AT_FIELD, TIE_BREAK_RULE, encode_position};

/// A document with its ranking: what is compared, in order, with ties likely.
#[derive(Debug, Clone)]
struct Ranked {
    position: u64,
    words: u32,
    typos: u32,
    price: Option<i32>,
    color: Option<u8>,
    node: usize,
}

fn documents() -> impl Strategy<Value = Vec<Ranked>> {
    let ranking = (1u32..3, 0u32..3, prop::option::of(0i32..3), prop::option::of(0u8..4), 0usize..4);
    prop::collection::vec(ranking, 0..40).prop_map(|rankings| {
        let numbered = rankings.into_iter().zip(0..);
        let document = |((words, typos, price, color, node), position)| Ranked {
            position,
            words,
            typos,
            price,
            color,
            node,
        };
        numbered.map(document).collect()
    })
}

/// The order of one server, stated independently of how details are compared.
fn in_order(mut documents: Vec<Ranked>) -> Vec<Ranked> {
    documents.sort_by_key(|document| {
        let price = (document.price.is_none(), Reverse(document.price));
        (Reverse(document.words), document.typos, price, document.position)
    });
    documents
}

/// Keeps the best document of each color, and those without any.
fn distinct(documents: Vec<Ranked>) -> Vec<Ranked> {
    let mut seen = Vec::new();
    let is_first = |document: &Ranked| match document.color {
        Some(color) if seen.contains(&color) => false,
        color => {
            seen.extend(color);
            true
        }
    };
    documents.into_iter().filter(is_first).collect()
}

/// A node's answer: its own documents, ranked on its own scale, as many as it was asked for.
fn answer(documents: &[Ranked], node: usize, is_distinct: bool, request: &[u8]) -> Bytes {
    let request: Value = serde_json::from_slice(request).unwrap();
    let own = in_order(documents.iter().filter(|document| document.node == node).cloned().collect());
    let own = if is_distinct { distinct(own) } else { own };
    let wanted = request.get("limit").or_else(|| request.get("hitsPerPage")).unwrap().as_u64().unwrap();
    let hit = |document: &Ranked| {
        let max_words = 3 + node;
        let mut hit = json!({ "id": document.position, "color": document.color });
        hit["_rankingScoreDetails"] = json!({
            "words": { "order": 0, "matchingWords": document.words, "maxMatchingWords": max_words,
                       "score": f64::from(document.words) / max_words as f64 },
            "typo": { "order": 1, "typoCount": document.typos, "maxTypoCount": 2 + node, "score": 0.5 },
            "price:desc": { "order": 2, "value": document.price },
        });
        // A node applies the rule that breaks ties or not; its own order is that of insertion in both cases.
        hit[INSERTED_AT_FIELD] = json!(encode_position(document.position));
        if node == 0 {
            hit["_rankingScoreDetails"][TIE_BREAK_RULE] =
                json!({ "order": 3, "value": encode_position(document.position) });
        }
        hit
    };
    let hits: Vec<Value> = own.iter().take(wanted as usize).map(hit).collect();
    let mut answer = json!({ "hits": hits, "query": "", "processingTimeMs": 1 });
    if request.get("page").is_some() {
        answer["hitsPerPage"] = json!(wanted);
        answer["page"] = json!(1);
        answer["totalPages"] = json!(1);
        answer["totalHits"] = json!(own.len());
    } else {
        answer["limit"] = json!(wanted);
        answer["offset"] = json!(0);
        answer["estimatedTotalHits"] = json!(own.len());
    }
    Bytes::from(answer.to_string())
}

fn search(documents: &[Ranked], is_distinct: bool, body: Value) -> Value {
    let distinct = is_distinct.then_some("color");
    let settings = SearchSettings::from_settings(&json!({ "distinctAttribute": distinct }));
    let plan = SearchPlan::new(body.to_string().as_bytes(), &settings).unwrap();
    let at_depth = |depth| {
        let bodies = plan.bodies(None, depth);
        let node = |node| bodies.iter().map(|body| answer(documents, node, is_distinct, body)).collect();
        let answers: Vec<Vec<Bytes>> = (0..4).map(node).collect();
        plan.merge(&answers, 7)
    };
    let merged = match at_depth(Depth::Likely { share: 0.25 }) {
        Err(MergeError::TooFewHits) => at_depth(Depth::Whole),
        merged => merged,
    };
    serde_json::from_slice(&merged.unwrap().body).unwrap()
}

fn ids(answer: &Value) -> Vec<u64> {
    answer["hits"].as_array().unwrap().iter().map(|hit| hit["id"].as_u64().unwrap()).collect()
}

fn positions(documents: &[Ranked]) -> Vec<u64> {
    documents.iter().map(|document| document.position).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn split_and_merged_equals_ranked_whole(documents in documents(), offset in 0usize..45, limit in 0usize..45) {
        let answer = search(&documents, false, json!({ "offset": offset, "limit": limit }));
        let whole = positions(&in_order(documents.clone()));
        let expected: Vec<u64> = whole.into_iter().skip(offset).take(limit).collect();
        prop_assert_eq!(ids(&answer), expected);
        prop_assert_eq!(&answer["estimatedTotalHits"], &json!(documents.len()));
        prop_assert_eq!((&answer["offset"], &answer["limit"]), (&json!(offset), &json!(limit)));
        prop_assert_eq!(&answer["processingTimeMs"], &json!(7));
        prop_assert!(!answer.to_string().contains("_ranking"));
    }

    #[test]
    fn with_a_distinct_attribute_too(documents in documents(), offset in 0usize..12, limit in 0usize..12) {
        let answer = search(&documents, true, json!({ "offset": offset, "limit": limit }));
        let whole = positions(&distinct(in_order(documents)));
        let expected: Vec<u64> = whole.into_iter().skip(offset).take(limit).collect();
        prop_assert_eq!(ids(&answer), expected);
    }

    #[test]
    fn pages_partition_the_whole(documents in documents(), hits_per_page in 1usize..9, is_distinct: bool) {
        let mut whole = in_order(documents.clone());
        if is_distinct {
            whole = distinct(whole);
        }
        let total_pages = whole.len().div_ceil(hits_per_page);
        let mut paged = Vec::new();
        for page in 1..=total_pages + 1 {
            let answer =
                search(&documents, is_distinct, json!({ "page": page, "hitsPerPage": hits_per_page }));
            paged.extend(ids(&answer));
            prop_assert_eq!(&answer["totalHits"], &json!(whole.len()));
            prop_assert_eq!(&answer["totalPages"], &json!(total_pages));
            prop_assert_eq!((&answer["page"], &answer["hitsPerPage"]), (&json!(page), &json!(hits_per_page)));
        }
        prop_assert_eq!(paged, positions(&whole));
    }

    #[test]
    fn details_are_shown_on_one_scale(documents in documents()) {
        let answer = search(&documents, false, json!({ "limit": 100, "showRankingScoreDetails": true }));
        let largest = documents.iter().map(|document| 3 + document.node).max();
        for hit in answer["hits"].as_array().unwrap() {
            let details = hit["_rankingScoreDetails"].as_object().unwrap();
            prop_assert_eq!(details.keys().collect::<Vec<_>>(), ["words", "typo", "price:desc"]);
            let words = &details["words"];
            prop_assert_eq!(words["maxMatchingWords"].as_u64(), largest.map(|max| max as u64));
            let score = words["matchingWords"].as_f64().unwrap() / words["maxMatchingWords"].as_f64().unwrap();
            prop_assert_eq!(words["score"].as_f64(), Some(score));
        }
    }
}

#[test]
fn numbers_as_large_as_they_come_are_no_trouble() {
    let documents = [Ranked { position: 1, words: 1, typos: 0, price: None, color: None, node: 0 }];
    let max = usize::MAX;
    let answer = search(&documents, false, json!({ "limit": max, "offset": max }));
    assert_eq!((ids(&answer), &answer["limit"], &answer["offset"]), (vec![], &json!(max), &json!(1000)));
    let answer = search(&documents, false, json!({ "page": max, "hitsPerPage": max }));
    assert_eq!((ids(&answer), &answer["totalPages"]), (vec![], &json!(1)));
    let answer = search(&documents, false, json!({ "page": 0, "hitsPerPage": 0 }));
    assert_eq!((ids(&answer), &answer["totalPages"], &answer["totalHits"]), (vec![], &json!(0), &json!(1)));
}

#[test]
fn an_answer_that_is_not_one_is_an_error() {
    let plan = SearchPlan::new(b"{}", &SearchSettings::default()).unwrap();
    assert!(plan.merge(&[vec![Bytes::from_static(b"<html>")]], 0).is_err());
    assert!(plan.merge(&[vec![]], 0).is_err());
    assert!(plan.merge(&[], 0).is_err());
    assert!(plan.finish_alone(b"{\"hits\":[").is_err());
}
