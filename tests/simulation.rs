//! Seeds by the hundred: random sends, random faults, and the oracle after each run.
//!
//! `SEED=17 cargo test -p promises --test simulation` runs one seed and prints its trace;
//! `SEEDS=5000` runs as many, from `FIRST_SEED` (0 when it is not given).

use std::collections::BTreeMap;
use std::time::Instant;

use promises::faults::{Plan, Run, run, shrink};
use promises::history::{Ending, History, SendOp};

/// Seeds that `make test` runs.
const SEEDS: u64 = 300;

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={value} is no number")),
    )
}

/// The complaint about a seed, with all that is needed to understand and repeat it.
fn report(seed: u64, plan: &Plan) -> String {
    let smallest = shrink(plan);
    let Run {
        world, complaint, ..
    } = run(&smallest);
    let lines = world.trace().lines();
    let tail = &lines[lines.len().saturating_sub(TRACE_LINES_SHOWN)..];
    format!(
        "seed {seed}: {}\n{smallest}{}\nrepeat: SEED={seed} cargo test -p promises --test \
         simulation",
        complaint.unwrap_or_default(),
        tail.join("\n")
    )
}

const TRACE_LINES_SHOWN: usize = 150;

#[test]
fn every_seed_keeps_every_promise() {
    let only = number("SEED");
    let first = only.or_else(|| number("FIRST_SEED")).unwrap_or(0);
    let count = only.map_or_else(|| number("SEEDS").unwrap_or(SEEDS), |_| 1);
    let started = Instant::now();
    let mut sends = 0;
    for seed in first..first + count {
        let plan = Plan::draw(seed);
        let outcome = run(&plan);
        sends += outcome.history.sends.len();
        if only.is_some() {
            println!("{plan}{}", outcome.world.trace());
        }
        assert!(outcome.complaint.is_none(), "{}", report(seed, &plan));
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{count} seeds, {sends} sends, {:.0} seeds/s",
        count as f64 / seconds
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..20 {
        let plan = Plan::draw(seed);
        let (first, second) = (run(&plan), run(&plan));
        assert_eq!(
            first.world.trace().lines(),
            second.world.trace().lines(),
            "seed {seed}"
        );
    }
}

#[test]
fn different_seeds_give_different_traces() {
    let hashes: std::collections::BTreeSet<u64> = (0..20)
        .map(|seed| run(&Plan::draw(seed)).world.trace().hash())
        .collect();
    assert_eq!(hashes.len(), 20);
}

/// What a run met, by name.
fn met(run: &Run) -> Vec<&'static str> {
    let History {
        sends, wire, logs, ..
    } = &run.history;
    let retried = wire
        .iter()
        .enumerate()
        .any(|(at, batch)| wire[..at].contains(batch));
    let ended =
        |wanted: fn(&Ending) -> bool| sends.iter().any(|send| send.ending().is_some_and(wanted));
    let found = |words: &str| {
        run.world
            .trace()
            .lines()
            .iter()
            .any(|line| line.contains(words))
    };
    let stands = |send: &SendOp| {
        let log = logs.get(&send.partition).into_iter().flatten();
        log.into_iter()
            .any(|entry| entry.content.value == send.content.value)
    };
    // The end of all faults makes every link fast again.
    let lines = run.world.trace().lines().iter();
    let mut delays = lines.filter(|line| line.contains("DelayReplication"));
    let slow = delays.any(|line| !line.contains("delay: 0ns"));
    let unknown = |send: &&SendOp| matches!(send.ending(), Some(Ending::Unknown(_)));
    let unknown_and_written = sends.iter().filter(unknown).any(stands);
    let unknown_and_absent = sends.iter().filter(unknown).any(|send| !stands(send));
    [
        ("a batch sent again", retried),
        (
            "a record written",
            ended(|ending| matches!(ending, Ending::Written(Some(_)))),
        ),
        (
            "a record not written",
            ended(|ending| matches!(ending, Ending::NotWritten(_))),
        ),
        ("an unknown record that was written", unknown_and_written),
        ("an unknown record that was not", unknown_and_absent),
        ("a new epoch", wire.iter().any(|batch| batch.epoch > 0)),
        ("a lost connection", found("Disconnected")),
        ("a refused connection", found("ConnectFailed")),
        ("a connection given up", found("is given up")),
        ("a crash", found("CrashBroker")),
        ("a broker cut off", found("IsolateBroker")),
        ("a slow follower", slow),
        ("two requests in flight", run.history.in_flight_most > 1),
    ]
    .into_iter()
    .filter_map(|(name, met)| met.then_some(name))
    .collect()
}

#[test]
fn a_hundred_seeds_meet_what_they_are_for() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..100 {
        for name in met(&run(&Plan::draw(seed))) {
            *counts.entry(name).or_default() += 1;
        }
    }
    println!("of a hundred seeds: {counts:#?}");
    assert_eq!(counts.len(), 13, "something is never met: {counts:?}");
}
