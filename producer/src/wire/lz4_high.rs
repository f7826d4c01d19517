//! LZ4's high compressor: the same format as its fast one, found by a search that a level bounds.
//!
//! For each place of a block the longest earlier copy is looked for along a chain of places with
//! the same first bytes; a level says how many of those are looked at. A copy gives way to a longer
//! one that begins a byte later.
//!
//! *Invariants*
//! 1. The same block gives the same bytes, whatever was compressed before.
//!
//! *Source*: the LZ4 block format; Kafka's `Lz4BlockOutputStream`, which has the fast
//! compressor at its default level and the high one at all others; lz4-java's
//! `LZ4HCJavaSafeCompressor` for what a level means.
//!
//! *Not here*: frames, the fast compressor (`lz4_frame.rs`), reading.

use crate::wire::lz4_frame::{BLOCK_BYTES, BlockCompressor};

/// A shorter copy costs as much as it saves.
const COPY_BYTES_MIN: usize = 4;
/// The last copy begins so many bytes before a block's end, or earlier.
const COPY_START_MARGIN: usize = 12;
/// So many bytes at a block's end are never part of a copy.
const LITERALS_AT_END: usize = 5;
/// A length that does not fit its half of a token goes on in bytes of its own.
const NIBBLE_MAX: usize = 15;
const HASH_BITS: u32 = 15;

/// The high compressor and its tables, 192 KiB, with room for a block.
pub(crate) struct HighCompressor {
    /// How many earlier places are looked at for each.
    attempts: u32,
    /// By the hash of four bytes: the last place that began with them, plus one.
    newest: Vec<u16>,
    /// By place: the one before it with the same hash, plus one.
    before: Vec<u16>,
    /// What a block becomes.
    block: Vec<u8>,
}

/// A copy of earlier bytes.
#[derive(Clone, Copy)]
struct Copy {
    distance: usize,
    bytes: usize,
}

impl HighCompressor {
    /// One of this level, 1 to 17: each doubles how many places are looked at.
    pub(crate) fn new(level: i32) -> Self {
        let doublings = u32::try_from(level.clamp(1, 17) - 1).unwrap_or_default();
        Self {
            attempts: 1 << doublings,
            newest: vec![0; 1 << HASH_BITS],
            before: vec![0; BLOCK_BYTES],
            block: Vec::new(),
        }
    }

    /// The longest copy for a place, which is entered for those behind it.
    fn longest_copy(&mut self, bytes: &[u8], at: usize) -> Option<Copy> {
        self.enter(bytes, at);
        let end = bytes.len() - LITERALS_AT_END;
        let mut best: Option<Copy> = None;
        let mut candidate = self.before[at];
        for _ in 0..self.attempts {
            let Some(place) = usize::from(candidate).checked_sub(1) else {
                break;
            };
            let bytes_best = best.map_or(COPY_BYTES_MIN - 1, |copy| copy.bytes);
            if at + bytes_best >= end {
                break;
            }
            // Most candidates differ where a longer copy would have to go on.
            if bytes.get(place + bytes_best) == bytes.get(at + bytes_best) {
                let same = common_prefix(&bytes[place..], &bytes[at..end]);
                if same > bytes_best {
                    best = Some(Copy {
                        distance: at - place,
                        bytes: same,
                    });
                }
            }
            candidate = self.before[place];
        }
        best
    }

    /// Lets a place be found by those behind it.
    fn enter(&mut self, bytes: &[u8], at: usize) {
        let Some(first) = bytes[at..].first_chunk() else {
            return;
        };
        let newest = &mut self.newest[hash(*first)];
        // Places that copies begin at lie twelve bytes before the end of 64 KiB, or earlier.
        let Ok(place) = u16::try_from(at + 1) else {
            return;
        };
        if *newest != place {
            self.before[at] = *newest;
            *newest = place;
        }
    }

