//! Client quotas: who may move how many bytes a second, and who exceeded it.
//!
//! *State* of a client at a broker, for one kind of bytes:
//!
//! ```text
//!              a quota is set              bytes, more than the quota
//! Unlimited ───────────────────▶ Counted ─────────────────────────────▶ to be throttled
//!     ▲                             │  ▲                                     │
//!     └── removed ──────────────────┘  └─────────────────────────────────────┘ told, counts on
//! ```
//!
//! *Invariants*
//! 1. An entity has at least one value, and each value is one that its kind of entity may have.
//! 2. The most specific entity that matches decides: user and client id before user before client
//!    id, a name before the default.
//! 3. Connections that the same value limits by the same names share one rate at each broker.
//! 4. At most [`ENTITIES_MAX`] entities and [`RATES_MAX`] rates are kept.
//!
//! *Source* apache/kafka `core/…/server/ClientQuotaManager.scala`; `metadata/…/controller/
//! ClientQuotaControlManager.java` for what may be set; KIP-219, KIP-546; observed on 4.3.1: a
//! client without an id is limited by no quota on client ids.
//!
//! *Not here* the window (`rate.rs`); muting (`handlers/cluster_engine/throttling.rs`).
//!
//! *Deviations* requests take no time and topics none to make, so `request_percentage` and
//! `controller_mutation_rate` are kept and never exceeded; `connection_creation_rate` likewise. A
//! rate begins with the quota, where Kafka also counts what came before if it had a reason to
//! count. Host names are no ips: nothing is looked up.

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::cluster::Cluster;
use super::effect::BrokerId;
use super::moves::MoveError;
use super::rate::{Rate, Window};
use super::time::Instant;

/// Entities with quotas that a cluster keeps.
pub const ENTITIES_MAX: usize = 1_000;

/// Bytes of a name that has quotas: no client id and no user is longer on the wire.
pub const NAME_BYTES_MAX: usize = 32_767;

/// Kafka's name of what holds for names without a quota of their own.
const DEFAULT_NAME: &str = "<default>";

/// Rates that a cluster keeps; those that count nothing any more go first.
pub const RATES_MAX: usize = 1_000;

/// One part of an entity: a name, or what holds for names without a quota of their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntityName {
    /// The default.
    Default,
    /// This one.
    Named(Arc<str>),
}

impl EntityName {
    fn named(name: impl Into<Arc<str>>) -> Self {
        Self::Named(name.into())
    }

    /// The name; `None` for the default.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Default => None,
            Self::Named(name) => Some(name),
        }
    }
}

/// Whom a quota limits.
///
/// Every client of the mock is the user `ANONYMOUS`, as on a listener without authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuotaEntity {
    pub(crate) client_id: Option<EntityName>,
    pub(crate) user: Option<EntityName>,
    pub(crate) ip: Option<EntityName>,
}

impl QuotaEntity {
    /// Clients with this id; they share the quota.
    pub fn client_id(id: impl Into<Arc<str>>) -> Self {
        Self::default().and_client_id(id)
    }

    /// Clients with any id that has no quota of its own; each id has the quota for itself.
    #[must_use]
    pub fn default_client_id() -> Self {
        Self::default().and_default_client_id()
    }

    /// A user; its clients share the quota.
    pub fn user(name: impl Into<Arc<str>>) -> Self {
        Self {
            user: Some(EntityName::named(name)),
            ..Self::default()
        }
    }

    /// Users without a quota of their own.
    #[must_use]
    pub fn default_user() -> Self {
        Self {
            user: Some(EntityName::Default),
            ..Self::default()
        }
    }

    /// The same, but only clients with this id.
    #[must_use]
    pub fn and_client_id(self, id: impl Into<Arc<str>>) -> Self {
        Self {
            client_id: Some(EntityName::named(id)),
            ..self
        }
    }

    /// The same, but each client id that has no quota of its own for itself.
    #[must_use]
    pub fn and_default_client_id(self) -> Self {
        Self {
            client_id: Some(EntityName::Default),
            ..self
        }
    }

    /// Its parts by Kafka's names of them, in Kafka's order.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &EntityName)> {
        let parts = [
            (CLIENT_ID, &self.client_id),
            (USER, &self.user),
            (IP, &self.ip),
        ];
        parts
            .into_iter()
            .filter_map(|(kind, part)| Some((kind, part.as_ref()?)))
    }
}

