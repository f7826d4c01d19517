//! Connections: negotiation, losses, broken answers, unreachable nodes, topics that come later.

use super::*;
use crate::engine::effect::TopicView;
use crate::error::{ErrorCode, FailureKind};
use rstest::rstest;

#[rstest]
#[case::same(4, &[4])]
#[case::one_lower(3, &[4, 3])]
#[case::oldest(0, &[4, 0])]
fn versions_are_asked_with_the_highest_first(#[case] theirs: i16, #[case] asked: &[i16]) {
    let mut script = script();
    script.versions[2] = (18, 0, theirs);
    let world = World::ready(settings(), script);
    let questions = world.asked.iter().take_while(|(api, _)| *api == 18);
    let questions: Vec<_> = questions.map(|(_, version)| *version).collect();
    assert_eq!(questions, asked);
    assert!(matches!(
        world.engine.topic(TopicIndex(0)),
        TopicView::Known { .. }
    ));
}

#[test]
fn a_broker_that_names_no_versions_with_its_refusal_is_asked_with_version_0() {
    let mut world = World::new(settings(), script());
    world.script.versions = Vec::new();
    world.want_orders();
    // 35 with an empty list, twice: version 0 is the last that is tried.
    assert_eq!(world.asked, [(18, 4), (18, 0)]);
    assert_eq!(world.disconnects, [ConnectionId(0)]);
}

#[test]
fn an_unreachable_bootstrap_says_which_address_failed_how() {
    let mut config = settings();
    config.bootstrap.push(Address {
        host: "other".into(),
        port: 9009,
    });
    let mut script = script();
    script.closed_ports = vec![9000, 9009];
    let mut world = World::ready(config, script);
    world.pass_ms(1000);
    let TopicView::Pending {
        last_failure: Some(failure),
    } = world.engine.topic(TopicIndex(0))
    else {
        panic!("{:?}", world.engine.topic(TopicIndex(0)))
    };
    assert_eq!(failure.kind, FailureKind::Disconnected);
    assert_eq!(
        failure.message.as_deref(),
        Some("bootstrap:9000: connection refused; other:9009: connection refused")
    );
}

#[test]
fn an_unreachable_bootstrap_is_tried_again_after_a_growing_wait() {
    let mut script = script();
    script.closed_ports = vec![9000];
    let mut world = World::ready(settings(), script);
    world.pass_ms(10_000);
    // 50 ms doubling to 1 s: about 4 tries in the first second, then one per second.
    assert!(
        (10..=16).contains(&world.connects.len()),
        "{} tries",
        world.connects.len()
    );
    world.script.closed_ports.clear();
    world.pass_ms(1000);
    assert!(matches!(
        world.engine.topic(TopicIndex(0)),
        TopicView::Known { .. }
    ));
}

#[test]
fn connecting_is_given_up_after_a_time_that_grows_with_each_failure() {
    let mut script = script();
    script.silent_ports = vec![9000];
    let mut world = World::ready(settings(), script);
    let mut tries = Vec::new();
    for _ in 0..15 {
        world.pass_ms(10_000);
        tries.push(world.connects.len());
    }
    // About 10 s, 20 s, then 30 s each, and up to 1 s between them.
    let ends_at = |count| tries.iter().position(|&tried| tried > count);
    let ends: Vec<_> = (1..=4).map(ends_at).collect();
    let expected = [0..=1, 2..=3, 5..=6, 8..=9];
    for (end, expected) in ends.iter().zip(expected) {
        assert!(end.is_some_and(|end| expected.contains(&end)), "{tries:?}");
    }
    let words = match world.engine.topic(TopicIndex(0)) {
        TopicView::Pending { last_failure } => last_failure.and_then(|one| one.message),
        other => panic!("{other:?}"),
    };
    let words = words.expect("a reason");
    assert!(
        words.starts_with("bootstrap:9000: no connection in time"),
        "{words}"
    );
}

#[test]
fn when_no_broker_can_be_reached_the_bootstrap_addresses_are_asked() {
    let mut world = World::flowing(settings(), script());
    world.script.closed_ports = vec![9001, 9002];
    world.append(0);
    let sent = world.take_sent();
    world.connects.clear();
    world.lose(sent.connection);
    world.pass_ms(5000);
    assert!(world.connects.contains(&9000), "{:?}", world.connects);
}

/// A busy driver hears of an answer before it looks at the time.
#[test]
fn a_back_off_that_ended_unnoticed_keeps_nobody_from_connecting_again() {
    let mut script = script();
    script.topics[0].partitions[1] = (2, 0);
    let mut world = World::flowing(settings(), script);
    world.append(1);
    world.acknowledge(0);
    world.done.clear();
    let batch = world.append(0);
    let sent = world.take_sent();
    world.lose(sent.connection);
    world.be_late_ms(1000);
    world.input(Input::TopicWanted {
        topic: TopicIndex(1),
        name: "other".into(),
    });
    world.pass_ms(1000);
    let again = world.take_sent();
    world.answer(&again, 0, 1);
    assert_eq!(world.done, [(batch, written(1))]);
}

