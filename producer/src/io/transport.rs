//! How connections are made: over TCP, or in memory for tests.
//!
//! *Invariants*
//! 1. A failed attempt says for each address that was tried how it failed.
//!
//! *Not here*: when to connect and how long it may take (the engine), what goes over a connection
//! (`connection.rs`).

use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

use crate::engine::effect::Address;

/// A connection's two directions.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for T {}

/// A connection being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>;

/// Makes connections. Closures are connectors too.
pub trait Connector: Send + Sync + 'static {
    /// Starts to connect. Dropping the future gives the attempt up.
    fn connect(&self, address: Address) -> Connecting;
}

impl<F> Connector for F
where
    F: Fn(Address) -> Connecting + Send + Sync + 'static,
{
    fn connect(&self, address: Address) -> Connecting {
        self(address)
    }
}

/// Connects over TCP: resolves the name and tries each of its addresses in turn.
#[derive(Clone, Copy, Debug)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn connect(&self, address: Address) -> Connecting {
        Box::pin(connect_tcp(address))
    }
}

async fn connect_tcp(address: Address) -> io::Result<Box<dyn Transport>> {
    let mut failures = Vec::new();
    for resolved in lookup_host((&*address.host, address.port)).await? {
        match TcpStream::connect(resolved).await {
            Ok(stream) => {
                // Requests are written whole: waiting to fill a segment only delays them.
                stream.set_nodelay(true)?;
                return Ok(Box::new(stream));
            }
            Err(error) => failures.push(format!("{resolved}: {error}")),
        }
    }
    if failures.is_empty() {
        failures.push("the name has no address".to_owned());
    }
    Err(io::Error::other(failures.join("; ")))
}
