//! The same requests of several processes under one transactional id, on any target and on a
//! recorded run of real Kafka: codes, states, and what stands in the logs.
//!
//! A seed draws who asks for what, with whose epoch and from which sequence on; much of it is out
//! of turn. One request waits for the markers of the one before, so that no timing has a say.
//!
//! *Source*: KIP-98, KIP-360, KIP-890.

use std::collections::BTreeMap;

use super::eos_recorded::{Recorded, expect_recorded};
use crate::case::{Case, Level, Objection};
use crate::context::Context;
use crate::target::Capability;
use crate::topic::Topic;
use crate::transactor::{OWN_EPOCHS, Transactor};
use crate::wire::answer::InitProducerId;
use crate::wire::batch::{BatchSpec, Stamp, TRANSACTIONAL_BIT};
use crate::wire::described::DescribeTransactions;
use crate::wire::transactional::Decision;

pub(super) const CASES: &[Case] = &[Case {
    id: "EOS-24",
    level: Level::Wire,
    sentence: "what processes under one transactional id ask for in and out of turn is answered as \
               on a recorded run of real Kafka, and leaves the same in the logs",
    source: "recorded from Apache Kafka 4.3.1",
    needs: &[Capability::Transactions],
    run: |c| Box::pin(as_recorded(c)),
}];

const SEEDS: u64 = 4;
const REQUESTS: usize = 40;
const PARTITIONS: i32 = 2;
const AGE_MS: i64 = 60_000;

/// A sequence, as whoever writes counts.
#[derive(Clone, Copy, Debug)]
enum From {
    Next,
    /// What was written last, once more.
    Again,
    /// One too far.
    Beyond,
}

/// A request; who asks is counted from the newest identity back.
#[derive(Clone, Copy, Debug)]
enum Ask {
    /// A process begins.
    Init,
    /// A process begins anew and says who it is.
    InitAs(usize),
    Join(usize, i32),
    Write(usize, i32, From),
    End(usize, Decision),
}

impl Ask {
    fn draw(random: &mut fastrand::Rng) -> Self {
        let who = match random.u8(..8) {
            0 => 1,
            1 => 2,
            _ => 0,
        };
        let partition = random.i32(0..PARTITIONS);
        let from = match random.u8(..8) {
            0 => From::Again,
            1 => From::Beyond,
            _ => From::Next,
        };
        let decision = match random.bool() {
            true => Decision::Commit,
            false => Decision::Abort,
        };
        match random.u8(..16) {
            0 => Self::Init,
            1 => Self::InitAs(who),
            2..6 => Self::Join(who, partition),
            6..12 => Self::Write(who, partition, from),
            _ => Self::End(who, decision),
        }
    }
}

/// Versions of a client: those that know of epochs for each transaction, or older ones.
#[derive(Clone, Copy, Debug)]
struct Versions {
    produce: i16,
    end: i16,
}

struct Player {
    transactor: Transactor,
    topic: Topic,
    versions: Versions,
    /// Everybody there was, the newest last.
    known: Vec<(i64, i16)>,
    /// By identity and partition: the next sequence.
    sequences: BTreeMap<((i64, i16), i32), i32>,
    values: usize,
}

impl Player {
    async fn start(c: &Context, versions: Versions) -> Result<Self, Objection> {
        let topic = c.topic(PARTITIONS).await?;
        let transactor = c.transactor().await?;
        let first = (transactor.stamp.id, transactor.stamp.epoch);
        Ok(Self {
            transactor,
            topic,
            versions,
            known: vec![first],
            sequences: BTreeMap::new(),
            values: 0,
        })
    }

    /// An identity, the newest for 0.
    fn who(&self, back: usize) -> Stamp {
        let at = self.known.len().saturating_sub(1 + back);
        let (id, epoch) = self.known.get(at).copied().unwrap_or((-1, -1));
        Stamp {
            id,
            epoch,
            sequence: 0,
        }
    }

    fn on_told(&mut self, told: (i64, i16)) {
        if told.0 >= 0 && !self.known.contains(&told) {
            self.known.push(told);
        }
    }

