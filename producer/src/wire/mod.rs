//! Bytes to values and back, pure.
//!
//! | File | Holds |
//! |---|---|
//! | `primitives` | varints and bounded readers and writers |
//! | `record_batch` | the v2 record batch, written in place |
pub mod primitives;
pub mod record_batch;
