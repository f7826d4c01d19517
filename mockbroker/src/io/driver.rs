//! The driver: the engine behind its lock, and the only place that reads the clock.
//!
//! A connection's task feeds its requests itself and takes its own replies from the same visit, so
//! a request that is answered at once crosses no channel and wakes no other task.
//!
//! *State* of a connection's outbox:
//!
//! ```text
//!        reply                 Close effect
//! Open ────────▶ Open   Open ────────────────▶ Ending ──── replies written, task ends ──▶ gone
//!                            Reset effect      Resetting ─ the same, and RST ──────────▶
//! ```
//!
//! *Invariants*
//! 1. Effects reach an outbox under the lock and in the engine's order; a task takes its outbox
//!    under the same lock. So replies leave in the order of their requests.
//! 2. The timer sleeps until the engine's next deadline or earlier: whoever brings the deadline
//!    forward wakes it.
//! 3. Whoever puts something in the outbox of another connection wakes its task.
//! 4. Ports follow the brokers' processes under the lock: whoever made a crash and has returned
//!    finds the broker refused.
//!
//! *Source*: quinn's connection driver, for the shape.
//!
//! *Not here*: bytes (`frame.rs`, `connection.rs`).

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::ports::Ports;
use crate::engine::effect::{BrokerId, ConnectionId, Effect};
use crate::engine::time::Instant;
use crate::engine::topology::{Broker, Process};
use crate::handlers::ClusterEngine;

/// Bytes of input that all connections hold, unless another bound is set.
const INPUT_BYTES_MAX: usize = 1 << 30;

/// The connections of a cluster hold too much that is no whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what arrived of requests on all connections has {bytes_max} bytes")]
pub struct InputFull {
    bytes_max: usize,
}

/// Which clock drives a cluster, and what it shows at first.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    source: Source,
    start: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    /// The machine's; the cluster has a thread of its own.
    Machine(std::time::Instant),
    /// That of the runtime in which it lives, which a test may have paused.
    Runtime(tokio::time::Instant),
}

impl Clock {
    /// The machine's clock, from now on.
    #[must_use]
    pub fn machine() -> Self {
        Self {
            source: Source::Machine(std::time::Instant::now()),
            start: Instant::ZERO,
        }
    }

    /// The clock of the runtime that this is called in, from now on.
    #[must_use]
    pub fn runtime() -> Self {
        Self {
            source: Source::Runtime(tokio::time::Instant::now()),
            start: Instant::ZERO,
        }
    }

    /// The same, showing this now: a cluster that goes on from a snapshot.
    #[must_use]
    pub const fn showing(self, start: Instant) -> Self {
        Self { start, ..self }
    }

    fn now(self) -> Instant {
        let elapsed = match self.source {
            Source::Machine(origin) => origin.elapsed(),
            Source::Runtime(origin) => origin.elapsed(),
        };
        self.start + elapsed
    }

    async fn sleep_until(self, deadline: Instant) {
        let origin = match self.source {
            Source::Machine(origin) => origin.into(),
            Source::Runtime(origin) => origin,
        };
        let nanos = deadline.as_nanos().saturating_sub(self.start.as_nanos());
        match origin.checked_add(Duration::from_nanos(nanos)) {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => core::future::pending().await,
        }
    }
}

/// How a connection stands after a visit to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The next request would be served at once.
    Idle,
    /// A request waits for its answer, and holds back the ones behind it.
    Waiting,
    /// The cluster has closed it: write what is left and end.
    Ending,
    /// The cluster has reset it: end so that the peer sees it broken.
    Resetting,
}

/// What is to be written on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// A frame, behind its size.
    Frame(Bytes),
    /// Bytes as they are: a piece of a reply.
    Piece(Bytes),
}

/// A connection's place at the engine.
#[derive(Clone, Debug)]
pub struct Seat {
    /// The connection's number.
    pub connection: ConnectionId,
    /// Woken when something is in the outbox that the task did not see itself.
    pub news: Arc<Notify>,
}

/// A cluster's engine with its lock and its clock.
#[derive(Debug)]
pub struct Driver {
    core: Mutex<Core>,
    clock: Clock,
    frame_bytes_max: usize,
    /// Bytes that arrived on all connections and are no whole request yet, or wait for one.
    input_bytes: AtomicUsize,
    input_bytes_max: usize,
    /// Of a cluster on TCP.
    ports: OnceLock<Ports>,
    /// Woken when the deadline comes forward.
    rearm: Notify,
    hits: watch::Sender<u64>,
    journal_written: watch::Sender<u64>,
}

#[derive(Debug)]
struct Core {
    engine: ClusterEngine,
    outboxes: BTreeMap<ConnectionId, Outbox>,
    connections_opened: u64,
    /// Until when the timer sleeps; `None` while it waits for a deadline to come up.
    armed: Option<Instant>,
    /// Entries of the journal that were logged or passed over.
    entries_logged: u64,
    /// Planned moves that were logged.
    moves_logged: usize,
}

