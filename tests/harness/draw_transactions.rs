//! What a seed means in the workloads with transactional ids: the jobs, the transactions, processes
//! that are replaced, and misfortunes that transactions have besides.
//!
//! *Not here*: the other workloads, and the misfortunes that all share (`draw.rs`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_mockbroker::engine::moves::Move;
use kafka_mockbroker::{Api, BrokerId, ErrorCode, Rule, Verdict};
use kafka_producer::Acks;
use kafka_producer::engine::Idempotence;

use crate::draw::{
    FAULT_LASTS_MAX, FAULTS_MAX, Workload, choose, draw_duration, draw_fault, draw_headers,
    draw_key, draw_lateness, draw_silence,
};
use crate::faults::{Fault, Place, Plan, PlannedSend, Step};
use crate::history::transactions::Copying;
use crate::jobs::ACCOUNTS;
use crate::setting::Setting;
use crate::traps::When;
use crate::worker::{Bracketing, Job, PlannedTransaction, Predecessor, Upgrade, Wish, Work};
use crate::world::ClientNumber;

/// Where copies go.
pub(crate) const COPIES: &str = "copies";

/// The plan of a seed.
pub(crate) fn draw(workload: Workload, seed: u64) -> Plan {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut misfortune = fastrand::Rng::with_seed(seed ^ 0x5bd1_e995_cafe_f00d);
    let mut setting = Workload::Idempotent.draw_setting(seed, &mut random);
    (setting.acks, setting.idempotence) = (Acks::All, Idempotence::Enabled);
    setting.producers = 0;
    if workload == Workload::Copy {
        // A copy is larger than its original.
        setting.message_bytes_max = None;
    }
    // Drawn apart, so that it changes nothing of the other seeds.
    if fastrand::Rng::with_seed(seed.rotate_left(23)).u8(..4) == 0 {
        setting.lateness = draw_lateness(seed);
        // Each step towards a broker that is well again may be late.
        setting.delivery_timeout += setting.lateness.margin();
    }
    let bracketing = draw_bracketing(workload, &setting, &mut random);
    setting
        .topics
        .extend(topics_of(workload, &setting, &mut random));
    setting.transactions = Some(bracketing.clone());
    let mut steps = draw_faults(&setting, &bracketing, &mut misfortune);
    steps.extend(draw_replacements(&bracketing, &mut misfortune));
    steps.extend(draw_work(&setting, &bracketing, &mut random));
    if let Upgrade::At(at) = bracketing.upgrade {
        let raised = Move::SetTransactionVersion { level: 2 };
        steps.push((at, Step::Fault(Fault::Move(raised))));
    }
    steps.sort_by_key(|(at, _)| *at);
    Plan { setting, steps }
}

fn draw_bracketing(
    workload: Workload,
    setting: &Setting,
    random: &mut fastrand::Rng,
) -> Bracketing {
    let level = match workload {
        // Below version 2 they are one and the same to a producer.
        Workload::TransactionsOfVersionOne => i16::from(random.u8(..8) > 0),
        Workload::Transactions => 2,
        _ => random.choice([2, 2, 1]).unwrap_or(2),
    };
    let upgrade = match level < 2 && random.u8(..3) == 0 {
        true => Upgrade::At(draw_duration(random, Duration::ZERO, Plan::FAULTS_END)),
        false => Upgrade::Never,
    };
    let copying = Copying {
        group: "copiers".into(),
        from: Arc::from(setting.topics[0].0),
        to: COPIES.into(),
    };
    let jobs = match workload {
        Workload::Copy => vec![("feeder", Job::Planned), ("copier", Job::Copy(copying))],
        Workload::Bank => vec![("bank", Job::Bank(random.usize(3..=6)))],
        _ => {
            let both = [("transfers", Job::Planned), ("payouts", Job::Planned)];
            both[..random.usize(1..=2)].to_vec()
        }
    };
    let millis = |random: &mut fastrand::Rng, range| Duration::from_millis(random.u64(range));
    Bracketing {
        jobs,
        timeout: millis(random, 1_000..=20_000),
        scan_interval: millis(random, 200..=2_000),
        level,
        upgrade,
        block_max: setting.request_timeout,
    }
}

fn topics_of(
    workload: Workload,
    setting: &Setting,
    random: &mut fastrand::Rng,
) -> Option<(&'static str, i32, i16)> {
    match workload {
        Workload::Copy => Some((COPIES, setting.topics[0].1, 3)),
        Workload::Bank => Some((ACCOUNTS, random.i32(1..=3), 3)),
        _ => None,
    }
}

fn draw_work(
    setting: &Setting,
    bracketing: &Bracketing,
    random: &mut fastrand::Rng,
) -> Vec<(Duration, Step)> {
    let count = random.usize(1..=TRANSACTIONS_MAX);
    let last = draw_duration(random, Duration::from_millis(1), Plan::FAULTS_END);
    let work = (0..count).filter_map(|number| {
        let id = random.usize(..bracketing.jobs.len());
        let work = match bracketing.jobs[id].1 {
            Job::Copy(_) => return None,
            Job::Planned => draw_records(setting, number, random),
            Job::Bank(accounts) => draw_transfer(accounts, random),
        };
        let pauses = [Duration::ZERO, SHORT_PAUSE, bracketing.timeout / 3];
        let longest = random.choice(pauses).unwrap_or_default();
        let planned = PlannedTransaction {
            id,
            work,
            pause: draw_duration(random, Duration::ZERO, longest),
            wish: match random.u8(..10) {
                0 => Wish::Drop,
                1 | 2 => Wish::Abort,
                _ => Wish::Commit,
            },
        };
        let at = draw_duration(random, Duration::ZERO, last);
        Some((at, Step::Transaction(planned)))
    });
    work.collect()
}

