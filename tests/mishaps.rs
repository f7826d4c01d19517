//! What befalls a cluster, drawn: any fault that loses nothing which the cluster promises to keep.
//!
//! *Not here*: what programs do meanwhile (`deeds.rs`, `transaction_deeds.rs`).

use std::sync::Arc;
use std::time::Duration;

use kafka_mockbroker::engine::chance::{Field, Losses};
use kafka_mockbroker::engine::effect::BrokerId;
use kafka_mockbroker::engine::moves::Move;
use kafka_mockbroker::{Api, FaultGuard, MockCluster, QuotaEntity, Rule, Verdict};
use promises::misfortune::healing;
use proptest::prelude::*;

pub(crate) const PARTITIONS: i32 = 3;
pub(crate) const BROKERS: i32 = 3;
const TOPIC: &str = "orders";

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// A rule acts in the cluster until the end of faults.
    Rule {
        api: Api,
        nth: u64,
        count: u64,
        verdict: Verdict,
    },
    /// The cluster moves: brokers, leaders, replicas, coordinators, markers, levels.
    Move(Move),
    /// A broker is started again, and speaks nothing newer of an API.
    Downgrade { broker: i32, api: Api, max: i16 },
    /// Producers may send so many bytes a second.
    Quota(u32),
}

/// What hides an answer, breaks it, or brings it late.
pub(crate) fn silence() -> impl Strategy<Value = Verdict> + Clone {
    let late = |ms| Verdict::Delay(Duration::from_millis(ms));
    let drip = |(piece_bytes, ms)| Verdict::Drip {
        piece_bytes,
        pause: Duration::from_millis(ms),
    };
    prop_oneof![
        1 => Just(Verdict::Swallow),
        2 => Just(Verdict::ApplyThenLose),
        1 => Just(Verdict::CloseBefore),
        1 => Just(Verdict::CloseAfter),
        1 => Just(Verdict::ResetBefore),
        1 => Just(Verdict::ResetAfter),
        1 => (0_usize..80).prop_map(Verdict::CutAfter),
        2 => (1_u64..3_000).prop_map(late),
        1 => (1_usize..40, 0_u64..100).prop_map(drip),
    ]
}

/// Whatever a cluster can do, and a downgrade to one of these: API, its oldest and newest version.
pub(crate) fn of_cluster(downgrades: &'static [(Api, i16, i16)]) -> impl Strategy<Value = Fault> {
    let field = Field {
        brokers: (1..=BROKERS).map(BrokerId).collect(),
        partitions: partitions().collect(),
        losses: Losses::None,
        delay_max: Duration::from_secs(2),
    };
    let drawn = any::<u64>().prop_map(move |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        Fault::Move(field.draw(&mut random))
    });
    let downgrade = prop::sample::select(downgrades).prop_flat_map(|(api, oldest, newest)| {
        let drawn = (1..=BROKERS, oldest..=newest);
        drawn.prop_map(move |(broker, max)| Fault::Downgrade { broker, api, max })
    });
    prop_oneof![
        8 => drawn,
        1 => downgrade,
        1 => (100_u32..2_000).prop_map(Fault::Quota),
    ]
}

fn partitions() -> impl Iterator<Item = (Arc<str>, i32)> {
    (0..PARTITIONS).map(|number| (Arc::from(TOPIC), number))
}

/// Lets it happen; what the cluster's state does not allow changes nothing.
pub(crate) fn strike(cluster: &MockCluster, fault: &Fault) -> Option<FaultGuard> {
    match fault {
        Fault::Rule {
            api,
            nth,
            count,
            verdict,
        } => {
            let rule = Rule::on(*api).nth(*nth).count(*count).then(*verdict);
            return Some(cluster.inject(rule));
        }
        Fault::Move(to_make) => {
            let _ = cluster.make(to_make);
        }
        Fault::Downgrade { broker, api, max } => {
            let broker = BrokerId(*broker);
            // Another version of a broker is another process.
            let _ = cluster.crash_broker(broker);
            let _ = cluster.make(&Move::RestrictVersions {
                broker,
                api: *api,
                min: 0,
                max: *max,
            });
            let _ = cluster.restart_broker(broker);
        }
        Fault::Quota(bytes) => limit(cluster, Some(*bytes)),
    }
    None
}

fn limit(cluster: &MockCluster, bytes: Option<u32>) {
    const BYTES: &str = "producer_byte_rate";
    let everyone = QuotaEntity::default_client_id();
    let _ = match bytes {
        Some(bytes) => cluster.set_quota(&everyone, BYTES, bytes.into()),
        None => cluster.remove_quota(&everyone, BYTES),
    };
}

/// Ends what the cluster does wrong, but for rules.
pub(crate) fn heal(cluster: &MockCluster) {
    limit(cluster, None);
    for to_make in healing(BROKERS, partitions()) {
        let _ = cluster.make(&to_make);
    }
}
