//! What a case may use: its target, connections to leaders, producer ids, waits.
//!
//! *Invariants*
//! 1. Every wait is bounded by [`PATIENCE`], or by a number of looks where time was lost.
//!
//! *Not here*: topics (`topic.rs`), the log as read back (`log.rs`), one walk per version
//! (`lane.rs`), this project's producer (`client.rs`).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep};

use crate::case::{Objection, expect_eq};
use crate::io::connection::Connection;
use crate::io::transcript::{Mark, Transcript};
use crate::probe::{Probe, probe};
use crate::runner::{RunOptions, Schedules};
use crate::target::{Action, OwnBrokers, Target, TransactionVersion, Unavailable};
use crate::topic::Topic;
use crate::wire::Request;
use crate::wire::admin::Changed;
use crate::wire::answer::{InitProducerId, Metadata, MetadataAnswer};
use crate::wire::batch::Stamp;
use crate::wire::error_code::ErrorCode;
use crate::wire::produce::{Produce, Row, TOPIC_ID_FROM};

/// Longest wait for anything that a broker is still busy with.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// The least number of looks before a wait is given up: on a machine that stood still the time may
/// be over although nobody had any.
const LOOKS_MIN: u32 = 100;
/// Produce versions by which a broker's answers or a request's layout differ: the oldest, the
/// first with a log start and records of their own check, flexible, before and with topic ids.
const PRODUCE_VERSIONS: [i16; 6] = [3, 7, 9, 11, 12, 13];

/// One case on one target; clones share it.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    target: Arc<dyn Target>,
    probe: Probe,
    case_id: &'static str,
    run_id: Arc<str>,
    schedules: Schedules,
    /// Shared with brokers beside, which may be the same.
    topics_created: Arc<AtomicU32>,
    last_ms: AtomicI64,
    transcript: Transcript,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            case_id, run_id, ..
        } = self.0.as_ref();
        f.debug_struct("Context")
            .field("case_id", case_id)
            .field("run_id", run_id)
            .finish()
    }
}

impl Context {
    /// A context for the case `case_id` of a run: topics carry the run's id in their names, and
    /// what happens goes into the transcript.
    pub fn new(
        target: Arc<dyn Target>,
        probe: Probe,
        case_id: &'static str,
        (run, transcript): (&RunOptions<'_>, Transcript),
    ) -> Self {
        Self(Arc::new(Inner {
            target,
            probe,
            case_id,
            run_id: Arc::clone(&run.run_id),
            schedules: run.schedules.clone(),
            topics_created: Arc::default(),
            last_ms: AtomicI64::new(0),
            transcript,
        }))
    }

    /// The same case on brokers of its own, which end with the context.
    ///
    /// # Errors
    ///
    /// When they do not start.
    ///
    /// # Cancellation
    ///
    /// Safe: what was started by then ends with the dropped future.
    pub async fn beside(&self, count: u16, settings: &[(&str, &str)]) -> Result<Self, Objection> {
        self.beside_as(&OwnBrokers {
            count,
            settings,
            transactions: TransactionVersion::Newest,
        })
        .await
    }

    /// The same with a level of `transaction.version`.
    ///
    /// # Errors
    ///
    /// As [`Self::beside`].
    ///
    /// # Cancellation
    ///
    /// As [`Self::beside`].
    pub async fn beside_as(&self, wanted: &OwnBrokers<'_>) -> Result<Self, Objection> {
        let started = self.target().beside(wanted).await;
        let refused =
            |error: Unavailable| Objection::new("start brokers beside", "they answer", error);
        let target = started.map_err(refused)?;
        let probe = probe(target.as_ref()).await.map_err(refused)?;
        Ok(Self(Arc::new(Inner {
            target,
            probe,
            case_id: self.0.case_id,
            run_id: Arc::clone(&self.0.run_id),
            schedules: self.0.schedules.clone(),
            topics_created: Arc::clone(&self.0.topics_created),
            last_ms: AtomicI64::new(0),
            transcript: self.0.transcript.clone(),
        })))
    }

    /// The level of `transaction.version` of the target.
    pub fn transaction_version(&self) -> i16 {
        self.probe().transaction_version
    }

    /// Does something to the broker with that node id.
    ///
    /// # Errors
    ///
    /// When it cannot be done.
    ///
    /// # Cancellation
    ///
    /// It may have been done.
    pub async fn act(&self, node: i32, action: Action) -> Result<(), Objection> {
        let done = self.target().act(node, action).await;
        done.map_err(|error| Objection::new(format!("{action:?} of {node}"), "done", error))
    }

    /// What is judged.
    pub fn target(&self) -> &dyn Target {
        self.0.target.as_ref()
    }

    /// What becomes of what a seed's schedule led to.
    pub fn schedules(&self) -> &Schedules {
        &self.0.schedules
    }

    /// What the target answered first.
    pub fn probe(&self) -> &Probe {
        &self.0.probe
    }

    /// The frames of this case.
    pub fn transcript(&self) -> &Transcript {
        &self.0.transcript
    }

    /// The newest version of `R` that the target offers and the judge reads.
    pub fn version<R: Request>(&self) -> i16 {
        let offered = self.0.probe.apis.range(R::API_KEY);
        offered.map_or(R::VERSION_MAX, |range| range.max.min(R::VERSION_MAX))
    }

    /// The Produce versions to try, oldest first: those of the judge's list that are offered.
    pub fn produce_versions(&self) -> Vec<i16> {
        let max = self.version::<Produce>();
        PRODUCE_VERSIONS
            .into_iter()
            .filter(|&version| version <= max)
            .collect()
    }

    /// The wall clock, milliseconds since 1970: the timestamp of records. No two calls of a case
    /// give the same, so that a recording can tell them apart.
    pub fn now_ms(&self) -> i64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        let mut given = now;
        let later = |last: i64| {
            given = now.max(last.saturating_add(1));
            Some(given)
        };
        // The closure never declines.
        let _ = self
            .0
            .last_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
        given
    }

