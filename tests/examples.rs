//! The producer's examples, each run as a program against a cluster that listens on TCP.
//!
//! `cargo test --workspace` has built them before this runs. For this package alone they are built
//! here if they are missing; whether they are those of today is then not looked at.
#![expect(clippy::unwrap_used, reason = "a broken premise ends the test")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use kafka_mockbroker::MockCluster;
use rstest::rstest;
use serde_json::Value;

fn start() -> MockCluster {
    MockCluster::builder()
        .brokers(3)
        .topic("orders", 3, 3)
        .start()
        .unwrap()
}

/// An example's program.
fn example(name: &str) -> Command {
    static BUILDING: Mutex<()> = Mutex::new(());
    // This test is in `deps`, the examples are beside that.
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap().join("examples");
    let extension = std::env::consts::EXE_EXTENSION;
    let program = folder.join(name).with_extension(extension);
    let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    if !program.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--quiet",
            "--package",
            "kafka-producer",
            "--features",
            "schema-registry",
            "--examples",
        ]);
        let built = cargo.status().unwrap();
        assert!(built.success(), "the examples must build");
    }
    Command::new(program)
}

fn run(name: &str, arguments: &[&str]) -> Output {
    let output = example(name).args(arguments).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {words}");
    output
}

fn lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The values in all partitions of `orders`.
fn values(cluster: &MockCluster) -> Vec<Option<String>> {
    let records = (0..3).flat_map(|partition| cluster.records("orders", partition));
    let values = records.map(|record| record.value);
    values
        .map(|value| value.map(|value| String::from_utf8_lossy(&value).into_owned()))
        .collect()
}

#[rstest]
#[case::send_one("send_one", &["--value", "3 apples"], "written: Written {", 1)]
#[case::send_many("send_many", &["--records", "1000"], "1000", 1_000)]
#[case::callbacks("callbacks", &[], "8 plums: Written {", 3)]
#[case::typed_json("typed_json", &[], "offset: Some(3)", 4)]
#[case::metrics("metrics", &["--records", "7"], "sent to orders: 7", 7)]
#[case::interceptor("interceptor", &[], "sent 3, written 2, failed 1, refused one: true", 2)]
fn an_example_sends_its_records(
    #[case] name: &str,
    #[case] arguments: &[&str],
    #[case] told: &str,
    #[case] count: usize,
) {
    let cluster = start();
    let servers = cluster.bootstrap_servers();
    let output = run(name, &[&["--bootstrap", servers], arguments].concat());
    let lines = lines(&output);
    assert!(lines.iter().any(|line| line.contains(told)), "{lines:?}");
    assert_eq!(values(&cluster).len(), count);
}

#[test]
fn typed_json_sends_json_and_a_tombstone() {
    let cluster = start();
    run("typed_json", &["--bootstrap", cluster.bootstrap_servers()]);
    let values = values(&cluster);
    assert_eq!(
        values[0].as_deref(),
        Some(r#"{"fruit":"apples","count":3}"#)
    );
    assert_eq!(values[3], None);
}

#[rstest]
#[case::throughput("throughput", "constant", 1, 0)]
#[case::latency("latency", "json", 1, 0)]
#[case::of_several_tasks("throughput", "json", 3, 0)]
#[case::with_keys("throughput", "constant", 1, 7)]
#[case::with_keys_of_several_tasks("throughput", "constant", 7, 100)]
fn throughput_tells_what_a_record_costs(
    #[case] mode: &str,
    #[case] payload: &str,
    #[case] tasks: usize,
    #[case] keys: usize,
) {
    let cluster = start();
    let servers = cluster.bootstrap_servers();
    let rest = ["--records", "500", "--mode", mode, "--payload", payload];
    let [with_tasks, with_keys] = [tasks, keys].map(|count| count.to_string());
    let several = ["--tasks", &with_tasks, "--keys", &with_keys];
    let output = run(
        "throughput",
        &[&["--bootstrap", servers], &rest[..], &several].concat(),
    );
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["records"], 500);
    assert_eq!(told["mode"], mode);
    assert!(told["records_per_second"].as_f64() > Some(0.0), "{told}");
    assert!(told["cpu_ns_per_record"].as_f64() > Some(0.0), "{told}");
    assert_eq!(told["p99_us"].is_f64(), mode == "latency", "{told}");
    let values = values(&cluster);
    assert_eq!(values.len(), 501, "and the warm-up's");
    let records = (0..3).flat_map(|partition| cluster.records("orders", partition));
    let seen: BTreeSet<_> = records.filter_map(|record| record.key).collect();
    assert_eq!(seen.len(), keys);
    assert!(values.iter().flatten().all(|value| value.len() == 100));
}

