//! Rules about what a file and a public function say of themselves.

use super::{Function, RustFile, Violation};

/// Every file says in its first line what it is.
#[must_use]
pub fn files_open_with_docs(file: &RustFile) -> Vec<Violation> {
    const RULE: &str = "a file opens with `//!`: what it holds, before how";
    if file.text.starts_with("//!") && !file.docs.trim().is_empty() {
        return Vec::new();
    }
    let found = file
        .text
        .lines()
        .next()
        .unwrap_or("an empty file")
        .to_owned();
    vec![Violation {
        path: file.path.clone(),
        line: 1,
        found,
        rule: RULE,
    }]
}

/// A machine's file draws its states, numbers its invariants, names its source and its limits.
///
/// A machine is a file in `engine/` with a public method `handle_*`, `on_*` or `poll_*`, or with an
/// enum named `…State` or `…Phase`. `engine/mod.rs` joins the machines and has no states itself.
#[must_use]
pub fn engine_machines_explain_themselves(file: &RustFile) -> Vec<Violation> {
    const RULE: &str = "a machine's file has *State* (drawn in a ``` block), *Invariants* \
                        (numbered from 1), *Source* and *Not here*: the reader checks the code \
                        against them";
    if !is_machine(file) {
        return Vec::new();
    }
    let state = section(&file.docs, "*State*");
    let invariants = section(&file.docs, "*Invariants*");
    let lacks = [
        (
            "State, drawn",
            state.is_some_and(|text| text.contains("```")),
        ),
        (
            "Invariants, numbered",
            invariants.is_some_and(|text| text.contains("1. ")),
        ),
        ("Source", section(&file.docs, "*Source*").is_some()),
        ("Not here", section(&file.docs, "*Not here*").is_some()),
    ];
    let missing = lacks.into_iter().filter(|(_, stands)| !stands);
    missing
        .map(|(name, _)| Violation {
            path: file.path.clone(),
            line: 1,
            found: format!("a machine without its section {name}"),
            rule: RULE,
        })
        .collect()
}

fn is_machine(file: &RustFile) -> bool {
    let mut parts = file.path.split('/').skip(1);
    let in_engine = parts.next() == Some("src")
        && parts
            .next()
            .is_some_and(|layer| layer.trim_end_matches(".rs") == "engine");
    let reacts = |function: &Function| {
        let prefixes = ["handle_", "on_", "poll_"];
        let named = prefixes
            .iter()
            .any(|prefix| function.name.starts_with(prefix));
        named && function.method && function.public && !file.is_test(*function.lines.start())
    };
    let states = |name: &String| name.ends_with("State") || name.ends_with("Phase");
    let joins = file.path.ends_with("engine/mod.rs");
    in_engine && !joins && (file.functions.iter().any(reacts) || file.enums.iter().any(states))
}

/// The docs from a section's title to the next one.
fn section<'a>(docs: &'a str, title: &str) -> Option<&'a str> {
    let start = docs.find(title)? + title.len();
    let rest = &docs[start..];
    let titles = ["*State*", "*Invariants*", "*Source*", "*Not here*"];
    let end = titles
        .iter()
        .filter_map(|next| rest.find(next))
        .min()
        .unwrap_or(rest.len());
    Some(&rest[..end])
}

/// What may fail says how.
#[must_use]
pub fn fallible_functions_document_errors(file: &RustFile) -> Vec<Violation> {
    const RULE: &str = "a public function that returns a Result has a section `# Errors`: the \
                        caller decides by it whether to try again";
    lacking(file, RULE, |function| {
        function.fallible && !function.docs.contains("# Errors")
    })
}

/// What may be dropped half-way says what then.
#[must_use]
pub fn async_functions_document_cancellation(file: &RustFile) -> Vec<Violation> {
    const RULE: &str = "a public async function has a section `# Cancellation`: dropping a future \
                        must never surprise";
    lacking(file, RULE, |function| {
        function.asynchronous && !function.docs.contains("# Cancellation")
    })
}

fn lacking(file: &RustFile, rule: &'static str, bad: fn(&Function) -> bool) -> Vec<Violation> {
    if !is_public_api(&file.path) {
        return Vec::new();
    }
    let faults = file
        .functions
        .iter()
        .filter(|function| function.public && bad(function));
    faults
        .map(|function| Violation {
            path: file.path.clone(),
            line: *function.lines.start(),
            found: format!("pub fn {}", function.name),
            rule,
        })
        .collect()
}

/// Root files of a crate and its `config` folder; the layers below are hidden from the docs.
fn is_public_api(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(
        parts.as_slice(),
        ["producer" | "mockbroker" | "conformance", "src", _]
    ) || matches!(parts.as_slice(), [_, "src", "config", _])
}
