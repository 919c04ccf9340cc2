//! Adding the filter of a tenant token to a search, in whatever form the search came.

use bytes::Bytes;
use miroir_core::access::{Access, refused, restricted};
use miroir_core::error::ApiError;
use miroir_core::search::{ForwardRaw, body_from_query_string, inside, similar_body_from_query_string};
use serde_json::{Map, Value};

use super::SearchInput;

impl SearchInput {
    /// The same search, which finds nothing that the rule does not let through; an error with the search itself when it
    /// cannot be understood. That must not be answered, whatever else could be made of it.
    pub fn restricted_by(self, rule: &Value) -> Result<Self, Self> {
        self.restricted_when_read_by(body_from_query_string, rule)
    }

    /// The same for a request for similar documents.
    pub fn similar_restricted_by(self, rule: &Value) -> Result<Self, Self> {
        self.restricted_when_read_by(similar_body_from_query_string, rule)
    }

    fn restricted_when_read_by(
        self,
        read: fn(&str) -> Result<Vec<u8>, ForwardRaw>,
        rule: &Value,
    ) -> Result<Self, Self> {
        match self {
            Self::Body(body) => restricted_body(&body, rule).map(Self::Body).ok_or(Self::Body(body)),
            Self::Query(query) => {
                let body = read(&query).ok();
                let body = body.and_then(|body| restricted_body(&body, rule));
                body.map(Self::Body).ok_or(Self::Query(query))
            }
        }
    }
}

/// The searches of several indexes in one body, each restricted by its own rule, or the error when one is not for the
/// caller; `None` when the body cannot be understood.
pub fn restricted_searches(body: &Bytes, access: &Access) -> Option<Result<Bytes, ApiError>> {
    if access.is_unlimited() {
        return Some(Ok(body.clone()));
    }
    let mut fields: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let faceted = fields.get("federation").and_then(|federation| federation.get("facetsByIndex"));
    let mut faceted = faceted.and_then(Value::as_object).into_iter().flat_map(Map::keys);
    if faceted.any(|uid| !access.allows_index(uid)) {
        // What is wrong with such a list tells whether the index is there and how it is set.
        return Some(Err(refused()));
    }
    let queries = fields.get_mut("queries").and_then(Value::as_array_mut);
    for (place, query) in queries.into_iter().flatten().enumerate() {
        let Some(query) = query.as_object_mut() else { continue };
        let Some(uid) = query.get("indexUid").and_then(Value::as_str).map(str::to_owned) else { continue };
        if !access.allows_index(&uid) {
            return Some(Err(inside(place, refused())));
        }
        if let Some(rule) = access.search_filter(&uid) {
            let filter = restricted(query.get("filter").cloned(), rule);
            query.insert("filter".to_owned(), filter);
        }
    }
    Some(Ok(Value::Object(fields).to_string().into()))
}

/// `None` when it is not an object.
pub fn restricted_body(body: &[u8], rule: &Value) -> Option<Bytes> {
    let mut fields: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let filter = restricted(fields.get("filter").cloned(), rule);
    fields.insert("filter".to_owned(), filter);
    Some(Value::Object(fields).to_string().into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filter_of(input: SearchInput) -> Option<Value> {
        match input.restricted_by(&json!("user = 7")).ok()? {
            SearchInput::Body(body) => {
                Some(serde_json::from_slice::<Value>(&body).unwrap()["filter"].clone())
            }
            SearchInput::Query(_) => None,
        }
    }

    #[test]
    fn a_search_cannot_get_around_the_rule() {
        let both = Some(json!(["a = 1 OR user = 8", "user = 7"]));
        let body = r#"{"q":"x","filter":"a = 1 OR user = 8"}"#;
        assert_eq!(filter_of(SearchInput::Body(body.into())), both);
        let query = "q=x&filter=a+%3D+1+OR+user%20=%208&limit=3";
        assert_eq!(filter_of(SearchInput::Query(query.to_owned())), both);
        let twice = "filter=a&f%69lter=b";
        assert_eq!(filter_of(SearchInput::Query(twice.to_owned())), Some(json!(["b", "user = 7"])));
        let twice = r#"{"filter":"a","filter":"b"}"#;
        assert_eq!(filter_of(SearchInput::Body(twice.into())), Some(json!(["b", "user = 7"])));
        assert_eq!(filter_of(SearchInput::Query(String::new())), Some(json!("user = 7")));
        for unreadable in ["limit=many", "unknown=1"] {
            assert_eq!(filter_of(SearchInput::Query(unreadable.to_owned())), None, "{unreadable}");
        }
        for unreadable in ["[]", "{", r#"{"limit":1e999}"#] {
            assert_eq!(filter_of(SearchInput::Body(unreadable.into())), None, "{unreadable}");
        }
    }
}
