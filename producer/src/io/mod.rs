//! The edge: sockets, tasks, locks, the clock and the source of randomness, on tokio.
//!
//! | File | Holds |
//! |---|---|
//! | `accumulator` | the partitions' queues behind their locks, and what appends read without one |
//! | `outgoing` | a record on its way into a queue, and what becomes of it there |
//! | `topics` | the topics in use, their partitions, what is known of them |
//! | `slot_table` | the slots of a topic's partitions, found without a lock |
//! | `load` | what waits in a queue, for who does not lock it |
//! | `sticky` | the partition of records that leave it open |
//! | `completion` | one batch's end, and who waits for it |
//! | `meters` | what is measured |
//! | `narration` | events and spans of `tracing` |
//! | `memory` | the bytes in use, and who waits for room |
//! | `room` | how much memory a batch gets, and when it gets more |
//! | `pool` | buffers of settled batches, kept for those to come |
//! | `pause` | the moment that a send waits where a queue is deep |
//! | `incomplete` | the batches accepted and not yet settled, for whoever flushes |
//! | `phase` | how far a producer's life is |
//! | `inbox` | what callers tell the driver |
//! | `desk` | what callers ask of transactions, and the answers |
//! | `slot` | a partition's queue: what callers fill, and what the driver looks at |
//! | `driver` | inputs in, actions out, sleep until the next deadline |
//! | `shared_driver` | the driver where callers reach it |
//! | `compression_pool` | the threads that compress batches |
//! | `codec_room` | how many of them memory allows, and what they hold |
//! | `connection` | one connection's reads and writes |
//! | `transport` | how connections are made |
//! | `names` | which addresses a name has, and whose turn it is |
//! | `blocking` | the bridge from a plain thread to a future |
//! | `waiting` | waiting with a bound |
//! | `clock`, `entropy` | time and randomness |

pub mod transport;

pub(crate) mod accumulator;
pub(crate) mod blocking;
pub(crate) mod clock;
pub(crate) mod codec_room;
pub(crate) mod completion;
pub(crate) mod compression_pool;
pub(crate) mod connection;
pub(crate) mod desk;
pub(crate) mod driver;
pub(crate) mod entropy;
pub(crate) mod inbox;
pub(crate) mod incomplete;
pub(crate) mod load;
pub(crate) mod memory;
pub(crate) mod meters;
pub(crate) mod names;
pub(crate) mod narration;
pub(crate) mod outgoing;
pub(crate) mod pause;
pub(crate) mod phase;
pub(crate) mod pool;
pub(crate) mod room;
pub(crate) mod shared_driver;
pub(crate) mod slot;
pub(crate) mod slot_table;
pub(crate) mod sticky;
pub(crate) mod topics;
pub(crate) mod waiting;
