//! What client cases share: this project's producer, set up for a target, and paths to the target
//! on which things go wrong.

use kafka_mockbroker::{Api, FaultGuard, Rule, Verdict};
use kafka_producer::{Delivery, Producer, ProducerBuilder, Record};

use crate::case::Objection;
use crate::context::Context;
use crate::io::proxy::Proxy;
use crate::io::trouble::Trouble;
use crate::topic::Topic;
use crate::wire::answer::Metadata;

impl Context {
    /// A producer that starts at the target's addresses; everything else is its default.
    pub fn client(&self) -> ProducerBuilder {
        client_of(&self.target().bootstrap())
    }

    /// A path to the target on which the reply to the first Produce for `topic` is lost after the
    /// broker has acted on it: by a fault rule inside the mock, by a proxy in front of all others.
    ///
    /// # Errors
    ///
    /// When the proxy cannot be started.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn lossy_path(&self, topic: &Topic) -> Result<LossyPath, Objection> {
        let Some(mock) = self.target().mock() else {
            let proxy = self.path(Trouble::FirstReplyLost).await?;
            return Ok(LossyPath::Proxy(proxy));
        };
        let rule = Rule::on(Api::Produce)
            .topic(topic.name.as_str())
            .nth(1)
            .count(1)
            .then(Verdict::ApplyThenLose);
        let bootstrap = self.target().bootstrap();
        Ok(LossyPath::Injected {
            fault: mock.inject(rule),
            bootstrap,
        })
    }
}

impl Context {
    /// A path to the target on which things go wrong, by a proxy.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn path(&self, trouble: Trouble) -> Result<Proxy, Objection> {
        let brokers = self.metadata(&Metadata::of(&[])).await?.brokers;
        Proxy::start(&brokers, trouble, self.transcript()).await
    }
}

impl Proxy {
    /// A producer on this path.
    pub fn client(&self) -> ProducerBuilder {
        client_of(&self.bootstrap())
    }
}

/// See [`Context::lossy_path`]; the fault ends with this value.
#[derive(Debug)]
pub enum LossyPath {
    /// The mock loses the reply itself.
    Injected {
        /// The rule.
        fault: FaultGuard,
        /// The mock's addresses.
        bootstrap: Vec<String>,
    },
    /// A proxy loses it.
    Proxy(Proxy),
}

impl LossyPath {
    /// A producer on this path.
    pub fn client(&self) -> ProducerBuilder {
        match self {
            Self::Injected { bootstrap, .. } => client_of(bootstrap),
            Self::Proxy(proxy) => proxy.client(),
        }
    }

    /// How many replies were lost by now.
    pub fn lost(&self) -> u64 {
        match self {
            Self::Injected { fault, .. } => fault.hits(),
            Self::Proxy(proxy) => proxy.hits(),
        }
    }
}

/// The producer, built.
///
/// # Errors
///
/// When its configuration is refused.
pub fn build(builder: ProducerBuilder) -> Result<Producer, Objection> {
    builder
        .build()
        .map_err(|error| Objection::new("build a producer", "a producer", error))
}

/// Awaits `record`'s fate and objects unless it is written at `offset`.
///
/// # Errors
///
/// When it is not.
///
/// # Cancellation
///
/// The record is neither withdrawn nor lost.
pub async fn expect_delivery(
    step: &str,
    delivery: Delivery,
    offset: Option<i64>,
) -> Result<(), Objection> {
    let expected = match offset {
        Some(offset) => format!("written at offset {offset}"),
        None => "written, offset unknown".to_owned(),
    };
    match delivery.await {
        Ok(written) if written.offset == offset => Ok(()),
        Ok(written) => Err(Objection::new(step, expected, format!("{written:?}"))),
        Err(error) => Err(Objection::new(
            step,
            expected,
            format!("{error} ({error:?})"),
        )),
    }
}

/// Hands `record` over to `producer`.
///
/// # Errors
///
/// When it is refused.
///
/// # Cancellation
///
/// The record is not sent.
pub async fn send(producer: &Producer, record: Record<'_, &str>) -> Result<Delivery, Objection> {
    let sent = producer.send(record).await;
    sent.map_err(|error| Objection::new("send", "accepted", format!("{error} ({error:?})")))
}

fn client_of(bootstrap: &[String]) -> ProducerBuilder {
    Producer::builder().bootstrap_servers(bootstrap.join(","))
}
