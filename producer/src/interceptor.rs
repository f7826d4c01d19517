//! Interceptors: code that sees each record on its way out, and its fate on the way back.
//!
//! Each record passes the whole chain, in the order in which its interceptors were given:
//!
//! ```text
//!   send ──▶ on_send 1 ──▶ on_send 2 ──▶ partition, queue, broker
//!   fate ──▶ on_acknowledgement 1 ──▶ on_acknowledgement 2 ──▶ callback or delivery
//! ```
//!
//! *Invariants*
//! 1. Every record handed to a producer with interceptors has its fate told once to each, whether
//!    it was written, failed, refused before it was queued, or given up by dropping its send.
//! 2. A panic in an interceptor ends neither the send nor the producer: it is logged, what that
//!    interceptor changed is undone, and the next one goes on.
//! 3. A record that no interceptor changes is not copied.
//!
//! *Source*: Kafka's `ProducerInterceptors`.
//!
//! *Not here*: when the chain is called (`handle.rs`), the end of a producer (`io/driver.rs`).

use std::any::type_name;
use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::delivery::{Written, result_of};
use crate::io::completion::Callback;
use crate::produce_error::{ProduceError, ProduceErrorKind};
use crate::record::{Header, Record};

/// Sees each record on its way out, may change it, and learns its fate.
///
/// ```
/// use kafka_producer::{Acknowledgement, InterceptedRecord, Interceptor, Producer};
///
/// /// Marks each record with the version of the program that sent it, and counts losses.
/// struct Marking { losses: prometheus_like::Counter }
///
/// impl Interceptor for Marking {
///     fn on_send(&self, record: &mut InterceptedRecord<'_>) {
///         record.add_header("sent-by", env!("CARGO_PKG_VERSION"));
///     }
///
///     fn on_acknowledgement(&self, acknowledgement: &Acknowledgement<'_>) {
///         if acknowledgement.result().is_err() {
///             self.losses.increment();
///         }
///     }
/// }
///
/// # fn example(losses: prometheus_like::Counter) {
/// let producer = Producer::builder()
///     .bootstrap_servers("127.0.0.1:9092")
///     .interceptor(Marking { losses })
///     .build();
/// # }
/// # mod prometheus_like { pub struct Counter; impl Counter { pub fn increment(&self) {} } }
/// ```
pub trait Interceptor: Send + Sync + 'static {
    /// A record was handed over, by the task that sends it; nothing was done with it yet.
    ///
    /// It runs for each record: what is slow here makes `send` slow.
    fn on_send(&self, record: &mut InterceptedRecord<'_>) {
        let _ = record;
    }

    /// A record's fate is settled: told before its callback runs and its delivery resolves.
    ///
    /// It runs on the producer's own task, where a slow or blocking call holds up all sending; for
    /// a record that was refused, on the task that sent it. A record that could not be serialized
    /// is told here without having been seen by [`Interceptor::on_send`].
    fn on_acknowledgement(&self, acknowledgement: &Acknowledgement<'_>) {
        let _ = acknowledgement;
    }

    /// The producer has ended; nothing is called afterwards. `close` of the producer waits for it.
    fn close(&self) {}
}

/// A record's fate, as its interceptors are told.
#[derive(Clone, Copy)]
pub struct Acknowledgement<'a> {
    topic: &'a str,
    result: Result<&'a Written, &'a ProduceError>,
    headers: ToldHeaders<'a>,
}

#[derive(Clone, Copy)]
enum ToldHeaders<'a> {
    /// The record is still at hand.
    Of(&'a InterceptedRecord<'a>),
    /// It is not; these were kept of it.
    Kept(&'a [KeptHeader]),
}

/// A header kept until its record's fate is told.
struct KeptHeader {
    name: Box<str>,
    value: Option<Bytes>,
}

impl<'a> Acknowledgement<'a> {
    /// The record's topic.
    #[must_use]
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// The record's partition, if it was chosen.
    #[must_use]
    pub fn partition(&self) -> Option<i32> {
        match self.result {
            Ok(written) => Some(written.partition),
            Err(error) => error.partition(),
        }
    }

    /// Where it was written, or why it was not, or may not have been.
    ///
    /// # Errors
    ///
    /// Why the record was not written, or may not have been.
    pub fn result(&self) -> Result<&'a Written, &'a ProduceError> {
        self.result
    }

