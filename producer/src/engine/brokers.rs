//! The nodes of the cluster: where they listen, and the phase of the one connection to each.
//!
//! *State* of a node
//! ```text
//!           connect            on_connected             on_versions
//!   Idle ───────────▶ Connecting ──────────▶ Negotiating ──────────▶ Ready ──▶ Idle: not needed
//!    ▲                    │                     │  ▲  │ 35: ask lower  │
//!    │                    │ failed, late        │  └──┘               │ lost
//!    │ back-off over      ▼                     ▼                     │
//!    └─────────────── BackingOff ◀──────────────┴─────────────────────┘
//! ```
//!
//! *Invariants*
//! 1. A node has at most one connection; a connection belongs to at most one node.
//! 2. The version of ApiVersions only goes down on one connection, so negotiation ends.
//! 3. Nothing is asked of a node before its throttle ends.
//! 4. A node is `Ready` only if it shares a version of Metadata with us.
//!
//! *Source*: Kafka's `ClusterConnectionStates`, `NetworkClient`; KIP-35, KIP-219 (throttling),
//! KIP-511, KIP-899 (back to the bootstrap addresses when no broker can be reached).
//!
//! *Not here*: requests on a connection (`in_flight.rs`), sockets (`io/`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::effect::{Address, ConnectionId};
use crate::engine::report::Stood;
use crate::engine::sequence::Level;
use crate::engine::time::Instant;
use crate::error::ErrorCode;
use crate::types::BrokerId;
use crate::wire::message::{ApiVersionsAnswer, BrokerEndpoint, FinalizedFeatures};
use crate::wire::{Api, Versions, highest_common};

/// A node: a broker by its id, or an address that we were started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeKey {
    /// A broker that metadata or a refusal named.
    Broker(BrokerId),
    /// An address of `bootstrap.servers`, by its place in the list.
    Bootstrap(u32),
}

impl NodeKey {
    /// The broker, if it is known which one this is.
    #[must_use]
    pub fn broker(self) -> Option<BrokerId> {
        match self {
            Self::Broker(id) => Some(id),
            Self::Bootstrap(_) => None,
        }
    }
}

/// The phase of a node's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// None, and none wanted so far.
    Idle,
    /// Being made until the deadline.
    Connecting {
        connection: ConnectionId,
        until: Instant,
    },
    /// Stands; this version of ApiVersions was asked.
    Negotiating {
        connection: ConnectionId,
        asked: i16,
    },
    /// Takes requests from the given time on.
    Ready {
        connection: ConnectionId,
        versions: Versions,
        throttled_until: Instant,
    },
    /// Lost or never made; not tried before the deadline.
    BackingOff { until: Instant },
}

/// Whom to try when no known broker is left to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// Nobody, once brokers are known.
    None,
    /// The addresses that we were started with.
    Bootstrap,
}

/// What to do after an answer about versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Negotiation {
    /// Requests may go.
    Ready,
    /// Ask again with this version.
    AskAgain(i16),
    /// Give the connection up.
    Unusable(Arc<str>),
    /// The connection was not negotiating.
    NotExpected,
}

/// A connection that takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadyNode {
    pub(crate) node: NodeKey,
    pub(crate) connection: ConnectionId,
    pub(crate) versions: Versions,
    pub(crate) throttled_until: Instant,
}

/// All nodes.
#[derive(Debug)]
pub(crate) struct Brokers {
    nodes: BTreeMap<NodeKey, Node>,
    by_connection: BTreeMap<ConnectionId, NodeKey>,
    next_connection: u64,
    /// What the cluster agreed on, as far as the newest of its agreements was heard of.
    finalized: Option<FinalizedFeatures>,
}

#[derive(Debug)]
struct Node {
    address: Address,
    phase: Phase,
    /// Failures in a row, for the back-off.
    failures: u32,
    last_failure: Option<Arc<str>>,
}

impl Brokers {
    pub(crate) fn new(bootstrap: &[Address]) -> Self {
        let nodes = bootstrap
            .iter()
            .zip(0..)
            .map(|(address, index)| (NodeKey::Bootstrap(index), Node::new(address.clone())));
        Self {
            nodes: nodes.collect(),
            by_connection: BTreeMap::new(),
            next_connection: 0,
            finalized: None,
        }
    }

