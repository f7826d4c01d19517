//! Record batches built to be judged with: sound by default, every header field can be set apart.
//!
//! *Invariant*: a [`BatchSpec`] without overrides encodes to a batch that Kafka accepts, and the
//! checksum always covers what was written; a wrong checksum is made by [`flip_bit`] afterwards.
//!
//! *Source*: Kafka's `DefaultRecordBatch` and `DefaultRecord` (message format v2, KIP-98).

use bytes::Bytes;

use super::codec::Codec;

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;
/// Offset of the length field.
const LENGTH_AT: usize = 8;
/// Offset of the checksum.
const CRC_AT: usize = 17;
/// The checksum covers everything from here.
pub const CRC_COVERS_FROM: usize = 21;
/// Attribute bit of a transactional batch.
pub const TRANSACTIONAL_BIT: i16 = 0x10;
/// Attribute bit of a control batch.
pub const CONTROL_BIT: i16 = 0x20;

/// One record to write.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RecordSpec {
    /// `None` is null.
    pub key: Option<Bytes>,
    /// `None` is null.
    pub value: Option<Bytes>,
    /// In order; keys may repeat.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl RecordSpec {
    /// A record without key that holds `value`.
    pub fn of(value: impl Into<Bytes>) -> Self {
        Self {
            value: Some(value.into()),
            ..Self::default()
        }
    }
}

/// Which producer stamped a batch, and where in its order the batch stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// Producer id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of the first record.
    pub sequence: i32,
}

impl Stamp {
    /// What a producer without an id writes.
    pub const NONE: Self = Self {
        id: -1,
        epoch: -1,
        sequence: -1,
    };
}

/// A batch to write; `None` means the honest value.
#[derive(Clone, Debug)]
pub struct BatchSpec {
    /// Producers write 0.
    pub base_offset: i64,
    /// Magic byte.
    pub magic: i8,
    /// Added to the codec's bits.
    pub attributes: i16,
    /// How the records are packed.
    pub codec: Codec,
    /// Timestamp of every record, milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Producer id, epoch, sequence.
    pub stamp: Stamp,
    /// Instead of the number of records less one.
    pub last_offset_delta: Option<i32>,
    /// Instead of the number of records.
    pub count: Option<i32>,
    /// Of each record after [`Self::timestamp_ms`], milliseconds; those not named are at 0.
    pub timestamp_deltas: Vec<i64>,
    /// What stands behind the header.
    pub payload: Payload,
    /// The records.
    pub records: Vec<RecordSpec>,
}

/// What stands behind a batch's header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Payload {
    /// The records, packed.
    Records,
    /// These bytes instead of the records, packed.
    Unpacked(Bytes),
    /// These bytes as they are, whatever the codec's bits say.
    Packed(Bytes),
}

impl BatchSpec {
    /// A sound batch of `records`, without producer id, not compressed.
    pub fn of(records: Vec<RecordSpec>, timestamp_ms: i64) -> Self {
        Self {
            base_offset: 0,
            magic: 2,
            attributes: 0,
            codec: Codec::None,
            timestamp_ms,
            stamp: Stamp::NONE,
            last_offset_delta: None,
            count: None,
            timestamp_deltas: Vec::new(),
            payload: Payload::Records,
            records,
        }
    }

    /// A sound batch of `count` records that hold `prefix` and a number.
    pub fn numbered(prefix: &str, count: usize, timestamp_ms: i64) -> Self {
        let records = (0..count)
            .map(|index| RecordSpec::of(format!("{prefix}-{index}")))
            .collect();
        Self::of(records, timestamp_ms)
    }

    /// The same with a producer's stamp.
    pub fn stamped(self, stamp: Stamp) -> Self {
        Self { stamp, ..self }
    }

