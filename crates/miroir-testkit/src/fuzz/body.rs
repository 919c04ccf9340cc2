//! Drawing a body: the fields that a route knows, with values that are nearly right, and then sometimes damaged.

use serde_json::{Map, Value, json};

use super::words::{ATTRIBUTES, FILTERS, INDEXES, ODD, QUERIES, SORTS};
use crate::corpus::Dice;

/// How deep what is drawn at random is.
const DEPTH: usize = 3;
/// Nothing is ever sent to the outside: a port that nobody listens at.
const NOBODY: &str = "http://127.0.0.1:9/";

/// Fields of a search.
const SEARCH: &[&str] = &[
    "q",
    "filter",
    "sort",
    "facets",
    "limit",
    "offset",
    "page",
    "hitsPerPage",
    "attributesToRetrieve",
    "attributesToHighlight",
    "attributesToCrop",
    "cropLength",
    "matchingStrategy",
    "showRankingScore",
    "showRankingScoreDetails",
    "showMatchesPosition",
    "distinct",
    "vector",
    "hybrid",
    "retrieveVectors",
    "locales",
    "rankingScoreThreshold",
    "attributesToSearchOn",
    "media",
];
const FACET_SEARCH: &[&str] = &[
    "facetName",
    "facetQuery",
    "q",
    "filter",
    "matchingStrategy",
    "attributesToSearchOn",
    "exhaustiveFacetCount",
];
const SETTINGS: &[&str] = &[
    "searchableAttributes",
    "displayedAttributes",
    "filterableAttributes",
    "sortableAttributes",
    "rankingRules",
    "stopWords",
    "synonyms",
    "dictionary",
    "separatorTokens",
    "nonSeparatorTokens",
    "distinctAttribute",
    "typoTolerance",
    "faceting",
    "pagination",
    "proximityPrecision",
    "searchCutoffMs",
    "embedders",
    "prefixSearch",
    "facetSearch",
    "localizedAttributes",
];

/// A document.
pub(super) fn document(id: usize) -> Value {
    let genre = ["drama", "war", "comedy", "Drama"][id % 4];
    json!({
        "id": id, "title": format!("the alien number {id}"), "genre": genre, "year": 1980 + id,
        "_geo": { "lat": 45.0, "lng": id % 90 }, "cast": [{ "name": "Ann" }],
        "_vectors": { "mine": [id as f64 / 40.0, 0.5] },
    })
}

/// The settings of the indexes that have documents.
pub(super) fn settings() -> Value {
    json!({
        "filterableAttributes": ["genre", "year", "_geo", "id"], "sortableAttributes": ["year", "title", "_geo"],
        "embedders": { "mine": { "source": "userProvided", "dimensions": 2 } },
    })
}

/// The body of a request to a route, if there is to be one.
pub(super) fn draw(dice: &mut Dice, path: &str) -> Option<Vec<u8>> {
    if dice.once_in(25) {
        return None;
    }
    let value = if dice.once_in(10) { anything(dice, DEPTH) } else { for_route(dice, path) };
    let mut bytes = value.to_string().into_bytes();
    match dice.below(30) {
        0 => bytes.truncate(dice.below(bytes.len().max(1))),
        1 => bytes.push(0xff),
        2 => bytes = b"[".repeat(20_000),
        3 => bytes.extend_from_within(..),
        4 if !bytes.is_empty() => {
            let place = dice.below(bytes.len());
            bytes[place] = dice.below(256) as u8;
        }
        _ => {}
    }
    Some(bytes)
}