#[derive(Debug)]
struct Outbox {
    replies: Vec<Outgoing>,
    phase: Phase,
    news: Arc<Notify>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Ending,
    Resetting,
}

impl Core {
    /// Logs what the journal has new, for those who watch the program rather than read the journal.
    fn log_journal(&mut self) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let journal = self.engine.journal();
        let kept = journal.entries().len();
        let written = journal.entries_written();
        let news = usize::try_from(written - self.entries_logged)
            .unwrap_or(kept)
            .min(kept);
        for entry in journal.entries().skip(kept - news) {
            let (BrokerId(broker), ConnectionId(connection)) = (entry.broker, entry.connection);
            tracing::debug!(broker, connection, event = ?entry.event);
        }
        self.entries_logged = written;
    }
}

impl Core {
    /// Logs the planned moves whose time has come.
    fn log_moves(&mut self) {
        let settled = self.engine.plan().settled();
        for planned in settled.get(self.moves_logged..).unwrap_or_default() {
            let (to_make, outcome) = (&planned.to_make, &planned.outcome);
            tracing::info!(?to_make, ?outcome, "the time of a planned move has come");
        }
        self.moves_logged = settled.len();
    }
}

impl Driver {
    /// Drives `engine` by `clock`, which shows the engine's time.
    ///
    /// Frames above `frame_bytes_max` close their connection.
    #[must_use]
    pub fn new(engine: ClusterEngine, frame_bytes_max: usize, clock: Clock) -> Self {
        let core = Core {
            engine,
            outboxes: BTreeMap::new(),
            connections_opened: 0,
            armed: None,
            entries_logged: 0,
            moves_logged: 0,
        };
        let (hits, _) = watch::channel(0);
        Self {
            core: Mutex::new(core),
            clock,
            frame_bytes_max,
            input_bytes: AtomicUsize::new(0),
            input_bytes_max: INPUT_BYTES_MAX,
            ports: OnceLock::new(),
            rearm: Notify::new(),
            hits,
            journal_written: watch::channel(0).0,
        }
    }

    /// Bounds what connections hold of requests that have not arrived in full.
    #[must_use]
    pub fn bounding_input(mut self, bytes_max: usize) -> Self {
        self.input_bytes_max = bytes_max;
        self
    }

    /// A connection holds as many bytes of input now, in place of those before.
    ///
    /// # Errors
    ///
    /// All together hold more than they may, and this one holds something.
    pub fn count_input(&self, before: usize, bytes: usize) -> Result<(), InputFull> {
        let all = self.input_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.input_bytes.fetch_sub(before, Ordering::Relaxed);
        if bytes > 0 && all.saturating_sub(before) > self.input_bytes_max {
            return Err(InputFull {
                bytes_max: self.input_bytes_max,
            });
        }
        Ok(())
    }

    /// The brokers are listened to at these ports from now on, those that have not crashed.
    pub fn listen_at(&self, ports: Ports) {
        let mut core = self.lock();
        let topology = core.engine.cluster().topology();
        let crashed = |known: &Broker| known.process == Process::Crashed;
        let refuses = topology.brokers().any(crashed);
        // Those that run listen already, and serving them takes time that the start has not.
        if self.ports.set(ports).is_ok() && refuses {
            self.follow_processes(&mut core);
        }
    }

    /// Whoever connects to a broker that runs is accepted from now on.
    pub fn serve_ports(&self) {
        self.follow_processes(&mut self.lock());
    }

    /// Lets the ports of a cluster on TCP go.
    pub fn close_ports(&self) {
        if let Some(ports) = self.ports.get() {
            ports.close();
        }
    }

    /// The ports of a cluster on TCP.
    #[must_use]
    pub fn ports(&self) -> Option<&Ports> {
        self.ports.get()
    }

