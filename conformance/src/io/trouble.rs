//! What goes wrong on the way between a client and its brokers, and how often.
//!
//! *Invariants*
//! 1. As much goes wrong as was to, however many connections there are.
//! 2. What a seed decides, it decides by the order in which requests or replies come by.
//!
//! *Not here*: carrying it out (`proxy.rs`).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

use crate::wire::Request;
use crate::wire::answer::{InitProducerId, Metadata};
use crate::wire::produce::Produce;

/// What goes wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// Nothing; what passes is counted.
    None,
    /// The first reply to Produce is lost, whole, and its connection ended.
    FirstReplyLost,
    /// The first reply of this API is lost, whole, and its connection ended.
    ReplyLost(i16),
    /// Of every so many replies, to whichever API, the first half arrives, and its connection is
    /// ended.
    EveryReplyCut(u64),
    /// Of a hundred replies to Produce so many are lost, and their connections ended.
    RepliesLost {
        /// Of a hundred.
        percent: u8,
        /// Which.
        seed: u64,
    },
    /// So many replies to Produce never arrive, nor anything after them on their connections,
    /// which stay open.
    RepliesKept(u64),
    /// Half of so many Produce requests arrives, and their connections are reset.
    RequestsCut(u64),
    /// So many Produce requests do not arrive, nor anything after them on their connections, which
    /// stay open.
    RequestsSwallowed(u64),
    /// The requests and replies of Produce meet all of the above, each so often of a hundred.
    Many {
        /// Of a hundred.
        percent: u8,
        /// Which.
        seed: u64,
    },
    /// Of a hundred Produce requests, and of a hundred replies to them, so many are lost: half of
    /// the request arrives, or the reply does not, and the connection is ended.
    Lossy {
        /// Replies of a hundred.
        replies: u8,
        /// Requests of a hundred.
        requests: u8,
        /// Which.
        seed: u64,
    },
    /// The first request of this API is held, and what comes behind it on its connection, until it
    /// is let go: whoever asked may be gone by then.
    Held(i16),
    /// So many replies of this API never arrive, nor anything after them on their connections,
    /// which stay open.
    Unanswered {
        /// The API.
        api_key: i16,
        /// How many.
        count: u64,
    },
    /// The first producer id that is given is said to have this epoch.
    FirstEpoch(i16),
    /// So many answers to Metadata tell the client to begin anew with its bootstrap addresses
    /// (KIP-1102); answers of versions that cannot say it pass.
    Rebootstraps(u64),
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RequestFate {
    Passes,
    /// Half of it arrives, both ends are reset.
    Cut,
    /// It does not arrive, nor does what comes behind it.
    Swallowed,
    /// It arrives when it is let go.
    Held,
}

/// What becomes of a reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ReplyFate {
    Passes,
    /// Half of it arrives, both ends are closed.
    Cut,
    /// Nothing of it arrives, both ends are closed.
    Lost,
    /// It does not arrive, nor does what comes behind it.
    Kept,
}

/// The trouble on one path.
#[derive(Debug)]
pub(super) struct Troubles {
    state: Mutex<State>,
}

/// What becomes of an answer that is remembered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Memory {
    Kept,
    Told,
}

#[derive(Debug)]
struct State {
    trouble: Trouble,
    random: fastrand::Rng,
    /// Requests or replies that could have been hit by now.
    candidates: u64,
    hits: u64,
    /// Requests by API.
    asked: BTreeMap<i16, u64>,
    /// The last answer to Metadata that passed, and its version.
    last: Option<(i16, Bytes)>,
    /// One that may be told again.
    remembered: Option<(i16, Bytes)>,
    memory: Memory,
    replays: u64,
}

impl Troubles {
    pub(super) fn new(trouble: Trouble) -> Self {
        Self {
            state: Mutex::new(State {
                trouble,
                random: random(trouble),
                candidates: 0,
                hits: 0,
                asked: BTreeMap::new(),
                last: None,
                remembered: None,
                memory: Memory::Kept,
                replays: 0,
            }),
        }
    }

    /// Something else goes wrong from now on.
    pub(super) fn begin(&self, trouble: Trouble) {
        let mut state = self.state();
        state.trouble = trouble;
        state.random = random(trouble);
        (state.candidates, state.hits) = (0, 0);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing goes wrong any more.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.trouble = Trouble::None;
        state.memory = Memory::Kept;
    }

    pub(super) fn hits(&self) -> u64 {
        self.state().hits
    }

    pub(super) fn asked(&self, api_key: i16) -> u64 {
        self.state()
            .asked
            .get(&api_key)
            .copied()
            .unwrap_or_default()
    }

    /// Keeps the last answer to Metadata.
    pub(super) fn remember_metadata(&self) {
        let mut state = self.state();
        state.remembered = state.last.clone();
    }

    /// From now on Metadata is answered with what was kept.
    pub(super) fn replay_metadata(&self) {
        self.state().memory = Memory::Told;
    }

    pub(super) fn replays(&self) -> u64 {
        self.state().replays
    }