    /// The record's headers, as the last interceptor left them; none if it could not be serialized.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> {
        let (of_record, kept) = match self.headers {
            ToldHeaders::Of(record) => (Some(record), &[][..]),
            ToldHeaders::Kept(kept) => (None, kept),
        };
        let of_record = of_record.into_iter().flat_map(InterceptedRecord::headers);
        of_record.chain(kept.iter().map(|header| Header {
            key: &header.name,
            value: header.value.as_deref(),
        }))
    }
}

impl fmt::Debug for Acknowledgement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acknowledgement")
            .field("topic", &self.topic)
            .field("result", &self.result)
            .finish_non_exhaustive()
    }
}

/// A record on its way through the interceptors.
#[derive(Clone, Debug)]
pub struct InterceptedRecord<'a> {
    topic: &'a str,
    partition: Option<i32>,
    timestamp_ms: Option<i64>,
    key: Option<Part<'a>>,
    value: Option<Part<'a>>,
    headers: Headers<'a>,
}

/// Bytes as they were handed over, or as an interceptor gave them.
#[derive(Clone, Debug)]
enum Part<'a> {
    Lent(&'a [u8]),
    Given(Bytes),
}

#[derive(Clone, Debug)]
enum Headers<'a> {
    Lent(&'a [Header<'a>]),
    Changed(Vec<ChangedHeader<'a>>),
}

#[derive(Clone, Debug)]
struct ChangedHeader<'a> {
    name: Cow<'a, str>,
    value: Option<Part<'a>>,
}

impl<'a> InterceptedRecord<'a> {
    fn new(topic: &'a str, record: &'a Record<'_>) -> Self {
        Self {
            topic,
            partition: record.partition,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(Part::Lent),
            value: record.value.map(Part::Lent),
            headers: Headers::Lent(record.all_headers()),
        }
    }

    /// The topic it goes to.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.topic
    }

    /// The partition, if the record names one; others are chosen later.
    #[must_use]
    pub fn partition(&self) -> Option<i32> {
        self.partition
    }

    /// The timestamp in milliseconds since 1970, if the record has one of its own.
    #[must_use]
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.timestamp_ms
    }

    /// The key's bytes; `None` is null.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_ref().map(Part::bytes)
    }

    /// The value's bytes; `None` is null.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_ref().map(Part::bytes)
    }

    /// The headers in order.
    pub fn headers(&self) -> impl Iterator<Item = Header<'_>> {
        let (lent, changed) = match &self.headers {
            Headers::Lent(headers) => (*headers, &[][..]),
            Headers::Changed(headers) => (&[][..], &headers[..]),
        };
        let changed = changed.iter().map(|header| Header {
            key: &header.name,
            value: header.value.as_ref().map(Part::bytes),
        });
        lent.iter().copied().chain(changed)
    }

    /// Sends it to this partition, or, with `None`, to whichever is chosen later.
    pub fn set_partition(&mut self, partition: Option<i32>) {
        self.partition = partition;
    }

    /// Gives it this timestamp in milliseconds since 1970, or, with `None`, the time when it is
    /// sent.
    pub fn set_timestamp_ms(&mut self, timestamp_ms: Option<i64>) {
        self.timestamp_ms = timestamp_ms;
    }

    /// Gives it another key; `None` is null.
    pub fn set_key(&mut self, key: Option<impl Into<Bytes>>) {
        self.key = key.map(|key| Part::Given(key.into()));
    }

    /// Gives it another value; `None` is null.
    pub fn set_value(&mut self, value: Option<impl Into<Bytes>>) {
        self.value = value.map(|value| Part::Given(value.into()));
    }

    /// Adds a header behind the others; names may repeat.
    pub fn add_header(&mut self, name: impl Into<String>, value: impl Into<Bytes>) {
        self.add_nullable_header(name, Some(value));
    }

    /// Adds a header whose value may be null.
    pub fn add_nullable_header(
        &mut self,
        name: impl Into<String>,
        value: Option<impl Into<Bytes>>,
    ) {
        let header = ChangedHeader {
            name: Cow::Owned(name.into()),
            value: value.map(|value| Part::Given(value.into())),
        };
        self.changed_headers().push(header);
    }

    /// Takes away all headers of this name.
    pub fn remove_headers(&mut self, name: &str) {
        if self.headers().any(|header| header.key == name) {
            self.changed_headers().retain(|header| header.name != name);
        }
    }

    /// Its headers, to be told with its fate.
    fn kept_headers(&self) -> Vec<KeptHeader> {
        let keep = |(name, value): (&str, Option<Bytes>)| KeptHeader {
            name: name.into(),
            value,
        };
        match &self.headers {
            Headers::Lent(headers) => {
                let copied = headers
                    .iter()
                    .map(|one| (one.key, one.value.map(Bytes::copy_from_slice)));
                copied.map(keep).collect()
            }
            Headers::Changed(headers) => {
                let shared = headers
                    .iter()
                    .map(|one| (&*one.name, one.value.as_ref().map(Part::shared)));
                shared.map(keep).collect()
            }
        }
    }

    fn changed_headers(&mut self) -> &mut Vec<ChangedHeader<'a>> {
        if let Headers::Lent(lent) = self.headers {
            let changed = lent.iter().map(|header| ChangedHeader {
                name: Cow::Borrowed(header.key),
                value: header.value.map(Part::Lent),
            });
            self.headers = Headers::Changed(changed.collect());
        }
        match &mut self.headers {
            Headers::Changed(headers) => headers,
            Headers::Lent(_) => unreachable!("changed just now"),
        }
    }

    /// The record that comes of it.
    pub(crate) fn record(&self) -> Record<'_> {
        let mut record = Record::new()
            .nullable_key(self.key())
            .nullable_value(self.value());
        record.partition = self.partition;
        record.timestamp_ms = self.timestamp_ms;
        match &self.headers {
            Headers::Lent(headers) => record.headers(headers),
            Headers::Changed(_) => record.own_headers(self.headers().collect()),
        }
    }
}

