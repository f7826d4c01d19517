//! What stands behind the `?` of a path.

use core::str::FromStr;
use core::time::Duration;

use hyper::StatusCode;

use super::refusal::Refusal;
use crate::duration_form;

/// Parameters by name; those that nobody asked for are refused at the end.
#[derive(Debug)]
pub(super) struct Query<'q> {
    parameters: Vec<(&'q str, &'q str)>,
    asked: Vec<&'static str>,
}

impl<'q> Query<'q> {
    pub(super) fn new(text: Option<&'q str>) -> Self {
        let parameters = text.unwrap_or_default().split('&');
        let parameters = parameters.filter(|parameter| !parameter.is_empty());
        Self {
            parameters: parameters
                .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
                .collect(),
            asked: Vec::new(),
        }
    }

    fn take(&mut self, name: &'static str) -> Option<&'q str> {
        self.asked.push(name);
        let index = self
            .parameters
            .iter()
            .position(|(found, _)| *found == name)?;
        Some(self.parameters.remove(index).1)
    }

    /// A whole number; `default` where it is not given.
    pub(super) fn number<N: FromStr>(
        &mut self,
        name: &'static str,
        default: N,
    ) -> Result<N, Refusal> {
        let Some(text) = self.take(name) else {
            return Ok(default);
        };
        text.parse()
            .map_err(|_| bad(name, text, "a whole number from 0 on"))
    }

    pub(super) fn duration(
        &mut self,
        name: &'static str,
        default: Duration,
    ) -> Result<Duration, Refusal> {
        let Some(text) = self.take(name) else {
            return Ok(default);
        };
        duration_form::parse(text).ok_or_else(|| bad(name, text, duration_form::ALLOWED))
    }

    /// Refuses what nobody asked for.
    pub(super) fn end(self) -> Result<(), Refusal> {
        let Some((name, _)) = self.parameters.first() else {
            return Ok(());
        };
        let help = match self.asked.as_slice() {
            [] => "this path has no parameters".to_owned(),
            asked => format!("allowed is: {}", asked.join(" | ")),
        };
        let what = format!("no such parameter, or twice: `{name}`");
        Err(Refusal::new(StatusCode::BAD_REQUEST, what, "query", help))
    }
}

fn bad(name: &str, text: &str, allowed: &str) -> Refusal {
    let what = format!("found `{text}`");
    let help = format!("allowed is {allowed}");
    Refusal::new(
        StatusCode::BAD_REQUEST,
        what,
        format!("query, {name}"),
        help,
    )
}
