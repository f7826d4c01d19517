//! Requests of the control plane and their answers: ApiVersions, Metadata, CreateTopics,
//! InitProducerId, ListOffsets.
//!
//! *Source*: Kafka's message definitions (`clients/src/main/resources/common/message`).

use std::fmt;

use bytes::Bytes;

use super::Request;
use super::error_code::ErrorCode;
use super::reader::{DecodeError, Reader, Tag};
use super::request::{self, EncodeError};

/// Asks which APIs a broker offers.
#[derive(Clone, Copy, Debug)]
pub struct ApiVersions;

/// The range of versions of one API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ApiRange {
    /// The API's number.
    pub api_key: i16,
    /// Lowest version.
    pub min: i16,
    /// Highest version.
    pub max: i16,
}

impl fmt::Display for ApiRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} to {}", self.api_key, self.min, self.max)
    }
}

/// The answer to [`ApiVersions`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiVersionsAnswer {
    /// Of the whole request.
    pub error: ErrorCode,
    /// In the broker's order.
    pub apis: Vec<ApiRange>,
    /// What the cluster has settled on; `None` before version 3.
    pub finalized: Option<Finalized>,
}

/// The features that a cluster has settled on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finalized {
    /// Grows with every change; −1 when not known.
    pub epoch: i64,
    /// Name and level.
    pub features: Vec<(String, i16)>,
}

impl ApiVersionsAnswer {
    /// The range offered for `api_key`.
    pub fn range(&self, api_key: i16) -> Option<ApiRange> {
        self.apis
            .iter()
            .copied()
            .find(|range| range.api_key == api_key)
    }
}

impl Request for ApiVersions {
    type Answer = ApiVersionsAnswer;
    const API_KEY: i16 = 18;
    const NAME: &'static str = "ApiVersions";
    const VERSION_MAX: i16 = 4;
    const FLEXIBLE_FROM: i16 = 3;
    const PLAIN_RESPONSE_HEADER: bool = true;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        request::api_versions(version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        let error = ErrorCode(reader.i16("error code")?);
        let apis = reader.list("api list", |reader| {
            let range = ApiRange {
                api_key: reader.i16("api key")?,
                min: reader.i16("min version")?,
                max: reader.i16("max version")?,
            };
            reader.tags("api tags")?;
            Ok(range)
        })?;
        if version >= 1 {
            reader.i32("throttle time")?;
        }
        let mut finalized = (version >= 3).then_some(Finalized {
            epoch: -1,
            features: Vec::new(),
        });
        reader.tags_with("body tags", |tag, reader| match &mut finalized {
            Some(finalized) => read_features(tag, reader, finalized),
            None => Ok(Tag::Unknown),
        })?;
        Ok(ApiVersionsAnswer {
            error,
            apis,
            finalized,
        })
    }
}

/// The tagged fields of an answer to ApiVersions (KIP-584).
fn read_features(
    tag: u32,
    reader: &mut Reader<'_>,
    finalized: &mut Finalized,
) -> Result<Tag, DecodeError> {
    match tag {
        0 => {
            reader.list("supported features", |reader| {
                reader.string("feature name")?;
                reader.i16("min version")?;
                reader.i16("max version")?;
                reader.tags("feature tags")
            })?;
        }
        1 => finalized.epoch = reader.i64("finalized features epoch")?,
        2 => {
            finalized.features = reader.list("finalized features", |reader| {
                let name = reader.string("feature name")?;
                let level = reader.i16("max version level")?;
                reader.i16("min version level")?;
                reader.tags("feature tags")?;
                Ok((name, level))
            })?;
        }
        _ => return Ok(Tag::Unknown),
    }
    Ok(Tag::Known)
}

/// Asks for brokers and topics; `names` of `None` asks for all topics.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// Which topics.
    pub names: Option<Vec<String>>,
    /// What the broker may do about a topic that is not there.
    pub missing: Missing,
}

/// What a broker may do about a topic that is not there; from v4 on a request says so, before it
/// only the broker's configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Missing {
    /// Say that it is not there.
    Tell,
    /// Create it, if its configuration allows that.
    Create,
}

impl Metadata {
    /// Asks for the topics named.
    pub fn of(names: &[&str]) -> Self {
        Self {
            names: Some(names.iter().map(|&name| name.to_owned()).collect()),
            missing: Missing::Tell,
        }
    }

    /// The same, which allows to create what is not there.
    pub fn creating(self) -> Self {
        Self {
            missing: Missing::Create,
            ..self
        }
    }

    /// Asks for every topic.
    pub fn all() -> Self {
        Self {
            names: None,
            missing: Missing::Tell,
        }
    }
}

/// Asks for topics by id, from version 12 on.
#[derive(Clone, Debug)]
pub struct MetadataById {
    /// Which topics.
    pub ids: Vec<[u8; 16]>,
}

impl Request for MetadataById {
    type Answer = MetadataAnswer;
    const API_KEY: i16 = Metadata::API_KEY;
    const NAME: &'static str = Metadata::NAME;
    const VERSION_MAX: i16 = Metadata::VERSION_MAX;
    const FLEXIBLE_FROM: i16 = Metadata::FLEXIBLE_FROM;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        request::metadata_by_id(&self.ids, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        Metadata::read_answer(reader, version)
    }
}

