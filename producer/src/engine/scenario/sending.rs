//! What goes when: identity first, linger, requests of many partitions, five in flight.

use super::*;
use crate::error::{ErrorCode, FailureKind};

#[test]
fn a_first_record_needs_versions_metadata_and_a_producer_id() {
    let mut world = World::ready(settings(), script());
    let batch = world.append(0);
    // Bootstrap: 18, then 3 and 22; the leader's own connection: 18.
    assert_eq!(world.asked, [(18, 4), (3, 12), (22, 4), (18, 4)]);
    let sent = world.take_sent();
    assert_eq!((sent.port, sent.acks), (9001, -1));
    assert_eq!(sent.stamps(), [(0, 0, 0)]);
    assert_eq!(sent.batches[0].producer_id, 7);
    world.answer(&sent, 0, 41);
    assert_eq!(world.done, [(batch, written(41))]);
}

#[test]
fn an_engine_to_which_nothing_happened_is_not_stirred() {
    let mut world = World::flowing(settings(), script());
    world.append(0);
    assert!(!world.engine.is_stirred(), "it was polled to the end");
    let sent = world.take_sent();
    let written = Input::Written {
        connection: sent.connection,
        correlation_id: sent.correlation_id(),
    };
    world.engine.handle_input(written, world.now);
    assert!(!world.engine.is_stirred(), "it expects an answer");
    world.engine.handle_input(Input::Awaited, world.now);
    assert!(world.engine.is_stirred());
}

#[test]
fn the_bootstrap_connection_ends_once_a_broker_has_its_own() {
    let mut world = World::ready(settings(), script());
    world.append(0);
    assert_eq!(world.connects, [9000, 9001]);
    assert_eq!(world.disconnects, [ConnectionId(0)]);
}

#[test]
fn a_bootstrap_address_that_is_a_broker_keeps_its_connection() {
    let mut config = settings();
    config.bootstrap = vec![Address {
        host: "broker".into(),
        port: 9001,
    }];
    let mut world = World::ready(config, script());
    world.append(0);
    assert_eq!(world.connects, [9001]);
    assert_eq!(world.take_sent().port, 9001);
}

#[test]
fn five_requests_are_in_flight_and_the_sixth_waits() {
    let mut world = World::flowing(settings(), script());
    for _ in 0..7 {
        world.append(0);
    }
    let sent = world.take_all_sent();
    let stamps: Vec<_> = sent.iter().flat_map(Sent::stamps).collect();
    assert_eq!(
        stamps,
        [(0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 0, 4), (0, 0, 5)]
    );
    world.answer(&sent[0], 0, 1);
    assert_eq!(world.take_sent().stamps(), [(0, 0, 6)]);
}

/// A broker without state of the producer takes any first sequence: a second batch that overtakes a
/// refused first one would be let in.
#[test]
fn until_the_first_acknowledgement_one_batch_is_on_the_way() {
    let mut world = World::ready(settings(), script());
    world.append(0);
    world.append(0);
    let first = world.take_sent();
    assert_eq!(first.stamps(), [(0, 0, 0)]);
    world.answer(&first, 0, 0);
    assert_eq!(world.take_sent().stamps(), [(0, 0, 1)]);
}

#[test]
fn all_ready_partitions_of_a_broker_share_a_request() {
    let mut world = World::ready(settings(), script());
    world.append_heard(0);
    world.append_heard(1);
    world.drive();
    assert_eq!(world.take_sent().stamps(), [(0, 0, 0), (1, 0, 0)]);
}

#[test]
fn a_request_stays_within_its_size() {
    let mut config = settings();
    config.request_bytes_max = 250; // room for one batch of about 70 bytes and the framing of two
    let mut world = World::ready(config, script());
    world
        .engine
        .handle_input(Input::Queued { partition: at(0) }, world.now);
    world.append_quietly(0);
    world.append_quietly(1);
    world.input(Input::Queued { partition: at(1) });
    let sent = world.take_all_sent();
    let stamps: Vec<_> = sent.iter().map(Sent::stamps).collect();
    assert_eq!(stamps.len(), 1 + usize::from(stamps[0].len() == 1));
    for one in &sent {
        assert!(one.request.body.len() < 250);
    }
}

