//! A broker played by a script, in memory, for tests of the producer's edge on a paused clock.
//!
//! It speaks classic (not flexible) versions only, so that its answers can be read in this file,
//! and it shares no code with the producer. It checks little: judging batches is the business of
//! the mock cluster and the conformance suite.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kafka_producer::engine::effect::Address;
use kafka_producer::io::transport::{Connecting, Connector, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::read_back::{ReadRecord, read_batch};

/// In the place of an API: while it is held, no request is read beyond its size.
pub(crate) const ANYTHING: i16 = -1;
pub(crate) const PRODUCE: i16 = 0;
pub(crate) const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const INIT_PRODUCER_ID: i16 = 22;

/// The scripted broker. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Peer {
    script: Arc<Mutex<Script>>,
    changed: Arc<Notify>,
    hang_up: Arc<Notify>,
    started: Instant,
}

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// Since the peer was made.
    pub(crate) at: Duration,
    pub(crate) api_key: i16,
    /// For Produce: (partition, records) per batch.
    pub(crate) batches: Vec<(i32, u32)>,
}

/// A record as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) record: ReadRecord,
}

struct Script {
    topics: BTreeMap<String, i32>,
    /// Topics that nobody may write to.
    forbidden: BTreeSet<String>,
    /// One broker for each, who lead the partitions in turn; an empty name is none.
    racks: Vec<&'static str>,
    reachable: bool,
    held: BTreeSet<i16>,
    produce_errors: VecDeque<i16>,
    next_offsets: BTreeMap<(String, i32), i64>,
    arrived: Vec<Arrived>,
    seen: Vec<Seen>,
    connections: usize,
}

impl Peer {
    /// A broker that leads these topics, with so many partitions each.
    pub(crate) fn new(topics: &[(&str, i32)]) -> Self {
        let topics = topics.iter().map(|&(name, count)| (name.to_owned(), count));
        Self {
            script: Arc::new(Mutex::new(Script {
                topics: topics.collect(),
                forbidden: BTreeSet::new(),
                racks: vec![""],
                reachable: true,
                held: BTreeSet::new(),
                produce_errors: VecDeque::new(),
                next_offsets: BTreeMap::new(),
                arrived: Vec::new(),
                seen: Vec::new(),
                connections: 0,
            })),
            changed: Arc::new(Notify::new()),
            hang_up: Arc::new(Notify::new()),
            started: Instant::now(),
        }
    }

    /// A broker in each of these racks, who lead the partitions in turn; of a partition's replicas
    /// all but the leader are offline.
    pub(crate) fn in_racks(self, racks: &[&'static str]) -> Self {
        self.script().racks = racks.to_vec();
        self
    }

    /// From here on no connection can be made.
    pub(crate) fn unreachable(self) -> Self {
        self.script().reachable = false;
        self
    }

    /// Requests of this API wait for [`Peer::release`].
    pub(crate) fn hold(&self, api_key: i16) {
        self.script().held.insert(api_key);
    }

    /// Answers what was held, and what comes.
    pub(crate) fn release(&self, api_key: i16) {
        self.script().held.remove(&api_key);
        self.changed.notify_waiters();
    }

    /// Ends all connections.
    pub(crate) fn hang_up(&self) {
        self.hang_up.notify_waiters();
    }

    /// From here on nobody may write to a topic.
    pub(crate) fn forbid(&self, topic: &str) {
        self.script().forbidden.insert(topic.to_owned());
    }

    /// Everybody may write to a topic again.
    pub(crate) fn allow(&self, topic: &str) {
        self.script().forbidden.remove(topic);
    }

    /// The next Produce is refused with this code.
    pub(crate) fn refuse_produce(&self, code: i16) {
        self.script().produce_errors.push_back(code);
    }

    /// All requests of one API, in order of arrival.
    pub(crate) fn arrived(&self, api_key: i16) -> Vec<Arrived> {
        let script = self.script();
        let arrived = script.arrived.iter().filter(|a| a.api_key == api_key);
        arrived.cloned().collect()
    }

    /// How many records arrived.
    pub(crate) fn records(&self) -> u32 {
        let produced = self.arrived(PRODUCE);
        produced.iter().flat_map(|a| &a.batches).map(|b| b.1).sum()
    }

    /// All records, in order of arrival.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.script().seen.clone()
    }

