//! The `mockbroker` program.
fn main() {}
