//! A client that knows frames and one request, written from the protocol guide.

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

    /// Asks for the versions, under this correlation id.
    pub(crate) async fn ask(&mut self, correlation_id: i32) {
        self.send_bytes(&api_versions(correlation_id)).await;
    }

    /// The correlation id of the next reply; `None` when the connection ends.
    pub(crate) async fn answer(&mut self) -> Option<i32> {
        let receiving = receive(&mut self.stream);
        tokio::time::timeout(self.patience, receiving)
            .await
            .expect("an answer or an end")
    }
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
