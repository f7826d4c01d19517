//! A run drawn from a seed: what is sent, what goes wrong, and when, as data.
//!
//! *Invariants*
//! 1. Faults come from a stream of their own, so that a change of the workload leaves them alone.
//! 2. A plan can be run again without some of its steps: [`shrink`] finds those that matter.
//! 3. Faults end: after [`Plan::FAULTS_END`] the network and the cluster are sound, and then
//!    every send ends in its time and every new one is written within [`Plan::HEALED_WITHIN`].
//!
//! *Not here*: what must hold (`oracle/`), what is drawn (`draw.rs`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_mockbroker::engine::moves::Move;
use kafka_mockbroker::{Api, Rule};
use kafka_producer::Acks;
use kafka_producer::partitioner::murmur2;

use crate::capture::Short;
use crate::client::Outgoing;
use crate::draw::FAULT_LASTS_MAX;
use crate::draw_transactions::COPIES;
use crate::history::{Content, History, Liveness, Placed};
use crate::oracle::{self, Law};
use crate::setting::Setting;
use crate::trace::Tracing;
use crate::traps::When;
use crate::worker::{Bracketing, Job, PlannedTransaction, Predecessor, Upgrade, Wish, Work};
use crate::world::{ClientNumber, World};

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// A rule in the cluster.
    Rule(Rule),
    /// The cluster moves: a crash, an election, a replica that lags.
    Move(Move),
    /// Links to a broker are lost with what is on them.
    Cut(i32),
    /// What is on the way to or from a broker is late.
    Stall(i32, Duration),
    /// A broker's port is shut for a while.
    Refuse(i32, Duration),
    /// No byte leaves for a broker for a while.
    Clog(i32, Duration),
    /// Producers may send so many bytes a second from now on.
    Quota(u32),
    /// The broker that gets the next request of an API crashes over it, and is back after a while.
    CrashOver(Api, When, Duration),
    /// The next request of an API is so late, and its link with it.
    Strand(Api, Duration),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => write!(f, "{rule}"),
            Self::Move(to_make) => write!(f, "{to_make:?}"),
            Self::Cut(broker) => write!(f, "links to broker {broker} are cut"),
            Self::Stall(broker, duration) => write!(f, "broker {broker} stalls {duration:?}"),
            Self::Refuse(broker, duration) => write!(f, "broker {broker} refuses {duration:?}"),
            Self::Clog(broker, duration) => write!(f, "broker {broker} is clogged {duration:?}"),
            Self::Quota(bytes) => write!(f, "producers may send {bytes} bytes a second"),
            Self::CrashOver(api, when, lasts) => {
                write!(f, "whoever gets {api} crashes {when:?}, for {lasts:?}")
            }
            Self::Strand(api, lasts) => write!(f, "{api} is stranded for {lasts:?}"),
        }
    }
}

/// Where a planned send goes.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// To this partition.
    Named(i32),
    /// Where its key belongs, in a topic of so many partitions.
    ByKey(i32),
}

/// A send that is planned.
#[derive(Clone, Debug)]
pub struct PlannedSend {
    /// By which producer.
    pub client: ClientNumber,
    /// The topic, one of the setting's.
    pub topic: Arc<str>,
    /// The partition.
    pub place: Place,
    /// The key.
    pub key: Option<Bytes>,
    /// The value, different in every send.
    pub value: Bytes,
    /// The headers.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// Something goes wrong.
    Fault(Fault),
    /// A record is sent.
    Send(PlannedSend),
    /// A producer is flushed.
    Flush(ClientNumber),
    /// A transaction is there to be done.
    Transaction(PlannedTransaction),
    /// Another process is started under one of the transactional ids.
    Replace(usize, Predecessor),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => write!(f, "fault: {fault}"),
            Self::Send(send) => write!(
                f,
                "producer {} sends {:?} to {} ({:?})",
                send.client.0,
                Short(&send.value),
                send.topic,
                send.place
            ),
            Self::Flush(client) => write!(f, "producer {} is flushed", client.0),
            Self::Transaction(planned) => write!(f, "id {}: {planned:?}", planned.id),
            Self::Replace(id, predecessor) => {
                write!(
                    f,
                    "id {id}: another process, the one before: {predecessor:?}"
                )
            }
        }
    }
}

