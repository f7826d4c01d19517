//! The rules that the tree keeps, executed; each rule is also shown a text that breaks it.
//!
//! *Not here*: what clippy enforces (`unwrap`, `expect`, prints, argument counts, missing docs).

use std::sync::LazyLock;

use promises::tree::{self, Ratchet, RustFile, TextFile, Tree, Violation};
use rstest::rstest;

/// Excesses known today; the list may only shrink.
const KNOWN: [Ratchet; 0] = [];

static TREE: LazyLock<Tree> = LazyLock::new(Tree::load);

#[track_caller]
fn assert_kept(violations: &[Violation]) {
    let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(
        list.is_empty(),
        "{} places break a rule:\n{}",
        list.len(),
        list.join("\n")
    );
}

#[test]
fn pure_layers_take_time_randomness_and_events_as_arguments() {
    assert_kept(&TREE.check(tree::pure_layers_stay_pure));
}

#[test]
fn layers_know_only_the_layers_below_them() {
    assert_kept(&TREE.check(tree::layers_point_one_way));
}

#[test]
fn protocol_crate_is_named_by_its_adapters_alone() {
    assert_kept(&TREE.check(tree::protocol_crate_stays_in_its_adapters));
}

#[test]
fn producer_and_mock_cluster_share_no_code() {
    assert_kept(&TREE.check(tree::crates_stay_apart));
    for (manifest, other) in [
        ("producer", "kafka-mockbroker"),
        ("mockbroker", "kafka-producer"),
    ] {
        let manifest = text(&format!("{manifest}/Cargo.toml"));
        assert!(
            !manifest.contains(other),
            "a manifest depends on the other crate: {other}"
        );
    }
}

#[test]
fn every_file_says_what_it_is() {
    assert_kept(&TREE.check(tree::files_open_with_docs));
}

#[test]
fn every_machine_draws_its_states_and_numbers_its_invariants() {
    assert_kept(&TREE.check(tree::engine_machines_explain_themselves));
}

#[test]
fn public_functions_that_may_fail_say_how() {
    assert_kept(&TREE.check(tree::fallible_functions_document_errors));
}

#[test]
fn public_async_functions_say_what_dropping_them_does() {
    assert_kept(&TREE.check(tree::async_functions_document_cancellation));
}

#[test]
fn functions_fit_a_screen() {
    let known: Vec<Ratchet> = KNOWN
        .into_iter()
        .filter(|entry| !entry.function.is_empty())
        .collect();
    assert_kept(&tree::functions_fit(&TREE.rust, &known));
}

#[test]
fn files_hold_one_thing() {
    let known: Vec<Ratchet> = KNOWN
        .into_iter()
        .filter(|entry| entry.function.is_empty())
        .collect();
    assert_kept(&tree::files_fit(&TREE.rust, &known));
}

#[test]
fn lines_are_read_without_scrolling() {
    assert_kept(&TREE.check(tree::lines_fit));
}

#[test]
fn no_test_is_ignored() {
    assert_kept(&TREE.check(tree::no_test_is_ignored));
}

#[test]
fn tests_below_level_3_do_not_sleep() {
    assert_kept(&TREE.check(tree::tests_do_not_sleep));
}

#[test]
fn names_say_what_files_hold() {
    assert_kept(&TREE.check_texts(tree::names_say_what_a_file_holds));
}

#[test]
fn nothing_is_left_open() {
    assert_kept(&TREE.check_texts(tree::no_open_ends));
}

#[test]
fn no_path_of_one_machine_stands_in_the_tree() {
    assert_kept(&TREE.check_texts(tree::no_machine_paths));
}

#[test]
fn versions_of_dependencies_are_committed() {
    let committed = tree::git_files(&["--cached", "Cargo.lock"]);
    assert_eq!(
        committed,
        ["Cargo.lock"],
        "two clones must build the same code"
    );
}

