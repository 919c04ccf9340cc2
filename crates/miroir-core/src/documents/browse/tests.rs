//! Pages of several nodes, merged, against what one Meilisearch 1.21 answered holding the same documents.

use proptest::prelude::*;

use super::*;
use crate::hidden::{SHARD_FIELD, encode_position};

/// The documents given to a real Meilisearch for the expectations below: `v` and `n.m` of ids 0, 1, 2...
fn values() -> Vec<Option<Value>> {
    let values = json!([
        3, "b", null, "absent", [5, 1], ["z", "a"], [2, "q"], "B", "É", "e\u{301}", " x ", "x", 1.5, true, {}, [],
        "10", -1, {"k": 4}, [null], "ab", "absent", "ÀB", ["é", 7]
    ]);
    values.as_array().unwrap().iter().map(|value| (value != "absent").then(|| value.clone())).collect()
}

fn position_of_id(id: usize) -> u64 {
    (if id % 2 == 1 { 1000 - id } else { id }) as u64
}

fn document(id: usize) -> Value {
    let mut document = json!({
        "id": id,
        SHARD_FIELD: "!!!!",
        INSERTED_AT_FIELD: encode_position(position_of_id(id)),
        "n": {"m": id % 4},
    });
    if let Some(value) = &values()[id] {
        document["v"] = value.clone();
    }
    document
}

fn page(ids: &[usize], total: usize) -> Bytes {
    let results: Vec<Value> = ids.iter().map(|id| document(*id)).collect();
    Bytes::from(json!({"results": results, "offset": 0, "limit": 100, "total": total}).to_string())
}

fn plan(body: &Value) -> BrowsePlan {
    BrowsePlan::from_fetch(body.to_string().as_bytes()).unwrap()
}

fn ids_of(answer: &[u8]) -> Vec<usize> {
    let answer: Value = serde_json::from_slice(answer).unwrap();
    let results = answer["results"].as_array().unwrap();
    results.iter().map(|document| document["id"].as_u64().unwrap() as usize).collect()
}

/// The whole list as Meilisearch 1.21 answered it, for each `sort`: documents without a value left out, those
/// with numbers and strings twice.
fn recorded() -> Vec<(Value, Vec<usize>)> {
    vec![
        (
            json!([]),
            vec![0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1],
        ),
        (json!(["v:asc"]), vec![17, 4, 12, 6, 0, 23, 16, 5, 20, 22, 7, 1, 8, 23, 9, 6, 13, 10, 11]),
        (json!(["v:desc"]), vec![23, 4, 0, 6, 12, 17, 5, 10, 11, 13, 6, 8, 23, 9, 7, 1, 22, 20, 16]),
        (
            json!(["n.m:desc"]),
            vec![23, 19, 15, 11, 7, 3, 2, 6, 10, 14, 18, 22, 21, 17, 13, 9, 5, 1, 0, 4, 8, 12, 16, 20],
        ),
        (
            json!(["n.m:desc", "v:asc"]),
            vec![23, 7, 23, 11, 6, 22, 6, 10, 17, 5, 1, 9, 13, 4, 12, 0, 16, 20, 8],
        ),
    ]
}

#[test]
fn merged_lists_are_those_of_one_meilisearch() {
    for (sort, expected) in recorded() {
        for nodes in 1..=4 {
            let pages: Vec<Bytes> = (0..nodes)
                .map(|node| {
                    let part: Vec<usize> =
                        expected.iter().copied().filter(|id| id * 7 % nodes == node).collect();
                    page(&part, part.len())
                })
                .collect();
            let plan = plan(&json!({"sort": sort, "limit": 100}));
            assert_eq!(ids_of(&plan.merge(&pages).unwrap()), expected, "{sort} over {nodes} nodes");
        }
    }
}