/// A file that is removed at the end.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(name: &str, text: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A registry that gives one schema this id; its URL, and what it was asked once it was.
fn registry(id: u32) -> (String, JoinHandle<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = BufReader::new(stream.try_clone().unwrap());
        let mut length = 0;
        loop {
            let mut line = String::new();
            head.read_line(&mut line).unwrap();
            if let Some((name, value)) = line.split_once(": ")
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        head.read_exact(&mut body).unwrap();
        let answer = format!("{{\"id\": {id}}}");
        let length = answer.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{answer}"
        )
        .unwrap();
        serde_json::from_slice(&body).unwrap()
    });
    (url, asked)
}

/// Before each value stands the schema's id; before Protobuf's also which message of it, here the
/// second: one index, 1, both doubled.
#[rstest]
#[case::json(
    "json",
    Some("JSON"),
    [r#"{"fruit":"apples","count":3}"#, r#"{"fruit":"pears","count":5}"#],
)]
#[case::avro("avro", None, ["\u{c}apples\u{6}", "\u{a}pears\u{a}"])]
#[case::protobuf(
    "protobuf",
    Some("PROTOBUF"),
    [
        "\u{2}\u{2}\u{a}\u{6}apples\u{10}\u{3}",
        "\u{2}\u{2}\u{a}\u{5}pears\u{10}\u{5}",
    ],
)]
fn schema_registry_names_the_schema_before_each_value(
    #[case] format: &str,
    #[case] schema_type: Option<&str>,
    #[case] expected: [&str; 2],
) {
    let cluster = start();
    let servers = cluster.bootstrap_servers();
    let (url, asked) = registry(258);
    let arguments = [
        "--bootstrap",
        servers,
        "--registry",
        &url,
        "--format",
        format,
    ];
    let told = lines(&run("schema_registry", &arguments));
    assert_eq!(told[0], "orders-value has the schema 258");
    let asked = asked.join().unwrap();
    assert_eq!(
        asked["schemaType"].as_str(),
        schema_type,
        "none stands for Avro"
    );
    let schema = asked["schema"].as_str().unwrap();
    assert!(
        schema.contains("Order") && schema.contains("fruit"),
        "{schema}"
    );
    let expected = expected.map(|value| Some(format!("\0\0\0\u{1}\u{2}{value}")));
    assert_eq!(values(&cluster), expected);
}

#[test]
fn properties_file_shows_what_is_in_force_and_sends() {
    let cluster = start();
    let servers = cluster.bootstrap_servers();
    let text = format!("# a comment\nbootstrap.servers = \\\n  {servers}\nacks: 1\n");
    let file = TemporaryFile::new("shown.properties", &text);
    let arguments = [file.path(), "--set", "linger.ms=7", "--topic", "orders"];
    let lines = lines(&run("properties_file", &arguments));
    let shown: BTreeSet<&str> = lines.iter().map(String::as_str).collect();
    for expected in ["acks=1", "linger.ms=7", "enable.idempotence=false"] {
        assert!(shown.contains(expected), "{expected} in {shown:?}");
    }
    assert_eq!(values(&cluster), [Some("3 apples".to_owned())]);
}

fn json(lines: impl IntoIterator<Item = String>) -> Vec<Value> {
    let parsed = lines.into_iter().map(|line| serde_json::from_str(&line));
    parsed.collect::<Result<_, _>>().unwrap()
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events
        .iter()
        .filter(|event| event["name"] == name)
        .collect()
}

