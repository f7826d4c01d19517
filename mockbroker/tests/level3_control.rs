//! Level 3: a cluster that is controlled over HTTP.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod raw;

use core::time::Duration;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use kafka_mockbroker::{Api, BrokerId, MockCluster, Rule, Verdict};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::timeout;

/// For a machine under load; no test waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

fn cluster() -> MockCluster {
    let builder = MockCluster::builder().brokers(3).topic("orders", 2, 3);
    builder.control("127.0.0.1:0").start().unwrap()
}

fn connect(cluster: &MockCluster) -> TcpStream {
    let stream = TcpStream::connect(cluster.control_address().unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Status and body.
fn ask(cluster: &MockCluster, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = connect(cluster);
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: mock\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    // Whoever is refused before the end of the body may find the connection closed.
    let _ = stream.write_all(request.as_bytes());
    let mut response = String::new();
    let _ = stream.read_to_string(&mut response);
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("application/json"), "{head}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

fn get(cluster: &MockCluster, path: &str) -> Value {
    let (status, body) = ask(cluster, "GET", path, "");
    assert_eq!(status, 200, "{path}: {body:#}");
    body
}

/// Sends a Kafka request to a broker and reads what comes back, to the end.
fn produce(cluster: &MockCluster, broker: i32) -> Vec<u8> {
    let address = cluster.address(BrokerId(broker)).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let batch = raw::batch(0, &["apples", "pears"]);
    let request = raw::produce(9, "orders", &[(0, batch)]);
    stream.write_all(&request).unwrap();
    let mut size = [0; 4];
    if stream.read_exact(&mut size).is_err() {
        return Vec::new();
    }
    let mut frame = vec![0; usize::try_from(u32::from_be_bytes(size)).unwrap()];
    stream.read_exact(&mut frame).unwrap();
    frame
}

#[test]
fn a_rule_is_installed_waited_for_and_removed() {
    let cluster = cluster();
    let rule = r#"{"on": "Produce", "topic": "orders", "then": "close_after"}"#;
    let (status, fault) = ask(&cluster, "POST", "/faults", rule);
    assert_eq!(status, 201, "{fault:#}");
    let id = &fault["id"];
    assert_eq!(fault["hits"], 0);
    let text = "Produce to orders, from match 1, 1 time: apply, then close";
    assert_eq!(fault["text"], text);

    let nobody_asked = ask(
        &cluster,
        "GET",
        &format!("/faults/{id}/wait?timeout=1ms"),
        "",
    );
    assert_eq!(nobody_asked.0, 408);
    assert_eq!(get(&cluster, "/faults")["unfired"], json!([text]));
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(produce(&cluster, 1).is_empty(), "the rule closes"));
        let waited = get(&cluster, &format!("/faults/{id}/wait?hits=1"));
        let request = &waited["requests"][0];
        assert_eq!(
            (&request["api"], &request["correlation_id"]),
            (&json!("Produce"), &json!(9))
        );
        assert_eq!(
            request["targets"],
            json!([{"topic": "orders", "partition": 0}])
        );
    });

    let (status, removed) = ask(&cluster, "DELETE", &format!("/faults/{id}"), "");
    assert_eq!((status, &removed["hits"]), (200, &json!(1)));
    assert_eq!(get(&cluster, "/faults")["faults"], json!([]));
    let gone = ask(&cluster, "GET", &format!("/faults/{id}"), "");
    assert_eq!(
        (gone.0, &gone.1["error"]["what"]),
        (404, &json!("no rule 0 is installed"))
    );
}

#[test]
fn a_rule_of_the_handle_is_seen_in_the_words_of_a_scenario() {
    let cluster = cluster();
    let slow = Verdict::Delay(Duration::from_millis(1_500));
    let guard = cluster.inject(Rule::on(Api::Fetch).nth(2).always().then(slow));
    let shown = get(&cluster, &format!("/faults/{}", guard.id().0));
    let words = json!({"on": "Fetch", "nth": 2, "count": "always", "then": {"delay": "1500ms"}});
    assert_eq!(shown["rule"], words);
    let again = MockCluster::builder().scenario_str(&json!({"faults": [words]}).to_string());
    let again = again.unwrap().control("127.0.0.1:0").start().unwrap();
    assert_eq!(get(&again, "/faults/0")["rule"], shown["rule"]);
}

