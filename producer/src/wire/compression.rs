//! The codecs of `compression.type`, as Kafka frames them.
//!
//! | Codec | Framing |
//! |---|---|
//! | gzip | one member |
//! | snappy | snappy-java's stream: a header, then blocks of at most 32 KiB, each with its length |
//! | lz4 | one LZ4 frame of independent blocks of at most 64 KiB, without checksums |
//! | zstd | one frame, with its content's size |
//!
//! A batch's header is never compressed: what is compressed stands behind its room.
//!
//! *Invariants*
//! 1. A batch that does not become smaller stays as it is.
//! 2. A [`Compressor`] keeps its contexts and its scratch buffer from batch to batch; nothing else
//!    of one batch is in the next.
//! 3. The same records give the same bytes, whatever was compressed before.
//!
//! *Source*: Kafka's `common/compress/*.java`, `CompressionType`; KIP-110 (zstd), KIP-390 (levels).
//! Kafka's readers refuse LZ4 frames that call their blocks linked (`Lz4BlockOutputStream.FLG`).
//!
//! *Not here*: when a batch is compressed (`engine/compressing.rs`), by which thread
//! (`io/compression_pool.rs`).

use std::fmt;

use crate::types::CompressionType;
use crate::wire::batch_buffer::BatchBuffer;
#[cfg(feature = "lz4")]
use crate::wire::lz4_frame::{BlockCompressor, FastCompressor};
#[cfg(feature = "lz4")]
use crate::wire::lz4_high::HighCompressor;
use crate::wire::record_batch::HEADER_BYTES;

/// LZ4's fast compressor stands at the level that is Kafka's default; all others are the high one's
/// (`Lz4BlockOutputStream`).
const LZ4_FAST: i32 = 9;

/// A codec and how hard it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    /// Which.
    pub compression: CompressionType,
    /// Its level, in its own terms; without meaning for `none` and `snappy`.
    pub level: i32,
}

impl Codec {
    /// Records stay as they are.
    pub const NONE: Self = Self {
        compression: CompressionType::None,
        level: 0,
    };

    /// What a [`Compressor`] holds at most when its batches come to so many bytes: its contexts and
    /// its scratch buffer.
    #[must_use]
    pub fn compressor_bytes(self, batch_bytes: usize) -> usize {
        match self.compression {
            CompressionType::None => 0,
            CompressionType::Gzip => GZIP_BYTES + 2 * batch_bytes,
            CompressionType::Snappy => SNAPPY_BYTES + 2 * batch_bytes,
            CompressionType::Lz4 if self.level == LZ4_FAST => LZ4_BYTES + 2 * batch_bytes,
            CompressionType::Lz4 => LZ4_HIGH_BYTES + 2 * batch_bytes,
            CompressionType::Zstd => zstd_bytes(self.level, batch_bytes) + 2 * batch_bytes,
        }
    }

    /// Whether this crate was built with a codec.
    #[must_use]
    pub fn is_built(compression: CompressionType) -> bool {
        match compression {
            CompressionType::None => true,
            CompressionType::Gzip => cfg!(feature = "gzip"),
            CompressionType::Snappy => cfg!(feature = "snappy"),
            CompressionType::Lz4 => cfg!(feature = "lz4"),
            CompressionType::Zstd => cfg!(feature = "zstd"),
        }
    }
}

/// What became of a batch: its header's room, and the payload behind it.
#[derive(Debug, PartialEq, Eq)]
pub struct CompressedBatch {
    /// The codec of the payload; `None` if the batch did not become smaller.
    pub compression: CompressionType,
    /// Header room and payload.
    pub buffer: BatchBuffer,
}

impl CompressedBatch {
    /// A batch as it was.
    #[must_use]
    pub fn plain(buffer: BatchBuffer) -> Self {
        Self {
            compression: CompressionType::None,
            buffer,
        }
    }
}

