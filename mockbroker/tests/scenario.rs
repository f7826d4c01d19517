//! Scenarios in YAML: what is wrong with one is told, and one that is right runs as in Rust.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod raw;

use core::time::Duration;

use kafka_mockbroker::inspect::Outcome;
use kafka_mockbroker::{
    Api, BrokerId, ErrorCode, MockCluster, MockClusterBuilder, Move, MoveError, Rule,
    ScenarioError, Verdict,
};
use raw::Client;
use rstest::rstest;
use tokio::time::{Instant, timeout, timeout_at};

const PATIENCE: Duration = Duration::from_secs(3_600);

/// Lets the paused clock go on to this time.
async fn pass_until(time: Instant) {
    let _ = timeout_at(time, core::future::pending::<()>()).await;
}

fn refused(text: &str) -> ScenarioError {
    MockCluster::builder().scenario_str(text).unwrap_err()
}

/// What is wrong with a scenario is told at its place, in these words.
#[rstest]
#[case::unknown_section("clusters: {}", 1, 1, "clusters: no such key; the nearest is cluster")]
#[case::unknown_key(
    "cluster:\n  brokers: 3\n  listne: 127.0.0.1:0\n",
    3,
    3,
    "cluster.listne: no such key; the nearest is listen; allowed is one of: brokers | listen"
)]
#[case::wrong_kind(
    "cluster:\n  brokers: many\n",
    2,
    12,
    "cluster.brokers: found `many`; allowed is a whole number from 0 to 65535"
)]
#[case::out_of_range(
    "cluster: {brokers: 70000}",
    1,
    20,
    "cluster.brokers: found `70000`; allowed is a whole number from 0 to 65535"
)]
#[case::no_brokers("cluster:\n  brokers: 0", 2, 12, "found `0`; allowed is 1 to 1000")]
#[case::kafkas_key(
    "cluster:\n  config:\n    num.partition: 3\n",
    3,
    5,
    "cluster.config[\"num.partition\"]: no such key; the nearest is num.partitions"
)]
#[case::kafkas_value(
    "cluster:\n  config:\n    num.partitions: 0\n",
    3,
    21,
    "cluster.config[\"num.partitions\"]: found `0`; allowed is a whole number from 1 to 2147483647"
)]
#[case::topic_without_name(
    "cluster:\n  topics:\n    - name: orders\n    - partitions: 6\n",
    4,
    7,
    "cluster.topics[1]: the key name is missing"
)]
#[case::topic_that_cannot_be(
    "cluster:\n  brokers: 2\n  topics:\n    - name: a\n    - {name: orders, replicas: 3}\n",
    5,
    7,
    "cluster.topics[1]: "
)]
#[case::topic_key(
    "cluster:\n  topics:\n    - name: orders\n      config: {min.insync.replica: 2}\n",
    4,
    16,
    "cluster.topics[0].config[\"min.insync.replica\"]: no such key; the nearest is min.insync.repl"
)]
#[case::api(
    "faults:\n  - on: Prodce\n",
    2,
    9,
    "faults[0].on: `Prodce` is unknown; the nearest is Produce; allowed is one of 65 names, such as"
)]
#[case::verdict(
    "faults:\n  - on: Produce\n  - then: aply_then_lose\n",
    3,
    11,
    "faults[1].then: `aply_then_lose` is unknown; the nearest is apply_then_lose"
)]
#[case::verdict_with_a_value(
    "faults:\n  - then:\n      awnser: NOT_LEADER_OR_FOLLOWER\n",
    3,
    7,
    "faults[0].then.awnser: `awnser` is unknown; the nearest is answer"
)]
#[case::verdict_without_its_value(
    "faults:\n  - then: answer\n",
    2,
    11,
    "faults[0].then: found `answer` alone; allowed is `answer: …`, with its value"
)]
#[case::verdict_with_a_value_too_many(
    "faults:\n  - then: {swallow: 3}\n",
    2,
    21,
    "faults[0].then.swallow: found `3`; allowed is `swallow` alone"
)]
#[case::two_verdicts(
    "faults:\n  - then: {delay: 1s, swallow: 1}\n",
    2,
    11,
    "faults[0].then: found a mapping with several keys, or none; allowed is a word, or a mapping"
)]
#[case::code(
    "faults: [{then: {answer: NOT_LEADER}}]",
    1,
    26,
    "faults[0].then.answer: `NOT_LEADER` is unknown; the nearest is NOT_LEADER_OR_FOLLOWER"
)]
#[case::duration(
    "faults:\n- then: {delay: 200}",
    2,
    17,
    "faults[0].then.delay: found `200`; allowed is a number with its unit, one of h | m | s | ms"
)]
#[case::count(
    "faults: [{count: often}]",
    1,
    18,
    "faults[0].count: found `often`; allowed is a whole"
)]
#[case::nth(
    "faults: [{nth: 0}]",
    1,
    16,
    "faults[0].nth: found `0`; allowed is a whole number from 1"
)]
#[case::probability(
    "faults: [{probability: 1.5}]",
    1,
    24,
    "faults[0].probability: found `1.5`; allowed is a number from 0 to 1"
)]
#[case::rule_about_nobody(
    "cluster: {brokers: 3}\nfaults: [{broker: 4}]",
    2,
    19,
    "faults[0].broker: there is no broker 4; allowed is 1 to 3"
)]
#[case::unknown_move(
    "moves:\n  - {at: 1s, crsh: 2}\n",
    2,
    14,
    "moves[0].crsh: no such key; the nearest is crash; allowed is one of: at | "
)]
#[case::no_move("moves:\n  - at: 1s\n", 2, 5, "moves[0]: no move; allowed is one of: ")]
#[case::two_moves("moves:\n  - {crash: 1, pause: 1}", 2, 5, "moves[0]: a second move")]
#[case::move_of_nobody(
    "cluster: {brokers: 3}\nmoves: [{crash: 9}]",
    2,
    9,
    "moves[0]: a broker of this id does not exist; allowed is 1 to 3"
)]
#[case::quota_of_nobody(
    "moves:\n  - {set_quota: {key: producer_byte_rate, value: 1}}",
    2,
    5,
    "moves[0]: Kafka refuses such a quota"
)]
#[case::quota_of_a_key_that_is_not(
    "moves:\n  - {set_quota: {user: a, key: producer_rate, value: 1}}",
    2,
    5,
    "moves[0]: Kafka refuses such a quota"
)]
#[case::move_without_topic(
    "moves:\n  - move_leader: {partition: 0, broker: 1}",
    2,
    18,
    "moves[0].move_leader: the key topic is missing"
)]
#[case::key_of_a_move(
    "moves:\n  - move_leader: {topik: a, partition: 0, broker: 1}",
    2,
    19,
    "moves[0].move_leader.topik: no such key; the nearest is topic; allowed is one of: topic | "
)]
#[case::list_for_mapping("cluster: [1]", 1, 10, "cluster: found a list; allowed is a mapping")]
#[case::mapping_for_list(
    "faults: {on: Produce}",
    1,
    9,
    "faults: found a mapping; allowed is a list"
)]
#[case::tag("faults: [{then: !answer 6}]", 1, 17, "faults[0].then: ")]
#[case::twice("cluster: {}\ncluster: {}\n", 1, 1, "duplicate entry")]
#[case::no_yaml("cluster:\n  brokers: [3\n", 3, 1, "did not find expected")]
fn what_is_wrong_is_told_with_its_place(
    #[case] text: &str,
    #[case] line: usize,
    #[case] column: usize,
    #[case] words: &str,
) {
    let error = refused(text);
    let place = format!("line {line}, column {column}: ");
    let told = error.to_string();
    assert!(told.contains(words), "{told}");
    assert!(told.starts_with(&place), "{told}");
    assert_eq!((error.line(), error.column()), (Some(line), Some(column)));
}

