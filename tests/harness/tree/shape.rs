//! Rules about size, names and leftovers.

use super::{RustFile, TextFile, Violation};

/// Lines of a function, from `fn` to its closing brace.
pub const FUNCTION_LINES_MAX: usize = 70;
/// Lines of code in a file.
pub const FILE_LINES_MAX: usize = 500;
/// Characters of a line.
pub const LINE_COLUMNS_MAX: usize = 100;

/// A known excess: it may shrink, and must leave the list when it is none any more.
#[derive(Clone, Copy, Debug)]
pub struct Ratchet {
    /// The file.
    pub path: &'static str,
    /// The function, or empty for the file as a whole.
    pub function: &'static str,
    /// Its lines now.
    pub lines: usize,
}

/// A function fits a screen.
#[must_use]
pub fn functions_fit(files: &[RustFile], known: &[Ratchet]) -> Vec<Violation> {
    const RULE: &str = "a function has at most 70 lines, so that it is seen whole";
    let sizes = files.iter().flat_map(|file| {
        file.functions.iter().map(|function| Size {
            path: &file.path,
            function: &function.name,
            line: *function.lines.start(),
            lines: function.lines.clone().count(),
        })
    });
    exceeding(sizes, FUNCTION_LINES_MAX, known, RULE)
}

/// A file is about one thing.
#[must_use]
pub fn files_fit(files: &[RustFile], known: &[Ratchet]) -> Vec<Violation> {
    const RULE: &str = "a file has at most 500 lines of code (comments, blanks and test modules \
                        aside): a longer one holds two things";
    let sizes = files.iter().map(|file| Size {
        path: &file.path,
        function: "",
        line: 1,
        lines: file.code_lines,
    });
    exceeding(sizes, FILE_LINES_MAX, known, RULE)
}

struct Size<'a> {
    path: &'a str,
    function: &'a str,
    line: usize,
    lines: usize,
}

/// Sizes above the limit that the list does not know, and entries of the list that are not true.
fn exceeding<'a>(
    sizes: impl Iterator<Item = Size<'a>>,
    limit: usize,
    known: &[Ratchet],
    rule: &'static str,
) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut unused: Vec<&Ratchet> = known.iter().collect();
    for size in sizes.filter(|size| size.lines > limit) {
        let matches = |entry: &&Ratchet| entry.path == size.path && entry.function == size.function;
        let entry = unused.iter().position(matches).map(|at| unused.remove(at));
        if entry.is_none_or(|entry| entry.lines != size.lines) {
            let noted = entry.map_or(String::new(), |entry| {
                format!(", listed with {}", entry.lines)
            });
            found.push(Violation {
                path: size.path.to_owned(),
                line: size.line,
                found: format!("{} {} lines{noted}", size.function, size.lines)
                    .trim()
                    .to_owned(),
                rule,
            });
        }
    }
    found.extend(unused.into_iter().map(|entry| Violation {
        path: entry.path.to_owned(),
        line: 1,
        found: format!(
            "{} is on the ratchet list and within its limit",
            entry.function
        ),
        rule: "the ratchet list may only shrink: take the entry out",
    }));
    found
}

/// A line is read without scrolling. Tables and addresses in comments cannot be broken.
#[must_use]
pub fn lines_fit(file: &RustFile) -> Vec<Violation> {
    const RULE: &str = "a line has at most 100 columns, so that two files stand side by side";
    let unbreakable = |line: &str| {
        let comment = line.trim_start().strip_prefix("//");
        comment.is_some_and(|rest| {
            let rest = rest.trim_start_matches(['/', '!', ' ']);
            rest.starts_with('|') || rest.contains("https://")
        })
    };
    let lines = file.text.lines().enumerate();
    let long =
        lines.filter(|(_, line)| line.chars().count() > LINE_COLUMNS_MAX && !unbreakable(line));
    long.map(|(at, line)| Violation {
        path: file.path.clone(),
        line: at + 1,
        found: format!("{} columns", line.chars().count()),
        rule: RULE,
    })
    .collect()
}

/// A test runs or does not exist.
#[must_use]
pub fn no_test_is_ignored(file: &RustFile) -> Vec<Violation> {
    const RULE: &str = "no test is ignored: a known wrong behaviour is asserted with its reason";
    let ignored = file.attributes.iter().filter(|(word, _)| word == "ignore");
    ignored
        .map(|(_, line)| Violation {
            path: file.path.clone(),
            line: *line,
            found: "an ignored test".to_owned(),
            rule: RULE,
        })
        .collect()
}

/// A file is named for the thing it holds.
#[must_use]
pub fn names_say_what_a_file_holds(file: &TextFile) -> Vec<Violation> {
    const RULE: &str = "no file or folder is a drawer for whatever: name the thing it holds";
    const DRAWERS: [&str; 8] = [
        "utils", "util", "misc", "common", "helpers", "helper", "issues", "sweep",
    ];
    let drawer = |part: &str| DRAWERS.contains(&part.split('.').next().unwrap_or_default());
    let is_drawer = file.path.split('/').any(drawer);
    let violation = |_| Violation {
        path: file.path.clone(),
        line: 1,
        found: "a name that says nothing".to_owned(),
        rule: RULE,
    };
    is_drawer.then_some(()).map(violation).into_iter().collect()
}

/// What is written is finished.
#[must_use]
pub fn no_open_ends(file: &TextFile) -> Vec<Violation> {
    const RULE: &str = "nothing in the tree is left open: finish it, or describe the limit where \
                        a reader looks for it";
    // Put together here so that the list does not find itself.
    const MARKERS: [&str; 3] = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let marks = |line: &str| {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|word| MARKERS.contains(&word))
    };
    lines_that(file, marks, RULE)
}

/// The tree means the same on every machine; an image's own paths are the same everywhere.
#[must_use]
pub fn no_machine_paths(file: &TextFile) -> Vec<Violation> {
    const RULE: &str = "no path of one machine stands in the tree: it is right there alone";
    const ROOTS: [&str; 4] = [
        concat!("/wo", "rk/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("/ro", "ot/"),
    ];
    if file.path.starts_with("compose/image/") {
        return Vec::new();
    }
    let begins_path = |before: &str| !before.ends_with(|c: char| c.is_alphanumeric() || c == '.');
    let local = |line: &str| {
        ROOTS.iter().any(|root| {
            line.match_indices(root)
                .any(|(at, _)| begins_path(&line[..at]))
        })
    };
    lines_that(file, local, RULE)
}

fn lines_that(file: &TextFile, bad: impl Fn(&str) -> bool, rule: &'static str) -> Vec<Violation> {
    let lines = file.text.lines().enumerate().filter(|(_, line)| bad(line));
    lines
        .map(|(at, line)| Violation {
            path: file.path.clone(),
            line: at + 1,
            found: line.trim().to_owned(),
            rule,
        })
        .collect()
}
