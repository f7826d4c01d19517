//! One partition's batches after the queue: what waits for a retry, what is on the way, and the
//! order in which they are completed.
//!
//! *State* of a batch
//! ```text
//!            send                 finish
//!   queue ─────────▶ on the wire ────────▶ finished ──▶ completed, once all before it are
//!     │       ▲       │      ▲                ▲
//!     │  send │ retry │      │ send           │ finish
//!     ▼       │       ▼      │                │
//!   preparing: it   waiting for a retry ──────┤
//!   is compressed ────────────────────────────┘
//! ```
//! *State* of its history: what its past attempts may have left in a log
//! ```text
//!   NeverLeft ──▶ Refused ──▶ PossiblyWritten      (never back, but for a refusal that proves it)
//! ```
//!
//! *Invariants*
//! 1. Completions leave in the order in which batches were taken from the queue.
//! 2. The batches that wait for a retry are in that order too.
//! 3. With idempotence a batch that was sent before goes when nothing else of its partition is on
//!    the wire, and new ones follow only when no batch waits.
//! 4. All batches of a partition on the wire are on one connection, so a new leader cannot take a
//!    later batch before an earlier one is settled.
//! 5. Batches that are compressed go in the order of the queue, whichever is ready first.
//! 6. A broken run restarts only when nothing is on the wire and no waiting batch is possibly
//!    written.
//!
//! *Source*: Kafka's `TxnPartitionEntry`, `RecordAccumulator.shouldStopDrainBatchesForPartition`.
//! 4 and the history are ours.
//!
//! *Not here*: what an answer means (`verdict.rs`), when a batch is due (`drain.rs`).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::engine::asked_again::AskedAgain;
use crate::engine::batch::{Halves, SealedBatch, StampedBatch};
use crate::engine::effect::{BatchOutcome, CompressionId, ConnectionId, CorrelationId};
use crate::engine::ledger::{BatchNumber, Ended, Ledger};
use crate::engine::metadata::Leadership;
use crate::engine::sequence::{Identity, Run};
use crate::engine::time::Instant;
use crate::error::{Failure, FailureKind};
use crate::types::{BrokerId, TopicPartition};
use crate::wire::compression::{Codec, CompressedBatch};

/// A batch with its past.
#[derive(Debug)]
pub(crate) struct Tracked<C> {
    pub(crate) partition: TopicPartition,
    pub(crate) number: BatchNumber,
    pub(crate) batch: StampedBatch<C>,
    /// How many times it was sent.
    pub(crate) attempts: u32,
    pub(crate) history: History,
    /// Who was asked last.
    pub(crate) broker: Option<BrokerId>,
    /// When it was last sent.
    pub(crate) sent_at: Option<Instant>,
    /// Why the last attempt failed.
    pub(crate) last_reason: Option<Arc<str>>,
}

impl<C> Tracked<C> {
    /// A failure with what is known of this batch.
    pub(crate) fn failure(&self, kind: FailureKind, message: Option<Arc<str>>) -> Failure {
        Failure {
            broker: self.broker,
            attempts: self.attempts,
            message,
            ..Failure::new(kind)
        }
    }
}

/// What the past attempts of a batch may have left in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum History {
    /// No byte of it left.
    NeverLeft,
    /// Every attempt was refused before it was appended.
    Refused,
    /// Some attempt got no answer that settles it.
    PossiblyWritten,
}

/// Where a batch is on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnWire {
    pub(crate) number: BatchNumber,
    pub(crate) connection: ConnectionId,
    pub(crate) correlation_id: CorrelationId,
    history: History,
}

/// The wait before the next retry of a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryWait {
    pub(crate) until: Instant,
    /// Who led when the attempt failed: a new leader is tried at once (KIP-951).
    pub(crate) tried: Leadership,
}