    /// Writes a token for literals and the copy behind them, and the literals.
    fn write_literals(&mut self, literals: &[u8], copy_rest: usize) {
        let high = literals.len().min(NIBBLE_MAX);
        let low = copy_rest.min(NIBBLE_MAX);
        self.block.push(byte(high << 4 | low));
        self.write_rest(literals.len());
        self.block.extend_from_slice(literals);
    }

    fn write_copy(&mut self, copy: Copy) {
        let distance = u16::try_from(copy.distance).unwrap_or_default();
        self.block.extend_from_slice(&distance.to_le_bytes());
        self.write_rest(copy.bytes - COPY_BYTES_MIN);
    }

    /// What of a length its token does not hold.
    fn write_rest(&mut self, length: usize) {
        let Some(mut rest) = length.checked_sub(NIBBLE_MAX) else {
            return;
        };
        while rest >= 255 {
            self.block.push(255);
            rest -= 255;
        }
        self.block.push(byte(rest));
    }
}

impl BlockCompressor for HighCompressor {
    fn compress_block(&mut self, bytes: &[u8]) -> &[u8] {
        self.block.clear();
        self.newest.fill(0);
        let mut literals_from = 0;
        let mut at = 0;
        let starts_end = (bytes.len() + 1).saturating_sub(COPY_START_MARGIN);
        while at < starts_end {
            let Some(mut copy) = self.longest_copy(bytes, at) else {
                at += 1;
                continue;
            };
            while at + 1 < starts_end
                && let Some(later) = self.longest_copy(bytes, at + 1)
                && later.bytes > copy.bytes
            {
                at += 1;
                copy = later;
            }
            self.write_literals(&bytes[literals_from..at], copy.bytes - COPY_BYTES_MIN);
            self.write_copy(copy);
            // The place behind `at` may be entered already; a place is entered once.
            let behind = at + copy.bytes;
            for place in at + 1..behind.min(starts_end) {
                self.enter(bytes, place);
            }
            at = behind;
            literals_from = behind;
        }
        self.write_literals(&bytes[literals_from..], 0);
        &self.block
    }
}

