//! A proxy in front of a cluster on which things go wrong: replies are lost, cut or kept, requests
//! cut or swallowed, old metadata is told, brokers move to other ports.
//!
//! One listener per broker; wherever answers say where a broker is (Metadata, FindCoordinator, the
//! leaders in refusals of Produce, KIP-951) they are rewritten, so that a client stays behind the
//! proxy whichever broker it talks to.
//!
//! *Invariants*
//! 1. A reply is hit after the broker sent it: the batch was judged, and stored if it was sound.
//! 2. A listener relays to whichever broker has its port when a connection is accepted; when
//!    brokers move, every connection ends.
//! 3. What is held is let go once, whether or not whoever asked is still there, and its answer is
//!    kept for the case to read, until other trouble begins.
//! 4. Dropping the proxy ends its listeners and connections.
//!
//! *Not here*: what is hit (`trouble.rs`), faults inside the broker, which only the mock can have.

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, sink};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::connection::{FRAME_BYTES_MAX, with_size};
use super::transcript::{Direction, Transcript};
use super::trouble::{ReplyFate, RequestFate, Trouble, Troubles};
use crate::case::Objection;
use crate::wire::answer::{Broker, Metadata};
use crate::wire::produce::Produce;
use crate::wire::redirect::{Redirect, redirect, redirect_coordinator, redirect_leaders};
use crate::wire::transactional::FindCoordinator;
use crate::wire::{Request, read_response};

/// Requests of one connection whose answers are outstanding; clients keep five.
const OUTSTANDING_MAX: usize = 1_000;
const HOST: &str = "127.0.0.1";

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    listeners: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Shared {
    places: Mutex<BTreeMap<i32, Place>>,
    troubles: Troubles,
    moved: watch::Sender<()>,
    released: watch::Sender<Held>,
    late_answer: Mutex<Option<(i16, Bytes)>>,
    transcript: Transcript,
}

/// Whether what is held was let go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Held {
    Back,
    Released,
}

/// Where a broker is.
#[derive(Clone, Debug)]
struct Place {
    /// For clients.
    port: u16,
    /// In truth.
    address: String,
}

impl Proxy {
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
        trouble: Trouble,
        transcript: &Transcript,
    ) -> Result<Self, Objection> {
        let proxy = Self {
            shared: Arc::new(Shared {
                places: Mutex::new(BTreeMap::new()),
                troubles: Troubles::new(trouble),
                moved: watch::Sender::new(()),
                released: watch::Sender::new(Held::Back),
                late_answer: Mutex::new(None),
                transcript: transcript.clone(),
            }),
            listeners: Mutex::new(JoinSet::new()),
        };
        for broker in brokers {
            proxy.place(broker.id, broker.address.clone()).await?;
        }
        Ok(proxy)
    }

    /// Puts a broker behind a new port.
    async fn place(&self, broker: i32, address: String) -> Result<(), Objection> {
        let refused = |error: io::Error| Objection::new("start the proxy", "free ports", error);
        let listener = TcpListener::bind((HOST, 0)).await.map_err(refused)?;
        let port = listener.local_addr().map_err(refused)?.port();
        self.shared.places().insert(broker, Place { port, address });
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.spawn(listen(listener, port, Arc::clone(&self.shared)));
        Ok(())
    }

    /// Where a client is to start.
    pub fn bootstrap(&self) -> Vec<String> {
        let places = self.shared.places();
        places
            .values()
            .map(|place| format!("{HOST}:{}", place.port))
            .collect()
    }

    /// How often something went wrong by now.
    pub fn hits(&self) -> u64 {
        self.shared.troubles.hits()
    }

    /// How many requests of an API came by.
    pub fn asked(&self, api_key: i16) -> u64 {
        self.shared.troubles.asked(api_key)
    }

    /// Something else goes wrong from now on.
    pub fn begin(&self, trouble: Trouble) {
        // What was held before has been let go, and answered.
        self.shared.released.send_replace(Held::Back);
        *self.shared.late_answer() = None;
        self.shared.troubles.begin(trouble);
    }

    /// Nothing goes wrong any more; connections that went silent stay so.
    pub fn end_trouble(&self) {
        self.shared.troubles.end();
    }

    /// Lets go of what is held.
    pub fn release(&self) {
        self.shared.released.send_replace(Held::Released);
    }

    /// What the broker answered to the request that was held, once it did.
    pub fn late_answer<R: Request>(&self) -> Option<R::Answer> {
        let (version, frame) = self.shared.late_answer().clone()?;
        read_response::<R>(&frame, version)
            .ok()
            .map(|(_, answer)| answer)
    }

    /// Keeps the last answer to Metadata, to be told again.
    pub fn remember_metadata(&self) {
        self.shared.troubles.remember_metadata();
    }

    /// From now on Metadata is answered with what was kept.
    pub fn replay_metadata(&self) {
        self.shared.troubles.replay_metadata();
    }

    /// How many questions were answered as of old.
    pub fn replays(&self) -> u64 {
        self.shared.troubles.replays()
    }

    /// A broker moves to another port; nobody listens at its old one.
    ///
    /// # Errors
    ///
    /// When there is no such broker, or no port is free.
    ///
    /// # Cancellation
    ///
    /// The broker may be gone.
    pub async fn relocate(&self, broker: i32) -> Result<(), Objection> {
        let place = self.shared.places().remove(&broker);
        let place = place.ok_or_else(|| Objection::new("relocate", "a broker", broker))?;
        self.place(broker, place.address).await?;
        self.shared.moved.send_replace(());
        Ok(())
    }

    /// Two brokers change ports.
    ///
    /// # Errors
    ///
    /// When one of them is not there.
    pub fn exchange(&self, one: i32, other: i32) -> Result<(), Objection> {
        let mut places = self.shared.places();
        let port = |id: i32| places.get(&id).map(|place| place.port);
        let (Some(first), Some(second)) = (port(one), port(other)) else {
            let which = format!("{one} and {other}");
            return Err(Objection::new("exchange", "two brokers", which));
        };
        for (id, port) in [(one, second), (other, first)] {
            places.entry(id).and_modify(|place| place.port = port);
        }
        drop(places);
        self.shared.moved.send_replace(());
        Ok(())
    }
}

