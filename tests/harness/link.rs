//! The network between clients and brokers as a value: what is on its way, and when it arrives.
//!
//! *State* of each end of a link:
//!
//! ```text
//!          Opened arrives            close, cut, Closed arrives
//! Opening ────────────────▶ Open ──────────────────────────────▶ Gone
//!    └──────────── refused, cut ──────────────────────────────────▲
//! ```
//!
//! *Invariants*
//! 1. What is sent on a link in one direction arrives in that order, as on a TCP connection.
//! 2. Two arrivals at one instant keep the order in which they were sent: the same calls and the
//!    same seed give the same run.
//! 3. Nothing arrives at an end that is gone.
//! 4. An end that closes lets what it sent before arrive; a cut loses everything on its way.
//!
//! *Not here*: what a frame holds, who drives the ends (`world.rs`), broken bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

/// A link's number; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// One of a link's two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// Who opened it.
    Client,
    /// Who was called.
    Broker,
}

impl End {
    /// The end that sees what this one sends.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Broker,
            Self::Broker => Self::Client,
        }
    }
}

/// What arrives at an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arriving {
    /// The link stands, seen from this end.
    Opened,
    /// Nobody listens there; only clients see it.
    Refused,
    /// Bytes, as they were given to [`Links::send`].
    Frame(Bytes),
    /// The other end, or the network, ended the link.
    Closed,
}

/// An arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// On which link.
    pub link: LinkId,
    /// At which end.
    pub end: End,
    /// What.
    pub what: Arriving,
}

/// How long things are on their way.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// At least.
    pub min: Duration,
    /// At most.
    pub max: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndState {
    Opening,
    Open,
    Gone,
}

#[derive(Debug)]
struct Side {
    state: EndState,
    /// Nothing arrives earlier than this: what went before, or the end of a stall.
    not_before: Duration,
}

#[derive(Debug)]
struct Link {
    broker: i32,
    client_side: Side,
    broker_side: Side,
}

impl Link {
    fn side(&mut self, end: End) -> &mut Side {
        match end {
            End::Client => &mut self.client_side,
            End::Broker => &mut self.broker_side,
        }
    }
}

/// All links of a world.
#[derive(Debug)]
pub struct Links {
    latency: Latency,
    random: fastrand::Rng,
    links: BTreeMap<LinkId, Link>,
    on_the_way: BTreeMap<(Duration, u64), Arrival>,
    sent_count: u64,
}

impl Links {
    /// A network without links.
    #[must_use]
    pub fn new(latency: Latency, seed: u64) -> Self {
        Self {
            latency,
            random: fastrand::Rng::with_seed(seed),
            links: BTreeMap::new(),
            on_the_way: BTreeMap::new(),
            sent_count: 0,
        }
    }

    /// Opens a link to a broker: it arrives there, then the client learns of it.
    pub fn open(&mut self, broker: i32, now: Duration) -> LinkId {
        let link = self.add(broker, now);
        let called_at = now + self.draw_latency();
        self.schedule(
            called_at,
            Arrival {
                link,
                end: End::Broker,
                what: Arriving::Opened,
            },
        );
        let answered_at = called_at + self.draw_latency();
        self.schedule(
            answered_at,
            Arrival {
                link,
                end: End::Client,
                what: Arriving::Opened,
            },
        );
        link
    }

    /// Calls where nobody listens.
    pub fn open_refused(&mut self, broker: i32, now: Duration) -> LinkId {
        let link = self.add(broker, now);
        self.side(link, End::Broker).state = EndState::Gone;
        let answered_at = now + self.draw_latency() + self.draw_latency();
        self.schedule(
            answered_at,
            Arrival {
                link,
                end: End::Client,
                what: Arriving::Refused,
            },
        );
        link
    }

    /// Sends bytes to an end; the other one is the sender.
    pub fn send(&mut self, link: LinkId, to: End, frame: Bytes, now: Duration) {
        let at = now + self.draw_latency();
        self.schedule(
            at,
            Arrival {
                link,
                end: to,
                what: Arriving::Frame(frame),
            },
        );
    }

