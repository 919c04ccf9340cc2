//! The HTTP client that all nodes are called with: one for each thread.
//!
//! A connection belongs to the thread that opened it. Were connections shared, most calls would wake another
//! thread to send them and be woken by it for the answer, which on a search of a millisecond is a tenth of it.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::call::CallBody;

/// How long a new connection may take before the node counts as unreachable.
const CONNECT_LIMIT: Duration = Duration::from_millis(1_000);
/// How long a connection that is not used is kept.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

type Body = UnsyncBoxBody<Bytes, Infallible>;

thread_local! {
    static CLIENT: Client<HttpConnector, Body> = {
        let mut connector = HttpConnector::new();
        // Without TCP_NODELAY a call on a kept connection may wait 40 ms for the node's acknowledgement.
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_LIMIT));
        Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_timer(TokioTimer::new())
            .build(connector)
    };
}

/// Sends a request on a connection of this thread. It has to be driven by the runtime it was made on.
pub(crate) async fn send(request: Request<Body>) -> Result<http::Response<Incoming>, Error> {
    let client = CLIENT.with(Client::clone);
    client.request(request).await
}

/// The body of a call, from its beginning.
pub(crate) fn body(body: &CallBody) -> Body {
    match body {
        CallBody::Empty => Full::default().boxed_unsync(),
        CallBody::Json(bytes) => Full::new(bytes.clone()).boxed_unsync(),
        CallBody::Ndjson(chunks) => {
            StreamBody::new(stream::iter(chunks().map(|chunk| Ok(Frame::data(chunk))))).boxed_unsync()
        }
    }
}
