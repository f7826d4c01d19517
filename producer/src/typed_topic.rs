//! A topic whose records have keys and values of certain types.
//!
//! *Invariants*
//! 1. A record is serialized once, before anything is waited for; one that cannot be is refused
//!    with the serializer's error as source, and nothing of it is sent.
//! 2. A null key or value never reaches a serializer.
//!
//! *Source*: Kafka's `KafkaProducer.doSend` (key first, then value).
//!
//! *Not here*: serializers (`serializer.rs`), everything after the bytes are there (`topic.rs`).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::delivery::{Delivery, Written};
use crate::io::blocking::block_on;
use crate::produce_error::ProduceError;
#[cfg(doc)]
use crate::produce_error::ProduceErrorKind;
use crate::record::{Header, Record};
use crate::scratch::Scratch;
use crate::serializer::{BoxError, Part, Serializer, Target};
use crate::topic::Topic;

/// A [`Topic`] whose keys are of type `K` and whose values are of type `V`. Cheap to clone; keeps
/// its producer alive.
///
/// ```no_run
/// use kafka_producer::serializer::{self, Plain};
/// use kafka_producer::{TypedRecord, TypedTopic};
/// # use kafka_producer::Producer;
/// # #[derive(serde::Serialize)]
/// # struct Order { apples: u32 }
///
/// # async fn example(producer: Producer) -> Result<(), Box<dyn std::error::Error>> {
/// // What Kafka's own serializers write: text, big-endian numbers, UUIDs, bytes.
/// let readings = producer.topic("readings").await?.typed::<str, f64>(Plain, Plain);
/// readings.send(TypedRecord::new("sensor-7", &21.5)).await?;
///
/// // Anything else: a function, or a `Serializer` of your own.
/// let json = serializer::from_fn(|order: &Order, buffer: &mut Vec<u8>| {
///     serde_json::to_writer(buffer, order)
/// });
/// let orders: TypedTopic<str, Order> = producer.topic("orders").await?.typed(Plain, json);
/// let order = Order { apples: 3 };
/// orders.send(TypedRecord::new("customer-7", &order).header("trace", "1")).await?;
/// orders.send(TypedRecord::tombstone("customer-7")).await?;
/// # Ok(()) }
/// ```
pub struct TypedTopic<K: ?Sized, V: ?Sized> {
    topic: Topic,
    key_serializer: Arc<dyn Serializer<K>>,
    value_serializer: Arc<dyn Serializer<V>>,
}

/// A record for a [`TypedTopic`]: borrows its key and its value.
#[derive(Debug)]
#[must_use = "a record goes nowhere until it is sent"]
pub struct TypedRecord<'a, K: ?Sized, V: ?Sized> {
    key: Option<&'a K>,
    value: Option<&'a V>,
    /// All but key and value.
    rest: Record<'a>,
}

impl Topic {
    /// This topic for keys and values of certain types; see [`TypedTopic`].
    pub fn typed<K: ?Sized, V: ?Sized>(
        &self,
        key_serializer: impl Serializer<K> + 'static,
        value_serializer: impl Serializer<V> + 'static,
    ) -> TypedTopic<K, V> {
        TypedTopic {
            topic: self.clone(),
            key_serializer: Arc::new(key_serializer),
            value_serializer: Arc::new(value_serializer),
        }
    }
}

impl<K: ?Sized, V: ?Sized> TypedTopic<K, V> {
    /// The topic beneath, for records of bytes.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// [`Producer::send`](crate::Producer::send) to this topic.
    ///
    /// # Errors
    ///
    /// As there; [`ProduceErrorKind::SerializationFailed`] with the serializer's error as source.
    ///
    /// # Cancellation
    ///
    /// Dropping the future before it is ready leaves the record unsent and holds nothing back.
    pub async fn send(&self, record: TypedRecord<'_, K, V>) -> Result<Delivery, ProduceError> {
        let mut buffers = Buffers::take();
        let record = self.serialize(record, &mut buffers)?;
        self.topic.send(record).await
    }

    /// [`Producer::send_blocking`](crate::Producer::send_blocking) to this topic.
    ///
    /// # Errors
    ///
    /// As there and as [`TypedTopic::send`].
    pub fn send_blocking(&self, record: TypedRecord<'_, K, V>) -> Result<Delivery, ProduceError> {
        block_on(self.send(record))
    }

