//! The edge: listeners, connections, tasks and the clock, on tokio.
