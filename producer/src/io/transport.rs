//! How connections are made: over TCP, or in memory for tests.
//!
//! *Invariants*
//! 1. A failed attempt says for each address that was tried how it failed.
//!
//! *Not here*: when to connect and how long it may take (the engine), what goes over a connection
//! (`connection.rs`).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpSocket, TcpStream};

use crate::engine::effect::Address;
use crate::io::names::Names;

/// A connection's two directions.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Its socket, to be looked at without asking the runtime whether there is something to read.
    fn socket(&self) -> Option<SockRef<'_>> {
        None
    }
}

impl Transport for TcpStream {
    fn socket(&self) -> Option<SockRef<'_>> {
        Some(SockRef::from(self))
    }
}

/// In memory there is nothing to look at.
impl Transport for DuplexStream {}

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

/// Sizes of a socket's buffers in bytes; `None` leaves one to the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketBuffers {
    /// `send.buffer.bytes`.
    pub send_bytes: Option<u32>,
    /// `receive.buffer.bytes`.
    pub receive_bytes: Option<u32>,
}

/// Connects over TCP: resolves the name and tries each of its addresses in turn.
#[derive(Clone, Debug)]
pub(crate) struct TcpConnector {
    buffers: SocketBuffers,
    names: Names,
}

impl TcpConnector {
    /// One that makes sockets with buffers of these sizes, to what these names stand for.
    pub(crate) fn new(buffers: SocketBuffers, names: Names) -> Self {
        Self { buffers, names }
    }
}

impl Connector for TcpConnector {
    fn connect(&self, address: Address) -> Connecting {
        let (buffers, names) = (self.buffers, self.names.clone());
        Box::pin(connect_tcp(address, names, move |to| socket(to, buffers)))
    }
}

/// A socket for an address, its buffers sized before it connects: the size of the receive buffer
/// is offered to the peer then.
fn socket(address: SocketAddr, buffers: SocketBuffers) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    if let Some(bytes) = buffers.send_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = buffers.receive_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    Ok(socket)
}

async fn connect_tcp(
    address: Address,
    names: Names,
    socket: impl Fn(SocketAddr) -> io::Result<TcpSocket>,
) -> io::Result<Box<dyn Transport>> {
    let mut failures = Vec::new();
    for resolved in names.find(&address).await? {
        names.on_tried(&address, resolved);
        // Also one that has no socket here, as of a family that is switched off, is not the last.
        let connected = async {
            let stream = socket(resolved)?.connect(resolved).await?;
            // Requests are written whole: waiting to fill a segment only delays them.
            stream.set_nodelay(true)?;
            io::Result::Ok(stream)
        };
        match connected.await {
            Ok(stream) => return Ok(Box::new(stream)),
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
    use crate::io::names::tests::Table;
    use crate::io::names::{DnsLookup, Resolver, SystemResolver};
    use rstest::rstest;
    use std::sync::Arc;
    use tokio::net::TcpListener;

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

    fn connector(resolver: impl Resolver) -> TcpConnector {
        let names = Names::new(DnsLookup::UseAllIps, &[], Arc::new(resolver));
        TcpConnector::new(SocketBuffers::default(), names)
    }

    fn kafka(port: u16) -> Address {
        let host = "kafka.test".into();
        Address { host, port }
    }

    #[tokio::test]
    async fn a_refused_attempt_over_tcp_says_so() {
        // Bound and dropped: nobody listens there.
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let free = listener
            .and_then(|l| l.local_addr())
            .expect("a local address");
        let address = Address {
            host: "127.0.0.1".into(),
            port: free.port(),
        };
        let refused = connector(SystemResolver).connect(address).await.map(drop);
        let words = refused.expect_err("nobody listens").to_string();
        assert!(words.contains("refused"), "{words}");
    }

    /// Of a name with two addresses only the second has a listener.
    #[cfg(target_os = "linux")] // every address of 127.0.0.0/8 is this machine's
    #[tokio::test]
    async fn the_next_address_of_a_name_is_tried_when_one_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let resolver = Table::new().name("kafka.test", &["127.0.0.2", "127.0.0.1"]);
        let connected = connector(resolver).connect(kafka(port)).await;
        connected.map(drop).expect("the second address listens");
        listener.accept().await.expect("somebody came");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn two_attempts_in_a_row_go_to_different_addresses() {
        let one = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = one.local_addr().expect("bound").port();
        let other = TcpListener::bind(("127.0.0.2", port)).await.expect("free");
        let resolver = Table::new().name("kafka.test", &["127.0.0.1", "127.0.0.2"]);
        let connector = connector(resolver);
        for listener in [&one, &other] {
            connector
                .connect(kafka(port))
                .await
                .map(drop)
                .expect("both listen");
            listener.accept().await.expect("somebody came");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn each_address_that_refused_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        drop(listener);
        let resolver = Table::new().name("kafka.test", &["127.0.0.2", "127.0.0.1"]);
        let refused = connector(resolver).connect(kafka(port)).await.map(drop);
        let words = refused.expect_err("nobody listens").to_string();
        assert!(
            words.starts_with("127.0.0.2: ") && words.contains("; 127.0.0.1: "),
            "{words}"
        );
    }

    /// As one of a family that this machine does not have.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_next_address_of_a_name_is_tried_when_one_has_no_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let resolver = Table::new().name("kafka.test", &["127.0.0.2", "127.0.0.1"]);
        let names = Names::new(DnsLookup::UseAllIps, &[], Arc::new(resolver));
        let none = |to: SocketAddr| match to.ip().to_string().as_str() {
            "127.0.0.2" => Err(io::Error::other("no such family")),
            _ => socket(to, SocketBuffers::default()),
        };
        let connected = connect_tcp(kafka(port), names, none).await;
        connected.map(drop).expect("the second address listens");
    }

    #[tokio::test]
    async fn a_sockets_buffers_have_the_sizes_asked_for() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let sizes = |buffers| {
            let made = socket(address, buffers).expect("a socket");
            let sizes = (made.send_buffer_size(), made.recv_buffer_size());
            (sizes.0.expect("known"), sizes.1.expect("known"))
        };
        // A system may round a size up, and Linux doubles it.
        let sized = sizes(SocketBuffers {
            send_bytes: Some(30_000),
            receive_bytes: Some(50_000),
        });
        assert!((30_000..=60_000).contains(&sized.0), "{sized:?}");
        assert!((50_000..=100_000).contains(&sized.1), "{sized:?}");
        assert_ne!(sizes(SocketBuffers::default()), sized);
    }
}
