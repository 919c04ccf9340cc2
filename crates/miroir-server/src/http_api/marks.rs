//! `Idempotency-Key` and `X-Miroir-Session`: what clients say about requests in headers.
//!
//! A write records them with its task. A read of a session waits here, before any route sees it, until what the
//! session wrote to that index can be read; no route has to know.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::RequestExt;
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method};
use miroir_core::access::Access;
use miroir_core::error::ApiError;
use miroir_core::marks::{RequestDigest, parse_mark};
use miroir_core::search::MultiSearch;
use miroir_store::{IdempotencyKey, TaskUid, WriteMarks};
use tokio::time::Instant;

use super::answer::Failure;
use crate::cluster::Cluster;
use crate::store_error;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SESSION: HeaderName = HeaderName::from_static("x-miroir-session");
const SESSION_BEHIND: HeaderName = HeaderName::from_static("x-miroir-session-behind");

/// What the headers of a write say about it, before its body is known.
pub struct Marks {
    idempotency: Option<(String, RequestDigest)>,
    session: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Marks {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let key = mark(&parts.headers, &IDEMPOTENCY_KEY, "miroir_invalid_idempotency_key")?;
        let begin = || RequestDigest::begin(parts.method.as_str(), parts.uri.path(), parts.uri.query());
        let holder = parts.extensions.get::<Access>().and_then(Access::key_uid);
        let idempotency = key.map(|key| (scoped(key, holder), begin()));
        let session = session(&parts.headers)?.map(str::to_owned);
        Ok(Self { idempotency, session })
    }
}

impl Marks {
    /// What is recorded for a request with this body. Reads the body through when there is a key.
    pub fn with_body(self, body: &[u8]) -> WriteMarks {
        let keyed =
            |(key, digest): (String, RequestDigest)| IdempotencyKey { key, digest: digest.finish(body) };
        WriteMarks { idempotency: self.idempotency.map(keyed), session: self.session }
    }

    /// What is recorded for a request whose body, if it has one, means nothing.
    pub fn without_body(self) -> WriteMarks {
        self.with_body(&[])
    }
}

/// An idempotency key as it is stored: the clients of one API key neither meet the keys of another's nor learn of its
/// tasks. A space is in neither.
fn scoped(key: &str, holder: Option<&str>) -> String {
    holder.map_or_else(|| key.to_owned(), |holder| format!("{holder} {key}"))
}

/// Makes reads with a session wait for what the session wrote.
pub async fn read_your_writes(
    State(cluster): State<Arc<Cluster>>,
    mut request: Request,
    next: Next,
) -> Response {
    if !request.headers().contains_key(&SESSION) || !is_read(&request) {
        return next.run(request).await;
    }
    let behind = match wait_for_session(&cluster, &mut request).await {
        Ok(behind) => behind,
        Err(error) => return Failure(error).into_response(),
    };
    let mut response = next.run(request).await;
    note_behind(&mut response, behind);
    response
}

/// Says that an answer does not show a task of the session.
pub fn note_behind(response: &mut Response, behind: Option<TaskUid>) {
    if let Some(task) = behind {
        response.headers_mut().insert(SESSION_BEHIND, HeaderValue::from(task));
    }
}

/// Whether it reads one index: only that has something to wait for.
fn is_read(request: &Request) -> bool {
    let path = request.uri().path();
    if !path.starts_with("/indexes/") {
        return false;
    }
    match *request.method() {
        Method::GET | Method::HEAD => true,
        Method::POST => {
            const READS: [&str; 5] = ["/search", "/facet-search", "/similar", "/explain", "/documents/fetch"];
            READS.iter().any(|end| path.ends_with(end))
        }
        _ => false,
    }
}

async fn wait_for_session(cluster: &Cluster, request: &mut Request) -> Result<Option<TaskUid>, ApiError> {
    let parameters = request.extract_parts::<RawPathParams>().await.ok();
    let uid = parameters.as_ref().and_then(|all| all.iter().find(|(name, _)| *name == "uid"));
    let (Some(session), Some((_, uid))) = (session(request.headers())?, uid) else { return Ok(None) };
    cluster.wait_for_session(session, uid).await
}

/// Makes several searches with a session wait for what the session wrote to any of their indexes; then a task that
/// some of them may not show.
pub async fn wait_for_indexes(
    cluster: &Cluster,
    headers: &HeaderMap,
    multi: &MultiSearch,
) -> Result<Option<TaskUid>, ApiError> {
    let Some(session) = session(headers)? else { return Ok(None) };
    let uids: BTreeSet<String> = multi.index_uids().map(|(_, uid)| uid).collect();
    let mut behind = None;
    let deadline = Instant::now() + cluster.config.node_timeout;
    for uid in uids {
        behind = behind.max(cluster.wait_for_session_until(session, &uid, deadline).await?);
    }
    Ok(behind)
}

impl Cluster {
    /// Waits until no task of the session about this index is unfinished, as long as a read may take; then the
    /// one that still is.
    async fn wait_for_session(&self, session: &str, uid: &str) -> Result<Option<TaskUid>, ApiError> {
        let deadline = Instant::now() + self.config.node_timeout;
        self.wait_for_session_until(session, uid, deadline).await
    }

    async fn wait_for_session_until(
        &self,
        session: &str,
        uid: &str,
        deadline: Instant,
    ) -> Result<Option<TaskUid>, ApiError> {
        loop {
            let finished = self.task_finished.notified();
            tokio::pin!(finished);
            // Before the store is asked, so that an end right after the question is not missed.
            finished.as_mut().enable();
            let unfinished = self.store.session_task(session, uid).await.map_err(store_error)?;
            if unfinished.is_none() || tokio::time::timeout_at(deadline, finished).await.is_err() {
                return Ok(unfinished);
            }
        }
    }
}

fn session(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    mark(headers, &SESSION, "miroir_invalid_session")
}

/// The value of a header that may be given once.
fn mark<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    code: &'static str,
) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(|value| parse_mark(value.as_bytes())), values.next()) {
        (None, _) => Ok(None),
        (Some(Some(mark)), None) => Ok(Some(mark)),
        _ => Err(ApiError::bad_request(
            code,
            format!("The header `{name}` must be given once, with 1 to 255 visible ASCII characters."),
        )),
    }
}