    /// Starts a connection to an idle node.
    pub(crate) fn connect(
        &mut self,
        key: NodeKey,
        until: Instant,
    ) -> Option<(ConnectionId, Address)> {
        let node = self.nodes.get_mut(&key)?;
        if node.phase != Phase::Idle {
            return None;
        }
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        node.phase = Phase::Connecting { connection, until };
        self.by_connection.insert(connection, key);
        Some((connection, node.address.clone()))
    }

    /// The connection stands; says which version of ApiVersions to ask.
    pub(crate) fn on_connected(&mut self, connection: ConnectionId) -> Option<i16> {
        let node = self.node_of_mut(connection)?;
        let Phase::Connecting { .. } = node.phase else {
            return None;
        };
        let (_, asked) = Api::ApiVersions.versions();
        node.phase = Phase::Negotiating { connection, asked };
        Some(asked)
    }

    /// Takes in what the broker speaks.
    pub(crate) fn on_versions(
        &mut self,
        connection: ConnectionId,
        answer: &ApiVersionsAnswer,
    ) -> Negotiation {
        let Some(node) = self.node_of_mut(connection) else {
            return Negotiation::NotExpected;
        };
        let Phase::Negotiating { asked, .. } = node.phase else {
            return Negotiation::NotExpected;
        };
        self.learn_features(answer);
        let Some(node) = self.node_of_mut(connection) else {
            return Negotiation::NotExpected;
        };
        match answer.error {
            ErrorCode::NONE => node.negotiate(connection, answer),
            ErrorCode::UNSUPPORTED_VERSION => node.ask_lower(connection, asked, answer),
            code => Negotiation::Unusable(format!("api versions refused with {code}").into()),
        }
    }

    fn learn_features(&mut self, answer: &ApiVersionsAnswer) {
        let known = self.finalized.map_or(-1, |features| features.epoch);
        if let Some(features) = answer.finalized
            && features.epoch >= known
        {
            self.finalized = Some(features);
        }
    }

    /// How transactions are done in this cluster, as last heard.
    pub(crate) fn transaction_level(&self) -> Level {
        match self.finalized.map(|features| features.transaction_version) {
            Some(2..) => Level::Implicit,
            _ => Level::Explicit,
        }
    }

    /// The connection is gone; says whose it was.
    pub(crate) fn on_lost(
        &mut self,
        connection: ConnectionId,
        until: Instant,
        reason: Arc<str>,
    ) -> Option<NodeKey> {
        let key = self.by_connection.remove(&connection)?;
        let node = self.nodes.get_mut(&key)?;
        node.phase = Phase::BackingOff { until };
        node.failures = node.failures.saturating_add(1);
        node.last_failure = Some(reason);
        Some(key)
    }

    /// A connection that is not needed now was ended by us; says whose it was.
    pub(crate) fn on_retired(&mut self, connection: ConnectionId) -> Option<NodeKey> {
        let key = self.by_connection.remove(&connection)?;
        self.nodes.get_mut(&key)?.phase = Phase::Idle;
        Some(key)
    }

    pub(crate) fn on_throttled(&mut self, connection: ConnectionId, until: Instant) {
        if let Some(node) = self.node_of_mut(connection)
            && let Phase::Ready {
                throttled_until, ..
            } = &mut node.phase
        {
            *throttled_until = until.max(*throttled_until);
        }
    }

    /// The node's deadline came: the end of a back-off makes it idle, a late connection is told.
    pub(crate) fn on_deadline(&mut self, key: NodeKey, now: Instant) -> Option<ConnectionId> {
        let node = self.nodes.get_mut(&key)?;
        match node.phase {
            Phase::BackingOff { until } if until <= now => {
                node.phase = Phase::Idle;
                None
            }
            Phase::Connecting { connection, until } if until <= now => Some(connection),
            _ => None,
        }
    }

    /// When the node has to be looked at again.
    pub(crate) fn deadline(&self, key: NodeKey) -> Option<Instant> {
        match self.nodes.get(&key)?.phase {
            Phase::BackingOff { until } | Phase::Connecting { until, .. } => Some(until),
            Phase::Ready {
                throttled_until, ..
            } => Some(throttled_until),
            Phase::Idle | Phase::Negotiating { .. } => None,
        }
    }

