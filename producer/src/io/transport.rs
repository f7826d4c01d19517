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
            Err(error) => failures.push((resolved.ip().to_string(), error.to_string())),
        }
    }
    Err(io::Error::other(told(&address.host, &failures)))
}

/// Each address that was tried and how it failed; whoever reports it names host and port.
fn told(host: &str, failures: &[(String, String)]) -> String {
    match failures {
        [] => "the name has no address".to_owned(),
        [(address, error)] if address == host => error.clone(),
        several => {
            let each = several
                .iter()
                .map(|(address, error)| format!("{address}: {error}"));
            each.collect::<Vec<_>>().join("; ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("nowhere", &[], "the name has no address")]
    #[case("10.0.0.1", &[("10.0.0.1", "refused")], "refused")]
    #[case("kafka", &[("10.0.0.1", "refused")], "10.0.0.1: refused")]
    #[case("kafka", &[("::1", "down"), ("10.0.0.1", "refused")], "::1: down; 10.0.0.1: refused")]
    fn each_address_is_told_with_its_failure(
        #[case] host: &str,
        #[case] failures: &[(&str, &str)],
        #[case] expected: &str,
    ) {
        let owned = failures.iter().map(|&(a, e)| (a.to_owned(), e.to_owned()));
        assert_eq!(told(host, &owned.collect::<Vec<_>>()), expected);
    }

    #[tokio::test]
    async fn a_refused_attempt_over_tcp_says_so() {
        // Bound and dropped: nobody listens there.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let free = listener
            .and_then(|l| l.local_addr())
            .expect("a local address");
        let address = Address {
            host: "127.0.0.1".into(),
            port: free.port(),
        };
        let refused = TcpConnector.connect(address).await.map(drop);
        let words = refused.expect_err("nobody listens").to_string();
        assert!(words.contains("refused"), "{words}");
    }
}
