//! A proxy in front of a cluster that loses the first Produce reply.
//!
//! One listener per broker; Metadata answers are rewritten, so that a client stays behind the proxy
//! whichever broker it talks to. The first Produce reply that comes back is dropped, and both ends
//! of its connection are closed: the client cannot know whether its batch was written.
//!
//! *Invariants*
//! 1. Exactly one reply is lost, however many connections there are.
//! 2. It is lost after the broker sent it: the batch was judged, and stored if it was sound.
//! 3. Dropping the proxy ends its listeners and connections.
//!
//! *Not here*: faults inside the broker, which only the mock can have.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::connection::{FRAME_BYTES_MAX, with_size};
use super::transcript::{Direction, Transcript};
use crate::case::Objection;
use crate::wire::Request;
use crate::wire::answer::{Broker, Metadata};
use crate::wire::produce::Produce;
use crate::wire::redirect::redirect;

/// Requests of one connection whose answers are outstanding; clients keep five.
const OUTSTANDING_MAX: usize = 1_000;
const HOST: &str = "127.0.0.1";

/// A running proxy.
#[derive(Debug)]
pub struct LossyProxy {
    shared: Arc<Shared>,
    _listeners: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    ports: BTreeMap<i32, u16>,
    lost: AtomicBool,
    transcript: Transcript,
}

impl LossyProxy {
    /// Starts a listener in front of each of `brokers`; Produce frames go into `transcript`.
    ///
    /// # Errors
    ///
    /// When no port is free.
    ///
    /// # Cancellation
    ///
    /// Safe: listeners close.
    pub async fn start(brokers: &[Broker], transcript: &Transcript) -> Result<Self, Objection> {
        let refused = |error: io::Error| Objection::new("start the proxy", "free ports", error);
        let mut ports = BTreeMap::new();
        let mut bound = Vec::new();
        for broker in brokers {
            let listener = TcpListener::bind((HOST, 0)).await.map_err(refused)?;
            ports.insert(broker.id, listener.local_addr().map_err(refused)?.port());
            bound.push((listener, broker.address.clone()));
        }
        let shared = Arc::new(Shared {
            ports,
            lost: AtomicBool::new(false),
            transcript: transcript.clone(),
        });
        let mut listeners = JoinSet::new();
        for (listener, address) in bound {
            listeners.spawn(listen(listener, address, Arc::clone(&shared)));
        }
        Ok(Self {
            shared,
            _listeners: listeners,
        })
    }

    /// Where a client is to start.
    pub fn bootstrap(&self) -> Vec<String> {
        self.shared
            .ports
            .values()
            .map(|port| format!("{HOST}:{port}"))
            .collect()
    }

    /// Whether a reply was lost by now.
    pub fn has_lost(&self) -> bool {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

async fn listen(listener: TcpListener, broker: String, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { return };
                let (broker, shared) = (broker.clone(), Arc::clone(&shared));
                connections.spawn(async move {
                    // Either end closing, or a loss, ends both; a client sees a closed connection.
                    if let Err(error) = relay(client, &broker, &shared).await {
                        tracing::debug!(%broker, %error, "the proxy's connection ended");
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// What a client asked.
struct Asked {
    correlation_id: i32,
    api_key: i16,
    version: i16,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            correlation_id,
            api_key,
            version,
        } = self;
        match *api_key {
            Produce::API_KEY => write!(f, "{} v{version}", Produce::NAME)?,
            other => write!(f, "API {other} v{version}")?,
        }
        write!(f, ", correlation id {correlation_id}")
    }
}

async fn relay(client: TcpStream, broker: &str, shared: &Shared) -> io::Result<()> {
    let broker = TcpStream::connect(broker).await?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let (asked, to_answer) = mpsc::channel(OUTSTANDING_MAX);
    tokio::select! {
        ended = requests(from_client, to_broker, asked, shared) => ended,
        ended = replies(from_broker, to_client, to_answer, shared) => ended,
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: mpsc::Sender<Asked>,
    shared: &Shared,
) -> io::Result<()> {
    while let Some(frame) = read_frame(&mut from).await? {
        let Some((&[k0, k1, v0, v1, c0, c1, c2, c3], _)) = frame.split_first_chunk() else {
            return Err(io::Error::other("a request without a header"));
        };
        let asks = Asked {
            api_key: i16::from_be_bytes([k0, k1]),
            version: i16::from_be_bytes([v0, v1]),
            correlation_id: i32::from_be_bytes([c0, c1, c2, c3]),
        };
        if asks.api_key == Produce::API_KEY {
            let what = format!("{asks}, by the producer through the proxy");
            shared.transcript.note(Direction::Sent, what, &frame);
        }
        if asked.send(asks).await.is_err() {
            return Ok(());
        }
        to.write_all(&with_size(&frame)).await?;
    }
    Ok(())
}

async fn replies(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut to_answer: mpsc::Receiver<Asked>,
    shared: &Shared,
) -> io::Result<()> {
    while let Some(mut frame) = read_frame(&mut from).await? {
        let Some(&correlation_id) = frame.first_chunk() else {
            return Err(io::Error::other("a reply without a header"));
        };
        let correlation_id = i32::from_be_bytes(correlation_id);
        // Replies come in the order of requests; one that is passed over asked for no reply.
        let asked = loop {
            match to_answer.try_recv() {
                Ok(asked) if asked.correlation_id == correlation_id => break asked,
                Ok(_) => {}
                Err(_) => return Err(io::Error::other("a reply to no request")),
            }
        };
        match asked.api_key {
            Produce::API_KEY if !shared.lost.swap(true, Ordering::SeqCst) => {
                let what = format!("answer to {asked}, lost by the proxy");
                shared.transcript.note(Direction::Received, what, &frame);
                return Ok(());
            }
            Produce::API_KEY => {
                let what = format!("answer to {asked}, through the proxy");
                shared.transcript.note(Direction::Received, what, &frame);
            }
            Metadata::API_KEY => {
                frame = redirect(&frame, asked.version, HOST, &shared.ports)
                    .map_err(io::Error::other)?;
            }
            _ => {}
        }
        to.write_all(&with_size(&frame)).await?;
    }
    Ok(())
}

async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Bytes>> {
    let size = match from.read_i32().await {
        Ok(size) => size,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let size = usize::try_from(size)
        .ok()
        .filter(|&size| size <= FRAME_BYTES_MAX);
    let size = size.ok_or_else(|| io::Error::other("a frame without a sane size"))?;
    let mut frame = vec![0; size];
    from.read_exact(&mut frame).await?;
    Ok(Some(frame.into()))
}
