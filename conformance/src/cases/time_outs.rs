//! Time-outs, linger and back-off of the producer, on the real clock.
//!
//! *Source*: `ProducerConfig.java`, `RecordAccumulator.java`, `NetworkClient.java`,
//! `ExponentialBackoff.java` of Kafka's clients; KIP-91, KIP-580.

use std::time::{Duration, Instant};

use kafka_mockbroker::engine::journal::Event;
use kafka_mockbroker::{Api, ErrorCode, Verdict};
use kafka_producer::{Acks, Idempotence, ProducerBuilder, Record};
use tokio::net::TcpListener;

use super::driven::{Certainty, Driven, expect_within, failure, mock, requests};
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::target::{Action, Capability};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "TMO-01",
        level: Level::Client,
        sentence: "where nothing is answered any more each record fails delivery.timeout.ms \
                   after its send",
        source: "KIP-91; ProducerBatch.java hasReachedDeliveryTimeout",
        needs: &[Capability::OwnBrokers, Capability::Pause],
        run: |c| Box::pin(nothing_is_answered(c)),
    },
    Case {
        id: "TMO-02",
        level: Level::Client,
        sentence: "a batch that is not full leaves after linger.ms",
        source: "RecordAccumulator.java ready",
        needs: &[Capability::Injection, Capability::OwnBrokers],
        run: |c| Box::pin(linger(c)),
    },
    Case {
        id: "TMO-03",
        level: Level::Client,
        sentence: "a batch that is full does not wait for linger.ms",
        source: "RecordAccumulator.java ready",
        needs: &[],
        run: |c| Box::pin(full_batch(c)),
    },
    Case {
        id: "TMO-05",
        level: Level::Client,
        sentence: "with full memory a send waits, and fails at max.block.ms",
        source: "BufferPool.java allocate",
        needs: &[Capability::OwnBrokers, Capability::Pause],
        run: |c| Box::pin(memory_is_full(c)),
    },
    Case {
        id: "TMO-07",
        level: Level::Client,
        sentence: "close with a time-out returns in time, and every record has an end",
        source: "KafkaProducer.java close(Duration)",
        needs: &[Capability::Injection],
        run: |c| Box::pin(close_in_time(c)),
    },
    Case {
        id: "TMO-08",
        level: Level::Client,
        sentence: "retries come after 100 ms, doubling up to 1 s, give or take a fifth",
        source: "KIP-580; ExponentialBackoff.java",
        needs: &[Capability::Injection, Capability::OwnBrokers],
        run: |c| Box::pin(retry_back_off(c)),
    },
    Case {
        id: "TMO-09",
        level: Level::Client,
        sentence: "connections are tried again after 50 ms, doubling up to 1 s, give or take \
                   a fifth",
        source: "KIP-144; ClusterConnectionStates.java",
        needs: &[],
        run: |c| Box::pin(reconnect_back_off(c)),
    },
    Case {
        id: "TMO-11",
        level: Level::Client,
        sentence: "a delivery time-out below linger and request time-out together is not \
                   built",
        source: "ProducerConfig.java; KafkaProducer.java configureDeliveryTimeout",
        needs: &[],
        run: |c| Box::pin(impossible_delivery_time_out(c)),
    },
    Case {
        id: "TMO-14",
        level: Level::Client,
        sentence: "the time-out in a Produce request is the request time-out",
        source: "Sender.java sendProduceRequest (requestTimeoutMs)",
        needs: &[Capability::Injection],
        run: |c| Box::pin(time_out_on_the_wire(c)),
    },
    Case {
        id: "TMO-15",
        level: Level::Client,
        sentence: "when the first of several batches runs out of time, the others stay in \
                   order and single",
        source: "Sender.java failBatch; KIP-360",
        needs: &[Capability::Injection],
        run: |c| Box::pin(first_batch_expires(c)),
    },
    Case {
        id: "TMO-16",
        level: Level::Client,
        sentence: "a producer that is dropped without close writes what it has and leaves no \
                   connection",
        source: "KafkaProducer.java close",
        needs: &[Capability::Injection],
        run: |c| Box::pin(dropped_without_close(c)),
    },
    Case {
        id: "TMO-17",
        level: Level::Client,
        sentence: "a runtime that is shut down in the middle leaves no record without an end",
        source: "KafkaProducer.java close(Duration.ZERO)",
        needs: &[Capability::Injection],
        run: |c| Box::pin(runtime_ends(c)),
    },
];