fn for_route(dice: &mut Dice, path: &str) -> Value {
    let last = path.rsplit('/').next().unwrap_or_default();
    match last {
        "search" | "explain" => fields(dice, SEARCH),
        "multi-search" => multi_search(dice),
        "facet-search" => fields(dice, FACET_SEARCH),
        "similar" => fields(
            dice,
            &["id", "embedder", "limit", "offset", "filter", "retrieveVectors", "showRankingScore"],
        ),
        "fetch" => fields(dice, &["limit", "offset", "filter", "fields", "ids", "sort", "retrieveVectors"]),
        "documents" => {
            let mut documents: Vec<Value> = (0..dice.below(4)).map(|_| document(dice.below(60))).collect();
            if dice.once_in(3) {
                documents.push(anything(dice, DEPTH));
            }
            if dice.once_in(12) { json!({ "id": 3 }) } else { json!(documents) }
        }
        "delete-batch" => list(dice, |dice| json!(dice.between(-1, 50))),
        "delete" => fields(dice, &["filter"]),
        "edit" => fields(dice, &["filter", "function", "context"]),
        "settings" => fields(dice, SETTINGS),
        "{name}" => {
            let name = *dice.pick(SETTINGS);
            field(dice, name)
        }
        "indexes" | "{uid}" => fields(dice, &["uid", "primaryKey"]),
        "swap-indexes" => list(dice, |dice| fields(dice, &["indexes", "rename"])),
        "keys" | "{key}" => fields(dice, &["name", "description", "actions", "indexes", "expiresAt", "uid"]),
        "webhooks" | "{uuid}" => fields(dice, &["url", "headers"]),
        "export" => fields(dice, &["url", "apiKey", "payloadSize", "indexes"]),
        "experimental-features" => {
            fields(dice, &["metrics", "containsFilter", "network", "editDocumentsByFunction"])
        }
        "verify" => fields(dice, &["index", "shards", "repair"]),
        "promote" => fields(dice, &["node", "index", "confirm"]),
        _ => anything(dice, DEPTH),
    }
}

fn multi_search(dice: &mut Dice) -> Value {
    let mut body = Map::new();
    let queries = list(dice, |dice| {
        let mut query = fields(dice, SEARCH);
        query["indexUid"] = json!(dice.pick(&INDEXES[..3]));
        if dice.once_in(3) {
            query["federationOptions"] = fields(dice, &["weight", "queryPosition"]);
        }
        query
    });
    body.insert("queries".to_owned(), queries);
    if dice.once_in(2) {
        let federation =
            fields(dice, &["limit", "offset", "page", "hitsPerPage", "facetsByIndex", "mergeFacets"]);
        body.insert("federation".to_owned(), federation);
    }
    Value::Object(body)
}

/// Some of the fields, seldom one that is not known.
fn fields(dice: &mut Dice, known: &[&str]) -> Value {
    let mut object = Map::new();
    for _ in 0..=dice.below(known.len().min(5)) {
        let name = *dice.pick(known);
        let value = if dice.once_in(8) { anything(dice, DEPTH) } else { field(dice, name) };
        // By default an embedder asks somebody outside.
        if name != "embedders" || !value.is_object() || value == settings()["embedders"] {
            object.insert(name.to_owned(), value);
        }
    }
    if dice.once_in(20) {
        object.insert((*dice.pick(&ODD)).to_owned(), anything(dice, DEPTH));
    }
    Value::Object(object)
}

