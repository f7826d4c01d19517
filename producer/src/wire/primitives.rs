//! The protocol's primitive encodings: varints, and a small writer for what stands before bytes.
//!
//! *Invariants*
//! 1. A size function tells exactly what its writer writes.
//! 2. Nothing here panics on what it reads.
//!
//! *Source*: Kafka's `ByteUtils` (zigzag varints), KIP-482 (unsigned varints, compact lengths).

/// How many bytes `value` takes as an unsigned varint (1 to 10).
#[must_use]
pub fn unsigned_varint_bytes(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// How many bytes `value` takes as a zigzag varint (1 to 10).
#[must_use]
pub fn varint_bytes(value: i64) -> usize {
    unsigned_varint_bytes(zigzag(value))
}

/// Maps small magnitudes of either sign to small unsigned values: 0, −1, 1, −2 to 0, 1, 2, 3.
#[must_use]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// A length or count as a varint's value; lengths beyond 2⁶³ do not exist in memory.
#[must_use]
pub fn length_value(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// The few bytes that stand before a field, gathered so that they are copied once.
#[derive(Debug)]
pub(crate) struct Prefix {
    bytes: [u8; Prefix::CAPACITY],
    length: usize,
}

impl Prefix {
    /// Room for the widest prefix there is: five varints and one byte.
    const CAPACITY: usize = 51;

    pub(crate) fn new() -> Self {
        Self {
            bytes: [0; Self::CAPACITY],
            length: 0,
        }
    }

    pub(crate) fn put_u8(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    pub(crate) fn put_varint(&mut self, value: i64) {
        let mut rest = zigzag(value);
        while rest >= 0x80 {
            self.put_u8((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.put_u8((rest & 0x7f) as u8);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