#[test]
fn every_member_takes_the_lints_of_the_workspace() {
    for member in ["producer", "mockbroker", "conformance", "tests"] {
        let manifest = text(&format!("{member}/Cargo.toml"));
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{member} sets its own lints"
        );
    }
}

fn text(path: &str) -> &'static str {
    let file = TREE.texts.iter().find(|file| file.path == path);
    &file
        .unwrap_or_else(|| panic!("{path} stands in the tree"))
        .text
}

// The rules, each against a text that breaks it and one that looks as if.

type Rule = fn(&RustFile) -> Vec<Violation>;

fn lines_found(rule: Rule, path: &str, text: &str) -> Vec<usize> {
    rule(&RustFile::parse(path, text))
        .iter()
        .map(|violation| violation.line)
        .collect()
}

#[rstest]
#[case::await_in_engine("async fn f() { g().await }")]
#[case::tokio("use tokio::time::Duration;")]
#[case::tokio_test("#[tokio::test] fn f() {}")]
#[case::lock("use std::sync::{Arc, Mutex};")]
#[case::whole_sync("use std::sync;")]
#[case::socket("use std::{fmt, net::TcpStream};")]
#[case::clock("fn f() { let _ = Instant::now(); }")]
#[case::wall_clock("use std::time::SystemTime;")]
#[case::thread("fn f() { std::thread::yield_now() }")]
#[case::unordered("fn f() { assert!(HashMap::<u8, u8>::new().is_empty()) }")]
#[case::seedless("fn f() { fastrand::u8(..); }")]
#[case::seedless_generator("use fastrand::Rng; fn f() { Rng::new(); }")]
#[case::system_randomness("fn f() { Uuid::new_v4(); }")]
#[case::file("fn f() { std::fs::read(p); }")]
fn impurity_is_seen(#[case] text: &str) {
    for path in [
        "producer/src/engine/x.rs",
        "mockbroker/src/wire/x.rs",
        "mockbroker/src/handlers/x.rs",
    ] {
        let found = lines_found(tree::pure_layers_stay_pure, path, text);
        assert!(!found.is_empty(), "{path}");
    }
    let edge = lines_found(tree::pure_layers_stay_pure, "producer/src/io/x.rs", text);
    assert!(edge.is_empty(), "io/ may do it");
}

#[rstest]
#[case::shared_string("use std::sync::Arc; use std::time::Duration;")]
#[case::own_clock("use crate::engine::time::Instant;")]
#[case::seeded("fn f() { fastrand::Rng::with_seed(1); }")]
#[case::comment("// tokio::spawn and HashMap\nfn f() {} /* std::net */")]
#[case::string("const A: &str = \"tokio::spawn .await\";")]
fn purity_is_not_mistaken(#[case] text: &str) {
    let found = lines_found(
        tree::pure_layers_stay_pure,
        "producer/src/engine/x.rs",
        text,
    );
    assert!(found.is_empty());
}

#[rstest]
#[case("producer/src/wire/x.rs", "use crate::engine::time;", 1)]
#[case("producer/src/engine/x.rs", "use crate::{io::driver, wire};", 1)]
#[case("mockbroker/src/engine/x.rs", "fn f() { crate::handlers::g() }", 1)]
#[case("mockbroker/src/io/x.rs", "use crate::{handlers, engine, wire};", 0)]
#[case("producer/src/producer.rs", "use crate::io;", 0)]
fn outward_use_is_seen(#[case] path: &str, #[case] text: &str, #[case] count: usize) {
    assert_eq!(
        lines_found(tree::layers_point_one_way, path, text).len(),
        count
    );
}

#[rstest]
#[case("producer/src/wire/record_batch.rs", 1)]
#[case("producer/src/wire/control.rs", 0)]
#[case("tests/codec.rs", 1)]
fn protocol_crate_outside_its_adapters_is_seen(#[case] path: &str, #[case] count: usize) {
    let text = "use kafka_protocol::messages::ApiKey;";
    assert_eq!(
        lines_found(tree::protocol_crate_stays_in_its_adapters, path, text).len(),
        count
    );
}

