//! The scripted peer's side of the wire, written apart from `wire/`: it reads requests and writes
//! answers with its own code, so that one misunderstanding cannot hide on both sides.
//!
//! *Not here*: any rule of a broker; what to answer is the scenario's choice.

/// A request as it left, prefix checked and cut off.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) api_key: i16,
    pub(super) version: i16,
    pub(super) correlation_id: i32,
    pub(super) body: Vec<u8>,
}

/// A batch as a broker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenBatch {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) producer_id: i64,
    pub(super) epoch: i16,
    pub(super) sequence: i32,
    pub(super) count: i32,
    pub(super) bytes: Vec<u8>,
}

/// Reads a whole frame.
pub(super) fn read_request(frame: &[u8]) -> Request {
    let mut input = Input(frame);
    assert_eq!(
        input.i32() as usize,
        frame.len() - 4,
        "the size prefix counts the rest"
    );
    let (api_key, version, correlation_id) = (input.i16(), input.i16(), input.i32());
    let client_id_bytes = input.i16() as usize;
    assert_eq!(input.bytes(client_id_bytes), b"scenario", "the client id");
    let flexible_from = match api_key {
        0 | 3 => 9,
        18 => 3,
        10 | 24 | 25 | 26 | 28 => 3,
        22 => 2,
        other => panic!("api {other} is not a producer's"),
    };
    if version >= flexible_from {
        assert_eq!(input.u8(), 0, "no tags in the header");
    }
    Request {
        api_key,
        version,
        correlation_id,
        body: input.0.to_vec(),
    }
}

/// What a Produce request says.
pub(super) struct SeenProduce {
    pub(super) transactional_id: Option<String>,
    pub(super) acks: i16,
    pub(super) batches: Vec<SeenBatch>,
}

/// Reads a Produce request of v9 to v12.
pub(super) fn read_produce(request: &Request) -> SeenProduce {
    assert!(
        (9..=12).contains(&request.version),
        "the script speaks names in flexible versions"
    );
    let mut input = Input(&request.body);
    let transactional_id = input.nullable_text();
    let acks = input.i16();
    let _timeout_ms = input.i32();
    let mut batches = Vec::new();
    for _ in 1..input.varint() {
        let topic_bytes = input.varint() as usize - 1;
        let topic = String::from_utf8(input.bytes(topic_bytes).to_vec()).expect("utf-8");
        let named_before = batches.iter().any(|one: &SeenBatch| one.topic == topic);
        assert!(
            !named_before,
            "brokers keep the last entry of a topic named twice"
        );
        for _ in 1..input.varint() {
            let partition = input.i32();
            let size = input.varint() as usize - 1;
            batches.push(read_batch(&topic, partition, input.bytes(size)));
            assert_eq!(input.u8(), 0, "no tags behind a partition");
        }
        assert_eq!(input.u8(), 0, "no tags behind a topic");
    }
    assert_eq!(input.u8(), 0, "no tags behind the request");
    assert!(input.0.is_empty(), "nothing behind the request");
    for batch in &batches {
        let part = batch.bytes[22] & 0x10 != 0;
        assert_eq!(part, transactional_id.is_some(), "the batch says so too");
    }
    SeenProduce {
        transactional_id,
        acks,
        batches,
    }
}

fn read_batch(topic: &str, partition: i32, bytes: &[u8]) -> SeenBatch {
    let at = |from: usize| Input(&bytes[from..]);
    assert_eq!(at(0).i64(), 0, "base offset");
    assert_eq!(at(8).i32() as usize, bytes.len() - 12, "batch length");
    assert_eq!(bytes[16], 2, "magic");
    assert_eq!(
        at(17).i32() as u32,
        crc32c::crc32c(&bytes[21..]),
        "checksum"
    );
    let count = at(57).i32();
    assert_eq!(at(23).i32(), count - 1, "last offset delta");
    SeenBatch {
        topic: topic.to_owned(),
        partition,
        producer_id: at(43).i64(),
        epoch: at(51).i16(),
        sequence: at(53).i32(),
        count,
        bytes: bytes.to_vec(),
    }
}

/// A broker of the script.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: i32,
    pub(super) port: u16,
}

/// A topic of the script: a code, or partitions with leader and epoch.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) id: i64,
    pub(super) code: i16,
    pub(super) partitions: Vec<(i32, i32)>,
}

/// The answer to ApiVersions v0 to v4; `features` are an agreement's epoch and its
/// `transaction.version`.
pub(super) fn api_versions(
    request: &Request,
    code: i16,
    ranges: &[(i16, i16, i16)],
    features: Option<(i64, i16)>,
) -> Vec<u8> {
    // 35 comes in the layout of version 0 (KIP-511).
    let version = if code == 35 { 0 } else { request.version };
    let mut output = Output::answer_to(request);
    output.i16(code);
    if version >= 3 {
        output.varint(ranges.len() as u32 + 1);
    } else {
        output.i32(ranges.len() as i32);
    }
    for (key, min, max) in ranges {
        output.i16(*key).i16(*min).i16(*max);
        if version >= 3 {
            output.u8(0);
        }
    }
    if version >= 1 {
        output.i32(0);
    }
    if version >= 3 {
        put_features(&mut output, features);
    }
    output.0
}

