//! Pieces of work by the seed, each shrunk to what matters if it fails.
//!
//! `SEED` names one; `SEEDS` says how many, from 0. The first that fails is named with its error.

use std::collections::BTreeSet;
use std::sync::Mutex;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// What was met, by name.
pub(crate) type Met = Mutex<BTreeSet<&'static str>>;

/// How many seeds there are if nobody says, and how many things they meet in all.
pub(crate) struct Reach {
    pub(crate) seeds: u64,
    pub(crate) things: usize,
}

/// Has each seed's work carried out, in paused time; says what they met.
pub(crate) fn run<S: Strategy>(
    reach: Reach,
    work: impl Fn() -> S,
    carry_out: impl AsyncFn(S::Value, &Met) -> Result<(), TestCaseError>,
) -> String {
    let number = |name: &str| {
        let given = std::env::var(name).ok()?;
        Some(given.parse().unwrap_or_else(|_| panic!("{name}={given}")))
    };
    let only = number("SEED");
    let count = only.map_or_else(|| number("SEEDS").unwrap_or(reach.seeds), |_| 1);
    let first = only.unwrap_or(0);
    let met = Met::default();
    for seed in first..first + count {
        if let Err(error) = run_one(seed, &work(), &carry_out, &met) {
            panic!("SEED={seed}: {error}");
        }
    }
    let met = met.into_inner().unwrap();
    let all = only.is_some() || met.len() == reach.things;
    assert!(all, "something is never met: {met:?}");
    format!("{count} seeds: {met:?}")
}

/// One seed, one piece of work.
fn run_one<S: Strategy>(
    seed: u64,
    work: &S,
    carry_out: &impl AsyncFn(S::Value, &Met) -> Result<(), TestCaseError>,
    met: &Met,
) -> Result<(), TestError<S::Value>> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(config, random).run(work, |work| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(carry_out(work, met))
    })
}