/// What a partition could send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Candidate {
    /// The waiting batch at this place, of this size in bytes.
    Retry { index: usize, bytes: usize },
    /// The oldest that was compressed, of this size in bytes.
    Prepared { bytes: usize },
    /// The queue's oldest, once it is due.
    New,
    /// Nothing until something on the wire is answered, or a producer id comes.
    Blocked,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Partition<C> {
    key: TopicPartition,
    pub(crate) run: Run,
    pub(crate) retry_wait: Option<RetryWait>,
    pub(crate) asked_again: AskedAgain,
    preparing: VecDeque<Preparing<C>>,
    waiting: VecDeque<Tracked<C>>,
    on_wire: VecDeque<OnWire>,
    ledger: Ledger<C>,
}

/// A batch on its way from the queue to its first request.
#[derive(Debug)]
struct Preparing<C> {
    number: BatchNumber,
    batch: SealedBatch<C>,
    stage: Stage,
}

/// How far a batch is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its bytes are lent out.
    AtWork(CompressionId),
    /// They are back.
    Ready,
}

impl<C> Partition<C> {
    pub(crate) fn new(key: TopicPartition, run: Run) -> Self {
        Self {
            key,
            run,
            retry_wait: None,
            asked_again: AskedAgain::default(),
            preparing: VecDeque::new(),
            waiting: VecDeque::new(),
            on_wire: VecDeque::new(),
            ledger: Ledger::new(),
        }
    }

    /// Enters a new batch.
    pub(crate) fn track(&mut self, batch: StampedBatch<C>, deadline: Instant) -> Tracked<C> {
        let number = self.ledger.enter(deadline);
        self.tracked(number, batch)
    }

    fn tracked(&self, number: BatchNumber, batch: StampedBatch<C>) -> Tracked<C> {
        Tracked {
            partition: self.key,
            number,
            batch,
            attempts: 0,
            history: History::NeverLeft,
            broker: None,
            sent_at: None,
            last_reason: None,
        }
    }

    /// Enters a new batch whose bytes are lent out to be compressed.
    pub(crate) fn prepare(&mut self, batch: SealedBatch<C>, id: CompressionId, deadline: Instant) {
        let number = self.ledger.enter(deadline);
        self.preparing.push_back(Preparing {
            number,
            batch,
            stage: Stage::AtWork(id),
        });
    }

    /// How many batches are prepared or ready for their first request.
    pub(crate) fn preparing_count(&self) -> usize {
        self.preparing.len()
    }

    /// Puts back a batch's bytes, unless it ended meanwhile.
    pub(crate) fn on_prepared(&mut self, id: CompressionId, bytes: CompressedBatch, now: Instant) {
        let lent = |one: &&mut Preparing<C>| one.stage == Stage::AtWork(id);
        if let Some(one) = self.preparing.iter_mut().find(lent) {
            one.batch.put_back(bytes, now);
            one.stage = Stage::Ready;
        }
    }

    /// Takes the oldest batch that was prepared, stamped.
    pub(crate) fn take_prepared(&mut self, identity: &Identity) -> Option<Tracked<C>> {
        let ready = self.preparing.front()?.stage == Stage::Ready;
        let Preparing { number, batch, .. } = self.preparing.pop_front_if(|_| ready)?;
        let stamp = self.run.assign(batch.record_count(), identity);
        Some(self.tracked(number, batch.stamp(stamp)))
    }

    /// Takes the oldest batch that is prepared, to end it: its bytes may still be lent out.
    pub(crate) fn take_preparing(&mut self) -> Option<Tracked<C>> {
        let Preparing { number, batch, .. } = self.preparing.pop_front()?;
        Some(self.tracked(number, batch.stamp(None)))
    }

    /// Notes that a batch is on the wire.
    pub(crate) fn on_sent(
        &mut self,
        batch: &Tracked<C>,
        connection: ConnectionId,
        correlation_id: CorrelationId,
    ) {
        let (number, history) = (batch.number, batch.history);
        self.on_wire.push_back(OnWire {
            number,
            connection,
            correlation_id,
            history,
        });
    }

