//! Every error code with which a broker may answer a batch, and every past of that batch: what is
//! done, what the past is from then on, and what a record's error says should it end so.
//!
//! The batch is the first open one of its partition, nothing stands behind it, and the answer tells
//! no offset; the other circumstances are tried in `engine/verdict.rs`.
//!
//! *Source*: the codes and their exceptions are those of Kafka 4.3.1 (`Errors`); each group names
//! what decides it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::partition::History::{self, NeverLeft, PossiblyWritten, Refused};
use crate::engine::verdict::Then::{self, Acknowledge, Ask, Fail, Restart, Retry, Split};
use crate::engine::verdict::{first_in_line, judge};
use crate::error::{ErrorCode, Failure, FailureKind, Fault};
use crate::produce_error::{Certainty, ProduceError};
use crate::types::BrokerId;

/// Codes that mean the same.
struct Group {
    /// Where Kafka says so.
    source: &'static str,
    codes: &'static [i16],
    /// For a batch that never left before, was refused before, is possibly written: the next step,
    /// and the past from then on.
    steps: [(Then, History); 3],
    told: Told,
}

/// What an error says that ends with such a code.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It is no error.
    Success,
    /// Whose fault it is; the record may be sent again.
    MayRetry(Fault),
    /// Whose fault it is; sent again it fails again.
    ForGood(Fault),
}

const PASTS: [History; 3] = [NeverLeft, Refused, PossiblyWritten];

/// Sent again; what the past was stays, and this attempt is refused.
const AGAIN: [(Then, History); 3] = [(Retry, Refused), (Retry, Refused), (Retry, PossiblyWritten)];
/// Sent again; this attempt may be in the log.
const AGAIN_PERHAPS_WRITTEN: [(Then, History); 3] = [(Retry, PossiblyWritten); 3];
/// Ended; what the past was stays.
const ENDED: [(Then, History); 3] = [(Fail, Refused), (Fail, Refused), (Fail, PossiblyWritten)];

const TABLE: &[Group] = &[
    Group {
        source: "Sender.completeBatch: success; 46 comes from brokers other than Apache's",
        codes: &[0, 46],
        steps: [(Acknowledge, PossiblyWritten); 3],
        told: Told::Success,
    },
    Group {
        source: "InvalidMetadataException before the append (ReplicaManager, Partition); 75 is \
                 retriable alone",
        codes: &[3, 5, 6, 9, 72, 74, 75, 100, 103],
        steps: AGAIN,
        told: Told::MayRetry(Fault::Broker),
    },
    Group {
        source: "InvalidMetadataException that says nothing of the log; 80, 83 and 84 answer no \
                 Produce of Apache's",
        codes: &[13, 56, 80, 83, 84],
        steps: AGAIN_PERHAPS_WRITTEN,
        told: Told::MayRetry(Fault::Broker),
    },
    Group {
        source: "RetriableException before the append (UnifiedLog, Partition)",
        codes: &[2, 19, 51, 89],
        steps: AGAIN,
        told: Told::MayRetry(Fault::Broker),
    },
    Group {
        source: "RetriableException after the append (DelayedProduce)",
        codes: &[7, 20],
        steps: AGAIN_PERHAPS_WRITTEN,
        told: Told::MayRetry(Fault::Broker),
    },
    Group {
        source: "RetriableException that answers no Produce of Apache's: Sender.canRetry takes it",
        codes: &[14, 15, 16, 41, 70, 71, 78, 88, 106, 122, 123, 133],
        steps: AGAIN_PERHAPS_WRITTEN,
        told: Told::MayRetry(Fault::Broker),
    },
    Group {
        source: "TransactionManager.canRetry: OUT_OF_ORDER_SEQUENCE; ProducerAppendInfo: the last \
                 batch is always recognised, so no earlier attempt was appended",
        codes: &[45],
        steps: [(Restart, Refused); 3],
        told: Told::MayRetry(Fault::Broker),
    },
    Group {
        source: "TransactionManager.canRetry: UNKNOWN_PRODUCER_ID (KIP-360); with the state went \
                 what an earlier attempt left",
        codes: &[59],
        steps: [
            (Restart, Refused),
            (Restart, Refused),
            (Fail, PossiblyWritten),
        ],
        told: Told::MayRetry(Fault::Broker),
    },
    Group {
        source: "ApiException for the record, its topic or a permission, before the append",
        codes: &[17, 18, 21, 29, 31, 32, 42, 43, 44, 53, 76, 87],
        steps: ENDED,
        told: Told::ForGood(Fault::Caller),
    },
    Group {
        source: "Sender.completeBatch: MESSAGE_TOO_LARGE splits, but not what may be in the log",
        codes: &[10],
        steps: [(Split, Refused), (Split, Refused), (Fail, PossiblyWritten)],
        told: Told::ForGood(Fault::Caller),
    },
    Group {
        source: "ApiException for the producer's id, epoch or transaction, before the append",
        codes: &[47, 48, 49, 90, 120],
        steps: ENDED,
        told: Told::MayRetry(Fault::Broker),
    },
    Group {
        source: "KafkaApis: the version is refused before anything is read",
        codes: &[35],
        steps: ENDED,
        told: Told::ForGood(Fault::Broker),
    },
    Group {
        source: "ApiException of other requests, UNKNOWN_SERVER_ERROR, and codes newer than 4.3 \
                 (Errors.forCode): not retriable, and nothing says how far the broker got",
        codes: &[
            -1,
            1,
            4,
            8,
            11,
            12,
            22,
            23,
            24,
            25,
            26,
            27,
            28,
            30,
            33,
            34,
            36,
            37,
            38,
            39,
            40,
            50,
            52,
            54,
            55,
            57,
            58,
            60,
            61,
            62,
            63,
            64,
            65,
            66,
            67,
            68,
            69,
            73,
            77,
            79,
            81,
            82,
            85,
            86,
            91,
            92,
            93,
            94,
            95,
            96,
            97,
            98,
            99,
            101,
            102,
            104,
            105,
            107,
            108,
            109,
            110,
            111,
            112,
            113,
            114,
            115,
            116,
            117,
            118,
            119,
            121,
            124,
            125,
            126,
            127,
            128,
            129,
            130,
            131,
            132,
            // Unknown: the next one, and those at the ends.
            134,
            9999,
            i16::MIN,
            i16::MAX,
        ],
        steps: [(Ask, PossiblyWritten); 3],
        told: Told::MayRetry(Fault::Broker),
    },
];

