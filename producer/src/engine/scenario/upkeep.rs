//! What is kept for later use and let go when nobody uses it, connections and topics; and what is
//! done when all that is known may be of the past.

use super::*;
use crate::engine::effect::TopicView;
use rstest::rstest;

const SECOND_MS: u64 = 1000;

/// Metadata stays good for so long that only batches use connections.
fn quiet() -> EngineConfig {
    let mut config = settings();
    config.metadata_age_max = Duration::from_secs(24 * 3600);
    config
}

#[test]
fn an_idle_connection_is_ended_and_made_again_for_the_next_batch() {
    let mut world = World::flowing(quiet(), script());
    let before = world.disconnects.clone();
    world.pass_ms(539 * SECOND_MS);
    assert_eq!(world.disconnects, before, "not idle for long enough");
    world.pass_ms(2 * SECOND_MS);
    assert_eq!(world.disconnects.len(), before.len() + 1);
    world.connects.clear();
    let batch = world.append(0);
    assert_eq!(world.connects, [9001], "at once: it did not fail");
    world.acknowledge(1);
    assert_eq!(world.done, [(batch, written(1))]);
    let metadata = world.asked.iter().filter(|(api, _)| *api == 3);
    assert_eq!(
        metadata.count(),
        1,
        "an idle connection casts no doubt on leaders"
    );
}

#[test]
fn a_connection_in_use_is_not_idle() {
    let mut world = World::flowing(quiet(), script());
    let before = world.disconnects.clone();
    for offset in 1..10 {
        world.pass_ms(500 * SECOND_MS);
        world.append(0);
        world.acknowledge(offset);
    }
    assert_eq!(world.disconnects, before);
}

#[rstest]
#[case::long(540 * SECOND_MS)]
#[case::none_at_all(0)]
fn a_connection_with_a_request_on_the_way_is_not_idle(#[case] idle_max_ms: u64) {
    let mut config = quiet();
    config.connections_idle_max = Some(Duration::from_millis(idle_max_ms));
    config.request_timeout = Duration::from_secs(7200);
    config.delivery_timeout = Duration::from_secs(7200);
    let mut world = World::ready(config, script());
    let batch = world.append(0);
    let sent = world.take_sent();
    world.pass_ms(3600 * SECOND_MS);
    assert!(!world.disconnects.contains(&sent.connection));
    world.answer(&sent, 0, 0);
    assert_eq!(world.done, [(batch, written(0))]);
    world.pass_ms(idle_max_ms + 1);
    assert!(world.disconnects.contains(&sent.connection));
}

#[test]
fn without_a_bound_connections_stay() {
    let mut config = quiet();
    config.connections_idle_max = None;
    let mut world = World::flowing(config, script());
    let before = world.disconnects.clone();
    world.pass_ms(20 * 3600 * SECOND_MS);
    assert_eq!(world.disconnects, before);
}

fn metadata_questions(world: &World) -> usize {
    world.asked.iter().filter(|(api, _)| *api == 3).count()
}

fn is_known(world: &World) -> bool {
    matches!(world.engine.topic(TopicIndex(0)), TopicView::Known { .. })
}

#[test]
fn a_topic_not_used_is_forgotten_and_learnt_about_again_when_it_is_wanted() {
    let mut world = World::flowing(settings(), script());
    world.pass_ms(299 * SECOND_MS);
    assert!(is_known(&world));
    world.pass_ms(2 * SECOND_MS);
    assert_eq!(world.engine.topic(TopicIndex(0)), TopicView::Forgotten);
    world.pass_ms(3600 * SECOND_MS);
    assert_eq!(metadata_questions(&world), 1, "there is nothing to ask for");
    world.want_orders();
    assert!(is_known(&world));
    let batch = world.append(0);
    let sent = world.take_sent();
    assert_eq!(sent.stamps(), [(0, 0, 1)], "its run of sequences goes on");
    world.answer(&sent, 0, 1);
    assert_eq!(world.done, [(batch, written(1))]);
}

#[test]
fn a_topic_in_use_is_asked_for_again_and_again() {
    let mut world = World::flowing(settings(), script());
    for offset in 1..10 {
        world.pass_ms(250 * SECOND_MS);
        world.append(0);
        world.acknowledge(offset);
        assert!(is_known(&world));
    }
    assert!(metadata_questions(&world) > 7);
}

#[test]
fn a_topic_with_a_batch_that_is_not_settled_is_not_forgotten() {
    let mut config = settings();
    config.delivery_timeout = Duration::from_secs(7200);
    let mut script = script();
    script.topics[0].partitions[1] = (-1, 0);
    let mut world = World::flowing(config, script);
    world.append(1);
    world.pass_ms(900 * SECOND_MS);
    assert!(is_known(&world));
    world.script.topics[0].partitions[1] = (1, 1);
    world.pass_ms(2 * SECOND_MS);
    world.acknowledge(0);
    world.pass_ms(301 * SECOND_MS);
    assert!(!is_known(&world));
}

/// A caller may open a batch before it hears that its topic was forgotten.
#[test]
fn a_batch_opened_while_its_topic_is_forgotten_goes_all_the_same() {
    let mut world = World::flowing(settings(), script());
    world.pass_ms(301 * SECOND_MS);
    assert_eq!(world.engine.topic(TopicIndex(0)), TopicView::Forgotten);
    let batch = world.append(0);
    world.acknowledge(1);
    assert_eq!(world.done, [(batch, written(1))]);
    assert!(is_known(&world));
}

