//! Which versions of an API a broker offers, where a move has narrowed them.
//!
//! *Invariants*
//! 1. A narrowed range is not empty and lies within what Kafka 4.3.1 advertises.
//! 2. A broker without a narrowed range offers everything.
//!
//! *Source* none in Kafka: this stands for a broker of an older or a newer release.
//!
//! *Not here* what each version looks like (`wire/`): a narrowed API answers as it always does.

use std::collections::BTreeMap;

use super::effect::BrokerId;
use crate::api::Api;
use crate::wire::versions::{self, Served, VersionRange};

/// The narrowed ranges.
#[derive(Clone, Debug, Default)]
pub struct ApiLimits {
    narrowed: BTreeMap<(BrokerId, Api), VersionRange>,
}

impl ApiLimits {
    /// Narrows what a broker offers of an API to the versions of `range`; `false`, and nothing has
    /// changed, when none of them is advertised otherwise.
    pub fn restrict(&mut self, broker: BrokerId, api: Api, range: VersionRange) -> bool {
        let Some(served) = versions::of(api) else {
            return false;
        };
        let narrowed = VersionRange::new(
            range.min.max(served.advertised.min),
            range.max.min(served.advertised.max),
        );
        if narrowed.min > narrowed.max {
            return false;
        }
        self.narrowed.insert((broker, api), narrowed);
        true
    }

    /// The versions that a broker names in ApiVersions.
    #[must_use]
    pub fn advertised(&self, broker: BrokerId, served: &Served) -> VersionRange {
        let narrowed = self.narrowed.get(&(broker, served.api));
        narrowed.copied().unwrap_or(served.advertised)
    }

    /// Whether a broker takes this version, as far as it was narrowed.
    #[must_use]
    pub fn allow(&self, broker: BrokerId, api: Api, version: i16) -> bool {
        let narrowed = self.narrowed.get(&(broker, api));
        narrowed.is_none_or(|narrowed| narrowed.contains(version))
    }

    /// Panics when an invariant of this file does not hold.
    pub fn check_invariants(&self) {
        for ((broker, api), range) in &self.narrowed {
            let advertised = versions::of(*api).map(|served| served.advertised);
            assert!(
                advertised.is_some_and(|all| all.contains(range.min)
                    && all.contains(range.max)
                    && range.min <= range.max),
                "api limits 1: {api} of {broker:?}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const ONE: BrokerId = BrokerId(1);

    #[rstest]
    #[case::within((3, 9), Some((3, 9)))]
    #[case::below_and_above((-5, 99), Some((0, 13)))]
    #[case::one_version((7, 7), Some((7, 7)))]
    #[case::all_too_new((14, 20), None)]
    #[case::upside_down((9, 3), None)]
    fn a_range_is_cut_to_what_is_advertised(
        #[case] (min, max): (i16, i16),
        #[case] expected: Option<(i16, i16)>,
    ) {
        let mut limits = ApiLimits::default();
        let range = VersionRange::new(min, max);
        assert_eq!(
            limits.restrict(ONE, Api::Metadata, range),
            expected.is_some()
        );
        limits.check_invariants();
        let served = versions::of(Api::Metadata).unwrap();
        let (min, max) = expected.unwrap_or((0, 13));
        assert_eq!(limits.advertised(ONE, served), VersionRange::new(min, max));
        assert_eq!(limits.allow(ONE, Api::Metadata, 13), max == 13);
        assert!(limits.allow(BrokerId(2), Api::Metadata, 13), "another one");
        assert!(limits.allow(ONE, Api::Fetch, 13), "another API");
    }
}
