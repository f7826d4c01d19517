//! The judge's own bytes: frames, requests, answers, record batches.
//!
//! Nothing here is shared with the producer or the mock, because it judges both: requests are laid
//! out by the `kafka-protocol` crate (in [`request`] alone), answers and record batches are read
//! and written by code of this crate, so that a malformed answer is named by its offset and a
//! malformed batch can be built on purpose.
//!
//! Pure: no sockets, no clock, no randomness.

pub mod admin;
pub mod answer;
pub mod batch;
pub mod codec;
pub mod described;
pub mod error_code;
pub mod group_deletion;
pub mod group_offsets;
mod group_request;
pub mod groups;
pub mod hex;
pub mod produce;
pub mod reader;
pub mod records;
pub mod redirect;
pub mod request;
mod trace;
mod transaction_request;
mod transaction_walk;
pub mod transactional;
pub mod tree;
pub mod txn_markers;

use bytes::Bytes;
use serde_json::Value;

use reader::{DecodeError, Layout, Reader};
use request::EncodeError;

/// A question that can be put on the wire at a version, and the reading of its answer.
pub trait Request {
    /// What the broker answers.
    type Answer;
    /// The API's number.
    const API_KEY: i16;
    /// The API's name, for transcripts.
    const NAME: &'static str;
    /// The newest version that the judge reads.
    const VERSION_MAX: i16;
    /// First version with compact lengths and tagged fields.
    const FLEXIBLE_FROM: i16;
    /// ApiVersions answers with the old response header at every version, since the client cannot
    /// know yet what the broker speaks (KIP-511).
    const PLAIN_RESPONSE_HEADER: bool = false;

    /// The request's body at `version`.
    ///
    /// # Errors
    ///
    /// When the request cannot be expressed at that version.
    fn body(&self, version: i16) -> Result<Bytes, EncodeError>;

    /// Reads the answer's body.
    ///
    /// # Errors
    ///
    /// When the bytes are not an answer of that version.
    fn read_answer(reader: &mut Reader<'_>, version: i16) -> Result<Self::Answer, DecodeError>;

    /// The layout of primitives at `version`.
    fn layout(version: i16) -> Layout {
        if version >= Self::FLEXIBLE_FROM {
            Layout::Flexible
        } else {
            Layout::Plain
        }
    }

    /// The layout of the response header at `version`.
    fn response_header(version: i16) -> Layout {
        if Self::PLAIN_RESPONSE_HEADER {
            Layout::Plain
        } else {
            Self::layout(version)
        }
    }
}

/// Reads a whole response frame: correlation id, header, body, and nothing after it.
///
/// # Errors
///
/// When the frame is not an answer of that request at that version.
pub fn read_response<R: Request>(
    frame: &[u8],
    version: i16,
) -> Result<(i32, R::Answer), DecodeError> {
    read_frame::<R>(
        &mut Reader::new(frame, R::response_header(version)),
        version,
    )
}

/// The same as a tree of every field by its name, with the header's fields but for the correlation
/// id.
///
/// # Errors
///
/// As [`read_response`].
pub fn response_tree<R: Request>(frame: &[u8], version: i16) -> Result<Value, DecodeError> {
    let mut reader = Reader::traced(frame, R::response_header(version));
    read_frame::<R>(&mut reader, version)?;
    let mut tree = reader.into_tree();
    if let Some(fields) = tree.as_object_mut() {
        fields.remove(CORRELATION_ID);
    }
    Ok(tree)
}

const CORRELATION_ID: &str = "correlation id";

fn read_frame<R: Request>(
    reader: &mut Reader<'_>,
    version: i16,
) -> Result<(i32, R::Answer), DecodeError> {
    let correlation_id = reader.i32(CORRELATION_ID)?;
    reader.tags("response header tags")?;
    reader.switch_layout(R::layout(version));
    let answer = R::read_answer(reader, version)?;
    reader.finish()?;
    Ok((correlation_id, answer))
}
