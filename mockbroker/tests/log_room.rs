//! The bound of what the logs of a cluster hold.

mod frames;
mod raw;
mod world;

use core::time::Duration;

use frames::{Batch, produce};
use kafka_mockbroker::MockCluster;
use raw::Client;
use world::{LEADER, World, is_closed, only_row, outcome, to_orders};

/// What a batch of one record costs: 69 bytes, and 384 in each of three replicas.
const BATCH: u64 = 69 + 3 * 384;

/// Room for two batches of one record.
fn small() -> World {
    let mut world = World::configured(&[]);
    world.engine.bound_log_bytes(2 * BATCH + 100);
    world
}

fn notes(world: &World) -> Vec<&str> {
    let diagnostics = world.engine.journal().diagnostics().iter();
    diagnostics
        .map(|diagnostic| diagnostic.text.as_str())
        .collect()
}

#[test]
fn batch_beyond_the_bound_is_refused_as_by_a_failed_disk_and_noted() {
    let mut world = small();
    for offset in 0..2 {
        assert_eq!(outcome(world.append(1, Batch::plain(1))), (0, offset));
    }
    let row = only_row(world.append(-1, Batch::plain(1)));
    assert_eq!(
        (row.code, row.base_offset, row.log_start_offset),
        (56, -1, -1)
    );
    assert_eq!(world.log_end(0), 2);
    let told = "a batch is refused with 56: the logs hold 2442 bytes, allowed are 2542";
    assert_eq!(notes(&world), [told]);
}

#[test]
fn bound_is_that_of_all_partitions() {
    let mut world = small();
    world.append(1, Batch::plain(1));
    world.append(1, Batch::plain(1));
    let connection = world.connect(kafka_mockbroker::BrokerId(2));
    let frame = produce(1, 1_000, "orders", &[(1, Some(Batch::plain(1).encode()))]);
    assert_eq!(outcome(world.send(connection, frame)).0, 56);
}

#[test]
fn without_acks_a_full_disk_closes_the_connection() {
    let mut world = small();
    world.engine.bound_log_bytes(0);
    let connection = world.connect(LEADER);
    let frame = to_orders(0, Batch::plain(1));
    assert!(is_closed(&world.send(connection, frame)));
}

#[test]
fn duplicate_is_recognised_without_room() {
    let mut world = small();
    assert_eq!(outcome(world.append(1, Batch::idempotent(7, 0, 1))), (0, 0));
    world.engine.bound_log_bytes(BATCH);
    assert_eq!(outcome(world.append(1, Batch::idempotent(7, 0, 1))), (0, 0));
    assert_eq!(outcome(world.append(1, Batch::idempotent(7, 1, 1))).0, 56);
}

#[test]
fn deleted_topic_gives_its_room_back() {
    let mut world = small();
    world.append(1, Batch::plain(1));
    world.append(1, Batch::plain(1));
    world.recreate_orders();
    assert_eq!(outcome(world.append(1, Batch::plain(1))), (0, 0));
}

#[test]
fn batch_that_is_compressed_anew_is_held_twice() {
    let mut world = World::configured(&[("compression.type", "gzip")]);
    world.engine.bound_log_bytes(BATCH);
    assert_eq!(outcome(world.append(1, Batch::plain(1))).0, 56);
    world.engine.bound_log_bytes(BATCH + 69);
    assert_eq!(outcome(world.append(1, Batch::plain(1))), (0, 0));
}

#[test]
fn log_does_not_hold_the_frame_that_brought_a_batch() {
    let mut world = World::configured(&[]);
    let connection = world.connect(LEADER);
    let frame = to_orders(1, Batch::plain(1));
    world.send(connection, frame.clone());
    let key = world.engine.cluster().key("orders", 0).unwrap();
    let log = world.engine.cluster().partition(key).unwrap().log();
    let received = log.batches()[0].received.as_ptr();
    assert!(!frame.as_ptr_range().contains(&received));
}

#[tokio::test(start_paused = true)]
async fn builder_sets_the_bound() {
    let cluster = MockCluster::builder()
        .topic("orders", 1, 1)
        .log_bytes_max(10)
        .start_in_memory()
        .unwrap();
    let mut client = Client::new(cluster.connect(9092).unwrap(), Duration::from_secs(60));
    let request = raw::produce(1, "orders", &[(0, raw::batch(0, &["a"]))]);
    client.send_bytes(&request).await;
    assert_eq!(client.answer().await, Some(1));
    assert!(cluster.records("orders", 0).is_empty());
    assert_eq!(cluster.diagnostics().len(), 1);
}