/// As Kafka prints it in its messages.
impl fmt::Display for QuotaEntity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("ClientQuotaEntity(entries={")?;
        for (index, (kind, part)) in self.parts().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(out, "{comma}{kind}={}", part.name().unwrap_or("null"))?;
        }
        out.write_str("})")
    }
}

/// `ClientQuotaEntity.CLIENT_ID`.
pub const CLIENT_ID: &str = "client-id";

/// `ClientQuotaEntity.USER`.
pub const USER: &str = "user";

/// `ClientQuotaEntity.IP`.
pub const IP: &str = "ip";

/// What a quota limits, in the order in which Kafka lists values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaKey {
    /// Bytes of Produce requests a second.
    ProducerByteRate,
    /// Bytes of Fetch answers a second.
    ConsumerByteRate,
    /// Partitions that are made or deleted a second.
    ControllerMutationRate,
    /// The share of a thread.
    RequestPercentage,
    /// Connections that are made a second.
    ConnectionCreationRate,
}

impl QuotaKey {
    /// Every key.
    pub const ALL: [Self; 5] = [
        Self::ProducerByteRate,
        Self::ConsumerByteRate,
        Self::ControllerMutationRate,
        Self::RequestPercentage,
        Self::ConnectionCreationRate,
    ];

    /// Kafka's names, for errors.
    pub(crate) const NAMES: &'static [&'static str] = &[
        "consumer_byte_rate",
        "controller_mutation_rate",
        "connection_creation_rate",
        "producer_byte_rate",
        "request_percentage",
    ];

    /// The key of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProducerByteRate => "producer_byte_rate",
            Self::ConsumerByteRate => "consumer_byte_rate",
            Self::ControllerMutationRate => "controller_mutation_rate",
            Self::RequestPercentage => "request_percentage",
            Self::ConnectionCreationRate => "connection_creation_rate",
        }
    }

    /// Whether the mock throttles by it.
    #[must_use]
    pub const fn is_modelled(self) -> bool {
        matches!(self, Self::ProducerByteRate | Self::ConsumerByteRate)
    }

    fn fits(self, entity: &QuotaEntity) -> bool {
        (self == Self::ConnectionCreationRate) == entity.ip.is_some()
    }

    /// The largest value and Kafka's name of the type, where values are whole.
    const fn whole(self) -> Option<(f64, &'static str)> {
        match self {
            Self::ProducerByteRate | Self::ConsumerByteRate => Some((i64::MAX as f64, "a LONG")),
            Self::ConnectionCreationRate => Some((2_147_483_647.0, "an INT")),
            Self::ControllerMutationRate | Self::RequestPercentage => None,
        }
    }
}