    /// [`Producer::send_all`](crate::Producer::send_all) to this topic. All are serialized before
    /// the first is sent, into one buffer; one that cannot be is refused alone.
    ///
    /// # Cancellation
    ///
    /// As there.
    pub async fn send_all<'a>(
        &self,
        records: impl IntoIterator<Item = TypedRecord<'a, K, V>>,
    ) -> Vec<Result<Delivery, ProduceError>>
    where
        K: 'a,
        V: 'a,
    {
        let serialized = self.serialize_all(records);
        let sent = self.topic.send_all(serialized.good()).await;
        serialized.in_order(sent)
    }

    /// [`Producer::send_all_with`](crate::Producer::send_all_with) to this topic; serialized as by
    /// [`TypedTopic::send_all`].
    ///
    /// # Cancellation
    ///
    /// As there.
    pub async fn send_all_with<'a, F>(
        &self,
        records: impl IntoIterator<Item = TypedRecord<'a, K, V>>,
        on_settled: F,
    ) -> Vec<Result<(), ProduceError>>
    where
        K: 'a,
        V: 'a,
        F: Fn(usize, Result<Written, ProduceError>) + Send + Sync + 'static,
    {
        let serialized = self.serialize_all(records);
        let places = serialized.places();
        let told_by_place = move |index: usize, outcome| {
            if let Some(place) = places.get(index) {
                on_settled(*place, outcome);
            }
        };
        let sent = self.topic.send_all_with(serialized.good(), told_by_place);
        let sent = sent.await;
        serialized.in_order(sent)
    }

    /// [`Producer::deliver`](crate::Producer::deliver) to this topic.
    ///
    /// # Errors
    ///
    /// As there and as [`TypedTopic::send`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves the record unsent if it was not accepted yet; otherwise it is
    /// sent all the same.
    pub async fn deliver(&self, record: TypedRecord<'_, K, V>) -> Result<Written, ProduceError> {
        self.send(record).await?.await
    }

    /// [`Producer::send_with`](crate::Producer::send_with) to this topic.
    ///
    /// # Errors
    ///
    /// As [`TypedTopic::send`]; then the function is not called.
    ///
    /// # Cancellation
    ///
    /// As [`TypedTopic::send`]: dropped before it is ready, the function is not called.
    pub async fn send_with<F>(
        &self,
        record: TypedRecord<'_, K, V>,
        on_settled: F,
    ) -> Result<(), ProduceError>
    where
        F: FnOnce(Result<Written, ProduceError>) + Send + 'static,
    {
        let mut buffers = Buffers::take();
        let record = self.serialize(record, &mut buffers)?;
        self.topic.send_with(record, on_settled).await
    }

    /// [`Producer::try_send`](crate::Producer::try_send) to this topic.
    ///
    /// # Errors
    ///
    /// As there and as [`TypedTopic::send`].
    pub fn try_send(&self, record: TypedRecord<'_, K, V>) -> Result<Delivery, ProduceError> {
        let mut buffers = Buffers::take();
        let record = self.serialize(record, &mut buffers)?;
        self.topic.try_send(record)
    }

    fn serialize_all<'a>(
        &self,
        records: impl IntoIterator<Item = TypedRecord<'a, K, V>>,
    ) -> Serialized<'a>
    where
        K: 'a,
        V: 'a,
    {
        let mut serialized = Serialized {
            bytes: Vec::new(),
            records: Vec::new(),
        };
        for TypedRecord { key, value, rest } in records {
            let mut buffers = Buffers::take();
            let bytes = self.bytes((key, value), rest.partition, &mut buffers);
            let record = bytes.map(|(key, value)| SerializedRecord {
                key: key.map(|key| place(&mut serialized.bytes, key)),
                value: value.map(|value| place(&mut serialized.bytes, value)),
                rest,
            });
            serialized.records.push(record);
        }
        serialized
    }

    fn serialize<'a>(
        &self,
        record: TypedRecord<'a, K, V>,
        buffers: &'a mut Buffers,
    ) -> Result<Record<'a>, ProduceError> {
        let TypedRecord { key, value, rest } = record;
        let (key, value) = self.bytes((key, value), rest.partition, buffers)?;
        Ok(rest.nullable_key(key).nullable_value(value))
    }

    /// The bytes of key and value.
    fn bytes<'a>(
        &self,
        (key, value): (Option<&'a K>, Option<&'a V>),
        partition: Option<i32>,
        buffers: &'a mut Buffers,
    ) -> Result<KeyAndValue<'a>, ProduceError> {
        let topic = self.topic.name();
        let (of_key, of_value) = (Target::key_of(topic), Target::value_of(topic));
        let failed = |part: Part, error: BoxError| {
            let name = self.topic.shared_name();
            let error = ProduceError::not_serialized(part, error, name, partition);
            self.topic.refuse(error)
        };
        let key = bytes_of(&*self.key_serializer, key, of_key, &mut buffers.key)
            .map_err(|error| failed(Part::Key, error))?;
        let value = bytes_of(&*self.value_serializer, value, of_value, &mut buffers.value)
            .map_err(|error| failed(Part::Value, error))?;
        Ok((key, value))
    }
}

type KeyAndValue<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// One buffer for each serializer, taken in the order that undoes the one of returning them: each
/// serializer gets the buffer that has grown to its size.
struct Buffers {
    key: Scratch,
    value: Scratch,
}

