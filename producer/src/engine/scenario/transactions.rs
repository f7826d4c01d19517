//! Transactions: what is asked of whom, in which order, and what failures lead to.

use std::collections::VecDeque;

use super::*;
use crate::engine::TransactionsConfig;
use crate::engine::transaction::{Ask, Certainty, Doors, Misuse};
use crate::error::{ErrorCode, FailureKind};
use crate::group_offsets::{ConsumedOffset, ConsumerGroup, GroupOffsets};
use crate::wire::transactional::Decision;
use rstest::rstest;

const VERSION_1: (i64, i16) = (1, 1);
const VERSION_2: (i64, i16) = (2, 2);

fn transactional() -> EngineConfig {
    EngineConfig {
        transactions: Some(TransactionsConfig {
            id: "transfers".into(),
            timeout_ms: 60_000,
        }),
        ..settings()
    }
}

fn with_features(features: (i64, i16)) -> Script {
    let mut script = script();
    let more = [(10, 0, 4), (24, 0, 3), (25, 0, 3), (26, 0, 5), (28, 0, 5)];
    script.versions.extend(more);
    script.coordinator.features = Some(features);
    script
}

/// The answer to the last ask.
type Answer = Option<Result<(), Denied>>;

impl World {
    /// A world whose transactions are initialised.
    fn initialised(features: (i64, i16)) -> Self {
        let mut world = Self::ready(transactional(), with_features(features));
        assert_eq!(world.ask(Ask::Initialise), Some(Ok(())));
        assert_eq!(
            world.heard(),
            ["find id transfers", "init transfers 60000 -1/-1"]
        );
        world
    }

    fn in_transaction(features: (i64, i16)) -> Self {
        let mut world = Self::initialised(features);
        assert_eq!(world.ask(Ask::Begin), Some(Ok(())));
        world
    }

    fn ask(&mut self, ask: Ask) -> Answer {
        let id = AskId(1000 + self.answered.len() as u64);
        self.input(Input::Asked { id, ask });
        let answered = self.answered.iter().find(|(one, _)| *one == id);
        answered.map(|(_, answer)| answer.clone())
    }

    fn end(&mut self, decision: Decision) -> Answer {
        self.ask(Ask::End {
            decision,
            begun_by: None,
        })
    }

    fn commit(&mut self) -> Answer {
        self.end(Decision::Commit)
    }

    fn abort(&mut self) -> Answer {
        self.end(Decision::Abort)
    }

    fn last_answer(&self) -> Answer {
        self.answered.last().map(|(_, answer)| answer.clone())
    }

    /// What coordinators were asked since the last look.
    fn heard(&mut self) -> Vec<String> {
        self.script.coordinator.take_heard()
    }

    fn send_offsets(&mut self) -> Answer {
        let offsets = vec![ConsumedOffset::next("orders", 0, 42)];
        self.ask(Ask::CommitOffsets {
            offsets: Arc::new(GroupOffsets::new(ConsumerGroup::new("copiers"), offsets)),
            begun_by: None,
        })
    }
}

#[test]
fn version_2_adds_partitions_by_writing_and_takes_the_epoch_that_the_end_brings() {
    let mut world = World::in_transaction(VERSION_2);
    for epoch in 0..2 {
        world.append(0);
        let sent = world.take_sent();
        assert_eq!(sent.request.version, 12);
        assert_eq!(sent.transactional_id.as_deref(), Some("transfers"));
        assert_eq!(sent.stamps(), [(0, epoch, 0)]);
        world.answer(&sent, 0, 0);
        assert_eq!(world.commit(), Some(Ok(())));
        assert_eq!(world.heard(), [format!("commit v5 transfers 7/{epoch}")]);
        world.ask(Ask::Begin);
    }
}

#[test]
fn an_id_whose_epochs_are_used_up_is_followed_by_the_one_that_the_end_brings() {
    let mut world = World::in_transaction(VERSION_2);
    world.append(0);
    world.acknowledge(0);
    world.script.coordinator.exhaust();
    assert_eq!(world.commit(), Some(Ok(())));
    world.ask(Ask::Begin);
    world.append(0);
    let sent = world.take_sent();
    assert_eq!(
        (sent.batches[0].producer_id, sent.stamps()),
        (8, vec![(0, 0, 0)])
    );
    world.answer(&sent, 0, 1);
    world.heard();
    world.commit();
    assert_eq!(world.heard(), ["commit v5 transfers 8/0"]);
}