#[test]
fn state_shows_leaders_watermarks_and_producers() {
    let cluster = cluster();
    assert!(!produce(&cluster, 1).is_empty());
    let state = get(&cluster, "/state");
    assert_eq!(state["bootstrap_servers"], cluster.bootstrap_servers());
    assert_eq!(state["brokers"][1]["process"], "running");
    let orders = &state["topics"][0];
    assert_eq!(orders["name"], "orders");
    let partition = &orders["partitions"][0];
    assert_eq!(
        (&partition["leader"], &partition["isr"]),
        (&json!(1), &json!([1, 2, 3]))
    );
    let offsets = ["log_start_offset", "high_watermark", "log_end_offset"];
    assert_eq!(
        offsets.map(|name| partition[name].as_i64().unwrap()),
        [0, 2, 2]
    );
    let producer = &partition["producers"][0];
    assert_eq!(
        (&producer["id"], &producer["last_sequence"]),
        (&json!(7), &json!(1))
    );
    assert_eq!(orders["partitions"][1]["producers"], json!([]));
}

#[test]
fn moves_are_made_at_once_or_planned() {
    let cluster = cluster();
    let (status, made) = ask(&cluster, "POST", "/moves", r#"{"crash": 1}"#);
    assert_eq!((status, &made["outcome"]), (200, &json!("made")));
    let state = get(&cluster, "/state");
    assert_eq!(state["brokers"][0]["process"], "crashed");
    assert_eq!(state["topics"][0]["partitions"][0]["leader"], 2);

    let (status, refused) = ask(&cluster, "POST", "/moves", r#"{"crash": 9}"#);
    assert_eq!(
        (status, &refused["error"]["what"]),
        (409, &json!("no such broker"))
    );

    let later = r#"{"at": "1h", "restart": {"broker": 1}}"#;
    assert_eq!(ask(&cluster, "POST", "/moves", later).0, 202);
    let planned = get(&cluster, "/moves");
    let expected = json!({"at": "1h", "restart": {"broker": 1}});
    assert_eq!(planned["moves"][0]["move"], expected);
    assert_eq!(planned["moves"][0]["outcome"], "waiting");
}

#[test]
fn the_journal_is_read_in_parts_and_followed() {
    let cluster = cluster();
    produce(&cluster, 1);
    let whole = get(&cluster, "/journal");
    let events: Vec<&str> = whole["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["event"].as_str().unwrap())
        .collect();
    assert_eq!(events[..3], ["connected", "request", "reply"]);
    let reply = &whole["entries"][2];
    assert_eq!(
        reply["codes"],
        json!([{"topic": "orders", "partition": 0, "code": "NONE"}])
    );
    let part = get(&cluster, "/journal?from=1&max=1");
    assert_eq!(
        (&part["entries"][0], &part["next"]),
        (&whole["entries"][1], &json!(2))
    );
    assert_eq!(part["entries"].as_array().unwrap().len(), 1);

    // By HTTP/1.0, lest the lines come in chunks.
    let mut stream = connect(&cluster);
    stream
        .write_all(b"GET /journal/stream?from=2 HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.is_empty()), "the end of the head");
    let entry = |line: String| serde_json::from_str::<Value>(&line).unwrap();
    assert_eq!(entry(lines.next().unwrap()), *reply);
    produce(&cluster, 2);
    let asked = lines.map(entry).find(|entry| entry["event"] == "request");
    let asked = asked.unwrap();
    assert_eq!(
        (&asked["broker"], &asked["api"]),
        (&json!(2), &json!("Produce"))
    );
}

#[test]
fn a_cluster_goes_back_to_a_snapshot() {
    let cluster = cluster();
    let end = |cluster: &MockCluster| {
        get(cluster, "/state")["topics"][0]["partitions"][0]["log_end_offset"].clone()
    };
    produce(&cluster, 1);
    let (status, taken) = ask(&cluster, "POST", "/snapshots", "");
    assert_eq!((status, &taken["snapshot"]), (201, &json!(0)));
    ask(&cluster, "POST", "/moves", r#"{"expire_producer": 7}"#);
    produce(&cluster, 1);
    assert_eq!(end(&cluster), 4);
    for _ in 0..2 {
        let (status, restored) = ask(&cluster, "POST", "/snapshots/0/restore", "");
        assert_eq!((status, &restored), (200, &taken));
        assert_eq!(end(&cluster), 2);
    }
    assert_eq!(get(&cluster, "/snapshots")["snapshots"], json!([taken]));
    assert_eq!(ask(&cluster, "DELETE", "/snapshots/0", "").0, 200);
    assert_eq!(ask(&cluster, "POST", "/snapshots/0/restore", "").0, 404);
    for _ in 0..16 {
        assert_eq!(ask(&cluster, "POST", "/snapshots", "").0, 201);
    }
    let (status, refused) = ask(&cluster, "POST", "/snapshots", "");
    assert_eq!(status, 409, "{refused:#}");
}

#[test]
fn diagnostics_tell_what_was_refused() {
    let cluster = cluster();
    let mut stream = TcpStream::connect(cluster.address(BrokerId(1)).unwrap()).unwrap();
    stream.write_all(&[255, 255, 255, 255]).unwrap();
    let mut end = Vec::new();
    stream.read_to_end(&mut end).unwrap();
    let told = get(&cluster, "/diagnostics");
    let text = told["diagnostics"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("a frame declares -1 bytes"), "{text}");
}

#[rstest]
#[case::path(
    ("GET", "/stat", ""),
    404,
    ("no such path", "/stat", "the nearest is /state")
)]
#[case::method(
    ("DELETE", "/state", ""),
    405,
    ("DELETE is not for this path", "/state", "allowed is GET")
)]
#[case::id(("GET", "/faults/x", ""), 404, ("`x` is no rule's id", "path", "GET /faults"))]
#[case::parameter(("GET", "/journal?form=1", ""), 400, ("`form`", "query", "from | max"))]
#[case::number(
    ("GET", "/journal?from=-1", ""),
    400,
    ("found `-1`", "query, from", "a whole number")
)]
#[case::duration(("GET", "/faults/0/wait?timeout=5", ""), 400, ("found `5`", "query", "200ms"))]
#[case::long_wait(("GET", "/faults/0/wait?timeout=1h", ""), 400, ("longer", "query", "10m"))]
#[case::no_json(("POST", "/faults", "{"), 400, ("EOF", "body, line 1, column 1", "SCENARIO.md"))]
#[case::nothing(("POST", "/moves", ""), 400, ("EOF", "body", "SCENARIO.md"))]
#[case::word(
    ("POST", "/faults", "{\n  \"then\": \"aply_then_lose\"\n}"),
    400,
    (
        "`aply_then_lose` is unknown",
        "body, line 2, column 26, then",
        "the nearest is apply_then_lose; allowed is one of: pass | answer"
    )
)]
#[case::key(
    ("POST", "/faults", r#"{"topc": "a"}"#),
    400,
    ("no such key", "topc", "nearest is topic")
)]
#[case::a_move(
    ("POST", "/moves", r#"{"crsh": 2}"#),
    400,
    ("no such key", "crsh", "nearest is crash")
)]
fn what_is_refused_says_what_where_and_what_to_do(
    #[case] (method, path, body): (&str, &str, &str),
    #[case] status: u16,
    #[case] (what, place, help): (&str, &str, &str),
) {
    let cluster = cluster();
    let (found, refusal) = ask(&cluster, method, path, body);
    assert_eq!(found, status, "{refusal:#}");
    for (name, expected) in [("what", what), ("where", place), ("help", help)] {
        let told = refusal["error"][name].as_str().unwrap();
        assert!(told.contains(expected), "{name}: {told}");
    }
}