async fn nothing_is_answered(c: Context) -> Result<(), Objection> {
    let own = c.beside(1, &[]).await?;
    let timeouts = |builder: ProducerBuilder| {
        let builder = builder.request_timeout(Duration::from_millis(500));
        builder.delivery_timeout(Duration::from_secs(2))
    };
    let topic = own.topic(1).await?;
    let driven = Driven::on(&own, topic, timeouts).await?;
    own.act(1, Action::Pause).await?;
    let mut sent = Vec::new();
    for index in 0..3 {
        let value = format!("v-{index}");
        sent.push((Instant::now(), driven.send(&value).await?));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    for (at, delivery) in sent {
        failure("a record without an answer", delivery).await?;
        let bounds = (Duration::from_millis(1_950), Duration::from_secs(6));
        expect_within("its end", at.elapsed(), bounds)?;
    }
    own.act(1, Action::Resume).await
}

const LINGER: Duration = Duration::from_secs(1);

async fn linger(c: Context) -> Result<(), Objection> {
    // Brokers of its own: no other producer is counted.
    let c = c.beside(1, &[]).await?;
    let configure = |builder: ProducerBuilder| builder.batch_size(16_384).linger(LINGER);
    let driven = Driven::start(&c, configure).await?;
    let before = requests(&c, Api::Produce)?.len();
    let started = Instant::now();
    let first = driven.send("a").await?;
    tokio::time::sleep(LINGER / 2).await;
    let second = driven.send("b").await?;
    client::expect_delivery("a", first, Some(1)).await?;
    client::expect_delivery("b", second, Some(2)).await?;
    expect_within("both", started.elapsed(), (LINGER, LINGER * 5))?;
    expect_eq("requests", 1, requests(&c, Api::Produce)?.len() - before)
}

async fn full_batch(c: Context) -> Result<(), Objection> {
    let configure = |builder: ProducerBuilder| {
        let builder = builder.batch_size(500).linger(Duration::from_secs(30));
        builder.delivery_timeout(Duration::from_secs(60))
    };
    let topic = c.topic(1).await?;
    let producer = client::build(configure(c.client()))?;
    let value = "x".repeat(600);
    let record = Record::to(topic.name.as_str()).partition(0).value(&value);
    let started = Instant::now();
    let delivery = client::send(&producer, record).await?;
    client::expect_delivery("a record that fills its batch", delivery, Some(0)).await?;
    expect_within(
        "its way",
        started.elapsed(),
        (Duration::ZERO, Duration::from_secs(10)),
    )?;
    c.expect_values(&topic, 0, &[&value]).await
}

async fn memory_is_full(c: Context) -> Result<(), Objection> {
    let own = c.beside(1, &[]).await?;
    let topic = own.topic(1).await?;
    let memory = |builder: ProducerBuilder| {
        let builder = builder.batch_size(1_000).buffer_memory(4_000);
        builder.max_block(Duration::from_millis(800))
    };
    let driven = Driven::on(&own, topic, memory).await?;
    own.act(1, Action::Pause).await?;
    let value = "x".repeat(900);
    let mut accepted = 0;
    let (took, error) = loop {
        let started = Instant::now();
        let record = Record::to(driven.topic.name.as_str())
            .partition(0)
            .value(&value);
        match driven.producer.send(record).await {
            Ok(_) if accepted < 10 => accepted += 1,
            Ok(_) => {
                return Err(Objection::new(
                    "memory for four",
                    "is full by ten",
                    "accepts",
                ));
            }
            Err(error) => break (started.elapsed(), error),
        }
    };
    let bounds = (Duration::from_millis(780), Duration::from_secs(5));
    expect_within("the wait", took, bounds)?;
    expect_eq("possibly written", false, error.possibly_written())?;
    expect_eq(
        format!("{accepted} were accepted"),
        true,
        (1..=4).contains(&accepted),
    )?;
    own.act(1, Action::Resume).await?;
    let flushed = driven.producer.flush().await;
    flushed.map_err(|error| Objection::new("flush", "done", error))?;
    own.expect_values(&driven.topic, 0, &{
        let mut all = vec!["known".to_owned()];
        all.extend((0..accepted).map(|_| value.clone()));
        all
    })
    .await
}

async fn close_in_time(c: Context) -> Result<(), Objection> {
    let driven = Driven::start(&c, |builder| builder).await?;
    let swallow = driven.produce().always().then(Verdict::Swallow);
    let _nothing = driven.inject(swallow)?;
    let sent = driven.send_many().await?;
    let started = Instant::now();
    let closed = driven
        .producer
        .close_timeout(Duration::from_millis(700))
        .await;
    let bounds = (Duration::from_millis(690), Duration::from_secs(5));
    expect_within("the close", started.elapsed(), bounds)?;
    expect_eq("it says what was not done", true, closed.is_err())?;
    for (value, delivery) in sent {
        failure(&value, delivery).await?;
    }
    Ok(())
}

/// Objects unless the gaps are the first ones of a back-off; a busy machine makes them longer.
fn expect_back_off(times: &[Duration], first: Duration, count: usize) -> Result<(), Objection> {
    let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    if gaps.len() < count {
        return Err(Objection::new("attempts", count + 1, times.len()));
    }
    for (attempt, gap) in (0..).zip(&gaps[..count]) {
        let wanted = (first * 2_u32.pow(attempt)).min(Duration::from_secs(1));
        let bounds = (
            wanted.mul_f64(0.79),
            wanted.mul_f64(1.2) + Duration::from_millis(600),
        );
        expect_within(&format!("gap {attempt} of {gaps:?}"), *gap, bounds)?;
    }
    Ok(())
}

async fn retry_back_off(c: Context) -> Result<(), Objection> {
    // Brokers of its own: no other producer is counted.
    let c = c.beside(1, &[]).await?;
    let driven = Driven::start(&c, |builder| builder).await?;
    let refuse = Verdict::Answer(ErrorCode::NOT_ENOUGH_REPLICAS);
    let guard = driven.inject(driven.produce().count(5).then(refuse))?;
    let before = requests(&c, Api::Produce)?.len();
    client::expect_delivery("a", driven.send("a").await?, Some(1)).await?;
    expect_eq("refusals", 5, guard.hits())?;
    let times: Vec<Duration> = requests(&c, Api::Produce)?[before..]
        .iter()
        .map(|(at, _, _)| *at)
        .collect();
    expect_back_off(&times, Duration::from_millis(100), 5)
}

async fn reconnect_back_off(c: Context) -> Result<(), Objection> {
    let nobody = |error: std::io::Error| Objection::new("listen", "a port", error);
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(nobody)?;
    let address = listener.local_addr().map_err(nobody)?.to_string();
    let builder = c.client().bootstrap_servers(address);
    let producer = client::build(builder.max_block(Duration::from_secs(20)))?;
    let started = Instant::now();
    let mut times = Vec::new();
    let counting = async {
        while times.len() < 6 {
            let accepted = listener.accept().await.map_err(nobody)?;
            times.push(started.elapsed());
            drop(accepted);
        }
        Ok::<_, Objection>(())
    };
    tokio::select! {
        counted = counting => counted?,
        sent = producer.send(Record::to("nowhere").value("a")) => {
            let seen = format!("{:?}", sent.map(drop));
            return Err(Objection::new("a send without brokers", "waits", seen));
        }
    }
    expect_back_off(&times, Duration::from_millis(50), 5)
}

async fn impossible_delivery_time_out(c: Context) -> Result<(), Objection> {
    let builder = c.client().linger(Duration::from_secs(5));
    let builder = builder.request_timeout(Duration::from_secs(10));
    match builder.delivery_timeout(Duration::from_secs(14)).build() {
        Ok(_) => Err(Objection::new("14 s", "refused", "a producer")),
        Err(error) => {
            let words = error.to_string();
            let named = words.contains("delivery.timeout.ms");
            expect_eq(format!("its key is named: {words}"), true, named)
        }
    }
}

async fn time_out_on_the_wire(c: Context) -> Result<(), Objection> {
    let configure = |builder: ProducerBuilder| {
        let builder = builder.request_timeout(Duration::from_millis(4_321));
        builder.acks(Acks::All)
    };
    let driven = Driven::start(&c, configure).await?;
    let guard = driven.inject(
        driven
            .produce()
            .count(1)
            .then(Verdict::Delay(Duration::ZERO)),
    )?;
    client::expect_delivery("a", driven.send("a").await?, Some(1)).await?;
    let seen = guard.requests();
    let frame = seen.first().and_then(|request| request.frame.clone());
    let frame = frame.ok_or_else(|| Objection::new("the request", "its frame", "none"))?;
    // Key, version, number, client id, tags, no transactional id; acks, time-out.
    let name = frame.get(8..10).and_then(|bytes| bytes.first_chunk());
    let name = name.map_or(0, |bytes| usize::from(u16::from_be_bytes(*bytes)));
    let fields = frame.get(10 + name + 2..).unwrap_or_default();
    let acks = fields.first_chunk().map(|bytes| i16::from_be_bytes(*bytes));
    expect_eq("acks", "Some(-1)".to_owned(), format!("{acks:?}"))?;
    let millis = fields.get(2..).and_then(|bytes| bytes.first_chunk());
    let millis = millis.map(|bytes| i32::from_be_bytes(*bytes));
    expect_eq("timeout_ms", "Some(4321)".to_owned(), format!("{millis:?}"))
}

async fn first_batch_expires(c: Context) -> Result<(), Objection> {
    let timeouts = |builder: ProducerBuilder| {
        let builder = builder.request_timeout(Duration::from_millis(400));
        builder.delivery_timeout(Duration::from_secs(4))
    };
    let driven = Driven::start(&c, timeouts).await?;
    let lossy = driven.inject(driven.produce().always().then(Verdict::ApplyThenLose))?;
    let first = driven.send("first").await?;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let mut later = Vec::new();
    for value in ["second", "third"] {
        later.push((value, driven.send(value).await?));
    }
    let (certainty, _) = failure("first", first).await?;
    expect_eq(
        "the first may be written",
        true,
        certainty == Certainty::Unknown,
    )?;
    drop(lossy);
    for (value, delivery) in later {
        let written = delivery.await;
        written.map_err(|error| Objection::new(value, "written", error))?;
    }
    driven.expect_log(&["first", "second", "third"]).await
}

async fn dropped_without_close(c: Context) -> Result<(), Objection> {
    let configure = |builder: ProducerBuilder| builder.client_id("dropped").linger(LINGER);
    let driven = Driven::start(&c, configure).await?;
    let delivery = driven.send("a").await?;
    let Driven {
        context,
        topic,
        producer,
    } = driven;
    drop(producer);
    client::expect_delivery("a", delivery, Some(1)).await?;
    context.expect_values(&topic, 0, &["known", "a"]).await?;
    let patience = context.patience("its connections end".to_owned());
    loop {
        let open = open_connections(&context, "dropped")?;
        if open == 0 {
            return Ok(());
        }
        patience.wait(format!("{open} are open")).await?;
    }
}

/// Connections of a client that the mock has not seen end.
fn open_connections(c: &Context, client: &str) -> Result<usize, Objection> {
    let mut open = std::collections::BTreeSet::new();
    for entry in mock(c)?.journal() {
        match entry.event {
            Event::Request { client_id, .. } if client_id.as_deref() == Some(client) => {
                open.insert(entry.connection);
            }
            Event::Disconnected | Event::Closed { .. } => {
                open.remove(&entry.connection);
            }
            _ => {}
        }
    }
    Ok(open.len())
}

async fn runtime_ends(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let swallow = kafka_mockbroker::Rule::on(Api::Produce).topic(topic.name.as_str());
    let _nothing = mock(&c)?.inject(swallow.always().then(Verdict::Swallow));
    let builder = c.client().idempotence(Idempotence::Enabled);
    let name = topic.name.clone();
    let ended = tokio::task::spawn_blocking(move || {
        let failed = |what: &'static str| move |error: String| Objection::new(what, "done", error);
        let runtime = tokio::runtime::Runtime::new();
        let runtime = runtime.map_err(|error| failed("a runtime")(error.to_string()))?;
        let producer = client::build(builder.runtime(runtime.handle().clone()))?;
        let record = Record::to(name.as_str()).partition(0).value("a");
        let delivery = producer.send_blocking(record);
        let delivery = delivery.map_err(|error| failed("send")(error.to_string()))?;
        runtime.shutdown_timeout(Duration::from_secs(2));
        Ok::<_, Objection>(delivery.wait().is_err())
    });
    let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
    let ended = ended.map_err(|_| Objection::new("the record", "an end", "none in 10 s"))?;
    let ended = ended.map_err(|error| Objection::new("the thread", "an end", error))??;
    expect_eq("the record failed", true, ended)
}
