//! The APIs of the protocol, by Kafka's names and keys.
//!
//! *Source*: `ApiKeys` of apache/kafka 4.3. That an API is named here does not say that the mock
//! answers it; what it answers, it says itself in ApiVersions.

use core::fmt;

use serde::de::{self, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

        /// What is named here, in the order of the keys.
        const NAMED: &[Api] = &[$(Api::$name),+];

        const NAMES: &[&str] = &[$(stringify!($name)),+];
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

/// By its name, or by its key where it has none.
impl Serialize for Api {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unknown(key) => serializer.serialize_i16(*key),
            known => serializer.serialize_str(known.name()),
        }
    }
}

impl<'de> Deserialize<'de> for Api {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ApiForm)
    }
}

struct ApiForm;

impl de::Visitor<'_> for ApiForm {
    type Value = Api;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the name or the key of an API")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Api, E> {
        let named = NAMED.iter().find(|api| api.name() == name);
        named
            .copied()
            .ok_or_else(|| E::unknown_variant(name, NAMES))
    }

    fn visit_u64<E: de::Error>(self, key: u64) -> Result<Api, E> {
        let short = i16::try_from(key);
        let short = short.map_err(|_| E::invalid_value(Unexpected::Unsigned(key), &"i16"))?;
        Ok(Api::from_key(short))
    }

    fn visit_i64<E: de::Error>(self, key: i64) -> Result<Api, E> {
        let short = i16::try_from(key);
        let short = short.map_err(|_| E::invalid_value(Unexpected::Signed(key), &"i16"))?;
        Ok(Api::from_key(short))
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
    fn every_api_is_read_as_it_is_written() {
        for api in NAMED.iter().copied().chain([Api::Unknown(9999)]) {
            let text = serde_json::to_string(&api).unwrap();
            assert_eq!(serde_json::from_str::<Api>(&text).unwrap(), api, "{text}");
        }
        assert_eq!(
            serde_json::from_str::<Api>("22").unwrap(),
            Api::InitProducerId
        );
        assert!(serde_json::from_str::<Api>("70000").is_err());
        assert!(serde_json::from_str::<Api>("\"Prodce\"").is_err());
    }

    #[test]
    fn names_are_kafkas() {
        assert_eq!(Api::Produce.to_string(), "Produce");
        assert_eq!(Api::from_key(22), Api::InitProducerId);
    }
}
