//! Records of one producer and partition stand in the log in the order of their sends.

use kafka_mockbroker::engine::moves::Move;
use kafka_mockbroker::{Api, BrokerId, ErrorCode, Rule, Verdict};
use kafka_producer::engine::Idempotence;
use promises::scenario::Scenario;
use promises::setting::Setting;
use rstest::rstest;

const SENT: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Six batches on their way at once, of which one meets the fault.
fn six_batches(change: impl FnOnce(&mut Setting), rule: Rule) {
    Scenario::with(change)
        .send("orders", 0, "known")
        .settle()
        .rule(rule)
        .send_apart("orders", 0, &SENT)
        .settle()
        .expect_log("orders", 0, &[&["known"][..], &SENT].concat());
}

#[rstest]
#[case::refused(Verdict::Answer(ErrorCode::NOT_ENOUGH_REPLICAS))]
#[case::leader_moved(Verdict::Answer(ErrorCode::NOT_LEADER_OR_FOLLOWER))]
#[case::closed_before(Verdict::CloseBefore)]
#[case::closed_after(Verdict::CloseAfter)]
#[case::swallowed(Verdict::Swallow)]
#[case::ack_lost(Verdict::ApplyThenLose)]
fn a_retry_does_not_fall_behind_newer_batches(
    #[case] verdict: Verdict,
    #[values(1, 2, 5)] nth: u64,
) {
    six_batches(|_| {}, Rule::on(Api::Produce).nth(nth).then(verdict));
}

#[rstest]
#[case::refused(Verdict::Answer(ErrorCode::NOT_ENOUGH_REPLICAS))]
#[case::closed(Verdict::CloseBefore)]
fn one_request_in_flight_keeps_order_without_idempotence(#[case] verdict: Verdict) {
    let change = |setting: &mut Setting| {
        setting.idempotence = Idempotence::Disabled;
        setting.in_flight_max = 1;
    };
    six_batches(change, Rule::on(Api::Produce).nth(2).then(verdict));
}

#[test]
fn a_cut_between_batches_keeps_their_order() {
    Scenario::new()
        .send("orders", 0, "known")
        .settle()
        .send_apart("orders", 0, &SENT[..3])
        .cut(1)
        .cut(2)
        .cut(3)
        .send_apart("orders", 0, &SENT[3..])
        .settle()
        .expect_log("orders", 0, &[&["known"][..], &SENT].concat());
}

#[test]
fn partitions_do_not_wait_for_one_another() {
    let slow = Verdict::Answer(ErrorCode::NOT_ENOUGH_REPLICAS);
    Scenario::new()
        .rule(Rule::on(Api::Produce).partition(0).count(3).then(slow))
        .send("orders", 0, "held back")
        .send("orders", 1, "free")
        .until_seen(Api::Produce, 2)
        .send("orders", 1, "free as well")
        .settle()
        .expect_log("orders", 1, &["free", "free as well"])
        .expect_written("held back", 0);
}

#[test]
fn a_moved_leader_keeps_the_order_of_what_was_on_its_way() {
    let to_broker_2 = Move::MoveLeader {
        topic: "orders".into(),
        partition: 0,
        broker: BrokerId(2),
    };
    Scenario::new()
        .send("orders", 0, "known")
        .settle()
        .send_apart("orders", 0, &SENT[..3])
        .make_move(to_broker_2)
        .send_apart("orders", 0, &SENT[3..])
        .settle()
        .expect_log("orders", 0, &[&["known"][..], &SENT].concat());
}