    /// Notes that a batch is no longer on the wire.
    pub(crate) fn on_returned(&mut self, number: BatchNumber) {
        self.on_wire.retain(|one| one.number != number);
    }

    /// Lets a batch wait for its retry.
    pub(crate) fn await_retry(&mut self, batch: Tracked<C>) {
        let place = self
            .waiting
            .partition_point(|one| one.number < batch.number);
        self.waiting.insert(place, batch);
    }

    /// Takes the waiting batch at this place.
    pub(crate) fn take_waiting(&mut self, index: usize) -> Option<Tracked<C>> {
        self.waiting.remove(index)
    }

    /// Takes the waiting batch of this number.
    pub(crate) fn take_waiting_number(&mut self, number: BatchNumber) -> Option<Tracked<C>> {
        let index = self.waiting.iter().position(|one| one.number == number)?;
        self.waiting.remove(index)
    }

    /// Ends a batch; its completion waits for those before it.
    pub(crate) fn finish(&mut self, batch: Tracked<C>, outcome: BatchOutcome) {
        self.asked_again.leave(batch.number);
        self.ledger.finish(Ended {
            number: batch.number,
            record_count: batch.batch.record_count(),
            completion: batch.batch.into_completion(),
            outcome,
        });
    }

    /// Lets the halves of a batch that its broker refused wait in its place, as if never tried;
    /// gives it back if it cannot be split.
    pub(crate) fn split(&mut self, batch: Tracked<C>, codec: Codec) -> Result<(), Box<Tracked<C>>> {
        let records = batch.batch.record_count();
        let Halves { completion, halves } = match batch.batch.split(codec) {
            Ok(halves) => halves,
            Err(whole) => {
                return Err(Box::new(Tracked {
                    batch: whole,
                    ..batch
                }));
            }
        };
        self.ledger.split(batch.number, completion, records);
        let mut number = batch.number;
        for half in halves {
            let behind = number.part(half.record_count());
            let tracked = self.tracked(number, half);
            self.await_retry(tracked);
            number = behind;
        }
        Ok(())
    }

    /// The next completion in order.
    pub(crate) fn poll_completion(&mut self) -> Option<(C, BatchOutcome)> {
        self.ledger.poll()
    }

    /// Ends a batch that was never sent, in its turn.
    pub(crate) fn finish_unsent(&mut self, completion: C, outcome: BatchOutcome) {
        self.ledger.enter_finished(completion, outcome);
    }

    /// The first open batch whose time is over.
    pub(crate) fn overdue(&self, now: Instant) -> Option<BatchNumber> {
        self.delivery_deadline()
            .filter(|deadline| *deadline <= now)?;
        let is_over = |number: &BatchNumber| self.deadline_of(*number).is_some_and(|at| at <= now);
        self.open_numbers().filter(is_over).min()
    }

    /// The first batch, or part of one, that is prepared, waiting or on the wire.
    pub(crate) fn first_open(&self) -> Option<BatchNumber> {
        self.open_numbers().min()
    }

    /// Whether something has to be ended or begun anew before anything goes: a batch that is
    /// overdue, or a run that is broken.
    pub(crate) fn needs_care(&self, now: Instant) -> bool {
        let overdue = self.delivery_deadline().is_some_and(|at| at <= now);
        overdue || self.run.gap().is_some()
    }

    fn is_open(&self, number: BatchNumber) -> bool {
        self.open_numbers().any(|one| one == number)
    }

    fn open_numbers(&self) -> impl Iterator<Item = BatchNumber> {
        let preparing = self.preparing.iter().map(|one| one.number);
        let waiting = self.waiting.iter().map(|one| one.number);
        let on_wire = self.on_wire.iter().map(|one| one.number);
        preparing.chain(waiting).chain(on_wire)
    }

