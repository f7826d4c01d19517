//! What comes back: retries without duplicates, in order, and the restart of a broken run.

use super::*;
use crate::error::{ErrorCode, Failure, FailureKind};
use crate::types::BrokerId;

#[track_caller]
fn not_written(world: &World, index: usize) -> Failure {
    match &world.done[index].1 {
        BatchOutcome::NotWritten(failure) => failure.clone(),
        other => panic!("{other:?} where nothing was written"),
    }
}

#[track_caller]
fn unknown(world: &World, index: usize) -> Failure {
    match &world.done[index].1 {
        BatchOutcome::Unknown(failure) => failure.clone(),
        other => panic!("{other:?} where nothing is known"),
    }
}

/// The very bytes again: same id, epoch and sequence, so a broker that has them knows them.
#[test]
fn lost_ack_is_retried_with_the_same_bytes() {
    let mut world = World::flowing(settings(), script());
    let batch = world.append(0);
    let first = world.take_sent();
    world.lose(first.connection);
    world.pass_ms(1000);
    let second = world.take_sent();
    assert_ne!(second.connection, first.connection);
    assert_eq!(second.batches, first.batches);
    world.answer(&second, 0, 1);
    assert_eq!(world.done, [(batch, written(1))]);
}

#[test]
fn a_duplicate_is_written_at_its_first_offset() {
    let mut world = World::flowing(settings(), script());
    let batch = world.append(0);
    let first = world.take_sent();
    world.lose(first.connection);
    world.pass_ms(1000);
    let second = world.take_sent();
    world.answer(&second, 46, -1);
    let outcome = BatchOutcome::Written {
        base_offset: None,
        log_append_time_ms: None,
    };
    assert_eq!(world.done, [(batch, outcome)]);
}

#[test]
fn a_retriable_refusal_keeps_the_order_of_five_in_flight() {
    let mut world = World::flowing(settings(), script());
    let batches: Vec<_> = (0..5).map(|_| world.append(0)).collect();
    let sent = world.take_all_sent();
    world.answer(&sent[0], 19, -1);
    for later in &sent[1..] {
        world.answer(later, 45, -1);
    }
    world.append(0); // a new batch waits behind the retries
    for sequence in 1..=4 {
        world.pass_ms(2000);
        let again = world.take_sent();
        assert_eq!(
            again.stamps(),
            [(0, 0, sequence)],
            "first in line goes alone"
        );
        world.answer(&again, 0, i64::from(sequence));
    }
    world.pass_ms(2000);
    let last = world.take_all_sent();
    let stamps: Vec<_> = last.iter().flat_map(Sent::stamps).collect();
    assert_eq!(
        stamps,
        [(0, 0, 5), (0, 0, 6)],
        "nothing waits any more: new ones follow"
    );
    world.answer(&last[0], 0, 5);
    let ends: Vec<_> = world.done.iter().map(|(batch, _)| *batch).collect();
    assert_eq!(ends, batches);
}

#[test]
fn a_lost_connection_with_five_in_flight_keeps_their_order() {
    let mut world = World::flowing(settings(), script());
    for _ in 0..5 {
        world.append(0);
    }
    let sent = world.take_all_sent();
    world.answer(&sent[0], 0, 1);
    world.lose(sent[0].connection);
    for sequence in 2..=5 {
        world.pass_ms(2000);
        let again = world.take_sent();
        assert_eq!(again.stamps(), [(0, 0, sequence)]);
        world.answer(&again, 0, i64::from(sequence));
    }
    assert_eq!(world.done.len(), 5);
}

#[test]
fn a_new_leader_is_tried_at_once() {
    let mut world = World::flowing(settings(), script());
    let batch = world.append(0);
    let sent = world.take_sent();
    let row = Row {
        partition: 0,
        code: 6,
        base_offset: -1,
        leader: Some((2, 1)),
    };
    world.answer_with(&sent, &[row], 0, &[Node { id: 2, port: 9002 }]);
    let again = world.take_sent();
    assert_eq!((again.port, again.stamps()), (9002, vec![(0, 0, 1)]));
    world.answer(&again, 0, 1);
    assert_eq!(world.done, [(batch, written(1))]);
}

