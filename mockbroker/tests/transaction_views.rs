//! What a test sees of transactions: their states, what lacks its marker, the last stable offset.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod frames;
mod raw;
mod txns;
mod world;

use core::time::Duration;

use bytes::Bytes;
use kafka_mockbroker::MockCluster;
use kafka_mockbroker::inspect::AbortedView;
use raw::Client;
use txns::Who;

const ID: &str = "payments";

fn sized(frame: &Bytes) -> Vec<u8> {
    let size = i32::try_from(frame.len()).unwrap();
    [&size.to_be_bytes()[..], frame].concat()
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_seen_from_its_beginning_to_its_end() {
    let builder = MockCluster::builder().topic("orders", 2, 1);
    let builder = builder.wall_clock_origin_ms(1_000);
    let cluster = builder.start_in_memory().unwrap();
    let connection = cluster.connect(9092).unwrap();
    let mut client = Client::new(connection, Duration::from_secs(60));
    assert_eq!(cluster.transaction(ID), None);
    // The first id of a cluster.
    let who = Who { id: 0, epoch: 0 };
    let frames = [
        txns::init(4, ID, 60_000, txns::NOBODY),
        txns::produce(12, ID, &[(0, txns::batch(who, 0, 2))]),
    ];
    for frame in frames {
        client.send_bytes(&sized(&frame)).await;
        assert_eq!(client.answer().await, Some(1));
    }
    let orders_0 = [("orders".into(), 0)];
    let open = cluster.transaction(ID).unwrap();
    assert_eq!((&*open.id, open.state), (ID, "Ongoing"));
    assert_eq!((open.producer_id, open.epoch), (0, 0));
    assert_eq!((open.timeout_ms, open.started_at_ms), (60_000, Some(1_000)));
    assert_eq!(open.partitions, orders_0);
    assert_eq!(open.without_marker, []);

    cluster.hold_markers("orders", 0).unwrap();
    client
        .send_bytes(&sized(&txns::end(5, ID, who, false)))
        .await;
    assert_eq!(client.answer().await, Some(1));
    let ending = cluster.transaction(ID).unwrap();
    assert_eq!((ending.state, ending.epoch), ("PrepareAbort", 1));
    assert_eq!(ending.without_marker, orders_0);
    let held = cluster.partition("orders", 0).unwrap();
    assert_eq!((held.last_stable_offset, held.high_watermark), (0, 2));
    assert_eq!(held.aborted_transactions, []);

    cluster.release_markers("orders", 0).unwrap();
    let ended = cluster.transaction(ID).unwrap();
    assert_eq!((ended.state, ended.epoch), ("CompleteAbort", 1));
    assert_eq!((ended.partitions, ended.without_marker), (vec![], vec![]));
    let partition = cluster.partition("orders", 0).unwrap();
    assert_eq!(
        (partition.last_stable_offset, partition.high_watermark),
        (3, 3)
    );
    let aborted = AbortedView {
        producer_id: 0,
        first_offset: 0,
        marker_offset: 2,
    };
    assert_eq!(partition.aborted_transactions, [aborted]);
    let records = cluster.records("orders", 0);
    assert_eq!(records.len(), 2, "a marker is no record");
}
