//! What processes with transactional ids do in a world: they begin, send, end, are told, fail, are
//! killed and started again.
//!
//! *Invariants*
//! 1. A process learns of its transactions by the engine's answers alone, and believes them.
//! 2. One that can do nothing more is followed by another under its id, unless there is one.
//! 3. A planned defect of a caller is at work here, never in the engine.
//!
//! *Not here*: what a job's transactions are made of (`jobs.rs`), when what is planned comes
//! (`faults.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_producer::engine::effect::Input;
use kafka_producer::engine::transaction::{
    Ask, AskId, Certainty, Denied, Doors, GroupOffsets, Misuse,
};
use kafka_producer::wire::transactional::Decision;
use kafka_producer::{ConsumedOffset, ConsumerGroup};

use crate::client::{Client, SendNumber};
use crate::defect::Defect;
use crate::driving::Mailbox;
use crate::history::Ending;
use crate::history::transactions::{
    GroupOffset, Instance, OffsetSeen, Sum, TransactionOp, TransactionOutcome,
};
use crate::link::End;
use crate::worker::{
    InHand, Item, Job, PlannedTransaction, Predecessor, State, Task, Wish, Worker,
};
use crate::world::{ClientNumber, World};

/// The processes of a world, and what became of their transactions.
#[derive(Debug, Default)]
pub(crate) struct Workshop {
    pub(crate) workers: BTreeMap<ClientNumber, Worker>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) all: Vec<TransactionOp>,
    pub(crate) offsets_seen: Vec<OffsetSeen>,
    pub(crate) sums: Vec<Sum>,
    /// Ids under which a process is to be started, and when.
    starts: BTreeSet<(Duration, usize)>,
    asks: u64,
    /// What went wrong that no law knows.
    pub(crate) complaints: Vec<String>,
    /// Processes that go on to commit though their transaction failed: a defect.
    pub(crate) stubborn: BTreeSet<ClientNumber>,
}

impl Workshop {
    /// When something happens here next.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        let workers = self.workers.values().filter_map(Worker::acts_at);
        let starts = self.starts.first().map(|(at, _)| *at);
        workers.chain(starts).min()
    }

    /// Whether somebody has something to do.
    pub(crate) fn is_busy(&self) -> bool {
        !self.starts.is_empty() || self.workers.values().any(Worker::is_busy)
    }

    fn newest(&self, id: usize) -> Option<(ClientNumber, &Worker)> {
        let mut of_id = self.workers.iter().filter(|(_, worker)| worker.id == id);
        of_id.next_back().map(|(client, worker)| (*client, worker))
    }

    fn ask_id(&mut self) -> AskId {
        self.asks += 1;
        AskId(self.asks)
    }
}

impl World {
    /// Starts a process for each id.
    pub(crate) fn open_workshop(&mut self) {
        let count = self.setting.transactions.as_ref();
        let count = count.map_or(0, |transactions| transactions.jobs.len());
        for id in 0..count {
            self.start_process(id, VecDeque::new());
        }
    }

    /// A transaction is planned for every process of its id that lives.
    pub(crate) fn plan_transaction(&mut self, planned: &PlannedTransaction) {
        let workers = self.workshop.workers.values_mut();
        for worker in workers.filter(|worker| worker.id == planned.id && worker.lives()) {
            worker.to_do.push_back(planned.clone());
        }
    }

    /// One more transaction for whoever works under an id now.
    pub(crate) fn plan_for_newest(&mut self, planned: PlannedTransaction) {
        let newest = self.workshop.newest(planned.id).map(|(client, _)| client);
        if let Some(client) = newest {
            self.worker(client).to_do.push_back(planned);
        }
    }

    /// Another process is started under an id.
    pub(crate) fn replace_process(&mut self, id: usize, predecessor: Predecessor) {
        let old = self.workshop.newest(id).map(|(client, _)| client);
        let mut left = VecDeque::new();
        if let (Some(client), Predecessor::Killed) = (old, predecessor) {
            left = self.kill(client);
        }
        self.start_process(id, left);
    }