    /// When the time of the first open batch is over.
    pub(crate) fn delivery_deadline(&self) -> Option<Instant> {
        if self.asked_again.is_empty() {
            return self.ledger.deadline();
        }
        let open = self.open_numbers();
        open.filter_map(|number| self.deadline_of(number)).min()
    }

    /// When the time of an open batch is over: its delivery time-out, or the end of asking.
    fn deadline_of(&self, number: BatchNumber) -> Option<Instant> {
        let asked_until = self.asked_again.until(number);
        asked_until.or_else(|| self.ledger.deadline_of(number))
    }

    /// Whether an open batch may be in the log, or may come there by itself.
    pub(crate) fn is_possibly_written(&self, number: BatchNumber) -> bool {
        let in_wait = self.waiting.iter().find(|one| one.number == number);
        self.wire_place(number).is_some()
            || in_wait.is_some_and(|one| one.history == History::PossiblyWritten)
    }

    /// Where this batch is on the wire, if it is.
    pub(crate) fn wire_place(&self, number: BatchNumber) -> Option<OnWire> {
        self.on_wire
            .iter()
            .find(|one| one.number == number)
            .copied()
    }

    /// The connection that holds this partition's batches.
    pub(crate) fn wire_connection(&self) -> Option<ConnectionId> {
        self.on_wire.front().map(|one| one.connection)
    }

    /// Whether the log may hold a batch behind this one: then the broker may have forgotten this
    /// one, however it answers.
    pub(crate) fn later_possibly_written(&self, number: BatchNumber) -> bool {
        let in_wait = self
            .waiting
            .iter()
            .any(|one| one.number > number && one.history == History::PossiblyWritten);
        let on_wire = self
            .on_wire
            .iter()
            .any(|one| one.number > number && one.history == History::PossiblyWritten);
        let finished = self.ledger.is_behind_possibly_written(number);
        in_wait || on_wire || finished
    }

    /// What could go next.
    pub(crate) fn candidate(&self, identity: &Identity) -> Candidate {
        let index = match self.run {
            // Batches that the restart will renumber wait for it; the others must be settled first.
            Run::Broken(..) => {
                let unsettled = |one: &Tracked<C>| one.history == History::PossiblyWritten;
                match self.waiting.iter().position(unsettled) {
                    Some(index) => index,
                    None => return Candidate::Blocked,
                }
            }
            Run::Off | Run::Unassigned | Run::Probing(_) | Run::Flowing(_) => 0,
        };
        match self.waiting.get(index) {
            None if !self.asked_again.is_empty() => Candidate::Blocked,
            None if self.run.admits(self.on_wire.len(), identity) => self.first_candidate(),
            None => Candidate::Blocked,
            Some(_) if self.run != Run::Off && !self.on_wire.is_empty() => Candidate::Blocked,
            Some(waiting) => Candidate::Retry {
                index,
                bytes: waiting.batch.bytes(),
            },
        }
    }

    /// What could go for the first time.
    fn first_candidate(&self) -> Candidate {
        match self.preparing.front() {
            None => Candidate::New,
            Some(one) if one.stage == Stage::Ready => Candidate::Prepared {
                bytes: one.batch.bytes(),
            },
            Some(_) => Candidate::Blocked,
        }
    }

    /// Restarts a broken run if nothing of it is left open, renumbering what waits.
    pub(crate) fn restart_if_settled(&mut self, identity: &mut Identity) {
        let settled = self.on_wire.is_empty()
            && self
                .waiting
                .iter()
                .all(|one| one.history != History::PossiblyWritten);
        if !settled || self.run.gap().is_none() {
            return;
        }
        self.run.restart(identity);
        if self.run.gap().is_some() {
            return;
        }
        for mut tracked in core::mem::take(&mut self.waiting) {
            let stamp = self.run.assign(tracked.batch.record_count(), identity);
            tracked.batch = tracked.batch.restamp(stamp);
            self.waiting.push_back(tracked);
        }
    }

