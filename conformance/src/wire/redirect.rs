//! Answers whose brokers are said to live elsewhere: how a client is led through a proxy.
//!
//! Only where brokers are is written anew; every byte before and after it stays.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::Request;
use super::answer::Metadata;
use super::produce::{Produce, read_topics};
use super::reader::{DecodeError, Layout, Reader};
use super::transactional::FindCoordinator;

/// First version whose answer begins with a throttle time.
const THROTTLE_FROM: i16 = 3;

/// An answer and its version, with broker N at `ports[N]` of the host.
pub type Redirect = fn(&[u8], i16, &str, &BTreeMap<i32, u16>) -> Result<Bytes, DecodeError>;

/// Bytes with the places in them where brokers are, written anew as they are read.
struct Rewriting<'a> {
    bytes: &'a [u8],
    layout: Layout,
    host: &'a str,
    ports: &'a BTreeMap<i32, u16>,
    out: BytesMut,
    /// How much of `bytes` is in `out`.
    copied: usize,
}

impl<'a> Rewriting<'a> {
    fn of(bytes: &'a [u8], layout: Layout, host: &'a str, ports: &'a BTreeMap<i32, u16>) -> Self {
        Self {
            bytes,
            layout,
            host,
            ports,
            out: BytesMut::new(),
            copied: 0,
        }
    }

    /// Reads a broker's id, host and port; one without a port in `ports` stays where it is. Its id.
    fn node(&mut self, reader: &mut Reader<'_>) -> Result<i32, DecodeError> {
        let id = reader.i32("broker id")?;
        let start = reader.position();
        reader.string("broker host")?;
        reader.i32("broker port")?;
        if let Some(port) = self.ports.get(&id) {
            self.out.put_slice(&self.bytes[self.copied..start]);
            put_string(self.host, self.layout, &mut self.out);
            self.out.put_i32(i32::from(*port));
            self.copied = reader.position();
        }
        Ok(id)
    }

    fn finish(mut self) -> Bytes {
        self.out.put_slice(&self.bytes[self.copied..]);
        self.out.freeze()
    }
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
    let mut rewriting = Rewriting::of(frame, layout, host, ports);
    reader.i32("correlation id")?;
    reader.tags("response header tags")?;
    if version >= THROTTLE_FROM {
        reader.i32("throttle time")?;
    }
    reader.list("brokers", |reader| {
        let id = rewriting.node(reader)?;
        if !ports.contains_key(&id) {
            let what = format!("broker {id} was not there when the proxy started");
            return Err(reader.error(what));
        }
        if version >= 1 {
            reader.nullable_string("broker rack")?;
        }
        reader.tags("broker tags")
    })?;
    Ok(rewriting.finish())
}

/// `frame`, an answer to FindCoordinator at `version`, with broker N at `ports[N]` of `host`; one
/// that names nobody, or a broker without a port, stays as it is.
///
/// # Errors
///
/// When the frame is no such answer.
pub fn redirect_coordinator(
    frame: &[u8],
    version: i16,
    host: &str,
    ports: &BTreeMap<i32, u16>,
) -> Result<Bytes, DecodeError> {
    let layout = FindCoordinator::layout(version);
    let mut reader = Reader::new(frame, layout);
    let mut rewriting = Rewriting::of(frame, layout, host, ports);
    reader.i32("correlation id")?;
    reader.tags("response header tags")?;
    if version >= 1 {
        reader.i32("throttle time")?;
    }
    if version < SEVERAL_FROM {
        reader.i16("error code")?;
        if version >= 1 {
            reader.nullable_string("error message")?;
        }
        rewriting.node(&mut reader)?;
    } else {
        reader.list("coordinators", |reader| {
            reader.string("key")?;
            rewriting.node(reader)?;
            reader.i16("error code")?;
            reader.nullable_string("error message")?;
            reader.tags("coordinator tags")
        })?;
    }
    Ok(rewriting.finish())
}

