//! What ends by time: delivery, requests, connection set-up; and the user's giving up.

use super::*;
use crate::error::FailureKind;
use rstest::rstest;

/// A broker that never answers, and a delivery time-out shorter than the request's.
fn impatient() -> EngineConfig {
    let mut config = settings();
    config.delivery_timeout = Duration::from_secs(5);
    config
}

#[test]
fn a_sent_batch_that_times_out_is_unknown() {
    let mut world = World::flowing(impatient(), script());
    let batch = world.append(0);
    world.take_sent();
    world.pass_ms(5000);
    let (ended, outcome) = &world.done[0];
    assert_eq!(*ended, batch);
    let BatchOutcome::Unknown(failure) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (failure.kind, failure.attempts),
        (FailureKind::DeliveryTimedOut, 1)
    );
}

#[test]
fn a_batch_that_was_never_sent_times_out_unwritten() {
    let mut script = script();
    script.topics[0].partitions[0] = (-1, 0);
    let mut world = World::ready(impatient(), script);
    let batch = world.append(0);
    world.pass_ms(5000);
    let (ended, outcome) = &world.done[0];
    assert_eq!(*ended, batch);
    let BatchOutcome::NotWritten(failure) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (failure.kind, failure.attempts),
        (FailureKind::DeliveryTimedOut, 0)
    );
    assert_eq!(failure.message.as_deref(), Some("no leader is known"));
}

#[test]
fn a_batch_that_was_only_refused_times_out_unwritten() {
    let mut world = World::flowing(impatient(), script());
    world.append(0);
    for _ in 0..100 {
        while let Some(sent) = world.produced.pop_front() {
            world.answer(&sent, 19, -1);
        }
        world.pass_ms(100);
    }
    let (_, outcome) = &world.done[0];
    let BatchOutcome::NotWritten(failure) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(failure.kind, FailureKind::DeliveryTimedOut);
    let reason = failure.message.as_deref();
    assert_eq!(reason, Some("last refused with 19 NOT_ENOUGH_REPLICAS"));
}

/// The old request may still reach the log; a higher epoch behind it keeps what follows apart.
#[test]
fn after_an_unknown_batch_the_next_go_with_a_new_epoch() {
    let mut world = World::flowing(impatient(), script());
    world.append(0);
    let silent = world.take_sent();
    world.pass_ms(5000);
    let next = world.append(0);
    let sent = world.take_sent();
    assert_eq!(sent.stamps(), [(0, 1, 0)]);
    world.answer(&silent, 0, 1); // late: nobody waits for it, the next answer is in order
    world.answer(&sent, 0, 2);
    assert_eq!(world.done[1], (next, written(2)));
}

#[test]
fn a_request_without_an_answer_ends_its_connection() {
    let mut world = World::flowing(settings(), script());
    let batch = world.append(0);
    let silent = world.take_sent();
    let ended = world.disconnects.len();
    world.pass_ms(29_999);
    assert_eq!(world.disconnects.len(), ended);
    world.pass_ms(1);
    assert_eq!(world.disconnects[ended..], [silent.connection]);
    world.pass_ms(1000);
    let again = world.take_sent();
    assert_eq!(again.batches, silent.batches);
    world.answer(&again, 0, 1);
    assert_eq!(world.done, [(batch, written(1))]);
}

#[test]
fn giving_up_ends_every_batch_as_what_it_is() {
    let mut config = settings();
    config.linger = Duration::from_millis(10);
    let mut world = World::ready(config, script());
    let sent = world.append(0);
    world.pass_ms(10);
    let queued = world.append(0);
    world.input(Input::AbortRequested);
    assert_eq!(world.done.len(), 2);
    let (first, outcome) = &world.done[0];
    assert_eq!(*first, sent);
    assert!(matches!(outcome, BatchOutcome::Unknown(why) if why.kind == FailureKind::Closed));
    let (second, outcome) = &world.done[1];
    assert_eq!(*second, queued);
    assert!(matches!(outcome, BatchOutcome::NotWritten(why) if why.kind == FailureKind::Closed));
}

#[test]
fn what_is_queued_after_giving_up_ends_too() {
    let mut world = World::flowing(settings(), script());
    world.input(Input::AbortRequested);
    let late = world.append(0);
    assert_eq!(world.done.len(), 1);
    assert_eq!(world.done[0].0, late);
}

impl World {
    /// Whether the open batch of partition 0 takes one more record.
    fn joins_open_batch(&mut self) -> bool {
        let record = RecordView {
            timestamp_ms: 1000,
            key: None,
            value: Some(b"late"),
            headers: &[],
        };
        let queue = self.queues.0.get_mut(&at(0)).expect("in use");
        queue.append(&record).is_ok()
    }
}

/// Nothing can be sent; a record that comes late must not end with those that came early.
#[rstest]
#[case::without_linger(0, 312)]
#[case::with_a_short_one(200, 312)]
#[case::with_a_long_one(900, 899)]
fn a_batch_takes_no_records_once_it_is_old(#[case] linger_ms: u64, #[case] open_ms: u64) {
    let mut script = script();
    script.topics[0].partitions[0] = (-1, 0);
    let mut config = impatient();
    config.linger = Duration::from_millis(linger_ms);
    let mut world = World::ready(config, script);
    world.append(0);
    world.pass_ms(open_ms);
    assert!(
        world.joins_open_batch(),
        "a sixteenth of five seconds is 312.5 ms"
    );
    world.pass_ms(1);
    assert!(!world.joins_open_batch());
}