    /// What it is answered: the code, and an epoch if there is one.
    async fn ask(&mut self, c: &Context, ask: Ask) -> Result<String, Objection> {
        match ask {
            Ask::Init | Ask::InitAs(_) => {
                let named = match ask {
                    Ask::InitAs(back) => {
                        let Stamp { id, epoch, .. } = self.who(back);
                        InitProducerId {
                            producer_id: id,
                            epoch,
                        }
                    }
                    _ => InitProducerId::NEW,
                };
                let answer = self.transactor.settled_init(named).await?;
                self.on_told((answer.producer_id, answer.epoch));
                Ok(format!("{} epoch {}", answer.error.0, answer.epoch))
            }
            Ask::Join(back, partition) => {
                let who = self.who(back);
                let to = (&self.topic, &[partition][..]);
                let codes = self.transactor.join_as(3, who, to).await?;
                Ok(format!("{codes:?}"))
            }
            Ask::Write(back, partition, from) => self.write(c, (back, partition, from)).await,
            Ask::End(back, decision) => {
                let who = self.who(back);
                let answer = self
                    .transactor
                    .end_as(self.versions.end, who, decision)
                    .await?;
                let next = answer.next.filter(|_| answer.error.0 == 0);
                if let Some(next) = next {
                    self.on_told(next);
                }
                let epoch = next.map(|(_, epoch)| epoch);
                Ok(format!("{} epoch {epoch:?}", answer.error.0))
            }
        }
    }

    async fn write(
        &mut self,
        c: &Context,
        (back, partition, from): (usize, i32, From),
    ) -> Result<String, Objection> {
        let who = self.who(back);
        let line = ((who.id, who.epoch), partition);
        let next = self.sequences.get(&line).copied().unwrap_or_default();
        let sequence = match from {
            From::Next => next,
            From::Again => (next - 1).max(0),
            From::Beyond => next + 1,
        };
        self.values += 1;
        // Older than anything that the broker's clock says.
        let sent_ms = c.now_ms() - AGE_MS;
        let batch = BatchSpec::numbered(&format!("{:02}", self.values), 1, sent_ms);
        let batch = BatchSpec {
            attributes: batch.attributes | TRANSACTIONAL_BIT,
            ..batch.stamped(Stamp { sequence, ..who })
        };
        let to = (&self.topic, partition);
        let row = self
            .transactor
            .write(self.versions.produce, to, &batch)
            .await?;
        if row.code.0 == 0 {
            let next = next.max(sequence + 1);
            self.sequences.insert(line, next);
        }
        Ok(format!("{} offset {}", row.code.0, row.base_offset))
    }

    /// The state once no marker is on its way.
    async fn settled(&mut self, c: &Context) -> Result<String, Objection> {
        let ask = DescribeTransactions {
            ids: vec![self.transactor.id.clone()],
        };
        let patience = c.patience("every marker is there".to_owned());
        loop {
            let rows = self.transactor.coordinator.ask(&ask, 0).await?;
            match rows.first() {
                Some(row) if !row.state.starts_with("Prepare") => {
                    return Ok(format!("{} {}", row.state, row.producer.1));
                }
                row => patience.wait(format!("{row:?}")).await?,
            }
        }
    }

    /// What stands in a partition.
    async fn log(&self, c: &Context, partition: i32) -> Result<String, Objection> {
        let batches = c.batches(&self.topic, partition).await?;
        let batches = batches.iter().map(|batch| {
            let epoch = batch.stamp.epoch;
            match batch.is_control() {
                true => {
                    let key = batch.records.first();
                    let key = key.and_then(|record| record.content.key.as_deref());
                    format!("marker {:?} of {epoch}", key.and_then(|key| key.last()))
                }
                false => {
                    let values = batch.records.iter().map(|record| record.value_text());
                    format!("{} of {epoch}", values.collect::<Vec<_>>().join(" "))
                }
            }
        });
        Ok(batches.collect::<Vec<_>>().join(", "))
    }
}

async fn play(c: &Context, seed: u64, versions: Versions) -> Result<Vec<String>, Objection> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut player = Player::start(c, versions).await?;
    let mut lines = vec![format!("seed {seed} {versions:?}")];
    for number in 0..REQUESTS {
        let ask = Ask::draw(&mut random);
        let at = |objection: Objection| {
            objection.within(format!("seed {seed}, request {number}, {ask:?}"))
        };
        let answer = player.ask(c, ask).await.map_err(at)?;
        let state = player.settled(c).await.map_err(at)?;
        lines.push(format!("{number:02} {ask:?}: {answer}; {state}"));
    }
    for partition in 0..PARTITIONS {
        let log = player.log(c, partition).await?;
        lines.push(format!("partition {partition}: {log}"));
    }
    Ok(lines)
}

async fn as_recorded(c: Context) -> Result<(), Objection> {
    let (versions, recorded) = match c.transaction_version() {
        OWN_EPOCHS.. => (
            Versions {
                produce: 12,
                end: 5,
            },
            Recorded::Requests,
        ),
        _ => (
            Versions {
                produce: 11,
                end: 4,
            },
            Recorded::RequestsOfLevelOne,
        ),
    };
    let mut lines = Vec::new();
    for seed in 0..SEEDS {
        lines.extend(play(&c, seed, versions).await?);
    }
    expect_recorded(&c, &lines, recorded)
}
