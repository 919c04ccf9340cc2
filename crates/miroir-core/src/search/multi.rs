//! Several searches in one request: taken apart, and their answers or their errors put together.
//!
//! Every query becomes the body of a search of its own. What is wrong with the form of a request is found before any
//! query is answered, and is told by a node. It must not answer the queries for that; so it is sent them behind one
//! that fails, as the first, as soon as anything is answered at all.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::request::{Changes, ClientBody, ForwardRaw};
use super::scan::write_json;
use crate::error::ApiError;

/// Begins with a query that has the options of a federated search, which is refused in any other.
const REFUSED_QUERY: &str = r#"{"indexUid":"x","federationOptions":{}}"#;
/// The code of that refusal.
const REFUSED_CODE: &str = "invalid_multi_search_federation_options";

/// A request with several searches.
#[derive(Debug, Clone)]
pub struct MultiSearch {
    body: ClientBody,
    queries: Vec<Box<RawValue>>,
}

/// One query of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The index it searches.
    pub index_uid: String,
    /// The body of the search.
    pub body: Vec<u8>,
    /// It has options that only a federated search may have.
    pub has_federation_options: bool,
}

impl MultiSearch {
    /// Reads a request as far as it concerns all queries together.
    pub fn parse(body: &[u8]) -> Result<Self, ForwardRaw> {
        let body = ClientBody::parse(body)?;
        let queries: Vec<Box<RawValue>> = body.optional("queries")?.ok_or(ForwardRaw)?;
        if body.names().any(|name| name != "queries" && name != "federation") {
            return Err(ForwardRaw);
        }
        Ok(Self { body, queries })
    }

    /// Whether one list of hits is asked for, and not one of each query.
    pub fn is_federated(&self) -> bool {
        self.body.raw("federation").is_some()
    }

    /// What is asked of all queries together, as its type has it.
    pub(super) fn federation<T: DeserializeOwned>(&self) -> Option<T> {
        self.body.optional("federation").ok().flatten()
    }

    /// A query of a federated search: its index, all of it, and its options.
    #[allow(clippy::type_complexity)]
    pub(super) fn federated_query(
        &self,
        index: usize,
    ) -> Result<(String, ClientBody, Option<Box<RawValue>>), ForwardRaw> {
        let raw = self.queries.get(index).ok_or(ForwardRaw)?;
        let query = ClientBody::parse(raw.get().as_bytes())?;
        let index_uid = query.optional("indexUid")?.ok_or(ForwardRaw)?;
        let options = query.optional("federationOptions")?;
        Ok((index_uid, query, options))
    }

    /// The body by which a node tells what is wrong with a federated search: with everything but hits.
    pub fn federated_body_to_check(&self) -> Vec<u8> {
        let Some(Ok(federation)) = self.body.raw("federation").map(|raw| ClientBody::parse(raw.as_bytes()))
        else {
            return self.body.write_with(&Changes::default());
        };
        let mut paging = Changes::default();
        // What is wrong is left as it is, to be found wrong.
        for name in ["offset", "limit"] {
            if federation.or_default::<usize>(name, 0).is_ok() {
                paging.set(name, "0");
            }
        }
        let mut changes = Changes::default();
        changes.set("federation", String::from_utf8_lossy(&federation.write_with(&paging)).into_owned());
        self.body.write_with(&changes)
    }

    /// How many queries there are.
    pub fn len(&self) -> usize {
        self.queries.len()
    }