    /// The batch as bytes.
    pub fn encode(&self) -> Bytes {
        let packed = match &self.payload {
            Payload::Records => self.packed(&self.records_encoded()),
            Payload::Unpacked(records) => self.packed(records),
            Payload::Packed(packed) => packed.to_vec(),
        };
        let count = i32::try_from(self.records.len()).unwrap_or(i32::MAX);
        let length = HEADER_BYTES - 12 + packed.len();

        let mut batch = Vec::with_capacity(HEADER_BYTES + packed.len());
        batch.extend_from_slice(&self.base_offset.to_be_bytes());
        batch.extend_from_slice(&i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes());
        batch.extend_from_slice(&(-1_i32).to_be_bytes()); // partition leader epoch
        batch.extend_from_slice(&self.magic.to_be_bytes());
        batch.extend_from_slice(&[0; 4]); // checksum, below
        batch.extend_from_slice(&(self.attributes | self.codec.bits()).to_be_bytes());
        batch.extend_from_slice(&self.last_offset_delta.unwrap_or(count - 1).to_be_bytes());
        batch.extend_from_slice(&self.timestamp_ms.to_be_bytes());
        let latest = self.timestamp_deltas.iter().max().copied().unwrap_or(0);
        batch.extend_from_slice(&self.timestamp_ms.saturating_add(latest).to_be_bytes());
        batch.extend_from_slice(&self.stamp.id.to_be_bytes());
        batch.extend_from_slice(&self.stamp.epoch.to_be_bytes());
        batch.extend_from_slice(&self.stamp.sequence.to_be_bytes());
        batch.extend_from_slice(&self.count.unwrap_or(count).to_be_bytes());
        batch.extend_from_slice(&packed);
        seal(&mut batch);
        batch.into()
    }

    /// The records as they are before they are packed.
    pub fn records_encoded(&self) -> Vec<u8> {
        let mut records = Vec::new();
        for (index, record) in self.records.iter().enumerate() {
            let delta = self.timestamp_deltas.get(index).copied().unwrap_or(0);
            encode_record(record, (index, delta), &mut records);
        }
        records
    }

    fn packed(&self, records: &[u8]) -> Vec<u8> {
        // The libraries pack into memory and report no failure there.
        self.codec.pack(records).unwrap_or_default()
    }
}

/// Writes the checksum of what follows it.
fn seal(batch: &mut [u8]) {
    let Some((head, covered)) = batch.split_at_mut_checked(CRC_COVERS_FROM) else {
        return;
    };
    head[CRC_AT..].copy_from_slice(&crc32c::crc32c(covered).to_be_bytes());
}

/// `batch` with its length field changed by `change`; the checksum does not cover that field.
pub fn lengthened(batch: &[u8], change: i32) -> Bytes {
    let mut changed = batch.to_vec();
    if let Some(field) = changed.get_mut(LENGTH_AT..LENGTH_AT + 4) {
        let length = field.first_chunk().copied().map_or(0, i32::from_be_bytes);
        field.copy_from_slice(&length.wrapping_add(change).to_be_bytes());
    }
    changed.into()
}

/// `batch` whose checksum covers only what its length field claims, as if the rest were not there.
pub fn sealed_to_its_length(batch: &[u8]) -> Bytes {
    let mut sealed = batch.to_vec();
    let length = sealed
        .get(LENGTH_AT..)
        .and_then(|field| field.first_chunk())
        .map_or(0, |field| i32::from_be_bytes(*field));
    let end = usize::try_from(length).map_or(0, |length| LENGTH_AT + 4 + length);
    let end = end.min(sealed.len());
    seal(&mut sealed[..end]);
    sealed.into()
}

/// `body` as a record: behind its length.
pub fn record_of(body: &[u8]) -> Vec<u8> {
    let mut record = varint(i64::try_from(body.len()).unwrap_or(i64::MAX));
    record.extend_from_slice(body);
    record
}

/// `value` as the varint of Kafka's records: zigzag, seven bits a byte.
pub fn varint(value: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_varint(value, &mut bytes);
    bytes
}

