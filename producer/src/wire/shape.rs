//! A frame's shape, checked before a library reads the frame.
//!
//! `kafka_protocol` reserves memory for as many elements as an array's count claims. This walk
//! proves first that every count of the frame is backed by elements that are there.
//!
//! *Invariants*
//! 1. A frame that passes makes no reader of the same layout allocate for more elements than the
//!    frame holds.
//! 2. The walk allocates nothing, and its depth is that of the layout.
//!
//! *Not here*: values; a frame may pass and still say nonsense.

use crate::wire::error::DecodeError;
use crate::wire::primitives::{Encoding, Reader};

/// A message's fields in order.
pub(crate) type Layout = [Part];

/// A field and the versions that have it.
pub(crate) struct Part {
    pub(crate) from: i16,
    pub(crate) to: i16,
    pub(crate) field: Field,
}

/// What a field looks like on the wire.
pub(crate) enum Field {
    /// So many bytes.
    Fixed(usize),
    /// A length and as many bytes.
    Text,
    /// A count and as many elements.
    Array(&'static Layout),
    /// The end of a structure in flexible versions: known tags and their layouts.
    Tags(&'static [(u32, &'static Layout)]),
}

/// A field of every version.
pub(crate) const fn always(field: Field) -> Part {
    Part {
        from: 0,
        to: i16::MAX,
        field,
    }
}

/// A field of this version and later.
pub(crate) const fn since(from: i16, field: Field) -> Part {
    Part {
        from,
        to: i16::MAX,
        field,
    }
}

/// A field of these versions.
pub(crate) const fn between(from: i16, to: i16, field: Field) -> Part {
    Part { from, to, field }
}

/// Walks a message.
///
/// # Errors
///
/// The frame ends early, or a length or count is impossible.
pub(crate) fn check(
    layout: &Layout,
    version: i16,
    encoding: Encoding,
    reader: &mut Reader<'_>,
) -> Result<(), DecodeError> {
    let parts = layout
        .iter()
        .filter(|part| (part.from..=part.to).contains(&version));
    for part in parts {
        match part.field {
            Field::Fixed(bytes) => {
                reader.take("fixed field", bytes)?;
            }
            Field::Text => {
                reader.text("text", encoding)?;
            }
            Field::Array(element) => {
                for _ in 0..reader.count("array", encoding)? {
                    check(element, version, encoding, reader)?;
                }
            }
            Field::Tags(known) => check_tags(known, version, encoding, reader)?,
        }
    }
    Ok(())
}

fn check_tags(
    known: &[(u32, &'static Layout)],
    version: i16,
    encoding: Encoding,
    reader: &mut Reader<'_>,
) -> Result<(), DecodeError> {
    reader.tags(encoding, |tag, value| {
        let Some((_, layout)) = known.iter().find(|(number, _)| *number == tag) else {
            return Ok(());
        };
        check(layout, version, encoding, value)?;
        // A reader that ignores the tag's length must end at the same place.
        if value.rest().is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TagLength { tag })
        }
    })
}
