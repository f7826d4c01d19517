//! Groups of consumers in the classic protocol: generations, time-outs, static members.
//!
//! Virtual time, frames by hand; single answers are goldens.

mod consumers;
mod frames;
mod txns;
mod world;

use core::time::Duration;

use consumers::{
    Joined, commit, committed, heartbeat, join, join_with, joined, leave, log_of, sync, synced,
};
use kafka_mockbroker::engine::Move;
use kafka_mockbroker::engine::effect::{BrokerId, ConnectionId, Effect};
use world::{World, answer_on, only_answer};

const GROUP: &str = "ab";

/// A consumer with a connection to the group's coordinator.
struct Consumer {
    connection: ConnectionId,
    id: String,
    generation: i32,
}

impl Consumer {
    fn new(world: &mut World) -> Self {
        let (_, coordinator) = log_of(world, GROUP);
        Self {
            connection: world.connect(coordinator),
            id: String::new(),
            generation: -1,
        }
    }

    /// One that has its id, and asks to join with it.
    fn joining(world: &mut World) -> (Self, Vec<Effect>) {
        let mut consumer = Self::new(world);
        let answer = only_answer(consumer.join(world));
        let told = joined(answer);
        assert_eq!((told.code, told.generation), (79, -1));
        consumer.id = told.member;
        let effects = consumer.join(world);
        (consumer, effects)
    }

    fn join(&self, world: &mut World) -> Vec<Effect> {
        world.send(self.connection, join(GROUP, &self.id, None))
    }

    fn hear(&mut self, effects: &[Effect]) -> Joined {
        let told = joined(answer_on(effects, self.connection));
        self.generation = told.generation;
        told
    }

    fn sync(&self, world: &mut World, assignments: &[(&str, u8)]) -> Vec<Effect> {
        let frame = sync(GROUP, (self.generation, &self.id), assignments);
        world.send(self.connection, frame)
    }

    fn beat(&self, world: &mut World) -> i16 {
        let frame = heartbeat(GROUP, (self.generation, &self.id));
        consumers::code(only_answer(world.send(self.connection, frame)))
    }
}

/// A group of one that has its assignment.
fn alone(world: &mut World) -> Consumer {
    let (mut consumer, effects) = Consumer::joining(world);
    let told = consumer.hear(&effects);
    assert_eq!((told.code, told.generation), (0, 1));
    assert_eq!(told.leader, told.member);
    let effects = consumer.sync(world, &[(&consumer.id, 7)]);
    assert_eq!(synced(only_answer(effects)), (0, vec![7]));
    consumer
}

/// A group of two, in its second generation.
fn two(world: &mut World) -> (Consumer, Consumer) {
    let mut one = alone(world);
    let (mut other, effects) = Consumer::joining(world);
    assert!(effects.is_empty(), "it waits for the first");
    assert_eq!(one.beat(world), 27);
    let effects = one.join(world);
    let told = one.hear(&effects);
    assert_eq!((told.code, told.generation, told.members), (0, 2, 2));
    assert_eq!(other.hear(&effects).members, 0, "it does not lead");
    let effects = other.sync(world, &[]);
    assert!(effects.is_empty(), "it waits for the leader");
    let effects = one.sync(world, &[(&one.id, 1), (&other.id, 2)]);
    let mine = |consumer: &Consumer| synced(answer_on(&effects, consumer.connection));
    assert_eq!(mine(&one), (0, vec![1]));
    assert_eq!(mine(&other), (0, vec![2]));
    (one, other)
}

#[test]
fn members_share_what_their_leader_assigns() {
    let mut world = World::new();
    let (one, other) = two(&mut world);
    assert_eq!((one.beat(&mut world), other.beat(&mut world)), (0, 0));
}

#[test]
fn only_members_of_this_generation_commit() {
    let mut world = World::new();
    let (one, _) = two(&mut world);
    let mut commits = |generation, member: &str| {
        let frame = commit(GROUP, (generation, member), &[(0, 5)]);
        committed(world.ask_group(GROUP, frame))
    };
    assert_eq!(commits(2, &one.id), [0]);
    assert_eq!(commits(1, &one.id), [22]);
    assert_eq!(commits(2, "stranger"), [25]);
    assert_eq!(commits(-1, ""), [25], "the group is not empty");
    assert_eq!(world.offsets(GROUP)[0], (5, 0));
}

#[test]
fn who_leaves_is_not_waited_for() {
    let mut world = World::new();
    let (mut one, other) = two(&mut world);
    let frame = leave(GROUP, &other.id);
    let effects = world.send(other.connection, frame);
    assert_eq!(consumers::code(only_answer(effects)), 0);
    assert_eq!(other.beat(&mut world), 25);
    assert_eq!(one.beat(&mut world), 27);
    let effects = one.join(&mut world);
    let told = one.hear(&effects);
    assert_eq!((told.generation, told.members), (3, 1));
}

#[test]
fn who_is_silent_for_its_session_is_none_any_more() {
    let mut world = World::new();
    let (one, other) = two(&mut world);
    world.pass(Duration::from_secs(6));
    assert_eq!(one.beat(&mut world), 0);
    assert_eq!(world.pass(Duration::from_millis(3_999)), []);
    assert_eq!(one.beat(&mut world), 0);
    world.pass(Duration::from_millis(1));
    assert_eq!(
        one.beat(&mut world),
        27,
        "the other was silent for ten seconds"
    );
    assert_eq!(other.beat(&mut world), 25);
}

