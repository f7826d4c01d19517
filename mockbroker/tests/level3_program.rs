//! Level 3: the program, as a shell script meets it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use rstest::rstest;

fn mockbroker(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mockbroker"));
    command.args(arguments).env_remove("MOCKBROKER_LOG");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = mockbroker(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn signal(child: &Child, signal: &str) {
    // The shell's own kill: a small machine has no program of that name.
    let status = Command::new("sh")
        .args(["-c", "kill \"$0\" \"$1\"", signal, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Asks the broker for its versions and waits for the answer to begin.
fn ask(address: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    // Size, API key 18, version 0, correlation id 7, no client id.
    let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 255, 255];
    stream.write_all(&request).unwrap();
    stream.read_exact(&mut [0; 8]).unwrap();
}

#[rstest]
#[case("-TERM", "info")]
#[case("-INT", "info")]
#[case("-TERM", "off")]
fn ready_line_names_every_broker_and_a_signal_ends_it_with_0(
    #[case] name: &str,
    #[case] log: &str,
) {
    let arguments = [
        "--brokers",
        "3",
        "--listen",
        "127.0.0.1:0",
        "--topic",
        "orders:6:3",
        "--log",
        log,
    ];
    let mut child = mockbroker(&arguments).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let addresses = line.trim_end().strip_prefix("bootstrap.servers=").unwrap();
    let addresses: Vec<&str> = addresses.split(',').collect();
    assert_eq!(addresses.len(), 3);
    for address in addresses {
        ask(address);
    }
    assert_eq!(child.try_wait().unwrap(), None, "it runs until the signal");
    signal(&child, name);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "stdout carries the one line");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A file of this text, which goes with the folder.
fn file(name: &str, text: &str) -> (PathBuf, String) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("{}-{name}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    let name = path.to_str().unwrap().to_owned();
    (path, name)
}

#[test]
fn scenario_is_run_controlled_and_reported() {
    let scenario = "
cluster:
  brokers: 2
  listen: 127.0.0.1:0
  topics: [{name: orders, partitions: 3}]
faults:
  - {on: ApiVersions, then: pass}
  - {on: Fetch, then: swallow}
moves:
  - {pause: 2}
  - {at: 1h, crash: 2}
";
    let (path, name) = file("run.yaml", scenario);
    let arguments = [
        "--scenario",
        &name,
        "--control",
        "127.0.0.1:0",
        "--brokers",
        "3",
    ];
    let mut child = mockbroker(&arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = || lines.next().unwrap().unwrap();
    let (brokers, control) = (line(), line());
    let brokers: Vec<&str> = brokers
        .strip_prefix("bootstrap.servers=")
        .unwrap()
        .split(',')
        .collect();
    assert_eq!(brokers.len(), 3, "what is given beside the file counts");
    ask(brokers[0]);
    let mut bad = TcpStream::connect(brokers[0]).unwrap();
    bad.write_all(&[255; 4]).unwrap();
    bad.read_to_end(&mut Vec::new()).unwrap();

    let mut stream = TcpStream::connect(control.strip_prefix("control=").unwrap()).unwrap();
    let request = b"POST /shutdown HTTP/1.1\r\nHost: mock\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 202");

    let mut told = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut told)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for expected in [
        "POST /shutdown",
        "the time of a planned move has come to_make=PauseBroker",
        "a frame declares -1 bytes",
        "a fault rule never acted rule=Fetch, from match 1, 1 time: swallow",
        "the cluster ends before a planned move",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert!(!told.contains("rule=ApiVersions"), "it acted: {told}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn bad_scenario_ends_with_2_and_names_file_line_and_key() {
    let (path, name) = file("bad.yaml", "cluster:\n  broker: 3\n");
    let (status, stdout, stderr) = output(&["--scenario", &name]);
    assert_eq!((status, stdout.as_str()), (Some(2), ""), "{stderr}");
    let expected =
        format!("error: {name}: line 2, column 3: cluster.broker: no such key; the near");
    assert!(stderr.starts_with(&expected), "{stderr}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn help_shows_groups_examples_statuses_and_every_key() {
    let (status, help, _) = output(&["--help"]);
    assert_eq!(status, Some(0));
    for heading in [
        "Cluster:",
        "Addresses:",
        "Watching:",
        "Examples:",
        "Exit status:",
    ] {
        assert!(help.contains(&format!("\n{heading}")), "{heading}");
    }
    for key in kafka_mockbroker::BrokerConfig::KEYS {
        assert!(help.contains(&format!("\n  {key}\n")) || help.ends_with(&format!("{key}\n")));
    }
    assert!(help.lines().all(|line| line.len() <= 100), "{help}");
}

#[rstest]
#[case(&["--control", "nowhere"], "control cannot be `nowhere`")]
#[case(&["--scenario", "no-such.yaml"], "no-such.yaml: cannot be read: No such file")]
#[case(&["--set", "num.partitions=0"], "num.partitions cannot be `0`: allowed is")]
#[case(&["--set", "num.partition=3"], "the nearest is num.partitions")]
#[case(&["--set", "num.partitions"], "a setting is KEY=VALUE")]
#[case(&["--topic", "orders:six"], "`six` is no number of partitions")]
#[case(&["--topic", "orders:6:3"], "allowed is 1 to 1 replicas")]
#[case(&["--topic", "a b"], "a name of 1 to 249")]
#[case(&["--brokers", "0"], "brokers cannot be `0`: allowed is 1 to 1000")]
#[case(&["--listen", "nowhere"], "listen cannot be `nowhere`")]
#[case(&["--log", "=loud="], "--log cannot be `=loud=`")]
fn bad_argument_ends_with_2_and_says_what(#[case] arguments: &[&str], #[case] expected: &str) {
    let (status, stdout, stderr) = output(&[&["--listen", "127.0.0.1:0"], arguments].concat());
    assert_eq!((status, stdout.as_str()), (Some(2), ""), "{stderr}");
    assert!(stderr.contains(expected), "{stderr}");
}

#[test]
fn taken_port_ends_with_1_and_says_which_and_why() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, stdout, stderr) = output(&["--listen", &address]);
    assert_eq!((status, stdout.as_str()), (Some(1), ""));
    assert!(
        stderr.contains(&format!(
            "cannot listen on {address}: Address already in use"
        )),
        "{stderr}"
    );
}

#[test]
fn topic_takes_partitions_and_replicas_from_the_configuration() {
    let arguments = ["--listen", "127.0.0.1:0", "--topic", "orders", "--set"];
    let (status, _, stderr) = output(&[&arguments[..], &["default.replication.factor=2"]].concat());
    assert_eq!(status, Some(2), "one broker cannot hold two replicas");
    assert!(stderr.contains("orders with 2 replicas"), "{stderr}");
}
