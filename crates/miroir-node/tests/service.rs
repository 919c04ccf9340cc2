//! In and out of service, against a socket that answers every request with a version but those for tasks, as a node
//! with a broken database does, or accepts and says nothing.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use miroir_core::health::HealthState;
use miroir_node::{Call, Fleet, Node, NodeCheck, NodeError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const NO_LIMIT: Duration = Duration::from_secs(3_600);
const VERSION: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 23\r\n\r\n{\"pkgVersion\":\"1.21.0\"}";
const BROKEN: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 9\r\n\r\nMDB_PANIC";

/// A socket that answers while it is told to, and its address.
async fn server() -> (Arc<AtomicBool>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answers = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&answers);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while let Ok(1..) = stream.read(&mut request).await {
                    let answer = if request.starts_with(b"GET /tasks") { BROKEN } else { VERSION };
                    if told.load(Ordering::Relaxed) && stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (answers, address)
}

/// Says what it was told to say.
struct Verdict(Mutex<Result<(), String>>);

impl NodeCheck for Verdict {
    fn recognise<'a>(&'a self, _node: &'a Arc<Node>) -> BoxFuture<'a, Result<Option<String>, NodeError>> {
        let verdict = self.0.lock().unwrap().clone().err();
        async move { Ok(verdict) }.boxed()
    }

    fn check<'a>(&'a self, node: &'a Arc<Node>) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let reached = node.send(&Call::get("/stats", NO_LIMIT)).await;
            assert!(reached.is_ok(), "a node that is being checked can be called: {reached:?}");
            self.0.lock().unwrap().clone()
        }
        .boxed()
    }
}

#[tokio::test]
async fn nobody_is_in_service_without_a_check() {
    let (_answers, address) = server().await;
    let fleet = Fleet::new([("a", 0, address.as_str())], None).unwrap();
    let node = fleet.get("a").unwrap();
    assert_eq!(node.health().state(), HealthState::Recovering);
    let check = Verdict(Mutex::new(Err("it has another disk".to_owned())));
    fleet.probe_once(&check).await;
    assert!(!node.health().is_up());
    assert_eq!(node.health().last_error().as_deref(), Some("it has another disk"));
    *check.0.lock().unwrap() = Ok(());
    fleet.probe_once(&check).await;
    assert_eq!(node.health().state(), HealthState::Healthy);
    assert_eq!(node.health().version().as_deref(), Some("1.21.0"));
}

/// Lets everyone in, and recognises those who can tell of their tasks.
struct TellsOfTasks;

impl NodeCheck for TellsOfTasks {
    fn recognise<'a>(&'a self, node: &'a Arc<Node>) -> BoxFuture<'a, Result<Option<String>, NodeError>> {
        async move { node.send(&Call::get("/tasks", NO_LIMIT)).await.map(|_| None) }.boxed()
    }

    fn check<'a>(&'a self, _node: &'a Arc<Node>) -> BoxFuture<'a, Result<(), String>> {
        async { Ok(()) }.boxed()
    }
}

#[tokio::test]
async fn one_that_cannot_read_its_own_data_goes_out_of_service() {
    let (_answers, address) = server().await;
    let fleet = Fleet::new([("a", 0, address.as_str())], None).unwrap();
    let node = fleet.get("a").unwrap();
    let mut states = Vec::new();
    for _ in 0..3 {
        fleet.probe_once(&TellsOfTasks).await;
        states.push(node.health().state());
        assert!(node.send(&Call::get("/health", NO_LIMIT)).await.is_ok() || !node.health().is_up());
    }
    assert_eq!(states, [HealthState::Healthy, HealthState::Suspect, HealthState::Down]);
    let reason = node.health().last_error().unwrap();
    assert!(reason.contains("status 500: MDB_PANIC"), "{reason}");
}

#[tokio::test]
async fn a_call_in_flight_ends_when_its_node_goes_down() {
    let (answers, address) = server().await;
    let fleet = Fleet::new([("a", 0, address.as_str())], None).unwrap();
    let node = fleet.get("a").unwrap();
    answers.store(false, Ordering::Relaxed);
    let call = Call::get("/health", NO_LIMIT);
    let mut waiting = Box::pin(node.send(&call));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert_eq!(node.in_flight(), 1);
    node.disown("nonsense");
    assert!(
        matches!(waiting.await, Err(NodeError::Unreachable { reason, .. }) if reason.contains("nonsense"))
    );
    assert!(matches!(node.send(&call).await, Err(NodeError::Unreachable { .. })), "nobody waits for it");
    assert_eq!(node.in_flight(), 0);
}

#[tokio::test]
async fn where_nobody_listens_is_known_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let fleet = Fleet::new([("a", 0, address.as_str())], None).unwrap();
    let node = fleet.get("a").unwrap();
    assert!(node.send(&Call::get("/health", NO_LIMIT)).await.is_err());
    assert_eq!(node.health().state(), HealthState::Down);
    assert!(node.health().last_error().is_some());
}

/// A node gives up connections that were opened and not used, and may do so while the first request is on its way.
#[tokio::test]
async fn a_call_that_a_node_says_never_came_is_sent_again() {
    const CLOSING: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    const NO_REQUEST: &[u8] =
        b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answering = tokio::spawn(async move {
        for answer in [NO_REQUEST, CLOSING, NO_REQUEST, NO_REQUEST, NO_REQUEST] {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(answer).await.unwrap();
        }
    });
    let fleet = Fleet::new([("a", 0, address.as_str())], None).unwrap();
    let node = fleet.get("a").unwrap();
    let call = Call::get("/version", NO_LIMIT);
    assert_eq!(node.send(&call).await.unwrap().status.as_u16(), 200);
    assert!(matches!(node.send(&call).await, Err(NodeError::Unreachable { .. })));
    answering.await.unwrap();
}
