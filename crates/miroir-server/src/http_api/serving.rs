//! The threads that answer clients, each with connections of its own.
//!
//! A search through Miroir is a dozen short steps with a wait after each. On a runtime of several threads every
//! wait that ends wakes one more thread to look for work, which here costs more than the work. So a connection
//! stays on the thread it was given, and with it everything a read does; as many threads as there are processors
//! share the connections. Writes are handed to the runtime the process began with: they may take long.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::{entrance, service};
use crate::cluster::Cluster;

/// Connections that may wait to be taken up by a thread.
const WAITING_CONNECTIONS: usize = 1_024;
/// Shorter than the limits of calls to nodes.
const SOONER_THAN_ANY_LIMIT: Duration = Duration::from_millis(500);
/// Pause after the system refused a connection, which it does when it has no more of something.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Serves until told to stop, then for at most `grace` until what is in flight has been answered.
pub async fn serve(
    cluster: Arc<Cluster>,
    listener: TcpListener,
    stop: &CancellationToken,
    grace: Duration,
) -> io::Result<()> {
    let router = service(cluster);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (running, one_ended) = (TaskTracker::new(), CancellationToken::new());
    let mut handovers = Vec::new();
    for number in 0..threads {
        let (handover, connections) = mpsc::channel(WAITING_CONNECTIONS);
        let alive = (running.token(), one_ended.clone().drop_guard());
        start_thread(number, router.clone(), connections, stop.clone(), alive)?;
        handovers.push(handover);
    }
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        // No service at all is noticed sooner than one that drops every other connection.
        () = one_ended.cancelled() => {
            return Err(io::Error::other("a thread that answers clients has ended"));
        }
        () = hand_out(&listener, &handovers) => {}
    }
    drop((listener, handovers));
    running.close();
    // Threads that are not done by then end with the process.
    if tokio::time::timeout(grace, running.wait()).await.is_err() {
        tracing::warn!("stopped before every request had been answered");
    }
    Ok(())
}

/// Accepts connections and gives them to the threads in turn.
async fn hand_out(listener: &TcpListener, handovers: &[mpsc::Sender<std::net::TcpStream>]) {
    for handover in handovers.iter().cycle() {
        let connection = loop {
            // A connection can be given to another runtime only as the plain one it is beneath.
            match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
                Ok(connection) => break connection,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        };
        if handover.send(connection).await.is_err() {
            tracing::error!("a thread that answers clients has ended");
        }
    }
}

/// Starts a thread that drops `alive` when it ends, however it does.
fn start_thread(
    number: usize,
    router: Router,
    connections: mpsc::Receiver<std::net::TcpStream>,
    stop: CancellationToken,
    alive: impl Send + 'static,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("miroir-serve-{number}")).spawn(move || {
        let listener = HandedOver { connections };
        let service = router.map_request(entrance::tidy_path as fn(Request) -> Request);
        let serving = axum::serve(listener, axum::ServiceExt::<Request>::into_make_service(service))
            .with_graceful_shutdown(stop.cancelled_owned());
        let served = runtime.block_on(async {
            tokio::select! {
                served = serving => served,
                () = keep_a_timer_due() => Ok(()),
            }
        });
        if let Err(error) = served {
            tracing::error!(%error, "a thread that answers clients has ended");
        }
        drop(alive);
    })?;
    Ok(())
}

/// Never ends. A runtime that is given a timer due before all others interrupts its own wait to reckon with it:
/// one more system call for each limit set to a call to a node. With a timer that is always due sooner, it has not to.
async fn keep_a_timer_due() {
    loop {
        tokio::time::sleep(SOONER_THAN_ANY_LIMIT).await;
    }
}

/// The connections given to one thread, as something to serve.
struct HandedOver {
    connections: mpsc::Receiver<std::net::TcpStream>,
}

impl Listener for HandedOver {
    type Io = TcpStream;
    type Addr = ();

    async fn accept(&mut self) -> (TcpStream, ()) {
        loop {
            let Some(connection) = self.connections.recv().await else { std::future::pending().await };
            // Without TCP_NODELAY an answer on a kept connection may wait 40 ms for the client's acknowledgement.
            let taken = connection.set_nodelay(true).and_then(|()| TcpStream::from_std(connection));
            match taken {
                Ok(connection) => return (connection, ()),
                Err(error) => tracing::debug!(%error, "a connection was lost before it was served"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}
