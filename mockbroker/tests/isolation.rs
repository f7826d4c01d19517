//! Brokers that are cut off from the others and go on to serve clients.

mod frames;
mod world;

use core::time::Duration;

use bytes::Buf;
use frames::{Batch, NewTopic, create_topics, fetch_in_epoch, metadata, produce_rows, skip_text};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::BrokerId;
use rstest::rstest;
use world::{LEADER, SECOND, THIRD, World, answer_on, only_answer, only_row, outcome, to_orders};

/// The default `broker.session.timeout.ms`.
const SESSION: Duration = Duration::from_secs(9);

fn isolate(world: &mut World, broker: BrokerId) {
    world.make(&Move::IsolateBroker { broker });
}

/// What a broker answers to [`fetch_in_epoch`].
fn fetched_code(world: &mut World, broker: BrokerId, epoch: i32) -> i16 {
    let reader = world.connect(broker);
    let mut answer = only_answer(world.send(reader, fetch_in_epoch(9, epoch)));
    answer.advance(4 + 4 + 2 + 4 + 4);
    skip_text(&mut answer);
    answer.advance(4 + 4);
    answer.get_i16()
}

/// The leader that a broker tells of partition 0.
fn told_leader(world: &mut World, broker: BrokerId) -> i32 {
    let asking = world.connect(broker);
    let mut answer = only_answer(world.send(asking, metadata("orders")));
    answer.advance(4);
    for _ in 0..answer.get_i32() {
        answer.advance(4);
        skip_text(&mut answer);
        answer.advance(4 + 2);
    }
    answer.advance(4 + 4 + 2);
    skip_text(&mut answer);
    answer.advance(1);
    for _ in 0..answer.get_i32() {
        let (_, index, leader) = (answer.get_i16(), answer.get_i32(), answer.get_i32());
        if index == 0 {
            return leader;
        }
        for _ in 0..2 {
            let count = usize::try_from(answer.get_i32()).unwrap_or_default();
            answer.advance(4 * count);
        }
    }
    panic!("no partition 0")
}

/// Observed on three brokers of 4.3.1: the others elect, the one that is cut off still claims to
/// lead, and answers acks=all with 7.
#[test]
fn a_leader_that_is_cut_off_takes_records_and_acknowledges_none_to_all() {
    let mut world = World::new();
    assert_eq!(outcome(world.append(-1, Batch::plain(2))), (0, 0));
    isolate(&mut world, LEADER);
    assert_eq!(outcome(world.append(1, Batch::plain(3))), (0, 2));
    assert_eq!(world.append(-1, Batch::plain(1)), [], "it waits");
    assert_eq!(outcome(world.pass(Duration::from_secs(1))), (7, 5));
    world.pass(SESSION);
    assert_eq!(world.placement().leadership.leader, Some(SECOND));
    assert_eq!(told_leader(&mut world, LEADER), 1, "it has not heard of it");
    assert_eq!(told_leader(&mut world, THIRD), 2);
    assert_eq!(outcome(world.append(1, Batch::plain(1))), (0, 6));
    assert_eq!(
        outcome(world.append_at(SECOND, -1, Batch::plain(1))),
        (0, 2)
    );
    assert_eq!(world.ends(), [7, 3, 3], "two logs from offset 2 on");
}

#[test]
fn a_leader_that_heals_drops_what_the_others_lack_and_refuses() {
    let mut world = World::new();
    world.append(-1, Batch::plain(2));
    isolate(&mut world, LEADER);
    world.pass(SESSION);
    world.append_at(SECOND, -1, Batch::plain(1));
    let waiting = world.connect(LEADER);
    world.send(waiting, to_orders(-1, Batch::plain(4)));
    assert_eq!(world.ends(), [6, 3, 3]);
    let answers = world.make(&Move::HealBroker { broker: LEADER });
    let row = produce_rows(answer_on(&answers, waiting))[0];
    assert_eq!((row.code, row.base_offset), (6, 2), "told with its offset");
    assert_eq!(world.ends(), [3, 3, 3]);
    assert_eq!(world.placement().isr, [LEADER, SECOND, THIRD]);
    assert_eq!(only_row(world.append(1, Batch::plain(1))).code, 6);
    assert_eq!(told_leader(&mut world, LEADER), 2);
}

#[test]
fn epochs_tell_a_reader_on_which_side_it_is() {
    let mut world = World::new();
    isolate(&mut world, LEADER);
    world.pass(SESSION);
    assert_eq!(fetched_code(&mut world, LEADER, 0), 0);
    assert_eq!(fetched_code(&mut world, LEADER, 1), 75, "it knows no such");
    assert_eq!(fetched_code(&mut world, SECOND, 1), 0);
    assert_eq!(fetched_code(&mut world, SECOND, 0), 74);
    world.make(&Move::HealBroker { broker: LEADER });
    assert_eq!(fetched_code(&mut world, LEADER, 0), 74, "fenced");
    assert_eq!(fetched_code(&mut world, LEADER, 1), 6);
}