impl Part<'_> {
    fn shared(&self) -> Bytes {
        match self {
            Self::Lent(bytes) => Bytes::copy_from_slice(bytes),
            Self::Given(bytes) => bytes.clone(),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Given(bytes) => bytes,
        }
    }
}

/// A producer's interceptors, in order.
#[derive(Clone, Default)]
pub(crate) struct Chain {
    links: Vec<Link>,
}

#[derive(Clone)]
struct Link {
    name: &'static str,
    interceptor: Arc<dyn Interceptor>,
}

impl Chain {
    pub(crate) fn push<I: Interceptor>(&mut self, interceptor: I) {
        self.links.push(Link {
            name: type_name::<I>(),
            interceptor: Arc::new(interceptor),
        });
    }

    /// The names of their types, separated by commas.
    pub(crate) fn names(&self) -> String {
        let names: Vec<_> = self.links.iter().map(|link| link.name).collect();
        names.join(",")
    }

    /// The chain as a producer has it; `None` if it is empty.
    pub(crate) fn start(self) -> Option<Arc<Interceptors>> {
        (!self.links.is_empty()).then(|| {
            Arc::new(Interceptors {
                links: self.links,
                closed: AtomicBool::new(false),
            })
        })
    }
}

/// The interceptors of a producer that runs.
pub(crate) struct Interceptors {
    links: Vec<Link>,
    closed: AtomicBool,
}

impl Interceptors {
    /// What becomes of a record.
    pub(crate) fn on_send<'a>(
        &self,
        topic: &'a str,
        record: &'a Record<'_>,
    ) -> InterceptedRecord<'a> {
        let mut intercepted = InterceptedRecord::new(topic, record);
        for link in self.open_links() {
            let mut changed = intercepted.clone();
            if link.guarded("on_send", |one| one.on_send(&mut changed)) {
                intercepted = changed;
            }
        }
        intercepted
    }

    fn on_acknowledgement(&self, acknowledgement: &Acknowledgement<'_>) {
        for link in self.open_links() {
            link.guarded("on_acknowledgement", |one| {
                one.on_acknowledgement(acknowledgement);
            });
        }
    }

    /// A record was refused of which there is nothing but the error.
    pub(crate) fn on_refused(&self, error: &ProduceError) {
        self.on_acknowledgement(&Acknowledgement {
            topic: error.topic(),
            result: Err(error),
            headers: ToldHeaders::Kept(&[]),
        });
    }

    /// Ends them, once.
    pub(crate) fn close(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            for link in &self.links {
                link.guarded("close", |one| one.close());
            }
        }
    }

    /// Has the chain told of a record's fate before its own callback is.
    pub(crate) fn callback(
        self: &Arc<Self>,
        record: &InterceptedRecord<'_>,
        own: Option<Callback>,
    ) -> Callback {
        let (chain, kept) = (Arc::clone(self), record.kept_headers());
        Box::new(move |batch, outcome, record| {
            let result = result_of(batch, outcome, record);
            chain.on_acknowledgement(&Acknowledgement {
                topic: batch.topic(),
                result: result.as_ref(),
                headers: ToldHeaders::Kept(&kept),
            });
            if let Some(own) = own {
                own(batch, outcome, record);
            }
        })
    }

    fn open_links(&self) -> &[Link] {
        match self.closed.load(Ordering::Acquire) {
            true => &[],
            false => &self.links,
        }
    }
}