    /// One end closes: what it sent still arrives, then the other end sees the close.
    pub fn close(&mut self, link: LinkId, by: End, now: Duration) {
        if self.side(link, by).state == EndState::Gone {
            return;
        }
        self.side(link, by).state = EndState::Gone;
        let at = now + self.draw_latency();
        self.schedule(
            at,
            Arrival {
                link,
                end: by.other(),
                what: Arriving::Closed,
            },
        );
    }

    /// Everything on its way is lost, and both ends that still stand see the close now.
    pub fn cut(&mut self, link: LinkId, now: Duration) {
        self.on_the_way.retain(|_, arrival| arrival.link != link);
        for end in [End::Broker, End::Client] {
            if self.side(link, end).state != EndState::Gone {
                // A client that was still opening learns that it failed.
                let what = match self.side(link, end).state {
                    EndState::Opening if end == End::Client => Arriving::Refused,
                    _ => Arriving::Closed,
                };
                self.side(link, end).not_before = now;
                self.schedule(now, Arrival { link, end, what });
            }
        }
    }

    /// Nothing arrives on the link, in either direction, before `until`.
    pub fn stall(&mut self, link: LinkId, until: Duration) {
        for end in [End::Broker, End::Client] {
            self.side(link, end).not_before = until.max(self.side(link, end).not_before);
        }
        let delayed: Vec<(Duration, u64)> = self
            .on_the_way
            .iter()
            .filter(|((at, _), arrival)| arrival.link == link && *at < until)
            .map(|(key, _)| *key)
            .collect();
        for key in delayed {
            if let Some(arrival) = self.on_the_way.remove(&key) {
                // The sequence stays, so the order does.
                self.on_the_way.insert((until, key.1), arrival);
            }
        }
    }

    /// The links to a broker of which an end still stands.
    #[must_use]
    pub fn to_broker(&self, broker: i32) -> Vec<LinkId> {
        let stands = |link: &Link| {
            link.client_side.state != EndState::Gone || link.broker_side.state != EndState::Gone
        };
        let links = self
            .links
            .iter()
            .filter(|(_, link)| link.broker == broker && stands(link));
        links.map(|(id, _)| *id).collect()
    }

    /// The broker at the far end.
    #[must_use]
    pub fn broker(&self, link: LinkId) -> i32 {
        self.links.get(&link).map_or(-1, |link| link.broker)
    }

    /// When the next arrival is due.
    #[must_use]
    pub fn next_at(&self) -> Option<Duration> {
        self.on_the_way.keys().next().map(|(at, _)| *at)
    }

    /// The next arrival that is due by `now`.
    pub fn poll(&mut self, now: Duration) -> Option<Arrival> {
        while self.next_at().is_some_and(|at| at <= now) {
            let (_, arrival) = self.on_the_way.pop_first()?;
            let side = self.side(arrival.link, arrival.end);
            if side.state == EndState::Gone {
                continue;
            }
            side.state = match arrival.what {
                Arriving::Opened => EndState::Open,
                Arriving::Frame(_) => side.state,
                Arriving::Refused | Arriving::Closed => EndState::Gone,
            };
            return Some(arrival);
        }
        None
    }

    fn add(&mut self, broker: i32, now: Duration) -> LinkId {
        let id = LinkId(self.links.len() as u64 + 1);
        let side = || Side {
            state: EndState::Opening,
            not_before: now,
        };
        self.links.insert(
            id,
            Link {
                broker,
                client_side: side(),
                broker_side: side(),
            },
        );
        id
    }

    fn side(&mut self, link: LinkId, end: End) -> &mut Side {
        self.links
            .get_mut(&link)
            .expect("a link is used after it was opened")
            .side(end)
    }

    fn schedule(&mut self, at: Duration, arrival: Arrival) {
        let side = self.side(arrival.link, arrival.end);
        let at = at.max(side.not_before);
        side.not_before = at;
        self.sent_count += 1;
        self.on_the_way.insert((at, self.sent_count), arrival);
    }

