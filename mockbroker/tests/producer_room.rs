//! The bound of the producers that partitions know.

mod frames;
mod world;

use core::time::Duration;

use frames::{Batch, produce};
use kafka_mockbroker::BrokerId;
use world::{World, only_row, outcome};

/// Two producers write to a cluster that lets in no more.
fn full(settings: &[(&str, &str)]) -> World {
    let mut world = World::of_brokers(settings, &[]);
    world.engine.bound_producers(2);
    for (offset, id) in [(0, 7), (1, 8)] {
        assert_eq!(send(&mut world, id, 0), (0, offset));
    }
    world
}

fn send(world: &mut World, producer_id: i64, sequence: i32) -> (i16, i64) {
    outcome(world.append(1, Batch::idempotent(producer_id, sequence, 1)))
}

#[test]
fn new_producer_beyond_the_bound_is_refused_and_noted() {
    let mut world = full(&[]);
    let row = only_row(world.append(-1, Batch::idempotent(9, 0, 1)));
    assert_eq!(
        (row.code, row.base_offset, row.log_start_offset),
        (-1, -1, 0)
    );
    assert_eq!(world.log_end(0), 2);
    let diagnostics = world.engine.journal().diagnostics();
    let told = "a batch is refused with -1: its producer is new, 2 are known, allowed are 2";
    assert_eq!(diagnostics.len(), 1);
    assert_eq!(diagnostics[0].text, told);
}

#[test]
fn known_producers_and_plain_batches_go_on_at_the_bound() {
    let mut world = full(&[]);
    assert_eq!(send(&mut world, 7, 1), (0, 2));
    assert_eq!(send(&mut world, 7, 1), (0, 2), "a duplicate");
    assert_eq!(outcome(world.append(1, Batch::plain(1))), (0, 3));
    assert!(world.engine.journal().diagnostics().is_empty());
}

#[test]
fn bound_is_that_of_all_partitions() {
    let mut world = full(&[]);
    let connection = world.connect(BrokerId(2));
    let batch = Batch::idempotent(7, 0, 1).encode();
    let frame = produce(1, 1_000, "orders", &[(1, Some(batch))]);
    assert_eq!(outcome(world.send(connection, frame)).0, -1);
}

#[test]
fn deleted_topic_gives_its_room_back() {
    let mut world = full(&[]);
    world.recreate_orders();
    assert_eq!(send(&mut world, 9, 0), (0, 0));
}

#[test]
fn expired_producers_make_room() {
    let mut world = full(&[
        ("producer.id.expiration.ms", "1000"),
        ("producer.id.expiration.check.interval.ms", "100"),
    ]);
    assert_eq!(send(&mut world, 9, 0).0, -1);
    world.pass(Duration::from_secs(2));
    assert_eq!(send(&mut world, 9, 0), (0, 2));
}