#[test]
fn an_empty_text_is_no_scenario() {
    assert_eq!(refused("").found(), "found nothing");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = MockCluster::builder()
        .scenario_file("no/such/file.yaml")
        .unwrap_err();
    let told = error.to_string();
    assert!(
        told.starts_with("no/such/file.yaml: cannot be read: "),
        "{told}"
    );
}

#[test]
fn a_long_text_makes_no_long_message() {
    let key = "k".repeat(100_000);
    for text in [format!("{key}: 1"), format!("cluster: {{listen: [{key}]}}")] {
        let told = refused(&text).to_string();
        assert!(told.len() < 1_000, "{} bytes", told.len());
    }
}

/// Each level names the one before it nine times.
fn alias_bomb() -> String {
    let levels = (1..12).map(|level| {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        format!("a{level}: &a{level} [{aliases}]\n")
    });
    format!("a0: &a0 [x]\n{}", levels.collect::<String>())
}

#[rstest]
#[case::aliases(alias_bomb(), "repetition limit exceeded")]
#[case::depth("[".repeat(10_000), "recursion limit exceeded")]
fn a_text_that_would_grow_is_refused(#[case] text: String, #[case] words: &str) {
    let told = refused(&text).to_string();
    assert!(told.contains(words), "{told}");
}

