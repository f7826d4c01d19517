//! What programs do with transactions, and what befalls them, drawn.
//!
//! *Not here*: doing it, and what must hold (`public_transactions.rs`).

use std::time::Duration;

use kafka_mockbroker::engine::effect::BrokerId;
use kafka_mockbroker::engine::moves::Move;
use kafka_mockbroker::{Api, ErrorCode, Verdict};
use proptest::prelude::*;

use crate::mishaps::{BROKERS, Fault, PARTITIONS, of_cluster, silence};

/// Transactional ids.
pub(crate) const IDS: [&str; 2] = ["transfers", "payouts"];

/// What a program does, and what befalls the cluster.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// A transaction.
    Transact(Plan),
    /// Nothing.
    Rest(Duration),
    /// Somebody reads what counts.
    Look,
    /// Something goes wrong.
    Fault(Fault),
}

/// What a transaction is to have.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Partitions of its records, and how long to rest before each.
    pub(crate) sends: Vec<(i32, Duration)>,
    /// Whether an offset is sent with it.
    pub(crate) offset: bool,
    pub(crate) end: End,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Commit,
    /// The waiting for a commit is given up after a while.
    CommitFor(Duration),
    Abort,
    Drop,
}

/// What becomes of a producer when its list is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Farewell {
    Close,
    Drop,
    /// It stays, with whatever it has open.
    Stay,
}

/// One producer after the other, under one id.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) id: usize,
    pub(crate) begins_after: Duration,
    pub(crate) lives: Vec<(Vec<Deed>, Farewell)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) level: i16,
    pub(crate) linger_ms: u64,
    pub(crate) request_timeout_ms: u64,
    pub(crate) timeout_ms: u64,
    pub(crate) programs: Vec<Program>,
}

fn millis(most: u64) -> impl Strategy<Value = Duration> + Clone {
    (0..most).prop_map(Duration::from_millis)
}

fn plan() -> impl Strategy<Value = Plan> {
    let sends = prop::collection::vec((0..PARTITIONS, prop_oneof![millis(2), millis(800)]), 0..5);
    let end = prop_oneof![
        6 => Just(End::Commit),
        3 => prop_oneof![millis(3), millis(500)].prop_map(End::CommitFor),
        2 => Just(End::Abort),
        2 => Just(End::Drop),
    ];
    (sends, any::<bool>(), end).prop_map(|(sends, offset, end)| Plan { sends, offset, end })
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        8 => plan().prop_map(Deed::Transact),
        2 => millis(1_500).prop_map(Deed::Rest),
        2 => Just(Deed::Look),
        6 => fault().prop_map(Deed::Fault),
    ]
}

const ASKED: [Api; 10] = [
    Api::ApiVersions,
    Api::Metadata,
    Api::FindCoordinator,
    Api::InitProducerId,
    Api::AddPartitionsToTxn,
    Api::AddOffsetsToTxn,
    Api::TxnOffsetCommit,
    Api::Produce,
    Api::EndTxn,
    Api::EndTxn,
];

fn rule() -> impl Strategy<Value = Fault> {
    let busy = prop::sample::select(vec![14, 15, 16, 51]);
    let busy = busy.prop_map(|code| Verdict::Answer(ErrorCode(code)));
    // Coordinators are busy; leaders refuse records; an end may have been made though none knows.
    let by_coordinator = prop_oneof![3 => silence(), 2 => busy];
    let refused = Just(Verdict::Answer(ErrorCode::INVALID_RECORD));
    let by_leader = prop_oneof![6 => silence(), 1 => refused];
    let doubt = prop::sample::select(vec![15, 16]);
    let doubt = doubt.prop_map(|code| Verdict::ApplyThenAnswer(ErrorCode(code)));
    let ended = prop_oneof![4 => by_coordinator.clone(), 1 => doubt];
    let verdicts = (by_coordinator, by_leader, ended, silence());
    let api = prop::sample::select(ASKED.to_vec());
    (api, 1_u64..4, 1_u64..4, verdicts).prop_map(|(api, nth, count, verdicts)| Fault::Rule {
        api,
        nth,
        count,
        verdict: match api {
            Api::Produce => verdicts.1,
            Api::EndTxn => verdicts.2,
            Api::Metadata | Api::ApiVersions => verdicts.3,
            _ => verdicts.0,
        },
    })
}

fn fault() -> impl Strategy<Value = Fault> {
    let topic = || "orders".into();
    let hold = move |partition| Move::HoldMarkers {
        topic: topic(),
        partition,
    };
    let release = move |partition| Move::ReleaseMarkers {
        topic: topic(),
        partition,
    };
    let coordinator = |(id, broker): (&str, i32)| Move::MoveCoordinator {
        transactional_id: id.into(),
        broker: BrokerId(broker),
    };
    let own = prop_oneof![
        2 => (prop::sample::select(&IDS), 1..=BROKERS).prop_map(coordinator),
        1 => (0..PARTITIONS).prop_map(hold),
        1 => (0..PARTITIONS).prop_map(release),
        1 => Just(Move::SetTransactionVersion { level: 2 }),
    ];
    prop_oneof![
        6 => rule(),
        5 => own.prop_map(Fault::Move),
        8 => of_cluster(&[(Api::Metadata, 4, 13)]),
    ]
}

fn program() -> impl Strategy<Value = Program> {
    let farewell = prop_oneof![
        Just(Farewell::Close),
        Just(Farewell::Drop),
        Just(Farewell::Stay)
    ];
    let life = (prop::collection::vec(deed(), 0..8), farewell);
    let lives = prop::collection::vec(life, 1..4);
    (0..IDS.len(), millis(4_000), lives).prop_map(|(id, begins_after, lives)| Program {
        id,
        begins_after,
        lives,
    })
}

pub(crate) fn work() -> impl Strategy<Value = Work> {
    let settings = (0_i16..=2, 0_u64..20, 200_u64..2_000, 1_000_u64..20_000);
    let programs = prop::collection::vec(program(), 1..4);
    (settings, programs).prop_map(|(settings, programs)| Work {
        level: settings.0,
        linger_ms: settings.1,
        request_timeout_ms: settings.2,
        timeout_ms: settings.3,
        programs,
    })
}