/// A broker's address as it advertises it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Broker {
    /// Node id.
    pub id: i32,
    /// `HOST:PORT`
    pub address: String,
}

/// A topic in a Metadata answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicMetadata {
    /// Of this topic.
    pub error: ErrorCode,
    /// Null when asked by an unknown id.
    pub name: Option<String>,
    /// All zero before version 10.
    pub id: [u8; 16],
    /// Whether it is Kafka's own; false before version 1.
    pub internal: bool,
    /// In the broker's order.
    pub partitions: Vec<PartitionMetadata>,
}

impl fmt::Display for TopicMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self
            .name
            .as_deref()
            .map_or("null".to_owned(), |name| format!("{name:?}"));
        write!(
            f,
            "topic {name}: code {}, {} partitions",
            self.error,
            self.partitions.len()
        )
    }
}

/// A partition in a Metadata answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartitionMetadata {
    /// Of this partition.
    pub error: ErrorCode,
    /// Partition number.
    pub index: i32,
    /// Node id; −1 when there is none.
    pub leader: i32,
    /// How often the leader was chosen; −1 before version 7.
    pub leader_epoch: i32,
    /// Node ids of the replicas, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Node ids of the replicas that are in sync.
    pub in_sync: Vec<i32>,
}

/// The answer to [`Metadata`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MetadataAnswer {
    /// Live brokers.
    pub brokers: Vec<Broker>,
    /// In the broker's order.
    pub topics: Vec<TopicMetadata>,
}

impl MetadataAnswer {
    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&TopicMetadata> {
        self.topics
            .iter()
            .find(|topic| topic.name.as_deref() == Some(name))
    }

    /// The address of the broker with that node id.
    pub fn address(&self, id: i32) -> Option<&str> {
        self.brokers
            .iter()
            .find(|broker| broker.id == id)
            .map(|broker| broker.address.as_str())
    }
}

impl Request for Metadata {
    type Answer = MetadataAnswer;
    const API_KEY: i16 = 3;
    const NAME: &'static str = "Metadata";
    const VERSION_MAX: i16 = 13;
    const FLEXIBLE_FROM: i16 = 9;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        request::metadata(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        if version >= 3 {
            reader.i32("throttle time")?;
        }
        let brokers = reader.list("brokers", |reader| read_broker(reader, version))?;
        if version >= 2 {
            reader.nullable_string("cluster id")?;
        }
        if version >= 1 {
            reader.i32("controller id")?;
        }
        let topics = reader.list("topics", |reader| read_topic(reader, version))?;
        if (8..=10).contains(&version) {
            reader.i32("cluster authorized operations")?;
        }
        if version >= 13 {
            reader.i16("error code")?;
        }
        reader.tags("body tags")?;
        Ok(MetadataAnswer { brokers, topics })
    }
}

/// Reads one entry of a Metadata answer's broker list.
///
/// # Errors
///
/// When the bytes are no such entry.
pub fn read_broker(reader: &mut Reader<'_>, version: i16) -> Result<Broker, DecodeError> {
    let id = reader.i32("broker id")?;
    let host = reader.string("broker host")?;
    let port = reader.i32("broker port")?;
    if version >= 1 {
        reader.nullable_string("broker rack")?;
    }
    reader.tags("broker tags")?;
    Ok(Broker {
        id,
        address: format!("{host}:{port}"),
    })
}

fn read_topic(reader: &mut Reader<'_>, version: i16) -> Result<TopicMetadata, DecodeError> {
    let error = ErrorCode(reader.i16("topic error code")?);
    let name = if version >= 12 {
        reader.nullable_string("topic name")?
    } else {
        Some(reader.string("topic name")?)
    };
    let id = if version >= 10 {
        reader.uuid("topic id")?
    } else {
        [0; 16]
    };
    let internal = version >= 1 && reader.i8("is internal")? != 0;
    let partitions = reader.list("partitions", |reader| {
        let error = ErrorCode(reader.i16("partition error code")?);
        let index = reader.i32("partition index")?;
        let leader = reader.i32("leader id")?;
        let leader_epoch = match version >= 7 {
            true => reader.i32("leader epoch")?,
            false => -1,
        };
        let replicas = reader.list("replicas", |reader| reader.i32("replica"))?;
        let in_sync = reader.list("in-sync replicas", |reader| reader.i32("replica"))?;
        if version >= 5 {
            reader.list("offline replicas", |reader| reader.i32("replica"))?;
        }
        reader.tags("partition tags")?;
        Ok(PartitionMetadata {
            error,
            index,
            leader,
            leader_epoch,
            replicas,
            in_sync,
        })
    })?;
    if version >= 8 {
        reader.i32("topic authorized operations")?;
    }
    reader.tags("topic tags")?;
    Ok(TopicMetadata {
        error,
        name,
        id,
        internal,
        partitions,
    })
}

