//! What is wrong with a scenario: where, what was found, what is allowed, what is near.

use core::fmt;
use std::path::{Path, PathBuf};

use super::document::{Complaint, Problem, Step};
use super::place::Place;

/// A scenario, or a rule or a move of it, that cannot be.
///
/// ```
/// use kafka_mockbroker::MockCluster;
///
/// let text = "cluster:\n  broker: 3\n";
/// let error = MockCluster::builder().scenario_str(text).unwrap_err();
/// assert_eq!((error.line(), error.column()), (Some(2), Some(3)));
/// assert_eq!(error.key_path(), "cluster.broker");
/// assert_eq!(error.nearest(), Some("brokers"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError(Box<Details>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Details {
    file: Option<PathBuf>,
    place: Option<Place>,
    key_path: String,
    found: String,
    allowed: Option<String>,
    nearest: Option<&'static str>,
}

impl ScenarioError {
    pub(crate) fn new(complaint: Complaint, place: Option<Place>) -> Self {
        let near = |found: &str, known| crate::nearest::name(found, known);
        let (found, allowed, nearest) = match complaint.problem {
            Problem::UnknownKey { found, known } => (
                "no such key".to_owned(),
                Some(one_of(&found, known)),
                near(&found, known),
            ),
            Problem::UnknownWord { found, known } => (
                format!("`{}` is unknown", shortened(&found)),
                Some(one_of(&found, known)),
                near(&found, known),
            ),
            Problem::BadValue { found, allowed } => {
                (format!("found {}", shortened(&found)), Some(allowed), None)
            }
            Problem::Missing { key } => (format!("the key {key} is missing"), None, None),
            Problem::Text(text) => (text, None, None),
        };
        Self(Box::new(Details {
            file: None,
            place,
            key_path: key_path(&complaint.path.unwrap_or_default()),
            found,
            allowed,
            nearest,
        }))
    }

    pub(crate) fn syntax(text: String, place: Option<Place>) -> Self {
        let problem = Problem::Text(text);
        let complaint = Complaint {
            path: None,
            part: super::document::Part::Value,
            problem,
        };
        Self::new(complaint, place)
    }

    pub(crate) fn in_file(mut self, file: &Path) -> Self {
        self.0.file = Some(file.to_owned());
        self
    }

    /// The line, counted from 1; `None` where the text has none, as a file that cannot be read.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.0.place.map(|place| place.line)
    }

    /// The column, counted from 1.
    #[must_use]
    pub fn column(&self) -> Option<usize> {
        self.0.place.map(|place| place.column)
    }

    /// The keys that lead there, such as `faults[0].then`; empty for the whole text.
    #[must_use]
    pub fn key_path(&self) -> &str {
        &self.0.key_path
    }

    /// What is wrong: what was found.
    #[must_use]
    pub fn found(&self) -> &str {
        &self.0.found
    }

    /// What is allowed there, if that is not the message itself.
    #[must_use]
    pub fn allowed(&self) -> Option<&str> {
        self.0.allowed.as_deref()
    }

    /// The known name that is nearest to an unknown one, if one is near.
    #[must_use]
    pub fn nearest(&self) -> Option<&'static str> {
        self.0.nearest
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.0.file {
            write!(out, "{}: ", file.display())?;
        }
        if let Some(Place { line, column }) = self.0.place {
            write!(out, "line {line}, column {column}: ")?;
        }
        if !self.0.key_path.is_empty() {
            write!(out, "{}: ", self.0.key_path)?;
        }
        out.write_str(&self.0.found)?;
        if let Some(nearest) = self.0.nearest {
            write!(out, "; the nearest is {nearest}")?;
        }
        if let Some(allowed) = &self.0.allowed {
            write!(out, "; allowed is {allowed}")?;
        }
        Ok(())
    }
}

impl core::error::Error for ScenarioError {}

/// All of them, or of many the nearest.
fn one_of(found: &str, known: &'static [&'static str]) -> String {
    if known.len() <= NAMES_MAX {
        return format!("one of: {}", known.join(" | "));
    }
    let nearest = crate::nearest::names(found, known);
    let nearest: Vec<&str> = nearest.iter().map(|(_, name)| *name).take(5).collect();
    let (count, nearest) = (known.len(), nearest.join(" | "));
    format!("one of {count} names, such as {nearest}")
}

/// So many names are listed.
const NAMES_MAX: usize = 30;

/// Long texts of a document do not become long messages.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

const TEXT_CHARS_MAX: usize = 80;

/// The path as people write it; its last step comes first.
fn key_path(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path.iter().rev() {
        match step {
            Step::Index(index) => text.push_str(&format!("[{index}]")),
            // Kafka's keys have dots of their own.
            Step::Key(key) if key.contains('.') => text.push_str(&format!("[\"{key}\"]")),
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
        }
    }
    shortened_path(text)
}

fn shortened_path(text: String) -> String {
    match text.char_indices().nth(PATH_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

const PATH_CHARS_MAX: usize = 400;
