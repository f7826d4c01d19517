//! `PARITY.md` names what this crate has; here its names are looked up.
//!
//! *Not here*: the table of keys, which `config/keys.rs` keeps true.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

const PARITY: &str = include_str!("../PARITY.md");

/// All sources of the crate as one text.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &std::fs::read_to_string(&path).expect("a source");
        }
    }
    text
}

/// What the last column of the API's table names.
fn named() -> BTreeSet<&'static str> {
    let (_, api) = PARITY.split_once("## API").expect("its section");
    let (api, _) = api.split_once("\n## ").expect("the next one");
    let columns = api.lines().filter_map(|line| line.rsplit('|').nth(1));
    columns
        .flat_map(|column| column.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn every_name_in_the_table_of_the_api_exists() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let named = named();
    assert!(named.len() > 25, "{named:?}");
    for name in named {
        let (item, method) = name.split_once("::").unwrap_or((name, ""));
        let is = |kind: &str| {
            let declared = [" ", "<", ";", "(", ":"].map(|next| format!("pub {kind} {item}{next}"));
            declared.iter().any(|words| sources.contains(words))
        };
        assert!(
            is("struct") || is("enum") || is("trait"),
            "no {item} for {name}"
        );
        let has = |next: &str| sources.contains(&format!("fn {method}{next}"));
        let found = method.is_empty() || has("(") || has("<");
        assert!(found, "no {name}");
    }
}

#[test]
fn every_no_says_why() {
    let (_, rest) = PARITY.split_once("## API").expect("its section");
    let unexplained = rest.lines().filter(|line| line.contains("| no |"));
    assert_eq!(unexplained.count(), 0);
    assert!(!rest.contains("no: not yet"), "that says when, and not why");
    let explained = rest.lines().filter(|line| line.contains("| no: ")).count();
    assert!(explained > 5, "{explained}");
}
