//! A whole cluster as one pure value: requests in, effects out, time as an argument.
pub mod effect;
pub mod time;
