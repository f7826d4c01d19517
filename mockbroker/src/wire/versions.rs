//! Which versions of which API are advertised and served, as Apache Kafka 4.3.1 has them.
//!
//! *Invariants*
//! 1. [`SERVED`] ascends by key; ApiVersions answers in this order (observed).
//! 2. A served version is advertised. The reverse does not hold for Produce: 0 to 2 are advertised
//!    for old clients and close the connection (KIP-896, KAFKA-18659).
//!
//! *Source* apache/kafka 4.3.1 `clients/src/main/resources/common/message`.

use crate::api::Api;

/// Versions from `min` to `max`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The oldest.
    pub min: i16,
    /// The newest.
    pub max: i16,
}

impl VersionRange {
    /// From `min` to `max`.
    #[must_use]
    pub const fn new(min: i16, max: i16) -> Self {
        Self { min, max }
    }

    /// Whether `version` is one of them.
    #[must_use]
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

/// What the cluster knows of an API that it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The API.
    pub api: Api,
    /// The versions that ApiVersions names.
    pub advertised: VersionRange,
    /// The versions that are answered.
    pub served: VersionRange,
    /// The first version with compact lengths and tagged fields (KIP-482).
    pub flexible_since: i16,
}

impl Served {
    /// Whether `version` has compact lengths and tagged fields.
    #[must_use]
    pub const fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_since
    }
}

/// The APIs that are served, ascending by key.
pub const SERVED: [Served; 37] = [
    Served {
        served: VersionRange::new(3, 13),
        ..served(Api::Produce, 0, 13, 9)
    },
    served(Api::Fetch, 4, 18, 12),
    served(Api::ListOffsets, 1, 11, 6),
    served(Api::Metadata, 0, 13, 9),
    served(Api::OffsetCommit, 2, 10, 8),
    served(Api::OffsetFetch, 1, 10, 6),
    served(Api::FindCoordinator, 0, 6, 3),
    served(Api::JoinGroup, 0, 9, 6),
    served(Api::Heartbeat, 0, 4, 4),
    served(Api::LeaveGroup, 0, 5, 4),
    served(Api::SyncGroup, 0, 5, 4),
    served(Api::DescribeGroups, 0, 6, 5),
    served(Api::ListGroups, 0, 5, 3),
    served(Api::ApiVersions, 0, 4, 3),
    served(Api::CreateTopics, 2, 7, 5),
    served(Api::DeleteTopics, 1, 6, 4),
    served(Api::DeleteRecords, 0, 2, 2),
    served(Api::InitProducerId, 0, 5, 2),
    served(Api::OffsetForLeaderEpoch, 2, 4, 4),
    served(Api::AddPartitionsToTxn, 0, 5, 3),
    served(Api::AddOffsetsToTxn, 0, 4, 3),
    served(Api::EndTxn, 0, 5, 3),
    served(Api::WriteTxnMarkers, 1, 2, 1),
    served(Api::TxnOffsetCommit, 0, 5, 3),
    served(Api::DescribeConfigs, 1, 4, 4),
    served(Api::CreatePartitions, 0, 3, 2),
    served(Api::DeleteGroups, 0, 2, 2),
    served(Api::IncrementalAlterConfigs, 0, 1, 1),
    // Its one version is not flexible.
    served(Api::OffsetDelete, 0, 0, 1),
    served(Api::DescribeClientQuotas, 0, 1, 1),
    served(Api::AlterClientQuotas, 0, 1, 1),
    served(Api::UpdateFeatures, 0, 2, 0),
    served(Api::DescribeCluster, 0, 2, 0),
    served(Api::DescribeProducers, 0, 0, 0),
    served(Api::DescribeTransactions, 0, 0, 0),
    served(Api::ListTransactions, 0, 2, 0),
    served(Api::DescribeTopicPartitions, 0, 0, 0),
];

const fn served(api: Api, min: i16, max: i16, flexible_since: i16) -> Served {
    let versions = VersionRange::new(min, max);
    Served {
        api,
        advertised: versions,
        served: versions,
        flexible_since,
    }
}

/// What is served of `api`; `None` when nothing is.
#[must_use]
pub fn of(api: Api) -> Option<&'static Served> {
    SERVED.iter().find(|served| served.api == api)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ascend() {
        assert!(SERVED.is_sorted_by(|a, b| a.api.key() < b.api.key()));
    }

    #[test]
    fn what_is_served_is_advertised() {
        for entry in SERVED {
            let (served, advertised) = (entry.served, entry.advertised);
            assert!(advertised.contains(served.min), "{}", entry.api);
            assert!(advertised.contains(served.max), "{}", entry.api);
        }
    }

    /// The keys that Kafka 4.3.1 lists with transactions, groups and share groups on (observed).
    const KAFKAS: [i16; 75] = [
        0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27,
        28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50,
        51, 55, 57, 60, 61, 64, 65, 66, 68, 69, 74, 75, 76, 77, 78, 79, 80, 81, 83, 84, 85, 86, 87,
        88, 89, 90, 91, 92,
    ];

    #[test]
    fn what_is_not_served_is_told() {
        let told = include_str!("../../DESIGN.md");
        let (_, section) = told.split_once("\n### APIs that are not served\n").unwrap();
        let (section, _) = section.split_once("\n### ").unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
        let keys = rows.filter_map(|row| row.split_once(" | ").map(|(keys, _)| keys));
        let told = keys.flat_map(|keys| keys.split(", ").filter_map(|key| key.parse().ok()));
        let served = SERVED.map(|served| served.api.key());
        let mut all: Vec<i16> = told.chain(served).collect();
        all.sort_unstable();
        assert_eq!(all, KAFKAS);
    }
}
