//! Level 3: the program, as a shell script meets it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
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

#[rstest]
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
