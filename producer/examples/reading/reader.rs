//! Reads a topic for a group, committed records only: as much of a consumer as an example needs.
//!
//! It reads all partitions alone, uncompressed batches only, and ends with an error where a real
//! consumer would find out what to do, for instance when a leader moves.

use std::collections::BTreeSet;
use std::error::Error;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{BrokerId, FetchRequest, MetadataRequest, TopicName};
use kafka_protocol::records::RecordBatchDecoder;
use tokio::net::TcpStream;

use super::offsets::{ask, connect, next_offsets, text};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What was read.
pub(crate) struct Message {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
}

/// A topic that is read.
pub(crate) struct Reader {
    topic: String,
    partitions: Vec<Partition>,
}

struct Partition {
    index: i32,
    leader: TcpStream,
    next: i64,
}

impl Reader {
    /// Goes on where the group has come to, or begins at 0.
    pub(crate) async fn open(bootstrap: &str, topic: &str, group: &str) -> Result<Self> {
        let mut broker = connect(bootstrap).await?;
        let name = MetadataRequestTopic::default().with_name(Some(TopicName(text(topic))));
        let question = MetadataRequest::default().with_topics(Some(vec![name]));
        let metadata = ask(&mut broker, 12, &question).await?;
        let found = metadata.topics.first().ok_or("no such topic")?;
        if found.error_code != 0 {
            return Err(format!("{topic}: code {}", found.error_code).into());
        }
        let indexes: Vec<i32> = found.partitions.iter().map(|p| p.partition_index).collect();
        let next = next_offsets(bootstrap, (group, topic), &indexes).await?;
        let mut partitions = Vec::new();
        for partition in &found.partitions {
            let mut brokers = metadata.brokers.iter();
            let leader = brokers.find(|broker| broker.node_id == partition.leader_id);
            let leader = leader.ok_or("a partition without a leader")?;
            let index = partition.partition_index;
            partitions.push(Partition {
                index,
                leader: TcpStream::connect((leader.host.as_str(), leader.port.try_into()?)).await?,
                next: next.get(&index).copied().unwrap_or(0),
            });
        }
        let topic = topic.to_owned();
        Ok(Self { topic, partitions })
    }

    /// What is there; asks each partition once, and waits a little where there is nothing.
    pub(crate) async fn poll(&mut self) -> Result<Vec<Message>> {
        let mut read = Vec::new();
        for partition in &mut self.partitions {
            let fetched = FetchPartition::default()
                .with_partition(partition.index)
                .with_fetch_offset(partition.next)
                .with_partition_max_bytes(64 * 1024);
            let topic = FetchTopic::default()
                .with_topic(TopicName(text(&self.topic)))
                .with_partitions(vec![fetched]);
            let question = FetchRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_max_wait_ms(50)
                .with_min_bytes(1)
                .with_max_bytes(64 * 1024)
                .with_isolation_level(1) // committed records only
                .with_topics(vec![topic]);
            let answer = ask(&mut partition.leader, 12, &question).await?;
            let rows = answer.responses.into_iter();
            for row in rows.flat_map(|topic| topic.partitions) {
                partition.take(row, &mut read)?;
            }
        }
        Ok(read)
    }
}

impl Partition {
    fn take(&mut self, row: PartitionData, read: &mut Vec<Message>) -> Result<()> {
        if row.error_code != 0 {
            return Err(format!("partition {}: code {}", self.index, row.error_code).into());
        }
        let mut aborted = row.aborted_transactions.unwrap_or_default();
        aborted.sort_by_key(|one| one.first_offset);
        let mut aborted = aborted.into_iter().peekable();
        let mut aborting = BTreeSet::new();
        let mut batches = row.records.unwrap_or_default();
        while holds_a_batch(&batches) {
            for record in RecordBatchDecoder::decode(&mut batches)?.records {
                while let Some(one) = aborted.next_if(|one| one.first_offset <= record.offset) {
                    aborting.insert(one.producer_id.0);
                }
                if record.control {
                    aborting.remove(&record.producer_id); // its transaction ends here
                }
                let is_aborted = record.transactional && aborting.contains(&record.producer_id);
                // The first batch may begin before the offset that was asked for.
                if record.offset >= self.next && !record.control && !is_aborted {
                    read.push(Message {
                        partition: self.index,
                        offset: record.offset,
                        key: record.key,
                        value: record.value,
                    });
                }
                self.next = self.next.max(record.offset + 1);
            }
        }
        Ok(())
    }
}

/// Whether a whole one is left: a broker cuts an answer at the size asked for.
fn holds_a_batch(mut bytes: &[u8]) -> bool {
    if bytes.len() < 12 {
        return false;
    }
    bytes.advance(8); // its first offset
    usize::try_from(bytes.get_i32()).is_ok_and(|length| length <= bytes.len())
}