fn draw_records(setting: &Setting, number: usize, random: &mut fastrand::Rng) -> Work {
    let count = random.usize(0..=RECORDS_MAX);
    let topics = setting.topics.iter();
    let topics: Vec<_> = topics.filter(|(topic, ..)| *topic != COPIES).collect();
    let send = |at: usize| {
        let (topic, partitions, _) = topics[random.usize(..topics.len())];
        let key = random.bool().then(|| draw_key(random));
        let place = match key {
            Some(_) if random.bool() => Place::ByKey(*partitions),
            _ => Place::Named(random.i32(0..*partitions)),
        };
        let padding = "x".repeat(random.usize(0..200));
        PlannedSend {
            client: ClientNumber(0),
            topic: Arc::from(*topic),
            place,
            key,
            value: Bytes::from(format!("{number}/{at} {padding}")),
            headers: draw_headers(random),
        }
    };
    let sends: Vec<PlannedSend> = (0..count).map(send).collect();
    let too_large = (count > 0 && random.u8(..12) == 0).then(|| random.usize(..count));
    Work::Records(sends, too_large)
}

fn draw_transfer(accounts: usize, random: &mut fastrand::Rng) -> Work {
    let from = random.usize(..accounts);
    Work::Transfer {
        from,
        to: (from + random.usize(1..accounts)) % accounts,
        amount: random.i64(1..=20),
    }
}

/// Processes that are killed, or thought to be, and followed by others.
fn draw_replacements(bracketing: &Bracketing, random: &mut fastrand::Rng) -> Vec<(Duration, Step)> {
    let count = random.usize(0..=REPLACEMENTS_MAX);
    let replacement = |_| {
        let at = draw_duration(random, Duration::ZERO, Plan::FAULTS_END);
        let id = random.usize(..bracketing.jobs.len());
        let predecessor = match random.bool() {
            true => Predecessor::Killed,
            false => Predecessor::Zombie,
        };
        (at, Step::Replace(id, predecessor))
    };
    (0..count).map(replacement).collect()
}

fn draw_faults(
    setting: &Setting,
    bracketing: &Bracketing,
    random: &mut fastrand::Rng,
) -> Vec<(Duration, Step)> {
    let count = random.usize(0..=FAULTS_MAX);
    let fault = |_| {
        let at = draw_duration(random, Duration::ZERO, Plan::FAULTS_END);
        let fault = match random.bool() {
            true => draw_own_fault(setting, bracketing, random),
            false => draw_shared_fault(setting, random),
        };
        (at, Step::Fault(fault))
    };
    (0..count).map(fault).collect()
}

/// One that other workloads have too; but without brokers so old that transactions are refused.
fn draw_shared_fault(setting: &Setting, random: &mut fastrand::Rng) -> Fault {
    match draw_fault(setting, random) {
        Fault::Move(Move::RestrictVersions { broker, max, .. }) => {
            Fault::Move(Move::RestrictVersions {
                broker,
                api: Api::Metadata,
                min: 0,
                max: max.max(4),
            })
        }
        other => other,
    }
}

fn draw_own_fault(setting: &Setting, bracketing: &Bracketing, random: &mut fastrand::Rng) -> Fault {
    let lasts = draw_duration(random, Duration::from_millis(1), FAULT_LASTS_MAX);
    let api = random.choice(APIS).unwrap_or(Api::EndTxn);
    match random.u8(..10) {
        0 | 1 => {
            let when = match random.bool() {
                true => When::Before,
                false => When::After,
            };
            Fault::CrashOver(api, when, lasts)
        }
        2 | 3 => Fault::Strand(api, lasts),
        4 => {
            let (id, _) = bracketing.jobs[random.usize(..bracketing.jobs.len())];
            Fault::Move(Move::MoveCoordinator {
                transactional_id: id.into(),
                broker: BrokerId(random.i32(1..=setting.brokers)),
            })
        }
        5 | 6 => {
            let partitions: Vec<_> = setting.partitions().collect();
            let (topic, partition) = partitions[random.usize(..partitions.len())].clone();
            Fault::Move(match random.bool() {
                true => Move::HoldMarkers { topic, partition },
                false => Move::ReleaseMarkers { topic, partition },
            })
        }
        _ => Fault::Rule(draw_rule(api, random)),
    }
}

fn draw_rule(api: Api, random: &mut fastrand::Rng) -> Rule {
    let verdict = match random.u8(..4) {
        // Codes that clients of coordinators get while these change, load, or are busy.
        0 if api != Api::Produce => Verdict::Answer(choose(&BUSY, random)),
        1 if api == Api::EndTxn => Verdict::ApplyThenAnswer(choose(&BUSY[..2], random)),
        _ => draw_silence(random),
    };
    Rule::on(api)
        .nth(random.u64(1..=4))
        .count(random.u64(1..=3))
        .then(verdict)
}

/// What a producer with a transactional id asks.
const APIS: [Api; 9] = [
    Api::FindCoordinator,
    Api::InitProducerId,
    Api::AddPartitionsToTxn,
    Api::AddOffsetsToTxn,
    Api::TxnOffsetCommit,
    Api::Produce,
    Api::EndTxn,
    Api::EndTxn,
    Api::EndTxn,
];

/// The first two may be answered although the step was made.
const BUSY: [ErrorCode; 4] = [
    ErrorCode::COORDINATOR_NOT_AVAILABLE,
    ErrorCode::NOT_COORDINATOR,
    ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode::CONCURRENT_TRANSACTIONS,
];

const TRANSACTIONS_MAX: usize = 20;
const RECORDS_MAX: usize = 5;
const REPLACEMENTS_MAX: usize = 3;
const SHORT_PAUSE: Duration = Duration::from_millis(100);
