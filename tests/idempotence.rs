//! One copy of each record, whatever was lost on the way.

use std::time::Duration;

use kafka_mockbroker::engine::moves::Move;
use kafka_mockbroker::{Api, BrokerId, ErrorCode, Rule, Verdict};
use kafka_producer::engine::Idempotence;
use promises::scenario::Scenario;
use rstest::rstest;

fn produce() -> Rule {
    Rule::on(Api::Produce)
}

#[test]
fn lost_ack_is_retried_without_duplicate() {
    Scenario::new()
        .rule(produce().then(Verdict::ApplyThenLose))
        .send("orders", 0, "a")
        .settle()
        .expect_requests(Api::Produce, 2)
        .expect_log("orders", 0, &["a"])
        .expect_written("a", 0);
}

#[rstest]
#[case::connection_closed_after_the_append(Verdict::CloseAfter)]
#[case::connection_reset_after_the_append(Verdict::ResetAfter)]
#[case::reply_cut_in_its_size(Verdict::CutAfter(2))]
#[case::reply_cut_in_its_body(Verdict::CutAfter(20))]
#[case::time_out_after_the_append(Verdict::ApplyThenAnswer(ErrorCode::REQUEST_TIMED_OUT))]
#[case::replicas_lost_after_the_append(Verdict::ApplyThenAnswer(
    ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
))]
fn a_written_batch_that_looks_failed_keeps_its_first_offset(#[case] verdict: Verdict) {
    Scenario::new()
        .send("orders", 0, "before")
        .settle()
        .rule(produce().then(verdict))
        .send("orders", 0, "a")
        .settle()
        .expect_log("orders", 0, &["before", "a"])
        .expect_written("a", 1);
}

#[test]
fn without_idempotence_a_lost_ack_leaves_two_copies() {
    // The reason for idempotence; also shows that the fault does apply before it loses.
    Scenario::with(|setting| setting.idempotence = Idempotence::Disabled)
        .rule(produce().then(Verdict::ApplyThenLose))
        .send("orders", 0, "a")
        .settle()
        .expect_log("orders", 0, &["a", "a"])
        .expect_written("a", 1);
}

#[test]
fn batches_in_flight_behind_a_lost_ack_stay_single_and_in_order() {
    Scenario::new()
        .send("orders", 0, "first: its topic becomes known")
        .settle()
        .rule(produce().nth(2).then(Verdict::CloseAfter))
        .send_apart("orders", 0, &["a", "b", "c", "d", "e"])
        .settle()
        .expect_log(
            "orders",
            0,
            &["first: its topic becomes known", "a", "b", "c", "d", "e"],
        )
        .expect_written("e", 5);
}

#[test]
fn an_ack_lost_again_and_again_changes_nothing() {
    Scenario::new()
        .rule(produce().count(3).then(Verdict::ApplyThenLose))
        .send("orders", 0, "a")
        .settle()
        .expect_requests(Api::Produce, 4)
        .expect_log("orders", 0, &["a"])
        .expect_written("a", 0);
}

#[test]
fn a_retry_carries_the_same_bytes() {
    let mut scenario = Scenario::new()
        .rule(produce().then(Verdict::ApplyThenLose))
        .send("orders", 0, "a")
        .settle();
    let wire = scenario.world().history().wire;
    let [first, again] = &wire[..] else {
        panic!("two batches left: {wire:?}")
    };
    assert_eq!(first, again, "or the broker could not know it again");
}

#[test]
fn a_lost_producer_id_costs_nothing() {
    Scenario::new()
        .rule(Rule::on(Api::InitProducerId).then(Verdict::ApplyThenLose))
        .send("orders", 0, "a")
        .settle()
        .expect_requests(Api::InitProducerId, 2)
        .expect_log("orders", 0, &["a"]);
}

#[test]
fn two_producers_keep_apart() {
    Scenario::with(|setting| setting.producers = 2)
        .rule(produce().count(2).then(Verdict::ApplyThenLose))
        .send_by(0, "orders", 0, "a")
        .send_by(1, "orders", 0, "b")
        .settle()
        .expect_requests(Api::Produce, 4);
}

#[test]
fn after_an_unknown_end_later_records_are_still_single() {
    Scenario::with(|setting| {
        setting.delivery_timeout = Duration::from_secs(31);
        setting.request_timeout = Duration::from_secs(30);
    })
    .rule(produce().count(2).then(Verdict::ApplyThenLose))
    .send("orders", 0, "a")
    .settle()
    .expect_unknown("a", "DeliveryTimedOut")
    .send("orders", 0, "b")
    .settle()
    .expect_log("orders", 0, &["a", "b"])
    .expect_written("b", 1);
}

#[test]
fn a_leader_that_crashes_before_it_answers_leaves_one_copy() {
    // The new leader has the record from replication, and knows its sequence.
    Scenario::new()
        .rule(produce().then(Verdict::ApplyThenLose))
        .send("orders", 0, "a")
        .until_seen(Api::Produce, 1)
        .make_move(Move::CrashBroker {
            broker: BrokerId(1),
        })
        .settle()
        .expect_requests(Api::Produce, 2)
        .expect_log("orders", 0, &["a"])
        .expect_written("a", 0);
}