    /// Those that are due are started.
    fn start_due(&mut self) {
        while let Some((at, id)) = self.workshop.starts.first().copied()
            && at <= self.now
        {
            self.workshop.starts.pop_first();
            let newest = self.workshop.newest(id);
            if newest.is_none_or(|(_, worker)| !worker.lives()) {
                let left = newest.map(|(_, worker)| worker.to_do.clone());
                self.start_process(id, left.unwrap_or_default());
            }
        }
    }

    fn start_process(&mut self, id: usize, to_do: VecDeque<PlannedTransaction>) {
        let client = ClientNumber(self.clients.len());
        let Some(transactions) = &self.setting.transactions else {
            return;
        };
        let job = &transactions.jobs[id].1;
        let worker = Worker::new(id, job, to_do);
        let config = self.setting.engine_config_for(client.0, Some(id));
        let now = self.producer_now();
        let (batch_bytes, memory_bytes) = (self.setting.batch_bytes, self.setting.memory_bytes);
        let mut made = Client::new(config, batch_bytes, memory_bytes, now);
        made.doors = Doors::Shut(None);
        self.clients.push(made);
        self.mailboxes.push(Mailbox::default());
        self.workshop.workers.insert(client, worker);
        let instance = Instance {
            producer: u32::try_from(client.0).expect("a handful of producers"),
            id: transactions.name(id),
            asked_at: self.now,
            initialised_at: None,
        };
        self.note(format_args!(
            "process {} begins as {}",
            client.0, instance.id
        ));
        self.workshop.instances.push(instance);
        self.work(client);
        self.call(client);
    }

    /// A process ends at once: what it sent may still arrive, and nobody hears of anything.
    fn kill(&mut self, client: ClientNumber) -> VecDeque<PlannedTransaction> {
        self.note(format_args!("process {} is killed", client.0));
        let connections = std::mem::take(&mut self.clients[client.0].connections);
        for end in connections.into_values() {
            self.links.close(end.link, End::Client, self.now);
        }
        self.clients[client.0].die();
        let producer = u32::try_from(client.0).expect("a handful of producers");
        let open = self.sends.iter().enumerate();
        let open = open.filter(|(_, send)| send.producer == producer);
        let open = open.filter(|(_, send)| send.resolutions.is_empty());
        let open: Vec<usize> = open.map(|(number, _)| number).collect();
        for number in open {
            self.nobody_learns(number);
        }
        let Some(worker) = self.workshop.workers.get_mut(&client) else {
            return VecDeque::new();
        };
        worker.state = State::Gone;
        std::mem::take(&mut worker.to_do)
    }

    /// Processes whose time has come go on.
    pub(crate) fn work_if_due(&mut self) {
        if self.setting.transactions.is_none() {
            return;
        }
        self.start_due();
        let now = self.now;
        let due = self.workshop.workers.iter();
        let due = due.filter(|(_, worker)| worker.acts_at().is_some_and(|at| at <= now));
        let due: Vec<ClientNumber> = due.map(|(client, _)| *client).collect();
        for client in due {
            self.call(client);
        }
    }

    /// Lets a process do its next step; `false` if it waits.
    pub(crate) fn work(&mut self, client: ClientNumber) -> bool {
        let now = self.now;
        let Some(worker) = self.workshop.workers.get_mut(&client) else {
            return false;
        };
        if worker.acts_at().is_none_or(|at| at > now) {
            return false;
        }
        match worker.state {
            State::New => {
                let ask = self.ask(client, Ask::Initialise);
                self.enter(client, State::Initialising(ask));
            }
            State::Idle => match self.next_task(client) {
                Some(task) => {
                    let ask = self.ask(client, Ask::Begin);
                    self.worker(client).task = task;
                    self.enter(client, State::Beginning(ask));
                }
                None => return false,
            },
            _ => self.send_next(client),
        }
        true
    }

