//! A Metadata answer whose brokers are said to live elsewhere: how a client is led through a proxy.
//!
//! Only the list of brokers is written anew; every byte before and after it stays.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::Request;
use super::answer::Metadata;
use super::reader::{DecodeError, Layout, Reader};

/// First version whose answer begins with a throttle time.
const THROTTLE_FROM: i16 = 3;

struct Broker {
    id: i32,
    rack: Option<String>,
}

/// `frame`, an answer to Metadata at `version`, with broker N at `ports[N]` of `host`.
///
/// # Errors
///
/// When the frame is no such answer, or names a broker without a port.
pub fn redirect(
    frame: &[u8],
    version: i16,
    host: &str,
    ports: &BTreeMap<i32, u16>,
) -> Result<Bytes, DecodeError> {
    let layout = Metadata::layout(version);
    let mut reader = Reader::new(frame, layout);
    reader.i32("correlation id")?;
    reader.tags("response header tags")?;
    if version >= THROTTLE_FROM {
        reader.i32("throttle time")?;
    }
    let start = reader.position();
    let brokers = reader.list("brokers", |reader| {
        let id = reader.i32("broker id")?;
        reader.string("broker host")?;
        reader.i32("broker port")?;
        let rack = if version >= 1 {
            reader.nullable_string("broker rack")?
        } else {
            None
        };
        reader.tags("broker tags")?;
        Ok(Broker { id, rack })
    })?;
    let end = reader.position();

    let mut out = BytesMut::from(&frame[..start]);
    put_length(Some(brokers.len()), Width::Four, layout, &mut out);
    for broker in brokers {
        let port = ports.get(&broker.id).ok_or_else(|| {
            reader.error(format!(
                "broker {} was not there when the proxy started",
                broker.id
            ))
        })?;
        out.put_i32(broker.id);
        put_string(Some(host), layout, &mut out);
        out.put_i32(i32::from(*port));
        if version >= 1 {
            put_string(broker.rack.as_deref(), layout, &mut out);
        }
        if layout == Layout::Flexible {
            out.put_u8(0);
        }
    }
    out.put_slice(&frame[end..]);
    Ok(out.freeze())
}

enum Width {
    Two,
    Four,
}

fn put_string(text: Option<&str>, layout: Layout, out: &mut BytesMut) {
    put_length(text.map(str::len), Width::Two, layout, out);
    out.put_slice(text.unwrap_or_default().as_bytes());
}

/// Lengths here are those of host names and broker lists: they fit any of the widths.
fn put_length(length: Option<usize>, width: Width, layout: Layout, out: &mut BytesMut) {
    let plain = length.map_or(-1, |length| i32::try_from(length).unwrap_or(i32::MAX));
    match (layout, width) {
        (Layout::Plain, Width::Two) => out.put_i16(i16::try_from(plain).unwrap_or(i16::MAX)),
        (Layout::Plain, Width::Four) => out.put_i32(plain),
        (Layout::Flexible, _) => {
            let mut rest = plain.wrapping_add(1).cast_unsigned();
            while rest >= 0x80 {
                let [low, ..] = rest.to_le_bytes();
                out.put_u8(low | 0x80);
                rest >>= 7;
            }
            let [low, ..] = rest.to_le_bytes();
            out.put_u8(low);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::read_response;
    use super::*;

    /// An answer of one broker with a rack and of one topic without partitions.
    fn answer(version: i16) -> Bytes {
        let layout = Metadata::layout(version);
        let flexible = layout == Layout::Flexible;
        let mut out = BytesMut::new();
        let tags = |out: &mut BytesMut| out.put_slice(if flexible { &[0] } else { &[] });
        out.put_i32(7);
        tags(&mut out);
        if version >= THROTTLE_FROM {
            out.put_i32(0);
        }
        put_length(Some(1), Width::Four, layout, &mut out);
        out.put_i32(3);
        put_string(Some("kafka.example"), layout, &mut out);
        out.put_i32(9092);
        put_string(Some("rack"), layout, &mut out);
        tags(&mut out);
        if version >= 2 {
            put_string(Some("cluster"), layout, &mut out);
        }
        out.put_i32(3);
        put_length(Some(1), Width::Four, layout, &mut out);
        out.put_i16(3);
        put_string(Some("orders"), layout, &mut out);
        if version >= 10 {
            out.put_slice(&[0; 16]);
        }
        out.put_u8(0);
        put_length(Some(0), Width::Four, layout, &mut out);
        if version >= 8 {
            out.put_i32(i32::MIN);
        }
        tags(&mut out);
        if (8..=10).contains(&version) {
            out.put_i32(i32::MIN);
        }
        if version >= 13 {
            out.put_i16(0);
        }
        tags(&mut out);
        out.freeze()
    }

    #[rstest]
    fn answer_leads_to_the_proxy_and_is_else_unchanged(
        #[values(1, 2, 4, 8, 9, 10, 12, 13)] version: i16,
    ) {
        let before = answer(version);
        let after = redirect(&before, version, "127.0.0.1", &BTreeMap::from([(3, 4_000)])).unwrap();
        let (_, old) = read_response::<Metadata>(&before, version).unwrap();
        let (correlation_id, new) = read_response::<Metadata>(&after, version).unwrap();
        assert_eq!(correlation_id, 7);
        assert_eq!(new.address(3), Some("127.0.0.1:4000"));
        assert_eq!(new.topics, old.topics);
        // Back again, byte for byte: the rack survived.
        let back = BTreeMap::from([(3, 9_092)]);
        assert_eq!(
            redirect(&after, version, "kafka.example", &back).unwrap(),
            before
        );
    }

    #[test]
    fn broker_without_a_port_is_an_error() {
        let error = redirect(&answer(12), 12, "h", &BTreeMap::new()).unwrap_err();
        assert!(error.what.contains("broker 3"), "{error}");
    }
}
