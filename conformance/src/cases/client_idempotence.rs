//! Idempotence, the client's side: which sequences and epochs it chooses when something fails.
//!
//! *Source*: `TransactionManager.java`, `Sender.java`, `ProducerConfig.java` of Kafka's clients;
//! KIP-98, KIP-360.

use std::time::Duration;

use kafka_mockbroker::{Api, ErrorCode, Rule, Verdict};
use kafka_producer::{Acks, Idempotence, ProducerBuilder, Record};

use super::cluster::TestCluster;
use super::driven::{Certainty, Driven, RECORDS, expect_within, failure, mock, outlive};
use super::split::split;
use crate::case::{Case, Level, Objection, expect_eq};
use crate::client;
use crate::context::Context;
use crate::io::trouble::Trouble;
use crate::target::{Action, Capability};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "IDM-23",
        level: Level::Client,
        sentence: "the first of five batches in flight is refused for a passing reason and \
                   the others with 45: all are sent again, in order, once",
        source: "Sender.java canRetry; TransactionManager.java handleFailedBatch",
        needs: &[Capability::Injection],
        run: |c| Box::pin(first_of_five_fails(c)),
    },
    Case {
        id: "IDM-24",
        level: Level::Client,
        sentence: "45 with nothing unresolved before it: the producer starts a new epoch at \
                   sequence 0 and nothing is lost",
        source: "TransactionManager.java requestIdempotentEpochBumpForPartition; KIP-360",
        needs: &[Capability::Injection],
        run: |c| Box::pin(refused_in_a_new_epoch(c, 45)),
    },
    Case {
        id: "IDM-25",
        level: Level::Client,
        sentence: "a time-out of a batch that may be written says so, and later batches use a \
                   new epoch",
        source: "Sender.java failBatch; TransactionManager.java handleFailedBatch",
        needs: &[],
        run: |c| Box::pin(possibly_written(c)),
    },
    Case {
        id: "IDM-27",
        level: Level::Client,
        sentence: "46 is a success whose offset is unknown",
        source: "Sender.java completeBatch (DUPLICATE_SEQUENCE_NUMBER)",
        needs: &[Capability::Injection],
        run: |c| Box::pin(duplicate_is_success(c)),
    },
    Case {
        id: "IDM-28",
        level: Level::Client,
        sentence: "59 is outlived in a new epoch",
        source: "TransactionManager.java canRetry (UNKNOWN_PRODUCER_ID)",
        needs: &[Capability::Injection],
        run: |c| Box::pin(refused_in_a_new_epoch(c, 59)),
    },
    Case {
        id: "IDM-29",
        level: Level::Client,
        sentence: "47 without transactions fails its batch alone, and what follows is written \
                   once, in a new epoch",
        source: "TransactionManager.java handleFailedBatch (INVALID_PRODUCER_EPOCH)",
        needs: &[Capability::Injection],
        run: |c| Box::pin(fenced_epoch(c)),
    },
    Case {
        id: "IDM-30",
        level: Level::Client,
        sentence: "where epochs end at 32767 a new producer id is asked for, and the order is kept",
        source: "TransactionManager.java bumpIdempotentProducerEpoch; KIP-360",
        needs: &[Capability::Injection],
        run: |c| Box::pin(epochs_end(c)),
    },
    Case {
        id: "IDM-31",
        level: Level::Client,
        sentence: "InitProducerId that is answered 14, 15, 16, 51 or by the end of its \
                   connection is asked again",
        source: "TransactionManager.java InitProducerIdHandler",
        needs: &[Capability::Injection],
        run: |c| Box::pin(producer_id_at_last(c)),
    },
    Case {
        id: "IDM-32",
        level: Level::Client,
        sentence: "InitProducerId that is refused with 31 fails what waits for it, at once",
        source: "TransactionManager.java InitProducerIdHandler (CLUSTER_AUTHORIZATION_FAILED)",
        needs: &[Capability::Injection, Capability::OwnBrokers],
        run: |c| Box::pin(no_producer_id_at_all(c)),
    },
    Case {
        id: "IDM-33",
        level: Level::Client,
        sentence: "the parts of a batch that is split have its sequences: none is missing, none \
                   comes twice",
        source: "RecordAccumulator.java splitAndReenqueue; ProducerBatch.java split",
        needs: &[],
        run: |c| Box::pin(sequences_of_parts(c)),
    },
    Case {
        id: "IDM-34",
        level: Level::Client,
        sentence: "idempotence that was asked for is not built with acks=1, without retries, \
                   or with six requests in flight",
        source: "ProducerConfig.java postProcessAndValidateIdempotenceConfigs",
        needs: &[],
        run: |c| Box::pin(contradictions(c)),
    },
    Case {
        id: "IDM-35",
        level: Level::Client,
        sentence: "a leader that moves with five batches in flight changes neither their \
                   order nor their number",
        source: "Sender.java; TransactionManager.java (sequence order per partition)",
        needs: &[
            Capability::OwnBrokers,
            Capability::ThreeNodes,
            Capability::LeaderMoves,
            Capability::Pause,
        ],
        run: |c| Box::pin(leader_moves(c, 1)),
    },
    Case {
        id: "IDM-36",
        level: Level::Client,
        sentence: "a partition that is refused does not hold up another on the same broker",
        source: "RecordAccumulator.java (mute per partition)",
        needs: &[Capability::Injection],
        run: |c| Box::pin(neighbour_goes_on(c)),
    },
    Case {
        id: "IDM-38",
        level: Level::Client,
        sentence: "100,000 records of which every tenth answer is lost, with three seeds, are \
                   written once, in order",
        source: "KIP-98",
        needs: &[],
        run: |c| Box::pin(every_tenth_answer_is_lost(c)),
    },
];

