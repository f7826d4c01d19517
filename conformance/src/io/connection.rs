//! A raw connection to a broker: bytes out, frames in, every wait bounded.
//!
//! *Invariants*
//! 1. No wait is longer than [`ANSWER_WAIT_MAX`], [`CLOSE_WAIT_MAX`] or what the caller names.
//! 2. A frame larger than [`FRAME_BYTES_MAX`] is not read.
//! 3. Every frame sent or received is in the case's transcript.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::transcript::{Direction, Happening, Transcript};
use crate::case::Objection;
use crate::wire::request::Header;
use crate::wire::{Request, read_response};

/// Longest wait for a connection.
pub const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// Longest wait for an answer that must come.
pub const ANSWER_WAIT_MAX: Duration = Duration::from_secs(15);
/// Waits are made of parts of this length.
const WAIT_PART: Duration = Duration::from_secs(1);
/// Longest wait for a close that must come; Kafka closes at once.
pub const CLOSE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Largest frame that is read: more than any case asks for.
pub const FRAME_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The client id that the judge's requests carry.
pub const CLIENT_ID: &str = "conformance";

/// A connection to one broker.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    peer: String,
    received: BytesMut,
    correlation_id_next: i32,
    number: usize,
    transcript: Transcript,
}

/// What comes next on a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Next {
    /// A frame, without its size prefix.
    Frame(Bytes),
    /// The peer closed or reset the connection.
    Closed,
    /// Nothing within the wait.
    Silence,
}

impl Next {
    fn describe(&self, wait: Duration) -> String {
        match self {
            Self::Frame(frame) => format!("an answer of {} bytes", frame.len()),
            Self::Closed => "the connection is closed".to_owned(),
            Self::Silence => format!("nothing within {} ms", wait.as_millis()),
        }
    }
}

