//! What a consumer has read: to be committed with a transaction.
//!
//! *Source*: Kafka's `OffsetAndMetadata`, `ConsumerGroupMetadata`; KIP-447.
//!
//! *Not here*: the commit (`transactions.rs`).

use std::sync::Arc;

/// How far a partition was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedOffset {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: Option<i32>,
    pub(crate) metadata: Option<Arc<str>>,
}

impl ConsumedOffset {
    /// The next record to read of this partition has this offset: one more than the last that was
    /// read.
    pub fn next(topic: impl Into<Arc<str>>, partition: i32, offset: i64) -> Self {
        Self {
            topic: topic.into(),
            partition,
            offset,
            leader_epoch: None,
            metadata: None,
        }
    }

    /// The leader's epoch of the last record that was read, by which a consumer notices that a log
    /// was cut off. Default: not known.
    #[must_use]
    pub fn leader_epoch(mut self, epoch: i32) -> Self {
        self.leader_epoch = Some(epoch);
        self
    }

    /// Anything for whoever reads the offset. Default: none.
    #[must_use]
    pub fn metadata(mut self, metadata: impl Into<Arc<str>>) -> Self {
        self.metadata = Some(metadata.into());
        self
    }
}

/// The consumer group whose offsets are committed, and which of its members commits them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroup {
    pub(crate) id: Arc<str>,
    pub(crate) generation: i32,
    pub(crate) member_id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
}

impl ConsumerGroup {
    /// A group (`group.id`) whose consumer has chosen its partitions itself.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self {
            id: id.into(),
            generation: -1,
            member_id: Arc::from(""),
            instance_id: None,
        }
    }

    /// The member that was given the partitions, and its generation: with it a member that has lost
    /// them cannot commit (KIP-447).
    #[must_use]
    pub fn member(mut self, member_id: impl Into<Arc<str>>, generation: i32) -> Self {
        self.member_id = member_id.into();
        self.generation = generation;
        self
    }

    /// The member's `group.instance.id`, if it has one.
    #[must_use]
    pub fn instance(mut self, instance_id: impl Into<Arc<str>>) -> Self {
        self.instance_id = Some(instance_id.into());
        self
    }
}

/// Offsets to commit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffsets {
    pub(crate) group: ConsumerGroup,
    pub(crate) offsets: Vec<ConsumedOffset>,
}

impl GroupOffsets {
    /// Of one partition named twice the later counts.
    #[must_use]
    pub fn new(group: ConsumerGroup, mut offsets: Vec<ConsumedOffset>) -> Self {
        offsets.reverse();
        offsets.sort_by(|one, other| {
            let place = |offset: &ConsumedOffset| (Arc::clone(&offset.topic), offset.partition);
            place(one).cmp(&place(other))
        });
        offsets.dedup_by(|one, kept| one.topic == kept.topic && one.partition == kept.partition);
        Self { group, offsets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_partition_named_twice_the_later_counts() {
        let offsets = vec![
            ConsumedOffset::next("b", 0, 1),
            ConsumedOffset::next("a", 1, 2),
            ConsumedOffset::next("b", 0, 3).metadata("here"),
        ];
        let offsets = GroupOffsets::new(ConsumerGroup::new("copiers"), offsets).offsets;
        let expected = [
            ConsumedOffset::next("a", 1, 2),
            ConsumedOffset::next("b", 0, 3).metadata("here"),
        ];
        assert_eq!(offsets, expected);
    }
}
