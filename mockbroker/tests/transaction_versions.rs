//! Levels of `transaction.version`, and what clients of another level are answered.
//!
//! Virtual time, frames by hand; the codes are those observed on 4.3.1.

mod frames;
mod txns;
mod world;

use core::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use frames::{flexible, put_compact};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::BrokerId;
use kafka_mockbroker::engine::txn_state::TxnState;
use rstest::rstest;
use txns::{NOBODY, Row, Who, batch};
use world::World;

const ID: &str = "payments";

fn raised(who: Who, by: i16) -> Who {
    Who {
        epoch: who.epoch + by,
        ..who
    }
}

fn at_level(level: i16) -> World {
    let mut world = World::new();
    world.make(&Move::SetTransactionVersion { level });
    world
}

fn level(world: &World) -> Option<i16> {
    let mut levels = world.engine.cluster().finalized_features();
    let found = levels.find(|(feature, _)| *feature == "transaction.version");
    found.map(|(_, level)| level)
}

/// UpdateFeatures of `transaction.version`, version 1: the code.
fn update(world: &mut World, level: i16, upgrade_type: i8) -> i16 {
    let mut frame = flexible(57, 1);
    frame.put_slice(&[0, 0, 0, 100, 2]);
    put_compact(&mut frame, "transaction.version");
    frame.put_i16(level);
    frame.put_i8(upgrade_type);
    frame.put_slice(&[0, 0, 0]);
    let connection = world.connect(world::SECOND);
    let mut answer = world::only_answer(world.send(connection, frame.freeze()));
    answer.advance(4 + 1 + 4);
    answer.get_i16()
}

#[test]
fn brokers_agree_on_another_level_when_they_are_asked_to() {
    let mut world = World::new();
    assert_eq!(level(&world), Some(2));
    let epoch = world.engine.cluster().features_epoch();
    assert_eq!(update(&mut world, 1, 1), 95, "down, said to be up");
    assert_eq!(level(&world), Some(2));
    assert_eq!(update(&mut world, 1, 2), 0);
    assert_eq!(level(&world), Some(1));
    assert_eq!(update(&mut world, 0, 3), 0);
    assert_eq!(level(&world), None, "a level of 0 is not told");
    assert_eq!(world.engine.cluster().features_epoch(), epoch + 2);
    assert_eq!(world.engine.cluster().transaction_version(), 0);
}

/// What a client of level 2 sees below it: the row of its first batch, then of EndTxn 5.
fn implicit(level: i16) -> (World, Who, Row) {
    let mut world = at_level(level);
    let who = world.producer(ID);
    let row = world.write(ID, who, 0);
    (world, who, row)
}

#[test]
fn a_client_of_level_2_is_served_at_level_1() {
    let (mut world, who, row) = implicit(1);
    assert_eq!(row, (0, 0, 0, None));
    assert_eq!(world.end(ID, who, true), (0, raised(who, 1)));
    assert_eq!(world.end(ID, raised(who, 1), false), (0, raised(who, 2)));
}

#[test]
fn a_client_of_level_2_wedges_its_id_at_level_0() {
    let (mut world, who, row) = implicit(0);
    assert_eq!(row, (35, -1, -1, None));
    let coordinator = world.coordinator(ID);
    let wedged = |world: &mut World| {
        assert_eq!(world.init(ID).0, 51);
        assert_eq!(world.end(ID, who, true), (51, NOBODY));
        assert_eq!(world.end_at(4, ID, who, false).0, 51);
        assert_eq!(world.add(3, ID, who, &[0]), [51]);
    };
    wedged(&mut world);
    assert_eq!(world.producer("another").epoch, 0, "others are not wedged");
    world.pass(Duration::from_secs(3_600));
    wedged(&mut world);
    // Nobody is left who could take over: the one that reads the log again is the same.
    let others = (1..=3).map(BrokerId).filter(|one| *one != coordinator);
    for broker in others.clone().chain([coordinator]) {
        world.make(&Move::CrashBroker { broker });
    }
    for broker in [coordinator].into_iter().chain(others) {
        world.make(&Move::RestartBroker { broker });
    }
    assert_eq!(world.coordinator(ID), coordinator);
    assert_eq!(world.add(3, ID, who, &[0]), [0]);
}

