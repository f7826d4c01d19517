//! Why a frame closes the connection it came on.
//!
//! Kafka answers nothing to what it cannot read: it logs, closes that connection and serves the
//! others on (`SocketServer.processCompletedReceives`; observed on 4.3.1).

use thiserror::Error;

use crate::api::Api;

/// Why a frame is not a request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Fewer bytes than a request header has, or one that runs past the frame.
    #[error("malformed request header")]
    Header,
    /// No API of this key is served.
    #[error("{api} version {version} is not served")]
    UnknownApi {
        /// The API asked for.
        api: Api,
        /// The version sent.
        version: i16,
    },
    /// The API exists, this version of it is not served.
    #[error("{api} version {version} is not served")]
    UnsupportedVersion {
        /// The API.
        api: Api,
        /// The version sent.
        version: i16,
    },
    /// The body does not follow the schema.
    #[error("malformed {api} version {version} body: {reason}")]
    Body {
        /// The API.
        api: Api,
        /// Its version.
        version: i16,
        /// What does not fit.
        reason: &'static str,
    },
}
