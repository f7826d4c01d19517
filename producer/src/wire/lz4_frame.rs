//! LZ4 frames as Kafka's writer makes them, and the fast compressor of their blocks.
//!
//! ```text
//!   header (7 bytes) │ length, block │ length, block │ … │ end mark
//! ```
//!
//! *Invariants*
//! 1. Blocks are independent, hold at most 64 KiB each, and have no checksums.
//! 2. A block that does not become smaller is written as it is.
//! 3. The same bytes give the same frame, whatever was compressed before.
//!
//! *Source*: the LZ4 frame format; Kafka's `Lz4BlockOutputStream`, whose readers refuse blocks that
//! are linked. The frame writer of `lz4_flex` copies each block twice more than this.
//!
//! *Not here*: the high compressor (`lz4_high.rs`), reading.

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

/// What a block holds at most.
pub(super) const BLOCK_BYTES: usize = 64 << 10;

/// Magic, version 01 with independent blocks and no checksums, blocks of 64 KiB, and the header's
/// own check: the second byte of the xxHash-32 of the two before it.
const HEADER: [u8; HEADER_BYTES] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
pub(super) const HEADER_BYTES: usize = 7;
const END_MARK: [u8; 4] = [0; 4];
/// Marks the length of a block that is as it was.
const UNCOMPRESSED: u32 = 1 << 31;

/// What makes a frame's blocks smaller.
pub(crate) trait BlockCompressor {
    /// What becomes of a block of at most [`BLOCK_BYTES`]; not to be used unless it is smaller.
    fn compress_block(&mut self, block: &[u8]) -> &[u8];

    /// Appends a frame of these bytes.
    fn compress(&mut self, bytes: &[u8], frame: &mut Vec<u8>) {
        frame.extend_from_slice(&HEADER);
        for block in bytes.chunks(BLOCK_BYTES) {
            let smaller = self.compress_block(block);
            let (mark, written) = if smaller.len() < block.len() {
                (0, smaller)
            } else {
                (UNCOMPRESSED, block)
            };
            // At most 64 KiB.
            let length = u32::try_from(written.len()).unwrap_or_default() | mark;
            frame.extend_from_slice(&length.to_le_bytes());
            frame.extend_from_slice(written);
        }
        frame.extend_from_slice(&END_MARK);
    }
}

/// The fast compressor: a table of places, and room for a block; 85 KB.
pub(crate) struct FastCompressor {
    table: CompressTable,
    block: Vec<u8>,
}

impl FastCompressor {
    pub(crate) fn new() -> Self {
        Self {
            // Its hash is of five bytes, the small one's of four: as fast, and a little smaller.
            table: CompressTable::large(),
            block: vec![0; get_maximum_output_size(BLOCK_BYTES)],
        }
    }
}

impl BlockCompressor for FastCompressor {
    fn compress_block(&mut self, block: &[u8]) -> &[u8] {
        let bytes = compress_into_with_table(block, &mut self.block, &mut self.table);
        // There is room for the worst case; were there none, the block would stay as it is.
        let bytes = bytes.unwrap_or(self.block.len());
        &self.block[..bytes]
    }
}

/// What is in a frame, by the reader of `lz4_flex`, which checks what its header says.
#[cfg(test)]
pub(super) fn read(frame: &[u8]) -> Option<Vec<u8>> {
    crate::wire::compression::decompress(crate::types::CompressionType::Lz4, frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    fn a_frame_is_read_back(
        #[values(0, 1, 4, 12, 13, 300, 65_535, 65_536, 65_537, 140_000)] bytes: usize,
    ) {
        let text: Vec<u8> = b"three apples, two pears; "
            .iter()
            .copied()
            .cycle()
            .take(bytes)
            .collect();
        let mut noise = vec![0; bytes];
        fastrand::Rng::with_seed(1).fill(&mut noise);
        let mut compressor = FastCompressor::new();
        for bytes in [noise, text.clone(), vec![0; bytes], text] {
            let (mut frame, mut again) = (Vec::new(), Vec::new());
            compressor.compress(&bytes, &mut frame);
            FastCompressor::new().compress(&bytes, &mut again);
            assert_eq!(read(&frame), Some(bytes));
            assert_eq!(frame, again, "nothing is kept of the bytes before");
        }
    }

    #[test]
    fn only_a_block_that_becomes_smaller_is_compressed() {
        let mut bytes = vec![0; 3 * BLOCK_BYTES];
        fastrand::Rng::with_seed(1).fill(&mut bytes[BLOCK_BYTES..2 * BLOCK_BYTES]);
        let mut frame = Vec::new();
        FastCompressor::new().compress(&bytes, &mut frame);
        let noise = BLOCK_BYTES + HEADER_BYTES + 4 * 4;
        assert!(
            (noise..noise + 1_000).contains(&frame.len()),
            "{}",
            frame.len()
        );
        assert_eq!(read(&frame), Some(bytes));
    }
}