#[test]
fn verifiable_producer_speaks_as_kafkas_own() {
    let cluster = start();
    let servers = cluster.bootstrap_servers();
    let file = TemporaryFile::new("verifiable.properties", "client.id=verifiable\n");
    let options = [
        ["--bootstrap-server", servers],
        ["--topic", "orders"],
        ["--max-messages", "5"],
        ["--throughput", "1000"],
        ["--acks", "-1"],
        ["--producer.config", file.path()],
        ["--message-create-time", "1000000"],
        ["--value-prefix", "7"],
        ["--repeating-keys", "2"],
    ];
    let events = json(lines(&run("verifiable_producer", options.as_flattened())));
    let names: Vec<_> = events
        .iter()
        .map(|event| event["name"].as_str().unwrap())
        .collect();
    assert_eq!(names[0], "startup_complete");
    assert_eq!(names[6..], ["shutdown_complete", "tool_data"]);
    let mut told = BTreeSet::new();
    for event in named(&events, "producer_send_success") {
        assert_eq!(event["topic"], "orders");
        assert!(
            event["timestamp"].is_u64() && event["partition"].is_i64(),
            "{event}"
        );
        assert!(event["offset"].is_i64(), "{event}");
        let (key, value) = (
            event["key"].as_str().unwrap(),
            event["value"].as_str().unwrap(),
        );
        told.insert(format!("{key} {value}"));
    }
    let expected = ["0 7.0", "1 7.1", "0 7.2", "1 7.3", "0 7.4"];
    assert_eq!(told, expected.map(str::to_owned).into());
    let summary = &events[7];
    assert_eq!(
        (&summary["sent"], &summary["acked"]),
        (&5.into(), &5.into())
    );
    assert_eq!(summary["target_throughput"], 1000);
    assert!(summary["avg_throughput"].is_f64(), "{summary}");
    let records: Vec<_> = (0..3).flat_map(|p| cluster.records("orders", p)).collect();
    assert!(
        records
            .iter()
            .all(|record| (1_000_000..2_000_000).contains(&record.timestamp_ms))
    );
}

#[test]
fn verifiable_producer_tells_what_failed() {
    let cluster = start();
    let servers = cluster.bootstrap_servers();
    let file = TemporaryFile::new("failing.properties", "max.request.size=1\n");
    let options = [
        "--bootstrap-server",
        servers,
        "--topic",
        "orders",
        "--max-messages",
        "1",
    ];
    let options = [&options[..], &["--producer.config", file.path()]].concat();
    let events = json(lines(&run("verifiable_producer", &options)));
    let failed = named(&events, "producer_send_error");
    assert_eq!(failed.len(), 1, "{events:?}");
    let message = failed[0]["message"].as_str().unwrap();
    assert!(message.contains("max.request.size=1"), "{message}");
    assert_eq!(failed[0]["value"], "0");
    assert!(failed[0]["key"].is_null() && failed[0]["exception"].is_string());
    assert!(values(&cluster).is_empty());
}

/// What Kafka 4.3.1's own tool writes, for the same options.
const KAFKAS_LINES: &str = include_str!("verifiable-producer-4.3.1.jsonl");

/// The fields of a line, in order, with the kind of each value.
fn shape(line: &str) -> Vec<(String, &'static str)> {
    let line_as_read: Value = serde_json::from_str(line).unwrap();
    let mut fields: Vec<_> = line_as_read.as_object().unwrap().iter().collect();
    // No value holds the name of a field in quotes.
    fields.sort_by_key(|(name, _)| line.find(&format!("\"{name}\":")));
    let kind = |value: &Value| match value {
        Value::Number(number) if number.is_f64() => "fraction",
        Value::Number(_) => "integer",
        // A key is text or null, as options have it.
        Value::String(_) | Value::Null => "text",
        _ => "other",
    };
    fields
        .into_iter()
        .map(|(name, value)| (name.clone(), kind(value)))
        .collect()
}

#[test]
fn verifiable_producers_lines_have_the_shape_of_kafkas() {
    let cluster = start();
    let servers = cluster.bootstrap_servers();
    let options = [
        ["--bootstrap-server", servers],
        ["--topic", "orders"],
        ["--max-messages", "1"],
        ["--value-prefix", "7"],
        ["--repeating-keys", "2"],
    ];
    let options = options.as_flattened();
    let written = lines(&run("verifiable_producer", options));
    let file = TemporaryFile::new("shape.properties", "max.request.size=1\n");
    let failing = [options, &["--command-config", file.path()]].concat();
    let failed = lines(&run("verifiable_producer", &failing));
    let ours = [&written[..2], &failed[1..2], &written[2..]].concat();
    let ours: Vec<_> = ours.iter().map(|line| shape(line)).collect();
    assert_eq!(ours, KAFKAS_LINES.lines().map(shape).collect::<Vec<_>>());
}

/// A program that is ended with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(unix)]
#[test]
fn verifiable_producer_settles_what_it_sent_when_it_is_terminated() {
    let cluster = start();
    let servers = cluster.bootstrap_servers();
    let options = [
        "--bootstrap-server",
        servers,
        "--topic",
        "orders",
        "--throughput",
        "200",
    ];
    let mut program = example("verifiable_producer");
    program.args(options).stdout(Stdio::piped());
    let mut running = Running(program.spawn().unwrap());
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let mut events: Vec<Value> = Vec::new();
    while named(&events, "producer_send_success").len() < 3 {
        events.extend(json([lines.next().unwrap().unwrap()]));
    }
    let pid = running.0.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    events.extend(json(lines.map(Result::unwrap)));
    assert!(running.0.wait().unwrap().success());
    let summary = events.last().unwrap();
    assert_eq!(summary["name"], "tool_data");
    assert_eq!(summary["sent"], summary["acked"]);
    let written = named(&events, "producer_send_success").len();
    assert_eq!(summary["acked"], written);
    assert_eq!(values(&cluster).len(), written);
}

