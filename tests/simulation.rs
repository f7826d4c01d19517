//! Seeds by the hundred: random sends, random faults, and the oracle after each run.
//!
//! `SEED=17 cargo test -p promises --test simulation` runs one seed and prints its trace;
//! `SEEDS=5000` runs as many, from `FIRST_SEED` (0 when it is not given).

use std::time::Instant;

use promises::faults::{Plan, Run, run, shrink};

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