impl Buffers {
    fn take() -> Self {
        let value = Scratch::take();
        let key = Scratch::take();
        Self { key, value }
    }
}

/// Records whose keys and values are in one buffer.
struct Serialized<'a> {
    bytes: Vec<u8>,
    records: Vec<Result<SerializedRecord<'a>, ProduceError>>,
}

struct SerializedRecord<'a> {
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    rest: Record<'a>,
}

impl Serialized<'_> {
    /// Those that could be serialized.
    fn good(&self) -> Vec<Record<'_>> {
        let good = self.records.iter().flatten();
        good.map(|record| self.record(record)).collect()
    }

    /// Where those stand among all.
    fn places(&self) -> Vec<usize> {
        let all = self.records.iter().enumerate();
        all.filter_map(|(place, record)| record.is_ok().then_some(place))
            .collect()
    }

    /// Results for all, given those of the good.
    fn in_order<T>(&self, sent: Vec<Result<T, ProduceError>>) -> Vec<Result<T, ProduceError>> {
        let mut sent = sent.into_iter();
        let in_order = self.records.iter().map(|record| match record {
            Ok(_) => sent.next(),
            Err(error) => Some(Err(error.clone())),
        });
        in_order.flatten().collect()
    }

    fn record<'s>(&'s self, record: &'s SerializedRecord<'_>) -> Record<'s> {
        let bytes = |range: &Option<Range<usize>>| Some(&self.bytes[range.clone()?]);
        let rest = record.rest.clone();
        rest.nullable_key(bytes(&record.key))
            .nullable_value(bytes(&record.value))
    }
}

/// Puts bytes behind others; where they are.
fn place(all: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = all.len();
    all.extend_from_slice(bytes);
    start..all.len()
}

fn bytes_of<'a, T: ?Sized>(
    serializer: &dyn Serializer<T>,
    data: Option<&'a T>,
    target: Target<'_>,
    scratch: &'a mut Scratch,
) -> Result<Option<&'a [u8]>, BoxError> {
    match data {
        Some(data) => serializer.serialize(data, target, scratch.buffer()),
        None => Ok(None),
    }
}

impl<'a, K: ?Sized, V: ?Sized> TypedRecord<'a, K, V> {
    /// A record with this key and this value.
    pub const fn new(key: &'a K, value: &'a V) -> Self {
        Self::of(Some(key), Some(value))
    }

    /// A record with this value and a null key.
    pub const fn keyless(value: &'a V) -> Self {
        Self::of(None, Some(value))
    }

    /// A record with this key and a null value, which deletes the key in a compacted topic.
    pub const fn tombstone(key: &'a K) -> Self {
        Self::of(Some(key), None)
    }

    /// A record of what may be null.
    pub const fn of(key: Option<&'a K>, value: Option<&'a V>) -> Self {
        Self {
            key,
            value,
            rest: Record::new(),
        }
    }

    /// As [`Record::header`].
    pub fn header<B: AsRef<[u8]> + ?Sized>(self, name: &'a str, value: &'a B) -> Self {
        self.with(|rest| rest.header(name, value))
    }

    /// As [`Record::nullable_header`].
    pub fn nullable_header(self, name: &'a str, value: Option<&'a [u8]>) -> Self {
        self.with(|rest| rest.nullable_header(name, value))
    }

    /// As [`Record::headers`].
    pub fn headers(self, headers: &'a [Header<'a>]) -> Self {
        self.with(|rest| rest.headers(headers))
    }

    /// As [`Record::partition`].
    pub fn partition(self, partition: i32) -> Self {
        self.with(|rest| rest.partition(partition))
    }

    /// As [`Record::timestamp_ms`].
    pub fn timestamp_ms(self, timestamp_ms: i64) -> Self {
        self.with(|rest| rest.timestamp_ms(timestamp_ms))
    }

    fn with(mut self, change: impl FnOnce(Record<'a>) -> Record<'a>) -> Self {
        self.rest = change(self.rest);
        self
    }
}

// Not derived: that would ask it of the types of key and value too.
impl<K: ?Sized, V: ?Sized> Clone for TypedTopic<K, V> {
    fn clone(&self) -> Self {
        Self {
            topic: self.topic.clone(),
            key_serializer: Arc::clone(&self.key_serializer),
            value_serializer: Arc::clone(&self.value_serializer),
        }
    }
}

impl<K: ?Sized, V: ?Sized> Clone for TypedRecord<'_, K, V> {
    fn clone(&self) -> Self {
        Self {
            key: self.key,
            value: self.value,
            rest: self.rest.clone(),
        }
    }
}

impl<K: ?Sized, V: ?Sized> fmt::Debug for TypedTopic<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedTopic")
            .field("name", &self.topic.name())
            .finish_non_exhaustive()
    }
}
