//! In and out of service, against a socket that answers every request with a version, or accepts and says nothing.

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
                    if told.load(Ordering::Relaxed) && stream.write_all(VERSION).await.is_err() {
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
    fn recognise<'a>(&'a self, _node: &'a Arc<Node>) -> BoxFuture<'a, Option<String>> {
        let verdict = self.0.lock().unwrap().clone().err();
        async move { verdict }.boxed()
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