/// One codec's contexts and scratch buffer; for one thread.
pub struct Compressor {
    compression: CompressionType,
    context: Context,
    scratch: Vec<u8>,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor")
            .field("compression", &self.compression)
            .finish_non_exhaustive()
    }
}

impl Compressor {
    /// Contexts for a codec.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self {
            compression: codec.compression,
            context: Context::new(codec),
            scratch: Vec::new(),
        }
    }

    /// Compresses the records behind a batch's header room; what does not become smaller stays as
    /// it is.
    #[must_use]
    pub fn compress(&mut self, plain: BatchBuffer) -> CompressedBatch {
        let mut buffer = plain;
        let compression = self.compress_in_place(&mut buffer);
        CompressedBatch {
            compression,
            buffer,
        }
    }

    /// As [`Compressor::compress`]; says how the records are compressed now.
    ///
    /// # Panics
    ///
    /// When a codec has a bug; the batch is as it was then.
    pub fn compress_in_place(&mut self, batch: &mut BatchBuffer) -> CompressionType {
        let Some(records) = batch.get(HEADER_BYTES..) else {
            return CompressionType::None;
        };
        self.scratch.clear();
        let compressed = self.context.compress(records, &mut self.scratch);
        if compressed.is_err() || self.scratch.len() >= records.len() {
            return CompressionType::None;
        }
        let buffer = batch.as_mut_vec();
        buffer.truncate(HEADER_BYTES);
        buffer.extend_from_slice(&self.scratch);
        self.compression
    }
}

/// One context of `miniz_oxide`, whatever the level.
const GZIP_BYTES: usize = 400 << 10;

/// The tables of `snap`: blocks are small.
const SNAPPY_BYTES: usize = 40 << 10;

/// A table, and room for a block.
const LZ4_BYTES: usize = 90 << 10;
const LZ4_HIGH_BYTES: usize = 330 << 10;

/// Windows and tables are as large as batches make them.
fn zstd_bytes(level: i32, batch_bytes: usize) -> usize {
    #[cfg(feature = "zstd")]
    {
        zstd::context_bytes(level, batch_bytes)
    }
    #[cfg(not(feature = "zstd"))]
    {
        let _ = (level, batch_bytes);
        0
    }
}

/// The records of a payload that this producer compressed; `None` if it is none.
pub(crate) fn decompress(compression: CompressionType, payload: &[u8]) -> Option<Vec<u8>> {
    match compression {
        CompressionType::None => Some(payload.to_vec()),
        #[cfg(feature = "gzip")]
        CompressionType::Gzip => read_all(flate2::read::GzDecoder::new(payload)),
        #[cfg(feature = "snappy")]
        CompressionType::Snappy => snappy::decompress(payload),
        #[cfg(feature = "lz4")]
        CompressionType::Lz4 => read_all(lz4_flex::frame::FrameDecoder::new(payload)),
        #[cfg(feature = "zstd")]
        CompressionType::Zstd => mzstd::Decompressor::default().decompress(payload).ok(),
        // Nothing was compressed with what was not built in.
        #[cfg(not(all(
            feature = "gzip",
            feature = "snappy",
            feature = "lz4",
            feature = "zstd"
        )))]
        _ => None,
    }
}

#[cfg(any(feature = "gzip", feature = "lz4"))]
fn read_all(mut reader: impl std::io::Read) -> Option<Vec<u8>> {
    let mut records = Vec::new();
    reader.read_to_end(&mut records).ok()?;
    Some(records)
}

/// A codec gave up; the records are as they were.
#[derive(Debug)]
struct GaveUp;

/// What a codec keeps from batch to batch.
enum Context {
    /// Nothing is done.
    None,
    #[cfg(feature = "gzip")]
    Gzip(flate2::Compress),
    #[cfg(feature = "snappy")]
    Snappy(Box<snap::raw::Encoder>),
    #[cfg(feature = "lz4")]
    Lz4(Box<dyn BlockCompressor + Send>),
    #[cfg(feature = "zstd")]
    Zstd(Box<mzstd::Compressor>),
}