#[test]
fn transfer_commits_all_but_every_third() {
    let cluster = start();
    let servers = cluster.bootstrap_servers();
    let output = run("transfer", &["--bootstrap", servers, "--transfers", "7"]);
    let lines = lines(&output);
    assert!(lines[0].starts_with("5 of 7 transfers done"), "{lines:?}");
    let records = |partition| cluster.records("orders", partition).len();
    assert_eq!((0..3).map(records).sum::<usize>(), 14);
    let aborted = |partition| {
        let view = cluster.partition("orders", partition).unwrap();
        view.aborted_transactions.len()
    };
    // Alice and Bob may share a partition.
    assert!((0..3).map(aborted).sum::<usize>() >= 2);
}

/// The values of a topic of three partitions, sorted.
fn sorted_values(cluster: &MockCluster, topic: &str) -> Vec<String> {
    let records = (0..3).flat_map(|partition| cluster.records(topic, partition));
    let values = records.map(|record| record.value.unwrap());
    let mut values: Vec<_> = values
        .map(|value| String::from_utf8_lossy(&value).into_owned())
        .collect();
    values.sort();
    values
}

#[test]
fn copy_reads_what_is_committed_and_goes_on_where_it_was() {
    let builder = MockCluster::builder().brokers(3).topic("orders", 3, 3);
    let cluster = builder.topic("shouted", 3, 3).start().unwrap();
    let servers = cluster.bootstrap_servers();
    let copy = || {
        let topics = ["--from", "orders", "--to", "shouted", "--idle", "1"];
        lines(&run(
            "copy",
            &[&["--bootstrap", servers], &topics[..]].concat(),
        ))
    };
    let send = |value: &str| run("send_one", &["--bootstrap", servers, "--value", value]);
    // Of the third transfer nothing counts.
    run("transfer", &["--bootstrap", servers, "--transfers", "3"]);
    send("apples");
    assert_eq!(copy(), ["copied 5 records"]);
    let expected = ["+1", "+2", "-1", "-2", "APPLES"];
    assert_eq!(sorted_values(&cluster, "shouted"), expected);
    assert_eq!(copy(), ["copied 0 records"]);
    send("pears");
    assert_eq!(copy(), ["copied 1 records"]);
    let all = [&expected[..], &["PEARS"]].concat();
    assert_eq!(sorted_values(&cluster, "shouted"), all);
}

#[test]
fn outbox_sends_each_row_once() {
    let cluster = start();
    let servers = cluster.bootstrap_servers();
    let rows = TemporaryFile::new("rows.outbox", "a 1\na 2\na 3\na 4\na 5\n");
    let relay = || {
        let options = ["--rows", rows.path(), "--together", "2"];
        lines(&run(
            "outbox",
            &[&["--bootstrap", servers], &options[..]].concat(),
        ))
    };
    assert_eq!(relay(), ["sent rows 0 to 5"]);
    assert_eq!(relay(), ["sent rows 5 to 5"]);
    let file = std::fs::OpenOptions::new().append(true).open(rows.path());
    file.unwrap().write_all(b"a 6\n").unwrap();
    assert_eq!(relay(), ["sent rows 5 to 6"]);
    // Of one key, so they are in one partition.
    let sent: Vec<_> = values(&cluster).into_iter().flatten().collect();
    assert_eq!(sent, ["1", "2", "3", "4", "5", "6"]);
}

#[test]
fn transaction_rate_tells_a_line_for_each_kind() {
    let cluster = start();
    let servers = cluster.bootstrap_servers();
    let options = ["--records", "1,10", "--lanes", "1,3", "--millis", "100"];
    let told = run(
        "transaction_rate",
        &[&["--bootstrap", servers], &options[..]].concat(),
    );
    let told = lines(&told);
    let mut kinds = Vec::new();
    for line in &told[1..] {
        let fields: Vec<f64> = line
            .split_whitespace()
            .map(|n| n.parse().unwrap())
            .collect();
        assert!(fields[2] > 0.0 && fields[3] >= fields[2], "{line}");
        kinds.push((fields[0], fields[1]));
    }
    assert_eq!(kinds, [(1.0, 1.0), (1.0, 10.0), (3.0, 1.0), (3.0, 10.0)]);
}
