//! The seam between the cluster and whatever drives it: TCP, a pipe in memory, or a simulator.
//!
//! Bytes cross here: a request arrives as the frame that was read, a reply leaves as the frame to
//! write, both without the four bytes of size before them. Only a fault rule makes pieces.
//!
//! *Invariants*
//! 1. Replies leave per connection in the order of their requests; a request that waits holds back
//!    the ones behind it on its connection and no others (Kafka mutes the channel).
//! 2. After a [`Effect::Close`] or [`Effect::Reset`] no effect names that connection again.
//! 3. The pieces of a reply follow one another on their connection, and either make up the whole
//!    reply or are followed by its end.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A broker's node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BrokerId(pub i32);

/// A connection's number; the driver gives it and never uses it twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// Write these bytes as they are: a piece of a reply that a fault rule takes apart, the four
    /// bytes of size at its start included.
    Piece {
        /// On which connection.
        connection: ConnectionId,
        /// What comes next.
        bytes: Bytes,
    },
    /// The connection is served again after a silence that no reply ended: whoever held back what
    /// arrived on it goes on.
    ReadOn {
        /// Which.
        connection: ConnectionId,
    },
    /// Close the connection; replies given before it are written first.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// End the connection so that the peer sees it broken, where the transport can: RST on TCP.
    Reset {
        /// Which.
        connection: ConnectionId,
    },
}

impl Effect {
    /// The connection that it concerns.
    #[must_use]
    pub const fn connection(&self) -> ConnectionId {
        match self {
            Self::Reply { connection, .. }
            | Self::Piece { connection, .. }
            | Self::ReadOn { connection }
            | Self::Close { connection }
            | Self::Reset { connection } => *connection,
        }
    }
}