    /// Takes in where brokers listen; returns the connections to addresses that are no longer so.
    ///
    /// A bootstrap connection to a broker's very address becomes that broker's.
    pub(crate) fn learn(&mut self, endpoints: &[BrokerEndpoint]) -> Vec<ConnectionId> {
        let mut outdated = Vec::new();
        for endpoint in endpoints {
            let key = NodeKey::Broker(endpoint.id);
            let address = Address {
                host: Arc::clone(&endpoint.host),
                port: endpoint.port,
            };
            let node = self
                .nodes
                .entry(key)
                .or_insert_with(|| Node::new(address.clone()));
            if node.address != address {
                outdated.extend(node.phase.connection());
                node.address = address;
            }
            self.adopt_bootstrap(key);
        }
        outdated
    }

    /// Forgets idle brokers that the cluster no longer names.
    pub(crate) fn retain(&mut self, endpoints: &[BrokerEndpoint]) {
        self.nodes.retain(|key, node| match key {
            NodeKey::Bootstrap(_) => true,
            NodeKey::Broker(id) => {
                node.phase.connection().is_some() || endpoints.iter().any(|one| one.id == *id)
            }
        });
    }

    /// Whether any broker is.
    pub(crate) fn are_known(&self) -> bool {
        self.nodes.keys().any(|key| key.broker().is_some())
    }

    /// Every connection but those to bootstrap addresses that are still being made.
    pub(crate) fn known_connections(&self) -> Vec<ConnectionId> {
        let known = self
            .nodes
            .iter()
            .filter_map(|(key, node)| match node.phase {
                Phase::Connecting { .. } | Phase::Negotiating { .. } if key.broker().is_none() => {
                    None
                }
                phase => phase.connection(),
            });
        known.collect()
    }

    /// Forgets all brokers that have no connection.
    pub(crate) fn forget_brokers(&mut self) {
        self.retain(&[]);
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = NodeKey> {
        self.nodes.keys().copied()
    }

    pub(crate) fn phase(&self, key: NodeKey) -> Option<Phase> {
        self.nodes.get(&key).map(|node| node.phase)
    }

    pub(crate) fn failures(&self, connection: ConnectionId) -> u32 {
        let key = self.by_connection.get(&connection);
        key.map_or(0, |key| self.node_failures(*key))
    }

    /// How often in a row a node's connection was lost or could not be made.
    pub(crate) fn node_failures(&self, key: NodeKey) -> u32 {
        self.nodes.get(&key).map_or(0, |node| node.failures)
    }

    /// Where a connection leads to.
    pub(crate) fn address(&self, connection: ConnectionId) -> Option<&Address> {
        Some(
            &self
                .nodes
                .get(self.by_connection.get(&connection)?)?
                .address,
        )
    }

    /// Whether a connection was made before.
    pub(crate) fn stood(&self, connection: ConnectionId) -> Stood {
        let key = self.by_connection.get(&connection);
        match key.and_then(|key| self.phase(*key)) {
            Some(Phase::Negotiating { .. } | Phase::Ready { .. }) => Stood::Once,
            Some(Phase::Idle | Phase::Connecting { .. } | Phase::BackingOff { .. }) | None => {
                Stood::Never
            }
        }
    }

    pub(crate) fn node_of(&self, connection: ConnectionId) -> Option<NodeKey> {
        self.by_connection.get(&connection).copied()
    }

    /// The address and the last words heard of it, for every node that failed last.
    pub(crate) fn last_failures(&self) -> Option<Arc<str>> {
        let mut words: Vec<&str> = self
            .nodes
            .values()
            .filter_map(|node| node.last_failure.as_deref())
            .collect();
        words.dedup();
        (!words.is_empty()).then(|| words.join("; ").into())
    }

    /// Why the broker cannot be reached, if it cannot.
    pub(crate) fn last_failure(&self, broker: BrokerId) -> Option<Arc<str>> {
        self.nodes
            .get(&NodeKey::Broker(broker))?
            .last_failure
            .clone()
    }

    /// A node's connection, if it takes requests.
    pub(crate) fn ready(&self, key: NodeKey) -> Option<ReadyNode> {
        match self.nodes.get(&key)?.phase {
            Phase::Ready {
                connection,
                versions,
                throttled_until,
            } => Some(ReadyNode {
                node: key,
                connection,
                versions,
                throttled_until,
            }),
            Phase::Idle
            | Phase::Connecting { .. }
            | Phase::Negotiating { .. }
            | Phase::BackingOff { .. } => None,
        }
    }

    /// All connections that take requests, brokers before bootstrap addresses.
    pub(crate) fn all_ready(&self) -> impl Iterator<Item = ReadyNode> {
        self.nodes.keys().filter_map(|key| self.ready(*key))
    }

    /// Whom to connect to when anybody would do: nobody while a connection is being made.
    ///
    /// Brokers first; when none of them is left to try, what the fallback says (KIP-899).
    pub(crate) fn connect_candidate(
        &self,
        fallback: Fallback,
        rng: &mut fastrand::Rng,
    ) -> Option<NodeKey> {
        let making = |node: &Node| {
            matches!(
                node.phase,
                Phase::Connecting { .. } | Phase::Negotiating { .. }
            )
        };
        if self.nodes.values().any(making) {
            return None;
        }
        let idle: Vec<NodeKey> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.phase == Phase::Idle)
            .map(|(key, _)| *key)
            .collect();
        let brokers = idle.iter().take_while(|key| key.broker().is_some()).count();
        let choices = match fallback {
            Fallback::None if self.are_known() => &idle[..brokers],
            _ if brokers > 0 => &idle[..brokers],
            Fallback::None | Fallback::Bootstrap => &idle[..],
        };
        (!choices.is_empty()).then(|| choices[rng.usize(..choices.len())])
    }