/// Why a quota cannot be set, as Kafka words it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaFault {
    /// Nobody is named.
    #[error("Invalid empty client quota entity")]
    Nobody,
    /// A kind of entity that there is not.
    #[error("Unhandled client quota entity type: {0}")]
    UnknownKind(String),
    /// A name that is empty.
    #[error("Empty {0} not supported")]
    EmptyName(&'static str),
    /// An ip and something else.
    #[error(
        "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId"
    )]
    IpAndOther,
    /// No ip.
    #[error("{0} is not a valid IP or resolvable host.")]
    NoIp(Arc<str>),
    /// A key that there is not, or not for this kind of entity.
    #[error("Invalid configuration key {0}")]
    UnknownKey(String),
    /// Zero or less.
    #[error("Quota {0} must be greater than 0")]
    NotPositive(&'static str),
    /// Too large for Kafka's type.
    #[error("Proposed value for {0} is too large for {1}.")]
    TooLarge(&'static str, &'static str),
    /// A fraction where there is none.
    #[error("{0} cannot be a fractional value.")]
    Fraction(&'static str),
    /// The bound of the mock.
    #[error("at most {ENTITIES_MAX} entities have quotas")]
    TooMany,
    /// A name that is too long to be anybody's.
    #[error("a name with quotas has at most {NAME_BYTES_MAX} bytes")]
    LongName,
}

/// Checks an entity (`ClientQuotaControlManager.validateEntity`, `configKeysForEntityType`).
///
/// # Errors
///
/// Nobody, an empty name, an ip beside something else or that is none.
pub fn check_entity(entity: &QuotaEntity) -> Result<(), QuotaFault> {
    if let Some((kind, _)) = entity.parts().find(|(_, part)| part.name() == Some("")) {
        return Err(QuotaFault::EmptyName(kind));
    }
    match (&entity.ip, &entity.user, &entity.client_id) {
        (None, None, None) => Err(QuotaFault::Nobody),
        (Some(EntityName::Named(ip)), None, None) if ip.parse::<IpAddr>().is_err() => {
            Err(QuotaFault::NoIp(Arc::clone(ip)))
        }
        (Some(_), None, None) | (None, _, _) => Ok(()),
        (Some(_), _, _) => Err(QuotaFault::IpAndOther),
    }
}

/// Checks a value (`ClientQuotaControlManager.validateQuotaKeyValue`), and names its key.
///
/// # Errors
///
/// An unknown key, or a value that it cannot have. What is no number passes, as at Kafka, and
/// limits nothing.
pub fn check_value(entity: &QuotaEntity, key: &str, value: f64) -> Result<QuotaKey, QuotaFault> {
    let known = QuotaKey::of(key).filter(|key| key.fits(entity));
    let known = known.ok_or_else(|| QuotaFault::UnknownKey(key.to_owned()))?;
    if value <= 0.0 {
        return Err(QuotaFault::NotPositive(known.name()));
    }
    if let Some((max, type_name)) = known.whole() {
        if value > max {
            return Err(QuotaFault::TooLarge(known.name(), type_name));
        }
        if (value % 1.0).abs() > FRACTION_MAX {
            return Err(QuotaFault::Fraction(known.name()));
        }
    }
    Ok(known)
}

/// What counts as no fraction.
const FRACTION_MAX: f64 = 1e-6;

/// Who the clients are on a listener without authentication.
const ANONYMOUS: &str = "ANONYMOUS";

/// Whose bytes are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Counted {
    broker: BrokerId,
    key: QuotaKey,
    user: Option<&'static str>,
    client_id: Option<Arc<str>>,
}

/// The quotas of a cluster, and the rates that they limit.
#[derive(Clone, Debug)]
pub struct Quotas {
    window: Window,
    limits: BTreeMap<QuotaEntity, BTreeMap<QuotaKey, f64>>,
    rates: BTreeMap<Counted, Rate>,
    rates_dropped: u64,
}

impl Quotas {
    /// No quotas.
    #[must_use]
    pub const fn new(window: Window) -> Self {
        Self {
            window,
            limits: BTreeMap::new(),
            rates: BTreeMap::new(),
            rates_dropped: 0,
        }
    }

    /// Sets a value that was checked.
    ///
    /// # Errors
    ///
    /// Too many entities, or a name that is too long.
    pub fn set(
        &mut self,
        entity: QuotaEntity,
        key: QuotaKey,
        value: f64,
    ) -> Result<(), QuotaFault> {
        let is_long = |name: &str| name.len() > NAME_BYTES_MAX;
        if entity
            .parts()
            .any(|(_, part)| part.name().is_some_and(is_long))
        {
            return Err(QuotaFault::LongName);
        }
        if self.limits.len() == ENTITIES_MAX && !self.limits.contains_key(&entity) {
            return Err(QuotaFault::TooMany);
        }
        self.limits.entry(entity).or_default().insert(key, value);
        Ok(())
    }

    /// Removes a value, if it is there.
    pub fn remove(&mut self, entity: &QuotaEntity, key: QuotaKey) {
        if let Some(values) = self.limits.get_mut(entity) {
            values.remove(&key);
            if values.is_empty() {
                self.limits.remove(entity);
            }
        }
    }

    /// Every entity with its values.
    pub fn entries(&self) -> impl Iterator<Item = (&QuotaEntity, &BTreeMap<QuotaKey, f64>)> {
        self.limits.iter()
    }

