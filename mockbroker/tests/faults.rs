//! Faults by rule: what is applied, what is answered, what the connection does.

mod frames;
mod world;

use core::time::Duration;

use frames::{Batch, metadata, produce, produce_rows};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::{Api, ErrorCode, Rule, Verdict};
use rstest::rstest;
use world::{LEADER, World, is_closed, only_answer, only_row, outcome, to_orders};

#[test]
fn a_lost_reply_leaves_one_copy_and_the_retry_gets_its_offset() {
    let mut world = World::new();
    world
        .engine
        .rules_mut()
        .install(Rule::on(Api::Produce).then(Verdict::ApplyThenLose));
    let batch = Batch::idempotent(9, 0, 3);
    let connection = world.connect(LEADER);
    assert_eq!(
        world.send(connection, to_orders(-1, batch)),
        [],
        "the reply is lost"
    );
    assert_eq!(
        world.send(connection, metadata("orders")),
        [],
        "and the connection is mute"
    );
    world.engine.handle_disconnect(connection, world.now);
    let row = only_row(world.append(-1, batch));
    assert_eq!(
        (row.code, row.base_offset, row.log_append_time_ms),
        (0, 0, 1_000)
    );
    assert_eq!(world.log_end(0), 3, "one copy");
}

#[rstest]
#[case::not_applied(Verdict::Answer(ErrorCode(45)), (45, -1), 0)]
#[case::applied(Verdict::ApplyThenAnswer(ErrorCode(7)), (7, 0), 1)]
fn an_answer_by_rule_covers_its_partition_only(
    #[case] verdict: Verdict,
    #[case] first: (i16, i64),
    #[case] stored: i64,
) {
    let mut world = World::configured(&[]);
    world.make(&Move::MoveLeader {
        topic: "orders".into(),
        partition: 1,
        broker: LEADER,
    });
    world.engine.rules_mut().install(
        Rule::on(Api::Produce)
            .topic("orders")
            .partition(0)
            .then(verdict),
    );
    let connection = world.connect(LEADER);
    let batch = Some(Batch::plain(1).encode());
    let both = produce(1, 1_000, "orders", &[(0, batch.clone()), (1, batch)]);
    let rows = produce_rows(only_answer(world.send(connection, both)));
    assert_eq!((rows[0].code, rows[0].base_offset), first);
    assert_eq!((rows[1].code, rows[1].base_offset), (0, 0));
    assert_eq!((world.log_end(0), world.log_end(1)), (stored, 1));
}

#[rstest]
#[case::swallowed(Verdict::Swallow, false, 0)]
#[case::closed_before(Verdict::CloseBefore, true, 0)]
#[case::closed_after(Verdict::CloseAfter, true, 1)]
#[case::lost(Verdict::ApplyThenLose, false, 1)]
fn a_rule_without_answer_says_whether_it_was_applied(
    #[case] verdict: Verdict,
    #[case] closes: bool,
    #[case] stored: i64,
) {
    let mut world = World::new();
    world
        .engine
        .rules_mut()
        .install(Rule::on(Api::Produce).then(verdict));
    let effects = world.append(1, Batch::plain(1));
    assert_eq!(is_closed(&effects), closes);
    assert_eq!(effects.len(), usize::from(closes));
    assert_eq!(world.log_end(0), stored);
}

#[test]
fn a_delayed_reply_is_applied_on_arrival() {
    let mut world = World::new();
    let delay = Verdict::Delay(Duration::from_secs(3));
    world
        .engine
        .rules_mut()
        .install(Rule::on(Api::Produce).then(delay));
    assert_eq!(world.append(-1, Batch::plain(1)), []);
    assert_eq!(world.log_end(0), 1);
    assert_eq!(world.pass(Duration::from_millis(2_999)), []);
    assert_eq!(outcome(world.pass(Duration::from_millis(1))), (0, 0));
}