    /// The next record of the open transaction, or its end.
    fn send_next(&mut self, client: ClientNumber) {
        let failed = self.clients[client.0].doors != Doors::Open;
        let worker = self.workshop.workers.get_mut(&client).expect("it works");
        let item = worker.task.records.pop_front().filter(|_| !failed);
        worker.wakes_at = self.now + worker.task.pause;
        match item {
            Some(Item::Record(record)) => {
                worker.state = State::Sending(InHand::Record);
                let now = self.producer_now();
                self.clients[client.0].offer(record, now);
            }
            Some(Item::TooLarge(value)) => self.turn_down(client, value),
            None => self.send_offsets_or_end(client),
        }
    }

    /// A record is not accepted: its transaction cannot be committed any more.
    fn turn_down(&mut self, client: ClientNumber, value: Bytes) {
        self.note(format_args!("producer {} refuses {value:?}", client.0));
        if let Some(number) = self.worker(client).transaction {
            self.workshop.all[number].refused.push(value);
        }
        if self.setting.defect != Some(Defect::RefusalNotTold) {
            let reason = Arc::from("too large");
            self.hear(client, Input::RecordRefused { reason });
        }
    }

    fn send_offsets_or_end(&mut self, client: ClientNumber) {
        let worker = self.worker(client);
        let begun_by = worker.task.begun_by;
        let group = worker
            .task
            .offsets
            .first()
            .map(|one| Arc::clone(&one.group));
        if let Some(group) = group {
            let offsets = self.group_offsets(client, &group);
            let ask = self.ask(client, Ask::CommitOffsets { offsets, begun_by });
            return self.enter(client, State::SendingOffsets(ask));
        }
        self.end(client);
    }

    fn end(&mut self, client: ClientNumber) {
        let worker = self.worker(client);
        let begun_by = worker.task.begun_by;
        let decision = match worker.task.wish {
            Wish::Commit => Decision::Commit,
            Wish::Abort => Decision::Abort,
            Wish::Drop => {
                self.release(client);
                return self.told(client, TransactionOutcome::NotCommitted);
            }
        };
        if let (Decision::Commit, Some(number)) = (decision, worker.transaction) {
            self.workshop.all[number].commit_asked_at = Some(self.now);
        }
        let ask = self.ask(client, Ask::End { decision, begun_by });
        self.enter(client, State::Ending(ask, decision, self.now));
    }

    /// Nobody holds the transaction any more.
    fn release(&mut self, client: ClientNumber) {
        if let Some(begun_by) = self.worker(client).task.begun_by {
            self.ask(client, Ask::Release { begun_by });
        }
    }

    /// What a process asked is answered.
    pub(crate) fn answered(&mut self, client: ClientNumber, id: AskId, answer: Result<(), Denied>) {
        self.note(format_args!(
            "producer {} answers {id:?}: {answer:?}",
            client.0
        ));
        match (self.worker(client).state, answer) {
            (State::Initialising(ask), answer) if ask == id => self.initialised(client, answer),
            (State::Beginning(ask), answer) if ask == id => self.begun(client, id, answer),
            (State::SendingOffsets(ask), answer) if ask == id => match answer {
                Ok(()) => {
                    let worker = self.worker(client);
                    let offsets = std::mem::take(&mut worker.task.offsets);
                    if let Some(number) = worker.transaction {
                        self.workshop.all[number].offsets = offsets;
                    }
                    self.end(client);
                }
                Err(denied) => {
                    self.release(client);
                    self.told(client, TransactionOutcome::NotCommitted);
                    self.die_of(client, &denied);
                }
            },
            (State::Ending(ask, decision, asked_at), answer) if ask == id => {
                self.ended(client, (decision, asked_at), answer);
            }
            // Asked by who went on to something else.
            _ => {}
        }
    }

    fn initialised(&mut self, client: ClientNumber, answer: Result<(), Denied>) {
        match answer {
            Ok(()) => {
                let producer = u32::try_from(client.0).expect("a handful of producers");
                let now = self.now;
                let own = self.workshop.instances.iter_mut();
                own.filter(|one| one.producer == producer)
                    .for_each(|one| one.initialised_at = Some(now));
                self.enter(client, State::Idle);
                self.take_up_job(client);
            }
            Err(Denied::NotYet(_)) => {
                self.worker(client).wakes_at = self.now + RETRY_AFTER;
                self.enter(client, State::New);
            }
            Err(denied) => self.die_of(client, &denied),
        }
    }

