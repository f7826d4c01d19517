//! What a partition tells of its producers.

mod frames;
mod world;

use core::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use frames::{Batch, header};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::BrokerId;
use world::{LEADER, THIRD, World, only_answer, only_row};

/// DescribeProducers, version 0, of partition 0 of `orders`.
fn describe() -> Bytes {
    let mut frame = header(61, 0, 1);
    frame.put_slice(&[0, 2, 7]);
    frame.put_slice(b"orders");
    frame.put_slice(&[2, 0, 0, 0, 0, 0, 0]);
    frame.freeze()
}

/// The code; of each producer the id, epoch, last sequence and last timestamp.
fn described(world: &mut World, broker: BrokerId) -> (i16, Vec<(i64, i32, i32, i64)>) {
    let connection = world.connect(broker);
    let mut answer = only_answer(world.send(connection, describe()));
    // Header, throttle time, one topic with its name, one partition with its index.
    answer.advance(5 + 4 + 1 + 7 + 1 + 4);
    let (code, message) = (answer.get_i16(), answer.get_u8());
    assert_eq!(message, 0, "no message");
    let producers = (1..answer.get_u8()).map(|_| {
        let producer = (
            answer.get_i64(),
            answer.get_i32(),
            answer.get_i32(),
            answer.get_i64(),
        );
        let transaction = (answer.get_i32(), answer.get_i64(), answer.get_u8());
        assert_eq!(transaction, (-1, -1, 0), "there are no transactions");
        producer
    });
    let producers = producers.collect();
    assert_eq!(answer[..], [0, 0, 0]);
    (code, producers)
}

#[test]
fn a_producer_is_told_with_the_end_of_its_last_batch() {
    let mut world = World::new();
    let at = |timestamp_ms, batch| Batch {
        timestamp_ms,
        ..batch
    };
    for batch in [
        at(900, Batch::idempotent(7, 0, 2)),
        at(800, Batch::idempotent(7, 2, 3)),
        at(700, Batch::idempotent(5, i32::MAX, 2)),
        Batch::plain(1),
    ] {
        assert_eq!(only_row(world.append(-1, batch)).code, 0);
    }
    let told = (0, vec![(5, 0, 0, 700), (7, 0, 4, 800)]);
    assert_eq!(described(&mut world, LEADER), told);
    assert_eq!(
        described(&mut world, THIRD),
        told,
        "a follower tells it too"
    );
    let next_epoch = Batch {
        epoch: 1,
        ..Batch::idempotent(7, 0, 1)
    };
    assert_eq!(only_row(world.append(-1, next_epoch)).code, 0);
    let told = (0, vec![(5, 0, 0, 700), (7, 1, 0, 1_000)]);
    assert_eq!(described(&mut world, LEADER), told);
    world.make(&Move::ExpireProducer { producer_id: 7 });
    assert_eq!(described(&mut world, LEADER), (0, vec![(5, 0, 0, 700)]));
}

#[test]
fn an_idle_producer_is_told_until_it_is_swept() {
    let settings = [
        ("producer.id.expiration.ms", "1000"),
        ("producer.id.expiration.check.interval.ms", "3000"),
    ];
    let mut world = World::of_brokers(&settings, &[]);
    assert_eq!(
        only_row(world.append(-1, Batch::idempotent(7, 0, 1))).code,
        0
    );
    world.pass(Duration::from_millis(2_999));
    assert_eq!(described(&mut world, LEADER).1.len(), 1);
    world.pass(Duration::from_millis(1));
    assert_eq!(described(&mut world, LEADER), (0, vec![]));
}

#[test]
fn a_broker_without_a_replica_refuses() {
    let mut world = World::new();
    let connection = world.connect(LEADER);
    only_answer(world.send(connection, frames::delete_topics(&["orders"])));
    let one = [frames::NewTopic::new("orders", 1, 1)];
    only_answer(world.send(connection, frames::create_topics(&one, 0)));
    assert_eq!(described(&mut world, LEADER), (0, vec![]));
    assert_eq!(described(&mut world, THIRD), (6, vec![]));
}
