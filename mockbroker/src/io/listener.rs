//! A listener: accepts connections to one broker.
//!
//! *Invariants*
//! 1. Its connections live no longer than the task: dropping it ends them all.
//! 2. An error of one accept ends nothing.
//!
//! *Not here*: what a connection does; when a broker is listened to (`ports.rs`).

use core::time::Duration;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::connection;
use super::driver::Driver;
use super::ports::Door;
use crate::engine::effect::BrokerId;

/// Accepts connections to `broker` while its door is open; ends when there is no such port more.
///
/// # Cancellation
///
/// The connections are closed.
pub async fn accept(mut door: Door, broker: BrokerId, driver: Arc<Driver>) {
    let mut connections = JoinSet::new();
    loop {
        let listener = match door.wait_for(Option::is_some).await {
            Ok(open) => open.clone(),
            Err(_) => return,
        };
        let Some(listener) = listener else { continue };
        loop {
            tokio::select! {
                // First: what is shut fails at every accept.
                biased;
                changed = door.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        // Without it, a reply in two segments waits for the peer's delayed ACK.
                        if let Err(error) = stream.set_nodelay(true) {
                            tracing::debug!(%error, "cannot set TCP_NODELAY");
                        }
                        let driver = Arc::clone(&driver);
                        connections.spawn(connection::serve(stream, broker, driver));
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
}

/// Out of file descriptors, an accept fails at once and again: no busy loop.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(10);