#[rstest]
#[case("producer/tests/x.rs", "use kafka_mockbroker::MockCluster;", 1)]
#[case("mockbroker/src/x.rs", "fn f() { kafka_producer::x() }", 1)]
#[case(
    "conformance/src/x.rs",
    "use {kafka_producer as p, kafka_mockbroker as m};",
    0
)]
fn shared_code_is_seen(#[case] path: &str, #[case] text: &str, #[case] count: usize) {
    assert_eq!(
        lines_found(tree::crates_stay_apart, path, text).len(),
        count
    );
}

#[rstest]
#[case("tests/delivery.rs", "fn f() { tokio::time::sleep(d) }", 1)]
#[case(
    "producer/src/io/x.rs",
    "#[cfg(test)] mod tests { fn f() { sleep(d) } }",
    1
)]
#[case("producer/src/io/x.rs", "fn f() { sleep(d) }", 0)]
#[case("tests/level3.rs", "fn f() { sleep(d) }", 0)]
fn sleep_in_a_test_is_seen(#[case] path: &str, #[case] text: &str, #[case] count: usize) {
    assert_eq!(
        lines_found(tree::tests_do_not_sleep, path, text).len(),
        count
    );
}

#[rstest]
#[case("use a::b;", 1)]
#[case("//! \nuse a::b;", 1)]
#[case("//! What it is.\nuse a::b;", 0)]
fn a_file_without_docs_is_seen(#[case] text: &str, #[case] count: usize) {
    assert_eq!(
        lines_found(tree::files_open_with_docs, "x.rs", text).len(),
        count
    );
}

#[rstest]
#[case::nothing("//! A machine.", 4)]
#[case::not_drawn("//! *State*: two. *Invariants* 1. a *Source* k *Not here* z", 1)]
#[case::not_numbered(
    "//! *State*\n//! ```\n//! ```\n//! *Invariants* a *Source* k *Not here* z",
    1
)]
#[case::whole(
    "//! *State*\n//! ```\n//! ```\n//! *Invariants*\n//! 1. a\n//! *Source*: k\n//! *Not here*: z",
    0
)]
fn a_machine_without_its_sections_is_seen(#[case] docs: &str, #[case] count: usize) {
    let rule = tree::engine_machines_explain_themselves;
    let path = "producer/src/engine/x.rs";
    for code in [
        "enum LinkPhase { A }",
        "impl M { pub fn on_tick(&mut self) {} }",
    ] {
        assert_eq!(
            lines_found(rule, path, &format!("{docs}\n{code}")).len(),
            count,
            "{code}"
        );
        assert!(lines_found(rule, "producer/src/io/x.rs", &format!("{docs}\n{code}")).is_empty());
    }
    let plain = format!("{docs}\npub fn on_tick() {{}} enum Color {{ A }}");
    assert!(
        lines_found(rule, path, &plain).is_empty(),
        "no machine, no sections"
    );
}

#[rstest]
#[case::silent("pub fn f() -> Result<u8, E> { g() }", 1)]
#[case::says("/// # Errors\npub fn f() -> Result<u8, E> { g() }", 0)]
#[case::private("pub(crate) fn f() -> Result<u8, E> { g() }", 0)]
#[case::hidden("#[doc(hidden)] pub fn f() -> Result<u8, E> { g() }", 0)]
#[case::of_a_trait("impl T for S { fn f() -> Result<u8, E> { g() } }", 0)]
#[case::asked_by_a_trait("pub trait T { fn f() -> Result<u8, E>; }", 1)]
fn a_failure_without_docs_is_seen(#[case] text: &str, #[case] count: usize) {
    let rule = tree::fallible_functions_document_errors;
    assert_eq!(
        lines_found(rule, "producer/src/producer.rs", text).len(),
        count
    );
    assert!(
        lines_found(rule, "producer/src/engine/x.rs", text).is_empty(),
        "hidden layer"
    );
}

