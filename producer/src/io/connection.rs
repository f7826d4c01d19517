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
use std::io::{self, IoSlice, Read};
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

    /// Whether something is queued that has not left, or it is not open yet.
    pub(crate) fn has_work(&self) -> bool {
        match &self.state {
            State::Connecting(_) => true,
            State::Open(stream) => !stream.unwritten.is_empty(),
            State::Lost => false,
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

    /// Whether it is open over a socket that [`Connection::look`] can look at.
    pub(crate) fn can_look(&self) -> bool {
        matches!(&self.state, State::Open(stream) if stream.transport.socket().is_some())
    }

    /// Reads what is in the socket, whether or not the runtime knows of it yet. What ends the
    /// connection is left for [`Connection::poll`] to find.
    pub(crate) fn look(&mut self, inputs: &mut Vec<Input>) {
        if let State::Open(stream) = &mut self.state
            && let Err(error) = stream.look(self.id, inputs)
        {
            self.on_lost(&error, inputs);
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
            self.split_frames(id, inputs)?;
        }
    }

    fn look(&mut self, id: ConnectionId, inputs: &mut Vec<Input>) -> io::Result<()> {
        let mut room = [0; LOOK_BYTES];
        let read = match self.transport.socket() {
            Some(socket) => (&*socket).read(&mut room),
            None => Ok(0),
        };
        match read {
            // The end can be read again.
            Ok(0) => return Ok(()),
            Ok(bytes) => self.received.extend_from_slice(&room[..bytes]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        self.split_frames(id, inputs)
    }

    fn split_frames(&mut self, id: ConnectionId, inputs: &mut Vec<Input>) -> io::Result<()> {
        while let Some(frame) = split_frame(&mut self.received)? {
            inputs.push(Input::Received {
                connection: id,
                frame,
            });
        }
        Ok(())
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

/// The most that a look reads: more than the answer to a request of a few batches.
const LOOK_BYTES: usize = 512;

/// Room kept free for each read.
const READ_BYTES: usize = 4 * 1024;

/// Slices handed to the socket at a time; systems allow 1024 and more.
const SLICES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use tokio::io::{AsyncWriteExt, DuplexStream};

    const ID: ConnectionId = ConnectionId(7);

    /// A connection whose peer the test plays, and what it reported.
    struct Played {
        connection: Connection,
        peer: Option<DuplexStream>,
        inputs: Vec<Input>,
    }

    impl Played {
        /// Open, with this much room in each direction.
        fn open(room_bytes: usize) -> Self {
            let (ours, peer) = tokio::io::duplex(room_bytes);
            let made: Box<dyn Transport> = Box::new(ours);
            let mut played = Self::connecting(Ok(made));
            played.peer = Some(peer);
            assert_eq!(played.polled(), [Input::Connected { connection: ID }]);
            played
        }

        fn connecting(made: io::Result<Box<dyn Transport>>) -> Self {
            let address = Address {
                host: Arc::from("broker"),
                port: 9092,
            };
            let connecting = Box::pin(std::future::ready(made));
            Self {
                connection: Connection::new(ID, address, connecting),
                peer: None,
                inputs: Vec::new(),
            }
        }

        fn send(&mut self, number: i32, slices: &[&'static [u8]]) {
            let slices = slices.iter().map(|&s| Bytes::from_static(s)).collect();
            self.connection.send(CorrelationId(number), Frame(slices));
        }

        fn polled(&mut self) -> Vec<Input> {
            let mut cx = Context::from_waker(Waker::noop());
            self.connection.poll(&mut cx, &mut self.inputs);
            std::mem::take(&mut self.inputs)
        }

        /// What the peer finds to read now, at most `bytes`.
        fn peer_reads(&mut self, bytes: usize) -> Vec<u8> {
            let mut read = vec![0; bytes];
            let mut cx = Context::from_waker(Waker::noop());
            let peer = self.peer.as_mut().expect("not hung up");
            match pin!(peer.read(&mut read)).poll(&mut cx) {
                Poll::Ready(result) => read.truncate(result.expect("a pipe")),
                Poll::Pending => read.clear(),
            }
            read
        }

        fn peer_writes(&mut self, bytes: &[u8]) {
            let mut cx = Context::from_waker(Waker::noop());
            let peer = self.peer.as_mut().expect("not hung up");
            let written = pin!(peer.write_all(bytes)).poll(&mut cx);
            assert!(
                matches!(written, Poll::Ready(Ok(()))),
                "no room in the pipe"
            );
        }
    }

    fn written(number: i32) -> Input {
        Input::Written {
            connection: ID,
            correlation_id: CorrelationId(number),
        }
    }

    fn received(frame: &'static [u8]) -> Input {
        Input::Received {
            connection: ID,
            frame: Bytes::from_static(frame),
        }
    }

    /// The end as reported: what was untouched, and why.
    fn end(inputs: &[Input]) -> (Option<i32>, &str) {
        match inputs {
            [
                ..,
                Input::Disconnected {
                    untouched_from,
                    reason,
                    ..
                },
            ] => (untouched_from.map(|id| id.0), reason),
            other => panic!("no end reported last: {other:?}"),
        }
    }

    #[test]
    fn frames_leave_in_order_and_each_is_reported_with_its_last_byte() {
        let mut played = Played::open(64);
        played.send(1, &[b"ab", b"", b"cd"]);
        played.send(2, &[b"ef"]);
        assert_eq!(played.polled(), [written(1), written(2)]);
        assert_eq!(played.peer_reads(64), b"abcdef");
    }

    #[test]
    fn a_full_socket_holds_frames_back_until_there_is_room() {
        let mut played = Played::open(4);
        played.send(1, &[b"abc"]);
        played.send(2, &[b"def"]);
        assert_eq!(played.polled(), [written(1)]);
        assert_eq!(played.peer_reads(4), b"abcd");
        assert_eq!(played.polled(), [written(2)]);
        assert_eq!(played.peer_reads(4), b"ef");
    }

    #[test]
    fn what_had_no_byte_in_the_socket_is_reported_untouched() {
        let mut played = Played::open(4);
        for number in 1..=3 {
            played.send(number, &[b"abc"]);
        }
        assert_eq!(played.polled(), [written(1)]);
        played.peer = None;
        let inputs = played.polled();
        // The second frame's first byte is in the pipe: only the third certainly never left.
        assert_eq!(end(&inputs).0, Some(3));
        assert!(played.connection.is_lost());
        assert_eq!(played.polled(), [], "the end is told once");
    }

    #[test]
    fn with_all_frames_written_none_is_untouched() {
        let mut played = Played::open(64);
        played.send(1, &[b"abc"]);
        assert_eq!(played.polled(), [written(1)]);
        played.peer = None;
        let inputs = played.polled();
        let (untouched, reason) = end(&inputs);
        assert_eq!(untouched, None);
        assert_eq!(reason, "broker:9092: closed by the broker");
    }

    #[test]
    fn an_answer_is_reported_whole_however_it_arrives() {
        let mut played = Played::open(64);
        let bytes = b"\0\0\0\x03abc\0\0\0\0\0\0\0\x02de";
        for byte in &bytes[..bytes.len() - 1] {
            played.peer_writes(&[*byte]);
            let inputs = played.polled();
            assert!(inputs.iter().all(|input| *input != received(b"de")));
        }
        played.peer_writes(b"e");
        assert_eq!(played.polled(), [received(b"de")]);
        played.peer_writes(b"\0\0\0\x03abc\0\0\0\x01d");
        assert_eq!(played.polled(), [received(b"abc"), received(b"d")]);
    }

    #[test]
    fn answers_before_the_end_are_reported_before_the_end() {
        let mut played = Played::open(64);
        played.peer_writes(b"\0\0\0\x01a\0\0\0\x05bc");
        played.peer = None;
        played.send(9, &[b"too late"]);
        let inputs = played.polled();
        assert_eq!(inputs[0], received(b"a"));
        assert_eq!(inputs.len(), 2);
        assert_eq!(end(&inputs).0, Some(9));
    }

    #[rstest::rstest]
    #[case(b"\xff\xff\xff\xff", "-1 bytes")]
    #[case(b"\x7f\xff\xff\xff", "2147483647 bytes")]
    #[case(b"\x06\x40\x00\x01", "104857601 bytes")]
    fn an_answer_of_impossible_size_ends_the_connection(#[case] prefix: &[u8], #[case] told: &str) {
        let mut played = Played::open(64);
        played.peer_writes(prefix);
        let inputs = played.polled();
        let (_, reason) = end(&inputs);
        assert!(reason.contains(told), "{reason}");
    }

    #[test]
    fn a_declared_size_takes_no_room_before_its_bytes_arrive() {
        let mut played = Played::open(64);
        played.peer_writes(b"\x06\x40\x00\x00"); // 100 MiB, the largest allowed
        assert_eq!(played.polled(), []);
        let State::Open(stream) = &played.connection.state else {
            panic!("still open");
        };
        assert!(stream.received.capacity() <= 4 * READ_BYTES);
    }

    #[test]
    fn a_failed_attempt_names_address_and_reason() {
        let mut played = Played::connecting(Err(io::Error::other("no route")));
        let expected = Input::ConnectFailed {
            connection: ID,
            reason: Arc::from("broker:9092: no route"),
        };
        assert_eq!(played.polled(), [expected]);
        assert!(played.connection.is_lost());
    }
}
