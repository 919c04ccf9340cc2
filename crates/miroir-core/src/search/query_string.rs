//! `GET /search`: the parameters of a URL as the body of the equivalent `POST`.
//!
//! Everything in a URL is text, so each parameter is read as its type demands. One that cannot be, or is not
//! known, would be refused by a node in words about the URL, so the request is then forwarded as it came.

use serde_json::{Map, Value};

use super::request::ForwardRaw;

/// The body of the `POST` equivalent to a `GET` with this query string.
pub fn body_from_query_string(query: &str) -> Result<Vec<u8>, ForwardRaw> {
    let mut body = Map::new();
    let mut embedder = None;
    let mut semantic_ratio = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name);
        let text = decode(value);
        let value = match name.as_str() {
            "hybridEmbedder" => {
                embedder = Some(text);
                continue;
            }
            "hybridSemanticRatio" => {
                semantic_ratio = Some(float(&text)?);
                continue;
            }
            "matchingStrategy" if !["last", "all", "frequency"].contains(&text.as_str()) => {
                return Err(ForwardRaw);
            }
            "q" | "distinct" | "highlightPreTag" | "highlightPostTag" | "cropMarker" | "matchingStrategy" => {
                Value::String(text)
            }
            "offset" | "limit" | "page" | "hitsPerPage" | "cropLength" => {
                Value::from(text.parse::<usize>().map_err(|_| ForwardRaw)?)
            }
            "retrieveVectors"
            | "showMatchesPosition"
            | "showRankingScore"
            | "showRankingScoreDetails"
            | "showPerformanceDetails"
            | "useNetwork" => Value::from(text.parse::<bool>().map_err(|_| ForwardRaw)?),
            "attributesToRetrieve"
            | "attributesToCrop"
            | "attributesToHighlight"
            | "facets"
            | "attributesToSearchOn"
            | "locales" => split(&text).map(Value::from).collect(),
            "vector" => split(&text).map(float).collect::<Result<Value, _>>()?,
            "rankingScoreThreshold" => float(&text)?,
            "sort" => sort_criteria(&text).into(),
            "filter" => serde_json::from_str(&text).unwrap_or(Value::String(text)),
            _ => return Err(ForwardRaw),
        };
        body.insert(name, value);
    }
    match (embedder, semantic_ratio) {
        (Some(embedder), ratio) => {
            let mut hybrid = Map::from_iter([("embedder".to_owned(), Value::String(embedder))]);
            hybrid.extend(ratio.map(|ratio| ("semanticRatio".to_owned(), ratio)));
            body.insert("hybrid".to_owned(), hybrid.into());
        }
        (None, Some(_)) => return Err(ForwardRaw),
        (None, None) if body.contains_key("vector") => return Err(ForwardRaw),
        (None, None) => {}
    }
    serde_json::to_vec(&body).map_err(|_| ForwardRaw)
}

/// The body of the `POST` equivalent to a `GET` for similar documents with this query string.
pub fn similar_body_from_query_string(query: &str) -> Result<Vec<u8>, ForwardRaw> {
    const AS_IN_SEARCH: [&str; 8] = [
        "offset",
        "limit",
        "attributesToRetrieve",
        "retrieveVectors",
        "filter",
        "showRankingScore",
        "showRankingScoreDetails",
        "rankingScoreThreshold",
    ];
    let mut own = Map::new();
    let mut others = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name);
        match name.as_str() {
            "id" | "embedder" => {
                own.insert(name, Value::String(decode(value)));
            }
            name if AS_IN_SEARCH.contains(&name) => others.push(pair),
            _ => return Err(ForwardRaw),
        }
    }
    let others = body_from_query_string(&others.join("&"))?;
    own.extend(serde_json::from_slice::<Map<String, Value>>(&others).map_err(|_| ForwardRaw)?);
    serde_json::to_vec(&own).map_err(|_| ForwardRaw)
}

/// Undoes the encoding of forms: `+` is a space and `%` introduces a byte.
fn decode(text: &str) -> String {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = hex(bytes.get(at + 1)).zip(hex(bytes.get(at + 2)));
        match (byte, escaped) {
            (b'%', Some((high, low))) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 2;
            }
            (b'+', _) => decoded.push(b' '),
            _ => decoded.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The elements of a comma-separated list; nothing at all is the empty list.
fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(move |_| !text.is_empty())
}