    pub(super) fn on_request(&self, api_key: i16) -> RequestFate {
        let mut state = self.state();
        *state.asked.entry(api_key).or_default() += 1;
        let trouble = state.trouble;
        if trouble == Trouble::Held(api_key) && state.hits == 0 {
            state.hits += 1;
            return RequestFate::Held;
        }
        if api_key != Produce::API_KEY {
            return RequestFate::Passes;
        }
        let fate = match trouble {
            Trouble::RequestsCut(count) if state.hits < count => RequestFate::Cut,
            Trouble::RequestsSwallowed(count) if state.hits < count => RequestFate::Swallowed,
            Trouble::Many { percent, .. } => match state.draw(percent) {
                Some(kind) if kind < 64 => RequestFate::Cut,
                _ => RequestFate::Passes,
            },
            Trouble::Lossy { requests, .. } if state.draw(requests).is_some() => RequestFate::Cut,
            _ => RequestFate::Passes,
        };
        state.count(fate != RequestFate::Passes);
        fate
    }

    pub(super) fn on_reply(&self, api_key: i16) -> ReplyFate {
        let mut state = self.state();
        match state.trouble {
            Trouble::Unanswered {
                api_key: unanswered,
                count,
            } if unanswered == api_key && state.hits < count => {
                state.hits += 1;
                return ReplyFate::Kept;
            }
            Trouble::ReplyLost(lost) if lost == api_key && state.hits == 0 => {
                state.hits += 1;
                return ReplyFate::Lost;
            }
            Trouble::Unanswered { .. } | Trouble::Held(_) | Trouble::ReplyLost(_) => {
                return ReplyFate::Passes;
            }
            _ => {}
        }
        let produced = api_key == Produce::API_KEY;
        if !produced && !matches!(state.trouble, Trouble::EveryReplyCut(_)) {
            return ReplyFate::Passes;
        }
        state.candidates += 1;
        let trouble = state.trouble;
        let fate = match trouble {
            Trouble::FirstReplyLost if state.hits == 0 => ReplyFate::Lost,
            Trouble::EveryReplyCut(count) if state.candidates.is_multiple_of(count) => {
                ReplyFate::Cut
            }
            Trouble::RepliesLost { percent, .. } if state.draw(percent).is_some() => {
                ReplyFate::Lost
            }
            Trouble::Lossy { replies, .. } if state.draw(replies).is_some() => ReplyFate::Lost,
            Trouble::RepliesKept(count) if state.hits < count => ReplyFate::Kept,
            Trouble::Many { percent, .. } => match state.draw(percent) {
                Some(..64) => ReplyFate::Cut,
                Some(_) => ReplyFate::Lost,
                None => ReplyFate::Passes,
            },
            _ => ReplyFate::Passes,
        };
        state.count(fate != ReplyFate::Passes);
        fate
    }

    /// What a client gets in place of an answer.
    pub(super) fn change(&self, api_key: i16, version: i16, frame: Bytes) -> Bytes {
        let mut state = self.state();
        match (api_key, state.trouble) {
            (Metadata::API_KEY, Trouble::Rebootstraps(count))
                if state.hits < count && version >= CODE_OF_METADATA_FROM =>
            {
                state.hits += 1;
                with_last_code(&frame, REBOOTSTRAP_REQUIRED)
            }
            (Metadata::API_KEY, _) => state.tell_metadata(version, frame),
            (InitProducerId::API_KEY, Trouble::FirstEpoch(epoch)) if state.hits == 0 => {
                state.hits += 1;
                with_epoch(version, &frame, epoch)
            }
            _ => frame,
        }
    }
}

fn random(trouble: Trouble) -> fastrand::Rng {
    fastrand::Rng::with_seed(match trouble {
        Trouble::RepliesLost { seed, .. }
        | Trouble::Many { seed, .. }
        | Trouble::Lossy { seed, .. } => seed,
        _ => 0,
    })
}

impl State {
    fn count(&mut self, is_hit: bool) {
        self.hits += u64::from(is_hit);
    }

    /// Whether something goes wrong now, and if so a number that says what.
    fn draw(&mut self, percent: u8) -> Option<u8> {
        let (drawn, kind) = (self.random.u8(..100), self.random.u8(..));
        (drawn < percent).then_some(kind)
    }

    fn tell_metadata(&mut self, version: i16, frame: Bytes) -> Bytes {
        if self.memory == Memory::Told
            && let Some((of_version, old)) = &self.remembered
            && *of_version == version
            && let (Some(number), Some(rest)) = (frame.get(..4), old.get(4..))
        {
            self.replays += 1;
            return [number, rest].concat().into();
        }
        self.last = Some((version, frame.clone()));
        frame
    }
}

/// An answer to InitProducerId with another epoch.
fn with_epoch(version: i16, frame: &[u8], epoch: i16) -> Bytes {
    let tags = usize::from(version >= InitProducerId::FLEXIBLE_FROM);
    // Correlation id, tags, throttle time, code, producer id.
    let at = 4 + tags + 4 + 2 + 8;
    let mut changed = BytesMut::from(frame);
    if let Some(place) = changed.get_mut(at..at + 2) {
        place.copy_from_slice(&epoch.to_be_bytes());
    }
    changed.freeze()
}

