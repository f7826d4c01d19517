//! Which path does what.
//!
//! *Not here*: how it looks (`report.rs`).

use core::time::Duration;
use std::sync::Arc;

use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::query::Query;
use super::refusal::Refusal;
use super::report;
use super::{BODY_BYTES_MAX, Body, Control, follow, snapshots};
use crate::builder::install;
use crate::engine::time::Instant;
use crate::fault::{RULES_MAX, Rule, RuleId};
use crate::nearest;
use crate::scenario::{TimedMove, from_json};

/// A path with what stands in its place of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Index,
    State,
    Faults,
    Fault(RuleId),
    FaultWait(RuleId),
    Moves,
    Journal,
    JournalStream,
    Diagnostics,
    Snapshots,
    Snapshot(u64),
    SnapshotRestore(u64),
    Shutdown,
}

/// What there is, for the index and for whoever misses it.
const PATHS: &[&str] = &[
    "/",
    "/state",
    "/faults",
    "/faults/ID",
    "/faults/ID/wait",
    "/moves",
    "/journal",
    "/journal/stream",
    "/diagnostics",
    "/snapshots",
    "/snapshots/ID",
    "/snapshots/ID/restore",
    "/shutdown",
];

impl Route {
    fn of(path: &str) -> Result<Self, Refusal> {
        let trimmed = path.trim_matches('/');
        let mut parts = trimmed.split('/');
        let route = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(""), None, None, None) => Self::Index,
            (Some("state"), None, None, None) => Self::State,
            (Some("faults"), None, None, None) => Self::Faults,
            (Some("faults"), Some(id), None, None) => Self::Fault(rule_id(id)?),
            (Some("faults"), Some(id), Some("wait"), None) => Self::FaultWait(rule_id(id)?),
            (Some("moves"), None, None, None) => Self::Moves,
            (Some("journal"), None, None, None) => Self::Journal,
            (Some("journal"), Some("stream"), None, None) => Self::JournalStream,
            (Some("diagnostics"), None, None, None) => Self::Diagnostics,
            (Some("snapshots"), None, None, None) => Self::Snapshots,
            (Some("snapshots"), Some(id), None, None) => Self::Snapshot(snapshot_id(id)?),
            (Some("snapshots"), Some(id), Some("restore"), None) => {
                Self::SnapshotRestore(snapshot_id(id)?)
            }
            (Some("shutdown"), None, None, None) => Self::Shutdown,
            _ => {
                let mut help = format!("there is: {}", PATHS.join(" | "));
                if let Some(nearest) = nearest::name(path, PATHS) {
                    help = format!("the nearest is {nearest}; {help}");
                }
                return Err(Refusal::new(
                    StatusCode::NOT_FOUND,
                    "no such path",
                    path,
                    help,
                ));
            }
        };
        Ok(route)
    }

    const fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Faults | Self::Moves | Self::Snapshots => &["GET", "POST"],
            Self::Fault(_) => &["GET", "DELETE"],
            Self::Snapshot(_) => &["DELETE"],
            Self::SnapshotRestore(_) | Self::Shutdown => &["POST"],
            _ => &["GET"],
        }
    }
}

fn rule_id(text: &str) -> Result<RuleId, Refusal> {
    text.parse().map(RuleId).map_err(|_| {
        let what = format!("`{text}` is no rule's id");
        let help = "GET /faults lists them";
        Refusal::new(StatusCode::NOT_FOUND, what, "path", help)
    })
}

fn snapshot_id(text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| {
        let what = format!("`{text}` is no snapshot's id");
        let help = "GET /snapshots lists them";
        Refusal::new(StatusCode::NOT_FOUND, what, "path", help)
    })
}

fn no_rule(id: RuleId) -> Refusal {
    let what = format!("no rule {} is installed", id.0);
    Refusal::new(
        StatusCode::NOT_FOUND,
        what,
        "path",
        "GET /faults lists them",
    )
}