    /// Connections that stand.
    pub(crate) fn connections(&self) -> usize {
        self.script().connections
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script
            .lock()
            .expect("no test panics while it holds the script")
    }

    /// Reads requests from a pipe and answers them until it ends.
    pub(crate) async fn serve(self, mut pipe: DuplexStream) -> io::Result<()> {
        loop {
            let size = pipe.read_i32().await?;
            self.released(ANYTHING).await;
            let mut frame = vec![0; usize::try_from(size).expect("a size")];
            pipe.read_exact(&mut frame).await?;
            let request = Request::read(&frame);
            self.note(&request);
            self.released(request.api_key).await;
            if let Some(answer) = self.answer_to(&frame) {
                pipe.write_all(&answer).await?;
            }
        }
    }

    /// Its answer to a request, with its size, if there is one.
    pub(crate) fn answer_to(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let request = Request::read(frame);
        let body = self.body(&request)?;
        let size = i32::try_from(4 + body.len()).expect("small");
        let answer = Bytes::new().i32(size).i32(request.correlation_id);
        Some(answer.put(&body).0)
    }

    async fn released(&self, api_key: i16) {
        loop {
            // Made before the look, so that a release in between is not missed.
            let changed = self.changed.notified();
            if !self.script().held.contains(&api_key) {
                return;
            }
            changed.await;
        }
    }

    fn note(&self, request: &Request) {
        let arrived = Arrived {
            at: self.started.elapsed(),
            api_key: request.api_key,
            batches: request
                .batches
                .iter()
                .map(|b| (b.partition, b.records))
                .collect(),
        };
        // Readers of compressed batches are others.
        let is_plain = |batch: &&Batch| batch.bytes[22] & 7 == 0;
        let seen = request.batches.iter().filter(is_plain).flat_map(|batch| {
            let records = read_batch(&batch.bytes).records.into_iter();
            records.map(|record| Seen {
                topic: batch.topic.clone(),
                partition: batch.partition,
                record,
            })
        });
        let mut script = self.script();
        script.arrived.push(arrived);
        script.seen.extend(seen);
    }

    fn body(&self, request: &Request) -> Option<Vec<u8>> {
        let mut script = self.script();
        match request.api_key {
            API_VERSIONS => Some(api_versions()),
            METADATA => Some(script.metadata(&request.topics)),
            INIT_PRODUCER_ID => Some(Bytes::new().i32(0).i16(0).i64(4000).i16(0).0),
            PRODUCE if request.acks == 0 => None,
            PRODUCE => Some(script.produce(&request.batches)),
            other => panic!("the producer asked for API {other}"),
        }
    }
}

impl Connector for Peer {
    fn connect(&self, _: Address) -> Connecting {
        let peer = self.clone();
        Box::pin(async move {
            if !peer.script().reachable {
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "refused"));
            }
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            peer.script().connections += 1;
            tokio::spawn(async move {
                let script = Arc::clone(&peer.script);
                let hang_up = peer.hang_up.notified();
                tokio::select! {
                    _hung_up = peer.clone().serve(theirs) => {}
                    () = hang_up => {}
                }
                script.lock().expect("not poisoned").connections -= 1;
            });
            let transport: Box<dyn Transport> = Box::new(ours);
            Ok(transport)
        })
    }
}

impl Script {
    fn metadata(&self, asked: &[String]) -> Vec<u8> {
        let mut body = Bytes::new().i32(0).count(self.racks.len());
        for (broker, rack) in (1..).zip(&self.racks) {
            body = body.i32(broker).string("broker").i32(9091 + broker);
            body = if rack.is_empty() {
                body.i16(-1)
            } else {
                body.string(rack)
            };
        }
        let brokers = i32::try_from(self.racks.len()).expect("few");
        body = body.i16(-1).i32(1).count(asked.len());
        for name in asked {
            let forbidden = self.forbidden.contains(name);
            let count = self.topics.get(name).copied().filter(|_| !forbidden);
            let code = match count {
                Some(_) => 0,
                None if forbidden => 29,
                None => 17,
            };
            body = body.i16(code).string(name).i8(0).i32(count.unwrap_or(0));
            for partition in 0..count.unwrap_or(0) {
                let leader = 1 + partition % brokers;
                body = body.i16(0).i32(partition).i32(leader).i32(0);
                let others = (1..=brokers).filter(|broker| *broker != leader);
                let others: Vec<i32> = others.collect();
                body = body.i32(brokers).i32(leader);
                body = others.iter().fold(body, |body, other| body.i32(*other));
                body = body.i32(1).i32(leader).count(others.len());
                body = others.iter().fold(body, |body, other| body.i32(*other));
            }
        }
        body.0
    }

