//! What every request passes before its route is known, as with Meilisearch: slashes too many in the path mean nothing,
//! bytes in it that are no text stand for the sign of that, and pages from anywhere may ask (CORS). Otherwise no search box in a browser could.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderValue,
    ORIGIN, VARY,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};
use percent_encoding::percent_decode_str;

use crate::write::encode;

const EVERYWHERE: HeaderValue = HeaderValue::from_static("*");
const METHODS: HeaderValue =
    HeaderValue::from_static("OPTIONS, CONNECT, PATCH, GET, DELETE, POST, PUT, HEAD, TRACE");
const ONE_DAY: HeaderValue = HeaderValue::from_static("86400");
const WHAT_IT_DEPENDS_ON: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

/// Takes slashes away that are doubled or at the end, and makes text of what is none.
pub fn tidy_path(mut request: Request) -> Request {
    if let Some(tidy) = tidy(request.uri()) {
        *request.uri_mut() = tidy;
    }
    request
}

/// The same in order; `None` when it is.
fn tidy(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let has_slashes = path.contains("//") || (path.len() > 1 && path.ends_with('/'));
    if !has_slashes && is_text(path) {
        return None;
    }
    let mut tidy = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        tidy.push('/');
        if is_text(part) {
            tidy.push_str(part);
        } else {
            tidy.push_str(&encode(&percent_decode_str(part).decode_utf8_lossy()));
        }
    }
    if tidy.is_empty() {
        tidy.push('/');
    }
    if let Some(query) = uri.query() {
        tidy.push('?');
        tidy.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(tidy).ok()?);
    Uri::from_parts(parts).ok()
}

fn is_text(part: &str) -> bool {
    !part.contains('%') || percent_decode_str(part).decode_utf8().is_ok()
}

/// Tells browsers that any page may ask anything. Keys say what is allowed, not where somebody comes from.
pub async fn allow_browsers(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let is_preflight =
        *request.method() == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let is_from_page = is_preflight || headers.contains_key(ORIGIN);
    let mut response = if is_preflight { preflight(headers) } else { next.run(request).await };
    response.headers_mut().append(VARY, WHAT_IT_DEPENDS_ON);
    if is_from_page {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, EVERYWHERE);
    }
    response
}

/// The answer to a browser that asks before it asks.
fn preflight(headers: &HeaderMap) -> Response {
    let mut response = ().into_response();
    let answer = response.headers_mut();
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    answer.insert(ACCESS_CONTROL_MAX_AGE, ONE_DAY);
    if let Some(wanted) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tidied(uri: &str) -> String {
        let uri: Uri = uri.parse().unwrap();
        tidy(&uri).unwrap_or(uri).to_string()
    }

    #[test]
    fn slashes_too_many_are_taken_away() {
        assert_eq!(tidied("/indexes/"), "/indexes");
        assert_eq!(tidied("//indexes//movies//?q=a//b/"), "/indexes/movies?q=a//b/");
        assert_eq!(tidied("/"), "/");
        assert_eq!(tidied("//"), "/");
        assert_eq!(tidied("/indexes/a%2F"), "/indexes/a%2F");
        assert_eq!(tidied("/indexes/%ff/%41"), "/indexes/%EF%BF%BD/%41", "it is not text");
        assert_eq!(tidied("http://localhost/health/"), "http://localhost/health");
    }
}
