//! A client that knows frames and one request, written from the protocol guide.

#![allow(dead_code, reason = "each file of tests uses its part")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failing helper fails its test"
)]

use core::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// One connection.
pub(crate) struct Client<S> {
    stream: S,
    patience: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// A client that fails its test when an answer takes longer than `patience`.
    pub(crate) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience }
    }

    /// Sends these bytes as they are.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Writes a record to `orders-0` by its own batch, and waits for the answer.
    pub(crate) async fn write(&mut self, sequence: i32, value: &str) {
        let batch = batch(sequence, &[value]);
        self.send_bytes(&produce(1, "orders", &[(0, batch)])).await;
        assert_eq!(self.answer().await, Some(1));
    }

    /// Asks for the versions, under this correlation id.
    pub(crate) async fn ask(&mut self, correlation_id: i32) {
        self.send_bytes(&api_versions(correlation_id)).await;
    }

    /// Neither a reply nor an end comes for so long.
    pub(crate) async fn nothing_arrives(&mut self, duration: Duration) {
        let receiving = receive(&mut self.stream);
        assert!(tokio::time::timeout(duration, receiving).await.is_err());
    }

    /// The correlation id of the next reply; `None` when the connection ends.
    pub(crate) async fn answer(&mut self) -> Option<i32> {
        let receiving = receive(&mut self.stream);
        tokio::time::timeout(self.patience, receiving)
            .await
            .expect("an answer or an end")
    }
}

/// Lets the paused clock go on.
pub(crate) async fn pass(duration: Duration) {
    let never = core::future::pending::<()>();
    assert!(tokio::time::timeout(duration, never).await.is_err());
}

async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Option<i32> {
    let size = stream.read_i32().await.ok()?;
    let mut frame = vec![0; usize::try_from(size).unwrap()];
    stream.read_exact(&mut frame).await.ok()?;
    Some(i32::from_be_bytes(*frame.first_chunk().unwrap()))
}

/// A complete ApiVersions v0 request: size, API key, version, correlation id, no client id.
pub(crate) fn api_versions(correlation_id: i32) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 10, 0, 18, 0, 0];
    bytes.extend(correlation_id.to_be_bytes());
    bytes.extend((-1_i16).to_be_bytes());
    bytes
}

/// A Produce v7 request with acks=all: a batch of these values for each of the partitions.
pub(crate) fn produce(correlation_id: i32, topic: &str, partitions: &[(i32, Vec<u8>)]) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 7];
    body.extend(correlation_id.to_be_bytes());
    // Neither client id nor transactional id; acks=all; a minute for replication.
    body.extend([-1_i16, -1, -1].map(i16::to_be_bytes).as_flattened());
    body.extend(60_000_i32.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
    body.extend(topic.as_bytes());
    body.extend(size(partitions.len()));
    for (partition, batch) in partitions {
        body.extend(partition.to_be_bytes());
        body.extend(size(batch.len()));
        body.extend(batch);
    }
    [&size(body.len())[..], &body].concat()
}

/// A record batch of producer 7 in epoch 0, from `base_sequence` on.
pub(crate) fn batch(base_sequence: i32, values: &[&str]) -> Vec<u8> {
    let last = i32::try_from(values.len()).unwrap() - 1;
    let mut checked = vec![0, 0];
    checked.extend(last.to_be_bytes());
    // Base and largest timestamp: now as far as this cluster is concerned.
    checked.extend([0_i64, 0].map(i64::to_be_bytes).as_flattened());
    checked.extend(7_i64.to_be_bytes());
    checked.extend(0_i16.to_be_bytes());
    checked.extend(base_sequence.to_be_bytes());
    checked.extend(size(values.len()));
    for (index, value) in (0..).zip(values) {
        let record = record(index, value);
        checked.push(zigzag(record.len()));
        checked.extend(record);
    }
    let mut batch = 0_i64.to_be_bytes().to_vec();
    // Behind the length: leader epoch, magic, checksum.
    batch.extend(size(9 + checked.len()));
    batch.extend([255, 255, 255, 255, 2]);
    batch.extend(crc32c::crc32c(&checked).to_be_bytes());
    batch.extend(checked);
    batch
}

/// A record with the key `k` and the header `h`: `v`.
fn record(index: usize, value: &str) -> Vec<u8> {
    let mut record = vec![0, 0, zigzag(index), zigzag(1), b'k', zigzag(value.len())];
    record.extend(value.as_bytes());
    record.extend([zigzag(1), zigzag(1), b'h', zigzag(1), b'v']);
    record
}

fn size(len: usize) -> [u8; 4] {
    i32::try_from(len).unwrap().to_be_bytes()
}

/// A number below 64 as a varint.
fn zigzag(number: usize) -> u8 {
    u8::try_from(number * 2)
        .ok()
        .filter(|byte| *byte < 128)
        .unwrap()
}