/// Whoever takes over has read the log, in which there is nothing of it.
#[test]
fn a_coordinator_that_takes_over_knows_of_no_wedge() {
    let (mut world, who, _) = implicit(0);
    let coordinator = world.coordinator(ID);
    let broker = world::SECOND;
    let broker = if broker == coordinator {
        world::LEADER
    } else {
        broker
    };
    let transactional_id = ID.into();
    world.make(&Move::MoveCoordinator {
        transactional_id,
        broker,
    });
    assert_eq!(world.add(3, ID, who, &[0]), [0]);
}

#[test]
fn what_has_joined_already_is_written_by_any_client() {
    let mut world = at_level(0);
    let who = world.producer(ID);
    assert_eq!(world.add(3, ID, who, &[0]), [0]);
    assert_eq!(world.write(ID, who, 0).0, 0);
    assert_eq!(world.end(ID, who, true), (35, NOBODY));
    assert_eq!(world.end_at(4, ID, who, true).0, 51, "wedged while open");
    world.pass(Duration::from_secs(3_600));
    let known = world.engine.cluster().transaction(ID, world.now).unwrap();
    assert_eq!(known.state, TxnState::Ongoing, "and is never timed out");
}

#[rstest]
#[case::commit_of_nothing(0, true, 48)]
#[case::abort_of_nothing(0, false, 35)]
#[case::commit_of_nothing_at_1(1, true, 48)]
#[case::abort_of_nothing_at_1(1, false, 0)]
fn an_end_that_cannot_be_written_is_refused(
    #[case] level: i16,
    #[case] commits: bool,
    #[case] code: i16,
) {
    let mut world = at_level(level);
    let who = world.producer(ID);
    let next = if code == 0 { raised(who, 1) } else { NOBODY };
    assert_eq!(world.end(ID, who, commits), (code, next));
    let wedged = if code == 35 { 51 } else { 0 };
    assert_eq!(world.init(ID).0, wedged);
}

/// AddPartitionsToTxn of `orders-0`, version 5: the code of the whole, and how many transactions.
fn added(world: &mut World, who: Who) -> (i16, u8) {
    let mut frame = flexible(24, 5);
    frame.put_u8(2);
    put_compact(&mut frame, ID);
    frame.put_i64(who.id);
    frame.put_i16(who.epoch);
    frame.put_slice(&[0, 2]);
    put_compact(&mut frame, "orders");
    frame.put_slice(&[2, 0, 0, 0, 0, 0, 0, 0]);
    let mut answer: Bytes = world.ask_coordinator(ID, frame.freeze());
    answer.advance(4 + 1 + 4);
    (answer.get_i16(), answer.get_u8() - 1)
}

#[test]
fn a_newer_join_is_refused_as_a_whole_at_level_0() {
    for (level, expected) in [(0, (35, 0)), (1, (0, 1)), (2, (0, 1))] {
        let mut world = at_level(level);
        let who = world.producer(ID);
        assert_eq!(added(&mut world, who), expected, "level {level}");
    }
}

#[rstest]
fn below_level_2_a_producer_that_timed_out_is_fenced_for_good(#[values(0, 1)] level: i16) {
    let mut world = at_level(level);
    let who = world.producer(ID);
    world.add(3, ID, who, &[0]);
    assert_eq!(world.write_at(11, ID, batch(who, 41, 1)).0, 0);
    world.pass(Duration::from_secs(120));
    assert_eq!(world.write_at(11, ID, batch(who, 42, 1)).0, 47);
    assert_eq!(world.end_at(4, ID, who, true).0, 90);
    assert_eq!(world.add(3, ID, who, &[0]), [90]);
    assert_eq!(world.init_as(ID, who).0, 90, "0 at level 2");
    assert_eq!(world.init(ID).1, raised(who, 2));
}

#[test]
fn an_open_transaction_ends_as_its_client_knows_when_the_level_rises() {
    let mut world = at_level(1);
    let who = world.producer(ID);
    world.add(3, ID, who, &[0]);
    assert_eq!(world.write_at(11, ID, batch(who, 0, 1)).0, 0);
    world.make(&Move::SetTransactionVersion { level: 2 });
    assert_eq!(world.end_at(4, ID, who, true).0, 0);
    assert_eq!(world.write(ID, who, 1).0, 0, "its epoch has stayed");
    assert_eq!(world.end(ID, who, true), (0, raised(who, 1)));
}