/// The answer to a request, whatever it is.
pub(super) async fn answer(control: &Control, request: Request<Incoming>) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = match Route::of(&path) {
        Ok(route) => route,
        Err(refusal) => return refuse(&refusal),
    };
    if !route.methods().contains(&method.as_str()) {
        let allowed = route.methods().join(", ");
        let what = format!("{method} is not for this path");
        let help = format!("allowed is {allowed}");
        let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, what, path, help);
        let mut response = refuse(&refusal);
        if let Ok(allowed) = HeaderValue::from_str(&allowed) {
            response.headers_mut().insert(ALLOW, allowed);
        }
        return response;
    }
    let answered = match method {
        Method::GET => read(control, route, request.uri().query()).await,
        Method::DELETE => remove(control, route, request.uri().query()),
        _ => act(control, route, request).await,
    };
    let response = answered.unwrap_or_else(|refusal| refuse(&refusal));
    tracing::debug!(%method, path, status = response.status().as_u16(), "control");
    response
}

async fn read(
    control: &Control,
    route: Route,
    query: Option<&str>,
) -> Result<Response<Body>, Refusal> {
    let mut query = Query::new(query);
    let value = match route {
        Route::Journal => {
            let from = query.number("from", 0)?;
            let max = query.number("max", JOURNAL_ENTRIES)?;
            query.end()?;
            let max = max.min(JOURNAL_ENTRIES_MAX);
            let slice = report::journal_slice(&control.driver, from, max);
            let forgotten = slice.first.saturating_sub(from);
            json!({"entries": slice.entries, "next": slice.next, "forgotten": forgotten})
        }
        Route::JournalStream => {
            let from = query.number("from", 0)?;
            query.end()?;
            let chunks = follow::journal(Arc::clone(&control.driver), from);
            let mut response = Response::new(Either::Right(chunks));
            let kind = HeaderValue::from_static("application/x-ndjson");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            return Ok(response);
        }
        Route::FaultWait(id) => {
            let hits = query.number("hits", 1)?;
            let timeout = query.duration("timeout", WAIT_DEFAULT)?;
            query.end()?;
            wait(control, id, hits, timeout).await?
        }
        Route::Fault(id) => {
            query.end()?;
            report::fault(control, id).ok_or_else(|| no_rule(id))?
        }
        _ => {
            query.end()?;
            match route {
                Route::State => report::state(control),
                Route::Faults => report::faults(control),
                Route::Moves => report::moves(control),
                Route::Diagnostics => report::diagnostics(control),
                Route::Snapshots => snapshots::list(control),
                _ => json!({"paths": PATHS}),
            }
        }
    };
    Ok(respond(StatusCode::OK, &value))
}

/// Waits until a rule has acted so often, and tells what it did.
async fn wait(
    control: &Control,
    id: RuleId,
    hits: u64,
    timeout: Duration,
) -> Result<Value, Refusal> {
    if timeout > WAIT_MAX {
        let help = "allowed is at most 10m";
        let what = "a longer wait than is given";
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            what,
            "query, timeout",
            help,
        ));
    }
    let reached = async {
        let mut news = control.driver.hits();
        loop {
            let fault = report::fault(control, id).ok_or_else(|| no_rule(id))?;
            let hits_now = control.driver.with(|engine, _| engine.rules().hits(id));
            // The sender lives in the driver.
            if hits_now >= hits || news.changed().await.is_err() {
                return Ok(fault);
            }
        }
    };
    match tokio::time::timeout(timeout, reached).await {
        Ok(fault) => fault,
        Err(_) => {
            let hits_now = control.driver.with(|engine, _| engine.rules().hits(id));
            let what = format!("rule {} has acted {hits_now} times, not {hits}", id.0);
            let help = "ask again, or with a longer timeout; GET /journal tells what was asked";
            Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                what,
                "time",
                help,
            ))
        }
    }
}

fn remove(control: &Control, route: Route, query: Option<&str>) -> Result<Response<Body>, Refusal> {
    Query::new(query).end()?;
    let removed = match route {
        Route::Fault(id) => {
            let fault = report::fault(control, id).ok_or_else(|| no_rule(id))?;
            control
                .driver
                .with(|engine, _| engine.rules_mut().remove(id));
            fault
        }
        Route::Snapshot(id) => snapshots::remove(control, id)?,
        // The methods of a path are checked before.
        _ => Value::Null,
    };
    Ok(respond(StatusCode::OK, &removed))
}