    /// Counts bytes of a client at a broker, and tells for how long it is to be silent.
    pub fn record(
        &mut self,
        key: QuotaKey,
        (broker, client_id): (BrokerId, &str),
        bytes: usize,
        now_ms: i64,
    ) -> Duration {
        let Some((limit, counted)) = self.limit(key, broker, client_id) else {
            return Duration::ZERO;
        };
        self.make_room(&counted, now_ms);
        let rate = self.rates.entry(counted).or_default();
        rate.record(bytes as f64, self.window, now_ms);
        rate.excess(limit, self.window, now_ms)
    }

    /// Takes back what was counted: it is not sent after all.
    pub fn take_back(
        &mut self,
        key: QuotaKey,
        (broker, client_id): (BrokerId, &str),
        bytes: usize,
        now_ms: i64,
    ) {
        if let Some((_, counted)) = self.limit(key, broker, client_id)
            && let Some(rate) = self.rates.get_mut(&counted)
        {
            rate.record(-(bytes as f64), self.window, now_ms);
        }
    }

    /// How many bytes a client may move at once without being throttled, if nothing came before;
    /// `None` when nothing limits it.
    #[must_use]
    pub fn burst_bytes(&self, key: QuotaKey, broker: BrokerId, client_id: &str) -> Option<i32> {
        let (limit, _) = self.limit(key, broker, client_id)?;
        // The conversion saturates, and what is no number limits nothing.
        let burst = limit * self.window.seconds_min();
        (!burst.is_nan()).then_some(burst as i32)
    }

    /// How many rates were forgotten that still counted something.
    #[must_use]
    pub const fn rates_dropped(&self) -> u64 {
        self.rates_dropped
    }

    /// Which value limits a client, and with whom it shares it.
    fn limit(&self, key: QuotaKey, broker: BrokerId, client_id: &str) -> Option<(f64, Counted)> {
        if self.limits.is_empty() {
            return None;
        }
        let user = || Some(EntityName::named(ANONYMOUS));
        let client = || Some(EntityName::named(client_id));
        let default = || Some(EntityName::Default);
        let by_precedence = [
            (user(), client()),
            (user(), default()),
            (user(), None),
            (default(), client()),
            (default(), default()),
            (default(), None),
            (None, client()),
            (None, default()),
        ];
        // A client without an id is limited by quotas on users alone (observed).
        let named =
            |(_, of_client): &(_, Option<EntityName>)| of_client.is_none() || !client_id.is_empty();
        let mut names = by_precedence.into_iter().filter(named);
        let (limit, entity) = names.find_map(|(user, client_id)| {
            let entity = QuotaEntity {
                client_id,
                user,
                ip: None,
            };
            let limit = self.limits.get(&entity)?.get(&key)?;
            Some((*limit, entity))
        })?;
        let counted = Counted {
            broker,
            key,
            user: entity.user.map(|_| ANONYMOUS),
            client_id: entity.client_id.map(|_| client_id.into()),
        };
        Some((limit, counted))
    }

    fn make_room(&mut self, counted: &Counted, now_ms: i64) {
        if self.rates.len() < RATES_MAX || self.rates.contains_key(counted) {
            return;
        }
        let window = self.window;
        self.rates
            .retain(|_, rate| !rate.is_obsolete(window, now_ms));
        if self.rates.len() == RATES_MAX {
            self.rates.pop_first();
            self.rates_dropped += 1;
        }
    }

    /// Panics when an invariant of this file does not hold.
    pub fn check_invariants(&self) {
        assert!(self.limits.len() <= ENTITIES_MAX, "quotas 4");
        assert!(self.rates.len() <= RATES_MAX, "quotas 4");
        for (entity, values) in &self.limits {
            assert!(!values.is_empty(), "quotas 1: {entity}");
            assert_eq!(check_entity(entity), Ok(()), "quotas 1");
            for (key, value) in values {
                let checked = check_value(entity, key.name(), *value);
                assert_eq!(checked, Ok(*key), "quotas 1: {entity}");
            }
        }
        for rate in self.rates.values() {
            rate.check_invariants(self.window);
        }
    }
}