/// `frame`, an answer to Produce at `version`, with the leaders that it names (KIP-951): broker N
/// at `ports[N]` of `host`; one without a port stays where it is.
///
/// # Errors
///
/// When the frame is no such answer.
pub fn redirect_leaders(
    frame: &[u8],
    version: i16,
    host: &str,
    ports: &BTreeMap<i32, u16>,
) -> Result<Bytes, DecodeError> {
    let layout = Produce::layout(version);
    let mut reader = Reader::new(frame, layout);
    reader.i32("correlation id")?;
    reader.tags("response header tags")?;
    read_topics(&mut reader, version)?;
    if version >= 1 {
        reader.i32("throttle time")?;
    }
    let mut out = BytesMut::from(&frame[..reader.position()]);
    if layout == Layout::Flexible {
        let tags = reader.uvarint("body tags")?;
        put_uvarint(tags, &mut out);
        for _ in 0..tags {
            let tag = reader.uvarint("tag")?;
            let bytes = reader.uvarint("tag size")?;
            let field = reader.take(usize::try_from(bytes).unwrap_or(usize::MAX), "tag")?;
            let field = match tag {
                NODE_ENDPOINTS => redirect_endpoints(field, host, ports)?,
                _ => Bytes::copy_from_slice(field),
            };
            put_uvarint(tag, &mut out);
            put_uvarint(u32::try_from(field.len()).unwrap_or(u32::MAX), &mut out);
            out.put_slice(&field);
        }
    }
    out.put_slice(&frame[reader.position()..]);
    Ok(out.freeze())
}

/// The tag of an answer to Produce in which leaders are named.
const NODE_ENDPOINTS: u32 = 0;

fn redirect_endpoints(
    field: &[u8],
    host: &str,
    ports: &BTreeMap<i32, u16>,
) -> Result<Bytes, DecodeError> {
    let mut reader = Reader::new(field, Layout::Flexible);
    let mut rewriting = Rewriting::of(field, Layout::Flexible, host, ports);
    reader.list("node endpoints", |reader| {
        rewriting.node(reader)?;
        reader.nullable_string("node rack")?;
        reader.tags("node tags")
    })?;
    Ok(rewriting.finish())
}

/// First version of FindCoordinator that asks for several (KIP-699).
const SEVERAL_FROM: i16 = 4;

/// Lengths of host names fit either width.
fn put_string(text: &str, layout: Layout, out: &mut BytesMut) {
    match layout {
        Layout::Plain => out.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX)),
        Layout::Flexible => put_uvarint(u32::try_from(text.len() + 1).unwrap_or(u32::MAX), out),
    }
    out.put_slice(text.as_bytes());
}

