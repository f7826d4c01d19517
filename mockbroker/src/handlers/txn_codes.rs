//! Codes of transactions as the versions of requests know them.
//!
//! *Source* apache/kafka `core/…/server/KafkaApis.scala`: PRODUCER_FENCED is told to those who know
//! it, INVALID_PRODUCER_EPOCH to those who do not (KIP-588).

use crate::error_code::ErrorCode;

/// Whether a client knows PRODUCER_FENCED.
pub(super) fn fencing_as_told(code: ErrorCode, knows_fencing: bool) -> ErrorCode {
    match code {
        ErrorCode::PRODUCER_FENCED if !knows_fencing => ErrorCode::INVALID_PRODUCER_EPOCH,
        code => code,
    }
}