impl Cluster {
    /// The quotas of the clients.
    #[must_use]
    pub const fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Sets a quota, or removes it, as a move says it.
    pub(super) fn quota_move(
        &mut self,
        client_id: Option<&Arc<str>>,
        user: Option<&Arc<str>>,
        (key, value): (&str, Option<u32>),
    ) -> Result<(), MoveError> {
        let part = |name: &Arc<str>| match &**name {
            DEFAULT_NAME => EntityName::Default,
            _ => EntityName::Named(Arc::clone(name)),
        };
        let entity = QuotaEntity {
            client_id: client_id.map(part),
            user: user.map(part),
            ip: None,
        };
        let refused = |_: QuotaFault| MoveError::BadQuota;
        check_entity(&entity).map_err(refused)?;
        let value = value.map(f64::from);
        let known = match value {
            Some(value) => check_value(&entity, key, value).map_err(refused)?,
            None => QuotaKey::of(key).ok_or(MoveError::BadQuota)?,
        };
        self.set_quota(&entity, known, value).map_err(refused)
    }

    /// Sets a quota that was checked, or removes it.
    ///
    /// # Errors
    ///
    /// Too many entities.
    pub fn set_quota(
        &mut self,
        entity: &QuotaEntity,
        key: QuotaKey,
        value: Option<f64>,
    ) -> Result<(), QuotaFault> {
        match value {
            Some(value) => {
                self.quotas.set(entity.clone(), key, value)?;
                if !key.is_modelled() {
                    self.note(format!("{} is kept and throttles nobody", key.name()));
                }
            }
            None => self.quotas.remove(entity, key),
        }
        Ok(())
    }

    /// Counts bytes of a client at a broker, and tells for how long it is to be silent.
    pub fn weigh(
        &mut self,
        key: QuotaKey,
        who: (BrokerId, &str),
        bytes: usize,
        now: Instant,
    ) -> Duration {
        let dropped = self.quotas.rates_dropped();
        let throttle = self.quotas.record(key, who, bytes, whole_ms(now));
        if self.quotas.rates_dropped() > dropped {
            self.note(format!(
                "more than {RATES_MAX} clients are near their quotas: one is forgotten"
            ));
        }
        throttle
    }

    /// Takes back what was counted: it is not sent after all.
    pub fn take_back(&mut self, key: QuotaKey, who: (BrokerId, &str), bytes: usize, now: Instant) {
        self.quotas.take_back(key, who, bytes, whole_ms(now));
    }
}