#[test]
fn who_does_not_join_again_in_time_is_left_out() {
    let mut world = World::new();
    let one = alone(&mut world);
    let (mut other, effects) = Consumer::joining(&mut world);
    assert!(effects.is_empty());
    assert_eq!(one.beat(&mut world), 27);
    assert_eq!(world.pass(Duration::from_millis(2_999)), []);
    let effects = world.pass(Duration::from_millis(1));
    let told = other.hear(&effects);
    assert_eq!((told.code, told.generation, told.members), (0, 2, 1));
    assert_eq!(told.leader, other.id);
    assert_eq!(one.beat(&mut world), 25);
}

#[test]
fn who_joined_and_never_syncs_is_left_out() {
    let mut world = World::new();
    let mut one = alone(&mut world);
    let (mut other, _) = Consumer::joining(&mut world);
    let effects = one.join(&mut world);
    one.hear(&effects);
    other.hear(&effects);
    let effects = one.sync(&mut world, &[(&one.id, 1)]);
    assert_eq!(synced(only_answer(effects)), (0, vec![1]));
    world.pass(Duration::from_millis(2_999));
    assert_eq!(one.beat(&mut world), 0);
    world.pass(Duration::from_millis(1));
    assert_eq!(one.beat(&mut world), 27);
    assert_eq!(other.beat(&mut world), 25);
}

#[test]
fn a_first_join_waits_for_others_where_that_is_asked_for() {
    let settings = [("group.initial.rebalance.delay.ms", "1000")];
    let mut world = World::of_brokers(&settings, &[]);
    let (mut one, effects) = Consumer::joining(&mut world);
    assert!(effects.is_empty());
    world.pass(Duration::from_millis(999));
    let (mut other, effects) = Consumer::joining(&mut world);
    assert!(effects.is_empty());
    let effects = world.pass(Duration::from_millis(1));
    assert!(effects.is_empty(), "somebody came, so it waits again");
    let effects = world.pass(Duration::from_secs(1));
    assert_eq!(one.hear(&effects).generation, 1);
    assert_eq!(other.hear(&effects).generation, 1);
}

#[test]
fn groups_that_go_on_at_one_instant_all_answer() {
    let settings = [("group.initial.rebalance.delay.ms", "1000")];
    let mut world = World::of_brokers(&settings, &[]);
    let mut join_alone = |group: &str| {
        let (_, coordinator) = log_of(&mut world, group);
        let connection = world.connect(coordinator);
        let told = joined(only_answer(world.send(connection, join(group, "", None))));
        assert_eq!(told.code, 79);
        assert!(
            world
                .send(connection, join(group, &told.member, None))
                .is_empty()
        );
        connection
    };
    let waiting = ["ab", "cd", "ef"].map(&mut join_alone);
    let effects = world.pass(Duration::from_secs(1));
    for connection in waiting {
        let told = joined(answer_on(&effects, connection));
        assert_eq!((told.code, told.generation), (0, 1));
    }
}

#[test]
fn members_name_a_bounded_number_of_protocols() {
    let mut world = World::new();
    let named = |count: u32| -> Vec<_> {
        let names = (0..count).map(|name| (name.to_string(), Vec::new()));
        names.collect()
    };
    let code = |world: &mut World, count| {
        let frame = join_with(GROUP, "", &named(count));
        joined(world.ask_group(GROUP, frame)).code
    };
    assert_eq!(code(&mut world, 256), 79);
    assert_eq!(code(&mut world, 257), 42);
    let diagnostics = world.engine.journal().diagnostics();
    let text = &diagnostics[0].text;
    assert_eq!(
        text,
        "a member is refused: it names 257 protocols, 256 may be"
    );
}

#[test]
fn a_static_member_comes_back_with_another_id() {
    let mut world = World::new();
    let mut one = Consumer::new(&mut world);
    let frame = || join(GROUP, "", Some("i1"));
    let effects = world.send(one.connection, frame());
    one.id = one.hear(&effects).member;
    let effects = one.sync(&mut world, &[(&one.id, 7)]);
    assert_eq!(synced(only_answer(effects)).0, 0);
    let mut again = Consumer::new(&mut world);
    let effects = world.send(again.connection, frame());
    let told = again.hear(&effects);
    assert_eq!(
        (told.code, told.generation),
        (0, 1),
        "nothing is assigned anew"
    );
    assert_ne!(told.member, one.id);
    assert_eq!(one.beat(&mut world), 25);
    again.id = told.member;
    assert_eq!(again.beat(&mut world), 0);
    let effects = again.sync(&mut world, &[]);
    assert_eq!(synced(only_answer(effects)), (0, vec![7]));
}

#[test]
fn a_paused_coordinator_neither_answers_nor_lets_time_pass() {
    let mut world = World::new();
    let (one, _) = two(&mut world);
    let (_, coordinator) = log_of(&mut world, GROUP);
    world.pause(coordinator);
    assert_eq!(world.pass(Duration::from_secs(5)), []);
    let frame = heartbeat(GROUP, (2, &one.id));
    assert_eq!(world.send(one.connection, frame), []);
    let effects = world.resume(coordinator);
    assert_eq!(consumers::code(only_answer(effects)), 0);
}

#[test]
fn a_group_outlives_its_coordinator() {
    let mut world = World::new();
    let one = alone(&mut world);
    let (_, broker) = log_of(&mut world, GROUP);
    world.make(&Move::CrashBroker { broker });
    let next = Consumer::new(&mut world);
    let frame = heartbeat(GROUP, (1, &one.id));
    let effects = world.send(next.connection, frame.clone());
    assert_eq!(consumers::code(only_answer(effects)), 0);
    let elsewhere = [1, 2, 3].map(BrokerId).into_iter();
    let (_, now) = log_of(&mut world, GROUP);
    let elsewhere = elsewhere.filter(|other| *other != broker && *other != now);
    for other in elsewhere {
        let connection = world.connect(other);
        let effects = world.send(connection, frame.clone());
        assert_eq!(consumers::code(only_answer(effects)), 16);
    }
}
