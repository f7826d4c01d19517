//! Snapshots that somebody asked for over HTTP, by number.
//!
//! *Invariants*
//! 1. A number is never used twice.
//! 2. At most [`SNAPSHOTS_MAX`] are kept; another one is refused, and none is forgotten.
//!
//! *Not here*: what a snapshot holds (`handlers/cluster_engine/snapshots.rs`).

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Control;
use super::refusal::Refusal;
use crate::Snapshot;

/// Snapshots that are kept.
pub(super) const SNAPSHOTS_MAX: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Snapshots {
    kept: BTreeMap<u64, Snapshot>,
    next: u64,
}

fn snapshots(control: &Control) -> MutexGuard<'_, Snapshots> {
    // Nothing in here panics half-way.
    let kept = control.snapshots.lock();
    kept.unwrap_or_else(PoisonError::into_inner)
}

fn told(number: u64, snapshot: &Snapshot) -> Value {
    json!({"snapshot": number, "taken_at_ns": snapshot.taken_at().as_nanos()})
}

/// Takes one.
pub(super) fn take(control: &Control) -> Result<Value, Refusal> {
    let mut snapshots = snapshots(control);
    if snapshots.kept.len() >= SNAPSHOTS_MAX {
        let what = format!("{SNAPSHOTS_MAX} snapshots are kept, and no more can be");
        let help = "DELETE /snapshots/ID gives room";
        return Err(Refusal::new(StatusCode::CONFLICT, what, "path", help));
    }
    let snapshot = control.driver.with(|engine, now| engine.snapshot(now));
    let number = snapshots.next;
    snapshots.next += 1;
    let value = told(number, &snapshot);
    snapshots.kept.insert(number, snapshot);
    Ok(value)
}

/// Those that are kept.
pub(super) fn list(control: &Control) -> Value {
    let snapshots = snapshots(control);
    let kept = snapshots.kept.iter();
    let kept: Vec<Value> = kept.map(|(number, kept)| told(*number, kept)).collect();
    json!({"snapshots": kept})
}

/// Goes back to one; it is kept, to go back to it again.
pub(super) fn restore(control: &Control, number: u64) -> Result<Value, Refusal> {
    let snapshot = snapshots(control).kept.get(&number).cloned();
    let snapshot = snapshot.ok_or_else(|| unknown(number))?;
    let restored = control
        .driver
        .with(|engine, now| engine.restore(&snapshot, now));
    restored.map_err(|error| {
        let help = "nothing has changed";
        Refusal::new(StatusCode::CONFLICT, error.to_string(), "path", help)
    })?;
    Ok(told(number, &snapshot))
}

/// Forgets one.
pub(super) fn remove(control: &Control, number: u64) -> Result<Value, Refusal> {
    let removed = snapshots(control).kept.remove(&number);
    let removed = removed.ok_or_else(|| unknown(number))?;
    Ok(told(number, &removed))
}

fn unknown(number: u64) -> Refusal {
    let what = format!("no snapshot {number} is kept");
    let help = "GET /snapshots lists them";
    Refusal::new(StatusCode::NOT_FOUND, what, "path", help)
}
