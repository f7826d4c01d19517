//! What a program does with a producer and what befalls it, drawn.
//!
//! *Not here*: doing it, and what must hold (`public_api.rs`).

use std::time::Duration;

use kafka_mockbroker::{Api, ErrorCode, Verdict};
use proptest::prelude::*;

use crate::mishaps::{Fault, PARTITIONS, of_cluster, silence};

/// What a program does, and what befalls it.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// A record is sent, and its delivery awaited at the end.
    Send { partition: i32, bytes: usize },
    /// A record is sent, and its delivery dropped.
    SendAndForget { partition: i32, bytes: usize },
    /// A record is sent, and a function called with its fate.
    SendWith { partition: i32, bytes: usize },
    /// A record is sent if that needs no waiting.
    TrySend { partition: i32, bytes: usize },
    /// A record is sent, and the sending given up after a while.
    SendFor { partition: i32, within: Duration },
    /// A record is sent, and its delivery awaited at once.
    Deliver { partition: i32 },
    /// Everything is flushed.
    Flush,
    /// The same, given up after a while.
    FlushFor(Duration),
    /// Nothing.
    Rest(Duration),
    /// A rule acts in the cluster until the end of faults.
    Fault(Fault),
    /// The producer is closed, in so much time.
    Close(Duration),
}

/// A producer and those who work with it.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) idempotent: bool,
    pub(crate) linger_ms: u64,
    pub(crate) batch_bytes: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) in_flight: u32,
    pub(crate) request_timeout_ms: u64,
    pub(crate) hands: Vec<Vec<Deed>>,
    /// Whether the last handle is dropped without a close.
    pub(crate) is_dropped: bool,
}

fn deed() -> impl Strategy<Value = Deed> {
    let (partition, bytes) = (0..PARTITIONS, 0_usize..300);
    let record = (partition.clone(), bytes);
    let while_ms = (0_u64..400).prop_map(Duration::from_millis);
    prop_oneof![
        8 => record.clone().prop_map(|(partition, bytes)| Deed::Send { partition, bytes }),
        3 => record.clone().prop_map(|(partition, bytes)| Deed::SendAndForget { partition, bytes }),
        3 => record.clone().prop_map(|(partition, bytes)| Deed::SendWith { partition, bytes }),
        2 => record.prop_map(|(partition, bytes)| Deed::TrySend { partition, bytes }),
        2 => (partition.clone(), while_ms.clone())
            .prop_map(|(partition, within)| Deed::SendFor { partition, within }),
        1 => partition.prop_map(|partition| Deed::Deliver { partition }),
        1 => Just(Deed::Flush),
        1 => while_ms.clone().prop_map(Deed::FlushFor),
        2 => while_ms.prop_map(Deed::Rest),
        3 => fault().prop_map(Deed::Fault),
        1 => (0_u64..3_000).prop_map(|ms| Deed::Close(Duration::from_millis(ms))),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    let code = prop::sample::select(vec![3, 6, 7, 19, 20, 56, 59, -1])
        .prop_map(|code| Verdict::Answer(ErrorCode(code)));
    let late = Just(Verdict::ApplyThenAnswer(ErrorCode::REQUEST_TIMED_OUT));
    let verdict = prop_oneof![3 => silence(), 2 => code, 1 => late];
    let produce = (1_u64..4, 1_u64..4, verdict).prop_map(|(nth, count, verdict)| Fault::Rule {
        api: Api::Produce,
        nth,
        count,
        verdict: honest(verdict),
    });
    let question = prop::sample::select(vec![Api::Metadata, Api::InitProducerId, Api::ApiVersions]);
    let question = (question, 1_u64..3, silence()).prop_map(|(api, count, verdict)| Fault::Rule {
        api,
        nth: 1,
        count,
        verdict,
    });
    prop_oneof![
        6 => produce,
        2 => question,
        6 => of_cluster(&DOWNGRADES),
    ]
}

const DOWNGRADES: [(Api, i16, i16); 3] = [
    (Api::Produce, 3, 13),
    (Api::Metadata, 4, 13),
    (Api::InitProducerId, 0, 5),
];

/// No broker does not know how far a batch got without taking it. (45 would be a lie about a batch
/// that it has, 46 about one that it refuses.)
fn honest(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Answer(ErrorCode(7 | 20 | 56 | -1) | ErrorCode::NONE) => {
            Verdict::ApplyThenAnswer(code_of(verdict))
        }
        other => other,
    }
}

fn code_of(verdict: Verdict) -> ErrorCode {
    match verdict {
        Verdict::Answer(code) | Verdict::ApplyThenAnswer(code) => code,
        _ => ErrorCode::NONE,
    }
}

pub(crate) fn work() -> impl Strategy<Value = Work> {
    let hands = prop::collection::vec(prop::collection::vec(deed(), 0..25), 1..4);
    let settings = (any::<bool>(), 0_u64..30, 0_u32..2_000, 4_000_u64..40_000);
    let limits = (1_u32..=5, 200_u64..3_000, any::<bool>());
    (settings, limits, hands).prop_map(|(settings, limits, hands)| Work {
        idempotent: settings.0,
        linger_ms: settings.1,
        batch_bytes: settings.2,
        memory_bytes: settings.3,
        in_flight: limits.0,
        request_timeout_ms: limits.1,
        is_dropped: limits.2,
        hands,
    })
}

impl Work {
    /// Whether nothing goes wrong, and nobody ends it early.
    pub(crate) fn is_quiet(&self) -> bool {
        let disturbs = |deed: &Deed| matches!(deed, Deed::Fault(_) | Deed::Close(_));
        !self.hands.iter().flatten().any(disturbs)
    }
}
