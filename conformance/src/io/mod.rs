//! Sockets: the judge's raw connection, and a proxy on which things go wrong.

pub mod connection;
pub mod proxy;
pub mod transcript;
pub mod trouble;