/// Creates one topic.
#[derive(Clone, Debug)]
pub struct CreateTopic {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: i32,
    /// Replication factor.
    pub replicas: i16,
    /// Configuration by Kafka's names.
    pub configs: Vec<(String, String)>,
}

/// The answer to [`CreateTopic`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CreateTopicAnswer {
    /// Whether it was created.
    pub error: ErrorCode,
    /// The broker's words.
    pub message: Option<String>,
}

impl Request for CreateTopic {
    type Answer = CreateTopicAnswer;
    const API_KEY: i16 = 19;
    const NAME: &'static str = "CreateTopics";
    const VERSION_MAX: i16 = 7;
    const FLEXIBLE_FROM: i16 = 5;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        request::create_topic(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        reader.i32("throttle time")?;
        let mut topics = reader.list("topics", |reader| {
            reader.string("topic name")?;
            if version >= 7 {
                reader.uuid("topic id")?;
            }
            let error = ErrorCode(reader.i16("error code")?);
            let message = reader.nullable_string("error message")?;
            if version >= 5 {
                reader.i32("partition count")?;
                reader.i16("replication factor")?;
                reader.nullable_list("configs", read_topic_config)?;
            }
            reader.tags("topic tags")?;
            Ok(CreateTopicAnswer { error, message })
        })?;
        reader.tags("body tags")?;
        match (topics.pop(), topics.is_empty()) {
            (Some(topic), true) => Ok(topic),
            _ => Err(reader.error("not exactly one topic")),
        }
    }
}

fn read_topic_config(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    reader.string("config name")?;
    reader.nullable_string("config value")?;
    reader.i8("config read only")?;
    reader.i8("config source")?;
    reader.i8("config sensitive")?;
    reader.tags("config tags")?;
    Ok(())
}

/// Asks for a producer id without a transactional id.
#[derive(Clone, Copy, Debug)]
pub struct InitProducerId {
    /// The id to go on with, sent from version 3; −1 asks for a new one.
    pub producer_id: i64,
    /// Its epoch; −1 with a new one.
    pub epoch: i16,
}

impl InitProducerId {
    /// Asks for a new id.
    pub const NEW: Self = Self {
        producer_id: -1,
        epoch: -1,
    };
}

/// The answer to [`InitProducerId`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InitProducerIdAnswer {
    /// Whether an id was given.
    pub error: ErrorCode,
    /// The id; −1 on errors.
    pub producer_id: i64,
    /// Its epoch; −1 on errors.
    pub epoch: i16,
}

impl Request for InitProducerId {
    type Answer = InitProducerIdAnswer;
    const API_KEY: i16 = 22;
    const NAME: &'static str = "InitProducerId";
    const VERSION_MAX: i16 = 5;
    const FLEXIBLE_FROM: i16 = 2;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        request::init_producer_id(None, *self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, _: i16) -> Result<Self::Answer, DecodeError> {
        reader.i32("throttle time")?;
        let answer = InitProducerIdAnswer {
            error: ErrorCode(reader.i16("error code")?),
            producer_id: reader.i64("producer id")?,
            epoch: reader.i16("producer epoch")?,
        };
        reader.tags("body tags")?;
        Ok(answer)
    }
}

/// Asks for an offset per partition of one topic.
#[derive(Clone, Debug)]
pub struct ListOffsets {
    /// Topic name.
    pub topic: String,
    /// Partitions led by the broker that is asked.
    pub partitions: Vec<i32>,
    /// [`LATEST`], [`EARLIEST`] or milliseconds since 1970.
    pub timestamp: i64,
}

/// The offset after the last visible record.
pub const LATEST: i64 = -1;
/// The first offset.
pub const EARLIEST: i64 = -2;

/// One partition of an answer to [`ListOffsets`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartitionOffset {
    /// Partition number.
    pub index: i32,
    /// Of this partition.
    pub error: ErrorCode,
    /// −1 on errors.
    pub offset: i64,
}

impl Request for ListOffsets {
    type Answer = Vec<PartitionOffset>;
    const API_KEY: i16 = 2;
    const NAME: &'static str = "ListOffsets";
    const VERSION_MAX: i16 = 11;
    const FLEXIBLE_FROM: i16 = 6;

    fn body(&self, version: i16) -> Result<Bytes, EncodeError> {
        request::list_offsets(self, version)
    }

    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError> {
        if version >= 2 {
            reader.i32("throttle time")?;
        }
        let topics = reader.list("topics", |reader| {
            reader.string("topic name")?;
            let partitions = reader.list("partitions", |reader| {
                let index = reader.i32("partition index")?;
                let error = ErrorCode(reader.i16("error code")?);
                reader.i64("timestamp")?;
                let offset = reader.i64("offset")?;
                if version >= 4 {
                    reader.i32("leader epoch")?;
                }
                reader.tags("partition tags")?;
                Ok(PartitionOffset {
                    index,
                    error,
                    offset,
                })
            })?;
            reader.tags("topic tags")?;
            Ok(partitions)
        })?;
        reader.tags("body tags")?;
        Ok(topics.into_iter().flatten().collect())
    }
}