fn field(dice: &mut Dice, name: &str) -> Value {
    match name {
        "q" | "facetQuery" | "description" | "name" | "context" => json!(dice.pick(&QUERIES)),
        "filter" => match dice.below(3) {
            0 => json!([[dice.pick(&FILTERS), dice.pick(&FILTERS)], dice.pick(&FILTERS)]),
            _ => json!(dice.pick(&FILTERS)),
        },
        "sort" | "rankingRules" => list(dice, |dice| json!(dice.pick(&SORTS))),
        "limit" | "offset" | "page" | "hitsPerPage" | "cropLength" | "searchCutoffMs" | "queryPosition"
        | "id" => {
            let high = if dice.once_in(8) { i64::MAX } else { 40 };
            json!(dice.between(-1, high))
        }
        "rankingScoreThreshold" | "weight" => json!(dice.unit() * 3.0 - 1.0),
        "vector" => list(dice, |dice| json!(dice.unit())),
        "hybrid" => json!({ "embedder": dice.pick(&["mine", "other"]), "semanticRatio": dice.unit() * 1.2 }),
        "embedder" => json!(dice.pick(&["mine", "other", ""])),
        "embedders" if dice.once_in(2) => settings()["embedders"].clone(),
        "embedders" => dice.pick(&[Value::Null, json!(7), json!([])]).clone(),
        "facetName" | "primaryKey" | "distinct" | "distinctAttribute" => json!(dice.pick(&ATTRIBUTES)),
        "matchingStrategy" => json!(dice.pick(&["all", "last", "frequency", "first"])),
        "proximityPrecision" | "prefixSearch" => {
            json!(dice.pick(&["byWord", "byAttribute", "disabled", "no"]))
        }
        "indexUid" | "uid" | "index" => json!(dice.pick(&INDEXES)),
        "indexes" => list(dice, |dice| json!(dice.pick(&INDEXES))),
        "ids" | "shards" => list(dice, |dice| json!(dice.between(-1, 60))),
        "actions" => list(dice, |dice| json!(dice.pick(&["*", "search", "documents.*", "keys.get", "fly"]))),
        "expiresAt" => {
            dice.pick(&[Value::Null, json!("2999-01-01"), json!("1999-01-01T00:00:00Z"), json!("?")]).clone()
        }
        "url" => json!(NOBODY),
        "headers" | "synonyms" => json!({ *dice.pick(&ODD): dice.pick(&ODD), "a": ["b", "c"] }),
        "function" => {
            json!(dice.pick(&["doc.year += 1", "doc = ()", "loop {}", "throw 1", ")", "doc.id = 3"]))
        }
        "typoTolerance" => {
            json!({ "enabled": dice.once_in(2), "minWordSizeForTypos": { "oneTypo": dice.between(-1, 300) } })
        }
        "faceting" => {
            json!({ "maxValuesPerFacet": dice.between(-1, 4000), "sortFacetValuesBy": { "*": "count" } })
        }
        "pagination" => json!({ "maxTotalHits": dice.between(-1, 2000) }),
        "facetsByIndex" => json!({ "films": ["genre", "nothing"] }),
        "mergeFacets" => json!({ "maxValuesPerFacet": dice.between(-1, 9) }),
        "node" => json!(dice.pick(&["meili-0", "meili-9"])),
        "locales" => list(dice, |dice| json!(dice.pick(&["eng", "jpn", "fr", "klingon"]))),
        // Never confirmed: it is meant to lose something.
        "confirm" => json!(false),
        name if name.ends_with("Attributes")
            || name.starts_with("attributes")
            || name == "facets"
            || name == "fields" =>
        {
            list(dice, |dice| json!(dice.pick(&ATTRIBUTES)))
        }
        name if name.ends_with("okens") || name == "stopWords" || name == "dictionary" => {
            list(dice, |dice| json!(dice.pick(&ODD)))
        }
        _ => json!(dice.once_in(2)),
    }
}

fn list(dice: &mut Dice, item: impl Fn(&mut Dice) -> Value) -> Value {
    let length = if dice.once_in(40) { 300 } else { dice.below(4) };
    Value::Array((0..length).map(|_| item(dice)).collect())
}

/// Any JSON.
fn anything(dice: &mut Dice, depth: usize) -> Value {
    match dice.below(if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(dice.once_in(2)),
        2 => json!(dice.between(i64::MIN, i64::MAX)),
        3 => json!(dice.unit() * 1e300),
        4 => json!(dice.pick(&ODD)),
        5 => json!("x".repeat(dice.below(3_000))),
        6 => Value::Array((0..dice.below(4)).map(|_| anything(dice, depth - 1)).collect()),
        _ => {
            let field = |dice: &mut Dice| ((*dice.pick(&ATTRIBUTES)).to_owned(), anything(dice, depth - 1));
            Value::Object((0..dice.below(4)).map(|_| field(dice)).collect())
        }
    }
}
