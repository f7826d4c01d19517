//! What the transactions of a job are made of: planned records, copies of what was read, transfers
//! between accounts.
//!
//! *Invariants*
//! 1. A job reads what a consumer of committed records was given, and the offsets that its group
//!    has committed; it believes its own transactions only once it was told that they count.
//!
//! *Not here*: begin and end (`working.rs`), the consumer (`readers.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::client::Outgoing;
use crate::faults::outgoing;
use crate::history::transactions::{Copying, GroupOffset, OffsetSeen, Sum, TransactionOutcome};
use crate::history::{Content, LogEntry, Partition, Placed};
use crate::worker::{Item, Job, PlannedTransaction, Task, Wish, Work};
use crate::world::{ClientNumber, World};

/// What an account holds at first.
pub(crate) const OPENING_BALANCE: i64 = 100;
/// Where balances are written, by account.
pub(crate) const ACCOUNTS: &str = "accounts";

impl World {
    /// The next transaction of a process, if there is one.
    pub(crate) fn next_task(&mut self, client: ClientNumber) -> Option<Task> {
        match self.job(client)?.clone() {
            Job::Copy(copying) => self.next_copy(client, &copying),
            Job::Planned | Job::Bank(_) => {
                let planned = self.worker(client).to_do.pop_front()?;
                Some(self.as_planned(client, planned))
            }
        }
    }

    /// A process that has just begun looks at where its work stands.
    pub(crate) fn take_up_job(&mut self, client: ClientNumber) {
        if let Some(Job::Bank(accounts)) = self.job(client) {
            let balances = self.add_up(*accounts);
            self.worker(client).memory.balances = Some(balances);
        }
    }

    /// A process keeps in mind how its transaction ended.
    pub(crate) fn remember(&mut self, client: ClientNumber, outcome: TransactionOutcome) {
        let worker = self.worker(client);
        if outcome == TransactionOutcome::Committed {
            let changed = std::mem::take(&mut worker.task.balances);
            if let Some(balances) = &mut worker.memory.balances {
                balances.extend(changed);
            }
        } else {
            // What was read is read again, from where the group stands.
            worker.memory.positions.clear();
        }
    }

    fn as_planned(&mut self, client: ClientNumber, planned: PlannedTransaction) -> Task {
        let task = Task {
            pause: planned.pause,
            wish: planned.wish,
            ..Task::default()
        };
        match planned.work {
            Work::Records(sends, too_large) => {
                let mut records: Vec<Item> = Vec::new();
                for (at, mut send) in sends.into_iter().enumerate() {
                    // Two processes may do the same work.
                    let value = String::from_utf8_lossy(&send.value);
                    send.value = format!("{}/{value}", client.0).into();
                    records.push(match too_large == Some(at) {
                        true => Item::TooLarge(send.value),
                        false => Item::Record(outgoing(self, &send)),
                    });
                }
                Task {
                    records: records.into(),
                    ..task
                }
            }
            Work::Transfer { from, to, amount } => {
                self.transfer(client, ((from, -amount), (to, amount)), task)
            }
        }
    }

    /// New balances of two accounts.
    fn transfer(
        &mut self,
        client: ClientNumber,
        (from, to): ((usize, i64), (usize, i64)),
        mut task: Task,
    ) -> Task {
        let count = self.workshop.all.len();
        let timestamp_ms = self.wall_clock_ms();
        let partitions = self.partitions_of(ACCOUNTS);
        let balances = self.worker(client).memory.balances.clone();
        let balances = balances.unwrap_or_default();
        for (account, change) in [from, to] {
            let known = balances.get(&account);
            let balance = known.map_or(OPENING_BALANCE, |(balance, _)| *balance) + change;
            task.reads.extend(known.map(|(_, value)| value.clone()));
            let value = format!("{balance} {}/{count}/{account}", client.0);
            let value = Bytes::from(value);
            let number = i32::try_from(account).expect("a handful of accounts");
            task.balances.insert(account, (balance, value.clone()));
            task.records.push_back(Item::Record(Outgoing {
                topic: ACCOUNTS.into(),
                partition: number % partitions,
                placed: Placed::BySender,
                content: Content {
                    timestamp_ms,
                    key: Some(Bytes::from(account.to_string())),
                    value,
                    headers: Vec::new(),
                },
            }));
        }
        task
    }

    /// What accounts hold, as a consumer has read it; the opening balance is written nowhere.
    pub(crate) fn add_up(&mut self, accounts: usize) -> BTreeMap<usize, (i64, Bytes)> {
        self.read_stable();
        let mut balances = BTreeMap::new();
        let logs = self.readers.stable();
        let logs = logs.filter(|(partition, _)| &*partition.topic == ACCOUNTS);
        for entry in logs.flat_map(|(_, entries)| entries) {
            let Content { key, value, .. } = &entry.content;
            let text = String::from_utf8_lossy(value);
            let balance = text.split(' ').next().and_then(|one| one.parse().ok());
            let account = key.as_deref().map(String::from_utf8_lossy);
            let account = account.and_then(|one| one.parse().ok());
            if let (Some(account), Some(balance)) = (account, balance) {
                balances.insert(account, (balance, value.clone()));
            }
        }
        let written: i64 = balances.values().map(|(balance, _)| *balance).sum();
        let unwritten = i64::try_from(accounts - balances.len()).expect("a handful");
        let all = i64::try_from(accounts).expect("a handful");
        self.workshop.sums.push(Sum {
            at: self.now,
            found: written + unwritten * OPENING_BALANCE,
            right: all * OPENING_BALANCE,
        });
        balances
    }

