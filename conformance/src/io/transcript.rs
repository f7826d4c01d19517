//! What went over a case's connections, kept for the report of a failure.
//!
//! *Invariant*: at most [`FRAMES_MAX`] frames and, of each, [`FRAME_BYTES_MAX`] bytes are kept, so
//! that a case may send a million frames.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Frames kept per case: the last ones, as a failure shows in them.
pub const FRAMES_MAX: usize = 6;
/// Bytes kept per frame.
pub const FRAME_BYTES_MAX: usize = 512;

/// Which way a frame went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From the judge to the broker.
    Sent,
    /// From the broker to the judge.
    Received,
}

impl Direction {
    /// For reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Received => "received",
        }
    }
}

/// A frame that went over a connection, without its size prefix.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// Which way.
    pub direction: Direction,
    /// What it is, such as `Produce v12, correlation id 3`.
    pub what: String,
    /// Length of the whole frame.
    pub total_bytes: usize,
    /// The first [`FRAME_BYTES_MAX`] bytes.
    pub head: Bytes,
}

/// The frames of one case; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Transcript(Arc<Mutex<VecDeque<Frame>>>);

impl Transcript {
    /// Adds a frame and forgets the oldest if there are too many.
    pub fn note(&self, direction: Direction, what: impl Into<String>, frame: &[u8]) {
        let head = Bytes::copy_from_slice(&frame[..frame.len().min(FRAME_BYTES_MAX)]);
        let frame = Frame {
            direction,
            what: what.into(),
            total_bytes: frame.len(),
            head,
        };
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if frames.len() == FRAMES_MAX {
            frames.pop_front();
        }
        frames.push_back(frame);
    }

    /// The frames kept, oldest first.
    pub fn frames(&self) -> Vec<Frame> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transcript_keeps_the_last_frames_and_their_heads() {
        let transcript = Transcript::default();
        for index in 0..FRAMES_MAX + 3 {
            transcript.note(
                Direction::Sent,
                index.to_string(),
                &[0; FRAME_BYTES_MAX + 1],
            );
        }
        let frames = transcript.frames();
        assert_eq!(frames.len(), FRAMES_MAX);
        assert_eq!(frames[0].what, "3");
        assert_eq!(frames[0].head.len(), FRAME_BYTES_MAX);
        assert_eq!(frames[0].total_bytes, FRAME_BYTES_MAX + 1);
    }
}
