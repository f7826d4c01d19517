//! The levels of features that the cluster has agreed on (KIP-584, KIP-1022).
//!
//! *State* of a feature: its level, 0 where it is off.
//!
//! ```text
//!      upgrade            upgrade
//! 0 ───────────▶ level ───────────▶ higher level
//!   ◀───────────       ◀───────────
//!   safe or unsafe downgrade
//! ```
//!
//! *Invariants*
//! 1. A level lies in the range that 4.3.1 supports.
//! 2. The epoch grows with each change, and only then.
//! 3. The changes of one request are made together or not at all.
//!
//! *Source* apache/kafka `metadata/…/controller/FeatureControlManager.java`; texts, order and the
//! levels of a fresh cluster observed on 4.3.1.
//!
//! *Deviations* of the levels only that of `transaction.version` changes what the mock does;
//! `metadata.version` and `kraft.version` stay what they are.

use std::collections::BTreeMap;

use super::cluster::Cluster;
use super::moves::MoveError;
use super::producer_state::EpochBump;
use crate::wire::versions::VersionRange;

/// `transaction.version`: 0 and 1 are KIP-98, from 2 on each transaction has its own epoch
/// (KIP-890).
pub const TRANSACTION_VERSION: &str = "transaction.version";

/// What there is of a feature.
#[derive(Clone, Copy, Debug)]
struct Known {
    name: &'static str,
    supported: VersionRange,
    /// Of a fresh cluster.
    level: i16,
}

const fn known(name: &'static str, supported: VersionRange, level: i16) -> Known {
    Known {
        name,
        supported,
        level,
    }
}

const TRANSACTION_VERSIONS: VersionRange = VersionRange::new(0, 2);
const OFF_OR_ON: VersionRange = VersionRange::new(0, 1);
const METADATA_VERSION: &str = "metadata.version";
const KRAFT_VERSION: &str = "kraft.version";

/// Those of 4.3.1, in the order in which it tells what it supports.
const KNOWN: [Known; 7] = [
    known("group.version", OFF_OR_ON, 1),
    known(KRAFT_VERSION, OFF_OR_ON, 0),
    known(METADATA_VERSION, VersionRange::new(7, 30), 30),
    known("share.version", OFF_OR_ON, 1),
    known("streams.version", OFF_OR_ON, 1),
    known(TRANSACTION_VERSION, TRANSACTION_VERSIONS, 2),
    known("eligible.leader.replicas.version", OFF_OR_ON, 1),
];

/// The order in which 4.3.1 tells levels.
const FINALIZED: [&str; 6] = [
    "group.version",
    "streams.version",
    TRANSACTION_VERSION,
    "eligible.leader.replicas.version",
    "share.version",
    METADATA_VERSION,
];

/// Which way a level may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// Up only.
    Upgrade,
    /// Down, if nothing is lost.
    SafeDowngrade,
    /// Down, whatever is lost.
    UnsafeDowngrade,
    /// A number that Kafka does not know.
    Unknown,
}

/// A level that is wished for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// The feature.
    pub feature: String,
    /// Its level to be.
    pub level: i16,
    /// Which way it may go there.
    pub upgrade: Upgrade,
}

/// The levels of a cluster.
#[derive(Clone, Debug)]
pub(super) struct Features {
    levels: BTreeMap<&'static str, i16>,
    epoch: i64,
}

impl Default for Features {
    fn default() -> Self {
        let levels = KNOWN.iter().map(|known| (known.name, known.level));
        Self {
            levels: levels.collect(),
            epoch: 1,
        }
    }
}

impl Features {
    fn level(&self, feature: &str) -> i16 {
        self.levels.get(feature).copied().unwrap_or(0)
    }

    /// The text of 4.3.1 for an update that it refuses.
    fn check(&self, update: &FeatureUpdate) -> Result<(), String> {
        let FeatureUpdate { feature, level, .. } = update;
        let invalid = |reason: &str| {
            Err(format!(
                "Invalid update version {level} for feature {feature}. {reason}"
            ))
        };
        if update.upgrade == Upgrade::Unknown {
            return invalid("The controller does not support the given upgrade type.");
        }
        if *level < 0 {
            return invalid("A feature version cannot be less than 0.");
        }
        let Some(known) = KNOWN.iter().find(|known| known.name == feature) else {
            return invalid("Local controller 1 does not support this feature.");
        };
        let VersionRange { min, max } = known.supported;
        if !known.supported.contains(*level) {
            let reason = format!("Local controller 1 only supports versions {min}-{max}");
            return invalid(&reason);
        }
        let now = self.level(feature);
        if *level < now && update.upgrade == Upgrade::Upgrade {
            return invalid(
                "Can't downgrade the version of this feature without setting the upgrade type to \
                 either safe or unsafe downgrade.",
            );
        }
        if *level > now && update.upgrade != Upgrade::Upgrade {
            return invalid("Can't downgrade to a newer version.");
        }
        let fixed = matches!(known.name, METADATA_VERSION | KRAFT_VERSION);
        if *level != now && fixed {
            return invalid("The mock has no other level of this feature.");
        }
        Ok(())
    }

