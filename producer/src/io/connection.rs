//! One connection: frames out in order, frames in by their size prefix.
//!
//! Polled by the driver, so that a request is written and its answer read without a switch of
//! tasks.
//!
//! *State*
//! ```text
//!   connecting ──▶ open ──▶ lost (told once, then forgotten by the driver)
//!        └──────────────────▲
//! ```
//!
//! *Invariants*
//! 1. Frames leave whole and in order; each is reported `Written` with its last byte.
//! 2. What is reported untouched has no byte in the socket.
//! 3. Room for an answer grows with the bytes that arrived, never by what its prefix declares.
//! 4. Whatever arrived before the connection's end is reported before the end.
//!
//! *Source*: Kafka's `NetworkReceive` (size prefix), `Selector`.
//!
//! *Not here*: what frames mean; time-outs (the engine).

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use crate::engine::effect::{Address, ConnectionId, CorrelationId, Frame, Input};
use crate::io::transport::{Connecting, Transport};

/// One connection, from the attempt to its end.
pub(crate) struct Connection {
    id: ConnectionId,
    address: Address,
    state: State,
}

enum State {
    Connecting(Connecting),
    Open(Stream),
    Lost,
}

struct Stream {
    transport: Box<dyn Transport>,
    unwritten: VecDeque<Unwritten>,
    received: BytesMut,
}

/// A frame whose last byte has not left.
struct Unwritten {
    correlation_id: CorrelationId,
    slices: VecDeque<Bytes>,
    touched: Touched,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Touched {
    No,
    Yes,
}

impl Connection {
    /// An attempt to connect.
    pub(crate) fn new(id: ConnectionId, address: Address, connecting: Connecting) -> Self {
        Self {
            id,
            address,
            state: State::Connecting(connecting),
        }
    }

    /// Whether its end was reported.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// Queues a frame behind those before it; a lost connection drops it.
    pub(crate) fn send(&mut self, correlation_id: CorrelationId, frame: Frame) {
        if let State::Open(stream) = &mut self.state {
            stream.unwritten.push_back(Unwritten {
                correlation_id,
                slices: frame.0.into_iter().filter(|s| !s.is_empty()).collect(),
                touched: Touched::No,
            });
        }
    }

    /// Goes as far as the socket lets it; reports what happened.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, inputs: &mut Vec<Input>) {
        if let State::Connecting(connecting) = &mut self.state {
            match connecting.as_mut().poll(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(transport)) => self.on_connected(transport, inputs),
                Poll::Ready(Err(error)) => return self.on_connect_failed(&error, inputs),
            }
        }
        if let State::Open(stream) = &mut self.state {
            let mut result = stream.poll_write(self.id, cx, inputs);
            // An answer may have arrived before the end that a write met.
            let read = stream.poll_read(self.id, cx, inputs);
            if result.is_ok() {
                result = read;
            }
            if let Err(error) = result {
                self.on_lost(&error, inputs);
            }
        }
    }

    fn on_connected(&mut self, transport: Box<dyn Transport>, inputs: &mut Vec<Input>) {
        self.state = State::Open(Stream {
            transport,
            unwritten: VecDeque::new(),
            received: BytesMut::new(),
        });
        inputs.push(Input::Connected {
            connection: self.id,
        });
    }

    fn on_connect_failed(&mut self, error: &io::Error, inputs: &mut Vec<Input>) {
        self.state = State::Lost;
        inputs.push(Input::ConnectFailed {
            connection: self.id,
            reason: self.told(error),
        });
    }

    fn on_lost(&mut self, error: &io::Error, inputs: &mut Vec<Input>) {
        let untouched_from = match &self.state {
            State::Open(stream) => stream.untouched_from(),
            State::Connecting(_) | State::Lost => None,
        };
        self.state = State::Lost;
        inputs.push(Input::Disconnected {
            connection: self.id,
            untouched_from,
            reason: self.told(error),
        });
    }

    fn told(&self, error: &io::Error) -> Arc<str> {
        let Address { host, port } = &self.address;
        Arc::from(format!("{host}:{port}: {error}"))
    }
}

