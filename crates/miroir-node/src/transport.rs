//! The HTTP client that all nodes are called with: one for each thread.
//!
//! A connection belongs to the thread that opened it. Were connections shared, most calls would wake another
//! thread to send them and be woken by it for the answer, which on a search of a millisecond is a tenth of it.
//!
//! Each answer tells whether the connection on which it came is still open ([`ConnectionWatch`]). As long as it is, whoever answers at that
//! address is the process that gave the answer.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::header::CONNECTION;
use http::{Request, Uri, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tower::Service;

use crate::call::CallBody;

/// How long a new connection may take before the node counts as unreachable.
const CONNECT_LIMIT: Duration = Duration::from_millis(1_000);
/// How long a connection that is not used is kept.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

type Body = UnsyncBoxBody<Bytes, Infallible>;

thread_local! {
    static CLIENT: Client<WatchingConnector, Body> = {
        let mut connector = HttpConnector::new();
        // Without TCP_NODELAY a call on a kept connection may wait 40 ms for the node's acknowledgement.
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_LIMIT));
        Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_timer(TokioTimer::new())
            .build(WatchingConnector(connector))
    };
}

/// The connection on which an answer came, for those who want to know how long it has been open, and whether it still is.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionWatch {
    end: watch::Receiver<()>,
    opened: Instant,
}

impl ConnectionWatch {
    pub(crate) fn of(response: &http::Response<Incoming>) -> Option<Self> {
        response.extensions().get::<Self>().cloned()
    }

    /// When it was opened.
    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// Whether it is still open.
    pub(crate) fn is_open(&self) -> bool {
        self.end.has_changed().is_ok()
    }

    /// Waits until it is not.
    pub(crate) async fn until_closed(mut self) {
        // Nothing is ever sent; the sender goes with the connection.
        while self.end.changed().await.is_ok() {}
    }
}

/// Whether a server is going to close the connection of an answer, which then says nothing about the server.
pub(crate) fn announces_close(response: &http::Response<Incoming>) -> bool {
    let values = response.headers().get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let closes =
        values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("close"));
    closes || response.version() < Version::HTTP_11
}

/// Opens connections that tell when they end.
#[derive(Debug, Clone)]
struct WatchingConnector(HttpConnector);

impl Service<Uri> for WatchingConnector {
    type Response = WatchedConnection;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<WatchedConnection, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let opening = self.0.call(uri);
        Box::pin(async move {
            Ok(WatchedConnection {
                stream: opening.await?,
                end: watch::Sender::new(()),
                opened: Instant::now(),
            })
        })
    }
}

/// A connection that tells when it ends: whoever drives it drops it then.
struct WatchedConnection {
    stream: TokioIo<TcpStream>,
    end: watch::Sender<()>,
    opened: Instant,
}

impl Connection for WatchedConnection {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(ConnectionWatch { end: self.end.subscribe(), opened: self.opened })
    }
}

impl Read for WatchedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for WatchedConnection {
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