async fn first_of_five_fails(c: Context) -> Result<(), Objection> {
    let fault = Verdict::Answer(ErrorCode::NOT_ENOUGH_REPLICAS);
    outlive(&c, fault, 1).await?.expect_offsets()
}

async fn refused_in_a_new_epoch(c: Context, code: i16) -> Result<(), Objection> {
    let outlived = outlive(&c, Verdict::Answer(ErrorCode(code)), 1).await?;
    outlived.expect_offsets()?;
    let stored = outlived.driven.stored().await?;
    let epochs: Vec<i16> = stored.iter().map(|batch| batch.stamp.epoch).collect();
    expect_eq(
        "epochs stored",
        format!("{:?}", [1; RECORDS]),
        format!("{epochs:?}"),
    )?;
    let first = stored.first().map(|batch| batch.stamp.sequence);
    expect_eq("first sequence", "Some(0)".to_owned(), format!("{first:?}"))
}

async fn fenced_epoch(c: Context) -> Result<(), Objection> {
    let driven = Driven::start(&c, |builder| builder).await?;
    let refuse = Verdict::Answer(ErrorCode::INVALID_PRODUCER_EPOCH);
    let guard = driven.inject(driven.produce().count(1).then(refuse))?;
    let mut sent = driven.send_many().await?;
    let (value, first) = sent.remove(0);
    let (certainty, error) = failure(&value, first).await?;
    expect_eq("what the error says", "NotWritten", name_of(certainty))?;
    let code = error.broker_code().map(|code| code.0);
    expect_eq("code", "Some(47)".to_owned(), format!("{code:?}"))?;
    let mut values = Vec::new();
    for (offset, (value, delivery)) in (1..).zip(sent) {
        client::expect_delivery(&value, delivery, Some(offset)).await?;
        values.push(value);
    }
    expect_eq("refusals", 1, guard.hits())?;
    driven.expect_log(&values).await?;
    let stored = driven.stored().await?;
    let epochs: Vec<i16> = stored.iter().map(|batch| batch.stamp.epoch).collect();
    let expected = format!("{:?}", [1; RECORDS - 1]);
    expect_eq("epochs stored", expected, format!("{epochs:?}"))
}

async fn duplicate_is_success(c: Context) -> Result<(), Objection> {
    let fault = Verdict::ApplyThenAnswer(ErrorCode::DUPLICATE_SEQUENCE_NUMBER);
    let outlived = outlive(&c, fault, 1).await?;
    let unknown = outlived.offsets.first().copied().flatten();
    expect_eq(
        "the first offset",
        "None".to_owned(),
        format!("{unknown:?}"),
    )?;
    expect_eq(
        "other offsets told",
        RECORDS - 1,
        outlived.offsets.iter().flatten().count(),
    )
}

async fn possibly_written(c: Context) -> Result<(), Objection> {
    let timeouts = |builder: ProducerBuilder| {
        let builder = builder.request_timeout(Duration::from_millis(500));
        builder.delivery_timeout(Duration::from_secs(4))
    };
    let path = c.path(Trouble::None).await?;
    let driven = Driven::behind(&c, &path, timeouts).await?;
    path.begin(Trouble::RepliesKept(u64::MAX));
    let (certainty, error) = failure("v-0", driven.send("v-0").await?).await?;
    expect_eq("what the error says", "Unknown", name_of(certainty))?;
    expect_eq("possibly written", true, error.possibly_written())?;
    path.end_trouble();
    let written = driven.send("v-1").await?;
    client::expect_delivery("v-1", written, Some(2)).await?;
    driven.expect_log(&["v-0", "v-1"]).await?;
    let epochs: Vec<i16> = driven
        .stored()
        .await?
        .iter()
        .map(|one| one.stamp.epoch)
        .collect();
    expect_eq("epochs stored", "[0, 1]".to_owned(), format!("{epochs:?}"))
}