/// A whole run before it happens.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The world.
    pub setting: Setting,
    /// What happens, and when, in order.
    pub steps: Vec<(Duration, Step)>,
}

impl Plan {
    /// No fault starts later, and none lasts longer than [`FAULT_LASTS_MAX`] after it.
    pub const FAULTS_END: Duration = Duration::from_secs(20);
    /// More than the longest back-off: how long a producer may take to find a sound cluster again.
    pub const HEALED_WITHIN: Duration = Duration::from_secs(2);

    /// The same plan in which lines are written of what happens.
    #[must_use]
    pub fn traced(mut self) -> Self {
        self.setting.tracing = Tracing::Kept;
        self
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.setting)?;
        writeln!(f, "{} steps:", self.steps.len())?;
        for (at, step) in &self.steps {
            writeln!(f, "{:>12.3} ms  {step}", at.as_secs_f64() * 1_000.0)?;
        }
        Ok(())
    }
}

/// What came of a plan.
#[derive(Debug)]
pub struct Run {
    /// The world at the end.
    pub world: World,
    /// What happened, for the judge.
    pub history: History,
    /// The laws that were broken.
    pub broken: Vec<Law>,
    /// What was found wrong: the oracle's verdict, or what the cluster had to refuse.
    pub complaint: Option<String>,
    /// Whether that counts.
    pub standing: Standing,
}

/// Whether a run was what its laws are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was.
    Judged,
    /// The level of transactions was raised, and two processes were given one epoch, as Kafka does
    /// (`epochs.rs`): nothing is promised of what they did with it, and nothing is complained of.
    EpochShared,
}

/// Lets a plan happen.
#[must_use]
pub fn run(plan: &Plan) -> Run {
    let mut world = World::new(plan.setting.clone());
    for (at, step) in &plan.steps {
        world.run_until(*at);
        match step {
            Step::Fault(fault) => {
                world.read_committed();
                strike(&mut world, fault);
            }
            Step::Send(send) => send_planned(&mut world, send),
            Step::Flush(client) => world.flush(*client),
            Step::Transaction(planned) => world.plan_transaction(planned),
            Step::Replace(id, predecessor) => world.replace_process(*id, *predecessor),
        }
    }
    world.run_until(Plan::FAULTS_END + FAULT_LASTS_MAX);
    world.read_committed();
    world.heal();
    match &plan.setting.transactions {
        None => settle(&mut world, &plan.setting),
        Some(bracketing) => settle_transactions(&mut world, &plan.setting, bracketing),
    }
    world.read_committed();
    world.take_stock();
    let diagnostics = world.cluster().journal().diagnostics();
    let refused = diagnostics.first();
    let refused = refused.map(|refused| format!("the cluster refused: {refused:?}"));
    let history = world.history();
    let verdict = oracle::judge(&history);
    let left = world.open_count();
    let left = (left > 0).then(|| format!("{left} sends are still open"));
    let complaint = world.complaint();
    let broken = (!verdict.holds()).then(|| verdict.to_string());
    let complaint = broken.or(left).or(complaint).or(refused);
    let standing = standing(&world, plan.setting.transactions.as_ref());
    let judged = standing == Standing::Judged;
    Run {
        world,
        history,
        broken: if judged { verdict.laws() } else { Vec::new() },
        complaint: complaint.filter(|_| judged),
        standing,
    }
}

fn standing(world: &World, bracketing: Option<&Bracketing>) -> Standing {
    let raised = bracketing.is_some_and(|one| one.upgrade != Upgrade::Never);
    match raised && world.tap.epoch_is_shared() {
        true => Standing::EpochShared,
        false => Standing::Judged,
    }
}

