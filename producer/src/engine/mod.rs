//! The producer's state machines, pure: inputs in, actions out, time as an argument.
pub mod batch;
pub mod effect;
pub mod time;
