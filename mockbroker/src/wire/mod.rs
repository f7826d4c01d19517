//! Bytes to values and back, pure; written apart from the producer's so that one misunderstanding
//! cannot hide on both sides.
//!
//! | File | Holds |
//! |---|---|
//! | [`versions`] | which APIs and versions exist here |
//! | [`request`], [`reply`] | frames to values and back, over the `kafka-protocol` crate |
//! | [`admin_request`], [`admin_reply`] | the same for what admin clients ask |
//! | [`quotas`], [`features`] | the same for client quotas, for levels of features |
//! | [`groups`] | the same for groups of consumers |
//! | [`offsets`] | the same for offsets of groups |
//! | [`transactions`], [`listed_transactions`], [`txn_markers`] | the same for transactions and their coordinators |
//! | [`subscription`] | which topics a member of a group wants, as it tells its leader |
//! | `reply_body` | what replies say, before a version decides how much of it is sent |
//! | [`guard`] | the walk over a request that makes the decoder above safe to call |
//! | [`batch_view`], [`records`], [`compression`] | record batches, read independently of any client |
//! | [`record_writer`] | records written anew in another codec |
//! | [`refusal`] | why a frame closes its connection |

pub mod admin_reply;
pub mod admin_request;
pub mod batch_view;
pub mod compression;
pub mod features;
pub mod groups;
pub mod guard;
pub mod listed_transactions;
pub mod offsets;
pub mod quotas;
pub mod record_writer;
pub mod records;
pub mod refusal;
pub mod reply;
mod reply_body;
pub mod request;
pub mod subscription;
pub mod transactions;
pub mod txn_markers;
pub mod versions;
