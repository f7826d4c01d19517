//! Many records at once: what goes to one partition takes its lock together.
//!
//! ```text
//!   records ──▶ by partition ──▶ as many as go at once ──▶ accepted
//!                     ▲                   │
//!                     └── the next one waits, or is refused, as any record
//! ```
//!
//! *Invariants*
//! 1. Each record has one result, in the order in which the records were given.
//! 2. Records of one partition are accepted in the order in which they were given, and so are those
//!    that leave their partition to the built-in choice.
//! 3. Once a record was refused for a reason that is not its own (time, room, topic, a closed
//!    producer), all behind it are refused with it: none overtakes it.
//!
//! *Not here*: a record on its own (`handle.rs`), the lock (`io/accumulator.rs`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::delivery::{Delivery, Written, callback};
use crate::handle::{Destination, ProducerHandle, outgoing};
use crate::io::completion::Callback;
use crate::io::outgoing::{Accepted, Choice, Outgoing};
use crate::io::topics::{Partitions, Route, TopicEntry};
use crate::produce_error::{ProduceError, ProduceErrorKind};
use crate::record::Record;

/// What became of one send.
type Sent = Result<Delivery, ProduceError>;

/// What is called for each record, with its place among those given.
pub(crate) struct Calls(Option<Arc<OnSettled>>);

type OnSettled = dyn Fn(usize, Result<Written, ProduceError>) + Send + Sync;

impl Calls {
    /// Nothing is called.
    pub(crate) const NONE: Self = Self(None);

    pub(crate) fn new<F>(call: F) -> Self
    where
        F: Fn(usize, Result<Written, ProduceError>) + Send + Sync + 'static,
    {
        Self(Some(Arc::new(call)))
    }

    /// For records that are picked from those given.
    fn of(&self, places: Vec<usize>) -> Self {
        let Some(call) = self.0.clone() else {
            return Self::NONE;
        };
        Self::new(move |index: usize, outcome| {
            if let Some(place) = places.get(index) {
                call(*place, outcome);
            }
        })
    }

    /// For one record.
    fn one(&self, index: usize) -> Option<Callback> {
        let call = Arc::clone(self.0.as_ref()?);
        Some(callback(move |outcome| call(index, outcome)))
    }
}

/// Whether each was accepted; its fate is told by a function.
pub(crate) fn without_deliveries(sent: Vec<Sent>) -> Vec<Result<(), ProduceError>> {
    let accepted = sent.into_iter().map(|sent| sent.map(drop));
    accepted.collect()
}

/// Records that go to one topic.
struct Many<'r> {
    records: &'r [Record<'r>],
    /// Those without a result, in the order in which they go.
    left: VecDeque<Placed>,
    order: Order,
    results: Vec<Option<Sent>>,
}

/// A record by its place among those given, and where it goes.
#[derive(Clone, Copy)]
struct Placed {
    index: usize,
    choice: Choice,
}

/// In which order records are left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    AsGiven,
    ByPartition,
}