/// Nothing has to go alone where brokers insist on an epoch's first sequence.
#[test]
fn version_2_has_several_batches_in_flight_from_the_first_on() {
    let mut world = World::in_transaction(VERSION_2);
    for _ in 0..3 {
        world.append(0);
    }
    let sent = world.take_all_sent();
    let stamps: Vec<_> = sent.iter().flat_map(Sent::stamps).collect();
    assert_eq!(stamps, [(0, 0, 0), (0, 0, 1), (0, 0, 2)]);
}

#[test]
fn version_1_adds_partitions_first_and_goes_on_with_epoch_and_sequences() {
    let mut world = World::in_transaction(VERSION_1);
    for sequence in 0..2 {
        world.append(0);
        let added = "add transfers 7/0 [(\"orders\", [(0, \"\")])]";
        assert_eq!(world.heard(), [added]);
        let sent = world.take_sent();
        assert_eq!(sent.request.version, 11);
        assert_eq!(sent.stamps(), [(0, 0, sequence)]);
        world.answer(&sent, 0, 0);
        assert_eq!(world.commit(), Some(Ok(())));
        assert_eq!(world.heard(), ["commit v4 transfers 7/0"]);
        world.ask(Ask::Begin);
    }
}

#[test]
fn version_1_waits_but_shortly_while_the_transaction_before_completes() {
    let mut world = World::in_transaction(VERSION_1);
    world.script.coordinator.refuse(24, &[51, 51]);
    world.append(0);
    world.pass_ms(39);
    assert_eq!(world.heard().len(), 2, "asked again after 20 ms");
    world.pass_ms(1);
    assert_eq!(world.heard().len(), 1, "and again");
    assert_eq!(world.take_sent().stamps(), [(0, 0, 0)]);
}

/// Of it the coordinator knows no transaction, and refuses its end for good.
#[rstest]
#[case::busy_with_the_one_before(51)]
#[case::loading(14)]
#[case::forbidden(29)]
fn version_1_ends_nothing_of_what_nothing_joined(#[case] code: i16) {
    let mut world = World::in_transaction(VERSION_1);
    world.script.coordinator.refuse(24, &[code]);
    world.append(0);
    assert_eq!(world.heard().len(), 1, "asked to join");
    assert_eq!(world.abort(), Some(Ok(())));
    assert_eq!(world.heard(), [""; 0]);
    assert_eq!(world.ask(Ask::Begin), Some(Ok(())));
    world.append(0);
    world.pass_ms(2_000);
    let sent = world.take_sent();
    world.answer(&sent, 0, 0);
    world.heard();
    assert_eq!(world.commit(), Some(Ok(())));
    assert_eq!(world.heard(), ["commit v4 transfers 7/0"]);
}

/// Whether it joined is not known, so that it may have to be ended.
#[rstest]
#[case::not_available(15)]
#[case::server_error(-1)]
fn version_1_ends_what_may_have_joined(#[case] code: i16) {
    let mut world = World::in_transaction(VERSION_1);
    world.script.coordinator.refuse(24, &[code]);
    world.append(0);
    world.heard();
    world.abort();
    world.pass_ms(5_000);
    let heard = world.heard();
    let ends = heard.iter().filter(|line| line.starts_with("abort"));
    assert_eq!(ends.count(), 1, "{heard:?}");
}

/// An epoch in which a sequence is missing cannot have another transaction.
#[test]
fn version_1_raises_the_epoch_itself_when_a_batch_was_lost() {
    let mut world = World::in_transaction(VERSION_1);
    world.append(0);
    let sent = world.take_sent();
    world.answer(&sent, 87, -1);
    assert_eq!(world.abort(), Some(Ok(())));
    world.heard();
    assert_eq!(world.ask(Ask::Begin), Some(Ok(())));
    world.append(0);
    assert_eq!(world.take_sent().stamps(), [(0, 1, 0)]);
}