/// A length that is less than 256.
fn byte(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

fn hash(first: [u8; 4]) -> usize {
    // Knuth's multiplicative hash, as LZ4's own.
    let mixed = u32::from_le_bytes(first).wrapping_mul(2_654_435_761);
    usize::try_from(mixed >> (u32::BITS - HASH_BITS)).unwrap_or_default()
}

fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    let words = one.chunks_exact(8).zip(other.chunks_exact(8));
    let same = 8 * words.take_while(|(one, other)| one == other).count();
    let rest = one[same..].iter().zip(&other[same..]);
    same + rest.take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::lz4_frame::{HEADER_BYTES, read};
    use proptest::prelude::*;
    use rstest::rstest;

    fn compressed(level: i32, bytes: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        HighCompressor::new(level).compress(bytes, &mut frame);
        frame
    }

    /// Lines that repeat each other, as records do.
    fn lines(bytes: usize) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut text = Vec::new();
        while text.len() < bytes {
            let (id, price) = (random.u32(..5_000), random.u32(..99));
            let fruit = random.choice(["apple", "pear", "plum", "quince"]);
            let fruit = fruit.expect("some");
            let line = format!("{{\"id\":{id},\"what\":\"{fruit}\",\"price\":{price}}}\n");
            text.extend(line.bytes());
        }
        text.truncate(bytes);
        text
    }

    #[rstest]
    fn every_level_is_read_back(
        #[values(1, 2, 8, 17)] level: i32,
        #[values(0, 1, 4, 12, 13, 17, 300, 65_535, 65_536, 65_537, 140_000)] bytes: usize,
    ) {
        let mut noise = vec![0; bytes];
        fastrand::Rng::with_seed(1).fill(&mut noise);
        // The highest level looks at every place of a block.
        let text_bytes = if level > 8 { bytes.min(9_000) } else { bytes };
        for bytes in [lines(text_bytes), noise, vec![0; bytes]] {
            assert_eq!(read(&compressed(level, &bytes)), Some(bytes));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_compressed_is_read_back(
            pieces in proptest::collection::vec((any::<u8>(), 1_usize..9, 1_usize..400), 0..60),
            level in 1..=17,
        ) {
            let pieces = pieces.into_iter().map(|(first, period, bytes)| {
                let piece = (0..period).map(|at| first.wrapping_mul(at as u8 + 1));
                piece.cycle().take(bytes).collect::<Vec<_>>()
            });
            let bytes: Vec<u8> = pieces.flatten().collect();
            prop_assert_eq!(read(&compressed(level, &bytes)), Some(bytes));
        }
    }

    /// Where the last copy of a compressed block begins, and how many literals are behind it.
    fn last_copy(mut block: &[u8]) -> (usize, usize) {
        let mut take = |count: usize| {
            let (taken, rest) = block.split_at(count);
            block = rest;
            (
                taken
                    .iter()
                    .map(|byte| usize::from(*byte))
                    .collect::<Vec<_>>(),
                rest.len(),
            )
        };
        let length = |nibble: usize, take: &mut dyn FnMut(usize) -> (Vec<usize>, usize)| {
            let mut length = nibble;
            let mut more = if nibble == NIBBLE_MAX { 255 } else { 0 };
            while more == 255 {
                more = take(1).0[0];
                length += more;
            }
            length
        };
        let (mut at, mut copied_from) = (0, 0);
        loop {
            let token = take(1).0[0];
            let literals = length(token >> 4, &mut take);
            let (_, left) = take(literals);
            if left == 0 {
                return (copied_from, literals);
            }
            take(2);
            copied_from = at + literals;
            at = copied_from + COPY_BYTES_MIN + length(token & 15, &mut take);
        }
    }

    /// The format's own rules for the end of a block, on which fast readers rely.
    #[rstest]
    fn a_block_ends_in_literals(#[values(13, 14, 20, 64, 300)] bytes: usize) {
        let mut late = lines(bytes);
        late.extend(b"abcdABCDEFGHIJKLMNOPabcd12345");
        for text in [vec![0; bytes], lines(bytes), late] {
            let mut compressor = HighCompressor::new(8);
            compressor.compress_block(&text);
            let (copied_from, literals) = last_copy(&compressor.block);
            assert!(
                literals >= 5 && copied_from + 12 <= text.len(),
                "{copied_from}, {literals}"
            );
        }
    }

    #[test]
    fn a_higher_level_makes_less_of_the_same() {
        let text = lines(60_000);
        let sizes = [1, 4, 8, 12].map(|level| compressed(level, &text).len());
        assert!(sizes.is_sorted_by(|less, more| less > more), "{sizes:?}");
        let mut fast = lz4_flex::frame::FrameEncoder::new(Vec::new());
        std::io::Write::write_all(&mut fast, &text).expect("in memory");
        let fast = fast.finish().expect("in memory").len();
        assert!(
            sizes[2] * 10 < fast * 9,
            "{sizes:?} where the fast compressor makes {fast}"
        );
    }

    #[test]
    fn what_was_compressed_before_changes_nothing() {
        let (one, other) = (lines(40_000), vec![7; 70_000]);
        let mut compressor = HighCompressor::new(8);
        let [first, _, again] = [&one, &other, &one].map(|bytes| {
            let mut frame = Vec::new();
            compressor.compress(bytes, &mut frame);
            frame
        });
        assert_eq!(first, again);
    }

    #[test]
    fn noise_grows_by_its_frame_alone() {
        let mut noise = vec![0; 100_000];
        fastrand::Rng::with_seed(1).fill(&mut noise);
        let frame = compressed(17, &noise);
        assert_eq!(frame.len(), noise.len() + HEADER_BYTES + 3 * 4);
    }
}