    fn begun(&mut self, client: ClientNumber, id: AskId, answer: Result<(), Denied>) {
        if let Err(denied) = answer {
            // The next transaction asks again; this one is not done.
            self.worker(client).wakes_at = self.now + RETRY_AFTER;
            self.told(client, TransactionOutcome::NotCommitted);
            return self.die_of(client, &denied);
        }
        let number = self.workshop.all.len();
        let begun_at = self.now;
        let worker = self.worker(client);
        worker.task.begun_by = Some(id);
        worker.transaction = Some(number);
        let reads = std::mem::take(&mut worker.task.reads);
        self.workshop.all.push(TransactionOp {
            producer: u32::try_from(client.0).expect("a handful of producers"),
            begun_at,
            reads,
            refused: Vec::new(),
            offsets: Vec::new(),
            commit_asked_at: None,
            outcome: TransactionOutcome::Unknown,
            told_at: None,
        });
        self.enter(client, State::Sending(InHand::Nothing));
    }

    fn ended(
        &mut self,
        client: ClientNumber,
        (decision, asked_at): (Decision, Duration),
        answer: Result<(), Denied>,
    ) {
        let block_max = self.setting.transactions.as_ref();
        let block_max = block_max.map_or(Duration::MAX, |one| one.block_max);
        let defect = self.setting.defect;
        if defect == Some(Defect::CommitAfterFailure)
            && decision == Decision::Commit
            && matches!(answer, Err(Denied::Abortable(_)))
        {
            return self.commit_all_the_same(client);
        }
        let stubborn = self.workshop.stubborn.remove(&client);
        let certain = match (decision, &answer) {
            (Decision::Abort, Ok(())) if stubborn => TransactionOutcome::Committed,
            (Decision::Commit, Ok(())) => TransactionOutcome::Committed,
            (Decision::Commit, Err(Denied::Fatal(_, Certainty::Unknown))) => {
                TransactionOutcome::Unknown
            }
            _ => TransactionOutcome::NotCommitted,
        };
        let late = self.now > asked_at + block_max;
        let outcome = match defect {
            Some(Defect::UnansweredIsFailure) if late || certain == TransactionOutcome::Unknown => {
                TransactionOutcome::NotCommitted
            }
            _ => certain,
        };
        if matches!(answer, Err(Denied::Abortable(_))) {
            self.release(client);
        }
        self.told(client, outcome);
        if let Err(denied) = answer {
            self.die_of(client, &denied);
        }
    }

    /// A defect: the failed transaction is ended, and on the wire its abort becomes a commit.
    fn commit_all_the_same(&mut self, client: ClientNumber) {
        self.workshop.stubborn.insert(client);
        let begun_by = self.worker(client).task.begun_by;
        let decision = Decision::Abort;
        let ask = self.ask(client, Ask::End { decision, begun_by });
        self.enter(client, State::Ending(ask, decision, self.now));
    }

    /// How the open transaction ended, as far as its caller will ever know.
    fn told(&mut self, client: ClientNumber, outcome: TransactionOutcome) {
        let now = self.now;
        self.note(format_args!("process {} believes: {outcome:?}", client.0));
        if let Some(number) = self.worker(client).transaction.take() {
            let transaction = &mut self.workshop.all[number];
            transaction.outcome = outcome;
            transaction.told_at = Some(now);
        }
        self.remember(client, outcome);
        self.worker(client).task = Task::default();
        self.enter(client, State::Idle);
    }