fn float(text: &str) -> Result<Value, ForwardRaw> {
    let number: f64 = text.parse().map_err(|_| ForwardRaw)?;
    serde_json::Number::from_f64(number).map(Value::Number).ok_or(ForwardRaw)
}

/// Splits at commas, but not at the one between the coordinates of a point.
fn sort_criteria(text: &str) -> Vec<String> {
    let mut criteria: Vec<String> = Vec::new();
    let mut is_inside_point = false;
    for part in text.trim_matches('"').split(',').map(str::trim) {
        match criteria.last_mut() {
            Some(point) if is_inside_point && !part.starts_with("_geoPoint(") => {
                point.push(',');
                point.push_str(part);
                is_inside_point = !(part.ends_with("):asc") || part.ends_with("):desc"));
            }
            _ => {
                criteria.push(part.to_owned());
                is_inside_point = part.starts_with("_geoPoint(");
            }
        }
    }
    criteria
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(query: &str) -> Value {
        serde_json::from_slice(&body_from_query_string(query).unwrap()).unwrap()
    }

    #[test]
    fn every_type_is_read() {
        assert_eq!(
            body("q=caf%C3%A9+noir&limit=3&showRankingScore=true&facets=a,b&rankingScoreThreshold=0.5"),
            json!({ "q": "café noir", "limit": 3, "showRankingScore": true, "facets": ["a", "b"],
                    "rankingScoreThreshold": 0.5 })
        );
        assert_eq!(body("filter=a%20%3D%201"), json!({ "filter": "a = 1" }));
        assert_eq!(body("filter=%5B%22a%22%5D"), json!({ "filter": ["a"] }));
        assert_eq!(body("facets="), json!({ "facets": [] }));
        assert_eq!(body("attributesToRetrieve=,a,"), json!({ "attributesToRetrieve": ["", "a", ""] }));
        assert_eq!(body("limit=1&limit=2"), json!({ "limit": 2 }));
        assert_eq!(body(""), json!({}));
        assert_eq!(body("q=100%&q"), json!({ "q": "" }));
    }

    #[test]
    fn hybrid_parameters_become_one() {
        assert_eq!(
            body("hybridEmbedder=e&hybridSemanticRatio=0.25&vector=1,0.5"),
            json!({ "vector": [1.0, 0.5], "hybrid": { "embedder": "e", "semanticRatio": 0.25 } })
        );
        assert_eq!(body("hybridEmbedder=e"), json!({ "hybrid": { "embedder": "e" } }));
    }

    #[test]
    fn similar_documents_have_fewer_parameters() {
        let body = |query| similar_body_from_query_string(query).map(|body| String::from_utf8(body).unwrap());
        assert_eq!(
            body("id=7&embedder=e&limit=3&attributesToRetrieve=a,b").as_deref(),
            Ok(r#"{"id":"7","embedder":"e","limit":3,"attributesToRetrieve":["a","b"]}"#)
        );
        assert_eq!(body("id=7&q=x"), Err(ForwardRaw));
        assert_eq!(body("id=7&limit=x"), Err(ForwardRaw));
    }

    #[test]
    fn points_are_not_split() {
        assert_eq!(
            sort_criteria("_geoPoint(1.5, 2):asc, price:desc"),
            ["_geoPoint(1.5,2):asc", "price:desc"]
        );
        assert_eq!(sort_criteria("\"a:asc,b:desc\""), ["a:asc", "b:desc"]);
    }

    #[test]
    fn what_a_node_would_refuse_is_forwarded() {
        for query in [
            "limit=",
            "limit=-1",
            "showRankingScore=1",
            "nonsense=1",
            "vector=1,2",
            "hybridSemanticRatio=0.5",
            "rankingScoreThreshold=nan",
            "matchingStrategy=best",
        ] {
            assert_eq!(body_from_query_string(query), Err(ForwardRaw), "{query}");
        }
    }
}