#[test]
fn every_code_of_kafka_stands_in_the_table_once() {
    let mut seen = BTreeSet::new();
    for code in TABLE.iter().flat_map(|group| group.codes) {
        assert!(seen.insert(*code), "{code} stands twice");
    }
    let missing = ErrorCode::KNOWN
        .iter()
        .filter(|code| !seen.contains(&code.0));
    assert_eq!(missing.collect::<Vec<_>>(), [] as [&ErrorCode; 0]);
}

#[test]
fn each_code_means_for_each_past_what_the_table_says() {
    for group in TABLE {
        for code in group.codes {
            for (history, expected) in PASTS.into_iter().zip(group.steps) {
                let verdict = judge(ErrorCode(*code), || first_in_line(history));
                let met = (verdict.then, verdict.history);
                assert_eq!(met, expected, "{code} after {history:?}: {}", group.source);
            }
        }
    }
}

/// Whose fault it is, whether to send again, whether it may be written, and all circumstances.
#[test]
fn an_error_with_a_code_answers_what_a_caller_must_know() {
    for group in TABLE {
        for code in group.codes.iter().map(|code| ErrorCode(*code)) {
            for certainty in [Certainty::NotWritten, Certainty::Unknown] {
                let error = ended_with(code, certainty);
                let told = match error.may_retry() {
                    true => Told::MayRetry(error.fault()),
                    false => Told::ForGood(error.fault()),
                };
                let is_right = group.told == Told::Success || group.told == told;
                assert!(is_right, "{code}: {:?}: {}", error.fault(), group.source);
                assert_eq!(error.possibly_written(), certainty == Certainty::Unknown);
                assert_eq!(error.broker_code(), Some(code));
                let place = (error.topic(), error.partition());
                assert_eq!(place, ("orders", Some(4)));
                let certainly = match certainty {
                    Certainty::NotWritten => "not written",
                    Certainty::Unknown => "possibly written",
                };
                let text = format!(
                    "topic orders, partition 4: refused by the broker, code {code}, broker 2, \
                     sent 3 times: words; {certainly}"
                );
                assert_eq!(error.to_string(), text);
            }
        }
    }
}

fn ended_with(code: ErrorCode, certainty: Certainty) -> ProduceError {
    let failure = Failure {
        broker: Some(BrokerId(2)),
        attempts: 3,
        message: Some(Arc::from("words")),
        ..Failure::new(FailureKind::Refused(code))
    };
    ProduceError::failed(failure, certainty, &Arc::from("orders"), Some(4))
}
