//! Sockets: the judge's raw connection, and a proxy that loses a reply.

pub mod connection;
pub mod proxy;
pub mod transcript;
