//! Offsets of groups, committed alone or as a part of a transaction.
//!
//! Virtual time, frames by hand; single answers are goldens.

mod consumers;
mod frames;
mod txns;
mod world;

use core::time::Duration;
use std::sync::Arc;

use consumers::{add_offsets, added, commit, committed, fetch, fetched, log_of, txn_commit};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::BrokerId;
use txns::Who;
use world::{World, is_closed, only_answer};

const ID: &str = "payments";
/// Its partition of the log of offsets is led by another broker than the first.
const GROUP: &str = "ab";
const NONE: (i64, i16) = (-1, 0);
const UNSTABLE: (i64, i16) = (-1, 88);

fn simple(world: &mut World, rows: &[(i32, i64)]) -> Vec<i16> {
    committed(world.ask_group(GROUP, commit(GROUP, (-1, ""), rows)))
}

fn in_transaction(world: &mut World, version: i16, who: Who, rows: &[(i32, i64)]) -> Vec<i16> {
    let frame = txn_commit(version, (ID, GROUP), (who.id, who.epoch), rows);
    committed(world.ask_group(GROUP, frame))
}

#[test]
fn what_a_group_commits_it_reads_back() {
    let mut world = World::new();
    assert_eq!(world.offsets(GROUP), [NONE, NONE]);
    assert_eq!(simple(&mut world, &[(0, 7), (1, 9)]), [0, 0]);
    assert_eq!(simple(&mut world, &[(0, 8)]), [0]);
    assert_eq!(world.offsets(GROUP), [(8, 0), (9, 0)]);
    assert_eq!(world.offsets("ba"), [NONE, NONE], "another group's");
}

#[test]
fn only_who_leads_the_groups_partition_answers() {
    let mut world = World::new();
    let (_, coordinator) = log_of(&mut world, GROUP);
    for broker in [1, 2, 3].map(BrokerId) {
        let connection = world.connect(broker);
        let told = fetched(only_answer(world.send(connection, fetch(GROUP))));
        let connection = world.connect(broker);
        let frame = commit(GROUP, (-1, ""), &[(0, 7)]);
        let code = committed(only_answer(world.send(connection, frame)));
        let expected = if broker == coordinator { 0 } else { 16 };
        assert_eq!(code, [expected], "{broker:?}");
        assert_eq!(told.err(), (expected != 0).then_some(16), "{broker:?}");
    }
    // The next leader knows what was committed.
    world.make(&Move::CrashBroker {
        broker: coordinator,
    });
    let (_, next) = log_of(&mut world, GROUP);
    assert_ne!(next, coordinator);
    assert_eq!(world.offsets(GROUP)[0], (7, 0));
}

#[test]
fn a_transaction_commits_offsets_when_its_marker_is_there() {
    let mut world = World::new();
    let who = world.producer(ID);
    simple(&mut world, &[(0, 3)]);
    assert_eq!(
        in_transaction(&mut world, 5, who, &[(0, 7), (1, 9)]),
        [0, 0]
    );
    assert_eq!(world.offsets(GROUP), [UNSTABLE, UNSTABLE]);
    let (partition, _) = log_of(&mut world, GROUP);
    let held: Arc<str> = "__consumer_offsets".into();
    world.make(&Move::HoldMarkers {
        topic: Arc::clone(&held),
        partition,
    });
    let (code, next) = world.end(ID, who, true);
    assert_eq!(code, 0);
    assert_eq!(world.offsets(GROUP), [UNSTABLE, UNSTABLE]);
    assert_eq!(in_transaction(&mut world, 5, next, &[(0, 8)]), [51]);
    assert_eq!(in_transaction(&mut world, 4, next, &[(0, 8)]), [15]);
    world.make(&Move::ReleaseMarkers {
        topic: held,
        partition,
    });
    assert_eq!(world.offsets(GROUP), [(7, 0), (9, 0)]);
    assert_eq!(in_transaction(&mut world, 5, who, &[(0, 8)]), [47]);
    assert_eq!(in_transaction(&mut world, 5, next, &[(0, 8)]), [0]);
}

#[test]
fn an_aborted_or_late_transaction_commits_none() {
    let mut world = World::new();
    let who = world.producer(ID);
    simple(&mut world, &[(0, 3)]);
    in_transaction(&mut world, 5, who, &[(0, 7), (1, 9)]);
    let (_, who) = world.end(ID, who, false);
    assert_eq!(world.offsets(GROUP), [(3, 0), NONE]);
    in_transaction(&mut world, 5, who, &[(0, 7)]);
    assert_eq!(world.offsets(GROUP), [UNSTABLE, NONE]);
    world.pass(Duration::from_secs(80));
    assert_eq!(world.offsets(GROUP), [(3, 0), NONE]);
}

#[test]
fn older_clients_let_offsets_join_first() {
    let mut world = World::new();
    let who = world.producer(ID);
    assert_eq!(in_transaction(&mut world, 4, who, &[(0, 7)]), [120]);
    assert_eq!(in_transaction(&mut world, 3, who, &[(0, 7)]), [48]);
    let frame = add_offsets(ID, (who.id, who.epoch), GROUP);
    assert_eq!(added(world.ask_coordinator(ID, frame)), 0);
    assert_eq!(in_transaction(&mut world, 3, who, &[(0, 7)]), [0]);
    assert_eq!(world.end_at(4, ID, who, true).0, 0);
    assert_eq!(world.offsets(GROUP)[0], (7, 0));
}

#[test]
fn two_transactions_keep_one_partition_unstable() {
    let mut world = World::new();
    let (one, other) = (world.producer(ID), world.producer("other"));
    in_transaction(&mut world, 5, one, &[(0, 7)]);
    let frame = txn_commit(5, ("other", GROUP), (other.id, other.epoch), &[(0, 9)]);
    assert_eq!(committed(world.ask_group(GROUP, frame)), [0]);
    assert_eq!(world.end("other", other, true).0, 0);
    assert_eq!(world.offsets(GROUP), [UNSTABLE, NONE]);
    assert_eq!(world.end(ID, one, true).0, 0);
    assert_eq!(world.offsets(GROUP), [(9, 0), NONE], "the newer one counts");
}

#[test]
fn offsets_of_a_deleted_topic_are_gone() {
    let mut world = World::new();
    simple(&mut world, &[(0, 7)]);
    world.recreate_orders();
    assert_eq!(world.offsets(GROUP), [NONE, NONE]);
}

#[test]
fn the_log_of_offsets_is_a_topic_of_kafkas_own() {
    let mut world = World::new();
    let topics = |world: &World| world.engine.cluster().topics().count();
    assert_eq!(topics(&world), 1, "nobody has asked for it");
    log_of(&mut world, GROUP);
    let cluster = world.engine.cluster();
    let topic = cluster.topology().topic_by_name("__consumer_offsets");
    let topic = topic.expect("it is there");
    assert!(topic.is_internal());
    assert_eq!(topic.partitions.len(), 50);
    assert!(topic.partitions.iter().all(|of| of.replicas.len() == 3));
    // A version that is not offered closes the connection.
    let connection = world.connect(BrokerId(1));
    let frame = frames::header(8, 1, 1).freeze();
    assert!(is_closed(&world.send(connection, frame)));
}