#[test]
fn a_large_body_is_refused_and_the_next_request_is_served() {
    let cluster = cluster();
    let (status, refusal) = ask(&cluster, "POST", "/faults", &" ".repeat(1024 * 1024 + 1));
    assert_eq!(status, 413, "{refusal:#}");
    let blanks = format!("{{}}{}", " ".repeat(1024 * 1024 - 2));
    assert_eq!(
        ask(&cluster, "POST", "/faults", &blanks).0,
        201,
        "at the bound"
    );
}

#[tokio::test]
async fn the_end_can_be_asked_for() {
    let cluster = cluster();
    let moment = Duration::from_millis(1);
    assert!(timeout(moment, cluster.shutdown_requested()).await.is_err());
    let (status, _) = ask(&cluster, "POST", "/shutdown", "");
    assert_eq!(status, 202);
    timeout(PATIENCE, cluster.shutdown_requested())
        .await
        .unwrap();
}

#[test]
fn dropping_the_handle_frees_the_address() {
    let cluster = cluster();
    let address = cluster.control_address().unwrap();
    let _follower = connect(&cluster);
    drop(cluster);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_cluster_is_controlled_by_nobody_unless_asked() {
    assert_eq!(
        MockCluster::builder().start().unwrap().control_address(),
        None
    );
}