    /// The largest frame that a connection takes, in bytes.
    #[must_use]
    pub const fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }

    /// A connection to `broker` was made, from the host `peer`.
    pub fn open(&self, broker: BrokerId, peer: IpAddr) -> Seat {
        let mut core = self.lock();
        let connection = ConnectionId(core.connections_opened);
        core.connections_opened += 1;
        let news = Arc::new(Notify::new());
        let outbox = Outbox {
            replies: Vec::new(),
            phase: Phase::Open,
            news: Arc::clone(&news),
        };
        core.outboxes.insert(connection, outbox);
        core.engine
            .handle_connect_from(peer, broker, connection, self.clock.now());
        self.settle(&mut core, Some(connection));
        Seat { connection, news }
    }

    /// Hands the connection's `requests` to the engine and fetches, into `replies`, what is to be
    /// written on it; both are empty vectors kept for their room.
    pub fn exchange(
        &self,
        connection: ConnectionId,
        requests: &mut Vec<Bytes>,
        replies: &mut Vec<Outgoing>,
    ) -> Standing {
        let mut core = self.lock();
        if !requests.is_empty() {
            let now = self.clock.now();
            for frame in requests.drain(..) {
                core.engine.handle_request(connection, frame, now);
            }
            self.settle(&mut core, Some(connection));
        }
        let core = &mut *core;
        let Some(outbox) = core.outboxes.get_mut(&connection) else {
            return Standing::Ending;
        };
        core::mem::swap(&mut outbox.replies, replies);
        match outbox.phase {
            Phase::Ending => Standing::Ending,
            Phase::Resetting => Standing::Resetting,
            Phase::Open if core.engine.is_idle(connection) => Standing::Idle,
            Phase::Open => Standing::Waiting,
        }
    }

    /// Bytes arrived on the connection, and they make no whole request yet.
    pub fn hear(&self, connection: ConnectionId) {
        let mut core = self.lock();
        core.engine.handle_bytes(connection, self.clock.now());
    }

    /// What arrived on the connection is not taken.
    pub fn refuse(&self, connection: ConnectionId, why: &impl ToString) {
        let mut core = self.lock();
        core.engine
            .handle_bad_frame(connection, why.to_string(), self.clock.now());
        self.settle(&mut core, Some(connection));
    }

    /// The connection is gone.
    pub fn close(&self, connection: ConnectionId) {
        let mut core = self.lock();
        core.outboxes.remove(&connection);
        core.engine.handle_disconnect(connection, self.clock.now());
        self.settle(&mut core, None);
    }

    /// Reads the engine or commands it, and sees to what follows from that.
    pub fn with<R>(&self, act: impl FnOnce(&mut ClusterEngine, Instant) -> R) -> R {
        let mut core = self.lock();
        let result = act(&mut core.engine, self.clock.now());
        self.follow_processes(&mut core);
        self.settle(&mut core, None);
        result
    }

    /// How often any fault rule has acted; changes as it grows.
    #[must_use]
    pub fn hits(&self) -> watch::Receiver<u64> {
        self.hits.subscribe()
    }

    /// How many entries the journal was ever given; changes as it grows, while anybody listens.
    #[must_use]
    pub fn journal_written(&self) -> watch::Receiver<u64> {
        self.journal_written.subscribe()
    }

    /// Fires the engine's deadlines; never ends.
    ///
    /// # Cancellation
    ///
    /// Deadlines that are due stay so and fire at the next run.
    pub async fn run_deadlines(&self) {
        loop {
            let deadline = self.fire_due();
            let sleep = async {
                match deadline {
                    Some(deadline) => self.clock.sleep_until(deadline).await,
                    None => core::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {}
                () = self.rearm.notified() => {}
            }
        }
    }

    fn fire_due(&self) -> Option<Instant> {
        let mut core = self.lock();
        let now = self.clock.now();
        if core
            .engine
            .next_deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            core.engine.handle_timeout(now);
            self.follow_processes(&mut core);
        }
        // The timer is awake: it arms itself with what it finds below and needs no waking for it.
        core.armed = Some(Instant::ZERO);
        self.settle(&mut core, None);
        core.armed = core.engine.next_deadline();
        core.armed
    }

    /// Shuts the ports of the brokers that have crashed, and opens those of the others.
    fn follow_processes(&self, core: &mut Core) {
        let Some(ports) = self.ports.get() else {
            return;
        };
        let brokers = core.engine.cluster().topology().brokers();
        let complaints = ports.follow(brokers.map(|known| (known.endpoint.id, known.process)));
        for complaint in complaints {
            core.engine.diagnose_edge(complaint, self.clock.now());
        }
    }

    /// Puts effects in outboxes and wakes whom they concern; `visitor` looks itself.
    fn settle(&self, core: &mut Core, visitor: Option<ConnectionId>) {
        while let Some(effect) = core.engine.poll_effect() {
            let connection = effect.connection();
            let Some(outbox) = core.outboxes.get_mut(&connection) else {
                continue;
            };
            match effect {
                Effect::Reply { frame, .. } => outbox.replies.push(Outgoing::Frame(frame)),
                Effect::Piece { bytes, .. } => outbox.replies.push(Outgoing::Piece(bytes)),
                // That its task is woken below is all.
                Effect::ReadOn { .. } => {}
                Effect::Close { .. } => outbox.phase = Phase::Ending,
                Effect::Reset { .. } => outbox.phase = Phase::Resetting,
            }
            if visitor != Some(connection) {
                outbox.news.notify_one();
            }
        }
        if let Some(deadline) = core.engine.next_deadline()
            && core.armed.is_none_or(|armed| deadline < armed)
        {
            core.armed = Some(deadline);
            self.rearm.notify_one();
        }
        core.log_journal();
        core.log_moves();
        if self.journal_written.receiver_count() > 0 {
            let written = core.engine.journal().entries_written();
            self.journal_written
                .send_if_modified(|seen| core::mem::replace(seen, written) != written);
        }
        let hits = core.engine.rules().hits_total();
        self.hits
            .send_if_modified(|seen| core::mem::replace(seen, hits) != hits);
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        // A panic inside the engine is a defect of the mock; the views still help to find it.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