/// After the last fault every send must end in its time; then, when connections on which nobody
/// answers any more have been given up, one more record to each partition must be written soon.
fn settle(world: &mut World, setting: &Setting) {
    let healed_within = Plan::HEALED_WITHIN + setting.lateness.margin();
    let within = setting.resolved_within() + healed_within;
    // Who waits for memory waits for those who have it.
    let rounds = if setting.memory_bytes.is_some() { 2 } else { 1 };
    let patience = world.now().max(world.muted_until()) + within * rounds;
    step_while_open(world, patience);
    if world.open_count() > 0 {
        return;
    }
    let given_up = world.now() + setting.request_timeout * 2 + healed_within;
    world.run_until(given_up.max(world.muted_until()));
    if setting.acks == Acks::None {
        search(world, setting, within);
    }
    // Without acks dead connections are found one by one, each by a question about metadata.
    let dead_most = match setting.acks {
        Acks::None => setting.brokers.unsigned_abs(),
        Acks::Leader | Acks::All => 1,
    };
    let within = setting.request_timeout * dead_most + healed_within;
    world.liveness = Some(Liveness {
        from: world.now(),
        within,
    });
    probe(world, setting, PROBE);
    let patience = world.now() + within;
    step_while_open(world, patience);
}

/// After the last fault all that was planned must be done, and what nobody ends must time out; then
/// one more transaction under each id must be committed soon.
fn settle_transactions(world: &mut World, setting: &Setting, bracketing: &Bracketing) {
    let healed_within = Plan::HEALED_WITHIN + setting.lateness.margin();
    let timed_out_within = bracketing.timeout + bracketing.scan_interval * 2;
    let within = setting.resolved_within() + timed_out_within + healed_within;
    // Those that wait for each other: what is open, its process, its successor.
    work_until_done(world, within * 4);
    // Of two that began at the same time the older may have fenced the newer, which finds out.
    plan_probes(world, (setting, bracketing), "search");
    work_until_done(world, within);
    let quiet = world.now() + timed_out_within + setting.request_timeout * 2 + healed_within;
    world.run_until(quiet.max(world.muted_until()));
    // What arrived meanwhile of long ago has the next batch of its producer refused with 45.
    plan_probes(world, (setting, bracketing), "second search");
    work_until_done(world, within);
    let within = setting.request_timeout * 3 + healed_within * 2;
    world.liveness = Some(Liveness {
        from: world.now(),
        within,
    });
    plan_probes(world, (setting, bracketing), "probe");
    work_until_done(world, within * 2);
    // Markers are on their way for a moment.
    world.run_until(world.now() + healed_within);
}

/// A transaction for the newest process of each id.
fn plan_probes(world: &mut World, (setting, bracketing): (&Setting, &Bracketing), says: &str) {
    for (id, (_, job)) in bracketing.jobs.iter().enumerate() {
        let work = match job {
            Job::Copy(_) => continue,
            Job::Planned => Work::Records(probes(setting, id, says), None),
            Job::Bank(_) => Work::Transfer {
                from: 0,
                to: 1,
                amount: 1,
            },
        };
        world.plan_for_newest(PlannedTransaction {
            id,
            work,
            pause: Duration::ZERO,
            wish: Wish::Commit,
        });
    }
}

fn work_until_done(world: &mut World, patience: Duration) {
    let patience = world.now().max(world.muted_until()) + patience;
    while world.is_at_work() && world.next_at().is_some_and(|at| at <= patience) {
        world.step();
    }
}

fn probes(setting: &Setting, id: usize, says: &str) -> Vec<PlannedSend> {
    let topics = setting.topics.iter().filter(|(topic, ..)| *topic != COPIES);
    let places = topics.flat_map(|(topic, partitions, _)| {
        (0..*partitions).map(move |partition| (*topic, partition))
    });
    let send = |(topic, partition)| PlannedSend {
        client: ClientNumber(0),
        topic: Arc::from(topic),
        place: Place::Named(partition),
        key: None,
        value: format!("{says} {id} {topic}-{partition}").into(),
        headers: Vec::new(),
    };
    places.map(send).collect()
}

