//! Which addresses a broker's name has, and whose turn it is.
//!
//! A name may have several addresses (`client.dns.lookup`, KIP-302, KIP-602). An attempt to connect
//! goes through all of them, from the one behind that which was tried last: an address that stays
//! silent until the attempt is given up is not the first of the next attempt too.
//!
//! *Invariants*
//! 1. A name is looked up for every attempt, so that a change is seen.
//! 2. Each address stands once, in the resolver's order, turned by what was tried last.
//!
//! *Source*: Kafka's `ClusterConnectionStates.NodeConnectionState`, `ClientUtils.resolve`,
//! `ClientUtils.parseAndValidateAddresses`.
//!
//! *Not here*: connecting (`transport.rs`), how long an attempt may take (the engine).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::lookup_host;
use tokio::task::spawn_blocking;

use crate::engine::effect::Address;

/// What a name of `bootstrap.servers` stands for (`client.dns.lookup`).
///
/// A broker's own name, which metadata tells, always stands for all its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsLookup {
    /// `use_all_dns_ips`: for all its addresses; they are tried in turn.
    #[default]
    UseAllIps,
    /// `resolve_canonical_bootstrap_servers_only`: for the canonical names of its addresses, which
    /// are looked up in reverse; each of those stands for all its addresses. For names that stand
    /// for a whole cluster, where who connects must use a broker's own.
    CanonicalBootstrapServers,
}

impl DnsLookup {
    /// Kafka's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UseAllIps => "use_all_dns_ips",
            Self::CanonicalBootstrapServers => "resolve_canonical_bootstrap_servers_only",
        }
    }
}

/// A question to a resolver that is being answered.
pub(crate) type Lookup<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// Answers for names.
pub(crate) trait Resolver: fmt::Debug + Send + Sync + 'static {
    /// The addresses of a name, the one to be tried first in front.
    fn addresses(&self, name: &str, port: u16) -> Lookup<Vec<SocketAddr>>;
    /// The name of an address.
    fn name_of(&self, address: IpAddr) -> Lookup<String>;
}

/// The system's own, as its other programs use it.
#[derive(Debug)]
pub(crate) struct SystemResolver;

impl Resolver for SystemResolver {
    fn addresses(&self, name: &str, port: u16) -> Lookup<Vec<SocketAddr>> {
        let name = name.to_owned();
        Box::pin(async move { Ok(lookup_host((name, port)).await?.collect()) })
    }

    fn name_of(&self, address: IpAddr) -> Lookup<String> {
        // The system has no other way than one that blocks its thread.
        let asked = spawn_blocking(move || dns_lookup::lookup_addr(&address));
        Box::pin(async move {
            let found = asked.await.map_err(io::Error::other)?;
            found.map_err(io::Error::from)
        })
    }
}

/// What the names of brokers stand for.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    resolver: Arc<dyn Resolver>,
    /// Those that stand for the canonical names of their addresses.
    canonical: Arc<BTreeSet<Address>>,
    tried: Arc<Mutex<BTreeMap<Address, SocketAddr>>>,
}

impl Names {
    /// For a producer with these bootstrap addresses.
    pub(crate) fn new(
        lookup: DnsLookup,
        bootstrap: &[Address],
        resolver: Arc<dyn Resolver>,
    ) -> Self {
        let canonical = match lookup {
            DnsLookup::UseAllIps => BTreeSet::new(),
            DnsLookup::CanonicalBootstrapServers => bootstrap.iter().cloned().collect(),
        };
        Self {
            resolver,
            canonical: Arc::new(canonical),
            tried: Arc::default(),
        }
    }

    /// The addresses to try, in order.
    pub(crate) async fn find(&self, address: &Address) -> io::Result<Vec<SocketAddr>> {
        let mut found = self.resolver.addresses(&address.host, address.port).await?;
        if self.canonical.contains(address) {
            found = self.by_canonical_names(found).await;
        }
        let mut seen = BTreeSet::new();
        found.retain(|one| seen.insert(*one));
        let last = self.lock_tried().get(address).copied();
        if let Some(place) = found.iter().position(|one| Some(*one) == last) {
            found.rotate_left(place + 1);
        }
        Ok(found)
    }

    /// An address is tried: the next attempt begins behind it.
    pub(crate) fn on_tried(&self, address: &Address, resolved: SocketAddr) {
        self.lock_tried().insert(address.clone(), resolved);
    }

    /// What the canonical names of addresses stand for. An address without a name, or whose name
    /// does not lead back to it, stands for itself, as Java's `getCanonicalHostName` has it.
    async fn by_canonical_names(&self, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let mut found = Vec::new();
        for address in addresses {
            match self.of_canonical_name(address).await {
                Ok(named) if named.contains(&address) => found.extend(named),
                Ok(_) | Err(_) => found.push(address),
            }
        }
        found
    }

