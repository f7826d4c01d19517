//! The ports of the brokers: listened on while a broker runs, kept for it while it has crashed.
//!
//! *State* of a port:
//!
//! ```text
//!           crash: a second socket is bound to it, the first is shut
//! Listening ─────────────────────────────────────────────────────────▶ Kept ─┐ listening fails:
//!     ▲                              restart: that socket listens            │ told once, tried
//!     └──────────────────────────────────────────────────────────────────────┘ again
//! ```
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
    /// Bound, and not listening.
    kept: Option<Socket>,
    complaint: Complaint,
}

/// Whether it was told that something cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Complaint {
    None,
    Made,
}

impl Ports {
    /// The ports that these listen on; `runtime` serves them.
    #[must_use]
    pub fn new(
        listeners: impl IntoIterator<Item = (BrokerId, TcpListener)>,
        runtime: Handle,
    ) -> Self {
        let port = |(broker, listener)| {
            let port = Port {
                door: watch::Sender::new(Some(Arc::new(listener))),
                kept: None,
                complaint: Complaint::None,
            };
            (broker, port)
        };
        Self {
            ports: Mutex::new(listeners.into_iter().map(port).collect()),
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
        let Some(listener) = self.door.borrow().clone() else {
            return Ok(());
        };
        self.kept = Some(keep(&listener)?);
        self.door.send_replace(None);
        // Its task holds it for a moment more, and clients are to be refused now.
        SockRef::from(&*listener).shutdown(std::net::Shutdown::Both)
    }

    fn open(&mut self, runtime: &Handle) -> io::Result<()> {
        let Some(kept) = &self.kept else {
            return Ok(());
        };
        // Connections from before the crash may be in TIME-WAIT.
        kept.set_reuse_address(true)?;
        kept.listen(BACKLOG)?;
        if let Some(listening) = self.kept.take() {
            let _inside = runtime.enter();
            let listener = TcpListener::from_std(listening.into())?;
            self.door.send_replace(Some(Arc::new(listener)));
        }
        Ok(())
    }
}

/// A socket that is bound where `listener` listens.
#[cfg(unix)]
fn keep(listener: &TcpListener) -> io::Result<Socket> {
    use socket2::{Domain, Type};

    let address = listener.local_addr()?;
    let kept = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    kept.set_nonblocking(true)?;
    let listening = SockRef::from(listener);
    listening.set_reuse_port(true)?;
    kept.set_reuse_port(true)?;
    kept.set_reuse_address(true)?;
    kept.bind(&address.into())?;
    // Nobody shares it from here on.
    kept.set_reuse_port(false)?;
    kept.set_reuse_address(false)?;
    Ok(kept)
}

#[cfg(not(unix))]
fn keep(_: &TcpListener) -> io::Result<Socket> {
    Err(io::ErrorKind::Unsupported.into())
}
