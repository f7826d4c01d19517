//! The seam between the cluster and whatever drives it: TCP, a pipe in memory, or a simulator.
//!
//! Bytes cross here: a request arrives as the frame that was read, a reply leaves as the frame to
//! write, both without the four bytes of size before them.
//!
//! *Invariants*
//! 1. Replies leave per connection in the order of their requests; a request that waits holds back
//!    the ones behind it on its connection and no others (Kafka mutes the channel).
//! 2. After a [`Effect::Close`] no effect names that connection again.

use bytes::Bytes;

/// A broker's node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerId(pub i32);

/// A connection's number; the driver gives it and never uses it twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What the cluster wants of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write this reply.
    Reply {
        /// On which connection.
        connection: ConnectionId,
        /// Response header and body.
        frame: Bytes,
    },
    /// Close the connection; replies given before it are written first.
    Close {
        /// Which.
        connection: ConnectionId,
    },
}