#[test]
fn a_cluster_that_was_raised_to_version_2_is_noticed_between_transactions() {
    let mut world = World::in_transaction(VERSION_1);
    world.append(0);
    let sent = world.take_sent();
    world.answer(&sent, 0, 0);
    world.heard();
    // Versions are told once per connection.
    world.script.coordinator.features = Some(VERSION_2);
    let coordinator = world.ports.iter().find(|(_, port)| **port == 9002);
    let connection = *coordinator.expect("a connection").0;
    world.lose(connection);
    world.pass_ms(200);
    world.commit();
    world.pass_ms(200);
    assert_eq!(world.last_answer(), Some(Ok(())));
    let heard = world.heard();
    assert_eq!(heard[0], "find id transfers");
    assert_eq!(heard[1], "commit v4 transfers 7/0", "it ends as it began");
    assert_eq!(heard[2], "init transfers 60000 7/0", "the epoch rises once");
    world.ask(Ask::Begin);
    world.append(0);
    let sent = world.take_sent();
    assert_eq!((sent.request.version, sent.stamps()), (12, vec![(0, 1, 0)]));
    world.answer(&sent, 0, 1);
    assert_eq!(world.commit(), Some(Ok(())));
    assert_eq!(world.heard(), ["commit v5 transfers 7/1"]);
}

#[rstest]
#[case::version_1(VERSION_1)]
#[case::version_2(VERSION_2)]
fn what_left_nothing_with_a_broker_asks_none(#[case] features: (i64, i16)) {
    for decision in [Decision::Commit, Decision::Abort] {
        let mut world = World::in_transaction(features);
        assert_eq!(world.end(decision), Some(Ok(())));
        assert_eq!(world.heard(), [""; 0]);
    }
}

#[test]
fn the_end_waits_for_what_is_on_the_wire() {
    let mut world = World::in_transaction(VERSION_2);
    world.append(0);
    world.append(1);
    let sent = world.take_all_sent();
    assert_eq!(world.commit(), None);
    assert_eq!(world.heard(), [""; 0]);
    for one in &sent {
        world.answer(one, 0, 0);
    }
    assert_eq!(world.last_answer(), Some(Ok(())));
}

#[test]
fn a_failed_batch_ends_what_was_not_sent_and_an_abort_waits_for_what_was() {
    let config = EngineConfig {
        in_flight_max: 2,
        ..transactional()
    };
    let mut world = World::ready(config, with_features(VERSION_2));
    world.ask(Ask::Initialise);
    world.ask(Ask::Begin);
    for _ in 0..3 {
        world.append(0);
    }
    let sent = world.take_all_sent();
    assert_eq!(sent.len(), 2);
    world.answer(&sent[0], 87, -1);
    let aborted = |outcome: &BatchOutcome| match outcome {
        BatchOutcome::NotWritten(failure) => failure.kind == FailureKind::TransactionAborted,
        _ => false,
    };
    assert!(matches!(world.doors, Some(Doors::Shut(Some(_)))));
    world.heard();
    assert!(matches!(world.commit(), Some(Err(Denied::Abortable(_)))));
    assert_eq!(world.abort(), None, "one is on the wire");
    assert_eq!(world.heard(), [""; 0]);
    world.answer(&sent[1], 45, -1);
    assert_eq!(world.last_answer(), Some(Ok(())));
    assert_eq!(world.heard(), ["abort v5 transfers 7/0"]);
    assert_eq!(world.done.len(), 3);
    assert!(aborted(&world.done[2].1), "{:?}", world.done);
}

/// A late answer to it would be of a transaction that is over.
#[test]
fn a_batch_to_be_sent_again_is_not_once_its_transaction_is_aborted() {
    let mut world = World::in_transaction(VERSION_2);
    world.append(0);
    let sent = world.take_sent();
    world.answer(&sent, 19, -1);
    assert_eq!(world.abort(), Some(Ok(())));
    world.pass_ms(1000);
    assert_eq!(world.take_all_sent().len(), 0);
}

#[test]
fn offsets_go_to_their_group_with_version_2() {
    let mut world = World::in_transaction(VERSION_2);
    assert_eq!(world.send_offsets(), Some(Ok(())));
    let committed = "offsets v5 transfers copiers (7, 0) [(\"orders\", [(0, \"=42\")])]";
    assert_eq!(world.heard(), ["find group copiers", committed]);
    assert_eq!(world.commit(), Some(Ok(())));
    assert_eq!(world.heard(), ["commit v5 transfers 7/0"]);
}