#[test]
fn a_request_takes_256_batches_and_the_next_one_the_rest() {
    let mut script = script();
    script.topics[0].partitions = vec![(1, 0); 300];
    let mut world = World::flowing(settings(), script);
    for partition in 0..300 {
        world.append_heard(partition);
    }
    world.drive();
    let counts: Vec<_> = world
        .take_all_sent()
        .iter()
        .map(|one| one.stamps().len())
        .collect();
    assert_eq!(counts, [256, 44]);
}

#[test]
fn an_open_batch_lingers() {
    let mut config = settings();
    config.linger = Duration::from_millis(5);
    let mut world = World::ready(config, script());
    world.append(0);
    assert_eq!(
        world.engine.next_deadline(),
        Some(world.now + Duration::from_millis(5))
    );
    world.pass_ms(4);
    assert_eq!(world.produced.len(), 0);
    world.pass_ms(1);
    assert_eq!(world.produced.len(), 1);
}

/// A full batch of 72 bytes waits for another one, or until it has lingered: something is on its
/// way.
#[test]
fn full_batches_that_may_linger_go_in_company() {
    let mut world = World::holding(140);
    world.fill(0);
    assert_eq!(world.take_sent().stamps(), [(0, 0, 1)], "alone: why wait?");
    world.append(1);
    world.append(1);
    assert_eq!(world.produced.len(), 0, "one is full");
    assert!((1..140).contains(&world.engine.lacking_bytes()));
    world.pass_ms(1);
    world.append(0);
    let stamps = world.take_sent().stamps();
    assert_eq!(stamps, [(0, 0, 2), (1, 0, 0)]);
}

/// What is sealed then waits for an answer, which wakes the driver anyway.
#[test]
fn while_its_broker_takes_no_more_requests_no_number_of_bytes_makes_a_batch_go() {
    let mut world = World::flowing(settings(), script());
    for _ in 0..4 {
        world.append(0);
    }
    assert_eq!(world.engine.lacking_bytes(), 0, "one more may go");
    world.append(0);
    assert_eq!(world.engine.lacking_bytes(), usize::MAX);
    let sent = world.take_all_sent();
    world.answer(&sent[0], 0, 1);
    assert_eq!(world.engine.lacking_bytes(), 0);
}

#[test]
fn a_full_batch_goes_once_nothing_is_on_its_way() {
    let mut world = World::holding(1_000);
    assert_eq!(world.engine.lacking_bytes(), 0, "whatever is full may go");
    world.fill(0);
    let first = world.take_sent();
    world.append(0);
    assert_eq!(world.produced.len(), 0, "the second is full, and held");
    world.answer(&first, 0, 1);
    assert_eq!(world.take_sent().stamps(), [(0, 0, 2)]);
}

#[test]
fn a_full_batch_that_nobody_joins_goes_when_it_has_lingered_or_is_awaited() {
    let mut world = World::holding(1_000);
    world.fill(0);
    assert_eq!(world.take_sent().stamps(), [(0, 0, 1)]);
    world.pass_ms(100);
    world.append(0);
    world.pass_ms(399);
    assert_eq!(world.produced.len(), 0);
    world.pass_ms(1);
    assert_eq!(world.take_sent().stamps(), [(0, 0, 2)]);
    world.append(0);
    world.input(Input::Awaited);
    assert_eq!(world.take_sent().stamps(), [(0, 0, 3)], "it was full");
    assert_eq!(world.produced.len(), 0, "what is open lingers");
}

#[test]
fn a_drain_sends_what_lingers_and_not_what_comes_after() {
    let mut config = settings();
    config.linger = Duration::from_millis(500);
    let mut world = World::flowing_after_linger(config);
    world.append(0);
    world.pass_ms(1);
    world.input(Input::DrainRequested);
    assert_eq!(world.take_sent().stamps(), [(0, 0, 1)]);
    world.pass_ms(1);
    world.append(0);
    assert_eq!(world.produced.len(), 0);
}

