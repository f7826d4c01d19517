//! What brokers tell their clients, read by hand and apart from both engines: throttles, versions,
//! leaders.
//!
//! *Source*: Kafka's `ProduceResponse.json`, `MetadataResponse.json`, `ApiVersionsResponse.json`,
//! `InitProducerIdResponse.json`.
//!
//! *Not here*: what a client has to do about it (`oracle/wire.rs`).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use kafka_mockbroker::Api;

use crate::capture::TopicName;
use crate::history::{LeaderTold, Partition, Told};

/// An answer, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// What it tells.
    pub told: Told,
    /// Where in the frame the throttle time stands.
    pub throttle_at: Option<Range<usize>>,
}

/// Reads the answer to a request of this API and version; what is not understood tells nothing.
#[must_use]
pub fn read(api: Api, version: i16, frame: &[u8], topics: &[TopicName]) -> Answer {
    let mut reader = Reader {
        frame,
        at: 0,
        flexible: is_flexible(api, version),
        answer: Answer::default(),
    };
    let read = match api {
        Api::Produce => reader.produce(version, topics),
        Api::Metadata => reader.metadata(version),
        Api::ApiVersions => reader.api_versions(version),
        Api::InitProducerId => reader.init_producer_id(),
        _ => None,
    };
    match read {
        Some(()) => reader.answer,
        None => Answer::default(),
    }
}

/// NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH.
const HINTING: [i16; 2] = [6, 74];

fn is_flexible(api: Api, version: i16) -> bool {
    let from = match api {
        Api::Produce | Api::Metadata => 9,
        Api::ApiVersions => 3,
        _ => 2,
    };
    version >= from
}

struct Reader<'a> {
    frame: &'a [u8],
    at: usize,
    flexible: bool,
    answer: Answer,
}

impl Reader<'_> {
    fn produce(&mut self, version: i16, topics: &[TopicName]) -> Option<()> {
        self.header()?;
        for _ in 0..self.count()? {
            let topic = match version {
                13.. => {
                    let id = self.take(16)?;
                    let known = topics.iter().find(|(known, _)| known[..] == *id)?;
                    Arc::clone(&known.1)
                }
                _ => self.text()?.into(),
            };
            for _ in 0..self.count()? {
                let number = self.i32()?;
                let code = self.i16()?;
                self.take(8 + 8)?;
                self.take(if version >= 5 { 8 } else { 0 })?;
                if version >= 8 {
                    for _ in 0..self.count()? {
                        self.i32()?;
                        self.text()?;
                        self.tags(|_, _| ())?;
                    }
                    self.text()?;
                }
                let mut hint = None;
                self.tags(|tag, bytes| {
                    if let (0, [l0, l1, l2, l3, e0, e1, e2, e3, ..]) = (tag, bytes) {
                        let leader = i32::from_be_bytes([*l0, *l1, *l2, *l3]);
                        hint = Some((leader, i32::from_be_bytes([*e0, *e1, *e2, *e3])));
                    }
                })?;
                // Others have no room for it (KIP-951); a rule that changes a code leaves the tag.
                let hint = hint.filter(|(leader, _)| *leader >= 0 && HINTING.contains(&code));
                if let Some((leader, epoch)) = hint {
                    let topic = Arc::clone(&topic);
                    self.leads(Partition { topic, number }, leader, epoch);
                }
            }
            self.tags(|_, _| ())?;
        }
        self.throttle()
    }

    fn metadata(&mut self, version: i16) -> Option<()> {
        self.header()?;
        self.throttle()?;
        for _ in 0..self.count()? {
            self.i32()?;
            self.text()?;
            self.i32()?;
            self.text()?;
            self.tags(|_, _| ())?;
        }
        self.text()?;
        self.i32()?;
        for _ in 0..self.count()? {
            self.take(2)?;
            let topic: Arc<str> = self.text()?.into();
            self.take(if version >= 10 { 16 } else { 0 })?;
            self.take(1)?;
            for _ in 0..self.count()? {
                self.take(2)?;
                let number = self.i32()?;
                let leader = self.i32()?;
                let epoch = if version >= 7 { self.i32()? } else { -1 };
                // Before they are not reliable, and followed whatever they are (KAFKA-10027).
                let epoch = if version >= 9 { epoch } else { -1 };
                for _ in 0..if version >= 5 { 3 } else { 2 } {
                    let replicas = self.count()?;
                    self.take(replicas * 4)?;
                }
                self.tags(|_, _| ())?;
                let topic = Arc::clone(&topic);
                self.leads(Partition { topic, number }, leader, epoch);
            }
            self.take(if version >= 8 { 4 } else { 0 })?;
            self.tags(|_, _| ())?;
        }
        Some(())
    }

    fn api_versions(&mut self, version: i16) -> Option<()> {
        // Its header is the old one in every version (KIP-511).
        self.take(4)?;
        self.take(2)?;
        for _ in 0..self.count()? {
            let row = (self.i16()?, self.i16()?, self.i16()?);
            self.tags(|_, _| ())?;
            self.answer.told.versions.push(row);
        }
        if version >= 1 {
            self.throttle()
        } else {
            Some(())
        }
    }

    fn init_producer_id(&mut self) -> Option<()> {
        self.header()?;
        self.throttle()
    }

    fn leads(&mut self, partition: Partition, leader: i32, epoch: i32) {
        self.answer.told.leaders.push(LeaderTold {
            partition,
            leader: (leader >= 0).then_some(leader),
            epoch,
        });
    }

    fn header(&mut self) -> Option<()> {
        self.take(4)?;
        self.tags(|_, _| ())
    }

    fn throttle(&mut self) -> Option<()> {
        let from = self.at;
        let millis = self.i32()?;
        self.answer.throttle_at = Some(from..self.at);
        self.answer.told.throttle = Duration::from_millis(u64::try_from(millis).ok()?);
        Some(())
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let bytes = self.frame.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(bytes)
    }

    fn i16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(*self.take(4)?.first_chunk()?))
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// An array's length; of a null one 0.
    fn count(&mut self) -> Option<usize> {
        match self.flexible {
            true => Some(self.varint()?.saturating_sub(1)),
            false => Some(usize::try_from(self.i32()?).unwrap_or(0)),
        }
    }

    /// A text; a null one is empty.
    fn text(&mut self) -> Option<String> {
        let bytes = match self.flexible {
            true => self.varint()?.saturating_sub(1),
            false => usize::try_from(self.i16()?).unwrap_or(0),
        };
        Some(String::from_utf8_lossy(self.take(bytes)?).into_owned())
    }

    fn tags(&mut self, mut each: impl FnMut(usize, &[u8])) -> Option<()> {
        if !self.flexible {
            return Some(());
        }
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let bytes = self.varint()?;
            each(tag, self.take(bytes)?);
        }
        Some(())
    }
}