async fn epochs_end(c: Context) -> Result<(), Objection> {
    let path = c.path(Trouble::FirstEpoch(i16::MAX - 1)).await?;
    let driven = Driven::behind(&c, &path, |builder| builder).await?;
    let refuse = Verdict::Answer(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    let mut values = Vec::new();
    // The first refusal uses up the last epoch, the second needs a new id.
    for round in 0..2 {
        let guard = driven.inject(driven.produce().count(1).then(refuse))?;
        for (index, (value, delivery)) in (0_i64..).zip(driven.send_many().await?) {
            let value = format!("{value} in round {round}");
            client::expect_delivery(&value, delivery, Some(1 + 10 * round + index)).await?;
            values.push(format!("v-{index}"));
        }
        expect_eq("refusals", 1, guard.hits())?;
    }
    driven.expect_log(&values).await?;
    let known = c.batches(&driven.topic, 0).await?;
    let mut ids: Vec<(i64, i16)> = known
        .iter()
        .map(|batch| (batch.stamp.id, batch.stamp.epoch))
        .collect();
    ids.dedup();
    let epochs: Vec<i16> = ids.iter().map(|(_, epoch)| *epoch).collect();
    expect_eq(
        "epochs stored",
        format!("{:?}", [i16::MAX - 1, i16::MAX, 0]),
        format!("{epochs:?}"),
    )?;
    ids.dedup_by_key(|(id, _)| *id);
    expect_eq("producer ids", 2, ids.len())
}

async fn no_producer_id_at_all(c: Context) -> Result<(), Objection> {
    let own = c.beside(1, &[]).await?;
    let topic = own.topic(1).await?;
    let refuse = Verdict::Answer(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    let refused = mock(&own)?.inject(Rule::on(Api::InitProducerId).always().then(refuse));
    let producer = client::build(own.client())?;
    let record = || Record::to(topic.name.as_str()).partition(0).value("a");
    let started = std::time::Instant::now();
    let first = client::send(&producer, record()).await?;
    let (certainty, error) = failure("the first record", first).await?;
    let at_most = Duration::from_secs(10);
    expect_within("its end", started.elapsed(), (Duration::ZERO, at_most))?;
    expect_eq("what the error says", "NotWritten", name_of(certainty))?;
    let code = error.broker_code().map(|code| code.0);
    expect_eq("code", "Some(31)".to_owned(), format!("{code:?}"))?;
    expect_eq("it helps to send again", false, error.may_retry())?;
    drop(refused);
    // Unlike Kafka's own, the producer asks again for what is sent later.
    let second = client::send(&producer, record()).await?;
    client::expect_delivery("a", second, Some(0)).await?;
    own.expect_values(&topic, 0, &["a"]).await
}

async fn sequences_of_parts(c: Context) -> Result<(), Objection> {
    let split = split(&c).await?;
    let stored = c.batches(&split.topic, 0).await?;
    expect_eq("a batch was split", true, split.splits >= 1.0)?;
    let mut next = 0;
    for batch in &stored {
        let step = format!("first sequence at offset {}", batch.base_offset);
        expect_eq(step, next, i64::from(batch.stamp.sequence))?;
        expect_eq("epoch", 0, batch.stamp.epoch)?;
        next += i64::from(batch.last_offset_delta) + 1;
    }
    expect_eq(
        "sequences",
        split.values.len(),
        usize::try_from(next).unwrap_or_default(),
    )
}

async fn every_tenth_answer_is_lost(c: Context) -> Result<(), Objection> {
    const MANY: usize = 33_334;
    for seed in 38..41 {
        let path = c.path(Trouble::None).await?;
        let configure =
            |builder: ProducerBuilder| builder.batch_size(4_000).linger(Duration::from_millis(1));
        let driven = Driven::behind(&c, &path, configure).await?;
        path.begin(Trouble::RepliesLost { percent: 10, seed });
        let mut sent = Vec::new();
        for index in 0..MANY {
            let value = format!("v-{index}");
            let delivery = driven.send(&value).await?;
            sent.push((value, delivery));
        }
        let mut values = Vec::new();
        for (offset, (value, delivery)) in (1..).zip(sent) {
            client::expect_delivery(&value, delivery, Some(offset)).await?;
            values.push(value);
        }
        let lost = path.hits();
        expect_eq(format!("{lost} answers were lost"), true, lost >= 5)?;
        driven.expect_log(&values).await?;
    }
    Ok(())
}

fn name_of(certainty: Certainty) -> &'static str {
    match certainty {
        Certainty::NotWritten => "NotWritten",
        Certainty::Unknown => "Unknown",
    }
}

async fn producer_id_at_last(c: Context) -> Result<(), Objection> {
    let topic = c.topic(1).await?;
    let faults = [14, 15, 16, 51].map(|code| Verdict::Answer(ErrorCode(code)));
    let faults = faults.into_iter().chain([Verdict::CloseBefore]);
    let mut guards = Vec::new();
    for fault in faults {
        guards.push(mock(&c)?.inject(Rule::on(Api::InitProducerId).count(1).then(fault)));
    }
    let producer = client::build(c.client())?;
    let record = Record::to(topic.name.as_str()).partition(0).value("a");
    let delivery = client::send(&producer, record).await?;
    client::expect_delivery("a", delivery, Some(0)).await?;
    let met: Vec<u64> = guards
        .iter()
        .map(kafka_mockbroker::FaultGuard::hits)
        .collect();
    expect_eq(
        "faults met",
        "[1, 1, 1, 1, 1]".to_owned(),
        format!("{met:?}"),
    )?;
    let stored = c.batches(&topic, 0).await?;
    let with_id = stored.iter().filter(|batch| batch.stamp.id >= 0).count();
    expect_eq("batches with a producer id", 1, with_id)
}

async fn contradictions(c: Context) -> Result<(), Objection> {
    let idempotent = || c.client().idempotence(Idempotence::Enabled);
    let refused = [
        ("acks", idempotent().acks(Acks::Leader)),
        ("retries", idempotent().retries(0)),
        (
            "max.in.flight.requests.per.connection",
            idempotent().max_in_flight_requests_per_connection(6),
        ),
    ];
    for (key, builder) in refused {
        let error = match builder.build() {
            Ok(_) => return Err(Objection::new(key, "refused", "a producer")),
            Err(error) => error.to_string(),
        };
        let named = error.contains(key) || error.contains("enable.idempotence");
        expect_eq(format!("the error names its key: {error}"), true, named)?;
    }
    Ok(())
}

/// In each round the leader moves with five batches in flight.
pub(super) async fn leader_moves(c: Context, rounds: usize) -> Result<(), Objection> {
    let cluster = TestCluster::start(&c, &[]).await?;
    let own = &cluster.context;
    let topic = cluster.topic(1, &[]).await?;
    let driven = Driven::on(own, topic, |builder| builder).await?;
    let mut values: Vec<String> = Vec::new();
    for _ in 0..rounds {
        let leader = cluster.await_agreed(&driven.topic).await?;
        // So that five are in flight, and stay there.
        own.act(leader, Action::Pause).await?;
        let sent = driven.send_many().await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.move_leader(&driven.topic, leader).await?;
        own.act(leader, Action::Resume).await?;
        for (value, delivery) in sent {
            let offset = i64::try_from(values.len() + 1).ok();
            client::expect_delivery(&value, delivery, offset).await?;
            values.push(value);
        }
    }
    cluster.await_agreed(&driven.topic).await?;
    let topic = own.led_now(&driven.topic).await?;
    own.await_served(&topic).await?;
    Driven { topic, ..driven }.expect_log(&values).await
}

async fn neighbour_goes_on(c: Context) -> Result<(), Objection> {
    let own = c.beside(1, &[]).await?;
    let topic = own.topic(2).await?;
    let driven = Driven::on(&own, topic, |builder| builder).await?;
    let fault = Verdict::Answer(ErrorCode::NOT_ENOUGH_REPLICAS);
    let guard = driven.inject(driven.produce().partition(0).count(6).then(fault))?;
    let held = driven.send("held").await?;
    guard.wait_for_hits(1).await;
    let started = std::time::Instant::now();
    let record = Record::to(driven.topic.name.as_str())
        .partition(1)
        .value("free");
    let free = client::send(&driven.producer, record).await?;
    client::expect_delivery("free", free, Some(0)).await?;
    let at_most = Duration::from_secs(2);
    expect_within(
        "the other partition",
        started.elapsed(),
        (Duration::ZERO, at_most),
    )?;
    expect_eq("the first is still refused", true, guard.hits() < 6)?;
    client::expect_delivery("held", held, Some(1)).await
}