    /// A connection to a broker of the target.
    ///
    /// # Errors
    ///
    /// When none accepts.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn connect(&self) -> Result<Connection, Objection> {
        let mut last = Objection::new("connect", "an address", "the target names none");
        for address in self.target().bootstrap() {
            match self.connect_to(&address).await {
                Ok(connection) => return Ok(connection),
                Err(objection) => last = objection,
            }
        }
        Err(last)
    }

    /// A connection to `address`.
    ///
    /// # Errors
    ///
    /// When nobody accepts.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn connect_to(&self, address: &str) -> Result<Connection, Objection> {
        Connection::open(address, self.transcript()).await
    }

    /// A connection to the leader of `partition`.
    ///
    /// # Errors
    ///
    /// When the topic has no such partition, or its leader does not accept.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn leader(&self, topic: &Topic, partition: i32) -> Result<Connection, Objection> {
        match topic.leader_of(partition) {
            Some(address) => self.connect_to(address).await,
            None => Err(Objection::new(
                "leader",
                "a partition of the topic",
                partition,
            )),
        }
    }

    /// The brokers and topics that Metadata names.
    ///
    /// # Errors
    ///
    /// When no broker answers.
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn metadata(&self, request: &Metadata) -> Result<MetadataAnswer, Objection> {
        self.connect()
            .await?
            .ask(request, self.version::<Metadata>())
            .await
    }

    /// A topic name that nobody else uses; the topic is not created.
    pub fn topic_name(&self) -> String {
        let number = self.0.topics_created.fetch_add(1, Ordering::Relaxed);
        let case = self.0.case_id.to_ascii_lowercase();
        format!("conformance-{}-{case}-{number}", self.0.run_id)
    }

    /// Changes something about the cluster.
    ///
    /// # Errors
    ///
    /// When it is refused.
    ///
    /// # Cancellation
    ///
    /// It may have been changed.
    pub async fn change<R: Request<Answer = Changed>>(&self, change: &R) -> Result<(), Objection> {
        let version = self.version::<R>();
        let answer = self.connect().await?.ask(change, version).await?;
        match answer.error {
            ErrorCode::NONE => Ok(()),
            error => {
                let observed = format!("code {error}, message {:?}", answer.message);
                Err(Objection::new(R::NAME, "code 0 NONE", observed))
            }
        }
    }

    /// A new producer id, with its epoch, whose next sequence is 0.
    ///
    /// # Errors
    ///
    /// When none is given in time; a broker that just started answers 14 a few times (observed).
    ///
    /// # Cancellation
    ///
    /// Safe.
    pub async fn producer(&self) -> Result<Stamp, Objection> {
        let mut connection = self.connect().await?;
        self.producer_from(&mut connection, self.version::<InitProducerId>())
            .await
    }

    /// A new producer id from the broker behind `connection`, asked at `version`.
    ///
    /// # Errors
    ///
    /// As [`Self::producer`].
    ///
    /// # Cancellation
    ///
    /// The connection must not be used on.
    pub async fn producer_from(
        &self,
        connection: &mut Connection,
        version: i16,
    ) -> Result<Stamp, Objection> {
        let patience = self.patience("a producer id is given".to_owned());
        loop {
            let answer = connection.ask(&InitProducerId::NEW, version).await?;
            match answer.error.0 {
                0 => {
                    let (id, epoch) = (answer.producer_id, answer.epoch);
                    return Ok(Stamp {
                        id,
                        epoch,
                        sequence: 0,
                    });
                }
                14..=16 => patience.wait(format!("code {}", answer.error)).await?,
                _ => {
                    let observed = format!("code {}", answer.error);
                    return Err(Objection::new("InitProducerId", "code 0 NONE", observed));
                }
            }
        }
    }

    /// Sends `request` and returns the rows, sorted by partition, of the one topic it names.
    ///
    /// # Errors
    ///
    /// When the answer is not about that topic alone.
    ///
    /// # Cancellation
    ///
    /// The records may have been written.
    pub async fn produce(
        &self,
        connection: &mut Connection,
        request: &Produce,
        version: i16,
    ) -> Result<Vec<Row>, Objection> {
        let answer = connection.ask(request, version).await?;
        let asked = request.topics.first();
        let (mut topics, extra) = {
            let mut topics = answer.topics.into_iter();
            (topics.next(), topics.next())
        };
        let same = match (&topics, asked, &extra) {
            (Some(rows), Some(data), None) if version >= TOPIC_ID_FROM => rows.id == data.id,
            (Some(rows), Some(data), None) => rows.name == data.name,
            _ => false,
        };
        if !same {
            let step = format!("Produce v{version}");
            let expected = "rows of the one topic that was named";
            return Err(Objection::new(
                step,
                expected,
                format!("{topics:?} {extra:?}"),
            ));
        }
        let mut rows = topics.take().map(|topic| topic.rows).unwrap_or_default();
        rows.sort_by_key(|row| row.partition);
        Ok(rows)
    }

    /// Sends `request`, which writes to one partition, and objects unless the answer is that row.
    ///
    /// # Errors
    ///
    /// When the answer is another.
    ///
    /// # Cancellation
    ///
    /// The records may have been written.
    pub async fn expect_row(
        &self,
        connection: &mut Connection,
        (request, version): (&Produce, i16),
        (step, expected): (&str, Row),
    ) -> Result<(), Objection> {
        let rows = self.produce(connection, request, version).await?;
        let step = format!("Produce v{version}, {step}");
        expect_eq(step, Rows(vec![expected]), Rows(rows))
    }
}

