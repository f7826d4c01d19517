//! Configuration of coordinators of groups, by Kafka's names.
//!
//! *Source*: `GroupCoordinatorConfig` of apache/kafka 4.3.

use super::{BrokerConfig, ConfigError, assign};

/// How a broker coordinates groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.initial.rebalance.delay.ms`: for how long others are waited for when somebody joins a
    /// group without members; at least 0. It is 0 unless it is set, as in the image of Kafka; its
    /// own default are three seconds.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.session.timeout.ms`: the longest session that a member may ask for; at least 1.
    pub max_session_timeout_ms: i32,
    /// `group.min.session.timeout.ms`: the shortest; at least 1.
    pub min_session_timeout_ms: i32,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            initial_rebalance_delay_ms: 0,
            max_session_timeout_ms: 1_800_000,
            min_session_timeout_ms: 6_000,
        }
    }
}

const INITIAL_REBALANCE_DELAY: &str = "group.initial.rebalance.delay.ms";
const MAX_SESSION_TIMEOUT: &str = "group.max.session.timeout.ms";
const MIN_SESSION_TIMEOUT: &str = "group.min.session.timeout.ms";

impl GroupConfig {
    /// Sets one key.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let (number, least) = match key {
            INITIAL_REBALANCE_DELAY => (&mut self.initial_rebalance_delay_ms, 0),
            MAX_SESSION_TIMEOUT => (&mut self.max_session_timeout_ms, 1),
            MIN_SESSION_TIMEOUT => (&mut self.min_session_timeout_ms, 1),
            _ => return Err(ConfigError::unknown_key(key, value, BrokerConfig::KEYS)),
        };
        assign(number, key, value, least..=i32::MAX)
    }

    /// The value of a key as Kafka prints it; `None` for another's key.
    pub(super) fn value(&self, key: &str) -> Option<String> {
        let number = match key {
            INITIAL_REBALANCE_DELAY => self.initial_rebalance_delay_ms,
            MAX_SESSION_TIMEOUT => self.max_session_timeout_ms,
            MIN_SESSION_TIMEOUT => self.min_session_timeout_ms,
            _ => return None,
        };
        Some(number.to_string())
    }
}