    /// Whether there is no query.
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// The places of queries and the uids of their indexes, as far as they can be read.
    pub fn index_uids(&self) -> impl Iterator<Item = (usize, String)> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct OfIndex {
            index_uid: String,
        }
        self.queries.iter().enumerate().filter_map(|(index, query)| {
            Some((index, serde_json::from_str::<OfIndex>(query.get()).ok()?.index_uid))
        })
    }

    /// A query, read.
    pub fn query(&self, index: usize) -> Result<Query, ForwardRaw> {
        let raw = self.queries.get(index).ok_or(ForwardRaw)?;
        let query = ClientBody::parse(raw.get().as_bytes())?;
        let index_uid = query.optional("indexUid")?.ok_or(ForwardRaw)?;
        let mut changes = Changes::default();
        changes.remove("indexUid");
        changes.remove("federationOptions");
        // Here they may be null, and in a search of its own they may not.
        for name in ["offset", "limit"] {
            if query.raw(name).is_none() {
                changes.remove(name);
            }
        }
        Ok(Query {
            index_uid,
            body: query.write_with(&changes),
            has_federation_options: query.raw("federationOptions").is_some(),
        })
    }

    /// The body by which a node tells what is wrong with the form of the request, without answering any query.
    pub fn body_to_check(&self) -> Vec<u8> {
        let length: usize = self.queries.iter().map(|query| query.get().len() + 1).sum();
        let mut queries = String::with_capacity(length + REFUSED_QUERY.len() + 2);
        queries.push('[');
        queries.push_str(REFUSED_QUERY);
        for query in &self.queries {
            queries.push(',');
            queries.push_str(query.get());
        }
        queries.push(']');
        let mut changes = Changes::default();
        changes.set("queries", queries);
        self.body.write_with(&changes)
    }

    /// The error for a query that failed, given the refusal of a node that was sent [`MultiSearch::body_to_check`].
    pub fn error(
        &self,
        index: usize,
        error: ApiError,
        has_federation_options: bool,
        refusal: ApiError,
    ) -> ApiError {
        if refusal.status != 400 {
            return inside(index, error);
        }
        let is_of_form = refusal.code != REFUSED_CODE || !refusal.message.starts_with("Inside `.queries[0]`");
        match (is_of_form, has_federation_options) {
            (true, _) => {
                ApiError { message: renumbered(&refusal.message, |index| index.saturating_sub(1)), ..refusal }
            }
            (false, true) => ApiError { message: renumbered(&refusal.message, |_| index), ..refusal },
            (false, false) => inside(index, error),
        }
    }
}

/// The error of a query as that of the request it is in.
pub fn inside(index: usize, mut error: ApiError) -> ApiError {
    if error.code == "index_not_found" {
        // The index is not part of the path here.
        error.status = 400;
    }
    error.message = format!("Inside `.queries[{index}]`: {}", error.message);
    error
}

/// Writes the answer of one query into that of all. `answer` is a JSON object.
pub fn write_result(out: &mut Vec<u8>, index_uid: &str, answer: &[u8]) {
    out.extend_from_slice(if out.is_empty() { b"{\"results\":[" } else { b"," });
    out.extend_from_slice(b"{\"indexUid\":");
    write_json(out, index_uid);
    match answer.strip_prefix(b"{") {
        Some(b"}") | None => out.push(b'}'),
        Some(members) => {
            out.push(b',');
            out.extend_from_slice(members);
        }
    }
}

/// Ends the answer of all queries.
pub fn finish_results(mut out: Vec<u8>) -> Vec<u8> {
    out.extend_from_slice(if out.is_empty() { b"{\"results\":[]}" } else { b"]}" });
    out
}

