//! One connection: frames in, replies out.
//!
//! *State*
//!
//! ```text
//!            request waits                 cluster closes, peer ends, bad size
//! Idle ◀──────────────────▶ Waiting   any ─────────────────────────────────────▶ Ended
//! ```
//!
//! *Invariants*
//! 1. While a request waits, at most `HELD_BYTES_MAX` are read ahead; beyond that the peer feels
//!    it in its socket, as with a muted channel of Kafka. Reading ahead is how a peer that leaves
//!    is noticed.
//! 2. Replies given before a close are written before it.
//! 3. A frame with a bad size ends the connection once the requests before it are answered, and
//!    no other connection.
//! 4. However this ends, the engine hears of it: also when the task is aborted.
//! 5. What is held of input is counted at the driver, and no longer than it is held.
//!
//! *Source*: `SocketServer` and `Selector` of apache/kafka 4.3 (muting, order of replies).
//!
//! *Not here*: what frames mean.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::driver::{Driver, InputFull, Outgoing, Seat, Standing};
use super::frame::{self, BadSize};
use super::transport::Stream;
use crate::engine::effect::{BrokerId, ConnectionId};

/// Serves one connection to `broker` until either side ends it.
///
/// # Cancellation
///
/// The connection is closed at once, without what was not written yet.
pub async fn serve<S>(stream: S, broker: BrokerId, driver: Arc<Driver>)
where
    S: Stream,
{
    let seat = driver.open(broker, stream.peer());
    let leaving = Leaving {
        driver: &driver,
        connection: seat.connection,
    };
    let mut connection = Connection {
        stream,
        seat,
        input: BytesMut::new(),
        counted: Counted {
            driver: Arc::clone(&driver),
            bytes: 0,
        },
        frame_bytes_largest: 0,
        bad_size: None,
        output: BytesMut::new(),
        requests: Vec::new(),
        replies: Vec::new(),
    };
    let ended = connection.run(&driver).await;
    tracing::debug!(
        ?broker,
        connection = leaving.connection.0,
        ?ended,
        "connection ended"
    );
}

/// Tells the engine that a connection is gone, whatever ended its task.
struct Leaving<'a> {
    driver: &'a Driver,
    connection: ConnectionId,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.driver.close(self.connection);
    }
}

/// The bytes of input that the driver knows of.
struct Counted {
    driver: Arc<Driver>,
    bytes: usize,
}

impl Counted {
    fn set(&mut self, bytes: usize) -> Result<(), InputFull> {
        let before = core::mem::replace(&mut self.bytes, bytes);
        if before == bytes {
            return Ok(());
        }
        self.driver.count_input(before, bytes)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Nothing is held from here on, so this is no error.
        let _ = self.set(0);
    }
}

/// Why a connection ended.
#[derive(Debug)]
enum Ended {
    ByCluster,
    ByPeer,
    Broken(#[expect(dead_code, reason = "for the log")] io::Error),
}

struct Connection<S> {
    stream: S,
    seat: Seat,
    input: BytesMut,
    counted: Counted,
    frame_bytes_largest: usize,
    bad_size: Option<BadSize>,
    output: BytesMut,
    requests: Vec<Bytes>,
    replies: Vec<Outgoing>,
}

impl<S: Stream> Connection<S> {
    async fn run(&mut self, driver: &Driver) -> Ended {
        let mut before = Standing::Idle;
        loop {
            let connection = self.seat.connection;
            if before == Standing::Idle {
                self.cut_requests(driver.frame_bytes_max());
                if self.requests.is_empty() && !self.input.is_empty() {
                    driver.hear(connection);
                }
            }
            if let Err(full) = self.counted.set(self.input.len()) {
                driver.refuse(connection, &full);
                return Ended::ByCluster;
            }
            let standing = driver.exchange(connection, &mut self.requests, &mut self.replies);
            if let Err(error) = self.write_replies().await {
                return Ended::Broken(error);
            }
            match (standing, self.bad_size) {
                (Standing::Ending, _) => return Ended::ByCluster,
                (Standing::Resetting, _) => {
                    return match self.stream.end_with_reset() {
                        Ok(()) => Ended::ByCluster,
                        Err(error) => Ended::Broken(error),
                    };
                }
                (Standing::Idle, Some(bad_size)) => {
                    driver.refuse(connection, &bad_size);
                    return Ended::ByCluster;
                }
                // What was held back meanwhile may be whole requests: they go first.
                (Standing::Idle, None) if before == Standing::Waiting => {}
                (Standing::Idle | Standing::Waiting, _) => {
                    if let Some(ended) = self.wait(standing).await {
                        return ended;
                    }
                }
            }
            before = standing;
        }
    }

    fn cut_requests(&mut self, frame_bytes_max: usize) {
        loop {
            match frame::cut(&mut self.input, frame_bytes_max) {
                Ok(Some(request)) => {
                    self.frame_bytes_largest = self.frame_bytes_largest.max(request.len());
                    self.requests.push(request);
                }
                Ok(None) => return,
                Err(bad_size) => {
                    self.bad_size = Some(bad_size);
                    return;
                }
            }
        }
    }

    /// All replies of one visit leave in one write.
    async fn write_replies(&mut self) -> io::Result<()> {
        if self.replies.is_empty() {
            return Ok(());
        }
        for reply in self.replies.drain(..) {
            match reply {
                Outgoing::Frame(frame) => frame::put(&mut self.output, &frame),
                Outgoing::Piece(bytes) => self.output.extend_from_slice(&bytes),
            }
        }
        self.stream.write_all_buf(&mut self.output).await?;
        self.stream.flush().await?;
        self.output.clear();
        if self.output.capacity() > KEPT_BYTES_MAX {
            self.output = BytesMut::new();
        }
        Ok(())
    }

    /// Waits for bytes of the peer or news of the engine.
    async fn wait(&mut self, standing: Standing) -> Option<Ended> {
        self.make_room();
        let reads = standing == Standing::Idle || self.input.len() < HELD_BYTES_MAX;
        tokio::select! {
            read = self.stream.read_buf(&mut self.input), if reads => match read {
                Ok(0) => Some(Ended::ByPeer),
                Ok(_) => None,
                Err(error) => Some(Ended::Broken(error)),
            },
            () = self.seat.news.notified() => None,
        }
    }

    /// Room for a read: as much again as arrived of the frame in progress, or as the largest frame
    /// of this connection took, so that large frames are not copied at every growth.
    fn make_room(&mut self) {
        if self.input.capacity() - self.input.len() < ROOM_BYTES_MIN {
            let usual = self.frame_bytes_largest.min(KEPT_BYTES_MAX);
            self.input
                .reserve(READ_BYTES.max(usual).max(self.input.len()));
        }
    }
}

/// Read ahead while a request waits, at most this and one read.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// The first room for a read.
const READ_BYTES: usize = 64 * 1024;

/// Less room than this is not worth a read.
const ROOM_BYTES_MIN: usize = 4 * 1024;

/// Buffers above this are not kept for the next use.
const KEPT_BYTES_MAX: usize = 2 * 1024 * 1024;
