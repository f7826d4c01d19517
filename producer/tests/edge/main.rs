//! Promises of the producer's edge, against a scripted broker in memory on a paused clock.
//!
//! | File | Promises about |
//! |---|---|
//! | `sending` | what a send waits for, what it refuses, whom it wakes |
//! | `allocating` | what a record costs of the heap: nothing |
//! | `ending` | flushing, closing, dropping, and runtimes that end |
//! | `forgetting` | topics that nobody used for a while |
//! | `intercepting` | what interceptors change, what they are told, how they end |
//! | `many` | many records at once |
//! | `facade` | the same through the crate `metrics` |
//! | `measuring` | what is measured |
//! | `narrating` | what is told as events and spans |
//! | `placing` | which partition a record goes to |
//! | `typed` | keys and values of any type |
//! | `peer` | the scripted broker |

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod allocating;
mod ending;
#[cfg(feature = "metrics")]
mod facade;
mod forgetting;
mod giving_up;
mod intercepting;
mod many;
mod measuring;
mod narrating;
mod peer;
mod placing;
/// The reader of batches that the unit tests use too.
#[path = "../../src/wire/read_back.rs"]
mod read_back;
mod sending;
mod typed;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use kafka_producer::{Delivery, Producer, ProducerBuilder, Record};
use peer::Peer;

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A producer's settings, joined to the peer; nothing lingers.
fn joined(peer: &Peer) -> ProducerBuilder {
    Producer::builder()
        .bootstrap_servers("broker:9092")
        .linger(Duration::ZERO)
        .connector(peer.clone())
}

/// Memory for two batches of 500 bytes, each with 1 KiB of state, so that a third record of 400 has
/// to wait.
fn tight(peer: &Peer) -> ProducerBuilder {
    joined(peer).batch_size(500).buffer_memory(3_500)
}

/// A broker of one topic with two partitions.
fn orders() -> Peer {
    Peer::new(&[("orders", 2)])
}

fn to_first(value: &str) -> Record<'_, &'static str> {
    Record::to("orders").partition(0).value(value)
}

/// Whether the future is ready now, without waiting for anything.
fn is_ready<F: Future + Unpin>(future: &mut F) -> bool {
    let polled = Pin::new(future).poll(&mut Context::from_waker(Waker::noop()));
    polled.is_ready()
}

/// Lets this much virtual time pass.
async fn pass(time: Duration) {
    let nothing = std::future::pending::<()>();
    let _passed = tokio::time::timeout(time, nothing).await;
}

/// Lets all tasks run until nothing more happens at this time.
async fn settle() {
    pass(MS).await;
}

async fn offset(delivery: Delivery) -> Option<i64> {
    delivery.await.expect("written").offset
}