proptest! {
    /// Whatever the distribution and the page: asking each node for `offset + limit` documents is enough, and
    /// the two-round way gives the same answer.
    #[test]
    fn any_page_of_any_distribution_is_right(
        owners in prop::collection::vec(0usize..4, 24), which in 0usize..5, offset in 0usize..30, limit in 0usize..10,
    ) {
        let (sort, list) = recorded().swap_remove(which);
        let plan = plan(&json!({"sort": sort, "offset": offset, "limit": limit, "fields": ["id"]}));
        let pages: Vec<Bytes> = (0..4)
            .map(|node| {
                let part: Vec<usize> = list.iter().copied().filter(|id| owners[*id] == node).collect();
                page(&part[..part.len().min(offset + limit)], part.len())
            })
            .collect();
        let answer = plan.merge(&pages).unwrap();
        let expected: Vec<usize> = list.iter().copied().skip(offset).take(limit).collect();
        prop_assert_eq!(ids_of(&answer), expected);

        let selection = plan.select(&pages).unwrap();
        let parts: Vec<Bytes> = (0..4)
            .filter_map(|node| {
                let body: Value = serde_json::from_slice(&plan.page_body(&selection, node)?).unwrap();
                let filter = body["filter"][0].as_str().unwrap().to_owned();
                let is_asked = |id: &usize| filter.contains(&encode_position(position_of_id(*id)));
                let asked: Vec<usize> = (0..24).filter(|id| owners[*id] == node).filter(is_asked).collect();
                Some(page(&asked, asked.len()))
            })
            .collect();
        prop_assert_eq!(plan.merge_selected(&selection, &parts).unwrap(), answer);
    }
}

