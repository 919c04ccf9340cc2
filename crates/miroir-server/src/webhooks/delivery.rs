//! Telling a webhook: tasks as lines of JSON, compressed, in one `POST`, as Meilisearch does.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use miroir_store::{Store, StoreError};
use url::Url;

use super::Webhook;
use crate::http_api::task_view;

/// Meilisearch's own.
const LIMIT: Duration = Duration::from_secs(30);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Most tasks of one request.
const MOST_TASKS: usize = 1_000;
/// Bytes after which no task is added to a request, before compression.
const ENOUGH: usize = 1 << 20;
/// What the connection says about itself is not for clients to say.
const NOT_THEIRS: [HeaderName; 4] = [CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING];

/// What a webhook is to be told next.
pub(crate) struct Delivery {
    body: Bytes,
    /// The end of the last task in it.
    pub last: u64,
    /// How many tasks there are.
    pub tasks: usize,
}

impl Delivery {
    /// The tasks that ended since a webhook was told last; `None` when there are none.
    pub async fn next(store: &dyn Store, webhook: &Webhook) -> Result<Option<Self>, StoreError> {
        let ended = store.ended_tasks(webhook.told, MOST_TASKS).await?;
        let (mut lines, mut tasks, mut last) = (Vec::new(), 0, webhook.told);
        for (end, task) in ended {
            if lines.len() > ENOUGH {
                break;
            }
            lines.extend(task_view(&task).to_string().into_bytes());
            lines.push(b'\n');
            (tasks, last) = (tasks + 1, end);
        }
        if tasks == 0 {
            return Ok(None);
        }
        let body = compress(&lines).map_err(|error| StoreError::Invalid(error.to_string()))?;
        Ok(Some(Self { body, last, tasks }))
    }
}

fn compress(lines: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(lines)?;
    Ok(encoder.finish()?.into())
}

/// Sends to webhooks, over TLS where their addresses say so.
#[derive(Clone)]
pub(crate) struct Sender(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Sender {
    /// With the certificate authorities that browsers trust.
    pub fn new() -> Result<Self, rustls::Error> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_LIMIT));
        let provider = rustls::crypto::ring::default_provider();
        let connector = HttpsConnectorBuilder::new().with_provider_and_webpki_roots(provider)?;
        let connector = connector.https_or_http().enable_http1().wrap_connector(tcp);
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }

    /// Tells a webhook; the error is for an operator.
    pub async fn send(&self, webhook: &Webhook, delivery: &Delivery) -> Result<(), String> {
        let request = request(webhook, delivery.body.clone())?;
        let sent = tokio::time::timeout(LIMIT, self.0.request(request)).await;
        let answer = sent
            .map_err(|_| format!("no answer within {} seconds", LIMIT.as_secs()))?
            .map_err(|error| reason(&error))?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("it answered {}", answer.status())) }
    }
}

fn request(webhook: &Webhook, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
    let url = Url::parse(&webhook.url).map_err(|error| error.to_string())?;
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.as_str().parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    for (name, value) in &webhook.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
        let mut value = HeaderValue::from_str(value).map_err(|error| error.to_string())?;
        value.set_sensitive(true);
        if !NOT_THEIRS.contains(&name) {
            headers.insert(name, value);
        }
    }
    Ok(request)
}

/// The error with what caused it: the first alone says only that it did not work.
fn reason(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_a_webhook_go_along_unless_they_are_the_connections() {
        let own = [("Authorization", "Bearer a"), ("content-type", "text/plain"), ("Content-Length", "7")];
        let headers = own.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let webhook = Webhook { url: "https://example.com/a?b".to_owned(), headers, told: 0 };
        let request = request(&webhook, Bytes::from_static(b"{}")).unwrap();
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(request.uri().to_string(), "https://example.com/a?b");
        assert_eq!(header("authorization"), Some("Bearer a"));
        assert_eq!(header("content-type"), Some("text/plain"), "they may say so");
        assert_eq!((header("content-length"), header("content-encoding")), (None, Some("gzip")));
    }

    #[test]
    fn https_is_spoken() {
        Sender::new().unwrap();
    }
}
