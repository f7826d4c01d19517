//! In-sync replicas that come and go: what the controller has not answered yet, and links that
//! take their time.

mod frames;
mod world;

use core::time::Duration;

use bytes::Bytes;
use frames::{Batch, produce};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::BrokerId;
use world::{LEADER, SECOND, THIRD, World, only_row, outcome};

fn hold_answers(world: &mut World) {
    world.replica(|topic, partition| Move::HoldIsrChanges { topic, partition });
}

fn answer(world: &mut World) -> Vec<kafka_mockbroker::engine::effect::Effect> {
    world.replica(|topic, partition| Move::ReleaseIsrChanges { topic, partition })
}

fn delay(world: &mut World, to: BrokerId, delay: Duration) {
    world.make(&Move::DelayReplication {
        from: LEADER,
        to,
        delay,
    });
}

fn patient(batch: Batch) -> Bytes {
    produce(-1, 120_000, "orders", &[(0, Some(batch.encode()))])
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn who_is_about_to_join_holds_the_watermark_back() {
    // KIP-497: it may be in the committed ISR already, for all that the leader knows.
    let mut world = World::configured(&[("min.insync.replicas", "1")]);
    world.shrink(SECOND);
    world.shrink(THIRD);
    hold_answers(&mut world);
    world.release(SECOND);
    assert_eq!(world.placement().isr, [LEADER], "not committed");
    world.hold(SECOND);
    assert_eq!(outcome(world.append(1, Batch::plain(2))), (0, 0));
    assert_eq!(world.watermark(), 0);
    answer(&mut world);
    assert_eq!(world.placement().isr, [LEADER, SECOND]);
    world.release(SECOND);
    assert_eq!(world.watermark(), 2);
}

#[test]
fn who_is_about_to_join_does_not_count_for_min_isr() {
    let mut world = World::new();
    world.shrink(SECOND);
    world.shrink(THIRD);
    hold_answers(&mut world);
    world.release(SECOND);
    assert_eq!(only_row(world.append(-1, Batch::plain(1))).code, 19);
    assert_eq!(outcome(world.append(1, Batch::plain(1))), (0, 0));
    assert_eq!(world.watermark(), 0, "nor for the watermark to move at all");
    answer(&mut world);
    assert_eq!(world.watermark(), 1);
    assert_eq!(outcome(world.append(-1, Batch::plain(1))), (0, 1));
}

#[test]
fn who_is_about_to_leave_is_waited_for() {
    let mut world = World::new();
    hold_answers(&mut world);
    world.hold(THIRD);
    let connection = world.connect(LEADER);
    assert_eq!(world.send(connection, patient(Batch::plain(1))), []);
    assert_eq!(world.pass(ms(30_000)), [], "asked, and not answered");
    assert_eq!(world.placement().isr, [LEADER, SECOND, THIRD]);
    assert_eq!(world.engine.cluster().next_deadline(), None, "asked once");
    assert_eq!(outcome(answer(&mut world)), (0, 0));
    assert_eq!(world.placement().isr, [LEADER, SECOND]);
}

#[test]
fn who_went_meanwhile_is_not_taken_in() {
    // INELIGIBLE_REPLICA: the leader goes back to the committed ISR.
    let mut world = World::new();
    world.shrink(THIRD);
    hold_answers(&mut world);
    world.release(THIRD);
    world.make(&Move::CrashBroker { broker: THIRD });
    answer(&mut world);
    assert_eq!(world.placement().isr, [LEADER, SECOND]);
    assert_eq!(outcome(world.append(-1, Batch::plain(1))), (0, 0));
}

#[test]
fn what_the_controller_changes_itself_ends_what_was_asked() {
    let mut world = World::new();
    hold_answers(&mut world);
    world.hold(THIRD);
    let connection = world.connect(LEADER);
    world.send(connection, patient(Batch::plain(1)));
    world.pass(ms(30_000));
    let answers = world.make(&Move::CrashBroker { broker: THIRD });
    assert_eq!(
        outcome(answers),
        (0, 0),
        "the leader has heard of the crash"
    );
}

#[test]
fn acks_all_takes_as_long_as_the_slowest_link_in_sync() {
    let mut world = World::new();
    delay(&mut world, SECOND, ms(40));
    delay(&mut world, THIRD, ms(100));
    let connection = world.connect(LEADER);
    assert_eq!(world.send(connection, patient(Batch::plain(2))), []);
    assert_eq!(world.ends(), [2, 0, 0]);
    assert_eq!(world.pass(ms(40)), []);
    assert_eq!(world.ends(), [2, 2, 0]);
    assert_eq!(
        outcome(world.append(1, Batch::plain(1))),
        (0, 2),
        "acks=1 does not wait"
    );
    assert_eq!(outcome(world.pass(ms(60))), (0, 0));
    assert_eq!(
        (world.ends(), world.watermark()),
        ([3, 3, 2], 2),
        "each in its time"
    );
    world.pass(ms(40));
    assert_eq!((world.ends(), world.watermark()), ([3, 3, 3], 3));
    assert_eq!(world.engine.cluster().next_deadline(), None);
}

#[test]
fn a_slow_link_that_keeps_up_stays_in_sync_under_load() {
    let mut world = World::new();
    delay(&mut world, THIRD, ms(20_000));
    for _ in 0..20 {
        world.append(1, Batch::plain(1));
        world.pass(ms(10_000));
    }
    assert_eq!(world.placement().isr, [LEADER, SECOND, THIRD]);
    assert_eq!(world.watermark(), 19);
}

#[test]
fn a_link_slower_than_the_lag_allowed_leaves_the_isr_until_it_is_faster() {
    let mut world = World::new();
    delay(&mut world, THIRD, ms(40_000));
    world.append(1, Batch::plain(1));
    world.pass(ms(30_000));
    assert_eq!(
        (world.placement().isr, world.watermark()),
        (vec![LEADER, SECOND], 1)
    );
    world.pass(ms(10_000));
    assert_eq!(world.ends(), [1, 1, 1]);
    assert_eq!(
        world.placement().isr,
        [LEADER, SECOND],
        "it would be out again"
    );
    delay(&mut world, THIRD, ms(10));
    assert_eq!(world.placement().isr, [LEADER, SECOND, THIRD]);
}

#[test]
fn an_expansion_does_not_wait_for_a_slow_link() {
    let mut world = World::new();
    world.shrink(THIRD);
    world.append(1, Batch::plain(3));
    delay(&mut world, THIRD, ms(60_000));
    world.replica(|topic, partition| Move::ExpandIsr {
        topic,
        partition,
        broker: THIRD,
    });
    assert_eq!(world.placement().isr, [LEADER, SECOND, THIRD]);
    assert_eq!(world.ends(), [3, 3, 3]);
}

#[test]
fn what_is_on_the_way_when_its_leader_goes_is_lost() {
    let mut world = World::configured(&[("min.insync.replicas", "1")]);
    delay(&mut world, SECOND, ms(50));
    delay(&mut world, THIRD, ms(50));
    assert_eq!(outcome(world.append(1, Batch::plain(2))), (0, 0));
    world.pass(ms(49));
    world.make(&Move::CrashBroker { broker: LEADER });
    world.pass(ms(1_000));
    assert_eq!(world.log_end(0), 0);
    world.make(&Move::RestartBroker { broker: LEADER });
    assert_eq!(world.ends(), [0, 0, 0]);
}