/// The new log has no state of ours: of several batches on the way a later one could be let in
/// first.
#[test]
fn in_a_topic_made_anew_one_batch_goes_first() {
    let mut script = script();
    script.topics[0].id = 1;
    let mut world = World::flowing(settings(), script);
    world.append(0);
    world.append(0);
    assert_eq!(world.produced.len(), 2, "several are on the way");
    for sent in world.take_all_sent() {
        world.answer(&sent, 0, 1);
    }
    world.script.topics[0].id = 2;
    world.pass_ms(299 * SECOND_MS);
    world.append(0);
    world.acknowledge(3);
    world.pass_ms(2 * SECOND_MS);
    assert_eq!(metadata_questions(&world), 2);
    world.append(0);
    world.append(0);
    let first = world.take_sent();
    world.answer(&first, 19, -1);
    world.pass_ms(SECOND_MS);
    let again = world.take_sent();
    assert_eq!(again.batches, first.batches);
    world.answer(&again, 0, 0);
    world.acknowledge(1);
}

fn partition_count(world: &World) -> usize {
    match world.engine.topic(TopicIndex(0)) {
        TopicView::Known { partitions } => partitions.len(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_partition_that_was_added_takes_records_after_the_next_metadata() {
    let mut config = settings();
    config.metadata_age_max = Duration::from_secs(10);
    let mut world = World::flowing(config, script());
    world.script.topics[0].partitions.push((1, 0));
    world.pass_ms(11 * SECOND_MS);
    assert_eq!(partition_count(&world), 3);
    let batch = world.append(2);
    let sent = world.take_sent();
    assert_eq!(sent.batches[0].partition, 2);
    world.answer(&sent, 0, 0);
    assert_eq!(world.done, [(batch, written(0))]);
}

/// Behind a Produce that waits for replicas a question would wait too.
#[test]
fn questions_go_to_the_broker_with_the_least_on_the_way() {
    let mut config = settings();
    config.metadata_age_max = Duration::from_secs(10);
    let mut script = script();
    script.topics[0].partitions[1] = (2, 0);
    let mut world = World::flowing(config, script);
    world.append(1);
    world.acknowledge(0);
    for busy in [0, 1] {
        world.append(busy);
        let waiting = world.take_sent();
        world.script.topics[0].partitions.push((1, 0));
        let expected = world.script.topics[0].partitions.len();
        world.pass_ms(11 * SECOND_MS);
        assert_eq!(partition_count(&world), expected, "with broker {busy} busy");
        world.answer(&waiting, 0, 1);
    }
}

/// Metadata is due and the brokers that are known take the question, but do not answer.
fn unanswered(rebootstrap_after: Option<Duration>) -> World {
    let mut config = settings();
    config.rebootstrap_after = rebootstrap_after;
    config.metadata_age_max = Duration::from_secs(10);
    config.metadata_idle_max = Duration::MAX;
    let mut world = World::flowing(config, script());
    world.script.metadata_answered = false;
    world.connects.clear();
    world.pass_ms(10 * SECOND_MS);
    world
}

#[test]
fn when_metadata_does_not_come_for_long_the_bootstrap_addresses_are_asked() {
    let mut world = unanswered(Some(Duration::from_secs(100)));
    world.pass_ms(95 * SECOND_MS);
    assert!(!world.connects.contains(&9000), "{:?}", world.connects);
    world.script.nodes = vec![Node { id: 1, port: 9005 }];
    world.script.metadata_answered = true;
    world.script.closed_ports = vec![9001, 9002];
    world.append(0);
    world.pass_ms(10 * SECOND_MS);
    assert!(world.connects.contains(&9000), "{:?}", world.connects);
    assert_eq!(
        world.take_all_sent().last().map(|sent| sent.port),
        Some(9005)
    );
}

#[test]
fn without_recovery_only_known_brokers_are_asked_however_long_they_are_silent() {
    let mut world = unanswered(None);
    world.pass_ms(600 * SECOND_MS);
    world.script.closed_ports = vec![9001, 9002];
    world.pass_ms(600 * SECOND_MS);
    assert!(!world.connects.contains(&9000), "{:?}", world.connects);
    assert!(world.connects.len() > 10, "they are tried again and again");
}

#[rstest]
#[case::does(Some(Duration::from_secs(300)), true)]
#[case::without_recovery(None, false)]
fn a_broker_that_says_so_makes_it_bootstrap_anew(
    #[case] rebootstrap_after: Option<Duration>,
    #[case] expected: bool,
) {
    let mut config = settings();
    config.rebootstrap_after = rebootstrap_after;
    config.metadata_age_max = Duration::from_secs(10);
    let mut script = script();
    script.versions[1] = (3, 0, 13);
    let mut world = World::flowing(config, script);
    world.script.metadata_code = 129;
    world.connects.clear();
    world.pass_ms(11 * SECOND_MS);
    assert_eq!(
        world.connects.contains(&9000),
        expected,
        "{:?}",
        world.connects
    );
    let tries = world.connects.len();
    assert!(tries < 40, "{tries} tries in a second");
    world.script.metadata_code = 0;
    world.pass_ms(5 * SECOND_MS);
    world.append(0);
    world.acknowledge(1);
}