    /// A few records that the group has not read yet; nothing while there are none.
    fn next_copy(&mut self, client: ClientNumber, copying: &Copying) -> Option<Task> {
        self.read_stable();
        let mut task = Task {
            wish: Wish::Commit,
            pause: PAUSE,
            ..Task::default()
        };
        for number in 0..self.partitions_of(&copying.from) {
            let partition = Partition {
                topic: Arc::clone(&copying.from),
                number,
            };
            let Some(position) = self.position(client, copying, &partition) else {
                continue;
            };
            let fresh = self.readers.stable_from(&partition, position);
            let fresh: Vec<LogEntry> = fresh.take(COPIED_AT_ONCE).cloned().collect();
            for original in &fresh {
                let copy = self.copy(client, copying, (number, original));
                task.records.push_back(Item::Record(copy));
                task.reads.push(original.content.value.clone());
            }
            if let Some(last) = fresh.last() {
                let offset = last.offset + 1;
                let positions = &mut self.worker(client).memory.positions;
                positions.insert(partition.clone(), offset);
                task.offsets.push(GroupOffset {
                    group: Arc::clone(&copying.group),
                    partition,
                    offset,
                });
            }
        }
        if task.records.is_empty() {
            self.worker(client).wakes_at = self.now + POLLED_AFTER;
            return None;
        }
        Some(task)
    }

    fn copy(
        &mut self,
        client: ClientNumber,
        copying: &Copying,
        (partition, original): (i32, &LogEntry),
    ) -> Outgoing {
        let count = self.workshop.all.len();
        let value = String::from_utf8_lossy(&original.content.value).into_owned();
        let value = format!("copy {}/{count} of {value}", client.0);
        Outgoing {
            topic: Arc::clone(&copying.to),
            partition,
            placed: Placed::BySender,
            content: Content {
                timestamp_ms: self.wall_clock_ms(),
                key: Some(original.content.value.clone()),
                value: value.into(),
                headers: Vec::new(),
            },
        }
    }

    /// From where a process reads on; nothing while a transaction may still change that.
    fn position(
        &mut self,
        client: ClientNumber,
        copying: &Copying,
        partition: &Partition,
    ) -> Option<i64> {
        let known = self.worker(client).memory.positions.get(partition);
        if let Some(known) = known {
            return Some(*known);
        }
        let place = (Arc::clone(&partition.topic), partition.number);
        let offsets = self.cluster.cluster().groups().offsets();
        if offsets.is_unstable(&copying.group, &place) {
            return None;
        }
        let committed = offsets.find(&copying.group, &place);
        let offset = committed.map_or(0, |committed| committed.offset);
        self.workshop.offsets_seen.push(OffsetSeen {
            at: self.now,
            offset: GroupOffset {
                group: Arc::clone(&copying.group),
                partition: partition.clone(),
                offset,
            },
        });
        let positions = &mut self.worker(client).memory.positions;
        positions.insert(partition.clone(), offset);
        Some(offset)
    }

    /// What is copied, if something is.
    pub(crate) fn copying(&self) -> Option<&Copying> {
        let transactions = self.setting.transactions.as_ref()?;
        transactions.jobs.iter().find_map(|(_, job)| match job {
            Job::Copy(copying) => Some(copying),
            Job::Planned | Job::Bank(_) => None,
        })
    }

    /// Whether everything that can be read has been copied, as far as the group says.
    pub(crate) fn has_copied_all(&mut self) -> bool {
        self.read_stable();
        let Some(copying) = self.copying() else {
            return true;
        };
        let offsets = self.cluster.cluster().groups().offsets();
        (0..self.partitions_of(&copying.from)).all(|number| {
            let partition = Partition {
                topic: Arc::clone(&copying.from),
                number,
            };
            let place = (Arc::clone(&copying.from), number);
            let committed = offsets.find(&copying.group, &place);
            let offset = committed.map_or(0, |committed| committed.offset);
            self.readers
                .stable_from(&partition, offset)
                .next()
                .is_none()
        })
    }

    /// Looks at the end of a run at all that jobs have left.
    pub(crate) fn take_stock(&mut self) {
        self.read_stable();
        let jobs = self.setting.transactions.as_ref();
        let jobs = jobs.map_or(Vec::new(), |one| one.jobs.clone());
        for (_, job) in jobs {
            match job {
                Job::Bank(accounts) => drop(self.add_up(accounts)),
                Job::Copy(copying) => self.see_offsets(&copying),
                Job::Planned => {}
            }
        }
    }

    fn see_offsets(&mut self, copying: &Copying) {
        for number in 0..self.partitions_of(&copying.from) {
            let place = (Arc::clone(&copying.from), number);
            let offsets = self.cluster.cluster().groups().offsets();
            let committed = offsets.find(&copying.group, &place);
            self.workshop.offsets_seen.push(OffsetSeen {
                at: self.now,
                offset: GroupOffset {
                    group: Arc::clone(&copying.group),
                    partition: Partition {
                        topic: Arc::clone(&copying.from),
                        number,
                    },
                    offset: committed.map_or(0, |committed| committed.offset),
                },
            });
        }
    }

    fn partitions_of(&self, topic: &str) -> i32 {
        let topics = self.setting.topics.iter();
        let mut found = topics.filter(|(name, _, _)| *name == topic);
        found.next().map_or(1, |(_, partitions, _)| *partitions)
    }
}

/// Records of a partition in one transaction of a copy.
const COPIED_AT_ONCE: usize = 3;
/// Between the steps of a copy.
const PAUSE: Duration = Duration::from_millis(5);
/// After which a copy looks again whether there is something to read.
const POLLED_AFTER: Duration = Duration::from_millis(200);