/// The first version whose answer ends with a code of its own.
const CODE_OF_METADATA_FROM: i16 = 13;
const REBOOTSTRAP_REQUIRED: i16 = 129;

/// An answer whose last field, before empty tags, is another code.
fn with_last_code(frame: &[u8], code: i16) -> Bytes {
    let mut changed = BytesMut::from(frame);
    if let Some(at) = changed.len().checked_sub(3) {
        changed[at..at + 2].copy_from_slice(&code.to_be_bytes());
    }
    changed.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCE: i16 = Produce::API_KEY;

    #[test]
    fn every_fiftieth_reply_is_cut_whatever_it_answers() {
        let troubles = Troubles::new(Trouble::EveryReplyCut(50));
        let fates = (1..=100).map(|number| troubles.on_reply(number % 4));
        let cut: Vec<usize> = (1..)
            .zip(fates)
            .filter(|(_, fate)| *fate == ReplyFate::Cut)
            .map(|(number, _)| number)
            .collect();
        assert_eq!((cut, troubles.hits()), (vec![50, 100], 2));
    }

    #[test]
    fn so_many_requests_are_swallowed_and_no_more() {
        let troubles = Troubles::new(Trouble::RequestsSwallowed(2));
        assert_eq!(troubles.on_request(3), RequestFate::Passes);
        let fates = [(); 4].map(|()| troubles.on_request(PRODUCE));
        let (lost, passed) = (RequestFate::Swallowed, RequestFate::Passes);
        assert_eq!(fates, [lost, lost, passed, passed]);
        assert_eq!((troubles.asked(3), troubles.asked(PRODUCE)), (1, 4));
    }

    #[test]
    fn the_first_request_of_an_api_is_held_and_replies_of_one_stay_away() {
        let troubles = Troubles::new(Trouble::Held(26));
        let fates = [PRODUCE, 26, 26].map(|api_key| troubles.on_request(api_key));
        let (held, passed) = (RequestFate::Held, RequestFate::Passes);
        assert_eq!(fates, [passed, held, passed]);
        assert_eq!(troubles.on_reply(26), ReplyFate::Passes);
        troubles.begin(Trouble::Unanswered {
            api_key: 26,
            count: 1,
        });
        let fates = [PRODUCE, 26, 26].map(|api_key| troubles.on_reply(api_key));
        let (kept, passed) = (ReplyFate::Kept, ReplyFate::Passes);
        assert_eq!(fates, [passed, kept, passed]);
        assert_eq!(troubles.hits(), 1);
    }

    #[test]
    fn about_a_tenth_of_replies_is_lost_and_a_seed_says_which() {
        let trouble = Trouble::RepliesLost {
            percent: 10,
            seed: 7,
        };
        let fates = || {
            let troubles = Troubles::new(trouble);
            let fates: Vec<_> = (0..1_000).map(|_| troubles.on_reply(PRODUCE)).collect();
            (fates, troubles.hits())
        };
        let (first, hits) = fates();
        assert_eq!(first, fates().0);
        assert!((70..130).contains(&hits), "{hits} of a thousand");
    }

    #[test]
    fn what_has_ended_hits_nobody() {
        let troubles = Troubles::new(Trouble::RepliesKept(9));
        assert_eq!(troubles.on_reply(PRODUCE), ReplyFate::Kept);
        troubles.end();
        assert_eq!(troubles.on_reply(PRODUCE), ReplyFate::Passes);
        assert_eq!(troubles.hits(), 1);
    }

    #[test]
    fn metadata_is_told_as_it_was_under_the_new_number() {
        let troubles = Troubles::new(Trouble::None);
        let tell = |frame: &'static [u8]| troubles.change(3, 12, Bytes::from_static(frame));
        tell(b"\0\0\0\x01old");
        troubles.remember_metadata();
        troubles.replay_metadata();
        assert_eq!(&tell(b"\0\0\0\x02new")[..], b"\0\0\0\x02old");
        troubles.end();
        assert_eq!(&tell(b"\0\0\0\x03new")[..], b"\0\0\0\x03new");
        assert_eq!(troubles.replays(), 1);
    }

    #[test]
    fn metadata_tells_to_begin_anew_so_many_times() {
        let troubles = Troubles::new(Trouble::Rebootstraps(1));
        let frame = Bytes::from_static(b"\0\0\0\x01brokers\0\0\0");
        let told = troubles.change(Metadata::API_KEY, 13, frame.clone());
        assert_eq!(&told[..], b"\0\0\0\x01brokers\0\x81\0");
        assert_eq!(troubles.change(Metadata::API_KEY, 13, frame.clone()), frame);
    }

    #[test]
    fn the_first_epoch_is_another_and_the_second_is_not() {
        let troubles = Troubles::new(Trouble::FirstEpoch(32_766));
        let frame = Bytes::from_static(&[0; 22]);
        let told = troubles.change(InitProducerId::API_KEY, 4, frame.clone());
        assert_eq!(told[19..21], 32_766_i16.to_be_bytes());
        assert_eq!(
            troubles.change(InitProducerId::API_KEY, 4, frame.clone()),
            frame
        );
    }
}