    fn draw_latency(&mut self) -> Duration {
        let (min, max) = (self.latency.min.as_nanos(), self.latency.max.as_nanos());
        let nanos = self.random.u64(min as u64..=max as u64);
        Duration::from_nanos(nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Latency = Latency {
        min: Duration::from_micros(50),
        max: Duration::from_millis(5),
    };
    const LATE: Duration = Duration::from_secs(60);

    fn opened() -> (Links, LinkId) {
        let mut links = Links::new(LATENCY, 1);
        let link = links.open(3, Duration::ZERO);
        assert_eq!(arrivals(&mut links, LATE).len(), 2, "both ends learn of it");
        (links, link)
    }

    fn arrivals(links: &mut Links, now: Duration) -> Vec<(End, Arriving)> {
        std::iter::from_fn(|| links.poll(now))
            .map(|seen| (seen.end, seen.what))
            .collect()
    }

    fn frame(byte: u8) -> Bytes {
        Bytes::copy_from_slice(&[byte])
    }

    #[test]
    fn frames_of_one_direction_keep_their_order_under_any_latency() {
        let (mut links, link) = opened();
        let sent: Vec<Bytes> = (0..100).map(frame).collect();
        for bytes in &sent {
            links.send(link, End::Broker, bytes.clone(), LATE);
        }
        let seen = arrivals(&mut links, LATE + Duration::from_secs(1));
        let expected = sent
            .into_iter()
            .map(|bytes| (End::Broker, Arriving::Frame(bytes)));
        assert_eq!(seen, expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_closing_end_lets_what_it_sent_arrive_and_sees_nothing_more() {
        let (mut links, link) = opened();
        links.send(link, End::Broker, frame(1), LATE);
        links.send(link, End::Client, frame(2), LATE);
        links.close(link, End::Client, LATE);
        let seen = arrivals(&mut links, LATE + LATENCY.max);
        let at_broker = [Arriving::Frame(frame(1)), Arriving::Closed];
        assert_eq!(seen, at_broker.map(|what| (End::Broker, what)));
    }

    #[test]
    fn a_cut_loses_what_is_on_its_way_and_tells_both_ends() {
        let (mut links, link) = opened();
        links.send(link, End::Broker, frame(1), LATE);
        links.cut(link, LATE);
        let seen = arrivals(&mut links, LATE);
        assert_eq!(
            seen,
            [
                (End::Broker, Arriving::Closed),
                (End::Client, Arriving::Closed)
            ]
        );
        assert_eq!(links.next_at(), None);
        assert!(links.to_broker(3).is_empty());
    }

    #[test]
    fn a_cut_while_opening_is_a_refusal() {
        let mut links = Links::new(LATENCY, 1);
        let link = links.open(3, Duration::ZERO);
        links.cut(link, Duration::ZERO);
        let seen = arrivals(&mut links, Duration::ZERO);
        assert_eq!(seen.last(), Some(&(End::Client, Arriving::Refused)));
    }

    #[test]
    fn a_stall_delays_both_directions_and_keeps_the_order() {
        let (mut links, link) = opened();
        let until = LATE + Duration::from_secs(30);
        links.send(link, End::Broker, frame(1), LATE);
        links.stall(link, until);
        links.send(link, End::Broker, frame(2), LATE);
        assert!(arrivals(&mut links, until - Duration::from_nanos(1)).is_empty());
        let seen = arrivals(&mut links, until);
        let expected = [frame(1), frame(2)].map(|bytes| (End::Broker, Arriving::Frame(bytes)));
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_same_seed_gives_the_same_latencies() {
        let times = |seed| {
            let mut links = Links::new(LATENCY, seed);
            links.open(1, Duration::ZERO);
            links.next_at()
        };
        assert_eq!(times(7), times(7));
        assert_ne!(times(7), times(8));
    }
}