    fn produce(&mut self, batches: &[Batch]) -> Vec<u8> {
        let code = self.produce_errors.pop_front().unwrap_or(0);
        let mut body = Bytes::new().count(batches.len());
        for batch in batches {
            let place = (batch.topic.clone(), batch.partition);
            let next = self.next_offsets.entry(place).or_default();
            let base = if code == 0 { *next } else { -1 };
            if code == 0 {
                *next += i64::from(batch.records);
            }
            body = body.string(&batch.topic).i32(1).i32(batch.partition);
            body = body.i16(code).i64(base).i64(-1).i64(0);
        }
        body.i32(0).0
    }
}

fn api_versions() -> Vec<u8> {
    let ranges = [
        (PRODUCE, 3, 7),
        (METADATA, 4, 7),
        (API_VERSIONS, 0, 3),
        (INIT_PRODUCER_ID, 0, 1),
    ];
    let length = i8::try_from(ranges.len() + 1).expect("short");
    let mut body = Bytes::new().i16(0).i8(length);
    for (api_key, min, max) in ranges {
        body = body.i16(api_key).i16(min).i16(max).i8(0);
    }
    body.i32(0).i8(0).0
}

struct Request {
    api_key: i16,
    correlation_id: i32,
    topics: Vec<String>,
    acks: i16,
    batches: Vec<Batch>,
}

struct Batch {
    topic: String,
    partition: i32,
    records: u32,
    bytes: Vec<u8>,
}

impl Request {
    fn read(frame: &[u8]) -> Self {
        let mut from = From(frame);
        let (api_key, version) = (from.i16(), from.i16());
        let mut request = Self {
            api_key,
            correlation_id: from.i32(),
            topics: Vec::new(),
            acks: -1,
            batches: Vec::new(),
        };
        from.string();
        match api_key {
            METADATA => {
                assert!(version <= 7, "only classic versions are offered");
                request.topics = (0..from.i32().max(0)).map(|_| from.string()).collect();
            }
            PRODUCE => request.read_produce(&mut from),
            _ => {}
        }
        request
    }

    fn read_produce(&mut self, from: &mut From<'_>) {
        from.string();
        self.acks = from.i16();
        from.i32();
        for _ in 0..from.i32() {
            let topic = from.string();
            for _ in 0..from.i32() {
                let partition = from.i32();
                let length = usize::try_from(from.i32()).expect("a batch");
                let records = from.take(length);
                // The batch's record count is the last field of its header of 61 bytes.
                let count = records[57..61].try_into().expect("four bytes");
                self.batches.push(Batch {
                    topic: topic.clone(),
                    partition,
                    records: u32::from_be_bytes(count),
                    bytes: records.to_vec(),
                });
            }
        }
    }
}

/// Bytes being written, by type.
struct Bytes(Vec<u8>);

impl Bytes {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn put(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn i8(self, value: i8) -> Self {
        self.put(&value.to_be_bytes())
    }

    fn i16(self, value: i16) -> Self {
        self.put(&value.to_be_bytes())
    }

    fn i32(self, value: i32) -> Self {
        self.put(&value.to_be_bytes())
    }

    fn i64(self, value: i64) -> Self {
        self.put(&value.to_be_bytes())
    }

    fn count(self, count: usize) -> Self {
        self.i32(i32::try_from(count).expect("small"))
    }

    fn string(self, text: &str) -> Self {
        let length = i16::try_from(text.len()).expect("short");
        self.i16(length).put(text.as_bytes())
    }
}

/// Bytes being read, by type.
struct From<'a>(&'a [u8]);

impl<'a> From<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().expect("two bytes"))
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn string(&mut self) -> String {
        let length = self.i16().max(0);
        let text = self.take(usize::try_from(length).expect("not negative"));
        String::from_utf8(text.to_vec()).expect("a name")
    }
}