fn put_features(output: &mut Output, features: Option<(i64, i16)>) {
    let Some((epoch, level)) = features else {
        output.u8(0);
        return;
    };
    let mut finalized = Output(Vec::new());
    finalized.varint(2).text("transaction.version");
    finalized.i16(level).i16(level).u8(0);
    output.u8(2).u8(1).u8(8).i64(epoch);
    output.u8(2).varint(finalized.0.len() as u32);
    output.0.extend(finalized.0);
}

/// The answer to Metadata v12 and v13, which has a code for the whole.
pub(super) fn metadata(request: &Request, nodes: &[Node], topics: &[Topic], code: i16) -> Vec<u8> {
    assert!((12..=13).contains(&request.version));
    let mut output = Output::answer_to(request);
    output.u8(0).i32(0).varint(nodes.len() as u32 + 1);
    for node in nodes {
        output
            .i32(node.id)
            .text("broker")
            .i32(i32::from(node.port))
            .u8(0)
            .u8(0);
    }
    output.u8(0).i32(-1).varint(topics.len() as u32 + 1);
    for topic in topics {
        output
            .i16(topic.code)
            .text(&topic.name)
            .i64(0)
            .i64(topic.id)
            .u8(0);
        output.varint(topic.partitions.len() as u32 + 1);
        for (index, (leader, epoch)) in (0..).zip(&topic.partitions) {
            output
                .i16(if *leader < 0 { 5 } else { 0 })
                .i32(index)
                .i32(*leader)
                .i32(*epoch);
            output.u8(1).u8(1).u8(1).u8(0);
        }
        output.i32(i32::MIN).u8(0);
    }
    if request.version >= 13 {
        output.i16(code);
    }
    output.u8(0);
    output.0
}

/// The answer to InitProducerId v4.
pub(super) fn producer_id(request: &Request, code: i16, id: i64) -> Vec<u8> {
    assert_eq!(request.version, 4);
    let mut output = Output::answer_to(request);
    output
        .u8(0)
        .i32(0)
        .i16(code)
        .i64(if code == 0 { id } else { -1 });
    output.i16(if code == 0 { 0 } else { -1 }).u8(0);
    output.0
}

/// One partition's row of a Produce answer.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) partition: i32,
    pub(super) code: i16,
    pub(super) base_offset: i64,
    /// The leader and epoch that a refusal names.
    pub(super) leader: Option<(i32, i32)>,
}

/// The answer to Produce v9 to v12, about one topic.
pub(super) fn produced(
    request: &Request,
    topic: &str,
    rows: &[Row],
    throttle_ms: i32,
    endpoints: &[Node],
) -> Vec<u8> {
    let mut output = Output::answer_to(request);
    output
        .u8(0)
        .varint(2)
        .text(topic)
        .varint(rows.len() as u32 + 1);
    for row in rows {
        output
            .i32(row.partition)
            .i16(row.code)
            .i64(row.base_offset)
            .i64(-1)
            .i64(0);
        output.u8(1).u8(0); // no record errors, no message
        match row.leader {
            None => output.u8(0),
            Some((leader, epoch)) => output.u8(1).u8(0).u8(9).i32(leader).i32(epoch).u8(0),
        };
    }
    output.u8(0).i32(throttle_ms);
    if endpoints.is_empty() {
        output.u8(0);
        return output.0;
    }
    let mut tag = Output(Vec::new());
    tag.varint(endpoints.len() as u32 + 1);
    for node in endpoints {
        tag.i32(node.id)
            .text("broker")
            .i32(i32::from(node.port))
            .u8(0)
            .u8(0);
    }
    output.u8(1).u8(0).varint(tag.0.len() as u32);
    output.0.extend(tag.0);
    output.0
}

pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    pub(super) fn u8(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    pub(super) fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.bytes(2).try_into().expect("two bytes"))
    }

    pub(super) fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.bytes(4).try_into().expect("four bytes"))
    }

    pub(super) fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.bytes(8).try_into().expect("eight bytes"))
    }

    pub(super) fn text(&mut self) -> String {
        self.nullable_text().expect("not null")
    }

    fn nullable_text(&mut self) -> Option<String> {
        let length = (self.varint() as usize).checked_sub(1)?;
        Some(String::from_utf8(self.bytes(length).to_vec()).expect("utf-8"))
    }

    pub(super) fn varint(&mut self) -> u32 {
        let byte = self.u8();
        let low = u32::from(byte & 0x7f);
        if byte < 0x80 {
            low
        } else {
            low | self.varint() << 7
        }
    }
}

pub(super) struct Output(pub(super) Vec<u8>);

impl Output {
    pub(super) fn answer_to(request: &Request) -> Self {
        Self(request.correlation_id.to_be_bytes().to_vec())
    }

    pub(super) fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub(super) fn i16(&mut self, value: i16) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn i32(&mut self, value: i32) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn i64(&mut self, value: i64) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn varint(&mut self, value: u32) -> &mut Self {
        if value < 0x80 {
            return self.u8(value as u8);
        }
        self.u8(value as u8 | 0x80).varint(value >> 7)
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.varint(text.len() as u32 + 1);
        self.0.extend(text.as_bytes());
        self
    }
}
