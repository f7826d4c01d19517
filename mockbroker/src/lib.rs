//! An Apache Kafka cluster inside the process, for tests.
//!
//! # Map
//!
//! | Layer | Holds | Knows of |
//! |---|---|---|
//! | root files | the public API: builder, handle, fault rules, views for assertions | all |
//! | [`io`] | listeners, connections, the clock, on tokio | `handlers`, `engine`, `wire` |
//! | [`handlers`] | one file per API: parse, act, answer | `engine`, `wire` |
//! | [`engine`] | the cluster as one value: topology, logs, replication, producer state, time as an argument | `wire` |
//! | [`wire`] | bytes to values and back | nothing |
//!
//! The modules `io`, `handlers`, `engine` and `wire` are open so that a simulation can drive them;
//! they are not covered by the promise of stable names.

#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
pub mod handlers;
#[doc(hidden)]
pub mod io;
#[doc(hidden)]
pub mod wire;
