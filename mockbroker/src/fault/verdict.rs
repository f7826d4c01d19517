//! Verdicts: what happens to a request.
//!
//! *Not here*: carrying one out (the handlers).

use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error_code::ErrorCode;

/// What happens to a request.
///
/// | | silence | connection ended | answered with a code | answered as it is |
/// |---|---|---|---|---|
/// | not applied | `Swallow` | `CloseBefore`, `ResetBefore` | `Answer` | |
/// | applied | `ApplyThenLose` | `CloseAfter`, `ResetAfter`, `CutAfter` | `ApplyThenAnswer` | `Pass`, `Delay`, `Drip` |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Verdict {
    /// As without the rule. A rule with this verdict only counts, and the next rule is asked.
    Pass,
    /// Refused with this code and not applied, in the partitions that the rule covers; the other
    /// partitions of the request are handled as without the rule.
    Answer(ErrorCode),
    /// Applied, then answered with this code in the partitions that the rule covers.
    ApplyThenAnswer(ErrorCode),
    /// Applied; the reply never leaves. The connection stays open and answers nothing more, as a
    /// broker whose request never ends: a later answer would carry the wrong correlation id. The
    /// client has to give up by its own request time-out.
    ApplyThenLose,
    /// Not applied and never answered; the connection stays open and answers nothing more, as with
    /// [`ApplyThenLose`](Self::ApplyThenLose).
    Swallow,
    /// Applied on arrival, the reply held back for this long, and with it the requests behind it on
    /// the same connection.
    Delay(#[serde(with = "crate::duration_form")] Duration),
    /// Not applied; the connection is closed.
    CloseBefore,
    /// Applied; the connection is closed in place of the reply.
    CloseAfter,
    /// Not applied; the connection is reset: on TCP the peer gets RST instead of FIN, in memory the
    /// pipe ends as with [`CloseBefore`](Self::CloseBefore).
    ResetBefore,
    /// Applied; the connection is reset in place of the reply, as with
    /// [`ResetBefore`](Self::ResetBefore).
    ResetAfter,
    /// Applied; the reply is cut after this many bytes, the four of its size included, and the
    /// connection closed. A reply that is no longer leaves whole.
    CutAfter(usize),
    /// Applied on arrival; the reply leaves in pieces, the first at once and the others after a
    /// pause each. The requests behind it on the connection wait for the last one.
    Drip {
        /// Bytes of a piece, the four of the reply's size included in the first; 0 means 1.
        piece_bytes: usize,
        /// Between two pieces.
        #[serde(with = "crate::duration_form")]
        pause: Duration,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => out.write_str("pass"),
            Self::Answer(code) => write!(out, "answer {code}"),
            Self::ApplyThenAnswer(code) => write!(out, "apply, then answer {code}"),
            Self::ApplyThenLose => out.write_str("apply, then lose the reply"),
            Self::Swallow => out.write_str("swallow"),
            Self::Delay(duration) => write!(out, "delay the reply by {duration:?}"),
            Self::CloseBefore => out.write_str("close before applying"),
            Self::CloseAfter => out.write_str("apply, then close"),
            Self::ResetBefore => out.write_str("reset before applying"),
            Self::ResetAfter => out.write_str("apply, then reset"),
            Self::CutAfter(bytes) => write!(out, "cut the reply after {bytes} bytes"),
            Self::Drip { piece_bytes, pause } => {
                write!(out, "drip the reply, {piece_bytes} bytes every {pause:?}")
            }
        }
    }
}
