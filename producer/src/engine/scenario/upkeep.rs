//! What is kept for later use and let go when nobody uses it: connections.

use super::*;
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
