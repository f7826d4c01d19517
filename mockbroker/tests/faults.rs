//! Faults by rule: what is applied, what is answered, what the connection does.

#![expect(clippy::expect_used, reason = "a failing helper fails its test")]

mod frames;
mod world;

use core::time::Duration;

use bytes::BufMut;
use frames::{Batch, header, metadata, produce, produce_rows};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::Effect;
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

/// The bytes of a reply as they are on the wire: its size, then its frame.
fn on_the_wire(effects: &[Effect]) -> Vec<u8> {
    let bytes = effects.iter().map(|effect| match effect {
        Effect::Reply { frame, .. } => {
            let size = u32::try_from(frame.len()).expect("a small reply");
            [&size.to_be_bytes()[..], frame].concat()
        }
        Effect::Piece { bytes, .. } => bytes.to_vec(),
        Effect::ReadOn { .. } | Effect::Close { .. } | Effect::Reset { .. } => Vec::new(),
    });
    bytes.collect::<Vec<_>>().concat()
}

fn under_a_rule(verdict: Verdict) -> World {
    let mut world = World::new();
    world
        .engine
        .rules_mut()
        .install(Rule::on(Api::Produce).then(verdict));
    world
}

fn whole_reply() -> Vec<u8> {
    on_the_wire(&World::new().append(-1, Batch::plain(1)))
}

#[rstest]
#[case::nothing(0)]
#[case::in_the_size(3)]
#[case::in_the_body(20)]
#[case::all_but_one(usize::MAX)]
fn a_cut_reply_ends_after_its_bytes_and_the_batch_is_stored(#[case] bytes: usize) {
    let whole = whole_reply();
    let bytes = bytes.min(whole.len() - 1);
    let mut world = under_a_rule(Verdict::CutAfter(bytes));
    let effects = world.append(-1, Batch::plain(1));
    assert_eq!(on_the_wire(&effects), whole[..bytes]);
    assert!(matches!(effects.last(), Some(Effect::Close { .. })));
    assert_eq!(world.log_end(0), 1);
}

#[test]
fn a_reply_shorter_than_the_cut_leaves_whole_before_the_close() {
    let whole = whole_reply();
    let mut world = under_a_rule(Verdict::CutAfter(whole.len()));
    let effects = world.append(-1, Batch::plain(1));
    assert_eq!(on_the_wire(&effects), whole);
    assert!(matches!(
        effects[..],
        [Effect::Reply { .. }, Effect::Close { .. }]
    ));
}

#[rstest]
#[case::before(Verdict::ResetBefore, 0)]
#[case::after(Verdict::ResetAfter, 1)]
fn a_reset_says_whether_it_was_applied(#[case] verdict: Verdict, #[case] stored: i64) {
    let mut world = under_a_rule(verdict);
    let effects = world.append(-1, Batch::plain(1));
    assert!(matches!(effects[..], [Effect::Reset { .. }]));
    assert_eq!(world.log_end(0), stored);
}

#[rstest]
#[case::ten_bytes(10, 10)]
#[case::zero_means_one(0, 1)]
fn a_dripping_reply_comes_in_pieces_and_holds_back_the_next(
    #[case] piece_bytes: usize,
    #[case] expected_bytes: usize,
) {
    let pause = Duration::from_millis(7);
    let whole = whole_reply();
    let mut world = under_a_rule(Verdict::Drip { piece_bytes, pause });
    let connection = world.connect(LEADER);
    let mut pieces = world.send(connection, to_orders(-1, Batch::plain(1)));
    assert_eq!(world.log_end(0), 1, "applied on arrival");
    assert_eq!(
        world.send(connection, metadata("orders")),
        [],
        "the next one waits"
    );
    let next = loop {
        let mut effects = world.pass(pause);
        pieces.push(effects.remove(0));
        if !effects.is_empty() {
            break effects;
        }
    };
    assert_eq!(on_the_wire(&pieces), whole);
    assert_eq!(pieces.len(), whole.len().div_ceil(expected_bytes));
    assert!(
        matches!(next[..], [Effect::Reply { .. }]),
        "and is answered behind the last piece"
    );
}

#[test]
fn pieces_without_a_pause_leave_at_the_same_instant() {
    let mut world = under_a_rule(Verdict::Drip {
        piece_bytes: 16,
        pause: Duration::ZERO,
    });
    let mut pieces = world.append(-1, Batch::plain(1));
    assert_eq!(world.engine.next_deadline(), Some(world.now));
    pieces.extend(world.pass(Duration::ZERO));
    assert_eq!(on_the_wire(&pieces), whole_reply());
}

#[rstest]
#[case::producer(Rule::on(Api::Produce).producer_id(9), true)]
#[case::other_producer(Rule::on(Api::Produce).producer_id(8), false)]
#[case::transactional_id(Rule::on(Api::Produce).transactional_id("payments"), false)]
fn a_rule_sees_the_producer_of_a_batch(#[case] rule: Rule, #[case] acts: bool) {
    let mut world = World::new();
    world
        .engine
        .rules_mut()
        .install(rule.then(Verdict::CloseBefore));
    let effects = world.append(-1, Batch::idempotent(9, 0, 1));
    assert_eq!(is_closed(&effects), acts);
}

#[rstest]
#[case::it("payments", true)]
#[case::another("refunds", false)]
fn a_rule_sees_the_transactional_id_of_init_producer_id(#[case] id: &str, #[case] acts: bool) {
    let mut world = World::new();
    world.engine.rules_mut().install(
        Rule::on_any()
            .transactional_id(id)
            .then(Verdict::CloseBefore),
    );
    let connection = world.connect(LEADER);
    let mut frame = header(22, 0, 1);
    frame.put_u16(8);
    frame.put_slice(b"payments");
    frame.put_i32(60_000);
    let effects = world.send(connection, frame.freeze());
    assert_eq!(is_closed(&effects), acts);
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
