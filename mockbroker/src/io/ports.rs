//! The ports of the brokers: listened on while a broker runs, kept for it while it has crashed.
//!
//! *State* of a port:
//!
//! ```text
//!                        crash: a second socket is bound to it, the first is shut
//! Unserved ──▶ Served ──────────────────────────────────────────────────────▶ Kept ─┐ listening
//!    │           ▲                    restart: that socket listens                  │ fails: told
//!    │           └──────────────────────────────────────────────────────────────────┘ once, tried
//!    └─ crash ──────────────────────────────────────────────────────────────▶ Kept    again
//! ```
//!
//! An unserved port listens: the kernel holds who connects until the cluster's thread runs.
//!
//! *Invariants*
//! 1. A client that connects is refused from the moment a crash is made, and accepted from the
//!    moment a restart is.
//! 2. A port is bound all the time: nobody else gets it, neither by asking for it nor for any.
//! 3. Only what cannot be done is an error; the broker then accepts and closes at once.
//!
//! *Source* Linux `net/ipv4/inet_connection_sock.c`, `inet_csk_bind_conflict`: two sockets share a
//! port while both have SO_REUSEPORT; one that listens takes part in no sharing by SO_REUSEADDR.
//!
//! *Not here* accepting (`listener.rs`).

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::{SockRef, Socket};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::transport::BACKLOG;
use crate::engine::effect::BrokerId;
use crate::engine::topology::Process;

/// The listener of a broker, `None` while it is refused.
pub type Door = watch::Receiver<Option<Arc<TcpListener>>>;

/// The ports of a cluster.
#[derive(Debug)]
pub struct Ports {
    ports: Mutex<BTreeMap<BrokerId, Port>>,
    runtime: Handle,
}

#[derive(Debug)]
struct Port {
    door: watch::Sender<Option<Arc<TcpListener>>>,
    standing: Standing,
    complaint: Complaint,
}

#[derive(Debug)]
enum Standing {
    /// It listens, and nobody accepts.
    Unserved(Socket),
    /// Its listener is at the door.
    Served,
    /// Bound, and not listening.
    Kept(Socket),
}

/// Whether it was told that something cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Complaint {
    None,
    Made,
}

impl Ports {
    /// The ports that these listen on; `runtime` serves them, once they are followed.
    #[must_use]
    pub fn new(listening: impl IntoIterator<Item = (BrokerId, Socket)>, runtime: Handle) -> Self {
        let port = |(broker, socket)| {
            let port = Port {
                door: watch::Sender::new(None),
                standing: Standing::Unserved(socket),
                complaint: Complaint::None,
            };
            (broker, port)
        };
        Self {
            ports: Mutex::new(listening.into_iter().map(port).collect()),
            runtime,
        }
    }

    /// Who accepts at which door.
    #[must_use]
    pub fn doors(&self) -> Vec<(BrokerId, Door)> {
        let ports = self.lock();
        let doors = ports.iter();
        doors
            .map(|(broker, port)| (*broker, port.door.subscribe()))
            .collect()
    }

    /// Sees to it that exactly those are listened to that have not crashed. What cannot be done is
    /// told, once.
    pub fn follow(&self, brokers: impl Iterator<Item = (BrokerId, Process)>) -> Vec<String> {
        let mut ports = self.lock();
        let mut complaints = Vec::new();
        for (broker, process) in brokers {
            let Some(port) = ports.get_mut(&broker) else {
                continue;
            };
            let done = match process {
                Process::Crashed => port.shut(),
                Process::Running | Process::Paused => port.open(&self.runtime),
            };
            match done {
                Ok(()) => port.complaint = Complaint::None,
                Err(_) if port.complaint == Complaint::Made => {}
                Err(error) => {
                    port.complaint = Complaint::Made;
                    let state = if process == Process::Crashed {
                        "crashed and is not refused, its connections are closed at once"
                    } else {
                        "runs and cannot be listened to"
                    };
                    complaints.push(format!("broker {} {state}: {error}", broker.0));
                }
            }
        }
        complaints
    }

    /// Lets every port go.
    pub fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BrokerId, Port>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port {
    fn shut(&mut self) -> io::Result<()> {
        match &self.standing {
            Standing::Kept(_) => {}
            // Its end refuses who connected to it too.
            Standing::Unserved(socket) => self.standing = Standing::Kept(keep(socket.into())?),
            Standing::Served => {
                let Some(listener) = self.door.borrow().clone() else {
                    return Ok(());
                };
                let listening = SockRef::from(&*listener);
                self.standing = Standing::Kept(keep(listening)?);
                self.door.send_replace(None);
                // Its task holds it for a moment more, and clients are to be refused now.
                SockRef::from(&*listener).shutdown(std::net::Shutdown::Both)?;
            }
        }
        Ok(())
    }

    fn open(&mut self, runtime: &Handle) -> io::Result<()> {
        let socket = match &self.standing {
            Standing::Served => return Ok(()),
            Standing::Unserved(socket) => socket,
            Standing::Kept(socket) => {
                // Connections from before the crash may be in TIME-WAIT.
                socket.set_reuse_address(true)?;
                socket.listen(BACKLOG)?;
                socket
            }
        };
        socket.set_nonblocking(true)?;
        // A copy: what cannot be served stays as it is.
        let listening = socket.try_clone()?;
        let _inside = runtime.enter();
        let listener = TcpListener::from_std(listening.into())?;
        self.standing = Standing::Served;
        self.door.send_replace(Some(Arc::new(listener)));
        Ok(())
    }
}

/// A socket that is bound where `listening` listens.
#[cfg(unix)]
fn keep(listening: SockRef<'_>) -> io::Result<Socket> {
    use socket2::{Domain, Type};

    let address = listening.local_addr()?;
    let kept = Socket::new(
        Domain::from(i32::from(address.family())),
        Type::STREAM,
        None,
    )?;
    listening.set_reuse_port(true)?;
    kept.set_reuse_port(true)?;
    kept.set_reuse_address(true)?;
    kept.bind(&address)?;
    // Nobody shares it from here on.
    kept.set_reuse_port(false)?;
    kept.set_reuse_address(false)?;
    Ok(kept)
}

#[cfg(not(unix))]
fn keep(_: SockRef<'_>) -> io::Result<Socket> {
    Err(io::ErrorKind::Unsupported.into())
}
