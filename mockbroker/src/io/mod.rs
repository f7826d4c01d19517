//! The edge: sockets, pipes, tasks, the lock and the clock, on tokio.
//!
//! | File | Holds |
//! |---|---|
//! | [`driver`] | the engine behind its lock, the clock, the deadlines, who is told of which effect |
//! | [`listener`] | accepts connections to one broker |
//! | [`ports`] | which brokers are listened to; keeps the ports of the others |
//! | [`connection`] | one connection: frames in, replies out |
//! | [`frame`] | how frames are cut from a stream of bytes |
//! | [`transport`] | what carries bytes: listening sockets, pipes in memory |

pub mod connection;
pub mod driver;
pub mod frame;
pub mod listener;
pub mod ports;
pub mod transport;