#[test]
fn a_leader_that_heals_in_time_goes_on_as_if_nothing_had_been() {
    let mut world = World::new();
    isolate(&mut world, LEADER);
    assert_eq!(world.append(-1, Batch::plain(2)), []);
    world.pass(Duration::from_millis(500));
    let answers = world.make(&Move::HealBroker { broker: LEADER });
    assert_eq!(outcome(answers), (0, 0));
    assert_eq!(world.ends(), [2, 2, 2]);
    assert_eq!(world.placement().leadership.epoch, 0);
    assert_eq!(world.engine.cluster().next_deadline(), None);
}

#[test]
fn a_leader_that_is_alone_in_sync_acknowledges_and_nobody_else_is_elected() {
    let mut world = World::configured(&[("min.insync.replicas", "1")]);
    world.shrink(SECOND);
    world.shrink(THIRD);
    isolate(&mut world, LEADER);
    assert_eq!(outcome(world.append(-1, Batch::plain(2))), (0, 0));
    world.pass(SESSION);
    assert_eq!(world.placement().leadership.leader, None);
    assert_eq!(outcome(world.append(-1, Batch::plain(1))), (0, 2));
    world.make(&Move::HealBroker { broker: LEADER });
    assert_eq!(world.placement().leadership.leader, Some(LEADER));
    assert_eq!(world.log_end(0), 3, "nothing is lost");
}

#[test]
fn a_follower_that_is_cut_off_is_waited_for_until_its_session_is_over() {
    let mut world = World::new();
    isolate(&mut world, THIRD);
    let waiting = world.connect(LEADER);
    let entries = [(0, Some(Batch::plain(1).encode()))];
    let frame = frames::produce(-1, 60_000, "orders", &entries);
    assert_eq!(world.send(waiting, frame), []);
    assert_eq!(world.pass(SESSION - Duration::from_millis(1)), []);
    assert_eq!(outcome(world.pass(Duration::from_millis(1))), (0, 0));
    assert_eq!(world.placement().isr, [LEADER, SECOND]);
    world.make(&Move::HealBroker { broker: THIRD });
    assert_eq!(world.placement().isr, [LEADER, SECOND, THIRD]);
}

#[rstest]
#[case::paused_first(Move::ResumeBroker { broker: LEADER }, Move::HealBroker { broker: LEADER })]
#[case::healed_first(Move::HealBroker { broker: LEADER }, Move::ResumeBroker { broker: LEADER })]
fn a_broker_is_back_when_it_runs_and_is_reached(#[case] first: Move, #[case] last: Move) {
    let mut world = World::new();
    isolate(&mut world, LEADER);
    world.pause(LEADER);
    world.pass(SESSION);
    world.make(&first);
    assert_eq!(world.placement().isr, [SECOND, THIRD]);
    world.make(&last);
    assert_eq!(world.placement().isr, [LEADER, SECOND, THIRD]);
}

#[test]
fn a_crash_ends_an_isolation() {
    let mut world = World::new();
    isolate(&mut world, LEADER);
    world.append(1, Batch::plain(2));
    world.make(&Move::CrashBroker { broker: LEADER });
    assert_eq!(world.placement().leadership.leader, Some(SECOND));
    world.make(&Move::RestartBroker { broker: LEADER });
    assert_eq!(world.ends(), [0, 0, 0]);
    assert_eq!(told_leader(&mut world, LEADER), 2);
}

#[test]
fn a_broker_that_is_cut_off_makes_no_topic_and_says_why() {
    let mut world = World::new();
    isolate(&mut world, LEADER);
    let connection = world.connect(LEADER);
    let topic = NewTopic::new("payments", 1, 1);
    assert_eq!(world.send(connection, create_topics(&[topic], 0)), []);
    let diagnostics = world.engine.journal().diagnostics();
    assert!(diagnostics[0].text.contains("cut off"), "{diagnostics:?}");
    world.make(&Move::HealBroker { broker: LEADER });
    assert!(world.engine.cluster().key("payments", 0).is_err());
}

#[test]
fn what_a_former_leader_had_comes_back_by_an_unclean_election_alone() {
    let mut world = World::new();
    world.append(-1, Batch::plain(1));
    world.hold(SECOND);
    world.hold(THIRD);
    assert_eq!(outcome(world.append(1, Batch::plain(4))), (0, 1));
    world.make(&Move::CrashBroker { broker: LEADER });
    assert_eq!(world.log_end(0), 1);
    world.make(&Move::PauseBroker { broker: SECOND });
    world.make(&Move::RestartBroker { broker: LEADER });
    assert_eq!(world.ends(), [5, 1, 1], "nobody tells it to drop them");
    world.replica(|topic, partition| Move::ElectUnclean {
        topic,
        partition,
        broker: LEADER,
    });
    assert_eq!((world.log_end(0), world.watermark()), (5, 1));
    assert_eq!(world.placement().isr, [LEADER], "alone: 2 must be in sync");
    world.release(THIRD);
    assert_eq!((world.ends(), world.watermark()), ([5, 1, 5], 5));
}