const IN_YAML: &str = "
cluster:
  brokers: 3
  advertised_host: mock.test
  port: 19092
  seed: 7
  wall_clock_origin_ms: 1000
  journal_bytes: 65536
  momentary_answers: true
  log_bytes_max: 100000
  request_bytes_max: 100001
  connections_max: 3
  producers_max: 4
  config:
    min.insync.replicas: 2
    auto.create.topics.enable: false
    num.partitions: 4
  topics:
    - name: orders
      partitions: 2
      replicas: 3
      config: {message.timestamp.type: LogAppendTime}
    - {name: payments, replicas: 1}
faults:
  - {on: ApiVersions, nth: 2, then: {delay: 1.5s}}
  - {on: Produce, broker: 1, topic: orders, partition: 0, count: 2, then: {apply_then_answer: 7}}
  - {probability: 0.5, count: always, then: {delay: 1ms}}
moves:
  - {at: 2s, pause: 3}
  - {crash: 2}
  - {at: 1s, shrink_isr: {topic: orders, partition: 0, broker: 3}}
  - {at: 3s, restart: 2}
  - {delay_replication: {from: 1, to: 3, delay: 20ms}}
  - {set_quota: {user: ANONYMOUS, key: producer_byte_rate, value: 10}}
  - {at: 4s, set_quota: {user: ANONYMOUS, key: producer_byte_rate}}
";

fn in_rust() -> MockClusterBuilder {
    let overrides = [("message.timestamp.type", "LogAppendTime")];
    let (second, third) = (BrokerId(2), BrokerId(3));
    let slow = Verdict::Delay(Duration::from_millis(1_500));
    let brief = Verdict::Delay(Duration::from_millis(1));
    let answer = Verdict::ApplyThenAnswer(ErrorCode::REQUEST_TIMED_OUT);
    let to_orders = Rule::on(Api::Produce).broker(BrokerId(1)).topic("orders");
    MockCluster::builder()
        .brokers(3)
        .advertised_host("mock.test")
        .port(19_092)
        .seed(7)
        .wall_clock_origin_ms(1_000)
        .journal_bytes(65_536)
        .momentary_answers()
        .log_bytes_max(100_000)
        .request_bytes_max(100_001)
        .connections_max(3)
        .producers_max(4)
        .set("min.insync.replicas", "2")
        .set("auto.create.topics.enable", "false")
        .set("num.partitions", "4")
        .topic_with("orders", 2, 3, &overrides)
        .topic("payments", 4, 1)
        .fault(Rule::on(Api::ApiVersions).nth(2).then(slow))
        .fault(to_orders.partition(0).count(2).then(answer))
        .fault(Rule::on_any().always().probability(0.5).then(brief))
        .at(Duration::from_secs(2), Move::PauseBroker { broker: third })
        .at(Duration::ZERO, Move::CrashBroker { broker: second })
        .at(
            Duration::from_secs(1),
            Move::ShrinkIsr {
                topic: "orders".into(),
                partition: 0,
                broker: third,
            },
        )
        .at(
            Duration::from_secs(3),
            Move::RestartBroker { broker: second },
        )
        .at(
            Duration::ZERO,
            Move::DelayReplication {
                from: BrokerId(1),
                to: third,
                delay: Duration::from_millis(20),
            },
        )
        .at(Duration::ZERO, quota(Some(10)))
        .at(Duration::from_secs(4), quota(None))
}

fn quota(value: Option<u32>) -> Move {
    Move::SetQuota {
        client_id: None,
        user: Some("ANONYMOUS".into()),
        key: "producer_byte_rate".into(),
        value,
    }
}