impl Context {
    fn new(codec: Codec) -> Self {
        match codec.compression {
            #[cfg(feature = "gzip")]
            CompressionType::Gzip => Self::Gzip(gzip::context(codec.level)),
            #[cfg(feature = "snappy")]
            CompressionType::Snappy => Self::Snappy(Box::new(snap::raw::Encoder::new())),
            #[cfg(feature = "lz4")]
            CompressionType::Lz4 if codec.level == LZ4_FAST => {
                Self::Lz4(Box::new(FastCompressor::new()))
            }
            #[cfg(feature = "lz4")]
            CompressionType::Lz4 => Self::Lz4(Box::new(HighCompressor::new(codec.level))),
            #[cfg(feature = "zstd")]
            CompressionType::Zstd => {
                zstd::context(codec.level).map_or(Self::None, |one| Self::Zstd(Box::new(one)))
            }
            // The configuration refuses a codec that was not built in, and levels that are none.
            _ => Self::None,
        }
    }

    /// Appends the payload for these records to an empty buffer.
    fn compress(&mut self, records: &[u8], payload: &mut Vec<u8>) -> Result<(), GaveUp> {
        match self {
            Self::None => {
                payload.extend_from_slice(records);
                Ok(())
            }
            #[cfg(feature = "gzip")]
            Self::Gzip(context) => gzip::compress(context, records, payload),
            #[cfg(feature = "snappy")]
            Self::Snappy(context) => snappy::compress(context, records, payload),
            #[cfg(feature = "lz4")]
            Self::Lz4(context) => {
                context.compress(records, payload);
                Ok(())
            }
            #[cfg(feature = "zstd")]
            Self::Zstd(context) => {
                let compressed = context.compress_into(records, payload);
                compressed.map(drop).or(Err(GaveUp))
            }
        }
    }
}

/// RFC 1952, written around raw deflate so that its context can be kept.
#[cfg(feature = "gzip")]
mod gzip {
    use super::GaveUp;
    use flate2::{Compress, Compression, FlushCompress, Status};

    /// Magic, deflate, no flags, no time, no hints, unknown system.
    const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

    /// zlib's own default, which `-1` stands for.
    const DEFAULT_LEVEL: u32 = 6;

    pub(super) fn context(level: i32) -> Compress {
        let level = u32::try_from(level).unwrap_or(DEFAULT_LEVEL);
        Compress::new(Compression::new(level), false)
    }

    pub(super) fn compress(
        context: &mut Compress,
        records: &[u8],
        payload: &mut Vec<u8>,
    ) -> Result<(), GaveUp> {
        context.reset();
        payload.extend_from_slice(&HEADER);
        loop {
            payload.reserve(records.len() / 2 + 64);
            let done = usize::try_from(context.total_in()).or(Err(GaveUp))?;
            let rest = records.get(done..).unwrap_or_default();
            match context.compress_vec(rest, payload, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => break,
                Ok(Status::Ok | Status::BufError) => {}
                Err(_) => return Err(GaveUp),
            }
        }
        let length = u32::try_from(records.len()).or(Err(GaveUp))?;
        payload.extend_from_slice(&crc32fast::hash(records).to_le_bytes());
        payload.extend_from_slice(&length.to_le_bytes());
        Ok(())
    }
}

#[cfg(feature = "snappy")]
mod snappy {
    use super::GaveUp;

    /// snappy-java's magic, its version, and the oldest version that reads it.
    const HEADER: [u8; 16] = [
        0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1,
    ];
    const BLOCK_BYTES: usize = 32 << 10;
    const LENGTH_BYTES: usize = 4;