#[test]
fn offsets_are_added_to_the_transaction_first_with_version_1() {
    let mut world = World::in_transaction(VERSION_1);
    assert_eq!(world.send_offsets(), Some(Ok(())));
    let committed = "offsets v4 transfers copiers (7, 0) [(\"orders\", [(0, \"=42\")])]";
    let added = "add transfers 7/0 group copiers";
    assert_eq!(world.heard(), [added, "find group copiers", committed]);
    assert_eq!(world.commit(), Some(Ok(())));
    assert_eq!(world.heard(), ["commit v4 transfers 7/0"]);
}

/// What is asked when, of which API, and with which code it is answered.
#[rstest]
#[case::offsets_of_a_lost_member(28, 22)]
#[case::offsets_of_an_unknown_member(28, 25)]
#[case::offsets_of_a_fenced_instance(28, 82)]
#[case::offsets_abortable(28, 120)]
#[case::a_foreign_group(28, 30)]
fn offsets_that_are_refused_leave_the_abort(#[case] api_key: i16, #[case] code: i16) {
    let mut world = World::in_transaction(VERSION_2);
    world.script.coordinator.refuse(api_key, &[code]);
    assert!(matches!(
        world.send_offsets(),
        Some(Err(Denied::Abortable(_)))
    ));
    assert!(matches!(world.commit(), Some(Err(Denied::Abortable(_)))));
    assert_eq!(world.abort(), Some(Ok(())));
    assert_eq!(world.ask(Ask::Begin), Some(Ok(())));
    assert_eq!(world.send_offsets(), Some(Ok(())));
}

#[rstest]
#[case::loading(28, &[14])]
#[case::moved(28, &[16, 15])]
#[case::waited_in_vain(28, &[7])]
#[case::found_later(10, &[15])]
fn offsets_are_committed_once_their_coordinator_is_there(
    #[case] api_key: i16,
    #[case] codes: &[i16],
) {
    let mut world = World::in_transaction(VERSION_2);
    world.script.coordinator.refuse(api_key, codes);
    assert_eq!(world.send_offsets(), None);
    world.pass_ms(3000);
    assert_eq!(world.last_answer(), Some(Ok(())));
}

#[rstest]
#[case::fenced(90)]
#[case::stale(47)]
#[case::forbidden(53)]
#[case::another_decision(48)]
#[case::unknown_id(49)]
fn a_commit_that_is_refused_for_good_is_not_committed_and_ends_all(#[case] code: i16) {
    let mut world = World::in_transaction(VERSION_2);
    world.append(0);
    world.acknowledge(0);
    world.script.coordinator.refuse(26, &[code]);
    let Some(Err(Denied::Fatal(failure, certainty))) = world.commit() else {
        panic!("fatal");
    };
    assert_eq!(failure.kind, FailureKind::Refused(ErrorCode(code)));
    assert_eq!(certainty, Certainty::NotCommitted);
    let begin = world.ask(Ask::Begin);
    assert!(
        matches!(begin, Some(Err(Denied::Fatal(..)))),
        "the same cause"
    );
}

/// The coordinator may have written it down before it could not say so.
#[rstest]
#[case::server_error(&[-1])]
#[case::not_available(&[15, 90])]
#[case::moved(&[16, 90])]
#[case::timed_out(&[7, 90])]
fn a_commit_whose_answer_proves_nothing_is_unknown_once_refused(#[case] codes: &[i16]) {
    let mut world = World::in_transaction(VERSION_2);
    world.append(0);
    world.acknowledge(0);
    world.script.coordinator.refuse(26, codes);
    world.commit();
    world.pass_ms(5_000);
    let answer = world.last_answer();
    let unknown = matches!(answer, Some(Err(Denied::Fatal(_, Certainty::Unknown))));
    assert!(unknown, "{answer:?}");
}

#[test]
fn a_commit_that_was_not_begun_is_certain_once_refused() {
    let mut world = World::in_transaction(VERSION_2);
    world.append(0);
    world.acknowledge(0);
    world.script.coordinator.refuse(26, &[14, 51, 90]);
    world.commit();
    world.pass_ms(5_000);
    let answer = world.last_answer();
    let certain = matches!(answer, Some(Err(Denied::Fatal(_, Certainty::NotCommitted))));
    assert!(certain, "{answer:?}");
}

#[test]
fn a_record_refused_while_the_end_is_on_its_way_is_no_part_of_it() {
    let mut world = World::in_transaction(VERSION_2);
    world.append(0);
    world.acknowledge(0);
    world.script.coordinator.silent = vec![26];
    assert_eq!(world.commit(), None);
    let reason = "too large".into();
    world.input(Input::RecordRefused { reason });
    world.script.coordinator.silent.clear();
    world.pass_ms(35_000);
    assert_eq!(world.last_answer(), Some(Ok(())));
}