impl ProducerHandle {
    /// Hands records over to the topics they name; results in their order.
    pub(crate) async fn send_all_named(
        &self,
        records: Vec<Record<'_, &str>>,
        calls: &Calls,
    ) -> Vec<Sent> {
        let mut results = Vec::new();
        results.resize_with(records.len(), || None);
        let mut by_topic: Vec<(&str, Vec<usize>, Vec<Record<'_>>)> = Vec::new();
        let mut places = HashMap::new();
        for (index, record) in records.into_iter().enumerate() {
            let (topic, record) = record.split();
            let place = *places.entry(topic).or_insert_with(|| {
                by_topic.push((topic, Vec::new(), Vec::new()));
                by_topic.len() - 1
            });
            let (_, indexes, of_topic) = &mut by_topic[place];
            indexes.push(index);
            of_topic.push(record);
        }
        for (topic, indexes, of_topic) in &by_topic {
            let calls = calls.of(indexes.clone());
            let to = Destination::Named(topic);
            let sent = self.send_all(to, of_topic, &calls).await;
            for (index, sent) in indexes.iter().zip(sent) {
                results[*index] = Some(sent);
            }
        }
        results.into_iter().flatten().collect()
    }

    /// Hands records over to one topic; results in their order.
    pub(crate) async fn send_all(
        &self,
        to: Destination<'_>,
        records: &[Record<'_>],
        calls: &Calls,
    ) -> Vec<Sent> {
        let mut many = Many::new(records);
        loop {
            // Interceptors see one record after the other.
            if self.interceptors.is_none() {
                self.append_at_once(to, &mut many, calls);
            }
            let Some(Placed { index, choice }) = many.left.pop_front() else {
                break;
            };
            let sent = match &self.interceptors {
                None => {
                    let call = calls.one(index);
                    self.accept(to, &records[index], call, choice).await
                }
                Some(_) => self.send(to, &records[index], calls.one(index)).await,
            };
            if let Err(error) = &sent
                && stops_others(error.kind())
            {
                for behind in many.left.drain(..) {
                    many.results[behind.index] = Some(Err(self.refuse(error.clone())));
                }
            }
            many.results[index] = Some(sent);
        }
        many.results.into_iter().flatten().collect()
    }

    /// Appends what goes without waiting, up to the first that does not.
    fn append_at_once(&self, to: Destination<'_>, many: &mut Many<'_>, calls: &Calls) {
        let entry = match to {
            Destination::Known(entry) => Arc::clone(entry),
            Destination::Named(name) => match self.accumulator.topics.find(name) {
                Some(entry) => entry,
                None => return,
            },
        };
        let route = entry.route.load();
        let Route::Known(partitions) = &**route else {
            return;
        };
        if !self.accumulator.phase.is_open() {
            return;
        }
        if many.order == Order::AsGiven {
            many.sort(|record| self.place(&entry, record, partitions));
        }
        while let Some(choice) = many.next_choice() {
            let mut accepted = Vec::new();
            let run = many.run(choice);
            let wanted = run.clone().count();
            let run = run.map(|(index, record)| Outgoing {
                choice,
                ..outgoing(record, calls.one(index))
            });
            self.accumulator
                .append_run(&entry, partitions, run, &mut accepted);
            let at_once = accepted.len();
            many.accept(accepted);
            if at_once < wanted {
                return;
            }
        }
    }

    /// Where a record goes; undecided if there is something wrong with it.
    fn place(&self, topic: &TopicEntry, record: &Record<'_>, partitions: &Partitions) -> Choice {
        match record.timestamp_ms {
            Some(timestamp_ms) if timestamp_ms < 0 => Choice::Undecided,
            _ => self
                .choose(topic, record, partitions)
                .unwrap_or(Choice::Undecided),
        }
    }
}

impl<'r> Many<'r> {
    fn new(records: &'r [Record<'r>]) -> Self {
        let undecided = |index| Placed {
            index,
            choice: Choice::Undecided,
        };
        Self {
            records,
            left: (0..records.len()).map(undecided).collect(),
            order: Order::AsGiven,
            results: records.iter().map(|_| None).collect(),
        }
    }

    /// Brings together what goes to one partition.
    fn sort(&mut self, place: impl Fn(&Record<'_>) -> Choice) {
        for placed in &mut self.left {
            placed.choice = place(&self.records[placed.index]);
        }
        // Stable: within a partition the order stays.
        self.left
            .make_contiguous()
            .sort_by_key(|placed| placed.choice);
        self.order = Order::ByPartition;
    }

    /// Where the next record goes, if that is decided.
    fn next_choice(&self) -> Option<Choice> {
        let next = self.left.front()?.choice;
        (next != Choice::Undecided).then_some(next)
    }

    /// The next records that go to one place.
    fn run(&self, choice: Choice) -> impl Iterator<Item = (usize, &'r Record<'r>)> + Clone {
        let records = self.records;
        let same = self
            .left
            .iter()
            .take_while(move |placed| placed.choice == choice);
        same.map(move |placed| (placed.index, &records[placed.index]))
    }

    /// The next records were accepted.
    fn accept(&mut self, accepted: Vec<Accepted>) {
        for (placed, one) in self.left.drain(..accepted.len()).zip(accepted) {
            let delivery = Delivery::new(one.ticket, one.record);
            self.results[placed.index] = Some(Ok(delivery));
        }
    }
}

/// Whether a refusal is about more than the record itself.
fn stops_others(kind: ProduceErrorKind) -> bool {
    match kind {
        ProduceErrorKind::RecordTooLarge { .. }
        | ProduceErrorKind::UnknownPartition { .. }
        | ProduceErrorKind::InvalidTimestamp
        | ProduceErrorKind::SerializationFailed { .. } => false,
        ProduceErrorKind::TopicNotReady
        | ProduceErrorKind::TopicTimedOut { .. }
        | ProduceErrorKind::NoTransaction
        | ProduceErrorKind::TransactionAborted
        | ProduceErrorKind::MemoryFull
        | ProduceErrorKind::MemoryTimedOut { .. }
        | ProduceErrorKind::Refused
        | ProduceErrorKind::RefusedWithBatch
        | ProduceErrorKind::DeliveryTimedOut
        | ProduceErrorKind::Disconnected
        | ProduceErrorKind::Closed
        | ProduceErrorKind::GivenUp
        | ProduceErrorKind::UnsupportedVersion
        | ProduceErrorKind::BadAnswer => true,
    }
}