/// `batch` with one bit turned: bit `bit` (0 is the lowest) of the byte at `at`.
pub fn flip_bit(batch: &[u8], at: usize, bit: u8) -> Bytes {
    let mut flipped = batch.to_vec();
    if let Some(byte) = flipped.get_mut(at) {
        *byte ^= 1 << (bit & 7);
    }
    flipped.into()
}

fn encode_record(record: &RecordSpec, (index, delta): (usize, i64), out: &mut Vec<u8>) {
    let mut body = vec![0]; // attributes
    put_varint(delta, &mut body); // timestamp delta
    put_varint(i64::try_from(index).unwrap_or(i64::MAX), &mut body);
    put_bytes(record.key.as_deref(), &mut body);
    put_bytes(record.value.as_deref(), &mut body);
    put_varint(
        i64::try_from(record.headers.len()).unwrap_or(i64::MAX),
        &mut body,
    );
    for (key, value) in &record.headers {
        put_bytes(Some(key.as_bytes()), &mut body);
        put_bytes(value.as_deref(), &mut body);
    }
    out.extend_from_slice(&record_of(&body));
}

fn put_bytes(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        None => put_varint(-1, out),
        Some(bytes) => {
            put_varint(i64::try_from(bytes.len()).unwrap_or(i64::MAX), out);
            out.extend_from_slice(bytes);
        }
    }
}

fn put_varint(value: i64, out: &mut Vec<u8>) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    loop {
        let [low, ..] = zigzag.to_le_bytes();
        zigzag >>= 7;
        if zigzag == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The golden bytes were accepted by Apache Kafka 4.3.1 in a Produce v7 request.
    #[test]
    fn one_record_encodes_to_the_bytes_that_kafka_accepted() {
        let record = RecordSpec {
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"v")),
            headers: Vec::new(),
        };
        let batch = BatchSpec::of(vec![record], 0x0000_01a2_003d_3290).encode();
        let golden = "00000000000000000000003affffffff023c8c470e0000000000000000\
                      01a2003d3290000001a2003d3290ffffffffffffffffffffffffffff00000001\
                      10000000026b027600";
        let hex: String = batch.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden);
    }

    #[test]
    fn changed_length_leaves_the_checksum_alone_until_it_is_sealed() {
        let batch = BatchSpec::numbered("v", 1, 7).encode();
        let shorter = lengthened(&batch, -4);
        assert_eq!(lengthened(&shorter, 4), batch);
        assert_eq!(shorter[CRC_AT..], batch[CRC_AT..]);
        let sealed = sealed_to_its_length(&shorter);
        let covered = crc32c::crc32c(&sealed[CRC_COVERS_FROM..sealed.len() - 4]);
        assert_eq!(sealed[CRC_AT..CRC_COVERS_FROM], covered.to_be_bytes());
    }

    #[test]
    fn payload_replaces_the_records() {
        let records = BatchSpec::numbered("v", 2, 7);
        let same = Payload::Unpacked(records.records_encoded().into());
        let same = BatchSpec {
            payload: same,
            ..records.clone()
        };
        assert_eq!(same.encode(), records.encode());
        let garbage = BatchSpec {
            payload: Payload::Packed(Bytes::from_static(b"garbage")),
            codec: Codec::Gzip,
            ..records
        };
        assert_eq!(&garbage.encode()[HEADER_BYTES..], b"garbage");
    }

    #[test]
    fn flipped_bit_is_the_only_change() {
        let batch = BatchSpec::numbered("v", 2, 7).encode();
        let flipped = flip_bit(&batch, CRC_COVERS_FROM + 3, 1);
        let changed: Vec<usize> = (0..batch.len())
            .filter(|&at| batch[at] != flipped[at])
            .collect();
        assert_eq!(changed, [CRC_COVERS_FROM + 3]);
        assert_eq!(flip_bit(&flipped, CRC_COVERS_FROM + 3, 1), batch);
    }
}