/// Everything that a test can read of a run of some requests.
async fn trace(builder: MockClusterBuilder) -> String {
    let cluster = builder.start_in_memory().unwrap();
    let start = Instant::now();
    let mut client = Client::new(cluster.connect(19_092).unwrap(), PATIENCE);
    for second in 0..5 {
        pass_until(start + Duration::from_secs(second)).await;
        client.ask(1).await;
        client.answer().await.unwrap();
        let batch = raw::batch(i32::try_from(second).unwrap(), &["apples"]);
        let request = raw::produce(2, "orders", &[(0, batch)]);
        client.send_bytes(&request).await;
        let _ = timeout(Duration::from_millis(10), client.answer()).await;
    }
    format!(
        "{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
        cluster.journal(),
        cluster.topics(),
        cluster.records("orders", 0),
        cluster.planned_moves(),
        cluster.unfired_rules(),
        cluster.diagnostics(),
    )
}

#[tokio::test(start_paused = true)]
async fn the_same_scenario_in_rust_and_in_yaml_leaves_the_same_trace() {
    let from_yaml = MockCluster::builder().scenario_str(IN_YAML).unwrap();
    let traces = (trace(from_yaml).await, trace(in_rust()).await);
    assert_eq!(traces.0, traces.1);
    let seen = [
        "Delay(1.5s)",
        "Delay(1ms)",
        "ErrorCode(7)",
        "Made",
        "Throttled",
    ];
    for seen in seen {
        assert!(traces.0.contains(seen), "{seen} is part of the run");
    }
}

#[tokio::test(start_paused = true)]
async fn moves_are_made_at_their_times_and_refusals_are_told() {
    let moves = "
cluster: {brokers: 2, topics: [{name: orders, replicas: 2}]}
moves:
  - {at: 200ms, crash: 1}
  - {at: 300ms, move_leader: {topic: nope, partition: 0, broker: 1}}
  - {at: 1h, restart: 1}
";
    let builder = MockCluster::builder().scenario_str(moves).unwrap();
    let cluster = builder.start_in_memory().unwrap();
    let start = Instant::now();
    let leader = || cluster.partition("orders", 0).unwrap().leader;
    pass_until(start + Duration::from_millis(199)).await;
    assert_eq!(leader(), Some(BrokerId(1)));
    pass_until(start + Duration::from_millis(202)).await;
    assert_eq!(leader(), Some(BrokerId(2)));
    pass_until(start + Duration::from_millis(302)).await;
    let outcomes: Vec<Outcome> = cluster
        .planned_moves()
        .iter()
        .map(|planned| planned.outcome)
        .collect();
    let refused = Outcome::Refused(MoveError::UnknownTopic);
    assert_eq!(outcomes, [Outcome::Made, refused, Outcome::Waiting]);
    let told = &cluster.diagnostics()[0].text;
    assert!(told.ends_with("was not made: no such topic"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn rules_of_a_scenario_can_be_waited_for() {
    let text = "faults: [{on: Fetch}, {on: ApiVersions, nth: 2, then: {delay: 1s}}]";
    let builder = MockCluster::builder().scenario_str(text).unwrap();
    let cluster = builder.start_in_memory().unwrap();
    let [_, slow] = &cluster.faults()[..] else {
        panic!("two rules: {:?}", cluster.faults())
    };
    assert_eq!((slow.matches(), slow.hits()), (0, 0));
    let slow = slow.id();
    let mut client = Client::new(cluster.connect(9092).unwrap(), PATIENCE);
    client.ask(1).await;
    client.ask(2).await;
    cluster.fault(slow).unwrap().wait_for_hits(1).await;
    let seen = &cluster.faults()[1];
    assert_eq!((seen.id(), seen.matches(), seen.hits()), (slow, 2, 1));
    assert_eq!(seen.seen()[0].correlation_id, 2);
    assert!(cluster.fault(kafka_mockbroker::RuleId(2)).is_none());
}

#[test]
fn what_the_builder_is_told_later_counts() {
    let text = "cluster: {brokers: 3, config: {num.partitions: 5}, topics: [{name: orders}]}";
    let cluster = MockCluster::builder()
        .scenario_str(text)
        .unwrap()
        .brokers(2)
        .set("num.partitions", "6")
        .start()
        .unwrap();
    assert_eq!(cluster.brokers().count(), 2);
    assert_eq!(cluster.topic("orders").unwrap().partitions.len(), 6);
}