    fn node_of_mut(&mut self, connection: ConnectionId) -> Option<&mut Node> {
        let key = self.by_connection.get(&connection)?;
        self.nodes.get_mut(key)
    }

    fn adopt_bootstrap(&mut self, broker: NodeKey) {
        let Some(node) = self.nodes.get(&broker) else {
            return;
        };
        if node.phase != Phase::Idle {
            return;
        }
        let address = node.address.clone();
        let twin = self.nodes.iter_mut().find(|(key, node)| {
            key.broker().is_none()
                && node.address == address
                && matches!(node.phase, Phase::Ready { .. })
        });
        let Some((_, twin)) = twin else { return };
        let phase = core::mem::replace(&mut twin.phase, Phase::Idle);
        if let Some(connection) = phase.connection() {
            self.by_connection.insert(connection, broker);
        }
        if let Some(node) = self.nodes.get_mut(&broker) {
            node.phase = phase;
        }
    }

    /// Panics if invariant 1 is broken.
    pub(crate) fn check_invariants(&self) {
        for (connection, key) in &self.by_connection {
            let phase = self.nodes.get(key).map(|node| node.phase);
            let held = phase.and_then(|phase| phase.connection());
            assert_eq!(
                held,
                Some(*connection),
                "brokers 1: {connection:?} is {key:?}'s alone"
            );
        }
        let connected = self
            .nodes
            .values()
            .filter(|node| node.phase.connection().is_some());
        assert_eq!(
            connected.count(),
            self.by_connection.len(),
            "brokers 1: each is known"
        );
    }
}

impl Phase {
    pub(crate) fn connection(&self) -> Option<ConnectionId> {
        match self {
            Self::Connecting { connection, .. }
            | Self::Negotiating { connection, .. }
            | Self::Ready { connection, .. } => Some(*connection),
            Self::Idle | Self::BackingOff { .. } => None,
        }
    }
}

impl Node {
    fn new(address: Address) -> Self {
        Self {
            address,
            phase: Phase::Idle,
            failures: 0,
            last_failure: None,
        }
    }

    fn negotiate(&mut self, connection: ConnectionId, answer: &ApiVersionsAnswer) -> Negotiation {
        let versions = Versions::negotiate(&answer.ranges);
        if versions.metadata.is_none() {
            return Negotiation::Unusable("no common version of the Metadata api".into());
        }
        self.phase = Phase::Ready {
            connection,
            versions,
            throttled_until: Instant::ZERO,
        };
        self.failures = 0;
        self.last_failure = None;
        Negotiation::Ready
    }

