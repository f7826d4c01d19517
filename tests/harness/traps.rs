//! Misfortunes that wait for a request: its broker crashes over it, or it is late by itself.
//!
//! *Invariants*
//! 1. A trap springs once.
//! 2. A broker that crashed in a trap is started again when its time has come, unless the world was
//!    healed before.
//! 3. A stranded request arrives, though its sender may have given up its connection long ago.
//!
//! *Not here*: which are drawn (`draw_transactions.rs`).

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_mockbroker::engine::moves::Move;
use kafka_mockbroker::{Api, BrokerId};

use crate::capture;
use crate::link::LinkId;
use crate::world::World;

/// When a broker crashes over a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before it has done anything.
    Before,
    /// After it has done everything, and before its answer has left.
    After,
}

/// The traps of a world.
#[derive(Debug, Default)]
pub(crate) struct Traps {
    crashes: Vec<(Api, When, Duration)>,
    strands: Vec<(Api, Duration)>,
    revivals: BTreeSet<(Duration, i32)>,
}

impl Traps {
    /// When a broker is started again next.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.revivals.first().map(|(at, _)| *at)
    }
}

impl World {
    /// The broker that gets the next request of an API crashes, for a while.
    pub fn crash_over(&mut self, api: Api, when: When, lasts: Duration) {
        self.traps.crashes.push((api, when, lasts));
    }

    /// The next request of an API is late, and with it what is sent on the same link.
    pub fn strand(&mut self, api: Api, lasts: Duration) {
        self.traps.strands.push((api, lasts));
    }

    /// No trap is left.
    pub(crate) fn remove_traps(&mut self) {
        self.traps = Traps::default();
    }

    /// Whether the broker crashes over a request.
    pub(crate) fn spring(&mut self, link: LinkId, frame: &[u8], when: When) -> bool {
        let api = capture::api(frame);
        let crashes = &mut self.traps.crashes;
        let at = crashes
            .iter()
            .position(|(of, then, _)| (*of, *then) == (api, when));
        let Some(at) = at else {
            return false;
        };
        let (_, _, lasts) = crashes.remove(at);
        let broker = self.links.broker(link);
        self.note(format_args!("broker {broker} crashes over {api}, {when:?}"));
        self.cut(broker);
        self.make_move(Move::CrashBroker {
            broker: BrokerId(broker),
        });
        self.traps.revivals.insert((self.now + lasts, broker));
        true
    }

    /// What has just left is late, if it was to be.
    pub(crate) fn strand_if_wanted(&mut self, link: LinkId, api: Api) {
        let strands = &mut self.traps.strands;
        if let Some(at) = strands.iter().position(|(of, _)| *of == api) {
            let (_, lasts) = strands.remove(at);
            self.links.stall(link, self.now + lasts);
            self.note(format_args!("{api} on link {} is stranded", link.0));
        }
    }

    /// Brokers whose time has come are started again.
    pub(crate) fn revive(&mut self) {
        while let Some((at, broker)) = self.traps.revivals.first().copied()
            && at <= self.now
        {
            self.traps.revivals.pop_first();
            self.make_move(Move::RestartBroker {
                broker: BrokerId(broker),
            });
        }
    }
}