#[rstest]
#[case::silent("impl P { pub async fn f(&self) {} }", 1)]
#[case::says("impl P {\n/// # Cancellation\npub async fn f(&self) {} }", 0)]
fn a_future_without_docs_is_seen(#[case] text: &str, #[case] count: usize) {
    let rule = tree::async_functions_document_cancellation;
    assert_eq!(
        lines_found(rule, "mockbroker/src/cluster.rs", text).len(),
        count
    );
}

#[rstest]
#[case("#[test]\n#[ignore]\nfn f() {}", 1)]
#[case("#[cfg_attr(miri, ignore = \"slow\")]\nfn f() {}", 1)]
#[case("// #[ignore]\nfn ignore() {}", 0)]
fn an_ignored_test_is_seen(#[case] text: &str, #[case] count: usize) {
    assert_eq!(
        lines_found(tree::no_test_is_ignored, "x.rs", text).len(),
        count
    );
}

#[rstest]
#[case(100, 0)]
#[case(101, 1)]
fn a_long_line_is_seen(#[case] columns: usize, #[case] count: usize) {
    let line = format!("//! {}", "é".repeat(columns - 4));
    assert_eq!(lines_found(tree::lines_fit, "x.rs", &line).len(), count);
    let table = format!("//! | {}", "e".repeat(columns));
    assert!(
        lines_found(tree::lines_fit, "x.rs", &table).is_empty(),
        "a table cannot be broken"
    );
}

fn function_of(lines: usize) -> RustFile {
    RustFile::parse(
        "x.rs",
        &format!("fn f() {{\n{}}}\n", "g();\n".repeat(lines - 2)),
    )
}

#[test]
fn a_long_function_is_seen_and_the_ratchet_holds() {
    let entry = Ratchet {
        path: "x.rs",
        function: "f",
        lines: 71,
    };
    assert!(
        tree::functions_fit(&[function_of(70)], &[]).is_empty(),
        "at the limit"
    );
    assert_eq!(
        tree::functions_fit(&[function_of(71)], &[]).len(),
        1,
        "above it"
    );
    assert!(
        tree::functions_fit(&[function_of(71)], &[entry]).is_empty(),
        "known"
    );
    assert_eq!(
        tree::functions_fit(&[function_of(72)], &[entry]).len(),
        1,
        "it grew"
    );
    assert_eq!(
        tree::functions_fit(&[function_of(70)], &[entry]).len(),
        1,
        "a stale entry"
    );
}

#[test]
fn a_long_file_is_seen() {
    let file = |lines| [RustFile::parse("x.rs", &"use a;\n// why\n\n".repeat(lines))];
    assert!(
        tree::files_fit(&file(500), &[]).is_empty(),
        "comments and blanks do not count"
    );
    assert_eq!(tree::files_fit(&file(501), &[]).len(), 1);
}

#[rstest]
#[case::drawer(tree::names_say_what_a_file_holds, "producer/src/utils.rs", "", 1)]
#[case::drawer_folder(tree::names_say_what_a_file_holds, "tests/common/mod.rs", "", 1)]
#[case::named(tree::names_say_what_a_file_holds, "producer/src/batch.rs", "", 0)]
#[case::marker(tree::no_open_ends, "x.md", concat!("a\n// TO", "DO: later"), 1)]
#[case::template(tree::no_open_ends, "x.sh", "mktemp XXXXXX", 0)]
#[case::home(tree::no_machine_paths, "x.sh", concat!("cd /ho", "me/someone"), 1)]
#[case::inside(tree::no_machine_paths, "x.md", concat!("see api/wo", "rk/x"), 0)]
fn a_bad_text_is_seen(
    #[case] rule: fn(&TextFile) -> Vec<Violation>,
    #[case] path: &str,
    #[case] text: &str,
    #[case] count: usize,
) {
    let file = TextFile {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    assert_eq!(rule(&file).len(), count);
}
