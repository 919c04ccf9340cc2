//! A TCP proxy in front of a server that misbehaves on demand: slow, cut, deaf, or gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// A running proxy; it ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    fault: Arc<watch::Sender<Fault>>,
    requests: Arc<AtomicU64>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy to `upstream` (`host:port`).
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let fault = Arc::new(watch::Sender::new(Fault::None));
        let (upstream, faults) = (upstream.to_owned(), Arc::clone(&fault));
        let requests = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&requests);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, upstream.clone(), faults.subscribe(), Arc::clone(&count)));
            }
        });
        Self { address, fault, requests, accepting }
    }

    /// `http://host:port` of the proxy.
    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Pieces of requests that came so far. A small request is one piece.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Changes how bytes are treated from now on.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
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
    requests: Arc<AtomicU64>,
) {
    let Ok(server) = TcpStream::connect(&upstream).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = copy(from_client, to_server, fault.clone(), Some(requests));
    let down = copy(from_server, to_client, fault.clone(), None);
    tokio::select! {
        _ = async { tokio::join!(up, down) } => {}
        _ = fault.wait_for(|fault| *fault == Fault::Reset) => {}
    }
}

/// Copies one direction, counting requests if it is theirs. What is swallowed is swallowed for good, as a lost
/// packet's connection would be.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    fault: watch::Receiver<Fault>,
    requests: Option<Arc<AtomicU64>>,
) {
    let answers = requests.is_none();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if let Some(requests) = &requests {
            requests.fetch_add(1, Ordering::Relaxed);
        }
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
