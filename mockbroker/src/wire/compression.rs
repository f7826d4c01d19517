//! The codecs of a batch's payload, as Kafka frames them.
//!
//! | Codec | Framing |
//! |---|---|
//! | gzip | one member; bytes behind it are ignored |
//! | snappy | xerial blocks, or raw without their header |
//! | lz4 | the LZ4 frame, its blocks flagged as independent; bytes behind its end are ignored |
//! | zstd | one frame, nothing behind it |
//!
//! *Invariants*
//! 1. At most [`PLAIN_BYTES_MAX`] bytes come out, whatever the payload claims.
//! 2. What `compress` writes, `decompress` reads.
//!
//! *Source* apache/kafka `clients/…/common/compress/*.java`; verdicts observed on 4.3.1.
//!
//! *Deviations* Kafka has no bound on what comes out; here more than 256 MiB is undecodable.

use std::io::{Read, Write};

use bytes::Bytes;

use crate::config::CompressionType;

/// Bytes that may come out of one payload.
pub const PLAIN_BYTES_MAX: usize = 256 << 20;

/// Why a payload does not decompress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// It is empty where the codec cannot say "nothing" so.
    #[error("the compressed payload is empty")]
    Empty,
    /// The codec refuses it.
    #[error("the payload does not decompress")]
    Broken,
    /// More comes out than is held here.
    #[error("the payload expands beyond 256 MiB")]
    TooLarge,
}

/// Whether the codec changes the bytes.
#[must_use]
pub const fn is_compressed(codec: CompressionType) -> bool {
    !matches!(
        codec,
        CompressionType::Producer | CompressionType::Uncompressed
    )
}

/// The plain records of a payload; without a codec the payload itself.
///
/// # Errors
///
/// When the codec refuses it, or too much comes out.
pub fn decompress(codec: CompressionType, payload: &Bytes) -> Result<Bytes, Undecodable> {
    match codec {
        CompressionType::Producer | CompressionType::Uncompressed => Ok(payload.clone()),
        CompressionType::Gzip => read_all(flate2::read::GzDecoder::new(&payload[..])),
        CompressionType::Snappy => snappy_decompress(payload),
        CompressionType::Lz4 => lz4_decompress(payload),
        CompressionType::Zstd => zstd_decompress(payload),
    }
}

/// The payload for these plain records.
///
/// # Errors
///
/// When the codec refuses them, which no codec here does with bytes of less than 2 GiB.
pub fn compress(codec: CompressionType, plain: &[u8]) -> Result<Bytes, Undecodable> {
    let broken = |_| Undecodable::Broken;
    match codec {
        CompressionType::Producer | CompressionType::Uncompressed => {
            Ok(Bytes::copy_from_slice(plain))
        }
        CompressionType::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(plain).map_err(broken)?;
            encoder.finish().map(Bytes::from).map_err(broken)
        }
        CompressionType::Snappy => snappy_compress(plain),
        CompressionType::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(plain).map_err(broken)?;
            encoder
                .finish()
                .map(Bytes::from)
                .or(Err(Undecodable::Broken))
        }
        CompressionType::Zstd => {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            Ok(ruzstd::encoding::compress_to_vec(plain, level).into())
        }
    }
}

fn read_all(reader: impl Read) -> Result<Bytes, Undecodable> {
    let mut plain = Vec::new();
    // One byte beyond the bound tells that there is more.
    let bound = u64::try_from(PLAIN_BYTES_MAX)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    reader
        .take(bound)
        .read_to_end(&mut plain)
        .map_err(|_| Undecodable::Broken)?;
    bounded(plain)
}

fn bounded(plain: Vec<u8>) -> Result<Bytes, Undecodable> {
    if plain.len() > PLAIN_BYTES_MAX {
        Err(Undecodable::TooLarge)
    } else {
        Ok(plain.into())
    }
}

/// snappy-java's stream: this header, two version numbers, then blocks with their length.
const XERIAL: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

