//! The APIs of the protocol, by Kafka's names and keys.
//!
//! *Source*: `ApiKeys` of apache/kafka 4.3. That an API is named here does not say that the mock
//! answers it; what it answers, it says itself in ApiVersions.

use core::fmt;

macro_rules! apis {
    ($($name:ident = $key:literal),+ $(,)?) => {
        /// An API of the Kafka protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Api {
            $(
                #[doc = concat!("API key ", stringify!($key), ".")]
                $name,
            )+
            /// A key that has no name here; [`Api::from_key`] never puts a named key here.
            Unknown(i16),
        }

        impl Api {
            /// The API with this key.
            #[must_use]
            pub const fn from_key(key: i16) -> Self {
                match key {
                    $($key => Self::$name,)+
                    unknown => Self::Unknown(unknown),
                }
            }

            /// The key that stands in a request header.
            #[must_use]
            pub const fn key(self) -> i16 {
                match self {
                    $(Self::$name => $key,)+
                    Self::Unknown(key) => key,
                }
            }

            /// The name, as Kafka writes it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                    Self::Unknown(_) => "Unknown",
                }
            }
        }

        #[cfg(test)]
        const KEYS: &[i16] = &[$($key),+];
    };
}

apis! {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    DescribeGroups = 15,
    ListGroups = 16,
    SaslHandshake = 17,
    ApiVersions = 18,
    CreateTopics = 19,
    DeleteTopics = 20,
    DeleteRecords = 21,
    InitProducerId = 22,
    OffsetForLeaderEpoch = 23,
    AddPartitionsToTxn = 24,
    AddOffsetsToTxn = 25,
    EndTxn = 26,
    WriteTxnMarkers = 27,
    TxnOffsetCommit = 28,
    DescribeAcls = 29,
    CreateAcls = 30,
    DeleteAcls = 31,
    DescribeConfigs = 32,
    AlterConfigs = 33,
    AlterReplicaLogDirs = 34,
    DescribeLogDirs = 35,
    SaslAuthenticate = 36,
    CreatePartitions = 37,
    CreateDelegationToken = 38,
    RenewDelegationToken = 39,
    ExpireDelegationToken = 40,
    DescribeDelegationToken = 41,
    DeleteGroups = 42,
    ElectLeaders = 43,
    IncrementalAlterConfigs = 44,
    AlterPartitionReassignments = 45,
    ListPartitionReassignments = 46,
    OffsetDelete = 47,
    DescribeClientQuotas = 48,
    AlterClientQuotas = 49,
    DescribeUserScramCredentials = 50,
    AlterUserScramCredentials = 51,
    DescribeQuorum = 55,
    UpdateFeatures = 57,
    DescribeCluster = 60,
    DescribeProducers = 61,
    UnregisterBroker = 64,
    DescribeTransactions = 65,
    ListTransactions = 66,
    ConsumerGroupHeartbeat = 68,
    ConsumerGroupDescribe = 69,
    GetTelemetrySubscriptions = 71,
    PushTelemetry = 72,
    ListConfigResources = 74,
    DescribeTopicPartitions = 75,
    ShareGroupHeartbeat = 76,
    ShareGroupDescribe = 77,
    ShareFetch = 78,
    ShareAcknowledge = 79,
}

impl fmt::Display for Api {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(key) => write!(out, "api key {key}"),
            known => out.write_str(known.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_leads_to_one_api_and_back() {
        for key in KEYS {
            assert_eq!(Api::from_key(*key).key(), *key);
            assert_ne!(Api::from_key(*key), Api::Unknown(*key));
        }
    }

    #[test]
    fn an_unknown_key_is_carried() {
        assert_eq!(Api::from_key(9999).key(), 9999);
        assert_eq!(Api::from_key(9999).to_string(), "api key 9999");
    }

    #[test]
    fn names_are_kafkas() {
        assert_eq!(Api::Produce.to_string(), "Produce");
        assert_eq!(Api::from_key(22), Api::InitProducerId);
    }
}