#[test]
fn without_idempotence_batches_carry_no_identity() {
    let mut config = settings();
    config.idempotence = Idempotence::Disabled;
    config.acks = Acks::Leader;
    let mut world = World::ready(config, script());
    world.append(0);
    let sent = world.take_sent();
    assert_eq!(sent.acks, 1);
    assert_eq!(
        (sent.batches[0].producer_id, sent.stamps()),
        (-1, vec![(0, -1, -1)])
    );
    assert!(!world.asked.iter().any(|(api, _)| *api == 22));
}

#[test]
fn acks_0_is_written_with_its_last_byte() {
    let mut config = settings();
    config.idempotence = Idempotence::Disabled;
    config.acks = Acks::None;
    let mut world = World::ready(config, script());
    let batch = world.append(0);
    assert_eq!(world.take_sent().acks, 0);
    let outcome = BatchOutcome::Written {
        base_offset: None,
        log_append_time_ms: None,
    };
    assert_eq!(world.done, [(batch, outcome)]);
}

/// No broker of Apache's answers so, but the protocol lets it.
#[test]
fn an_answer_in_another_order_than_the_request_is_understood() {
    let mut world = World::flowing(settings(), script());
    let batches = [0, 1].map(|partition| world.append_heard(partition));
    world.drive();
    let sent = world.take_sent();
    let row = |partition, base_offset| Row {
        partition,
        code: 0,
        base_offset,
        leader: None,
    };
    world.answer_with(&sent, &[row(1, 20), row(0, 10)], 0, &[]);
    let expected = [(batches[0], written(10)), (batches[1], written(20))];
    assert_eq!(world.done, expected);
}

#[test]
fn acks_0_makes_room_with_its_last_byte() {
    let mut config = settings();
    config.idempotence = Idempotence::Disabled;
    config.acks = Acks::None;
    config.in_flight_max = 1;
    let mut world = World::ready(config, script());
    world.append(0);
    world.append_quietly(0);
    world.append_quietly(0);
    world.input(Input::Queued { partition: at(0) });
    assert_eq!(world.take_all_sent().len(), 3);
}

#[test]
fn a_throttled_broker_is_left_alone_for_so_long() {
    let mut world = World::flowing(settings(), script());
    world.append(0);
    let sent = world.take_sent();
    let row = Row {
        partition: 0,
        code: 0,
        base_offset: 1,
        leader: None,
    };
    world.answer_with(&sent, &[row], 300, &[]);
    world.append(0);
    world.pass_ms(299);
    assert_eq!(world.produced.len(), 0);
    world.pass_ms(1);
    assert_eq!(world.take_sent().stamps(), [(0, 0, 2)]);
}

#[test]
fn a_producer_id_is_asked_again_while_the_broker_starts() {
    let mut script = script();
    script.producer_id_codes = [14, 14].into();
    let mut world = World::ready(settings(), script);
    world.append(0);
    assert_eq!(world.produced.len(), 0);
    world.pass_ms(1000);
    assert_eq!(world.take_sent().stamps(), [(0, 0, 0)]);
}

#[test]
fn a_refused_producer_id_fails_what_waits_for_it() {
    let mut script = script();
    script.producer_id_codes = [31, 31, 0].into();
    let mut world = World::ready(settings(), script);
    let batch = world.append(0);
    world.pass_ms(2000);
    let (ended, outcome) = &world.done[0];
    assert_eq!(*ended, batch);
    let BatchOutcome::NotWritten(failure) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(failure.kind, FailureKind::Refused(ErrorCode(31)));
    // The third answer is good: later batches go.
    world.append(0);
    world.pass_ms(2000);
    assert_eq!(world.take_sent().stamps(), [(0, 0, 0)]);
}

impl World {
    /// Fills a batch of this partition, and opens the next one.
    fn fill(&mut self, partition: i32) {
        self.append(partition);
        self.append(partition);
    }

    /// Whatever may linger does so for half a second, and until so many bytes are full.
    fn holding(hold_bytes: usize) -> Self {
        let mut config = settings();
        config.linger = Duration::from_millis(500);
        config.hold_bytes = hold_bytes;
        Self::flowing_after_linger(config)
    }

    fn flowing_after_linger(config: EngineConfig) -> Self {
        let linger_ms = u64::try_from(config.linger.as_millis()).expect("short");
        let mut world = Self::ready(config, script());
        world.append(0);
        world.pass_ms(linger_ms);
        world.acknowledge(0);
        world
    }
}