#[test]
fn a_group_whose_coordinator_nobody_waited_for_is_asked_about_again() {
    let mut world = World::in_transaction(VERSION_2);
    world.script.coordinator.silent = vec![10];
    assert_eq!(world.send_offsets(), None);
    assert_eq!(world.heard(), ["find group copiers"]);
    world.abort();
    world.script.coordinator.silent.clear();
    world.pass_ms(35_000);
    assert_eq!(world.ask(Ask::Begin), Some(Ok(())));
    world.heard();
    world.send_offsets();
    world.pass_ms(5_000);
    let committed = "offsets v5 transfers copiers (7, 0) [(\"orders\", [(0, \"=42\")])]";
    assert_eq!(world.heard(), ["find group copiers", committed]);
}

#[test]
fn an_end_that_was_lost_is_asked_for_again_and_in_doubt_until_then() {
    let mut world = World::in_transaction(VERSION_2);
    world.append(0);
    world.acknowledge(0);
    world.script.coordinator.silent = vec![26];
    assert_eq!(world.commit(), None);
    assert_eq!(world.abort(), Some(Err(Denied::Misuse(Misuse::Committing))));
    world.script.coordinator.silent.clear();
    world.pass_ms(35_000);
    assert_eq!(world.answered.len(), 4);
    let heard = world.heard();
    let asked = "commit v5 transfers 7/0".to_owned();
    assert_eq!(heard.iter().filter(|line| **line == asked).count(), 2);
    assert!(heard.contains(&"find id transfers".to_owned()), "{heard:?}");
}

#[test]
fn a_lost_end_that_is_then_refused_is_unknown() {
    let mut world = World::in_transaction(VERSION_2);
    world.append(0);
    world.acknowledge(0);
    world.script.coordinator.silent = vec![26];
    world.commit();
    world.script.coordinator.silent.clear();
    world.script.coordinator.refuse(26, &[90]);
    world.pass_ms(35_000);
    let answer = world.last_answer();
    let unknown = matches!(answer, Some(Err(Denied::Fatal(_, Certainty::Unknown))));
    assert!(unknown, "{answer:?}");
}

#[rstest]
#[case::abortable(53, Ok(()))]
#[case::cluster(31, Ok(()))]
#[case::time_out_too_long(50, Err(()))]
#[case::fenced(90, Err(()))]
fn an_initialisation_that_is_refused_may_be_asked_for_again_unless_for_good(
    #[case] code: i16,
    #[case] again: Result<(), ()>,
) {
    let mut world = World::ready(transactional(), with_features(VERSION_2));
    world.script.coordinator.refuse(22, &[code]);
    assert!(matches!(world.ask(Ask::Initialise), Some(Err(_))));
    let second = world.ask(Ask::Initialise);
    assert_eq!(second.map(|answer| answer.map_err(|_| ())), Some(again));
}

#[test]
fn a_coordinator_that_cannot_be_reached_is_asked_for_again() {
    let mut script = with_features(VERSION_2);
    script.closed_ports = vec![9002];
    let mut world = World::ready(transactional(), script);
    assert_eq!(world.ask(Ask::Initialise), None);
    world.pass_ms(100);
    world.script.coordinator.broker = (1, 9001);
    world.pass_ms(1000);
    assert_eq!(world.last_answer(), Some(Ok(())));
}

#[test]
fn a_closing_producer_aborts_and_does_not_ask_for_ever() {
    let mut world = World::in_transaction(VERSION_2);
    world.append(0);
    world.acknowledge(0);
    world.heard();
    world.input(Input::Closing);
    assert_eq!(world.heard(), ["abort v5 transfers 7/0"]);
    assert!(world.engine.is_settled());

    let mut world = World::in_transaction(VERSION_2);
    world.append(0);
    world.acknowledge(0);
    world
        .script
        .coordinator
        .codes
        .insert(26, VecDeque::from([51; 500]));
    world.input(Input::Closing);
    world.pass_ms(119_000);
    assert!(!world.engine.is_settled());
    world.pass_ms(1_000);
    assert!(world.engine.is_settled(), "delivery.timeout.ms has passed");
}
