//! Control over HTTP: what a handle can read and do, for those who have none.
//!
//! | File | Holds |
//! |---|---|
//! | `routes.rs` | which path does what |
//! | `query.rs` | what stands behind the `?` |
//! | `report.rs` | the cluster, its faults, moves and journal as JSON |
//! | `snapshots.rs` | snapshots, by number |
//! | `follow.rs` | the journal as a stream |
//! | `refusal.rs` | what is refused, as JSON |
//!
//! The words of rules and moves are those of a scenario, read by the same reader. `CONTROL.md`
//! describes the requests.
//!
//! *Invariants*
//! 1. A request's body has at most [`BODY_BYTES_MAX`] bytes, its head [`HEAD_BYTES_MAX`] and one
//!    read; at most [`CONNECTIONS_MAX`] connections are served at once, and the next ones wait.
//! 2. No request panics the cluster's thread or holds it up: waits are bounded, and journals are
//!    copied in slices.
//!
//! *Source*: none in Kafka; this is the mock's own.
//!
//! *Not here*: authentication. Whoever reaches the address controls the cluster.

mod follow;
mod query;
mod refusal;
mod report;
mod routes;
mod snapshots;

use core::convert::Infallible;
use core::time::Duration;
use std::sync::{Arc, Mutex};

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::io::driver::Driver;
use follow::Chunks;
use snapshots::Snapshots;

/// What a request may read and do.
#[derive(Debug)]
pub(crate) struct Control {
    driver: Arc<Driver>,
    bootstrap_servers: String,
    /// Becomes true when somebody asks for the end.
    shutdown: watch::Sender<bool>,
    snapshots: Mutex<Snapshots>,
}

type Body = Either<Full<Bytes>, Chunks>;

impl Control {
    pub(crate) fn new(driver: Arc<Driver>, bootstrap_servers: String) -> Self {
        let (shutdown, _) = watch::channel(false);
        Self {
            driver,
            bootstrap_servers,
            shutdown,
            snapshots: Mutex::default(),
        }
    }

    /// Waits until somebody asks for the end.
    pub(crate) async fn shutdown_requested(&self) {
        let mut asked = self.shutdown.subscribe();
        // The sender lives in this value.
        let _ = asked.wait_for(|asked| *asked).await;
    }
}

/// Serves whoever connects; never ends.
pub(crate) async fn serve(listener: TcpListener, control: Arc<Control>) {
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let control = Arc::clone(&control);
                connections.spawn(async move {
                    serve_connection(stream, control).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of the control");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection(stream: TcpStream, control: Arc<Control>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let control = Arc::clone(&control);
        async move { Ok::<Response<Body>, Infallible>(routes::answer(&control, request).await) }
    });
    let mut http = http1::Builder::new();
    http.max_buf_size(HEAD_BYTES_MAX);
    let served = http.serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of the control ended");
    }
}

/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a request's line and headers.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Connections that are served at once.
const CONNECTIONS_MAX: usize = 256;

/// Out of file descriptors, an accept fails at once and again: no busy loop.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(10);
