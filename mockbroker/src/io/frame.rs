//! Frames: four bytes of size, then as many bytes.
//!
//! *Invariants*
//! 1. Memory follows the bytes that arrived, never the size that a peer declared.
//! 2. A size that is negative or above the bound is an error before its body is waited for.
//!
//! *Source*: `NetworkReceive` of apache/kafka 4.3; `socket.request.max.bytes` is the bound.
//!
//! *Not here*: what is inside. An empty frame is cut like any other and refused by the handlers.

use core::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A size prefix that no frame may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSize {
    /// The size as declared.
    pub declared_bytes: i32,
    /// The most that is allowed.
    pub bytes_max: usize,
}

impl fmt::Display for BadSize {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            declared_bytes,
            bytes_max,
        } = self;
        write!(
            out,
            "a frame declares {declared_bytes} bytes, allowed is 0 to {bytes_max}"
        )
    }
}

/// Cuts the next frame from what arrived; `None` while it is not complete.
///
/// # Errors
///
/// A size that is negative or above `bytes_max`; the bytes stay where they are.
pub fn cut(input: &mut BytesMut, bytes_max: usize) -> Result<Option<Bytes>, BadSize> {
    let Some(prefix) = input.first_chunk::<SIZE_BYTES>() else {
        return Ok(None);
    };
    let declared_bytes = i32::from_be_bytes(*prefix);
    let bytes = match usize::try_from(declared_bytes) {
        Ok(bytes) if bytes <= bytes_max => bytes,
        _ => {
            return Err(BadSize {
                declared_bytes,
                bytes_max,
            });
        }
    };
    if input.len() - SIZE_BYTES < bytes {
        return Ok(None);
    }
    input.advance(SIZE_BYTES);
    Ok(Some(input.split_to(bytes).freeze()))
}

/// Appends a frame to what is to be written.
pub fn put(output: &mut BytesMut, frame: &[u8]) {
    // No reply reaches 2 GiB: requests are bounded, and Fetch by what it asks for as an i32.
    let size = i32::try_from(frame.len()).unwrap_or(i32::MAX);
    output.reserve(SIZE_BYTES + frame.len());
    output.put_i32(size);
    output.put_slice(frame);
}

/// Bytes of a size prefix.
const SIZE_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use rstest::rstest;

    const BYTES_MAX: usize = 100;

    #[test]
    fn frames_are_cut_one_by_one_and_the_rest_stays() {
        let mut input = BytesMut::from(&b"\0\0\0\x03abc\0\0\0\0\0\0\0\x02d"[..]);
        assert_eq!(cut(&mut input, BYTES_MAX).unwrap().unwrap(), "abc");
        assert_eq!(cut(&mut input, BYTES_MAX).unwrap().unwrap(), "");
        assert_eq!(cut(&mut input, BYTES_MAX).unwrap(), None);
        assert_eq!(&input[..], b"\0\0\0\x02d");
    }

    #[rstest]
    #[case(-1)]
    #[case(i32::MIN)]
    #[case(101)]
    #[case(i32::MAX)]
    fn size_out_of_bounds_is_refused_before_its_body(#[case] declared_bytes: i32) {
        let mut input = BytesMut::from(&declared_bytes.to_be_bytes()[..]);
        let refused = BadSize {
            declared_bytes,
            bytes_max: BYTES_MAX,
        };
        assert_eq!(cut(&mut input, BYTES_MAX), Err(refused));
    }

    #[test]
    fn largest_size_waits_without_taking_memory() {
        let mut input = BytesMut::from(&i32::MAX.to_be_bytes()[..]);
        let bytes_max = usize::try_from(i32::MAX).unwrap();
        assert_eq!(cut(&mut input, bytes_max), Ok(None));
        assert!(input.capacity() < 64);
    }

    proptest! {
        #[test]
        fn what_is_put_is_cut_again_however_it_is_chopped(
            frames in vec(vec(any::<u8>(), 0..40), 0..8),
            chunk_bytes in 1_usize..50,
        ) {
            let mut sent = BytesMut::new();
            for frame in &frames {
                put(&mut sent, frame);
            }
            let (mut input, mut received) = (BytesMut::new(), Vec::new());
            for chunk in sent.chunks(chunk_bytes) {
                input.extend_from_slice(chunk);
                while let Some(frame) = cut(&mut input, BYTES_MAX).unwrap() {
                    received.push(frame.to_vec());
                }
            }
            prop_assert_eq!(received, frames);
            prop_assert!(input.is_empty());
        }
    }
}
