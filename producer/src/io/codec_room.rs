//! The memory of threads that compress: so many threads as it allows, and what each of them holds.
//!
//! What a compressor holds depends on the codec, its level, and the size of batches before they are
//! compressed. So that size is bounded where it would take too much, and each thread has room for
//! such batches from the start. A record that is larger takes more while it is compressed: it was
//! accepted, so it cannot wait.
//!
//! *Invariants*
//! 1. What was taken beyond the start is returned with the batch that took it, and the compressor
//!    that grew with it is not used again: else one large record could take memory for good.
//!
//! *Source*: ours. Kafka's producer compresses in the caller's thread, outside its `BufferPool`.
//!
//! *Not here*: the figures (`wire/compression.rs`), the threads (`compression_pool.rs`).

use std::sync::Arc;

use crate::io::compression_pool::{Compress, CompressionPool};
use crate::io::memory::Memory;
use crate::wire::compression::{Codec, Compressor};

/// The threads that compress, and what they set aside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodecRoom {
    codec: Codec,
    /// How many there are at most.
    pub(crate) threads: usize,
    /// What a batch comes to at most before it is compressed, unless a record alone does.
    pub(crate) plain_bytes_max: usize,
    /// What each thread has from the start.
    bytes_each: usize,
}

impl CodecRoom {
    /// As many threads as half of memory allows for batches as they are, one in any case. Beyond
    /// that size batches are filled if all threads need no more than a quarter for them: a second
    /// thread is worth more than larger batches.
    pub(crate) fn within(memory_bytes: usize, codec: Codec, batch_bytes: usize) -> Self {
        let bytes_each = |plain: usize| codec.compressor_bytes(plain);
        let few = (memory_bytes / 2).checked_div(bytes_each(batch_bytes));
        let most = CompressionPool::threads_for_this_machine();
        let threads = few.map_or(most, |few| most.min(few).max(1));
        // Records that all but vanish must not take all memory for one batch.
        let largest = (memory_bytes / BATCHES_IN_MEMORY_MIN).max(batch_bytes);
        let smaller = std::iter::successors(Some(largest), |plain| Some(plain / 2));
        let mut fitting = smaller.take_while(|&plain| plain > batch_bytes);
        let plain_bytes_max = fitting
            .find(|&plain| threads.saturating_mul(bytes_each(plain)) <= memory_bytes / 4)
            .unwrap_or(batch_bytes);
        Self {
            codec,
            threads,
            plain_bytes_max,
            bytes_each: bytes_each(plain_bytes_max),
        }
    }

    /// What all of them set aside; of a memory too small for one compressor, a half.
    pub(crate) fn bytes_within(&self, memory_bytes: usize) -> usize {
        (self.threads.saturating_mul(self.bytes_each)).min(memory_bytes / 2)
    }

    /// A thread's compressor, whose growth is counted.
    pub(crate) fn compress(self, memory: &Arc<Memory>) -> Compress {
        let mut compressor = Compressor::new(self.codec);
        let memory = Arc::clone(memory);
        Box::new(move |batch| {
            let wanted = self.codec.compressor_bytes(batch.len());
            if wanted <= self.bytes_each {
                return compressor.compress_in_place(batch);
            }
            let _held = Held::take(&memory, wanted);
            Compressor::new(self.codec).compress_in_place(batch)
        })
    }
}

/// What a compressor takes beyond what its thread has.
struct Held<'a> {
    memory: &'a Memory,
    bytes: usize,
}

impl<'a> Held<'a> {
    fn take(memory: &'a Memory, bytes: usize) -> Self {
        memory.take_anyway(bytes);
        Self { memory, bytes }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.memory.release(self.bytes);
    }
}

/// Even where records become very small, memory has room for so many batches.
const BATCHES_IN_MEMORY_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::CompressionType;
    use crate::wire::batch_buffer::BatchBuffer;
    use rstest::rstest;

    const ZSTD: Codec = Codec {
        compression: CompressionType::Zstd,
        level: 3,
    };

    #[rstest]
    #[case::none(Codec::NONE, 1 << 20, None)]
    #[case::enough(ZSTD, 1 << 30, None)]
    #[case::for_two(ZSTD, 2 << 20, Some(2))]
    #[case::for_one(ZSTD, 1 << 20, Some(1))]
    #[case::for_less_than_one(ZSTD, 1 << 19, Some(1))]
    fn threads_are_as_many_as_memory_allows(
        #[case] codec: Codec,
        #[case] memory_bytes: usize,
        #[case] threads_max: Option<usize>,
    ) {
        let room = CodecRoom::within(memory_bytes, codec, 16 << 10);
        let machine = CompressionPool::threads_for_this_machine();
        let threads = threads_max.map_or(machine, |most| most.min(machine));
        assert_eq!(room.threads, threads);
        assert!((16 << 10..=memory_bytes / 16).contains(&room.plain_bytes_max));
        assert!(room.bytes_within(memory_bytes) <= memory_bytes / 2);
        let counted = room.bytes_within(memory_bytes) > 0;
        assert_eq!(counted, codec != Codec::NONE);
    }

    #[test]
    fn a_batch_larger_than_its_threads_room_takes_memory_for_as_long_as_it_lasts() {
        let memory = Memory::new(10 << 20);
        let held = Held::take(&memory, 11 << 20);
        assert_eq!(memory.bytes_free(), 0);
        drop(held);
        assert_eq!(memory.bytes_free(), 10 << 20);
        let mut compress = CodecRoom::within(1 << 20, ZSTD, 16 << 10).compress(&memory);
        for bytes in [10 << 10, 128 << 10, 5 << 20, 100 << 10] {
            let mut batch = BatchBuffer::from(vec![7; bytes]);
            assert_eq!(compress(&mut batch), CompressionType::Zstd);
            assert_eq!(memory.bytes_free(), 10 << 20, "after {bytes}");
        }
    }
}