    fn ask_lower(
        &mut self,
        connection: ConnectionId,
        asked: i16,
        answer: &ApiVersionsAnswer,
    ) -> Negotiation {
        // A broker from before KIP-511 names no range with its 35: version 0 is always known.
        let lower = highest_common(Api::ApiVersions, &answer.ranges).unwrap_or(0);
        if lower >= asked {
            return Negotiation::Unusable("no common version of the ApiVersions api".into());
        }
        self.phase = Phase::Negotiating {
            connection,
            asked: lower,
        };
        Negotiation::AskAgain(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::ApiRange;
    use rstest::rstest;

    const BOOTSTRAP: NodeKey = NodeKey::Bootstrap(0);
    const BROKER: NodeKey = NodeKey::Broker(BrokerId(1));
    const LATER: Instant = Instant::from_nanos(1000);

    fn address(port: u16) -> Address {
        Address {
            host: "host".into(),
            port,
        }
    }

    fn endpoint(id: i32, port: u16) -> BrokerEndpoint {
        BrokerEndpoint {
            id: BrokerId(id),
            host: "host".into(),
            port,
        }
    }

    fn versions(error: ErrorCode, ranges: &[(i16, i16)]) -> ApiVersionsAnswer {
        let ranges = ranges.iter().map(|(api_key, max_version)| ApiRange {
            api_key: *api_key,
            min_version: 0,
            max_version: *max_version,
        });
        ApiVersionsAnswer {
            error,
            ranges: ranges.collect(),
            finalized: None,
        }
    }

    fn good() -> ApiVersionsAnswer {
        versions(ErrorCode::NONE, &[(0, 12), (3, 12), (18, 4)])
    }

    fn connected() -> (Brokers, ConnectionId) {
        let mut brokers = Brokers::new(&[address(1)]);
        let (connection, _) = brokers.connect(BOOTSTRAP, LATER).expect("idle");
        brokers.on_connected(connection);
        (brokers, connection)
    }

    fn ready() -> (Brokers, ConnectionId) {
        let (mut brokers, connection) = connected();
        assert_eq!(brokers.on_versions(connection, &good()), Negotiation::Ready);
        (brokers, connection)
    }

    #[test]
    fn a_node_has_one_connection() {
        let mut brokers = Brokers::new(&[address(1)]);
        assert!(brokers.connect(BOOTSTRAP, LATER).is_some());
        assert!(brokers.connect(BOOTSTRAP, LATER).is_none());
        brokers.check_invariants();
    }

    #[test]
    fn a_connection_is_told_once_that_it_stands() {
        let (mut brokers, connection) = connected();
        assert_eq!(brokers.on_connected(connection), None);
        assert_eq!(brokers.on_connected(ConnectionId(9)), None);
    }

    #[test]
    fn versions_out_of_turn_change_nothing() {
        let (mut brokers, connection) = ready();
        assert_eq!(
            brokers.on_versions(connection, &good()),
            Negotiation::NotExpected
        );
        assert_eq!(
            brokers.on_versions(ConnectionId(9), &good()),
            Negotiation::NotExpected
        );
    }

    #[rstest]
    #[case::lower(versions(ErrorCode(35), &[(18, 2)]), Negotiation::AskAgain(2))]
    #[case::unnamed(versions(ErrorCode(35), &[]), Negotiation::AskAgain(0))]
    #[case::not_lower(
        versions(ErrorCode(35), &[(18, 4)]),
        Negotiation::Unusable("no common version of the ApiVersions api".into()),
    )]
    #[case::without_metadata(
        versions(ErrorCode::NONE, &[(0, 12)]),
        Negotiation::Unusable("no common version of the Metadata api".into()),
    )]
    #[case::refused(
        versions(ErrorCode(42), &[]),
        Negotiation::Unusable("api versions refused with 42 INVALID_REQUEST".into()),
    )]
    fn negotiation_ends(#[case] answer: ApiVersionsAnswer, #[case] expected: Negotiation) {
        let (mut brokers, connection) = connected();
        assert_eq!(brokers.on_versions(connection, &answer), expected);
    }

    #[test]
    fn a_lost_node_is_idle_when_its_back_off_is_over() {
        let (mut brokers, connection) = ready();
        assert_eq!(
            brokers.on_lost(connection, LATER, "lost".into()),
            Some(BOOTSTRAP)
        );
        assert_eq!(brokers.on_lost(connection, LATER, "lost".into()), None);
        brokers.on_deadline(BOOTSTRAP, Instant::ZERO);
        assert_eq!(
            brokers.phase(BOOTSTRAP),
            Some(Phase::BackingOff { until: LATER })
        );
        brokers.on_deadline(BOOTSTRAP, LATER);
        assert_eq!(brokers.phase(BOOTSTRAP), Some(Phase::Idle));
        brokers.check_invariants();
    }

    #[test]
    fn a_late_connection_is_named() {
        let mut brokers = Brokers::new(&[address(1)]);
        let (connection, _) = brokers.connect(BOOTSTRAP, LATER).expect("idle");
        assert_eq!(brokers.on_deadline(BOOTSTRAP, Instant::ZERO), None);
        assert_eq!(brokers.on_deadline(BOOTSTRAP, LATER), Some(connection));
    }

    #[test]
    fn a_bootstrap_connection_to_a_brokers_address_becomes_the_brokers() {
        let (mut brokers, connection) = ready();
        assert_eq!(brokers.learn(&[endpoint(1, 1), endpoint(2, 2)]), []);
        assert_eq!(
            brokers.ready(BROKER).map(|one| one.connection),
            Some(connection)
        );
        assert_eq!(brokers.phase(BOOTSTRAP), Some(Phase::Idle));
        brokers.check_invariants();
    }

    #[test]
    fn a_broker_that_moved_gives_up_its_old_connection() {
        let (mut brokers, connection) = ready();
        brokers.learn(&[endpoint(1, 1)]);
        assert_eq!(brokers.learn(&[endpoint(1, 5)]), [connection]);
    }

    #[test]
    fn a_throttle_never_shortens() {
        let (mut brokers, connection) = ready();
        brokers.on_throttled(connection, LATER);
        brokers.on_throttled(connection, Instant::ZERO);
        assert_eq!(
            brokers.ready(BOOTSTRAP).map(|one| one.throttled_until),
            Some(LATER)
        );
    }

    #[test]
    fn brokers_are_tried_before_bootstrap_addresses() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut brokers = Brokers::new(&[address(1)]);
        assert_eq!(
            brokers.connect_candidate(Fallback::Bootstrap, &mut rng),
            Some(BOOTSTRAP)
        );
        brokers.learn(&[endpoint(1, 5)]);
        assert_eq!(
            brokers.connect_candidate(Fallback::Bootstrap, &mut rng),
            Some(BROKER)
        );
        let (connection, _) = brokers.connect(BROKER, LATER).expect("idle");
        assert_eq!(
            brokers.connect_candidate(Fallback::Bootstrap, &mut rng),
            None,
            "one attempt at a time"
        );
        brokers.on_lost(connection, LATER, "refused".into());
        assert_eq!(
            brokers.connect_candidate(Fallback::Bootstrap, &mut rng),
            Some(BOOTSTRAP)
        );
    }

    #[test]
    fn without_a_fallback_bootstrap_addresses_are_tried_only_while_no_broker_is_known() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut brokers = Brokers::new(&[address(1)]);
        let candidate = brokers.connect_candidate(Fallback::None, &mut rng);
        assert_eq!(candidate, Some(BOOTSTRAP));
        brokers.learn(&[endpoint(1, 5)]);
        let (connection, _) = brokers.connect(BROKER, LATER).expect("idle");
        brokers.on_lost(connection, LATER, "refused".into());
        assert_eq!(brokers.connect_candidate(Fallback::None, &mut rng), None);
    }

    #[test]
    fn idle_brokers_that_are_gone_are_forgotten() {
        let (mut brokers, _) = ready();
        brokers.learn(&[endpoint(1, 1), endpoint(2, 2)]);
        brokers.retain(&[]);
        let keys: Vec<_> = brokers.keys().collect();
        assert_eq!(keys, [BROKER, BOOTSTRAP], "1 has a connection, 2 has not");
    }
}