/// Changes the numbers of queries in a message: the first place in brackets, and those after a `#`.
fn renumbered(message: &str, number: impl Fn(usize) -> usize) -> String {
    let mut shown = message.to_owned();
    for (introduction, limit) in [(".queries[", 1), ("query #", usize::MAX)] {
        let mut pieces = shown.splitn(limit.saturating_add(1), introduction);
        let mut changed = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            changed.push_str(introduction);
            let digits = piece.find(|character: char| !character.is_ascii_digit()).unwrap_or(piece.len());
            let (index, rest) = piece.split_at(digits);
            match index.parse() {
                Ok(index) => changed.push_str(&number(index).to_string()),
                Err(_) => changed.push_str(index),
            }
            changed.push_str(rest);
        }
        shown = changed;
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(raw: &str) -> Result<Query, ForwardRaw> {
        MultiSearch::parse(format!(r#"{{"queries":[{raw}]}}"#).as_bytes()).unwrap().query(0)
    }

    fn refusal(code: &'static str, message: &str) -> ApiError {
        ApiError::bad_request(code, message)
    }

    #[test]
    fn a_query_is_a_search_of_its_own() {
        let read =
            query(r#"{"q":"x","indexUid":"a","limit":null,"offset":3,"federationOptions":null}"#).unwrap();
        assert_eq!(read.index_uid, "a");
        assert_eq!(read.body, br#"{"q":"x","offset":3}"#);
        assert!(!read.has_federation_options);
        assert!(query(r#"{"indexUid":"a","federationOptions":{}}"#).unwrap().has_federation_options);
        for wrong in ["{}", "1", r#"{"indexUid":1}"#, r#"{"indexUid":null}"#] {
            assert_eq!(query(wrong), Err(ForwardRaw), "{wrong}");
        }
        for wrong in ["{}", "[]", r#"{"queries":{}}"#, r#"{"queries":null}"#, r#"{"queries":[],"new":1}"#] {
            assert!(MultiSearch::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let parse = |body: &str| MultiSearch::parse(body.as_bytes()).unwrap();
        assert!(parse(r#"{"queries":[],"federation":{}}"#).is_federated());
        assert!(!parse(r#"{"queries":[],"federation":null}"#).is_federated());
    }

    #[test]
    fn what_is_checked_fails_before_any_query_is_answered() {
        let multi =
            MultiSearch::parse(br#"{"queries":[{"q":1},{"indexUid":"a"}],"federation":null}"#).unwrap();
        let expected =
            format!(r#"{{"queries":[{REFUSED_QUERY},{{"q":1}},{{"indexUid":"a"}}],"federation":null}}"#);
        assert_eq!(multi.body_to_check(), expected.as_bytes());
    }

    #[test]
    fn the_form_of_the_request_goes_before_what_a_query_says() {
        let multi = MultiSearch::parse(br#"{"queries":[]}"#).unwrap();
        let own = || {
            ApiError::new(
                404,
                "index_not_found",
                crate::error::ErrorType::InvalidRequest,
                "Index `a` not found.",
            )
        };
        let of_form = refusal(
            "invalid_search_q",
            "Invalid value type at `.queries[4].q`: expected, but found `.queries[4]`",
        );
        let found = multi.error(1, own(), false, of_form);
        assert_eq!(found.message, "Invalid value type at `.queries[3].q`: expected, but found `.queries[4]`");
        let options =
            || refusal(REFUSED_CODE, "Inside `.queries[0]`: not allowed: remove it from query #0 or else");
        let found = multi.error(7, own(), false, options());
        assert_eq!((found.status, &*found.message), (400, "Inside `.queries[7]`: Index `a` not found."));
        let found = multi.error(7, own(), true, options());
        assert_eq!(found.message, "Inside `.queries[7]`: not allowed: remove it from query #7 or else");
        let other = refusal(REFUSED_CODE, "Unknown field at `.queries[2].federationOptions`");
        assert_eq!(
            multi.error(7, own(), true, other).message,
            "Unknown field at `.queries[1].federationOptions`"
        );
        let no_node = ApiError::internal("no node");
        assert_eq!(multi.error(7, own(), true, no_node).code, "index_not_found");
    }

    #[test]
    fn results_name_their_index() {
        let mut out = Vec::new();
        write_result(&mut out, "a", br#"{"hits":[]}"#);
        write_result(&mut out, "b", b"{}");
        assert_eq!(finish_results(out), br#"{"results":[{"indexUid":"a","hits":[]},{"indexUid":"b"}]}"#);
        assert_eq!(finish_results(Vec::new()), br#"{"results":[]}"#);
    }
}