#[test]
fn only_what_was_asked_for_is_answered() {
    let answer = |body: Value| {
        let answer = plan(&body).merge(&[page(&[4], 1), page(&[], 2)]).unwrap();
        String::from_utf8(answer).unwrap()
    };
    let envelope =
        |document: &str| format!("{{\"results\":[{document}],\"offset\":0,\"limit\":20,\"total\":3}}");
    assert_eq!(answer(json!({})), envelope(r#"{"id":4,"n":{"m":0},"v":[5,1]}"#));
    assert_eq!(answer(json!({"fields": ["id"], "sort": ["v:asc"]})), envelope(r#"{"id":4}"#));
    assert_eq!(
        answer(json!({"fields": ["id", "v"], "sort": ["n.m:asc"]})),
        envelope(r#"{"id":4,"v":[5,1]}"#)
    );
    assert_eq!(answer(json!({"fields": [SHARD_FIELD], "sort": ["v:asc"]})), envelope("{}"));
}

#[test]
fn nodes_are_asked_for_enough_and_restricted_by_an_added_condition() {
    let plan = plan(&json!({
        "offset": 10, "limit": 5, "filter": "a = 1 OR b = 2", "fields": ["x"], "sort": ["p.q:desc"], "ids": [1, "2"],
    }));
    let body: Value = serde_json::from_slice(&plan.body(Some(&[ShardId(1)]))).unwrap();
    assert_eq!(
        body,
        json!({
            "filter": ["a = 1 OR b = 2", "_miroir_shard IN [\"!!!%\"]"],
            "ids": ["1", "2"],
            "sort": ["p.q:desc", "_miroir_inserted_at:asc"],
            "fields": ["x", "_miroir_inserted_at", "p.q"],
            "retrieveVectors": false,
            "limit": 15,
        })
    );
    let slim: Value = serde_json::from_slice(&plan.slim_body(None)).unwrap();
    assert_eq!(slim["fields"], json!(["_miroir_inserted_at", "p.q"]));
    assert_eq!(slim["filter"], json!(["a = 1 OR b = 2"]));
    let list = BrowsePlan::from_fetch(br#"{"filter":[["a=1","b=2"],"c=3"]}"#).unwrap();
    let body: Value = serde_json::from_slice(&list.body(Some(&[ShardId(0)]))).unwrap();
    assert_eq!(body["filter"], json!([["a=1", "b=2"], "c=3", "_miroir_shard IN [\"!!!!\"]"]));
    assert_eq!(body["sort"], json!(["_miroir_inserted_at:asc"]));
    assert!(body.get("fields").is_none());
    let empty = BrowsePlan::from_fetch(br#"{"filter":" "}"#).unwrap();
    let body: Value = serde_json::from_slice(&empty.body(None)).unwrap();
    assert!(body.get("filter").is_none());
}

#[test]
fn both_spellings_make_the_same_plan() {
    let query = BrowsePlan::from_query([
        ("offset", "3"),
        ("limit", "1"),
        ("limit", "4"),
        ("fields", "id,a.b"),
        ("ids", "1,x"),
        ("filter", "[\"a>2\"]"),
        ("sort", "_geoPoint(1.5,2):asc,v:desc"),
        ("retrieveVectors", "true"),
    ]);
    let body = plan(&json!({
        "offset": 3, "limit": 4, "fields": ["id", "a.b"], "ids": [1, "x"], "filter": ["a>2"],
        "sort": ["_geoPoint(1.5,2):asc", "v:desc"], "retrieveVectors": true,
    }));
    assert_eq!(query, Ok(body));
    let text = BrowsePlan::from_query([("filter", "a > 2"), ("fields", "id,*"), ("ids", "")]).unwrap();
    assert_eq!(text, plan(&json!({"filter": "a > 2", "ids": []})));
}

#[test]
fn what_is_wrong_is_left_to_a_node_to_refuse() {
    for body in [
        "",
        "[]",
        "{",
        "null",
        r#"{"offset":-1}"#,
        r#"{"limit":"1"}"#,
        r#"{"foo":1}"#,
        r#"{"ids":["a b"]}"#,
        r#"{"ids":[1.5]}"#,
        r#"{"ids":"1"}"#,
        r#"{"filter":1}"#,
        r#"{"sort":["v"]}"#,
        r#"{"sort":"v:asc"}"#,
        r#"{"sort":["_geo:asc"]}"#,
        r#"{"sort":["_geoPoint(100,0):asc"]}"#,
        r#"{"sort":["_geoDistance(1):asc"]}"#,
    ] {
        assert_eq!(BrowsePlan::from_fetch(body.as_bytes()), Err(NoPlan::AskANode), "{body}");
    }
    for parameter in [
        ("limit", "a"),
        ("offset", ""),
        ("retrieveVectors", "1"),
        ("foo", "1"),
        ("sort", ""),
        ("filter", "5"),
        ("ids", "1,,2"),
    ] {
        assert_eq!(BrowsePlan::from_query([parameter]), Err(NoPlan::AskANode), "{parameter:?}");
    }
    let hidden = BrowsePlan::from_fetch(br#"{"sort":["_miroir_inserted_at:asc"]}"#);
    assert!(matches!(hidden, Err(NoPlan::Refused(error)) if error.code == "invalid_document_sort"));
}

#[test]
fn a_node_without_documents_or_without_the_field_is_no_error() {
    let plan = plan(&json!({"sort": ["v:asc"]}));
    let error = |attribute: &str| {
        let message = format!(
            "Attribute `{attribute}` is not sortable. Available sortable attributes are: `_miroir_inserted_at, v`."
        );
        let body = ApiError::bad_request("invalid_document_sort", message).body();
        Bytes::from(serde_json::to_vec(&body).unwrap())
    };
    assert_eq!(plan.classify(400, error(INSERTED_AT_FIELD)), NodeAnswer::Empty);
    assert!(matches!(plan.classify(400, error("v")), NodeAnswer::LacksSortedField(_)));
    assert!(matches!(plan.classify(400, error("w")), NodeAnswer::Refused(_)));
    assert!(matches!(plan.classify(502, Bytes::from_static(b"x")), NodeAnswer::Refused(_)));
    assert_eq!(plan.classify(200, Bytes::from_static(b"{}")), NodeAnswer::Page(Bytes::from_static(b"{}")));
}

#[test]
fn places_within_a_metre_are_equally_far() {
    let places = [(0, 10.0, 5), (1, 0.0, 9), (2, 0.000_004, 2), (3, 0.001, 1)];
    let mut results: Vec<Value> = places
        .iter()
        .map(|(id, latitude, position)| {
            json!({"id": id, "_geo": {"lat": latitude, "lng": "0"}, INSERTED_AT_FIELD: encode_position(*position)})
        })
        .collect();
    results.push(json!({"id": 4, INSERTED_AT_FIELD: encode_position(0)}));
    let pages: Vec<Bytes> = results
        .iter()
        .map(|document| Bytes::from(json!({"results": [document], "total": 1}).to_string()))
        .collect();
    let listed = |sort: &str| ids_of(&plan(&json!({"sort": [sort]})).merge(&pages).unwrap());
    assert_eq!(listed("_geoPoint(0,0):asc"), [2, 1, 3, 0, 4]);
    assert_eq!(listed("_geoPoint(0,0):desc"), [0, 3, 2, 1, 4]);
}

#[test]
fn a_node_is_never_asked_for_more_than_there_can_be() {
    let plan = BrowsePlan::from_fetch(br#"{"offset": 7, "limit": 18446744073709551615}"#).unwrap();
    let limit = |body: Vec<u8>| serde_json::from_slice::<Value>(&body).unwrap()["limit"].clone();
    assert_eq!(limit(plan.clone().of_at_most(40).body(None)), 40);
    assert_eq!(limit(plan.clone().of_at_most(40).from_position_body(None, 3)), 40);
    let few = BrowsePlan::from_fetch(br#"{"limit": 2}"#).unwrap();
    assert_eq!(limit(few.of_at_most(40).body(None)), 2);
    assert_eq!(plan.of_at_most(40).limit(), usize::MAX, "the client is told what it asked for");
}