impl Stream {
    /// Writes until all left or the socket is full.
    fn poll_write(
        &mut self,
        id: ConnectionId,
        cx: &mut Context<'_>,
        inputs: &mut Vec<Input>,
    ) -> io::Result<()> {
        while !self.unwritten.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = gather(&self.unwritten, &mut slices);
            let transport = Pin::new(&mut *self.transport);
            match transport.poll_write_vectored(cx, &slices[..count]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => self.on_written(id, written, inputs),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
        match Pin::new(&mut *self.transport).poll_flush(cx) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    fn on_written(&mut self, id: ConnectionId, mut written: usize, inputs: &mut Vec<Input>) {
        while let Some(frame) = self.unwritten.front_mut() {
            if written > 0 {
                frame.touched = Touched::Yes;
            }
            written = frame.advance(written);
            if !frame.slices.is_empty() {
                return;
            }
            inputs.push(Input::Written {
                connection: id,
                correlation_id: frame.correlation_id,
            });
            self.unwritten.pop_front();
        }
    }

    /// Reads until the socket is empty, and reports each whole frame.
    fn poll_read(
        &mut self,
        id: ConnectionId,
        cx: &mut Context<'_>,
        inputs: &mut Vec<Input>,
    ) -> io::Result<()> {
        loop {
            self.received.reserve(READ_BYTES);
            let read = pin!(self.transport.read_buf(&mut self.received)).poll(cx);
            match read {
                Poll::Ready(Ok(0)) => return Err(closed_by_peer(&self.received)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
            while let Some(frame) = split_frame(&mut self.received)? {
                inputs.push(Input::Received {
                    connection: id,
                    frame,
                });
            }
        }
    }

    fn untouched_from(&self) -> Option<CorrelationId> {
        let mut frames = self.unwritten.iter();
        let untouched = frames.find(|frame| frame.touched == Touched::No);
        untouched.map(|frame| frame.correlation_id)
    }
}

impl Unwritten {
    /// Counts bytes as gone; says how many are left for the frames behind.
    fn advance(&mut self, mut written: usize) -> usize {
        while let Some(slice) = self.slices.front_mut() {
            if written < slice.len() {
                slice.advance(written);
                return 0;
            }
            written -= slice.len();
            self.slices.pop_front();
        }
        written
    }
}

/// Fills `slices` with what is to leave next; says how many.
fn gather<'a>(frames: &'a VecDeque<Unwritten>, slices: &mut [IoSlice<'a>]) -> usize {
    let unwritten = frames.iter().flat_map(|frame| &frame.slices);
    let mut count = 0;
    for (place, bytes) in slices.iter_mut().zip(unwritten) {
        *place = IoSlice::new(bytes);
        count += 1;
    }
    count
}

/// Takes the next whole frame, without its prefix.
fn split_frame(received: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let Some(prefix) = received.first_chunk() else {
        return Ok(None);
    };
    let declared = i32::from_be_bytes(*prefix);
    let frame_bytes = usize::try_from(declared)
        .ok()
        .filter(|&bytes| bytes <= ANSWER_BYTES_MAX)
        .ok_or_else(|| {
            let allowed =
                format!("an answer of {declared} bytes, allowed: 0 to {ANSWER_BYTES_MAX}");
            io::Error::new(io::ErrorKind::InvalidData, allowed)
        })?;
    if received.len() - PREFIX_BYTES < frame_bytes {
        return Ok(None);
    }
    received.advance(PREFIX_BYTES);
    Ok(Some(received.split_to(frame_bytes).freeze()))
}

fn closed_by_peer(received: &BytesMut) -> io::Error {
    let words = match received.len() {
        0 => "closed by the broker".to_owned(),
        bytes => format!("closed by the broker {bytes} bytes into an answer"),
    };
    io::Error::new(io::ErrorKind::UnexpectedEof, words)
}

const PREFIX_BYTES: usize = 4;

/// The largest answer that is read; Kafka's producer asks nothing whose answer comes near.
const ANSWER_BYTES_MAX: usize = 100 * 1024 * 1024;

/// Room kept free for each read.
const READ_BYTES: usize = 4 * 1024;

/// Slices handed to the socket at a time; systems allow 1024 and more.
const SLICES_MAX: usize = 64;