/// Nobody waits for the batch any more, but the next one has to go where its answer points.
#[test]
fn a_new_leader_is_heard_of_in_the_answer_to_a_batch_that_was_taken_back() {
    let mut config = settings();
    config.delivery_timeout = Duration::from_secs(5);
    let mut world = World::flowing(config, script());
    world.append(0);
    let late = world.take_sent();
    world.pass_ms(5000);
    unknown(&world, 0);
    let row = Row {
        partition: 0,
        code: 6,
        base_offset: -1,
        leader: Some((2, 1)),
    };
    world.answer_with(&late, &[row], 0, &[Node { id: 2, port: 9002 }]);
    world.append(0);
    assert_eq!(world.take_sent().port, 9002);
}

#[test]
fn a_leader_of_an_older_epoch_is_not_news() {
    let mut script = script();
    script.topics[0].partitions[0] = (1, 5);
    let mut world = World::flowing(settings(), script);
    world.append(0);
    let sent = world.take_sent();
    let row = Row {
        partition: 0,
        code: 6,
        base_offset: -1,
        leader: Some((2, 4)),
    };
    world.answer_with(&sent, &[row], 0, &[]);
    world.pass_ms(2000);
    assert_eq!(world.take_sent().port, 9001);
}

/// Were the second batch sent to the new leader now, it could be appended before the first, whose
/// answer is still open at the old one.
#[test]
fn a_partition_stays_on_its_connection_while_batches_are_on_it() {
    let mut script = script();
    script.topics[0].partitions[1] = (2, 0);
    let steady = EngineConfig {
        retry_backoff: Duration::from_millis(100),
        retry_backoff_max: Duration::from_millis(100),
        ..settings()
    };
    let mut world = World::flowing(steady, script);
    world.append(0);
    let open = world.take_sent();
    world.append(1);
    let other = world.take_sent();
    world.script.topics[0].partitions[0] = (2, 1);
    world.pass_ms(50);
    // Makes the engine ask the second broker for leaders, before it is busy with the retry.
    world.answer(&other, 3, -1);
    world.pass_ms(500);
    assert_eq!(
        world.engine.metadata.leadership(at(0)).leader,
        Some(BrokerId(2))
    );
    world.take_all_sent();
    world.append(0);
    assert_eq!(
        world.produced.len(),
        0,
        "not to the new leader while the old one has not answered"
    );
    world.answer(&open, 0, 1);
    assert_eq!(world.take_sent().port, 9002);
}

/// The refused batch's sequences are spent: behind it the run starts anew with a higher epoch.
#[test]
fn a_definite_refusal_restarts_the_run_behind_it() {
    let mut world = World::flowing(settings(), script());
    for _ in 0..3 {
        world.append(0);
    }
    let sent = world.take_all_sent();
    world.answer(&sent[0], 87, -1);
    world.answer(&sent[1], 45, -1);
    world.answer(&sent[2], 45, -1);
    assert_eq!(
        not_written(&world, 0).kind,
        FailureKind::Refused(ErrorCode(87))
    );
    world.pass_ms(2000);
    let again = world.take_sent();
    assert_eq!(again.stamps(), [(0, 1, 0)]);
    world.answer(&again, 0, 1);
    world.pass_ms(2000);
    let last = world.take_sent();
    assert_eq!(last.stamps(), [(0, 1, 1)]);
    world.answer(&last, 0, 2);
    assert_eq!(world.done.len(), 3);
}

#[test]
fn out_of_order_at_the_head_restarts_the_run() {
    let mut world = World::flowing(settings(), script());
    let batch = world.append(0);
    let sent = world.take_sent();
    world.answer(&sent, 45, -1);
    world.pass_ms(2000);
    let again = world.take_sent();
    assert_eq!(again.stamps(), [(0, 1, 0)]);
    world.answer(&again, 0, 1);
    assert_eq!(world.done, [(batch, written(1))]);
}

