//! Bytes to values and back, pure; written apart from the producer's so that one misunderstanding
//! cannot hide on both sides.