fn whole_ms(now: Instant) -> i64 {
    i64::try_from(now.as_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const HERE: BrokerId = BrokerId(1);
    const THERE: BrokerId = BrokerId(2);
    const PRODUCER: QuotaKey = QuotaKey::ProducerByteRate;

    fn quotas(set: &[(QuotaEntity, f64)]) -> Quotas {
        let mut quotas = Quotas::new(Window {
            samples: 11,
            sample_ms: 1_000,
        });
        for (entity, value) in set {
            check_entity(entity).unwrap();
            quotas.set(entity.clone(), PRODUCER, *value).unwrap();
        }
        quotas.check_invariants();
        quotas
    }

    fn throttle_ms(quotas: &mut Quotas, who: (BrokerId, &str), bytes: usize) -> u128 {
        let excess = quotas.record(PRODUCER, who, bytes, 0);
        quotas.check_invariants();
        excess.as_millis()
    }

    /// Each of them with another value, from the least to the most specific.
    fn by_precedence() -> Vec<(QuotaEntity, f64)> {
        let user = || QuotaEntity::user("ANONYMOUS");
        let entities = [
            QuotaEntity::default_client_id(),
            QuotaEntity::client_id("app"),
            QuotaEntity::default_user(),
            QuotaEntity::default_user().and_default_client_id(),
            QuotaEntity::default_user().and_client_id("app"),
            user(),
            user().and_default_client_id(),
            user().and_client_id("app"),
        ];
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        entities.into_iter().zip(values).collect()
    }

    #[test]
    fn most_specific_quota_decides() {
        let all = by_precedence();
        for count in 1..=all.len() {
            let quotas = quotas(&all[..count]);
            let limit = quotas.limit(PRODUCER, HERE, "app").map(|(limit, _)| limit);
            assert_eq!(limit, Some(all[count - 1].1), "{}", all[count - 1].0);
        }
    }

    #[rstest]
    #[case::another_client(QuotaEntity::client_id("other"))]
    #[case::another_user(QuotaEntity::user("somebody"))]
    #[case::another_pair(QuotaEntity::user("ANONYMOUS").and_client_id("other"))]
    fn who_is_not_named_is_not_limited(#[case] entity: QuotaEntity) {
        let mut quotas = quotas(&[(entity, 1.0)]);
        assert_eq!(throttle_ms(&mut quotas, (HERE, "app"), 1_000_000), 0);
    }

    #[test]
    fn client_without_an_id_is_limited_by_its_user_alone() {
        let mut by_client = quotas(&[(QuotaEntity::default_client_id(), 10_000.0)]);
        assert_eq!(throttle_ms(&mut by_client, (HERE, ""), 200_000), 0);
        let pair = QuotaEntity::default_user().and_default_client_id();
        let mut by_user = quotas(&[(pair, 1.0), (QuotaEntity::default_user(), 10_000.0)]);
        assert_eq!(throttle_ms(&mut by_user, (HERE, ""), 200_000), 10_000);
    }

    #[test]
    fn clients_of_a_user_share_its_quota_and_clients_of_the_default_do_not() {
        let mut by_user = quotas(&[(QuotaEntity::user("ANONYMOUS"), 10_000.0)]);
        assert_eq!(throttle_ms(&mut by_user, (HERE, "a"), 100_000), 0);
        assert_eq!(throttle_ms(&mut by_user, (HERE, "b"), 1_000), 100);
        let mut by_default = quotas(&[(QuotaEntity::default_client_id(), 10_000.0)]);
        assert_eq!(throttle_ms(&mut by_default, (HERE, "a"), 100_000), 0);
        assert_eq!(throttle_ms(&mut by_default, (HERE, "b"), 1_000), 0);
        assert_eq!(throttle_ms(&mut by_default, (HERE, "a"), 1_000), 100);
    }

    #[test]
    fn each_broker_counts_for_itself() {
        let mut quotas = quotas(&[(QuotaEntity::client_id("app"), 10_000.0)]);
        assert_eq!(throttle_ms(&mut quotas, (HERE, "app"), 100_000), 0);
        assert_eq!(throttle_ms(&mut quotas, (THERE, "app"), 100_000), 0);
        assert_eq!(throttle_ms(&mut quotas, (THERE, "app"), 1_000), 100);
    }

    #[test]
    fn removed_quota_limits_nobody_and_leaves_no_entity() {
        let entity = QuotaEntity::client_id("app");
        let mut quotas = quotas(&[(entity.clone(), 10_000.0)]);
        quotas.remove(&entity, QuotaKey::ConsumerByteRate);
        assert_eq!(quotas.entries().count(), 1);
        quotas.remove(&entity, PRODUCER);
        assert_eq!(quotas.entries().count(), 0);
        assert_eq!(throttle_ms(&mut quotas, (HERE, "app"), 1_000_000), 0);
    }

    #[test]
    fn what_was_taken_back_does_not_count() {
        let mut quotas = quotas(&[(QuotaEntity::client_id("app"), 10_000.0)]);
        assert_eq!(throttle_ms(&mut quotas, (HERE, "app"), 200_000), 10_000);
        quotas.take_back(PRODUCER, (HERE, "app"), 200_000, 0);
        assert_eq!(throttle_ms(&mut quotas, (HERE, "app"), 100_000), 0);
        let burst = quotas.burst_bytes(PRODUCER, HERE, "app");
        assert_eq!(burst, Some(100_000), "ten seconds of it");
    }

    #[test]
    fn entities_and_rates_are_bounded() {
        let name = |number: usize| QuotaEntity::client_id(number.to_string());
        let mut quotas = quotas(&[(QuotaEntity::default_client_id(), 1.0)]);
        for number in 1..ENTITIES_MAX {
            quotas.set(name(number), PRODUCER, 1.0).unwrap();
        }
        assert_eq!(quotas.set(name(0), PRODUCER, 1.0), Err(QuotaFault::TooMany));
        assert_eq!(quotas.set(name(1), PRODUCER, 2.0), Ok(()), "it is there");
        for number in 0..=RATES_MAX {
            quotas.record(PRODUCER, (HERE, &number.to_string()), 1, 0);
        }
        quotas.check_invariants();
        assert_eq!(quotas.rates_dropped(), 1);
        quotas.record(PRODUCER, (HERE, "late"), 1, 60_000);
        assert_eq!(
            (quotas.rates_dropped(), quotas.rates.len()),
            (1, 1),
            "the old count nothing"
        );
    }

    /// Observed on 4.3.1, every message word by word.
    #[rstest]
    #[case(
        "producer_byte_rate",
        0.0,
        "Quota producer_byte_rate must be greater than 0"
    )]
    #[case("request_percentage", -1.0, "Quota request_percentage must be greater than 0")]
    #[case(
        "producer_byte_rate",
        1.5,
        "producer_byte_rate cannot be a fractional value."
    )]
    #[case(
        "consumer_byte_rate",
        1e19,
        "Proposed value for consumer_byte_rate is too large for a LONG."
    )]
    #[case(
        "producer_byte_rate",
        f64::INFINITY,
        "Proposed value for producer_byte_rate is too large for a LONG."
    )]
    #[case("nonsense", 1.0, "Invalid configuration key nonsense")]
    #[case(
        "connection_creation_rate",
        1.0,
        "Invalid configuration key connection_creation_rate"
    )]
    fn bad_value_is_refused_in_kafkas_words(
        #[case] key: &str,
        #[case] value: f64,
        #[case] message: &str,
    ) {
        let fault = check_value(&QuotaEntity::client_id("app"), key, value).unwrap_err();
        assert_eq!(fault.to_string(), message);
    }

    #[rstest]
    #[case(
        "connection_creation_rate",
        5.5,
        "connection_creation_rate cannot be a fractional value."
    )]
    #[case(
        "connection_creation_rate",
        5e9,
        "Proposed value for connection_creation_rate is too large for an INT."
    )]
    #[case(
        "producer_byte_rate",
        5.0,
        "Invalid configuration key producer_byte_rate"
    )]
    fn bad_value_of_an_ip_is_refused(#[case] key: &str, #[case] value: f64, #[case] message: &str) {
        let fault = check_value(&ip(EntityName::Default), key, value).unwrap_err();
        assert_eq!(fault.to_string(), message);
    }

    #[rstest]
    #[case("producer_byte_rate", f64::NAN)]
    #[case("producer_byte_rate", 1.000_000_1)]
    #[case("request_percentage", 0.5)]
    #[case("controller_mutation_rate", 1.5)]
    fn good_value_is_taken(#[case] key: &str, #[case] value: f64) {
        let known = check_value(&QuotaEntity::client_id("app"), key, value).unwrap();
        assert_eq!(known.name(), key);
    }

    fn ip(name: EntityName) -> QuotaEntity {
        QuotaEntity {
            ip: Some(name),
            ..QuotaEntity::default()
        }
    }

    #[rstest]
    #[case(QuotaEntity::default(), "Invalid empty client quota entity")]
    #[case(QuotaEntity::client_id(""), "Empty client-id not supported")]
    #[case(QuotaEntity::user("a").and_client_id(""), "Empty client-id not supported")]
    #[case(QuotaEntity::user(""), "Empty user not supported")]
    #[case(ip(EntityName::named("")), "Empty ip not supported")]
    #[case(
        ip(EntityName::named("not.an.ip")),
        "not.an.ip is not a valid IP or resolvable host."
    )]
    #[case(
        QuotaEntity { ip: Some(EntityName::Default), ..QuotaEntity::user("a") },
        "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId"
    )]
    fn bad_entity_is_refused_in_kafkas_words(#[case] entity: QuotaEntity, #[case] message: &str) {
        assert_eq!(check_entity(&entity).unwrap_err().to_string(), message);
    }

    #[test]
    fn entity_reads_as_kafka_prints_it() {
        let entity = QuotaEntity::default_user().and_client_id("app");
        let expected = "ClientQuotaEntity(entries={client-id=app, user=null})";
        assert_eq!(entity.to_string(), expected);
    }

    #[test]
    fn a_name_that_no_client_can_have_gets_no_quota() {
        let mut quotas = quotas(&[]);
        let named = |bytes: usize| QuotaEntity::client_id("a".repeat(bytes));
        let set = quotas.set(named(NAME_BYTES_MAX), PRODUCER, 1.0);
        assert_eq!(set, Ok(()));
        let set = quotas.set(named(NAME_BYTES_MAX + 1), PRODUCER, 1.0);
        assert_eq!(set, Err(QuotaFault::LongName));
    }
}
