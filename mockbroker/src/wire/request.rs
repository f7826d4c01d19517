//! Frames to requests. With `reply.rs` the only file that knows the `kafka-protocol` crate.
//!
//! *Invariants*
//! 1. No frame panics or reserves memory beyond its own size: [`super::guard`] walks it first.
//! 2. Record bytes are slices of the frame, never copies.
//!
//! *Source* the request schemas of apache/kafka 4.3.1; `RequestHeader.parse` for the header.

use bytes::Bytes;
use kafka_protocol::messages as kp;
use kafka_protocol::protocol::Decodable;

use super::guard::{self, Cursor};
use super::refusal::Refusal;
use super::versions;
use crate::api::Api;

/// What comes before every body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API.
    pub api: Api,
    /// Which version of it.
    pub version: i16,
    /// The client's number for the request; the reply carries it.
    pub correlation_id: i32,
    /// The client's name, if it gave one; what is not UTF-8 is replaced.
    pub client_id: Option<String>,
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Its header.
    pub header: RequestHeader,
    /// Its body.
    pub body: RequestBody,
}

/// The body of a request, one variant for each API.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RequestBody {
    /// See [`ApiVersions`].
    ApiVersions(ApiVersions),
}

/// ApiVersions; the one API that answers a version it does not know (KIP-511).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiVersions {
    /// A version that is served; name and version of the client's software since v3.
    Known {
        /// The software's name, `None` before v3.
        software: Option<(String, String)>,
    },
    /// A version that is not served; its body is not read.
    Unknown,
}

/// Reads a frame, without the four bytes of size before it.
///
/// # Errors
///
/// Whatever closes the connection: see [`Refusal`].
pub fn parse(frame: Bytes) -> Result<Request, Refusal> {
    let mut cursor = Cursor::new(&frame);
    let (key, version) = (
        cursor.int16().or(Err(Refusal::Header))?,
        cursor.int16().or(Err(Refusal::Header))?,
    );
    let api = Api::from_key(key);
    let served = versions::of(api).ok_or(Refusal::UnknownApi { api, version })?;
    let known = served.served.contains(version);
    if !known && api != Api::ApiVersions {
        return Err(Refusal::UnsupportedVersion { api, version });
    }
    let (correlation_id, client_id) =
        rest_of_header(&mut cursor, served.is_flexible(version)).map_err(|_| Refusal::Header)?;
    let header = RequestHeader {
        api,
        version,
        correlation_id,
        client_id,
    };
    if !known {
        return Ok(Request {
            header,
            body: RequestBody::ApiVersions(ApiVersions::Unknown),
        });
    }
    guard::check(served, version, cursor.rest()).map_err(|reason| Refusal::Body {
        api,
        version,
        reason,
    })?;
    let body = frame.slice(frame.len() - cursor.rest().len()..);
    let body = decode(api, version, body)?;
    Ok(Request { header, body })
}

fn rest_of_header(
    cursor: &mut Cursor<'_>,
    flexible: bool,
) -> Result<(i32, Option<String>), guard::Reason> {
    let correlation_id = cursor.int32()?;
    // The client id keeps its two-byte length in header version 2 (KIP-482).
    let client_id = match cursor.int16()? {
        -1 => None,
        bytes => {
            let bytes = usize::try_from(bytes).map_err(|_| "a length is below -1")?;
            Some(String::from_utf8_lossy(cursor.take(bytes)?).into_owned())
        }
    };
    if flexible {
        cursor.tagged_fields(&[])?;
    }
    Ok((correlation_id, client_id))
}

fn decode(api: Api, version: i16, mut body: Bytes) -> Result<RequestBody, Refusal> {
    let malformed = |_| Refusal::Body {
        api,
        version,
        reason: "a field does not follow the schema",
    };
    match api {
        Api::ApiVersions => {
            let decoded = kp::ApiVersionsRequest::decode(&mut body, version).map_err(malformed)?;
            Ok(RequestBody::ApiVersions(api_versions(decoded, version)))
        }
        _ => Err(Refusal::UnsupportedVersion { api, version }),
    }
}

fn api_versions(decoded: kp::ApiVersionsRequest, version: i16) -> ApiVersions {
    let software = (version >= 3).then(|| {
        (
            decoded.client_software_name.to_string(),
            decoded.client_software_version.to_string(),
        )
    });
    ApiVersions::Known { software }
}
