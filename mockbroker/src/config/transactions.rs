//! Configuration of coordinators of transactions, by Kafka's names.
//!
//! *Source*: `TransactionStateManagerConfig`, `TransactionLogConfig` of apache/kafka 4.3.

use super::{BrokerConfig, ConfigError, assign, boolean};

/// How a broker coordinates transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionConfig {
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`: how often transactions are
    /// looked for that are open for too long; at least 1.
    pub abort_timed_out_interval_ms: i32,
    /// `transaction.max.timeout.ms`: the longest time-out that a producer may ask for; at least 1.
    pub max_timeout_ms: i32,
    /// `transaction.partition.verification.enable`: whether a batch of an older client is stored
    /// only if its partition has joined the transaction.
    pub partition_verification_enable: bool,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`: how often transactional ids
    /// are looked for that are idle; at least 1.
    pub remove_expired_interval_ms: i32,
    /// `transactional.id.expiration.ms`: how long an idle transactional id is known; at least 1.
    pub id_expiration_ms: i32,
}

impl Default for TransactionConfig {
    fn default() -> Self {
        Self {
            abort_timed_out_interval_ms: 10_000,
            max_timeout_ms: 900_000,
            partition_verification_enable: true,
            remove_expired_interval_ms: 3_600_000,
            id_expiration_ms: 604_800_000,
        }
    }
}

const ABORT_TIMED_OUT_INTERVAL: &str =
    "transaction.abort.timed.out.transaction.cleanup.interval.ms";
const MAX_TIMEOUT: &str = "transaction.max.timeout.ms";
const PARTITION_VERIFICATION: &str = "transaction.partition.verification.enable";
const REMOVE_EXPIRED_INTERVAL: &str = "transaction.remove.expired.transaction.cleanup.interval.ms";
const ID_EXPIRATION: &str = "transactional.id.expiration.ms";

impl TransactionConfig {
    /// Sets one key.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let number = match key {
            ABORT_TIMED_OUT_INTERVAL => &mut self.abort_timed_out_interval_ms,
            MAX_TIMEOUT => &mut self.max_timeout_ms,
            PARTITION_VERIFICATION => {
                self.partition_verification_enable = boolean(key, value)?;
                return Ok(());
            }
            REMOVE_EXPIRED_INTERVAL => &mut self.remove_expired_interval_ms,
            ID_EXPIRATION => &mut self.id_expiration_ms,
            _ => return Err(ConfigError::unknown_key(key, value, BrokerConfig::KEYS)),
        };
        assign(number, key, value, 1..=i32::MAX)
    }

    /// The value of a key as Kafka prints it; `None` for another's key.
    pub(super) fn value(&self, key: &str) -> Option<String> {
        let number = match key {
            ABORT_TIMED_OUT_INTERVAL => self.abort_timed_out_interval_ms,
            MAX_TIMEOUT => self.max_timeout_ms,
            PARTITION_VERIFICATION => return Some(self.partition_verification_enable.to_string()),
            REMOVE_EXPIRED_INTERVAL => self.remove_expired_interval_ms,
            ID_EXPIRATION => self.id_expiration_ms,
            _ => return None,
        };
        Some(number.to_string())
    }
}
