//! What became of a record: written, certainly not written, or unknown, and never silence.

use std::time::Duration;

use kafka_mockbroker::engine::moves::Move;
use kafka_mockbroker::{Api, BrokerId, ErrorCode, Rule, Verdict};
use kafka_producer::Acks;
use kafka_producer::engine::Idempotence;
use promises::history::Ending;
use promises::scenario::Scenario;
use rstest::rstest;

fn produce() -> Rule {
    Rule::on(Api::Produce)
}

#[test]
fn a_record_stands_at_the_offset_that_was_told() {
    Scenario::new()
        .send("orders", 0, "a")
        .send("orders", 1, "b")
        .settle()
        .expect_log("orders", 0, &["a"])
        .expect_log("orders", 1, &["b"])
        .expect_written("a", 0)
        .expect_written("b", 0);
}

#[test]
fn records_within_linger_share_a_batch() {
    Scenario::with(|setting| setting.linger = Duration::from_millis(50))
        .send("orders", 0, "first: its topic becomes known")
        .settle()
        .send("orders", 0, "a")
        .after(Duration::from_millis(40))
        .send("orders", 0, "b")
        .settle()
        .expect_requests(Api::Produce, 2)
        .expect_written("b", 2);
}

#[test]
fn a_full_batch_does_not_wait_for_linger() {
    Scenario::with(|setting| {
        setting.linger = Duration::from_secs(60);
        setting.batch_bytes = 0;
    })
    .send("orders", 0, "a")
    .settle()
    .expect_elapsed(Duration::ZERO, Duration::from_secs(1));
}

#[test]
fn a_reply_in_pieces_is_one_reply() {
    Scenario::new()
        .rule(produce().then(Verdict::Drip {
            piece_bytes: 3,
            pause: Duration::from_millis(1),
        }))
        .send("orders", 0, "a")
        .settle()
        .expect_requests(Api::Produce, 1)
        .expect_log("orders", 0, &["a"])
        .expect_written("a", 0);
}

#[rstest]
#[case::too_large(ErrorCode::MESSAGE_TOO_LARGE)]
#[case::not_allowed(ErrorCode::TOPIC_AUTHORIZATION_FAILED)]
#[case::invalid(ErrorCode::INVALID_RECORD)]
fn a_refused_record_is_reported_as_not_written(#[case] code: ErrorCode) {
    Scenario::new()
        .rule(produce().then(Verdict::Answer(code)))
        .send("orders", 0, "a")
        .settle()
        .expect_requests(Api::Produce, 1)
        .expect_log("orders", 0, &[])
        .expect_refused("a", code);
}

#[test]
fn a_refusal_hits_its_partition_alone() {
    Scenario::new()
        .rule(
            produce()
                .partition(0)
                .then(Verdict::Answer(ErrorCode::MESSAGE_TOO_LARGE)),
        )
        .send("orders", 0, "a")
        .send("orders", 1, "b")
        .settle()
        .expect_refused("a", ErrorCode::MESSAGE_TOO_LARGE)
        .expect_written("b", 0);
}

#[rstest]
#[case::before_it_was_applied(Verdict::Swallow, &[])]
#[case::after_it_was_applied(Verdict::ApplyThenLose, &["a"])]
fn silence_until_the_time_out_is_reported_as_unknown(
    #[case] verdict: Verdict,
    #[case] log: &[&str],
) {
    Scenario::with(|setting| setting.delivery_timeout = Duration::from_secs(40))
        .rule(produce().always().then(verdict))
        .send("orders", 0, "a")
        .settle()
        .expect_unknown("a", "DeliveryTimedOut")
        .expect_log("orders", 0, log)
        .expect_elapsed(Duration::from_secs(40), Duration::from_secs(41));
}

/// The broker that stays silent for the time of a delivery answers when it is asked.
#[rstest]
#[case::before_it_was_applied(Verdict::Swallow)]
#[case::after_it_was_applied(Verdict::ApplyThenLose)]
#[case::called_a_failure_of_the_server(Verdict::ApplyThenAnswer(ErrorCode::UNKNOWN_SERVER_ERROR))]
fn what_would_be_unknown_is_asked_for_and_is_there_once(#[case] verdict: Verdict) {
    Scenario::with(|setting| {
        setting.delivery_timeout = Duration::from_secs(31);
        setting.resolve_timeout = Duration::from_secs(60);
    })
    .rule(produce().count(2).then(verdict))
    .send("orders", 0, "a")
    .settle()
    .expect_requests(Api::Produce, 3)
    .expect_log("orders", 0, &["a"])
    .expect_written("a", 0);
}

#[rstest]
#[case::before_it_was_applied(Verdict::Swallow, &[])]
#[case::after_it_was_applied(Verdict::ApplyThenLose, &["a"])]
fn what_nobody_answers_for_stays_unknown(#[case] verdict: Verdict, #[case] log: &[&str]) {
    Scenario::with(|setting| {
        setting.delivery_timeout = Duration::from_secs(31);
        setting.resolve_timeout = Duration::from_secs(60);
    })
    .rule(produce().always().then(verdict))
    .send("orders", 0, "a")
    .settle()
    .expect_unknown("a", "DeliveryTimedOut")
    .expect_log("orders", 0, log)
    .expect_elapsed(Duration::from_secs(91), Duration::from_secs(92));
}

