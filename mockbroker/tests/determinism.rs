//! Level 2: the same seed and the same inputs give the same bytes, also through pipes and tasks.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod raw;

use core::time::Duration;

use kafka_mockbroker::inspect::Entry;
use kafka_mockbroker::{Api, BrokerId, MockCluster, QuotaEntity, Rule, Verdict};
use raw::{Client, batch, produce};

const PATIENCE: Duration = Duration::from_secs(500);

/// Three clients write in turn while replies are lost by chance, a client is throttled, a follower
/// is held and a broker crashes; what was answered, and the journal with the bytes of requests.
async fn run(seed: u64) -> (Vec<Option<i32>>, Vec<Entry>) {
    let cluster = MockCluster::builder()
        .brokers(3)
        .topic("orders", 2, 3)
        .seed(seed)
        .wall_clock_origin_ms(1_000)
        .journal_bytes(1 << 20)
        .quota(QuotaEntity::default_user(), "producer_byte_rate", 100.0)
        .start_in_memory()
        .unwrap();
    let by_chance = Rule::on(Api::Produce).always().probability(0.5);
    cluster.inject(by_chance.then(Verdict::CloseAfter)).keep();
    let mut answers = Vec::new();
    for round in 0..12 {
        match round {
            4 => cluster.hold_follower("orders", 0, BrokerId(2)).unwrap(),
            8 => cluster.crash_broker(BrokerId(3)).unwrap(),
            _ => {}
        }
        let mut client = Client::new(cluster.connect(9092).unwrap(), PATIENCE);
        let batches = [(0, batch(round, &["a"])), (1, batch(round, &["b"]))];
        client.send_bytes(&produce(round, "orders", &batches)).await;
        answers.push(client.answer().await);
    }
    (answers, cluster.journal())
}

#[tokio::test(start_paused = true)]
async fn same_seed_and_inputs_give_the_same_journal() {
    let (first, second) = (run(7).await, run(7).await);
    assert!(first.0.contains(&None), "chance lost something");
    assert!(first.0.iter().any(Option::is_some), "and not all");
    assert_eq!(first, second);
    assert_ne!(first.0, run(8).await.0, "another seed loses others");
}