fn snappy_decompress(payload: &[u8]) -> Result<Bytes, Undecodable> {
    let Some(stream) = payload.strip_prefix(&XERIAL) else {
        let mut plain = Vec::new();
        snappy_block(payload, &mut plain)?;
        return Ok(plain.into());
    };
    let mut blocks = stream.get(8..).ok_or(Undecodable::Broken)?;
    let mut plain = Vec::new();
    while !blocks.is_empty() {
        let (length, rest) = blocks.split_first_chunk::<4>().ok_or(Undecodable::Broken)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (block, rest) = rest.split_at_checked(length).ok_or(Undecodable::Broken)?;
        snappy_block(block, &mut plain)?;
        blocks = rest;
    }
    Ok(plain.into())
}

fn snappy_block(block: &[u8], plain: &mut Vec<u8>) -> Result<(), Undecodable> {
    let length = snap::raw::decompress_len(block).map_err(|_| Undecodable::Broken)?;
    let start = plain.len();
    let end = start
        .checked_add(length)
        .filter(|end| *end <= PLAIN_BYTES_MAX);
    plain.resize(end.ok_or(Undecodable::TooLarge)?, 0);
    let decoded = snap::raw::Decoder::new().decompress(block, &mut plain[start..]);
    decoded.map(drop).map_err(|_| Undecodable::Broken)
}

fn snappy_compress(plain: &[u8]) -> Result<Bytes, Undecodable> {
    let mut stream = XERIAL.to_vec();
    stream.extend_from_slice(&1u32.to_be_bytes());
    stream.extend_from_slice(&1u32.to_be_bytes());
    for block in plain.chunks(XERIAL_BLOCK_BYTES) {
        let block = snap::raw::Encoder::new()
            .compress_vec(block)
            .map_err(|_| Undecodable::Broken)?;
        let length = u32::try_from(block.len()).map_err(|_| Undecodable::Broken)?;
        stream.extend_from_slice(&length.to_be_bytes());
        stream.extend_from_slice(&block);
    }
    Ok(stream.into())
}

fn lz4_decompress(payload: &[u8]) -> Result<Bytes, Undecodable> {
    lz4_check(payload)?;
    read_all(lz4_flex::frame::FrameDecoder::new(payload))
}

/// Kafka's reader is stricter than the decoder: it misses an end that was cut off, and refuses a
/// frame whose flags call the blocks linked, even if it has one (`Lz4BlockInputStream`).
fn lz4_check(payload: &[u8]) -> Result<(), Undecodable> {
    const INDEPENDENT: u8 = 1 << 5;
    const BLOCK_CHECKSUM: u8 = 1 << 4;
    const CONTENT_SIZE: u8 = 1 << 3;
    let flags = payload.get(4).ok_or(Undecodable::Broken)?;
    if flags & INDEPENDENT == 0 {
        return Err(Undecodable::Broken);
    }
    let header_bytes = if flags & CONTENT_SIZE != 0 { 15 } else { 7 };
    let checksum_bytes = if flags & BLOCK_CHECKSUM != 0 { 4 } else { 0 };
    let mut rest = payload.get(header_bytes..).ok_or(Undecodable::Broken)?;
    loop {
        let (length, behind) = rest.split_first_chunk::<4>().ok_or(Undecodable::Broken)?;
        // The highest bit marks a block that is stored plain; length 0 ends the frame.
        let length = u32::from_le_bytes(*length) & 0x7fff_ffff;
        if length == 0 {
            return Ok(());
        }
        let skip = usize::try_from(length)
            .unwrap_or(usize::MAX)
            .saturating_add(checksum_bytes);
        rest = behind.get(skip..).ok_or(Undecodable::Broken)?;
    }
}

