//! Request and response headers, and the size prefix before a request.
//!
//! *Source*: Kafka's `RequestHeader.json`, `ResponseHeader.json`; KIP-482: the client id keeps its
//! fixed-width length in every header version.

use bytes::{BufMut, BytesMut};

use crate::wire::Api;
use crate::wire::error::DecodeError;
use crate::wire::primitives::{Encoding, Reader, put_no_tags, put_text};

/// Which request stands behind a header, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct RequestHeader<'a> {
    /// The API.
    pub api: Api,
    /// The version of the body.
    pub version: i16,
    /// The request's number on its connection.
    pub correlation_id: i32,
    /// The client's name; at most 32,767 bytes.
    pub client_id: &'a str,
}

impl RequestHeader<'_> {
    /// Appends room for the size prefix, and the header.
    pub fn put(&self, buffer: &mut BytesMut) {
        buffer.put_i32(0);
        buffer.put_i16(self.api.key());
        buffer.put_i16(self.version);
        buffer.put_i32(self.correlation_id);
        put_text(buffer, Encoding::Classic, self.client_id);
        put_no_tags(buffer, self.api.encoding(self.version));
    }
}

/// Writes the size prefix of a request that starts `frame` and has `total` bytes, prefix included.
pub fn complete_size(frame: &mut [u8], total: usize) {
    let size = i32::try_from(total.saturating_sub(SIZE_BYTES)).unwrap_or(i32::MAX);
    if let Some(prefix) = frame.first_chunk_mut::<SIZE_BYTES>() {
        *prefix = size.to_be_bytes();
    }
}

/// The number of the request that a response answers; the response's first field in any version.
///
/// # Errors
///
/// The frame is shorter than the number.
pub fn correlation_id(frame: &[u8]) -> Result<i32, DecodeError> {
    Reader::new(frame).i32("correlation id")
}

/// A reader behind the response's header.
///
/// # Errors
///
/// The frame ends inside the header.
pub fn response_body(api: Api, version: i16, frame: &[u8]) -> Result<Reader<'_>, DecodeError> {
    let mut reader = Reader::new(frame);
    reader.i32("correlation id")?;
    reader.skip_tags(api.response_header_encoding(version))?;
    Ok(reader)
}

/// The size prefix's own size in bytes.
pub const SIZE_BYTES: usize = 4;