/// A bounded wait for a state that a broker reaches by itself.
pub(crate) struct Patience {
    until: Instant,
    looks: AtomicU32,
    what: String,
    transcript: Transcript,
    start: Mark,
}

impl Context {
    /// Begins a wait for `what`; looks are taken until it is there, and the last one is recorded.
    pub(crate) fn patience(&self, what: String) -> Patience {
        let transcript = self.transcript().clone();
        Patience {
            until: Instant::now() + PATIENCE,
            looks: AtomicU32::new(0),
            what,
            start: transcript.mark(),
            transcript,
        }
    }
}

impl Patience {
    /// Waits a little, or objects when that went on for too long.
    pub(crate) async fn wait(&self, seen: String) -> Result<(), Objection> {
        self.transcript.retract(self.start);
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        if Instant::now() >= self.until && looks >= LOOKS_MIN {
            let step = format!("wait {} s", PATIENCE.as_secs());
            return Err(Objection::new(step, &self.what, seen));
        }
        sleep(POLL_EVERY).await;
        Ok(())
    }
}

/// Rows for comparison and reports, one a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows(pub Vec<Row>);

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Row::to_string).collect();
        match lines.is_empty() {
            true => f.write_str("no row"),
            false => f.write_str(&lines.join("\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_given_up_only_after_looks_and_time() {
        let transcript = Transcript::default();
        let patience = Patience {
            until: Instant::now() + PATIENCE,
            looks: AtomicU32::new(0),
            what: "it is there".to_owned(),
            start: transcript.mark(),
            transcript,
        };
        // The machine stood still.
        tokio::time::advance(PATIENCE).await;
        for _ in 0..LOOKS_MIN {
            assert_eq!(patience.wait("no".to_owned()).await, Ok(()));
        }
        let given_up = patience.wait("no".to_owned()).await;
        assert_eq!(
            given_up.map_err(|objection| objection.observed),
            Err("no".to_owned())
        );
    }
}
