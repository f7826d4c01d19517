//! The journal as a stream: one entry a line, as they come.
//!
//! *Invariants*
//! 1. A reader that is slower than the cluster holds up nothing: a chunk waits for it, and entries
//!    that the journal forgets meanwhile are told as a number.
//! 2. The task ends when its reader goes.

use core::convert::Infallible;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::mpsc;

use super::report;
use crate::io::driver::Driver;

/// A body whose chunks come from elsewhere.
#[derive(Debug)]
pub(super) struct Chunks(mpsc::Receiver<Bytes>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.poll_recv(context);
        next.map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// The entries from this number on, and those that come.
pub(super) fn journal(driver: Arc<Driver>, from: u64) -> Chunks {
    let (chunks, body) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = write(&driver, from, &chunks) => {}
            () = chunks.closed() => {}
        }
    });
    Chunks(body)
}

async fn write(driver: &Driver, mut from: u64, chunks: &mpsc::Sender<Bytes>) {
    let mut news = driver.journal_written();
    loop {
        news.mark_unchanged();
        let slice = report::journal_slice(driver, from, SLICE_ENTRIES);
        let mut lines = String::new();
        if slice.first > from {
            let forgotten = serde_json::json!({"forgotten": slice.first - from});
            lines.push_str(&format!("{forgotten}\n"));
        }
        for entry in &slice.entries {
            lines.push_str(&format!("{entry}\n"));
        }
        from = slice.next;
        if lines.is_empty() {
            if news.changed().await.is_err() {
                return;
            }
        } else if chunks.send(lines.into()).await.is_err() {
            return;
        }
    }
}

/// Entries that are copied under the lock at once.
const SLICE_ENTRIES: usize = 256;
