//! A proxy in front of a cluster that loses replies: the first one to Produce, or every so many of
//! any kind.
//!
//! One listener per broker; Metadata answers are rewritten, so that a client stays behind the proxy
//! whichever broker it talks to. A reply that is lost is dropped, or cut in its middle, and both
//! ends of its connection are closed: the client cannot know whether its batch was written.
//!
//! *Invariants*
//! 1. As many replies are lost as were to be, however many connections there are.
//! 2. A reply is lost after the broker sent it: the batch was judged, and stored if it was sound.
//! 3. Dropping the proxy ends its listeners and connections.
//!
//! *Not here*: faults inside the broker, which only the mock can have.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Which replies are lost, and how.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loss {
    /// The first one to Produce, whole.
    FirstProduced,
    /// Every so many, to whichever API: its first half arrives.
    CutEvery(u64),
}

/// A running proxy.
#[derive(Debug)]
pub struct LossyProxy {
    shared: Arc<Shared>,
    _listeners: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    ports: BTreeMap<i32, u16>,
    loss: Loss,
    /// Replies that could have been lost by now, and those that were.
    candidates: AtomicU64,
    lost: AtomicU64,
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
    pub async fn start(
        brokers: &[Broker],
        loss: Loss,
        transcript: &Transcript,
    ) -> Result<Self, Objection> {
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
            loss,
            candidates: AtomicU64::new(0),
            lost: AtomicU64::new(0),
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

    /// How many replies were lost by now.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

impl Shared {
    /// How much of a reply the client gets: all of it, unless it is one to lose.
    fn passing_bytes(&self, asked: &Asked, reply_bytes: usize) -> usize {
        let counts = match self.loss {
            Loss::FirstProduced => asked.api_key == Produce::API_KEY,
            Loss::CutEvery(_) => true,
        };
        if !counts {
            return reply_bytes;
        }
        let number = self.candidates.fetch_add(1, Ordering::SeqCst) + 1;
        let passing_bytes = match self.loss {
            Loss::FirstProduced if number == 1 => 0,
            Loss::CutEvery(count) if number.is_multiple_of(count) => reply_bytes / 2,
            Loss::FirstProduced | Loss::CutEvery(_) => return reply_bytes,
        };
        self.lost.fetch_add(1, Ordering::SeqCst);
        passing_bytes
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
        if asked.api_key == Metadata::API_KEY {
            frame =
                redirect(&frame, asked.version, HOST, &shared.ports).map_err(io::Error::other)?;
        }
        let reply = with_size(&frame);
        let passing_bytes = shared.passing_bytes(&asked, reply.len());
        let is_lost = passing_bytes < reply.len();
        if asked.api_key == Produce::API_KEY {
            let fate = if is_lost { "lost by" } else { "through" };
            let what = format!("answer to {asked}, {fate} the proxy");
            shared.transcript.note(Direction::Received, what, &frame);
        }
        to.write_all(&reply[..passing_bytes]).await?;
        if is_lost {
            return Ok(());
        }
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