#[rstest]
#[case::too_short(vec![0, 0])]
#[case::garbage(vec![0, 0, 0, 2, 0, 255, 255, 255, 255, 15, 1])]
#[case::of_another_request(vec![0, 0, 0, 99, 0, 1, 0, 0, 0, 0, 0])]
fn a_broken_answer_ends_its_connection_and_its_batches_go_again(#[case] frame: Vec<u8>) {
    let mut world = World::flowing(settings(), script());
    let batch = world.append(0);
    let sent = world.take_sent();
    assert_eq!(sent.request.correlation_id, 2);
    let ended = world.disconnects.len();
    world.receive(sent.connection, frame);
    assert_eq!(world.disconnects[ended..], [sent.connection]);
    world.pass_ms(1000);
    let again = world.take_sent();
    assert_eq!(again.batches, sent.batches);
    world.answer(&again, 0, 1);
    assert_eq!(world.done, [(batch, written(1))]);
}

#[test]
fn an_answer_that_forgets_a_partition_leaves_its_batch_to_be_sent_again() {
    let mut world = World::flowing(settings(), script());
    world.append(0);
    let sent = world.take_sent();
    world.answer_with(&sent, &[], 0, &[]);
    world.pass_ms(1000);
    assert_eq!(world.take_sent().batches, sent.batches);
}

#[test]
fn a_request_of_which_no_byte_left_does_not_count_as_an_attempt() {
    let mut config = settings();
    config.retries_max = 0;
    let mut world = World::flowing(config, script());
    let batch = world.append(0);
    let sent = world.take_sent();
    world.lose_from(sent.connection, Some(sent.correlation_id()));
    world.pass_ms(1000);
    let again = world.take_sent();
    assert_eq!(again.batches, sent.batches);
    world.answer(&again, 0, 1);
    assert_eq!(world.done, [(batch, written(1))]);
}

#[test]
fn a_request_that_left_counts_and_without_retries_its_end_is_unknown() {
    let mut config = settings();
    config.retries_max = 0;
    let mut world = World::flowing(config, script());
    world.append(0);
    let sent = world.take_sent();
    world.lose(sent.connection);
    let (_, outcome) = &world.done[0];
    let BatchOutcome::Unknown(failure) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(failure.kind, FailureKind::Disconnected);
    assert_eq!(failure.message.as_deref(), Some("connection reset"));
}

#[rstest]
#[case::unknown_topic(3)]
#[case::no_leader_yet(5)]
fn a_topic_being_created_is_asked_for_until_it_is_there(#[case] code: i16) {
    let mut script = script();
    script.topics[0].code = code;
    let mut world = World::ready(settings(), script);
    let TopicView::Pending {
        last_failure: Some(failure),
    } = world.engine.topic(TopicIndex(0))
    else {
        panic!("{:?}", world.engine.topic(TopicIndex(0)))
    };
    assert_eq!(failure.kind, FailureKind::Refused(ErrorCode(code)));
    world.script.topics[0].code = 0;
    world.pass_ms(300);
    let TopicView::Known { partitions } = world.engine.topic(TopicIndex(0)) else {
        panic!("{:?}", world.engine.topic(TopicIndex(0)));
    };
    let led: Vec<_> = partitions.iter().map(|one| one.leader.is_some()).collect();
    assert_eq!(led, [true, true]);
}

#[rstest]
#[case::invalid_name(17)]
#[case::no_permission(29)]
fn a_topic_refused_for_good_is_refused(#[case] code: i16) {
    let mut script = script();
    script.topics[0].code = code;
    let mut world = World::ready(settings(), script);
    assert!(matches!(
        world.engine.topic(TopicIndex(0)),
        TopicView::Refused(_)
    ));
    let asked = world.asked.len();
    world.pass_ms(10_000);
    assert_eq!(world.asked.len(), asked, "nothing is asked again by itself");
    world.script.topics[0].code = 0;
    world.want_orders();
    assert!(matches!(
        world.engine.topic(TopicIndex(0)),
        TopicView::Known { .. }
    ));
}

#[test]
fn metadata_is_asked_again_when_it_is_old() {
    let mut config = settings();
    config.metadata_idle_max = Duration::MAX;
    let mut world = World::ready(config, script());
    let metadata = |world: &World| world.asked.iter().filter(|(api, _)| *api == 3).count();
    assert_eq!(metadata(&world), 1);
    world.pass_ms(299_000);
    assert_eq!(metadata(&world), 1);
    world.pass_ms(2000);
    assert_eq!(metadata(&world), 2);
}

#[test]
fn the_same_inputs_give_the_same_actions() {
    let trace = || {
        let mut world = World::flowing(settings(), script());
        for _ in 0..3 {
            world.append(0);
            let sent = world.take_all_sent();
            world.lose(sent[0].connection);
            world.pass_ms(3000);
        }
        (
            world.now,
            world.connects,
            world.asked,
            format!("{:?}", world.produced),
        )
    };
    assert_eq!(trace(), trace());
}