async fn act(
    control: &Control,
    route: Route,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    Query::new(request.uri().query()).end()?;
    match route {
        Route::Faults => {
            let rule: Rule = body(request).await?;
            tracing::info!(%rule, "a rule is installed over HTTP");
            let installed = control.driver.with(|engine, now| {
                let full = engine.rules().is_full();
                (!full).then(|| install(engine, rule, now))
            });
            let id = installed.ok_or_else(|| {
                let what = format!("{RULES_MAX} rules are installed, and no more can be");
                let help = "DELETE /faults/ID removes one";
                Refusal::new(StatusCode::CONFLICT, what, "body", help)
            })?;
            let fault = report::fault(control, id).ok_or_else(|| no_rule(id))?;
            Ok(respond(StatusCode::CREATED, &fault))
        }
        Route::Moves => {
            let TimedMove { at, to_make } = body(request).await?;
            tracing::info!(?at, ?to_make, "a move is asked for over HTTP");
            match at {
                None => {
                    control
                        .driver
                        .with(|engine, now| engine.make_move(&to_make, now))?;
                    Ok(respond(StatusCode::OK, &json!({"outcome": "made"})))
                }
                Some(at) => {
                    let planned = control
                        .driver
                        .with(|engine, _| engine.plan_move(to_make, Instant::ZERO + at));
                    planned.map_err(|error| {
                        let help = "make it at once, without `at`";
                        Refusal::new(StatusCode::CONFLICT, error.to_string(), "body", help)
                    })?;
                    Ok(respond(
                        StatusCode::ACCEPTED,
                        &json!({"outcome": "waiting"}),
                    ))
                }
            }
        }
        Route::Snapshots => Ok(respond(StatusCode::CREATED, &snapshots::take(control)?)),
        Route::SnapshotRestore(id) => {
            Ok(respond(StatusCode::OK, &snapshots::restore(control, id)?))
        }
        _ => {
            let shutdown = control.shutdown.clone();
            tokio::spawn(async move {
                // The answer leaves before the end comes.
                tokio::time::sleep(SHUTDOWN_DELAY).await;
                shutdown.send_replace(true);
            });
            Ok(respond(StatusCode::ACCEPTED, &json!({"shutdown": "asked"})))
        }
    }
}

/// The body, in the words of a scenario.
async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refusal> {
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX);
    let bytes = body.collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let help = format!("allowed is at most {BODY_BYTES_MAX} bytes");
            let what = "a body that is too large";
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, what, "body", help)
        } else {
            let what = format!("a body that ends early: {error}");
            Refusal::new(StatusCode::BAD_REQUEST, what, "body", "send it whole")
        }
    })?;
    Ok(from_json(&bytes.to_bytes())?)
}

fn respond(status: StatusCode, value: &Value) -> Response<Body> {
    let text = format!("{value:#}\n");
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(text))));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn refuse(refusal: &Refusal) -> Response<Body> {
    respond(refusal.status, &json!({"error": refusal}))
}

/// Entries that one answer has unless asked for another number.
const JOURNAL_ENTRIES: usize = 1_000;

/// Entries that one answer has at most; they are copied under the cluster's lock.
const JOURNAL_ENTRIES_MAX: usize = 10_000;

/// For the answer to whoever asks for the end.
const SHUTDOWN_DELAY: Duration = Duration::from_millis(20);

/// How long a wait takes at most unless said.
const WAIT_DEFAULT: Duration = Duration::from_secs(30);

/// How long it may be said to take.
const WAIT_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_served_and_described() {
        let described = include_str!("../../CONTROL.md");
        for path in PATHS {
            assert!(Route::of(&path.replace("ID", "7")).is_ok(), "{path}");
            let ends = ["`", "?"].map(|end| format!(" {path}{end}"));
            assert!(ends.iter().any(|end| described.contains(end)), "{path}");
        }
    }
}