fn put_uvarint(mut rest: u32, out: &mut BytesMut) {
    while rest >= 0x80 {
        let [low, ..] = rest.to_le_bytes();
        out.put_u8(low | 0x80);
        rest >>= 7;
    }
    let [low, ..] = rest.to_le_bytes();
    out.put_u8(low);
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::read_response;
    use super::*;

    /// The length of a list.
    fn put_count(count: u8, layout: Layout, out: &mut BytesMut) {
        match layout {
            Layout::Plain => out.put_i32(i32::from(count)),
            Layout::Flexible => out.put_u8(count + 1),
        }
    }

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
        put_count(1, layout, &mut out);
        out.put_i32(3);
        put_string("kafka.example", layout, &mut out);
        out.put_i32(9092);
        put_string("rack", layout, &mut out);
        tags(&mut out);
        if version >= 2 {
            put_string("cluster", layout, &mut out);
        }
        out.put_i32(3);
        put_count(1, layout, &mut out);
        out.put_i16(3);
        put_string("orders", layout, &mut out);
        if version >= 10 {
            out.put_slice(&[0; 16]);
        }
        out.put_u8(0);
        put_count(0, layout, &mut out);
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

    /// An answer that names broker 3, or nobody.
    fn coordinator(version: i16, node: i32) -> Bytes {
        let layout = FindCoordinator::layout(version);
        let flexible = layout == Layout::Flexible;
        let mut out = BytesMut::new();
        let tags = |out: &mut BytesMut| out.put_slice(if flexible { &[0] } else { &[] });
        let (host, port) = if node < 0 {
            ("", -1)
        } else {
            ("kafka.example", 9092)
        };
        out.put_i32(7);
        tags(&mut out);
        out.put_i32(0);
        if version < SEVERAL_FROM {
            out.put_i16(0);
            put_string("words", layout, &mut out);
        } else {
            put_count(1, layout, &mut out);
            put_string("transfers", layout, &mut out);
        }
        out.put_i32(node);
        put_string(host, layout, &mut out);
        out.put_i32(port);
        if version >= SEVERAL_FROM {
            out.put_i16(0);
            put_string("words", layout, &mut out);
            tags(&mut out);
        }
        tags(&mut out);
        out.freeze()
    }

    #[rstest]
    fn coordinator_is_behind_the_proxy_and_nobody_stays_nobody(
        #[values(1, 2, 3, 4, 6)] version: i16,
    ) {
        let before = coordinator(version, 3);
        let there = BTreeMap::from([(3, 4_000)]);
        let after = redirect_coordinator(&before, version, "127.0.0.1", &there).unwrap();
        let (correlation_id, new) = read_response::<FindCoordinator>(&after, version).unwrap();
        assert_eq!((correlation_id, new.node), (7, 3));
        assert_eq!(new.address, "127.0.0.1:4000");
        let back = BTreeMap::from([(3, 9_092)]);
        let back = redirect_coordinator(&after, version, "kafka.example", &back).unwrap();
        assert_eq!(back, before);
        let nobody = coordinator(version, -1);
        let still = redirect_coordinator(&nobody, version, "127.0.0.1", &there).unwrap();
        assert_eq!(still, nobody);
    }

    /// A refusal that names two leaders; a field of an unknown tag comes after them.
    fn refusal(version: i16) -> Bytes {
        let layout = Produce::layout(version);
        let mut out = BytesMut::new();
        out.put_i32(7);
        if layout == Layout::Flexible {
            out.put_u8(0);
        }
        put_count(0, layout, &mut out);
        out.put_i32(9);
        if layout == Layout::Flexible {
            let mut nodes = BytesMut::new();
            put_count(2, layout, &mut nodes);
            for (id, name) in [(3, "kafka.example"), (4, "elsewhere.example")] {
                nodes.put_i32(id);
                put_string(name, layout, &mut nodes);
                nodes.put_i32(9_092);
                put_string(&"r".repeat(40), layout, &mut nodes);
                nodes.put_u8(0);
            }
            out.put_slice(&[2, 0]);
            put_uvarint(u32::try_from(nodes.len()).unwrap(), &mut out);
            out.put_slice(&nodes);
            out.put_slice(&[5, 1, 0xab]);
        }
        out.freeze()
    }

    #[rstest]
    fn leaders_are_behind_the_proxy_and_others_where_they_were(#[values(10, 12, 13)] version: i16) {
        let before = refusal(version);
        let there = BTreeMap::from([(3, 4_000)]);
        let after = redirect_leaders(&before, version, "127.0.0.1", &there).unwrap();
        let (correlation_id, new) = read_response::<Produce>(&after, version).unwrap();
        assert_eq!(correlation_id, 7);
        let addresses: Vec<&str> = new.nodes.iter().map(|node| &*node.address).collect();
        assert_eq!(addresses, ["127.0.0.1:4000", "elsewhere.example:9092"]);
        let back = BTreeMap::from([(3, 9_092)]);
        let back = redirect_leaders(&after, version, "kafka.example", &back).unwrap();
        assert_eq!(back, before);
    }

    #[test]
    fn answer_that_names_no_leaders_stays_as_it_is() {
        let plain = refusal(8);
        let there = BTreeMap::from([(3, 4_000)]);
        assert_eq!(redirect_leaders(&plain, 8, "h", &there).unwrap(), plain);
    }

    #[test]
    fn broker_without_a_port_is_an_error() {
        let error = redirect(&answer(12), 12, "h", &BTreeMap::new()).unwrap_err();
        assert!(error.what.contains("broker 3"), "{error}");
    }
}
