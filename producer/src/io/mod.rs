//! The edge: sockets, tasks, locks, the clock and the source of randomness, on tokio.
