//! The source tree as a value: every tracked text file, the Rust ones parsed.
//!
//! *Not here*: what the files have to keep (`rules`), how one Rust file is read (`rust_file`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

mod documents;
mod layers;
mod rust_file;
mod shape;

pub use documents::{
    async_functions_document_cancellation, engine_machines_explain_themselves,
    fallible_functions_document_errors, files_open_with_docs,
};
pub use layers::{
    crates_stay_apart, layers_point_one_way, protocol_crate_stays_in_its_adapters,
    pure_layers_stay_pure, tests_do_not_sleep,
};
pub use rust_file::{Function, RustFile, UsedPath};
pub use shape::{
    FILE_LINES_MAX, FUNCTION_LINES_MAX, LINE_COLUMNS_MAX, Ratchet, files_fit, functions_fit,
    lines_fit, names_say_what_a_file_holds, no_machine_paths, no_open_ends, no_test_is_ignored,
};

/// A place where a rule is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The file, from the root of the tree.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// What stands there.
    pub found: String,
    /// What must hold, and why.
    pub rule: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}\n    {}",
            self.path, self.line, self.found, self.rule
        )
    }
}

/// A tracked text file.
#[derive(Clone, Debug)]
pub struct TextFile {
    /// From the root of the tree, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
}

/// Every file that git tracks or would track.
#[derive(Debug)]
pub struct Tree {
    /// Text files, sorted by path.
    pub texts: Vec<TextFile>,
    /// The Rust files among them, parsed.
    pub rust: Vec<RustFile>,
}

impl Tree {
    /// Reads the tree in which this crate stands.
    ///
    /// # Panics
    ///
    /// When git does not answer or a Rust file cannot be parsed.
    #[must_use]
    pub fn load() -> Self {
        let root = root();
        let mut texts = Vec::new();
        for path in git_files(&["--cached", "--others", "--exclude-standard"]) {
            // A file deleted but not yet committed is listed and gone; a binary is not text.
            if let Ok(text) = std::fs::read_to_string(root.join(&path)) {
                texts.push(TextFile { path, text });
            }
        }
        texts.sort_by(|a, b| a.path.cmp(&b.path));
        let rust = texts.iter().filter(|file| file.path.ends_with(".rs"));
        let mut rust: Vec<RustFile> = rust
            .map(|file| RustFile::parse(&file.path, &file.text))
            .collect();
        mark_test_files(&mut rust);
        Self { texts, rust }
    }

    /// What a rule over Rust files finds.
    pub fn check(&self, rule: impl Fn(&RustFile) -> Vec<Violation>) -> Vec<Violation> {
        self.rust.iter().flat_map(rule).collect()
    }

    /// What a rule over text files finds.
    pub fn check_texts(&self, rule: impl Fn(&TextFile) -> Vec<Violation>) -> Vec<Violation> {
        self.texts.iter().flat_map(rule).collect()
    }
}

/// Marks the files of modules that are declared for tests only, and all below them.
fn mark_test_files(files: &mut [RustFile]) {
    let modules: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let folder = file.submodule_folder();
            file.test_files
                .iter()
                .map(move |name| format!("{folder}/{name}"))
        })
        .collect();
    for file in files {
        let belongs = |module: &String| {
            let rest = file.path.strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        file.declared_test = modules.iter().any(belongs);
    }
}

/// Paths that `git ls-files` tells, from the root of the tree.
///
/// # Panics
///
/// When git does not answer: without the list there is nothing to judge.
#[must_use]
pub fn git_files(options: &[&str]) -> Vec<String> {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files"])
        .args(options)
        .current_dir(root())
        .output()
        .expect("git answers: the tree is a clone");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "git lists the tree's files: {complaint}"
    );
    let listing = String::from_utf8(output.stdout).expect("paths are UTF-8");
    listing.lines().map(str::to_owned).collect()
}

fn root() -> PathBuf {
    let member = Path::new(env!("CARGO_MANIFEST_DIR"));
    member
        .parent()
        .expect("the member stands in the workspace")
        .to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_declared_for_tests_makes_its_files_tests() {
        let declares = "#[cfg(test)]\nmod scenario;\nmod queue;";
        let mut files = [
            RustFile::parse("a/src/engine/mod.rs", declares),
            RustFile::parse("a/src/engine/scenario.rs", ""),
            RustFile::parse("a/src/engine/scenario/chaos.rs", ""),
            RustFile::parse("a/src/engine/queue.rs", declares),
            RustFile::parse("a/src/engine/queue/scenario.rs", ""),
            RustFile::parse("a/src/engine/scenarios.rs", ""),
        ];
        mark_test_files(&mut files);
        let marked = files.map(|file| file.declared_test);
        assert_eq!(marked, [false, true, true, false, true, false]);
    }
}