    pub(super) fn compress(
        context: &mut snap::raw::Encoder,
        records: &[u8],
        payload: &mut Vec<u8>,
    ) -> Result<(), GaveUp> {
        payload.extend_from_slice(&HEADER);
        for block in records.chunks(BLOCK_BYTES) {
            let start = payload.len();
            let room = snap::raw::max_compress_len(block.len());
            payload.resize(start + LENGTH_BYTES + room, 0);
            let (length, compressed) = payload[start..].split_at_mut(LENGTH_BYTES);
            let bytes = context.compress(block, compressed).or(Err(GaveUp))?;
            length.copy_from_slice(&u32::try_from(bytes).or(Err(GaveUp))?.to_be_bytes());
            payload.truncate(start + LENGTH_BYTES + bytes);
        }
        Ok(())
    }

    pub(super) fn decompress(payload: &[u8]) -> Option<Vec<u8>> {
        let mut blocks = payload.strip_prefix(&HEADER)?;
        let mut records = Vec::new();
        while let Some((length, rest)) = blocks.split_first_chunk() {
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            let (block, rest) = rest.split_at_checked(length)?;
            records.extend(snap::raw::Decoder::new().decompress_vec(block).ok()?);
            blocks = rest;
        }
        Some(records)
    }
}

#[cfg(feature = "zstd")]
mod zstd {
    use mzstd::{Compressor, EncoderConfig, Level};

    /// `None` for a level that zstd does not have.
    pub(super) fn context(level: i32) -> Option<Compressor> {
        let level = Level::try_from(level).ok()?;
        // The batch has a checksum of its own, and Kafka's writer adds none.
        let config = EncoderConfig::new().with_level(level).with_checksum(false);
        Compressor::new(config).ok()
    }

    /// What a context comes to: tables grow with the window, which is as large as the batch, up to
    /// what a level has at most; buffers with its blocks. Figures above those measured at levels
    /// -100 to 22, with batches of 4 KiB to 4 MiB.
    pub(super) fn context_bytes(level: i32, batch_bytes: usize) -> usize {
        let window = batch_bytes
            .checked_next_power_of_two()
            .unwrap_or(batch_bytes);
        let (per_window_byte, tables_max, parser) = match level {
            ..=2 => (8, 1 << 20, 0),
            3 => (14, 1 << 20, 0),
            4..=6 => (14, 4 << 20, 0),
            7..=8 => (14, 8 << 20, 0),
            9 => (14, 12 << 20, 0),
            10 => (14, 32 << 20, 0),
            11.. => (26, 1 << 30, 250 << 10),
        };
        let tables = window.saturating_mul(per_window_byte).min(tables_max);
        tables + 7 * batch_bytes.min(BLOCK_BYTES) + parser + FIXED_BYTES
    }

    const BLOCK_BYTES: usize = 128 << 10;
    const FIXED_BYTES: usize = 32 << 10;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use std::io::Read;

    fn codec(compression: CompressionType, level: i32) -> Codec {
        Codec { compression, level }
    }

    fn batch(records: &[u8]) -> BatchBuffer {
        let mut plain = vec![0; HEADER_BYTES];
        plain.extend_from_slice(records);
        plain.into()
    }