impl Shared {
    fn late_answer(&self) -> MutexGuard<'_, Option<(i16, Bytes)>> {
        let answer = self.late_answer.lock();
        answer.unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<i32, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is behind a port.
    fn behind(&self, port: u16) -> Option<String> {
        let places = self.places();
        let place = places.values().find(|place| place.port == port);
        place.map(|place| place.address.clone())
    }

    fn ports(&self) -> BTreeMap<i32, u16> {
        let places = self.places();
        places.iter().map(|(id, place)| (*id, place.port)).collect()
    }
}

async fn listen(listener: TcpListener, port: u16, shared: Arc<Shared>) {
    let mut moved = shared.moved.subscribe();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { return };
                let Some(broker) = shared.behind(port) else { return };
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    // Either end closing, or a loss, ends both; a client sees a closed connection.
                    if let Err(error) = relay(client, &broker, &shared).await {
                        tracing::debug!(%broker, %error, "the proxy's connection ended");
                    }
                });
            }
            _ = moved.changed() => {
                connections.abort_all();
                if shared.behind(port).is_none() {
                    return;
                }
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
    fate: RequestFate,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            correlation_id,
            api_key,
            version,
            ..
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
    let requests = requests(from_client, to_broker, asked, shared);
    let replies = replies(from_broker, to_client, to_answer, shared);
    tokio::select! {
        ended = requests => ended,
        ended = replies => ended,
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: mpsc::Sender<Asked>,
    shared: &Shared,
) -> io::Result<()> {
    let mut held = Held::Back;
    loop {
        let frame = match read_frame(&mut from).await {
            Ok(Some(frame)) => frame,
            // Whoever asked is gone, and the answer is to be seen all the same.
            _ if held == Held::Released => pending().await,
            Ok(None) => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some((&[k0, k1, v0, v1, c0, c1, c2, c3], _)) = frame.split_first_chunk() else {
            return Err(io::Error::other("a request without a header"));
        };
        let api_key = i16::from_be_bytes([k0, k1]);
        let fate = shared.troubles.on_request(api_key);
        let asks = Asked {
            api_key,
            version: i16::from_be_bytes([v0, v1]),
            correlation_id: i32::from_be_bytes([c0, c1, c2, c3]),
            fate,
        };
        if asks.api_key == Produce::API_KEY {
            let fate = match fate {
                RequestFate::Passes => "",
                RequestFate::Cut => ", cut",
                RequestFate::Swallowed => ", swallowed",
                RequestFate::Held => ", held",
            };
            let what = format!("{asks}, by the producer through the proxy{fate}");
            shared.transcript.note(Direction::Sent, what, &frame);
        }
        let request = with_size(&frame);
        match fate {
            RequestFate::Passes => {}
            RequestFate::Held => {
                let mut released = shared.released.subscribe();
                let released = released.wait_for(|held| *held == Held::Released).await;
                held = *released.map_err(io::Error::other)?;
            }
            RequestFate::Cut => {
                to.write_all(&request[..request.len() / 2]).await?;
                from.as_ref().set_zero_linger()?;
                to.as_ref().set_zero_linger()?;
                return Ok(());
            }
            RequestFate::Swallowed => {
                tokio::io::copy(&mut from, &mut sink()).await?;
                return Ok(());
            }
        }
        if asked.send(asks).await.is_err() {
            return Ok(());
        }
        to.write_all(&request).await?;
    }
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
        let redirect = match asked.api_key {
            Metadata::API_KEY => Some(redirect as Redirect),
            FindCoordinator::API_KEY => Some(redirect_coordinator as Redirect),
            Produce::API_KEY => Some(redirect_leaders as Redirect),
            _ => None,
        };
        if let Some(redirect) = redirect {
            let told = redirect(&frame, asked.version, HOST, &shared.ports());
            frame = told.map_err(io::Error::other)?;
        }
        if asked.fate == RequestFate::Held {
            *shared.late_answer() = Some((asked.version, frame.clone()));
        }
        frame = shared.troubles.change(asked.api_key, asked.version, frame);
        let fate = shared.troubles.on_reply(asked.api_key);
        if asked.api_key == Produce::API_KEY {
            let fate = match fate {
                ReplyFate::Passes => "through",
                ReplyFate::Cut => "cut by",
                ReplyFate::Lost => "lost by",
                ReplyFate::Kept => "kept by",
            };
            let what = format!("answer to {asked}, {fate} the proxy");
            shared.transcript.note(Direction::Received, what, &frame);
        }
        let reply = with_size(&frame);
        match fate {
            ReplyFate::Passes => to.write_all(&reply).await?,
            ReplyFate::Cut => {
                to.write_all(&reply[..reply.len() / 2]).await?;
                return Ok(());
            }
            ReplyFate::Lost => return Ok(()),
            ReplyFate::Kept => {
                tokio::io::copy(&mut from, &mut sink()).await?;
                return Ok(());
            }
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
