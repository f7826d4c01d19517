//! The language of the promise files: one line says what goes wrong, one what is sent, one what
//! must be there in the end.
//!
//! ```text
//! Scenario::new()
//!     .rule(Rule::on(Api::Produce).then(Verdict::ApplyThenLose))
//!     .send("orders", 0, "a")
//!     .settle()
//!     .expect_log("orders", 0, &["a"])
//!     .expect_written("a", 0);
//! ```
//!
//! *Invariants*
//! 1. [`Scenario::settle`] judges the run by the oracle, whatever the scenario expects besides.
//! 2. A failed expectation shows the whole trace.
//! 3. The cluster found nothing to refuse in what the producer asked.
//! 4. Every installed rule acts, or the scenario fails: a fault that never came proves nothing.

use std::time::Duration;

use kafka_mockbroker::engine::moves::Move;
use kafka_mockbroker::{Api, ErrorCode, Rule};

use crate::client::Outgoing;
use crate::history::{Ending, Partition, SendOp};
use crate::oracle::judge;
use crate::setting::Setting;
use crate::world::{ClientNumber, World, record};

/// A run that is told step by step.
#[derive(Debug)]
pub struct Scenario {
    world: World,
}

impl Default for Scenario {
    fn default() -> Self {
        Self::new()
    }
}

impl Scenario {
    /// Three brokers, the topic `orders` with three partitions on all of them, one producer.
    #[must_use]
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same with changes.
    #[must_use]
    pub fn with(change: impl FnOnce(&mut Setting)) -> Self {
        let mut setting = Setting::default();
        change(&mut setting);
        Self {
            world: World::new(setting),
        }
    }

    /// The world, for what this language has no word for.
    pub fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// Installs a fault.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.world.install(rule);
        self
    }

    /// The first producer sends a record; values differ within a scenario.
    #[must_use]
    pub fn send(self, topic: &str, partition: i32, value: &str) -> Self {
        self.send_by(0, topic, partition, value)
    }

    /// One of several producers sends a record.
    #[must_use]
    pub fn send_by(mut self, producer: usize, topic: &str, partition: i32, value: &str) -> Self {
        let record: Outgoing = record(topic, partition, value, self.world.wall_clock_ms());
        self.world.send_from(ClientNumber(producer), record);
        self
    }

    /// Sends records and waits each time until it left, so that each is a batch of its own.
    #[must_use]
    pub fn send_apart(mut self, topic: &str, partition: i32, values: &[&str]) -> Self {
        for value in values {
            self = self.send(topic, partition, value);
            self.world.flush(ClientNumber(0));
        }
        self
    }

    /// Lets time pass.
    #[must_use]
    pub fn after(mut self, duration: Duration) -> Self {
        self.world.run_until(self.world.now() + duration);
        self
    }

    /// Lets time pass until a broker has seen this many requests of an API.
    #[must_use]
    pub fn until_seen(mut self, api: Api, count: usize) -> Self {
        while self.requests(api) < count {
            assert!(
                self.world.step(),
                "{count} requests of {api}\n{}",
                self.world.trace()
            );
        }
        self
    }

    /// Moves the cluster: crashes, elections, replicas that lag.
    #[must_use]
    pub fn make_move(mut self, to_make: Move) -> Self {
        self.world.make_move(to_make);
        self
    }

    /// Ends every link to a broker.
    #[must_use]
    pub fn cut(mut self, broker: i32) -> Self {
        self.world.cut(broker);
        self
    }

    /// Lets time pass until every send is resolved, then lets the oracle judge.
    #[must_use]
    #[track_caller]
    pub fn settle(mut self) -> Self {
        let patience = self.world.now() + SETTLED_WITHIN;
        while self.world.open_count() > 0 && self.world.now() < patience && self.world.step() {}
        let open = self.world.open_count();
        assert_eq!(open, 0, "sends are left open\n{}", self.world.trace());
        let verdict = judge(&self.world.history());
        assert!(verdict.holds(), "{verdict}\n{}", self.world.trace());
        let diagnostics = self.world.cluster().journal().diagnostics();
        assert!(
            diagnostics.is_empty(),
            "{diagnostics:?}\n{}",
            self.world.trace()
        );
        let unfired = self.world.cluster().rules().unfired();
        assert!(
            unfired.is_empty(),
            "never acted: {unfired:?}\n{}",
            self.world.trace()
        );
        self
    }

    /// The partition's log holds exactly these values.
    #[track_caller]
    pub fn expect_log(self, topic: &str, partition: i32, values: &[&str]) -> Self {
        let logs = self.world.history().logs;
        let partition = Partition {
            topic: topic.into(),
            number: partition,
        };
        let log = logs.get(&partition).map_or(&[][..], Vec::as_slice);
        let found: Vec<_> = log
            .iter()
            .map(|entry| entry.content.value.clone())
            .collect();
        assert_eq!(
            found,
            values,
            "the log of {partition}\n{}",
            self.world.trace()
        );
        self
    }

    /// The send with this value was written, at this offset.
    #[track_caller]
    pub fn expect_written(self, value: &str, offset: i64) -> Self {
        self.expect_ending(value, &Ending::Written(Some(offset)))
    }

    /// The send with this value ended so.
    #[track_caller]
    pub fn expect_ending(self, value: &str, ending: &Ending) -> Self {
        let found = self.find(value).ending();
        assert_eq!(
            found,
            Some(ending),
            "the end of {value}\n{}",
            self.world.trace()
        );
        self
    }

    /// The send with this value certainly is in no log, for this reason.
    #[track_caller]
    pub fn expect_not_written(self, value: &str, reason: &str) -> Self {
        self.expect_ending(value, &Ending::NotWritten(reason.to_owned()))
    }

    /// The send with this value was refused by a broker, and certainly is in no log.
    #[track_caller]
    pub fn expect_refused(self, value: &str, code: ErrorCode) -> Self {
        self.expect_not_written(value, &format!("refused with {}", code.0))
    }

    /// The send with this value may be in the log, and nobody knows for this reason.
    #[track_caller]
    pub fn expect_unknown(self, value: &str, reason: &str) -> Self {
        self.expect_ending(value, &Ending::Unknown(reason.to_owned()))
    }

    /// Brokers have seen exactly this many requests of an API.
    #[track_caller]
    pub fn expect_requests(self, api: Api, count: usize) -> Self {
        let found = self.requests(api);
        assert_eq!(found, count, "requests of {api}\n{}", self.world.trace());
        self
    }

    /// The time that passed lies within these bounds.
    #[track_caller]
    pub fn expect_elapsed(self, at_least: Duration, at_most: Duration) -> Self {
        let now = self.world.now();
        let within = (at_least..=at_most).contains(&now);
        assert!(within, "{now:?} passed\n{}", self.world.trace());
        self
    }

    #[track_caller]
    fn find(&self, value: &str) -> &SendOp {
        let found = self
            .world
            .sends()
            .iter()
            .find(|send| send.content.value == value);
        found.unwrap_or_else(|| panic!("{value} was not accepted\n{}", self.world.trace()))
    }

    fn requests(&self, api: Api) -> usize {
        self.world.requests(api)
    }
}

/// Longer than any delivery time-out of a scenario.
const SETTLED_WITHIN: Duration = Duration::from_secs(600);