    /// Panics if an invariant is broken.
    pub(crate) fn check_invariants(&self) {
        let numbers: Vec<_> = self.waiting.iter().map(|one| one.number).collect();
        assert!(
            numbers.is_sorted_by(|one, next| one < next),
            "partition 2: retries in order"
        );
        let mut held: Vec<_> = self.open_numbers().collect();
        held.sort_unstable();
        held.dedup_by(|one, other| one.is_beside(*other));
        assert_eq!(
            self.ledger.open_count(),
            held.len(),
            "partition 1: every open batch is prepared, waiting or on the wire"
        );
        assert!(
            self.asked_again
                .numbers()
                .all(|number| self.is_open(number)),
            "asked again 2: what is asked about is open"
        );
        let prepared: Vec<_> = self.preparing.iter().map(|one| one.number).collect();
        assert!(
            prepared.is_sorted_by(|one, next| one < next),
            "partition 5: prepared in order"
        );
        let connections = self
            .on_wire
            .iter()
            .all(|one| Some(one.connection) == self.wire_connection());
        assert!(connections, "partition 4: one connection");
        let behind = self
            .on_wire
            .iter()
            .skip(1)
            .all(|one| one.history == History::NeverLeft);
        assert!(
            self.run == Run::Off || behind,
            "partition 3: a batch sent again goes first"
        );
        assert!(
            !self.ledger.is_front_finished(),
            "partition 1: nothing finished is held back without reason"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::batch::NewBatch;
    use crate::engine::config::Idempotence;
    use crate::engine::queue::{PartitionQueue, QueueLimits, RecordView};
    use crate::engine::ratio::Ratio;
    use crate::engine::sequence::Gap;
    use crate::types::{ProducerEpoch, ProducerId, TopicIndex};
    use crate::wire::batch_buffer::BatchBuffer;

    const ONE: ConnectionId = ConnectionId(1);
    const DEADLINE: Instant = Instant::from_nanos(100);

    fn held() -> Identity {
        Identity::Held(ProducerId(7), ProducerEpoch(0))
    }

    fn partition() -> Partition<u32> {
        let key = TopicPartition {
            topic: TopicIndex(0),
            partition: 0,
        };
        Partition::new(key, Run::new(Idempotence::Enabled))
    }

    /// A batch on the wire, stamped as the run says.
    fn send(partition: &mut Partition<u32>, completion: u32) -> Tracked<u32> {
        let mut queue = PartitionQueue::new(QueueLimits { batch_bytes: 0 });
        let record = RecordView {
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: &[],
        };
        let (buffer, now) = (BatchBuffer::with_capacity(100), Instant::ZERO);
        queue.append_opening(
            &record,
            NewBatch {
                buffer_bytes_max: 0,
                ratio: Ratio::PLAIN,
                buffer,
                completion,
                now,
            },
        );
        let sealed = queue.take().expect("a batch");
        let stamp = partition.run.assign(1, &held());
        let batch = partition.track(sealed.stamp(stamp), DEADLINE);
        partition.on_sent(&batch, ONE, CorrelationId(0));
        batch
    }

    fn come_back(partition: &mut Partition<u32>, batch: &mut Tracked<u32>, history: History) {
        partition.on_returned(batch.number);
        batch.history = history;
    }

    fn written() -> BatchOutcome {
        BatchOutcome::Written {
            base_offset: None,
            log_append_time_ms: None,
        }
    }

    #[test]
    fn an_early_end_waits_for_those_before_it() {
        let mut partition = partition();
        let [mut first, mut second] = [1, 2].map(|completion| send(&mut partition, completion));
        come_back(&mut partition, &mut second, History::PossiblyWritten);
        partition.finish(second, written());
        assert_eq!(partition.poll_completion(), None);
        come_back(&mut partition, &mut first, History::PossiblyWritten);
        partition.finish(first, written());
        let ends: Vec<u32> = std::iter::from_fn(|| partition.poll_completion())
            .map(|(end, _)| end)
            .collect();
        assert_eq!(ends, [1, 2]);
        partition.check_invariants();
    }

    #[test]
    fn an_unsent_end_waits_too() {
        let mut partition = partition();
        send(&mut partition, 1);
        partition.finish_unsent(2, written());
        assert_eq!(partition.poll_completion(), None);
    }

    #[test]
    fn retries_stand_in_the_order_of_the_queue_and_go_one_by_one() {
        let mut partition = partition();
        let mut sent = [1, 2, 3].map(|completion| send(&mut partition, completion));
        for batch in &mut sent {
            come_back(&mut partition, batch, History::PossiblyWritten);
        }
        let [first, second, third] = sent;
        for batch in [third, first, second] {
            partition.await_retry(batch);
        }
        partition.check_invariants();
        assert!(matches!(
            partition.candidate(&held()),
            Candidate::Retry { index: 0, .. }
        ));
        let again = partition.take_waiting(0).expect("waiting");
        assert_eq!(again.number, BatchNumber::of_row(0));
        partition.on_sent(&again, ONE, CorrelationId(1));
        assert_eq!(partition.candidate(&held()), Candidate::Blocked);
    }

    #[test]
    fn a_broken_run_sends_what_may_be_written_before_it_restarts() {
        let mut partition = partition();
        let [mut refused, mut lost] = [1, 2].map(|completion| send(&mut partition, completion));
        partition.run.on_gap(refused.batch.stamp(), Gap::Certain);
        come_back(&mut partition, &mut refused, History::Refused);
        partition.await_retry(refused);
        partition.restart_if_settled(&mut held());
        assert!(partition.run.gap().is_some(), "the other is on the wire");
        come_back(&mut partition, &mut lost, History::PossiblyWritten);
        partition.await_retry(lost);
        partition.restart_if_settled(&mut held());
        assert!(matches!(
            partition.candidate(&held()),
            Candidate::Retry { index: 1, .. }
        ));
        let mut settled = partition.take_waiting(1).expect("waiting");
        settled.history = History::Refused;
        partition.await_retry(settled);
        partition.restart_if_settled(&mut held());
        let stamps: Vec<_> = partition
            .waiting
            .iter()
            .filter_map(|one| one.batch.stamp())
            .collect();
        let seen: Vec<_> = stamps
            .iter()
            .map(|one| (one.epoch.0, one.base_sequence.value()))
            .collect();
        assert_eq!(seen, [(1, 0), (1, 1)], "renumbered in order");
    }

    #[test]
    fn a_broken_run_sends_nothing_else() {
        let mut partition = partition();
        let mut batch = send(&mut partition, 1);
        partition.run.on_gap(batch.batch.stamp(), Gap::Possible);
        come_back(&mut partition, &mut batch, History::Refused);
        partition.await_retry(batch);
        assert_eq!(partition.candidate(&held()), Candidate::Blocked);
    }

    #[test]
    fn only_what_the_log_may_hold_counts_as_behind() {
        let mut partition = partition();
        let [first, mut second] = [1, 2].map(|completion| send(&mut partition, completion));
        assert!(
            !partition.later_possibly_written(first.number),
            "sent, and not before"
        );
        come_back(&mut partition, &mut second, History::PossiblyWritten);
        partition.await_retry(second);
        assert!(partition.later_possibly_written(first.number));
        assert!(
            !partition.later_possibly_written(BatchNumber::of_row(1)),
            "nothing is behind itself"
        );
    }

    #[test]
    fn the_first_open_batch_sets_the_delivery_deadline() {
        let mut partition = partition();
        assert_eq!(partition.delivery_deadline(), None);
        send(&mut partition, 1);
        assert_eq!(partition.delivery_deadline(), Some(DEADLINE));
        assert_eq!(partition.overdue(Instant::from_nanos(99)), None);
        assert_eq!(partition.overdue(DEADLINE), Some(BatchNumber::of_row(0)));
    }
}