fn zstd_decompress(payload: &[u8]) -> Result<Bytes, Undecodable> {
    if payload.is_empty() {
        return Err(Undecodable::Empty);
    }
    let mut rest = payload;
    let plain = {
        let decoder =
            ruzstd::decoding::StreamingDecoder::new(&mut rest).map_err(|_| Undecodable::Broken)?;
        read_all(decoder)?
    };
    if rest.is_empty() {
        Ok(plain)
    } else {
        Err(Undecodable::Broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const CODECS: [CompressionType; 4] = [
        CompressionType::Gzip,
        CompressionType::Snappy,
        CompressionType::Lz4,
        CompressionType::Zstd,
    ];

    #[rstest]
    #[case::gzip(CompressionType::Gzip, Ok(()), Err(Undecodable::Broken))]
    #[case::snappy(
        CompressionType::Snappy,
        Err(Undecodable::Broken),
        Err(Undecodable::Broken)
    )]
    #[case::lz4(CompressionType::Lz4, Ok(()), Err(Undecodable::Broken))]
    #[case::zstd(
        CompressionType::Zstd,
        Err(Undecodable::Broken),
        Err(Undecodable::Empty)
    )]
    fn stray_bytes_and_nothing_are_judged_as_kafka_does(
        #[case] codec: CompressionType,
        #[case] stray: Result<(), Undecodable>,
        #[case] empty: Result<(), Undecodable>,
    ) {
        let payload = compress(codec, b"some plain bytes").unwrap();
        let behind = Bytes::from([&payload[..], &[1, 2, 3, 4, 5]].concat());
        assert_eq!(
            decompress(codec, &behind).map(drop),
            stray,
            "five bytes behind the stream"
        );
        assert_eq!(
            decompress(codec, &Bytes::new()).map(drop),
            empty,
            "an empty payload"
        );
        assert_eq!(
            decompress(codec, &Bytes::from_static(b"garbage")).map(drop),
            Err(Undecodable::Broken)
        );
        let cut = payload.slice(..payload.len() / 2);
        assert_eq!(
            decompress(codec, &cut).map(drop),
            Err(Undecodable::Broken),
            "cut to half"
        );
    }

    #[test]
    fn raw_snappy_passes_without_xerial_header() {
        let raw = snap::raw::Encoder::new().compress_vec(b"plain").unwrap();
        let plain = decompress(CompressionType::Snappy, &raw.into());
        assert_eq!(plain.unwrap(), b"plain"[..]);
    }

    #[test]
    fn a_snappy_block_that_claims_too_much_is_refused() {
        let claims_4_gib = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
        let refused = decompress(CompressionType::Snappy, &claims_4_gib);
        assert_eq!(refused, Err(Undecodable::TooLarge));
    }

    #[rstest]
    #[case::one_linked_block(10, lz4_flex::frame::BlockMode::Linked, false)]
    #[case::several_linked_blocks(200_000, lz4_flex::frame::BlockMode::Linked, false)]
    #[case::several_blocks(200_000, lz4_flex::frame::BlockMode::Independent, true)]
    fn linked_lz4_blocks_are_refused(
        #[case] bytes: usize,
        #[case] mode: lz4_flex::frame::BlockMode,
        #[case] passes: bool,
    ) {
        let mut info = lz4_flex::frame::FrameInfo::new();
        info.block_mode = mode;
        info.block_size = lz4_flex::frame::BlockSize::Max64KB;
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&vec![7; bytes]).unwrap();
        let payload = encoder.finish().unwrap().into();
        assert_eq!(decompress(CompressionType::Lz4, &payload).is_ok(), passes);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn what_is_compressed_comes_back(
            plain in proptest::collection::vec(any::<u8>(), 0..40_000),
        ) {
            for codec in CODECS {
                let payload = compress(codec, &plain).unwrap();
                prop_assert_eq!(&decompress(codec, &payload).unwrap()[..], &plain[..]);
            }
        }

        #[test]
        fn any_payload_ends(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            for codec in CODECS {
                let _ = decompress(codec, &Bytes::copy_from_slice(&payload));
            }
        }
    }
}