fn step_while_open(world: &mut World, patience: Duration) {
    while world.open_count() > 0 && world.next_at().is_some_and(|at| at <= patience) {
        world.step();
    }
}

/// Without acks a dead connection is found only by a question about metadata, and what waits for
/// the answer may be given up meanwhile. So there are sends before those that count.
fn search(world: &mut World, setting: &Setting, within: Duration) {
    for round in 0..setting.brokers {
        probe(world, setting, format!("search {round}").as_bytes());
        let patience = world.now() + within;
        step_while_open(world, patience);
    }
}

fn probe(world: &mut World, setting: &Setting, says: &[u8]) {
    for (topic, partitions, _) in &setting.topics {
        for partition in 0..*partitions {
            let value = [says, format!(" {topic}-{partition}").as_bytes()].concat();
            let send = PlannedSend {
                client: ClientNumber(0),
                topic: (*topic).into(),
                place: Place::Named(partition),
                key: None,
                value: value.into(),
                headers: Vec::new(),
            };
            send_planned(world, &send);
        }
    }
}

const PROBE: &[u8] = b"probe";

fn strike(world: &mut World, fault: &Fault) {
    match fault {
        Fault::Rule(rule) => world.install(rule.clone()),
        Fault::Move(to_make) => {
            world.make_move(to_make.clone());
            // Another version of a broker is another process.
            if let Move::RestrictVersions { broker, .. } = to_make {
                world.cut(broker.0);
            }
        }
        Fault::Cut(broker) => world.cut(*broker),
        Fault::Stall(broker, duration) => world.stall(*broker, *duration),
        Fault::Refuse(broker, duration) => world.refuse(*broker, *duration),
        Fault::Clog(broker, duration) => world.clog(*broker, *duration),
        Fault::Quota(bytes) => world.limit(Some(*bytes)),
        Fault::CrashOver(api, when, lasts) => world.crash_over(*api, *when, *lasts),
        Fault::Strand(api, lasts) => world.strand(*api, *lasts),
    }
}

fn send_planned(world: &mut World, send: &PlannedSend) {
    let record = outgoing(world, send);
    world.send_from(send.client, record);
}

/// A planned send as it is handed over now.
pub(crate) fn outgoing(world: &World, send: &PlannedSend) -> Outgoing {
    let (partition, placed) = match send.place {
        Place::Named(partition) => (partition, Placed::BySender),
        Place::ByKey(partitions) => {
            let key = send.key.as_deref().unwrap_or_default();
            let right = (murmur2(key) & i32::MAX) % partitions;
            let defect = world.setting.defect;
            let chosen = defect.map_or(right, |it| it.on_partition(right, key, partitions));
            (chosen, Placed::ByKey { partitions })
        }
    };
    Outgoing {
        topic: Arc::clone(&send.topic),
        partition,
        placed,
        content: Content {
            timestamp_ms: world.wall_clock_ms(),
            key: send.key.clone(),
            value: send.value.clone(),
            headers: send.headers.clone(),
        },
    }
}

/// Takes steps out of a plan as long as it still fails, halves first and single ones last.
///
/// What is broken may change on the way, but some law of the first complaint stays broken.
#[must_use]
pub fn shrink(plan: &Plan) -> Plan {
    let first = run(plan).broken;
    let fails = |candidate: &Plan| {
        let again = run(candidate);
        let same = again.broken.iter().any(|law| first.contains(law));
        same || (first.is_empty() && again.complaint.is_some())
    };
    let mut smallest = plan.clone();
    let mut chunk = smallest.steps.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < smallest.steps.len() {
            let mut candidate = smallest.clone();
            let end = candidate.steps.len().min(at + chunk);
            candidate.steps.drain(at..end);
            if fails(&candidate) {
                smallest = candidate;
            } else {
                at += chunk;
            }
        }
        chunk /= 2;
    }
    smallest
}