impl Connection {
    /// Connects to `address` (`HOST:PORT`).
    ///
    /// # Errors
    ///
    /// When nobody accepts in time.
    ///
    /// # Cancellation
    ///
    /// Safe: the socket closes.
    pub async fn open(address: &str, transcript: &Transcript) -> Result<Self, Objection> {
        let refused = |observed: String| {
            Objection::new(format!("connect to {address}"), "accepted", observed)
        };
        let stream = match timeout(CONNECT_WAIT_MAX, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(refused(error.to_string())),
            Err(_) => return Err(refused(format!("nothing within {CONNECT_WAIT_MAX:?}"))),
        };
        stream
            .set_nodelay(true)
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            stream,
            peer: address.to_owned(),
            received: BytesMut::new(),
            correlation_id_next: 1,
            number: transcript.connection(),
            transcript: transcript.clone(),
        })
    }

    /// The address it was opened to.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Writes bytes as they are: no size prefix is added.
    ///
    /// # Errors
    ///
    /// When the peer does not take them in time.
    ///
    /// # Cancellation
    ///
    /// Part of the bytes may have been sent.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), Objection> {
        let refused = |observed: String| Objection::new("send", "the bytes are taken", observed);
        match timeout(ANSWER_WAIT_MAX, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(refused(error.to_string())),
            Err(_) => Err(refused(format!("not taken within {ANSWER_WAIT_MAX:?}"))),
        }
    }

    /// Writes `frame` behind its size; `what` names it in the transcript.
    ///
    /// # Errors
    ///
    /// When the peer does not take it in time.
    ///
    /// # Cancellation
    ///
    /// Part of the frame may have been sent.
    pub async fn send_frame(&mut self, what: &str, frame: &[u8]) -> Result<(), Objection> {
        self.note_sent(what, frame);
        self.send_raw(&with_size(frame)).await
    }

    /// Puts a frame, without its size, into the transcript that is about to be sent by
    /// [`Self::send_raw`].
    pub fn note_sent(&self, what: &str, frame: &[u8]) {
        self.note(what, frame);
        let frame = Bytes::copy_from_slice(frame);
        self.transcript.event(self.number, Happening::Asked(frame));
    }

    /// Puts bytes into the transcript that are no frame, about to be sent by [`Self::send_raw`].
    pub fn note_raw(&self, what: &str, bytes: &[u8]) {
        self.note(what, bytes);
        self.transcript
            .event(self.number, Happening::SentRaw(what.to_owned()));
    }

    fn note(&self, what: &str, bytes: &[u8]) {
        let what = format!("{what} to {}", self.peer);
        self.transcript.note(Direction::Sent, what, bytes);
    }

    /// The next frame, or how the connection stands after `wait`.
    ///
    /// # Errors
    ///
    /// When the peer announces a frame that is too large or has a size below 0.
    ///
    /// # Cancellation
    ///
    /// Safe: what was read stays buffered.
    pub async fn next(&mut self, wait: Duration) -> Result<Next, Objection> {
        let next = self.read_within(wait).await?;
        let happened = match &next {
            Next::Frame(frame) => {
                let what = format!("answer from {}", self.peer);
                self.transcript.note(Direction::Received, what, frame);
                Happening::Answered(frame.clone())
            }
            Next::Closed => Happening::Closed,
            Next::Silence => Happening::Silent,
        };
        self.transcript.event(self.number, happened);
        Ok(next)
    }

    /// Waits in parts: where a machine stands still, one part is lost and not all of them.
    async fn read_within(&mut self, mut wait: Duration) -> Result<Next, Objection> {
        while !wait.is_zero() {
            let part = wait.min(WAIT_PART);
            if let Ok(next) = timeout(part, self.read_frame()).await {
                return next;
            }
            wait -= part;
        }
        Ok(Next::Silence)
    }

    async fn read_frame(&mut self) -> Result<Next, Objection> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Next::Frame(frame));
            }
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) => return Ok(Next::Closed),
                Ok(_) => {}
                Err(error) if is_reset(&error) => return Ok(Next::Closed),
                Err(error) => return Err(Objection::new("read", "a frame or an end", error)),
            }
        }
    }

    fn take_frame(&mut self) -> Result<Option<Bytes>, Objection> {
        let Some(size) = self.received.first_chunk::<4>() else {
            return Ok(None);
        };
        let size = i32::from_be_bytes(*size);
        let length = match usize::try_from(size) {
            Ok(length) if length <= FRAME_BYTES_MAX => length,
            _ => return Err(Objection::new("read", "a frame of a sane size", size)),
        };
        if self.received.len() < 4 + length {
            return Ok(None);
        }
        let frame = self.received.split_to(4 + length).freeze();
        Ok(Some(frame.slice(4..)))
    }

    /// The next frame; its absence is an objection.
    ///
    /// # Errors
    ///
    /// When none comes.
    ///
    /// # Cancellation
    ///
    /// Safe: what was read stays buffered.
    pub async fn frame(&mut self, step: &str) -> Result<Bytes, Objection> {
        match self.next(ANSWER_WAIT_MAX).await? {
            Next::Frame(frame) => Ok(frame),
            other => Err(Objection::new(
                step,
                "an answer",
                other.describe(ANSWER_WAIT_MAX),
            )),
        }
    }

    /// Objects unless the peer closes without another frame.
    ///
    /// # Errors
    ///
    /// When a frame comes, or nothing happens.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn expect_close(&mut self, step: &str) -> Result<(), Objection> {
        let wait = CLOSE_WAIT_MAX;
        match self.next(wait).await? {
            Next::Closed => Ok(()),
            other => {
                let expected = "the connection is closed without an answer";
                Err(Objection::new(step, expected, other.describe(wait)))
            }
        }
    }

    /// Objects unless nothing at all comes for `wait`.
    ///
    /// # Errors
    ///
    /// When a frame comes or the peer closes.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn expect_silence(&mut self, step: &str, wait: Duration) -> Result<(), Objection> {
        match self.next(wait).await? {
            Next::Silence => Ok(()),
            other => {
                let expected = "no answer, and the connection stays open";
                Err(Objection::new(step, expected, other.describe(wait)))
            }
        }
    }

    /// Sends `request` at `version` and returns its correlation id.
    ///
    /// # Errors
    ///
    /// When it cannot be encoded at that version or is not taken.
    ///
    /// # Cancellation
    ///
    /// Part of the frame may have been sent.
    pub async fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<i32, Objection> {
        let (correlation_id, frame) = self.encode(request, version)?;
        let what = format!("{} v{version}, correlation id {correlation_id},", R::NAME);
        self.send_frame(&what, &frame).await?;
        Ok(correlation_id)
    }

    /// A request as a frame with the connection's next correlation id, not sent yet.
    ///
    /// # Errors
    ///
    /// When it cannot be encoded at that version.
    pub fn encode<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<(i32, Bytes), Objection> {
        let body = request
            .body(version)
            .map_err(|error| Objection::new("encode", "a request", error))?;
        let correlation_id = self.correlation_id_next;
        self.correlation_id_next = self.correlation_id_next.wrapping_add(1);
        let header = Header {
            api_key: R::API_KEY,
            version,
            correlation_id,
            client_id: Some(CLIENT_ID),
            layout: R::layout(version),
        };
        Ok((correlation_id, header.frame(&body)))
    }

    /// Reads the answer to the request that carried `correlation_id`.
    ///
    /// # Errors
    ///
    /// When none comes, it does not decode, or it answers another request.
    ///
    /// # Cancellation
    ///
    /// Safe: what was read stays buffered.
    pub async fn answer<R: Request>(
        &mut self,
        correlation_id: i32,
        version: i16,
    ) -> Result<R::Answer, Objection> {
        let step = format!("{} v{version}", R::NAME);
        let frame = self.frame(&step).await?;
        let (echoed, answer) = read_response::<R>(&frame, version).map_err(|error| {
            Objection::new(
                &step,
                format!("an answer in the layout of v{version}"),
                error,
            )
        })?;
        if echoed != correlation_id {
            let expected = format!("correlation id {correlation_id}");
            return Err(Objection::new(
                &step,
                expected,
                format!("correlation id {echoed}"),
            ));
        }
        Ok(answer)
    }

    /// Sends `request` and reads its answer.
    ///
    /// # Errors
    ///
    /// As [`Self::send`] and [`Self::answer`].
    ///
    /// # Cancellation
    ///
    /// The connection must not be used on: an answer may be outstanding.
    pub async fn ask<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Answer, Objection> {
        let correlation_id = self.send(request, version).await?;
        self.answer::<R>(correlation_id, version).await
    }
}

/// `frame` behind its size.
pub fn with_size(frame: &[u8]) -> Vec<u8> {
    let size = i32::try_from(frame.len()).unwrap_or(i32::MAX);
    let mut bytes = Vec::with_capacity(4 + frame.len());
    bytes.extend_from_slice(&size.to_be_bytes());
    bytes.extend_from_slice(frame);
    bytes
}

fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}