impl Link {
    /// Calls it; whether it returned.
    fn guarded(&self, what: &str, call: impl FnOnce(&dyn Interceptor)) -> bool {
        let called = catch_unwind(AssertUnwindSafe(|| call(&*self.interceptor)));
        if called.is_err() {
            tracing::error!(interceptor = self.name, "{what} panicked");
        }
        called.is_ok()
    }
}

impl fmt::Debug for Interceptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.links.iter().map(|link| link.name);
        f.debug_list().entries(names).finish()
    }
}

/// A record between the chain and its queue: the chain is told if it does not arrive there.
pub(crate) struct Underway<'a> {
    chain: &'a Interceptors,
    record: &'a InterceptedRecord<'a>,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    BeforeQueue,
    /// Its callback, or its error, tells its fate.
    Beyond,
}

impl<'a> Underway<'a> {
    pub(crate) fn new(chain: &'a Interceptors, record: &'a InterceptedRecord<'a>) -> Self {
        Self {
            chain,
            record,
            place: Place::BeforeQueue,
        }
    }

    /// It was accepted or refused.
    pub(crate) fn end<T>(mut self, sent: Result<T, ProduceError>) -> Result<T, ProduceError> {
        self.place = Place::Beyond;
        if let Err(error) = &sent {
            self.tell(error);
        }
        sent
    }

    fn tell(&self, error: &ProduceError) {
        self.chain.on_acknowledgement(&Acknowledgement {
            topic: self.record.topic,
            result: Err(error),
            headers: ToldHeaders::Of(self.record),
        });
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if self.place == Place::BeforeQueue {
            let kind = ProduceErrorKind::GivenUp;
            let topic = Arc::from(self.record.topic);
            self.tell(&ProduceError::refused_here(
                kind,
                &topic,
                self.record.partition,
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Seen = Vec<(String, Option<Vec<u8>>)>;

    fn seen(record: &InterceptedRecord<'_>) -> Seen {
        let headers = record.headers();
        let owned = headers.map(|one| (one.key.to_owned(), one.value.map(<[u8]>::to_vec)));
        owned.collect()
    }

    fn same_bytes(left: Option<&[u8]>, right: Option<&[u8]>) -> bool {
        matches!((left, right), (Some(left), Some(right)) if std::ptr::eq(left, right))
    }

    #[test]
    fn a_record_that_nobody_changes_is_not_copied() {
        let sent = Record::new().key("key").value("value").header("a", "1");
        let intercepted = InterceptedRecord::new("orders", &sent);
        let record = intercepted.record();
        assert!(same_bytes(record.key, sent.key));
        assert!(same_bytes(record.value, sent.value));
        assert!(std::ptr::eq(record.all_headers(), sent.all_headers()));
    }

    #[test]
    fn headers_are_added_behind_the_others_and_removed_by_name() {
        let sent = Record::new()
            .header("a", "1")
            .header("b", "2")
            .header("a", "3");
        let mut intercepted = InterceptedRecord::new("orders", &sent);
        intercepted.remove_headers("none of these");
        intercepted.add_header("c", "4");
        intercepted.add_nullable_header("b", None::<Bytes>);
        intercepted.remove_headers("a");
        let expected = [("b", Some("2")), ("c", Some("4")), ("b", None)];
        let expected = expected.map(|(name, value): (&str, Option<&str>)| {
            (
                name.to_owned(),
                value.map(|value| value.as_bytes().to_vec()),
            )
        });
        assert_eq!(seen(&intercepted), expected);
        let record = intercepted.record();
        let sent: Vec<_> = record.all_headers().iter().map(|one| one.key).collect();
        assert_eq!(sent, ["b", "c", "b"]);
    }

    #[test]
    fn all_of_a_record_may_be_changed() {
        let sent = Record::new()
            .key("key")
            .value("value")
            .partition(1)
            .timestamp_ms(2);
        let mut intercepted = InterceptedRecord::new("orders", &sent);
        assert_eq!(intercepted.topic(), "orders");
        assert_eq!(
            (intercepted.partition(), intercepted.timestamp_ms()),
            (Some(1), Some(2))
        );
        intercepted.set_key(Some("other"));
        intercepted.set_value(None::<Bytes>);
        intercepted.set_partition(None);
        intercepted.set_timestamp_ms(Some(3));
        let record = intercepted.record();
        assert_eq!((record.key, record.value), (Some(&b"other"[..]), None));
        assert_eq!((record.partition, record.timestamp_ms), (None, Some(3)));
    }
}
