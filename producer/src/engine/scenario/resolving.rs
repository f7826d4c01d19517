//! Batches that would end as unknown: the broker is asked, and nothing is guessed.

use super::*;
use crate::error::{ErrorCode, Failure, FailureKind};
use rstest::rstest;

/// A delivery time-out shorter than the request's, and a minute to ask.
fn asking() -> EngineConfig {
    let mut config = settings();
    config.delivery_timeout = Duration::from_secs(5);
    config.resolve_within = Some(Duration::from_secs(60));
    config
}

#[track_caller]
fn not_written(world: &World, index: usize) -> &Failure {
    match &world.done[index].1 {
        BatchOutcome::NotWritten(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn unknown(world: &World, index: usize) -> &Failure {
    match &world.done[index].1 {
        BatchOutcome::Unknown(failure) => failure,
        other => panic!("{other:?}"),
    }
}

/// A world that asks about its only batch, which was lost with its connection.
fn lost(config: EngineConfig) -> (World, u32, Sent) {
    let mut world = World::flowing(config, script());
    let batch = world.append(0);
    let sent = world.take_sent();
    world.pass_ms(4_999);
    world.lose(sent.connection);
    world.pass_ms(1_000);
    assert_eq!(world.done, [], "its time is over, and it is asked about");
    (world, batch, sent)
}

#[test]
fn a_late_answer_settles_a_batch_whose_time_is_over() {
    let mut world = World::flowing(asking(), script());
    let batch = world.append(0);
    let sent = world.take_sent();
    world.pass_ms(10_000);
    assert_eq!(world.done, []);
    world.answer(&sent, 0, 1);
    assert_eq!(world.done, [(batch, written(1))]);
}

#[rstest]
#[case::appended_now_or_before(0, 1)]
#[case::duplicate(46, -1)]
fn a_lost_batch_is_sent_again_as_it_is_and_found_written(#[case] code: i16, #[case] offset: i64) {
    let (mut world, batch, lost) = lost(asking());
    let again = world.take_sent();
    assert_eq!(again.batches, lost.batches);
    world.answer(&again, code, offset);
    let base_offset = (offset >= 0).then_some(offset);
    let written = BatchOutcome::Written {
        base_offset,
        log_append_time_ms: None,
    };
    assert_eq!(world.done, [(batch, written)]);
}

/// The broker recognises the last batch it appended; this is none it knows.
#[test]
fn a_lost_batch_that_the_broker_proves_unwritten_ends_so() {
    let (mut world, batch, _) = lost(asking());
    let again = world.take_sent();
    world.answer(&again, 45, -1);
    assert_eq!(world.done[0].0, batch);
    let failure = not_written(&world, 0);
    assert_eq!(
        (failure.kind, failure.attempts),
        (FailureKind::DeliveryTimedOut, 2)
    );
    world.append(0);
    assert_eq!(
        world.take_sent().stamps(),
        [(0, 1, 0)],
        "behind a gap, a new epoch"
    );
}

#[test]
fn what_no_answer_settles_in_time_stays_unknown() {
    let (mut world, batch, _) = lost(asking());
    world.take_all_sent();
    world.pass_ms(59_000);
    assert_eq!(world.done, []);
    world.take_all_sent();
    world.pass_ms(1);
    assert_eq!(world.done[0].0, batch);
    let failure = unknown(&world, 0);
    assert_eq!(failure.kind, FailureKind::DeliveryTimedOut);
    let words = failure.message.as_deref().expect("words");
    assert!(
        words.ends_with("not settled within outcome.resolve.timeout.ms"),
        "{words}"
    );
    world.append(0);
    let next = world.take_sent();
    assert_eq!(next.stamps(), [(0, 1, 0)], "a late request is fenced");
}

#[test]
fn a_batch_is_asked_about_when_its_retries_are_used_up() {
    let mut config = asking();
    config.retries_max = 0;
    let mut world = World::flowing(config, script());
    let batch = world.append(0);
    world.lose(world.produced[0].connection);
    world.take_all_sent();
    world.pass_ms(1_000);
    let again = world.take_sent();
    world.lose(again.connection);
    world.pass_ms(2_000);
    let again = world.take_sent();
    world.answer(&again, 0, 1);
    assert_eq!(world.done, [(batch, written(1))]);
}

/// The code says nothing of the log.
#[rstest]
#[case::asked(Some(Duration::from_secs(60)), 1)]
#[case::not_asked(None, 0)]
fn an_unclear_answer_is_asked_about(#[case] within: Option<Duration>, #[case] again: usize) {
    let mut config = asking();
    config.resolve_within = within;
    let mut world = World::flowing(config, script());
    let batch = world.append(0);
    let sent = world.take_sent();
    world.answer(&sent, -1, -1);
    world.pass_ms(1_000);
    let sent_again = world.take_all_sent();
    assert_eq!(sent_again.len(), again);
    match sent_again.first() {
        None => {
            let refused = FailureKind::Refused(ErrorCode(-1));
            assert_eq!(unknown(&world, 0).kind, refused);
        }
        Some(again) => {
            world.answer(again, 0, 1);
            assert_eq!(world.done, [(batch, written(1))]);
        }
    }
}

#[test]
fn what_waits_behind_a_batch_asked_about_ends_at_its_own_time_unwritten() {
    let (mut world, first, _) = lost(asking());
    let behind = world.append(0);
    let again = world.take_sent();
    assert_eq!(again.stamps(), [(0, 0, 1)], "it goes alone");
    world.pass_ms(5_000);
    assert_eq!(world.done, [], "ends are told in order");
    world.answer(&again, 0, 1);
    assert_eq!(world.done[0], (first, written(1)));
    assert_eq!(world.done[1].0, behind);
    let failure = not_written(&world, 1);
    assert_eq!(
        (failure.kind, failure.attempts),
        (FailureKind::DeliveryTimedOut, 0)
    );
    world.append(0);
    assert_eq!(
        world.take_sent().stamps(),
        [(0, 0, 2)],
        "no sequence was spent on it"
    );
}

#[test]
fn several_on_the_way_are_each_asked_about_in_order() {
    let mut world = World::flowing(asking(), script());
    let batches: Vec<_> = (0..3).map(|_| world.append(0)).collect();
    let sent = world.take_all_sent();
    world.pass_ms(5_500);
    world.lose(sent[0].connection);
    for sequence in 1..=3 {
        world.pass_ms(2_000);
        let again = world.take_sent();
        assert_eq!(again.stamps(), [(0, 0, sequence)]);
        world.answer(&again, 0, i64::from(sequence));
    }
    let ends: Vec<_> = (1..=3).map(|at| written(i64::from(at))).collect();
    assert_eq!(
        world.done,
        batches.into_iter().zip(ends).collect::<Vec<_>>()
    );
}

/// An answer that settles it does not bring a batch back to life whose time is over.
#[rstest]
#[case::too_large(10, FailureKind::Refused(ErrorCode(10)))]
#[case::not_enough_replicas(19, FailureKind::DeliveryTimedOut)]
fn a_first_attempt_refused_after_its_time_ends_unwritten(
    #[case] code: i16,
    #[case] kind: FailureKind,
) {
    let mut world = World::flowing(asking(), script());
    world.append(0);
    let sent = world.take_sent();
    world.pass_ms(10_000);
    world.answer(&sent, code, -1);
    assert_eq!(not_written(&world, 0).kind, kind);
    world.pass_ms(10_000);
    assert_eq!(world.take_all_sent().len(), 0);
}

#[test]
fn a_batch_that_turns_out_never_to_have_left_ends_unwritten() {
    let mut world = World::flowing(asking(), script());
    world.append(0);
    let stuck = world.take_sent();
    world.pass_ms(10_000);
    world.lose_from(stuck.connection, Some(stuck.correlation_id()));
    assert_eq!(not_written(&world, 0).kind, FailureKind::DeliveryTimedOut);
}

#[test]
fn a_batch_that_was_only_refused_is_not_asked_about() {
    let mut world = World::flowing(asking(), script());
    world.append(0);
    let sent = world.take_sent();
    world.pass_ms(4_990);
    world.answer(&sent, 19, -1);
    world.pass_ms(10);
    assert_eq!(not_written(&world, 0).kind, FailureKind::DeliveryTimedOut);
}

/// Nothing can be asked without sequences: sent again, it could be written twice.
#[test]
fn without_sequences_nothing_is_asked() {
    let mut config = asking();
    config.idempotence = Idempotence::Disabled;
    let mut world = World::flowing(config, script());
    world.append(0);
    world.pass_ms(5_000);
    assert_eq!(unknown(&world, 0).kind, FailureKind::DeliveryTimedOut);
}

#[test]
fn giving_up_ends_what_is_asked_about_as_unknown() {
    let (mut world, ..) = lost(asking());
    world.input(Input::AbortRequested);
    assert_eq!(unknown(&world, 0).kind, FailureKind::Closed);
}
