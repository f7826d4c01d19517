//! What every caller is promised: an end, in time, and nothing that stays behind.

use super::{Case, Law, Named, Verdict};
use crate::history::transactions::{Instance, TransactionOp, TransactionOutcome};
use crate::history::{Ending, Leftovers, SendOp};

pub(super) fn each_send_ends_once(case: &Case<'_>, verdict: &mut Verdict) {
    for send in case
        .history
        .sends
        .iter()
        .filter(|send| send.resolutions.len() != 1)
    {
        let endings = &send.resolutions;
        verdict.witness(
            Law::P1SingleResolution,
            format!("{}: {endings:?}", Named(send)),
        );
    }
}

pub(super) fn each_send_ends_in_time(case: &Case<'_>, verdict: &mut Verdict) {
    for send in &case.history.sends {
        let Some(resolution) = send.resolutions.first() else {
            continue;
        };
        let took = resolution.at.saturating_sub(send.at);
        if took > case.history.promises.resolved_within {
            verdict.witness(Law::P2Deadline, format!("{} took {took:?}", Named(send)));
        }
    }
}

pub(super) fn flushes_are_complete(case: &Case<'_>, verdict: &mut Verdict) {
    for flush in &case.history.flushes {
        let Some(returned) = flush.returned else {
            continue;
        };
        let before = &case.history.sends[..flush.accepted_before.min(case.history.sends.len())];
        let own = before.iter().filter(|send| send.producer == flush.producer);
        for send in own {
            let ended = send.resolutions.first();
            if ended.is_none_or(|ended| ended.order >= returned.resolved_before) {
                verdict.witness(
                    Law::P3FlushComplete,
                    format!("{} was open when {flush:?} returned", Named(send)),
                );
            }
        }
    }
}

pub(super) fn nothing_stays_behind(case: &Case<'_>, verdict: &mut Verdict) {
    if let Some(left) = case.history.left
        && left != Leftovers::default()
    {
        verdict.witness(Law::P4CloseComplete, format!("{left:?} after the close"));
    }
}

pub(super) fn what_is_sound_works(case: &Case<'_>, verdict: &mut Verdict) {
    let Some(liveness) = case.history.promises.liveness else {
        return;
    };
    // Of processes under one id all but the newest are fenced.
    let instances = &case.history.transactions.instances;
    let superseded = |producer: u32| {
        let own = instances.iter().find(|one| one.producer == producer);
        own.is_some_and(|own| {
            let newer = |one: &Instance| one.id == own.id && one.producer > producer;
            instances.iter().any(newer)
        })
    };
    let later = |send: &&SendOp| send.at >= liveness.from && !superseded(send.producer);
    for send in case.history.sends.iter().filter(later) {
        let end = send.resolutions.first();
        let written = end.filter(|end| matches!(end.ending, Ending::Written(_)));
        let took = written.map(|end| end.at.saturating_sub(send.at));
        if took.is_none_or(|took| took > liveness.within) {
            let within = liveness.within;
            verdict.witness(
                Law::P5Liveness,
                format!(
                    "{} is not written within {within:?} of soundness",
                    Named(send)
                ),
            );
        }
    }
    let later = |one: &TransactionOp| one.begun_at >= liveness.from && !superseded(one.producer);
    for (number, transaction) in case.transactions().filter(|(_, one)| later(one)) {
        let committed = transaction.outcome == TransactionOutcome::Committed;
        let told_at = transaction.told_at.filter(|_| committed);
        let took = told_at.map(|at| at.saturating_sub(transaction.begun_at));
        if took.is_none_or(|took| took > liveness.within) {
            let within = liveness.within;
            let says = format!("transaction {number} is not committed within {within:?}");
            verdict.witness(Law::P5Liveness, format!("{says}: {transaction:?}"));
        }
    }
}