    /// A process that was told that nothing more can be done ends; of anything else that is denied
    /// it goes on.
    fn die_of(&mut self, client: ClientNumber, denied: &Denied) {
        if let Denied::Misuse(misuse) = denied
            && *misuse != Misuse::Aborting
        {
            let complaint = format!("process {} was told {misuse:?}", client.0);
            self.workshop.complaints.push(complaint);
        }
        let Denied::Fatal(failure, _) = denied else {
            return;
        };
        self.note(format_args!(
            "process {} ends: {:?}",
            client.0, failure.kind
        ));
        self.enter(client, State::Dead);
        let id = self.worker(client).id;
        let newest = self.workshop.newest(id).map(|(newest, _)| newest);
        if newest == Some(client) {
            let at = self.now + RESTARTED_AFTER;
            self.workshop.starts.insert((at, id));
        }
    }

    /// Doors open or shut; what waits before shut ones is refused.
    pub(crate) fn set_doors(&mut self, client: ClientNumber, doors: Doors) {
        let shut = doors != Doors::Open;
        let now = self.producer_now();
        let left = self.clients[client.0].set_doors(doors, now);
        if let (true, Some(record)) = (shut, left) {
            let worker = self.worker(client);
            worker.state = State::Sending(InHand::Nothing);
            if let Some(number) = worker.transaction {
                self.workshop.all[number].refused.push(record.content.value);
            }
        }
    }

    /// A record was accepted: by which transaction's process.
    pub(crate) fn transaction_of(&mut self, client: ClientNumber) -> Option<usize> {
        let worker = self.workshop.workers.get_mut(&client)?;
        worker.state = State::Sending(InHand::Nothing);
        worker.transaction
    }

    fn ask(&mut self, client: ClientNumber, ask: Ask) -> AskId {
        let id = self.workshop.ask_id();
        self.note(format_args!("process {} asks {id:?}: {ask:?}", client.0));
        self.hear(client, Input::Asked { id, ask });
        id
    }

    fn enter(&mut self, client: ClientNumber, state: State) {
        self.worker(client).state = state;
    }

    pub(crate) fn worker(&mut self, client: ClientNumber) -> &mut Worker {
        let worker = self.workshop.workers.get_mut(&client);
        worker.expect("it has a transactional id")
    }

    /// Nobody will ever learn what became of a send.
    fn nobody_learns(&mut self, send: usize) {
        let ending = Ending::Unknown("its process was killed".into());
        self.resolve(SendNumber(send), ending);
    }

    fn group_offsets(&mut self, client: ClientNumber, group: &Arc<str>) -> Arc<GroupOffsets> {
        let offsets = self.worker(client).task.offsets.iter();
        let consumed = |one: &GroupOffset| {
            let GroupOffset {
                partition, offset, ..
            } = one;
            let topic = Arc::clone(&partition.topic);
            ConsumedOffset::next(topic, partition.number, *offset)
        };
        let offsets = offsets.map(consumed).collect();
        let group = ConsumerGroup::new(Arc::clone(group));
        Arc::new(GroupOffsets::new(group, offsets))
    }

    /// Whether something that was planned is not done, or a send is open.
    pub(crate) fn is_at_work(&mut self) -> bool {
        self.workshop.is_busy() || self.open_count() > 0 || !self.has_copied_all()
    }

    /// What went wrong that no law knows.
    pub(crate) fn complaint(&self) -> Option<String> {
        let left = self.workshop.is_busy().then(|| {
            let workers = &self.workshop.workers;
            let busy = workers.iter().filter(|(_, worker)| worker.is_busy());
            let busy: Vec<_> = busy
                .map(|(client, worker)| (client.0, worker.state))
                .collect();
            format!("processes still work: {busy:?}")
        });
        self.workshop.complaints.first().cloned().or(left)
    }

    /// The job of a process.
    pub(crate) fn job(&self, client: ClientNumber) -> Option<&Job> {
        let worker = self.workshop.workers.get(&client)?;
        let transactions = self.setting.transactions.as_ref()?;
        Some(&transactions.jobs.get(worker.id)?.1)
    }
}

/// After which another process is started in place of one that ended.
const RESTARTED_AFTER: Duration = Duration::from_millis(500);
/// After which a process asks again for its producer id.
const RETRY_AFTER: Duration = Duration::from_millis(100);