    /// The records of a payload, read as the codec's own documents say.
    fn read(batch: &CompressedBatch) -> Vec<u8> {
        let payload = &batch.buffer[HEADER_BYTES..];
        let mut records = Vec::new();
        match batch.compression {
            CompressionType::None => records.extend_from_slice(payload),
            CompressionType::Gzip => {
                let mut reader = flate2::read::GzDecoder::new(payload);
                reader.read_to_end(&mut records).expect("gzip");
            }
            CompressionType::Snappy => {
                let mut blocks = &payload[16..];
                while let Some((length, rest)) = blocks.split_first_chunk() {
                    let (block, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
                    let block = snap::raw::Decoder::new().decompress_vec(block);
                    records.extend(block.expect("snappy"));
                    blocks = rest;
                }
            }
            CompressionType::Lz4 => {
                let mut reader = lz4_flex::frame::FrameDecoder::new(payload);
                reader.read_to_end(&mut records).expect("lz4");
            }
            CompressionType::Zstd => {
                let reader = ruzstd::decoding::StreamingDecoder::new(payload);
                reader
                    .expect("zstd")
                    .read_to_end(&mut records)
                    .expect("zstd");
            }
        }
        records
    }

    const SNAPPY_START: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

    #[rstest]
    #[case::gzip(CompressionType::Gzip, -1, &[0x1f, 0x8b, 8, 0])]
    #[case::snappy(CompressionType::Snappy, 0, SNAPPY_START)]
    // Version 1, independent blocks of 64 KiB, no checksum, no size.
    #[case::lz4(CompressionType::Lz4, 9, &[0x04, 0x22, 0x4d, 0x18, 0x60, 0x40])]
    #[case::lz4_high(CompressionType::Lz4, 3, &[0x04, 0x22, 0x4d, 0x18, 0x60, 0x40])]
    #[case::zstd(CompressionType::Zstd, 3, &[0x28, 0xb5, 0x2f, 0xfd])]
    fn a_payload_starts_as_kafkas_readers_expect(
        #[case] compression: CompressionType,
        #[case] level: i32,
        #[case] start: &[u8],
    ) {
        let records = b"three apples and three pears ".repeat(8_000);
        let batch = Compressor::new(codec(compression, level)).compress(batch(&records));
        assert_eq!(batch.compression, compression);
        assert!(batch.buffer[HEADER_BYTES..].starts_with(start));
        assert!(
            batch.buffer.len() < records.len() / 10,
            "{}",
            batch.buffer.len()
        );
        assert_eq!(read(&batch), records);
    }

    #[rstest]
    #[case(CompressionType::Gzip)]
    #[case(CompressionType::Snappy)]
    #[case(CompressionType::Lz4)]
    #[case(CompressionType::Zstd)]
    fn what_does_not_become_smaller_stays_as_it_is(#[case] compression: CompressionType) {
        let mut random = fastrand::Rng::with_seed(7);
        let records: Vec<u8> = (0..70_000).map(|_| random.u8(..)).collect();
        let mut compressor = Compressor::new(codec(compression, 1));
        let kept = compressor.compress(batch(&records));
        assert_eq!(kept, CompressedBatch::plain(batch(&records)));
    }

    /// Two levels give two sizes: the level reaches the codec.
    #[rstest]
    #[case(CompressionType::Gzip, 1, 9)]
    #[case(CompressionType::Lz4, 9, 10)]
    #[case(CompressionType::Zstd, -50, 19)]
    fn a_higher_level_makes_a_batch_smaller(
        #[case] compression: CompressionType,
        #[case] low: i32,
        #[case] high: i32,
    ) {
        let words: Vec<String> = (0..4_000)
            .map(|n| format!("{} {n} apples,", n * n))
            .collect();
        let records = words.concat().into_bytes();
        let bytes = |level| {
            let mut compressor = Compressor::new(codec(compression, level));
            compressor.compress(batch(&records)).buffer.len()
        };
        assert!(
            bytes(high) < bytes(low),
            "{} and {}",
            bytes(high),
            bytes(low)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever a compressor did before, a batch comes back, and has the bytes it would have
        /// had from a new one.
        #[test]
        fn a_compressor_keeps_nothing_of_the_batch_before(
            batches in proptest::collection::vec(
                (proptest::collection::vec(0_u8..20, 7..3_000), 1_usize..60),
                1..4,
            ),
            which in 1_usize..5,
            level in 1_i32..10,
        ) {
            let codec = codec(CompressionType::ALL[which], level);
            let mut kept = Compressor::new(codec);
            for (records, times) in batches {
                let records = records.repeat(times);
                let done = kept.compress(batch(&records));
                prop_assert_eq!(read(&done), records.clone());
                let payload = &done.buffer[HEADER_BYTES..];
                prop_assert_eq!(decompress(done.compression, payload), Some(records.clone()));
                prop_assert_eq!(done, Compressor::new(codec).compress(batch(&records)));
            }
        }
    }
}
