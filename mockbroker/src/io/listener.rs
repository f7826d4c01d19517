//! A listener: accepts connections to one broker.
//!
//! *Invariants*
//! 1. Its connections live no longer than the listener: dropping the task ends them all and frees
//!    the port.
//! 2. An error of one accept ends nothing.
//!
//! *Not here*: what a connection does.

use core::time::Duration;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::connection;
use super::driver::Driver;
use crate::engine::effect::BrokerId;

/// Accepts connections to `broker`; never ends.
///
/// # Cancellation
///
/// The port is free and the connections are closed.
pub async fn accept(listener: TcpListener, broker: BrokerId, driver: Arc<Driver>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Without it, a reply in two segments waits for the peer's delayed ACK.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "cannot set TCP_NODELAY");
                    }
                    connections.spawn(connection::serve(stream, broker, Arc::clone(&driver)));
                }
                Err(error) => {
                    tracing::warn!(?broker, %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Out of file descriptors, an accept fails at once and again: no busy loop.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(10);
