//! A Kafka producer for tokio that says of each record whether it was written, not written, or
//! possibly written.
//!
//! # Map
//!
//! | Layer | Holds | Knows of |
//! |---|---|---|
//! | root files | the public API; of these `types` and `error` are plain values that every layer uses | all |
//! | [`io`] | sockets, tasks, locks, the clock, randomness | `engine`, `wire`, values |
//! | [`engine`] | state machines: input in, actions out, time as an argument | `wire`, values |
//! | [`wire`] | bytes to values and back | values |
//!
//! The modules `io`, `engine` and `wire` are open so that a simulation can drive them; they are not
//! covered by the promise of stable names.

#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
pub mod io;
#[doc(hidden)]
pub mod wire;

mod error;
mod types;

pub use error::{ErrorCode, Failure, FailureKind, Fault};
pub use types::{
    Acks, BrokerId, LeaderEpoch, ProducerEpoch, ProducerId, Sequence, TopicId, TopicIndex,
    TopicPartition,
};
