//! Rules about who may use what: purity of the cores, direction of the layers, adapters.

use super::{RustFile, UsedPath, Violation};

const PURE: &str = "engine/, wire/ and handlers/ decide, io/ acts: time, randomness and events are \
                    arguments there, so that the same seed gives the same run";

/// Files that translate to and from the `kafka_protocol` crate, or folders of them.
const ADAPTERS: [&str; 16] = [
    "producer/src/wire/control.rs",
    "producer/examples/reading/offsets.rs",
    "producer/examples/reading/reader.rs",
    "mockbroker/src/wire/request.rs",
    "mockbroker/src/wire/reply.rs",
    "mockbroker/src/wire/admin_request.rs",
    "mockbroker/src/wire/admin_reply.rs",
    "mockbroker/src/wire/features.rs",
    "mockbroker/src/wire/listed_transactions.rs",
    "mockbroker/src/wire/quotas.rs",
    "mockbroker/src/wire/transactions.rs",
    "mockbroker/src/wire/groups.rs",
    "mockbroker/src/wire/offsets.rs",
    "conformance/src/wire/request.rs",
    "conformance/src/wire/transaction_request.rs",
    "conformance/src/wire/group_request.rs",
];

/// No clock, task, lock, socket, thread, file, OS randomness or unordered map in a pure layer; its
/// tests may read the environment, for a seed.
#[must_use]
pub fn pure_layers_stay_pure(file: &RustFile) -> Vec<Violation> {
    if !is_pure(&file.path) {
        return Vec::new();
    }
    let for_a_test = |path: &UsedPath| {
        file.is_test(path.line) && path.segments.starts_with(&["std".into(), "env".into()])
    };
    let counts = |path: &&UsedPath| is_impure(&path.segments) && !for_a_test(path);
    let impure = file.paths.iter().filter(counts);
    impure.map(|path| violation(file, path, PURE)).collect()
}

fn is_pure(path: &str) -> bool {
    let mut parts = path.split('/').skip(1);
    parts.next() == Some("src")
        && parts.next().is_some_and(|layer| {
            matches!(
                layer.trim_end_matches(".rs"),
                "engine" | "wire" | "handlers"
            )
        })
        && !path.starts_with("conformance/")
}

fn is_impure(segments: &[String]) -> bool {
    let words: Vec<&str> = segments.iter().map(String::as_str).collect();
    let anywhere = [
        "async",
        "await",
        "HashMap",
        "HashSet",
        "RandomState",
        "SystemTime",
        "thread_local",
        "thread_rng",
        "new_v4",
        "new_v7",
    ];
    if words.iter().any(|word| anywhere.contains(word)) {
        return true;
    }
    match words.as_slice() {
        ["std", "sync", "Arc", ..] | ["std", "time", "Duration", ..] => false,
        ["fastrand", "Rng", rest @ ..] => rest.first() == Some(&"new"),
        [
            "tokio" | "futures" | "parking_lot" | "rand" | "getrandom" | "fastrand",
            ..,
        ]
        | [
            "std",
            "net" | "sync" | "thread" | "time" | "fs" | "env" | "process",
            ..,
        ]
        | ["std", "io", "stdin" | "stdout" | "stderr", ..] => true,
        [.., "Rng", "new" | "default"] | [.., "Instant", "now"] => true,
        _ => false,
    }
}

/// `types ← wire ← engine ← handlers ← io`: a layer never names one to its right.
#[must_use]
pub fn layers_point_one_way(file: &RustFile) -> Vec<Violation> {
    const RULE: &str = "types <- wire <- engine <- handlers <- io <- the root files: a layer that \
                        names one further out cannot be tested or read without it";
    const ORDER: [&str; 4] = ["wire", "engine", "handlers", "io"];
    let mut parts = file.path.split('/').skip(2);
    let own = parts.next().map(|layer| layer.trim_end_matches(".rs"));
    let Some(own) = own.and_then(|own| ORDER.iter().position(|layer| *layer == own)) else {
        return Vec::new();
    };
    let outward = |path: &&UsedPath| {
        path.segments.first().is_some_and(|root| root == "crate")
            && ORDER[own + 1..].contains(&path.segments.get(1).map_or("", String::as_str))
    };
    file.paths
        .iter()
        .filter(outward)
        .map(|path| violation(file, path, RULE))
        .collect()
}

/// The protocol crate's types stop at the adapters.
#[must_use]
pub fn protocol_crate_stays_in_its_adapters(file: &RustFile) -> Vec<Violation> {
    const RULE: &str = "kafka_protocol is imported by the adapter files alone: a foreign type that \
                        travels further makes every layer depend on its releases";
    if ADAPTERS.contains(&file.path.as_str()) {
        return Vec::new();
    }
    uses(file, "kafka_protocol")
        .map(|path| violation(file, path, RULE))
        .collect()
}

/// The producer and the mock cluster share no code.
#[must_use]
pub fn crates_stay_apart(file: &RustFile) -> Vec<Violation> {
    const RULE: &str = "producer and mockbroker are written apart: shared code would hide the same \
                        misunderstanding on both sides";
    let other = match file.path.split('/').next() {
        Some("producer") => "kafka_mockbroker",
        Some("mockbroker") => "kafka_producer",
        _ => return Vec::new(),
    };
    uses(file, other)
        .map(|path| violation(file, path, RULE))
        .collect()
}

/// Tests wait for events, never for time to pass.
#[must_use]
pub fn tests_do_not_sleep(file: &RustFile) -> Vec<Violation> {
    const RULE: &str = "below level 3 time is virtual or paused: a sleep is slow on a good day and \
                        wrong on a bad one";
    if file
        .path
        .rsplit('/')
        .next()
        .is_some_and(|name| name.starts_with("level3"))
    {
        return Vec::new();
    }
    let sleeps = file.paths.iter().filter(|path| {
        file.is_test(path.line)
            && path
                .segments
                .last()
                .is_some_and(|last| last == "sleep" || last == "sleep_until")
    });
    sleeps.map(|path| violation(file, path, RULE)).collect()
}

fn uses<'a>(file: &'a RustFile, root: &'a str) -> impl Iterator<Item = &'a UsedPath> {
    file.paths
        .iter()
        .filter(move |path| path.segments.first().is_some_and(|first| first == root))
}

fn violation(file: &RustFile, path: &UsedPath, rule: &'static str) -> Violation {
    let found = path.segments.join("::");
    Violation {
        path: file.path.clone(),
        line: path.line,
        found,
        rule,
    }
}
