//! The HTTP client that all nodes are called with: one for each thread.
//!
//! A connection belongs to the thread that opened it. Were connections shared, most calls would wake another
//! thread to send them and be woken by it for the answer, which on a search of a millisecond is a tenth of it.
//!
//! Each connection knows since when it has been open, and so does each answer that came on it: a server that was stopped
//! and started again, on another disk perhaps, answers on connections that are younger than that.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower::Service;

use crate::call::CallBody;

/// How long a new connection may take before the node counts as unreachable.
const CONNECT_LIMIT: Duration = Duration::from_millis(1_000);
/// How long a connection that is not used is kept.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

type Body = UnsyncBoxBody<Bytes, Infallible>;

thread_local! {
    static CLIENT: Client<Connector, Body> = {
        let mut connector = HttpConnector::new();
        // Without TCP_NODELAY a call on a kept connection may wait 40 ms for the node's acknowledgement.
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_LIMIT));
        Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_timer(TokioTimer::new())
            .build(Connector(connector))
    };
}

/// Since when the connection of an answer has been open, as one of its extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenSince(pub Instant);

/// Opens connections that know since when they have been open.
#[derive(Debug, Clone)]
struct Connector(HttpConnector);

impl Service<Uri> for Connector {
    type Response = Open;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Open, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let opening = self.0.call(uri);
        Box::pin(async move {
            let stream = opening.await?;
            Ok(Open { stream, since: OpenSince(Instant::now()) })
        })
    }
}

/// A connection.
struct Open {
    stream: TokioIo<TcpStream>,
    since: OpenSince,
}

impl Connection for Open {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.since)
    }
}

impl Read for Open {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Open {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
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
