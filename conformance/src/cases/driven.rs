//! What client cases do again and again: send records one batch each while the mock misbehaves, and
//! look at what became of them.

use std::time::Duration;

use kafka_mockbroker::engine::journal::Event;
use kafka_mockbroker::{Api, FaultGuard, MockCluster, Rule, Verdict};
use kafka_producer::{Delivery, Outcome, ProduceError, Producer, ProducerBuilder, Record};

use crate::case::{Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::io::proxy::Proxy;
use crate::io::trouble::Trouble;
use crate::topic::Topic;
use crate::wire::records::StoredBatch;

/// Records of a run.
pub(super) const RECORDS: usize = 10;

/// A producer, its topic, and the mock that both are on.
pub(super) struct Driven {
    pub(super) context: Context,
    pub(super) topic: Topic,
    pub(super) producer: Producer,
}

impl Driven {
    /// A producer whose records are a batch each, that knows its topic of one partition and has
    /// written one record, `known`, to it.
    pub(super) async fn start(
        c: &Context,
        configure: impl FnOnce(ProducerBuilder) -> ProducerBuilder,
    ) -> Result<Self, Objection> {
        let topic = c.topic(1).await?;
        Self::on(c, topic, configure).await
    }

    /// The same on a topic that exists.
    pub(super) async fn on(
        c: &Context,
        topic: Topic,
        configure: impl FnOnce(ProducerBuilder) -> ProducerBuilder,
    ) -> Result<Self, Objection> {
        let builder = c.client().batch_size(0).linger(Duration::ZERO);
        let builder = builder.request_timeout(Duration::from_secs(1));
        let producer = client::build(configure(builder))?;
        let driven = Self {
            context: c.clone(),
            topic,
            producer,
        };
        let known = driven.send("known").await?;
        let flushed = driven.producer.flush().await;
        flushed.map_err(|error| Objection::new("flush", "done", error))?;
        client::expect_delivery("known", known, Some(0)).await?;
        Ok(driven)
    }

    /// The same behind a proxy.
    pub(super) async fn behind(
        c: &Context,
        path: &Proxy,
        configure: impl FnOnce(ProducerBuilder) -> ProducerBuilder,
    ) -> Result<Self, Objection> {
        let bootstrap = path.bootstrap().join(",");
        Self::start(c, |builder| configure(builder.bootstrap_servers(bootstrap))).await
    }

    /// Hands a record over for partition 0.
    pub(super) async fn send(&self, value: &str) -> Result<Delivery, Objection> {
        let record = Record::to(self.topic.name.as_str());
        client::send(&self.producer, record.partition(0).value(value)).await
    }

    /// Hands [`RECORDS`] records over, and returns their values with their deliveries.
    pub(super) async fn send_many(&self) -> Result<Vec<(String, Delivery)>, Objection> {
        let mut sent = Vec::new();
        for index in 0..RECORDS {
            let value = format!("v-{index}");
            let delivery = self.send(&value).await?;
            sent.push((value, delivery));
        }
        Ok(sent)
    }

    /// A rule for Produce requests to the topic.
    pub(super) fn produce(&self) -> Rule {
        Rule::on(Api::Produce).topic(self.topic.name.as_str())
    }

    /// Installs a rule.
    pub(super) fn inject(&self, rule: Rule) -> Result<FaultGuard, Objection> {
        Ok(mock(&self.context)?.inject(rule))
    }

    /// Objects unless the log holds `known` and then exactly these.
    pub(super) async fn expect_log<V: AsRef<str>>(&self, values: &[V]) -> Result<(), Objection> {
        let all: Vec<&str> = std::iter::once("known")
            .chain(values.iter().map(AsRef::as_ref))
            .collect();
        self.context.expect_values(&self.topic, 0, &all).await
    }

    /// What is stored after `known`.
    pub(super) async fn stored(&self) -> Result<Vec<StoredBatch>, Objection> {
        let batches = self.context.batches(&self.topic, 0).await?;
        Ok(batches.into_iter().skip(1).collect())
    }
}

/// The mock behind the target.
pub(super) fn mock(c: &Context) -> Result<&MockCluster, Objection> {
    let mock = c.target().mock();
    mock.ok_or_else(|| Objection::new("the target", "a mock", "another"))
}

/// What a producer told of records that met a fault.
pub(super) struct Outlived {
    /// As it was.
    pub(super) driven: Driven,
    /// The offsets told, in the order of sending.
    pub(super) offsets: Vec<Option<i64>>,
}

impl Outlived {
    /// Objects unless every offset was told.
    pub(super) fn expect_offsets(&self) -> Result<(), Objection> {
        let expected: Vec<Option<i64>> = (1..).map(Some).take(RECORDS).collect();
        let told = format!("{:?}", self.offsets);
        expect_eq("offsets told", format!("{expected:?}"), told)
    }
}

/// A fault hits the first `count` Produce requests of [`RECORDS`] records: all are written once and
/// in order.
pub(super) async fn outlive(
    c: &Context,
    fault: Verdict,
    count: u64,
) -> Result<Outlived, Objection> {
    outlive_with(c, |builder| builder, (fault, count)).await
}

/// The same by a producer with other settings.
pub(super) async fn outlive_with(
    c: &Context,
    configure: impl FnOnce(ProducerBuilder) -> ProducerBuilder,
    (fault, count): (Verdict, u64),
) -> Result<Outlived, Objection> {
    let driven = Driven::start(c, configure).await?;
    let guard = driven.inject(driven.produce().count(count).then(fault))?;
    let mut offsets = Vec::new();
    let mut values = Vec::new();
    for (value, delivery) in driven.send_many().await? {
        let written = delivery.await;
        let written = written.map_err(|error| Objection::new(&value, "written", error))?;
        offsets.push(written.offset);
        values.push(value);
    }
    expect_eq("requests that met the fault", count, guard.hits())?;
    driven.expect_log(&values).await?;
    Ok(Outlived { driven, offsets })
}

/// What a record's failure was; objects if it was written.
pub(super) async fn failure(
    step: &str,
    delivery: Delivery,
) -> Result<(Certainty, ProduceError), Objection> {
    match delivery.outcome().await {
        Outcome::Written(written) => Err(Objection::new(step, "a failure", format!("{written:?}"))),
        Outcome::NotWritten(error) => Ok((Certainty::NotWritten, error)),
        Outcome::Unknown(error) => Ok((Certainty::Unknown, error)),
    }
}

/// Trouble on the way hits [`RECORDS`] records: all are written once and in order.
pub(super) async fn outlive_trouble(c: &Context, trouble: Trouble) -> Result<Proxy, Objection> {
    let path = c.path(Trouble::None).await?;
    let driven = Driven::behind(c, &path, |builder| builder).await?;
    path.begin(trouble);
    let mut values = Vec::new();
    for (offset, (value, delivery)) in (1..).zip(driven.send_many().await?) {
        client::expect_delivery(&value, delivery, Some(offset)).await?;
        values.push(value);
    }
    driven.expect_log(&values).await?;
    Ok(path)
}

/// What a failure says of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    /// The record is in no log.
    NotWritten,
    /// It may be.
    Unknown,
}

/// The requests of an API that the mock has taken up: when, at which broker, in which version.
pub(super) fn requests(c: &Context, api: Api) -> Result<Vec<(Duration, i32, i16)>, Objection> {
    let journal = mock(c)?.journal();
    let requests = journal.into_iter().filter_map(|entry| match entry.event {
        Event::Request { id, .. } if id.api == api => {
            let at = Duration::from_nanos(entry.at.as_nanos());
            Some((at, entry.broker.0, id.version))
        }
        _ => None,
    });
    Ok(requests.collect())
}

/// Objects unless `took` lies between two durations.
pub(super) fn expect_within(
    step: &str,
    took: Duration,
    (least, most): (Duration, Duration),
) -> Result<(), Objection> {
    match (least..=most).contains(&took) {
        true => Ok(()),
        false => {
            let expected = format!("between {least:?} and {most:?}");
            Err(Objection::new(step, expected, format!("{took:?}")))
        }
    }
}
