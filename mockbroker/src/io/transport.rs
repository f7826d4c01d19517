//! What carries bytes to brokers: listening sockets, or pipes in memory.
//!
//! *Invariants*
//! 1. The sockets of a cluster are bound before anything is started, so a port that is taken is
//!    an error of the start and not of a task.
//!
//! *Not here*: TLS.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpStream;

/// The brokers' end of a connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// Makes the end of the stream, when it is dropped, a reset, if the transport knows one.
    ///
    /// # Errors
    ///
    /// Those of the transport; the stream ends as usual then.
    fn end_with_reset(&self) -> io::Result<()>;

    /// The host at the other end.
    fn peer(&self) -> IpAddr;
}

impl Stream for TcpStream {
    /// RST instead of FIN; what was not sent yet is lost.
    fn end_with_reset(&self) -> io::Result<()> {
        self.set_zero_linger()
    }

    /// A peer that has gone already is as good as one of this machine.
    fn peer(&self) -> IpAddr {
        self.peer_addr().map_or(HERE, |address| address.ip())
    }
}

impl Stream for DuplexStream {
    /// A pipe knows only its end.
    fn end_with_reset(&self) -> io::Result<()> {
        Ok(())
    }

    fn peer(&self) -> IpAddr {
        HERE
    }
}

/// Binds one socket per broker, and listens on it: on free ports if the port of `first` is 0, else
/// on it and the ones that follow it.
///
/// # Errors
///
/// The address that could not be bound, and why.
pub fn bind(first: SocketAddr, brokers: u16) -> Result<Vec<Socket>, (SocketAddr, io::Error)> {
    (0..brokers)
        .map(|index| {
            let port = match first.port() {
                0 => 0,
                port => port.checked_add(index).ok_or_else(|| {
                    let reason = format!("{} ports from {port} on go beyond 65535", brokers);
                    (first, io::Error::new(io::ErrorKind::InvalidInput, reason))
                })?,
            };
            let address = SocketAddr::new(first.ip(), port);
            listen(address).map_err(|error| (address, error))
        })
        .collect()
}

/// Binds one socket, and listens on it.
///
/// # Errors
///
/// Why the address cannot be bound.
pub fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A port that was asked for may have connections in TIME-WAIT, and one that is kept over a
    // crash has this listener's; what the option permits on Windows is another thing.
    if cfg!(unix) {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// The port that a socket is bound to.
///
/// # Errors
///
/// Those of the system.
pub fn port(socket: &Socket) -> io::Result<u16> {
    let address = socket.local_addr()?;
    Ok(address.as_socket().map_or(0, |address| address.port()))
}

/// The two ends of a connection in memory.
#[must_use]
pub fn pipe() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(PIPE_BYTES)
}

/// Connections that the kernel holds until they are accepted; as many as std asks for.
pub const BACKLOG: i32 = 128;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What one direction of a pipe holds before a writer waits.
const PIPE_BYTES: usize = 64 * 1024;
