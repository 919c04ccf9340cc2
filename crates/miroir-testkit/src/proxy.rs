//! A TCP proxy in front of a server that misbehaves on demand: slow, cut, deaf, or gone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How the proxy treats bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Passes everything.
    None,
    /// Passes everything, each piece this much later.
    Latency(Duration),
    /// Cuts connections, open and new.
    Reset,
    /// Passes requests, never an answer: the server did it and the client cannot know.
    HalfOpen,
    /// Accepts connections and passes nothing.
    Blackhole,
    /// Passes requests, and puts these bytes in the place of the answer.
    Answer(&'static [u8]),
    /// Puts these bytes in the place of the request, and passes the answer: the server finds something wrong.
    Request(&'static [u8]),
}

/// How many requests came, by method and path. Without what follows a `?`, of which there is no end.
#[derive(Debug, Default)]
struct Requests(Mutex<BTreeMap<String, u64>>);

impl Requests {
    /// Counts a piece that begins a request. A client that waits for each answer before it sends its next request
    /// begins it with a piece of its own.
    fn note(&self, piece: &[u8]) {
        let Some(line) = piece.split(|byte| *byte == b'\r').next() else { return };
        let Some(target) = line.strip_suffix(b" HTTP/1.1") else { return };
        let target = String::from_utf8_lossy(target.split(|byte| *byte == b'?').next().unwrap_or_default());
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(target.into_owned()).or_default() += 1;
    }
}

/// A running proxy; it ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    fault: Arc<watch::Sender<Fault>>,
    requests: Arc<Requests>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to `upstream` (`host:port`).
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let fault = Arc::new(watch::Sender::new(Fault::None));
        let (upstream, faults) = (upstream.to_owned(), Arc::clone(&fault));
        let requests = Arc::new(Requests::default());
        let counted = Arc::clone(&requests);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, upstream.clone(), faults.subscribe(), Arc::clone(&counted)));
            }
        });
        Self { address, fault, requests, accepting }
    }

    /// `http://host:port` of the proxy.
    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes how bytes are treated from now on.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// How many requests have come so far whose method and path begin like this, such as `POST /indexes/`.
    pub fn requests(&self, beginning: &str) -> u64 {
        let counts = self.requests.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().filter(|(target, _)| target.starts_with(beginning)).map(|(_, count)| count).sum()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.set(Fault::Reset);
    }
}

async fn serve(
    client: TcpStream,
    upstream: String,
    mut fault: watch::Receiver<Fault>,
    requests: Arc<Requests>,
) {
    let Ok(server) = TcpStream::connect(&upstream).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = copy(from_client, to_server, fault.clone(), Some(&requests));
    let down = copy(from_server, to_client, fault.clone(), None);
    tokio::select! {
        _ = async { tokio::join!(up, down) } => {}
        _ = fault.wait_for(|fault| *fault == Fault::Reset) => {}
    }
}

/// Copies one direction: requests, which are counted, or answers. What is swallowed is swallowed for good, as a
/// lost packet's connection would be.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    fault: watch::Receiver<Fault>,
    requests: Option<&Requests>,
) {
    let answers = requests.is_none();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        requests.inspect(|requests| requests.note(&buffer[..length]));
        let now = *fault.borrow();
        if let Fault::Latency(delay) = now {
            tokio::time::sleep(delay).await;
        }
        let bytes = match now {
            Fault::Answer(bytes) if answers => bytes,
            Fault::Request(bytes) if !answers => bytes,
            Fault::Blackhole => &[],
            Fault::HalfOpen if answers => &[],
            _ => &buffer[..length],
        };
        if to.write_all(bytes).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers every piece with itself, behind a proxy.
    async fn echo() -> (Proxy, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(&listener.local_addr().unwrap().to_string()).await;
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (mut from, mut to) = stream.into_split();
            tokio::io::copy(&mut from, &mut to).await
        });
        let client = TcpStream::connect(proxy.address).await.unwrap();
        (proxy, client)
    }

    async fn exchange(client: &mut TcpStream) -> Option<Vec<u8>> {
        client.write_all(b"ping").await.ok()?;
        let mut answer = vec![0; 64];
        let read = tokio::time::timeout(Duration::from_millis(300), client.read(&mut answer)).await;
        let length = read.ok()?.ok()?;
        answer.truncate(length);
        Some(answer)
    }

    #[tokio::test]
    async fn requests_are_counted_and_bodies_are_not() {
        let (proxy, mut client) = echo().await;
        let pieces: [&[u8]; 3] = [
            b"POST /indexes/shop/search HTTP/1.1\r\nhost: a\r\n\r\n{}",
            b"{\"q\":\"POST /indexes/shop/search\"}",
            b"GET /tasks?uids=1,2 HTTP/1.1\r\nhost: a\r\n\r\n",
        ];
        for piece in pieces {
            client.write_all(piece).await.unwrap();
            client.read_exact(&mut vec![0; piece.len()]).await.unwrap();
        }
        assert_eq!(proxy.requests("POST /"), 1);
        assert_eq!(proxy.requests("GET /tasks"), 1);
        assert_eq!(proxy.requests(""), 2);
    }

    #[tokio::test]
    async fn each_fault_does_what_it_says() {
        let (proxy, mut client) = echo().await;
        assert_eq!(exchange(&mut client).await.as_deref(), Some(&b"ping"[..]));
        proxy.set(Fault::Answer(b"garbage"));
        assert_eq!(exchange(&mut client).await.as_deref(), Some(&b"garbage"[..]));
        proxy.set(Fault::Request(b"pong"));
        assert_eq!(exchange(&mut client).await.as_deref(), Some(&b"pong"[..]));
        proxy.set(Fault::HalfOpen);
        assert_eq!(exchange(&mut client).await, None);
        proxy.set(Fault::Blackhole);
        assert_eq!(exchange(&mut client).await, None);
        proxy.set(Fault::Latency(Duration::from_millis(50)));
        let started = std::time::Instant::now();
        assert_eq!(exchange(&mut client).await.as_deref(), Some(&b"ping"[..]));
        assert!(started.elapsed() >= Duration::from_millis(100), "each direction is late");
        proxy.set(Fault::Reset);
        assert!(matches!(exchange(&mut client).await.as_deref(), None | Some([])));
    }
}