/// The second batch may be in the log under its old number: it keeps it until that is settled, and
/// only then does the run restart.
#[test]
fn a_possibly_written_batch_is_settled_before_the_restart() {
    let mut world = World::flowing(settings(), script());
    for _ in 0..2 {
        world.append(0);
    }
    let sent = world.take_all_sent();
    world.answer(&sent[0], 87, -1);
    world.lose(sent[1].connection);
    world.pass_ms(2000);
    let again = world.take_sent();
    assert_eq!(again.batches, sent[1].batches, "the old bytes first");
    world.answer(&again, 45, -1); // so it was not written
    world.pass_ms(2000);
    let renumbered = world.take_sent();
    assert_eq!(renumbered.stamps(), [(0, 1, 0)]);
    world.answer(&renumbered, 0, 1);
    assert_eq!(world.done[1], (2, written(1)));
}

/// A broker that restarted remembers its last batch alone. It says 45 to the first of two that it
/// has, and knows the second: a new number for the first would write it twice.
#[test]
fn a_batch_that_the_broker_may_have_forgotten_is_unknown() {
    let mut world = World::flowing(settings(), script());
    for _ in 0..2 {
        world.append(0);
    }
    let sent = world.take_all_sent();
    world.lose(sent[0].connection);
    world.pass_ms(2000);
    let first = world.take_sent();
    world.answer(&first, 45, -1);
    assert_eq!(unknown(&world, 0).kind, FailureKind::Refused(ErrorCode(45)));
    world.pass_ms(2000);
    let second = world.take_sent();
    assert_eq!(second.stamps(), [(0, 0, 2)]);
    world.answer(&second, 0, 2);
    assert_eq!(world.done[1], (2, written(2)));
    // What follows starts a new run: the gap may be real.
    world.append(0);
    assert_eq!(world.take_sent().stamps(), [(0, 1, 0)]);
}

#[test]
fn an_epoch_that_runs_out_asks_for_a_new_id() {
    let mut world = World::flowing(settings(), script());
    for round in 1..=i32::from(i16::MAX) {
        world.append(0);
        let sent = world.take_sent();
        world.answer(&sent, 87, -1);
        assert_eq!(world.done.len(), usize::try_from(round).expect("positive"));
    }
    world.append(0);
    let sent = world.take_sent();
    assert_eq!(sent.batches[0].epoch, i16::MAX);
    world.answer(&sent, 87, -1);
    world.append(0);
    let sent = world.take_sent();
    assert_eq!((sent.batches[0].producer_id, sent.batches[0].epoch), (8, 0));
}

#[test]
fn retries_end_with_what_is_known() {
    let mut config = settings();
    config.retries_max = 1;
    let mut world = World::flowing(config, script());
    world.append(0);
    let sent = world.take_sent();
    world.answer(&sent, 19, -1);
    world.pass_ms(2000);
    let sent = world.take_sent();
    world.answer(&sent, 19, -1);
    let failure = not_written(&world, 0);
    assert_eq!(
        (failure.kind, failure.attempts),
        (FailureKind::Refused(ErrorCode(19)), 2)
    );
}

#[test]
fn a_time_out_after_the_append_is_not_called_unwritten() {
    let mut config = settings();
    config.retries_max = 0;
    let mut world = World::flowing(config, script());
    world.append(0);
    let sent = world.take_sent();
    world.answer(&sent, 7, 1);
    assert_eq!(unknown(&world, 0).kind, FailureKind::Refused(ErrorCode(7)));
}

#[test]
fn without_idempotence_completions_keep_their_order_too() {
    let mut config = settings();
    config.idempotence = Idempotence::Disabled;
    let mut world = World::ready(config, script());
    let (first, second) = (world.append(0), world.append(0));
    let sent = world.take_all_sent();
    world.answer(&sent[0], 19, -1);
    world.answer(&sent[1], 0, 0);
    assert_eq!(world.done, []);
    world.pass_ms(2000);
    world.acknowledge(1);
    assert_eq!(world.done, [(first, written(1)), (second, written(0))]);
}