#[test]
fn a_record_that_never_left_is_reported_as_not_written() {
    let mut scenario = Scenario::with(|setting| {
        setting.delivery_timeout = Duration::from_secs(40);
        setting.linger = Duration::from_secs(1);
    })
    .send("orders", 0, "a")
    .after(Duration::from_millis(500));
    for broker in 1..=3 {
        scenario.world().refuse(broker, Duration::from_secs(100));
        scenario.world().cut(broker);
    }
    scenario
        .settle()
        .expect_not_written("a", "DeliveryTimedOut")
        .expect_log("orders", 0, &[]);
}

#[test]
fn retries_end_when_their_number_is_used_up() {
    Scenario::with(|setting| setting.retries_max = 2)
        .rule(
            produce()
                .always()
                .then(Verdict::Answer(ErrorCode::NOT_ENOUGH_REPLICAS)),
        )
        .send("orders", 0, "a")
        .settle()
        .expect_requests(Api::Produce, 3)
        .expect_refused("a", ErrorCode::NOT_ENOUGH_REPLICAS);
}

#[rstest]
#[case::refused(Verdict::Answer(ErrorCode::NOT_ENOUGH_REPLICAS))]
#[case::leader_moved(Verdict::Answer(ErrorCode::NOT_LEADER_OR_FOLLOWER))]
#[case::topic_not_known_there_yet(Verdict::Answer(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))]
#[case::disk_failed(Verdict::Answer(ErrorCode::KAFKA_STORAGE_ERROR))]
#[case::closed(Verdict::CloseBefore)]
#[case::swallowed(Verdict::Swallow)]
fn a_passing_fault_is_outlived(#[case] verdict: Verdict) {
    Scenario::new()
        .rule(produce().then(verdict))
        .send("orders", 0, "a")
        .settle()
        .expect_requests(Api::Produce, 2)
        .expect_written("a", 0);
}

#[rstest]
#[case(Api::ApiVersions)]
#[case(Api::Metadata)]
#[case(Api::InitProducerId)]
fn a_fault_on_the_way_to_the_first_record_is_outlived(
    #[case] api: Api,
    #[values(Verdict::Swallow, Verdict::CloseBefore, Verdict::ApplyThenLose)] verdict: Verdict,
) {
    Scenario::new()
        .rule(Rule::on(api).then(verdict))
        .send("orders", 0, "a")
        .settle()
        .expect_written("a", 0);
}

#[test]
fn a_late_answer_is_waited_for() {
    Scenario::new()
        .rule(produce().then(Verdict::Delay(Duration::from_secs(20))))
        .send("orders", 0, "a")
        .settle()
        .expect_requests(Api::Produce, 1)
        .expect_written("a", 0)
        .expect_elapsed(Duration::from_secs(20), Duration::from_secs(21));
}

#[test]
fn without_acks_a_record_is_written_and_its_offset_untold() {
    Scenario::with(|setting| {
        setting.acks = Acks::None;
        setting.idempotence = Idempotence::Disabled;
    })
    .send("orders", 0, "a")
    .settle()
    .after(Duration::from_secs(1))
    .expect_ending("a", &Ending::Written(None))
    .expect_log("orders", 0, &["a"]);
}

#[test]
fn acks_of_the_leader_tell_the_offset() {
    Scenario::with(|setting| {
        setting.acks = Acks::Leader;
        setting.idempotence = Idempotence::Disabled;
    })
    .send("orders", 0, "a")
    .settle()
    .expect_written("a", 0);
}

#[test]
fn too_few_replicas_are_waited_for() {
    let shrink = |broker| Move::ShrinkIsr {
        topic: "orders".into(),
        partition: 0,
        broker,
    };
    let release = |broker| Move::ReleaseFollower {
        topic: "orders".into(),
        partition: 0,
        broker,
    };
    Scenario::with(|setting| setting.isr_min = 2)
        .make_move(shrink(BrokerId(2)))
        .make_move(shrink(BrokerId(3)))
        .send("orders", 0, "a")
        .after(Duration::from_secs(10))
        .expect_log("orders", 0, &[])
        .make_move(release(BrokerId(2)))
        .settle()
        .expect_written("a", 0);
}

#[test]
fn a_topic_without_a_leader_is_waited_for() {
    let broker = BrokerId(1);
    Scenario::with(|setting| setting.topics = vec![("alone", 1, 1)])
        .send("alone", 0, "known")
        .settle()
        .make_move(Move::CrashBroker { broker })
        .send("alone", 0, "a")
        .after(Duration::from_secs(10))
        .make_move(Move::RestartBroker { broker })
        .settle()
        .expect_log("alone", 0, &["known", "a"]);
}
