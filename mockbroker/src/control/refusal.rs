//! What a request is refused with: what is wrong, where, and what to do.

use hyper::StatusCode;
use serde::Serialize;

use crate::engine::MoveError;
use crate::scenario::ScenarioError;

/// A refusal.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    #[serde(skip)]
    pub(super) status: StatusCode,
    /// What is wrong.
    what: String,
    /// Where: a path, a place in the body, a parameter.
    r#where: String,
    /// What to do.
    help: String,
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        what: impl Into<String>,
        place: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            status,
            what: what.into(),
            r#where: place.into(),
            help: help.into(),
        }
    }
}

impl From<ScenarioError> for Refusal {
    fn from(error: ScenarioError) -> Self {
        let place = match (error.line(), error.column()) {
            (Some(line), Some(column)) => format!("body, line {line}, column {column}"),
            _ => "body".to_owned(),
        };
        let place = match error.key_path() {
            "" => place,
            path => format!("{place}, {path}"),
        };
        let mut help = Vec::new();
        if let Some(nearest) = error.nearest() {
            help.push(format!("the nearest is {nearest}"));
        }
        if let Some(allowed) = error.allowed() {
            help.push(format!("allowed is {allowed}"));
        }
        if help.is_empty() {
            help.push("SCENARIO.md lists the words".to_owned());
        }
        Self::new(
            StatusCode::BAD_REQUEST,
            error.found(),
            place,
            help.join("; "),
        )
    }
}

impl From<MoveError> for Refusal {
    fn from(error: MoveError) -> Self {
        let help = "GET /state tells what there is; nothing has changed";
        Self::new(StatusCode::CONFLICT, error.to_string(), "body", help)
    }
}
