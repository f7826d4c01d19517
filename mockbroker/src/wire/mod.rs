//! Bytes to values and back, pure; written apart from the producer's so that one misunderstanding
//! cannot hide on both sides.
//!
//! | File | Holds |
//! |---|---|
//! | [`versions`] | which APIs and versions exist here |
//! | [`request`], [`reply`] | frames to values and back, over the `kafka-protocol` crate |
//! | [`guard`] | the walk over a request that makes the decoder above safe to call |
//! | [`refusal`] | why a frame closes its connection |

pub mod guard;
pub mod refusal;
pub mod reply;
pub mod request;
pub mod versions;
