//! The threads that compress batches, so that neither who appends nor the driver waits for a codec.
//!
//! Threads are started when there is more to do than the ones there are can take up at once, and
//! end with the pool. Each keeps one compressor, with its contexts, for all its batches.
//!
//! *State* of a thread
//! ```text
//!            submit: nobody idle              a batch                    pool dropped
//!   (none) ─────────────────────▶ looking ─────────────▶ at work    any ─────────────▶ ended
//!                                  │   ▲ ◀──── reported ────┘
//!                            none  ▼   │ woken
//!                                  idle
//! ```
//!
//! *Invariants*
//! 1. Every batch that is submitted is reported once, unless the pool is dropped before; where the
//!    codec gave up or panicked, as it was.
//! 2. There are at most as many threads as the pool may have.
//!
//! *Not here*: which batches and when, their order (`engine/compressing.rs`).

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::engine::effect::CompressionId;
use crate::types::CompressionType;
use crate::wire::batch_buffer::BatchBuffer;
use crate::wire::compression::CompressedBatch;

/// A codec with its contexts: compresses a batch where it is, or leaves it as it was. It stays on
/// its thread.
pub(crate) type Compress = Box<dyn FnMut(&mut BatchBuffer) -> CompressionType>;

/// Makes a thread's codec.
pub(crate) type MakeCompress = Box<dyn Fn() -> Compress + Send + Sync>;

/// Who is told of a compressed batch.
pub(crate) type Report = Box<dyn Fn(CompressionId, CompressedBatch) + Send + Sync>;

/// The threads and their work.
pub(crate) struct CompressionPool {
    shared: Arc<Shared>,
    threads: usize,
    threads_max: usize,
}

struct Shared {
    make: MakeCompress,
    report: Report,
    work: Mutex<Work>,
    changed: Condvar,
}

#[derive(Default)]
struct Work {
    batches: VecDeque<(CompressionId, BatchBuffer)>,
    idle: usize,
    phase: Phase,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    Ended,
}

impl CompressionPool {
    /// A pool without threads yet.
    pub(crate) fn new(threads_max: usize, make: MakeCompress, report: Report) -> Self {
        Self {
            shared: Arc::new(Shared {
                make,
                report,
                work: Mutex::default(),
                changed: Condvar::new(),
            }),
            threads: 0,
            threads_max,
        }
    }

    /// As many threads as there are processors, and not more than four: beyond that the one task
    /// that sends is what bounds a producer.
    pub(crate) fn threads_for_this_machine() -> usize {
        thread::available_parallelism().map_or(1, |cores| cores.get().min(THREADS_MAX))
    }

    /// Has a batch compressed.
    pub(crate) fn submit(&mut self, id: CompressionId, plain: BatchBuffer) {
        let mut work = self.shared.lock();
        work.batches.push_back((id, plain));
        let idle_enough = work.idle >= work.batches.len();
        drop(work);
        if !idle_enough && self.threads < self.threads_max {
            self.start_thread();
        }
        self.shared.changed.notify_one();
    }

    fn start_thread(&mut self) {
        let shared = Arc::clone(&self.shared);
        let named = thread::Builder::new().name("kafka-producer-compress".to_owned());
        match named.spawn(move || shared.run()) {
            Ok(_) => self.threads += 1,
            // Whoever sends is slower then, and nothing is lost.
            Err(error) if self.threads == 0 => {
                tracing::warn!("no thread to compress on, so the driver does it: {error}");
                let mut compress = (self.shared.make)();
                while let Some((id, plain)) = self.shared.take() {
                    self.shared.compress(&mut compress, id, plain);
                }
            }
            Err(error) => tracing::warn!("no further thread to compress on: {error}"),
        }
    }
}

impl Drop for CompressionPool {
    fn drop(&mut self) {
        let mut work = self.shared.lock();
        work.phase = Phase::Ended;
        work.batches.clear();
        drop(work);
        self.shared.changed.notify_all();
    }
}

impl fmt::Debug for CompressionPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompressionPool")
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn run(&self) {
        let mut compress = (self.make)();
        while let Some((id, plain)) = self.wait() {
            self.compress(&mut compress, id, plain);
        }
    }

    fn compress(&self, compress: &mut Compress, id: CompressionId, mut buffer: BatchBuffer) {
        let compressed = catch_unwind(AssertUnwindSafe(|| compress(&mut buffer)));
        let compression = compressed.unwrap_or_else(|_| {
            tracing::error!("a codec panicked; the batch is sent as it is");
            *compress = (self.make)();
            CompressionType::None
        });
        let batch = CompressedBatch {
            compression,
            buffer,
        };
        (self.report)(id, batch);
    }

    /// The next batch; `None` when the pool is gone.
    fn wait(&self) -> Option<(CompressionId, BatchBuffer)> {
        let mut work = self.lock();
        loop {
            if work.phase == Phase::Ended {
                return None;
            }
            if let Some(batch) = work.batches.pop_front() {
                return Some(batch);
            }
            work.idle += 1;
            work = self
                .changed
                .wait(work)
                .unwrap_or_else(PoisonError::into_inner);
            work.idle -= 1;
        }
    }

    fn take(&self) -> Option<(CompressionId, BatchBuffer)> {
        self.lock().batches.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        // Codecs run without it; what it guards is whole after each statement.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const THREADS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn batch(byte: u8) -> BatchBuffer {
        BatchBuffer::from(vec![byte; 70])
    }

    fn reporting() -> (Report, mpsc::Receiver<(CompressionId, CompressedBatch)>) {
        let (told, telling) = mpsc::channel();
        let report = move |id, batch| told.send((id, batch)).expect("somebody listens");
        (Box::new(report), telling)
    }

    fn halved(batch: &mut BatchBuffer) -> CompressionType {
        let half = batch.len() / 2;
        batch.as_mut_vec().truncate(half);
        CompressionType::Lz4
    }

    #[test]
    fn every_batch_is_reported_and_threads_stay_few() {
        let (report, told) = reporting();
        let mut pool = CompressionPool::new(2, Box::new(|| Box::new(halved)), report);
        for id in 0..100 {
            pool.submit(CompressionId(id), batch(7));
        }
        let mut ids: Vec<u64> = told.iter().take(100).map(|(id, _)| id.0).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..100).collect::<Vec<_>>());
        assert!((1..=2).contains(&pool.threads), "{pool:?}");
    }

    #[test]
    fn a_codec_that_panics_or_gives_up_leaves_the_batch_as_it_was() {
        let (report, told) = reporting();
        let make = || -> Compress {
            Box::new(|plain| match plain[0] {
                0 => panic!("a bug of the codec"),
                1 => CompressionType::None,
                _ => halved(plain),
            })
        };
        let mut pool = CompressionPool::new(1, Box::new(make), report);
        for byte in 0..3 {
            pool.submit(CompressionId(u64::from(byte)), batch(byte));
        }
        let reports: Vec<_> = told.iter().take(3).collect();
        let plain = |byte| CompressedBatch::plain(batch(byte));
        assert_eq!(reports[0], (CompressionId(0), plain(0)));
        assert_eq!(reports[1], (CompressionId(1), plain(1)));
        assert_eq!(reports[2].1.compression, CompressionType::Lz4);
    }

    #[test]
    fn threads_end_with_their_pool() {
        let (report, told) = reporting();
        let mut pool = CompressionPool::new(1, Box::new(|| Box::new(halved)), report);
        pool.submit(CompressionId(0), batch(7));
        assert!(told.recv().is_ok());
        drop(pool);
        // The last thread drops what reports.
        assert!(told.recv().is_err());
    }
}