    async fn of_canonical_name(&self, address: SocketAddr) -> io::Result<Vec<SocketAddr>> {
        let name = self.resolver.name_of(address.ip()).await?;
        tracing::debug!(%address, name, "canonical name");
        self.resolver.addresses(&name, address.port()).await
    }

    fn lock_tried(&self) -> std::sync::MutexGuard<'_, BTreeMap<Address, SocketAddr>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::future::ready;

    /// A resolver that knows what stands in it.
    #[derive(Debug, Default)]
    pub(crate) struct Table {
        names: BTreeMap<String, Vec<IpAddr>>,
        reverse: BTreeMap<IpAddr, String>,
    }

    impl Table {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn name(mut self, name: &str, addresses: &[&str]) -> Self {
            let addresses = addresses.iter().map(|one| ip(one));
            self.names.insert(name.to_owned(), addresses.collect());
            self
        }

        fn reverse(mut self, address: &str, name: &str) -> Self {
            self.reverse.insert(ip(address), name.to_owned());
            self
        }
    }

    impl Resolver for Table {
        fn addresses(&self, name: &str, port: u16) -> Lookup<Vec<SocketAddr>> {
            let known = self.names.get(name);
            let found = known.map(|all| all.iter().map(|one| (*one, port).into()).collect());
            Box::pin(ready(found.ok_or_else(|| io::Error::other("no such name"))))
        }

        fn name_of(&self, address: IpAddr) -> Lookup<String> {
            let found = self.reverse.get(&address).cloned();
            Box::pin(ready(
                found.ok_or_else(|| io::Error::other("no such address")),
            ))
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn kafka() -> Address {
        Address {
            host: "kafka.test".into(),
            port: 9092,
        }
    }

    fn names(lookup: DnsLookup, table: Table) -> Names {
        Names::new(lookup, &[kafka()], Arc::new(table))
    }

    async fn found(names: &Names, address: &Address) -> Vec<String> {
        let found = names.find(address).await.expect("known");
        found.iter().map(|one| one.ip().to_string()).collect()
    }

    fn three() -> Table {
        Table::new().name("kafka.test", &["10.0.0.1", "10.0.0.2", "10.0.0.3"])
    }

    #[tokio::test]
    async fn all_addresses_of_a_name_are_tried_in_the_resolvers_order() {
        let names = names(DnsLookup::UseAllIps, three());
        assert_eq!(
            found(&names, &kafka()).await,
            ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
        );
    }

    /// It stayed silent until the attempt was given up.
    #[tokio::test]
    async fn the_next_attempt_begins_behind_the_address_tried_last() {
        let names = names(DnsLookup::UseAllIps, three());
        names.on_tried(&kafka(), (ip("10.0.0.2"), 9092).into());
        assert_eq!(
            found(&names, &kafka()).await,
            ["10.0.0.3", "10.0.0.1", "10.0.0.2"]
        );
        names.on_tried(&kafka(), (ip("10.9.9.9"), 9092).into());
        assert_eq!(
            found(&names, &kafka()).await[0],
            "10.0.0.1",
            "it is gone: from the start"
        );
    }

    #[tokio::test]
    async fn a_bootstrap_name_stands_for_the_canonical_names_of_its_addresses() {
        let table = three()
            .reverse("10.0.0.1", "one.kafka.test")
            .name("one.kafka.test", &["10.0.0.1", "10.1.0.1"])
            .reverse("10.0.0.2", "liar.kafka.test")
            .name("liar.kafka.test", &["10.6.6.6"]);
        let names = names(DnsLookup::CanonicalBootstrapServers, table);
        let expected = ["10.0.0.1", "10.1.0.1", "10.0.0.2", "10.0.0.3"];
        assert_eq!(found(&names, &kafka()).await, expected);
    }

    #[tokio::test]
    async fn a_brokers_own_name_stands_for_its_addresses_alone() {
        let table = Table::new()
            .name("broker.test", &["10.0.0.1"])
            .reverse("10.0.0.1", "one.kafka.test")
            .name("one.kafka.test", &["10.0.0.1", "10.1.0.1"]);
        let names = names(DnsLookup::CanonicalBootstrapServers, table);
        let broker = Address {
            host: "broker.test".into(),
            port: 9092,
        };
        assert_eq!(found(&names, &broker).await, ["10.0.0.1"]);
    }

    #[tokio::test]
    async fn the_system_knows_this_machine_by_name_and_by_address() {
        let found = SystemResolver.addresses("localhost", 9092).await;
        let found = found.expect("every system knows it");
        assert!(found.iter().all(|one| one.ip().is_loopback()), "{found:?}");
        let name = SystemResolver.name_of(ip("127.0.0.1")).await;
        assert!(!name.expect("every system knows it").is_empty());
    }
}
