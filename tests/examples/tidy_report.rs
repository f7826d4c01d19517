//! Prints the tree's sizes: functions and files per crate, median and maximum.
//!
//! `cargo run -p promises --example tidy_report`
#![expect(clippy::print_stdout, reason = "a report is printed")]

use promises::tree::{RustFile, Tree};

fn main() {
    let tree = Tree::load();
    println!("| crate | files | lines of code | functions | median | max function | max file |");
    println!("|---|---|---|---|---|---|---|");
    for member in ["producer", "mockbroker", "conformance", "tests"] {
        let files: Vec<&RustFile> = tree
            .rust
            .iter()
            .filter(|file| file.path.split('/').next() == Some(member))
            .collect();
        println!("{}", row(member, &files));
    }
}

fn row(member: &str, files: &[&RustFile]) -> String {
    let mut functions: Vec<(usize, String)> = Vec::new();
    for file in files {
        for function in &file.functions {
            let name = format!("{}::{}", file.path, function.name);
            functions.push((function.lines.clone().count(), name));
        }
    }
    functions.sort();
    let median = functions
        .get(functions.len() / 2)
        .map_or(0, |(lines, _)| *lines);
    let (longest, name) = functions.last().cloned().unwrap_or_default();
    let code: usize = files.iter().map(|file| file.code_lines).sum();
    let largest = files.iter().max_by_key(|file| file.code_lines);
    let largest = largest.map_or(String::new(), |file| {
        format!("{} {}", file.code_lines, file.path)
    });
    format!(
        "| {member} | {} | {code} | {} | {median} | {longest} {name} | {largest} |",
        files.len(),
        functions.len()
    )
}
