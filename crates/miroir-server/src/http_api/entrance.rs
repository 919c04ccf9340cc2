//! What every request passes before its route is known, as with Meilisearch: slashes too many in the path mean nothing,
//! pages from anywhere may ask (CORS; otherwise no search box in a browser could), and some verbs no route has.
//!
//! Miroir's own routes have none of it but the slashes. They may be open, where no admin key is set, and no page from
//! elsewhere may drive them from a browser that can reach them.

use std::borrow::Cow;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ALLOW, ORIGIN,
    VARY,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::routes::verbs_of_setting;

const VARIES: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");
const ANYONE: HeaderValue = HeaderValue::from_static("*");
const VERBS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE, CONNECT";
const A_DAY: HeaderValue = HeaderValue::from_static("86400");

/// Passes a request on to its route, and completes the answer.
pub async fn pass(mut request: Request, next: Next) -> Response {
    if let Cow::Owned(path) = plain(request.uri().path()) {
        *request.uri_mut() = with_path(request.uri(), &path);
    }
    // Were it refused for that, it would have been carried out before.
    if request.headers().get_all(ACCEPT_ENCODING).iter().any(forbids_plain) {
        request.headers_mut().remove(ACCEPT_ENCODING);
    }
    if request.uri().path().starts_with("/_miroir/") {
        return next.run(request).await;
    }
    if let Some(answer) = preflight(request.method(), request.headers()) {
        return answer;
    }
    let of_setting = verbs_of_setting(request.uri().path());
    // No route of Meilisearch has HEAD, which here comes with GET; and none has TRACE.
    if request.method() == Method::HEAD {
        *request.method_mut() = Method::TRACE;
    }
    let from_a_page = request.headers().contains_key(ORIGIN);
    let mut response = match of_setting {
        // The router takes all settings alike.
        Some(verbs) if !verbs.contains(&request.method().as_str()) => not_allowed(&verbs),
        _ => next.run(request).await,
    };
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        leave_out_head(response.headers_mut());
    }
    response.headers_mut().append(VARY, VARIES);
    if from_a_page {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANYONE);
    }
    response
}

/// Whether a list of encodings has no place for an answer as it is.
fn forbids_plain(encodings: &HeaderValue) -> bool {
    encodings.to_str().unwrap_or_default().split(',').any(|encoding| {
        let (name, weight) = encoding.split_once(';').unwrap_or((encoding, ""));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        matches!(name.trim(), "*" | "identity") && weight == Some(0.0)
    })
}

fn not_allowed(verbs: &[&str]) -> Response {
    let mut response = StatusCode::METHOD_NOT_ALLOWED.into_response();
    if let Ok(verbs) = HeaderValue::from_str(&verbs.join(", ")) {
        response.headers_mut().insert(ALLOW, verbs);
    }
    response
}

/// Says of the verbs of a route only those it has with Meilisearch.
fn leave_out_head(headers: &mut HeaderMap) {
    let verbs = headers.get(ALLOW).and_then(|verbs| verbs.to_str().ok()).unwrap_or_default();
    let verbs: Vec<&str> = verbs.split(',').map(str::trim).filter(|verb| *verb != "HEAD").collect();
    if let Ok(verbs) = HeaderValue::from_str(&verbs.join(", ")) {
        headers.insert(ALLOW, verbs);
    }
}

/// The answer to a browser that asks whether it may send a request, whatever the route.
fn preflight(method: &Method, headers: &HeaderMap) -> Option<Response> {
    let wanted = headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| *method == Method::OPTIONS)?;
    // What cannot be a verb at all is no such question.
    let wanted = Method::from_bytes(wanted.as_bytes()).ok()?;
    if !VERBS.split(", ").any(|verb| verb == wanted.as_str()) {
        let mut refusal = Response::new(Body::from("Requested method is not allowed"));
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        return Some(refusal);
    }
    let mut response = Response::new(Body::empty());
    let answered = response.headers_mut();
    answered.insert(VARY, VARIES);
    answered.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANYONE);
    answered.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(VERBS));
    answered.insert(ACCESS_CONTROL_MAX_AGE, A_DAY);
    if let Some(names) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        answered.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    Some(response)
}

/// A path with one slash where there are several, none at its end, and only texts in it.
fn plain(path: &str) -> Cow<'_, str> {
    let is_text = percent_decode_str(path).decode_utf8().is_ok();
    if path == "/" || is_text && !path.ends_with('/') && !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut whole = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !part.is_empty()) {
        whole.push('/');
        match is_text {
            true => whole.push_str(part),
            false => {
                let text = percent_decode_str(part).decode_utf8_lossy();
                whole.extend(utf8_percent_encode(&text, NON_ALPHANUMERIC));
            }
        }
    }
    if whole.is_empty() { Cow::Borrowed("/") } else { Cow::Owned(whole) }
}

fn with_path(uri: &Uri, path: &str) -> Uri {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    let path_and_query = PathAndQuery::try_from(format!("{path}{query}"));
    path_and_query
        .ok()
        .and_then(|path_and_query| {
            parts.path_and_query = Some(path_and_query);
            Uri::from_parts(parts).ok()
        })
        .unwrap_or_else(|| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_the_slashes_that_say_nothing() {
        for (path, expected) in [
            ("/", "/"),
            ("//", "/"),
            ("/indexes", "/indexes"),
            ("/indexes/", "/indexes"),
            ("//indexes///films//", "/indexes/films"),
            ("/indexes/a%2F%2Fb", "/indexes/a%2F%2Fb"),
            ("/indexes/a%FFb/", "/indexes/a%EF%BF%BDb"),
            ("/indexes/%C3%A9", "/indexes/%C3%A9"),
        ] {
            assert_eq!(plain(path), expected, "{path}");
        }
        let uri = Uri::from_static("//indexes/?limit=1&x=//");
        assert_eq!(with_path(&uri, &plain(uri.path())), "/indexes?limit=1&x=//");
    }
}
