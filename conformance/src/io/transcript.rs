//! What went over a case's connections, kept for the report of a failure, and whole for a
//! recording.
//!
//! *Invariants*
//! 1. At most [`FRAMES_MAX`] frames and, of each, [`FRAME_BYTES_MAX`] bytes are kept for reports,
//!    so that a case may send a million frames.
//! 2. Events are kept only by a transcript made [`whole`](Transcript::whole), all of them, but for
//!    what a wait for a state retracts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// Something that happened on a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// Which connection of the case.
    pub connection: usize,
    /// What.
    pub what: Happening,
}

/// What can happen on a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Happening {
    /// The judge sent a frame, here without its size.
    Asked(Bytes),
    /// The judge sent bytes that are no frame; what they are.
    SentRaw(String),
    /// The broker sent a frame.
    Answered(Bytes),
    /// The broker closed the connection.
    Closed,
    /// The judge waited and nothing came.
    Silent,
}

/// A place in the events of a transcript.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mark(usize);

/// The frames of one case; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Transcript(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    frames: VecDeque<Frame>,
    connections: usize,
    events: Option<Vec<Event>>,
    retracted: usize,
}

impl Transcript {
    /// A transcript that keeps every event too.
    pub fn whole() -> Self {
        let kept = Kept {
            events: Some(Vec::new()),
            ..Kept::default()
        };
        Self(Arc::new(Mutex::new(kept)))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a new connection.
    pub fn connection(&self) -> usize {
        let mut kept = self.kept();
        kept.connections += 1;
        kept.connections
    }

    /// Adds an event, if events are kept.
    pub fn event(&self, connection: usize, what: Happening) {
        if let Some(events) = &mut self.kept().events {
            events.push(Event { connection, what });
        }
    }

    /// The place after the last event.
    pub fn mark(&self) -> Mark {
        Mark(self.kept().events.as_ref().map_or(0, Vec::len))
    }

    /// Forgets the events after `mark`: a look that found the broker not ready yet, which will be
    /// taken again. How often that happens differs from run to run.
    pub fn retract(&self, mark: Mark) {
        let mut kept = self.kept();
        if let Some(events) = &mut kept.events {
            events.truncate(mark.0);
            kept.retracted += 1;
        }
    }

    /// The events, and how many looks were retracted.
    pub fn events(&self) -> (Vec<Event>, usize) {
        let kept = self.kept();
        (kept.events.clone().unwrap_or_default(), kept.retracted)
    }

    /// Adds a frame and forgets the oldest if there are too many.
    pub fn note(&self, direction: Direction, what: impl Into<String>, frame: &[u8]) {
        let head = Bytes::copy_from_slice(&frame[..frame.len().min(FRAME_BYTES_MAX)]);
        let frame = Frame {
            direction,
            what: what.into(),
            total_bytes: frame.len(),
            head,
        };
        let frames = &mut self.kept().frames;
        if frames.len() == FRAMES_MAX {
            frames.pop_front();
        }
        frames.push_back(frame);
    }

    /// The frames kept, oldest first.
    pub fn frames(&self) -> Vec<Frame> {
        self.kept().frames.iter().cloned().collect()
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

    #[test]
    fn events_are_kept_by_a_whole_transcript_alone_and_a_look_can_be_retracted() {
        let (short, whole) = (Transcript::default(), Transcript::whole());
        for transcript in [&short, &whole] {
            transcript.event(transcript.connection(), Happening::Closed);
            let mark = transcript.mark();
            transcript.event(transcript.connection(), Happening::Silent);
            transcript.retract(mark);
        }
        assert_eq!(short.events(), (Vec::new(), 0));
        let (connection, what) = (1, Happening::Closed);
        assert_eq!(whole.events(), (vec![Event { connection, what }], 1));
    }
}
