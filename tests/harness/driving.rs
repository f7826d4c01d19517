//! When a producer's driver looks at what happened: at once, or late, as on a busy machine.
//!
//! *State* of a driver that is late
//! ```text
//!          something arrives, or a deadline comes            so much later
//! asleep ────────────────────────────────────────▶ called ───────────────▶ a round ──▶ asleep
//!    └────────────────── the application sends or flushes ───────────────────▲
//! ```
//!
//! *Invariants*
//! 1. A round takes everything that has arrived since the last one, in its order; what an answer
//!    tells counts as told then.
//! 2. Whether a round looks at what is due before what has arrived is the setting's: the engine
//!    may be told in either order.
//! 3. How late depends on the seed and on what called alone, so that equal seeds give equal runs.
//!
//! *Not here*: what the producer wants then (`acting.rs`).

use std::collections::VecDeque;
use std::time::Duration;

use kafka_producer::engine::time::Instant;

use crate::link::{Arriving, LinkId};
use crate::world::{ClientNumber, World};

/// How late drivers look; by default they do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    /// At most so late; zero is at once.
    pub max: Duration,
    /// What a round begins with.
    pub first: First,
}

/// What a round of a driver begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum First {
    /// What is due, as the producer's own driver does.
    #[default]
    TimeOuts,
    /// What has arrived.
    Arrivals,
}

impl Lateness {
    /// More than all looks that it takes to find a broker again and write to it.
    #[must_use]
    pub fn margin(self) -> Duration {
        self.max * 12
    }

    /// How much later a driver looks that is called at this time.
    fn of(self, called_at: Duration, seed: u64) -> Duration {
        let micros = u64::try_from(self.max.as_micros()).expect("a moment");
        let called_at = u64::try_from(called_at.as_nanos()).expect("a run is short");
        let mut random = fastrand::Rng::with_seed(seed ^ called_at.rotate_left(32));
        Duration::from_micros(random.u64(0..=micros))
    }
}

/// What a driver has not looked at.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    arrived: VecDeque<(LinkId, Arriving)>,
    opened_at: Option<Duration>,
}

impl World {
    /// Something arrives for a producer.
    pub(crate) fn post(&mut self, client: ClientNumber, link: LinkId, what: Arriving) {
        if !self.clients[client.0].lives() {
            return;
        }
        if self.setting.lateness.max.is_zero() {
            self.hear_of_arrival(client, link, what);
            self.drive_client(client);
            return;
        }
        let opened_at = self.late(self.now);
        let mailbox = &mut self.mailboxes[client.0];
        mailbox.arrived.push_back((link, what));
        mailbox.opened_at.get_or_insert(opened_at);
    }

    /// When a producer's driver looks next, unless it is called before.
    pub(crate) fn looks_at(&self, client: ClientNumber) -> Option<Duration> {
        let Self {
            clients, mailboxes, ..
        } = self;
        if !clients[client.0].lives() {
            return None;
        }
        let due = clients[client.0].engine.next_deadline();
        let called = [due, clients[client.0].compressed_at()];
        let called = called.into_iter().flatten();
        let called = called.map(|at| self.late(Duration::from_nanos(at.as_nanos())));
        called.chain(mailboxes[client.0].opened_at).min()
    }

    /// The time has come for a producer's driver to look, if it has.
    pub(crate) fn look_if_called(&mut self, client: ClientNumber) {
        if self.looks_at(client).is_some_and(|at| at <= self.now) {
            self.round(client);
        }
    }

    /// The application calls a producer's driver.
    pub(crate) fn call(&mut self, client: ClientNumber) {
        if self.setting.lateness.max.is_zero() {
            self.drive_client(client);
        } else {
            self.round(client);
        }
    }

    fn round(&mut self, client: ClientNumber) {
        let now = self.producer_now();
        self.clients[client.0].bring_compressed(now);
        match self.setting.lateness.first {
            First::TimeOuts => {
                self.look_at_time(client, now);
                // What arrives on a connection that is given up now tells nobody anything.
                self.drive_client(client);
                self.take_arrivals(client);
            }
            First::Arrivals => {
                self.take_arrivals(client);
                self.drive_client(client);
                self.look_at_time(client, now);
            }
        }
        self.drive_client(client);
    }

    fn look_at_time(&mut self, client: ClientNumber, now: Instant) {
        let engine = &mut self.clients[client.0].engine;
        if engine.next_deadline().is_some_and(|due| due <= now) {
            engine.handle_timeout(now);
        }
    }

    fn take_arrivals(&mut self, client: ClientNumber) {
        self.mailboxes[client.0].opened_at = None;
        while let Some((link, what)) = self.mailboxes[client.0].arrived.pop_front() {
            self.hear_of_arrival(client, link, what);
        }
    }

    fn late(&self, called_at: Duration) -> Duration {
        let Lateness { max, .. } = self.setting.lateness;
        if max.is_zero() {
            return called_at;
        }
        called_at + self.setting.lateness.of(called_at, self.setting.seed)
    }
}