    /// Another level of a feature, if there is such a one; whether it is another.
    fn set(&mut self, feature: &str, level: i16) -> bool {
        let before = self.levels.get_mut(feature);
        let changed = before.is_some_and(|before| core::mem::replace(before, level) != level);
        self.epoch += i64::from(changed);
        changed
    }
}

impl Cluster {
    /// What brokers support: every feature with its range.
    pub fn supported_features() -> impl Iterator<Item = (&'static str, VersionRange)> {
        KNOWN.iter().map(|known| (known.name, known.supported))
    }

    /// The levels that are not 0, in Kafka's order.
    pub fn finalized_features(&self) -> impl Iterator<Item = (&'static str, i16)> {
        let levels = FINALIZED.iter();
        let levels = levels.map(|feature| (*feature, self.features.level(feature)));
        levels.filter(|(_, level)| *level > 0)
    }

    /// How often levels have changed, as brokers tell it.
    #[must_use]
    pub const fn features_epoch(&self) -> i64 {
        self.features.epoch
    }

    /// The level of `transaction.version`: 0, 1 or 2.
    #[must_use]
    pub fn transaction_version(&self) -> i16 {
        self.features.level(TRANSACTION_VERSION)
    }

    /// Whether transactions have epochs of their own.
    pub(super) fn bump(&self) -> EpochBump {
        match self.transaction_version() {
            ..2 => EpochBump::Never,
            _ => EpochBump::EachTransaction,
        }
    }

    /// Checks updates in their order, each against the levels that are in force.
    ///
    /// # Errors
    ///
    /// What Kafka says of the first that it refuses.
    pub fn check_features(&self, updates: &[FeatureUpdate]) -> Result<(), String> {
        updates
            .iter()
            .try_for_each(|update| self.features.check(update))
    }

    /// Another level of `transaction.version`, whichever way.
    pub(super) fn set_transaction_version(&mut self, level: i16) -> Result<(), MoveError> {
        if !TRANSACTION_VERSIONS.contains(level) {
            return Err(MoveError::NoSuchLevel);
        }
        self.features.set(TRANSACTION_VERSION, level);
        Ok(())
    }

    /// Makes updates that were checked.
    pub fn set_features(&mut self, updates: &[FeatureUpdate]) {
        for FeatureUpdate { feature, level, .. } in updates {
            let changed = self.features.set(feature, *level);
            if changed && feature != TRANSACTION_VERSION {
                self.note(format!(
                    "{feature} has level {level} now, which changes nothing here"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn update(feature: &str, level: i16, upgrade: Upgrade) -> FeatureUpdate {
        FeatureUpdate {
            feature: feature.into(),
            level,
            upgrade,
        }
    }

    #[rstest]
    #[case::unknown(
        "nope",
        1,
        Upgrade::Upgrade,
        "Local controller 1 does not support this feature."
    )]
    #[case::high(
        TRANSACTION_VERSION,
        3,
        Upgrade::Upgrade,
        "Local controller 1 only supports versions 0-2"
    )]
    #[case::negative(
        TRANSACTION_VERSION,
        -1,
        Upgrade::Upgrade,
        "A feature version cannot be less than 0."
    )]
    #[case::down(
        TRANSACTION_VERSION,
        1,
        Upgrade::Upgrade,
        "Can't downgrade the version of this feature without setting the upgrade type to either \
         safe or unsafe downgrade."
    )]
    #[case::kind(
        TRANSACTION_VERSION,
        2,
        Upgrade::Unknown,
        "The controller does not support the given upgrade type."
    )]
    #[case::kept(
        METADATA_VERSION,
        29,
        Upgrade::SafeDowngrade,
        "The mock has no other level of this feature."
    )]
    fn an_update_is_refused_in_kafkas_words(
        #[case] feature: &str,
        #[case] level: i16,
        #[case] upgrade: Upgrade,
        #[case] reason: &str,
    ) {
        let refused = Features::default().check(&update(feature, level, upgrade));
        let text = format!("Invalid update version {level} for feature {feature}. {reason}");
        assert_eq!(refused, Err(text));
    }

    #[test]
    fn a_level_goes_down_and_up_and_the_epoch_with_each_change() {
        let mut features = Features::default();
        let steps = [
            (2, Upgrade::Upgrade, 1),
            (1, Upgrade::SafeDowngrade, 2),
            (0, Upgrade::UnsafeDowngrade, 3),
            (2, Upgrade::Upgrade, 4),
        ];
        for (level, upgrade, epoch) in steps {
            let update = update(TRANSACTION_VERSION, level, upgrade);
            assert_eq!(features.check(&update), Ok(()), "{update:?}");
            features.set(&update.feature, level);
            assert_eq!(features.level(TRANSACTION_VERSION), level);
            assert_eq!(features.epoch, epoch);
        }
        let newer = update("group.version", 1, Upgrade::SafeDowngrade);
        assert_eq!(features.check(&newer), Ok(()), "it is there already");
    }
}
