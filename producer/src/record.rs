//! A record as it is handed to the producer: borrowed, copied once, into the wire buffer.
//!
//! *Invariants*
//! 1. Null and empty differ: a key or value never set is null, `b""` is empty.
//! 2. Headers keep their order; names may repeat; values may be null.
//!
//! *Not here*: which partition a record without an explicit one takes (`partitioner.rs`).

pub use crate::wire::record_batch::HeaderView as Header;

/// A record on its way to a topic.
///
/// `To` says where it goes: a topic's name (`&str`, from [`Record::to`]) for
/// [`Producer::send`](crate::Producer::send), nothing (`()`, from [`Record::new`]) for
/// [`Topic::send`](crate::Topic::send), where the handle knows.
///
/// ```
/// use kafka_producer::Record;
///
/// let record = Record::to("orders").key("customer-7").value("3 apples").header("trace", "1");
/// let deletion = Record::to("orders").key("customer-7"); // null value: a tombstone
/// # let _ = (record, deletion);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a record goes nowhere until it is sent"]
pub struct Record<'a, To = ()> {
    pub(crate) to: To,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

/// A record's headers. Not a `Cow`: that would tie records to one exact lifetime.
#[derive(Clone, Debug)]
enum Headers<'a> {
    Lent(&'a [Header<'a>]),
    Own(Vec<Header<'a>>),
}

impl<'topic> Record<'_, &'topic str> {
    /// A record for the topic of this name, with null key and null value.
    pub const fn to(topic: &'topic str) -> Self {
        Self::empty(topic)
    }
}

impl Record<'_> {
    /// A record for a [`Topic`](crate::Topic) handle, with null key and null value.
    pub const fn new() -> Self {
        Self::empty(())
    }
}

impl Default for Record<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a, To> Record<'a, To> {
    const fn empty(to: To) -> Self {
        Self {
            to,
            partition: None,
            timestamp_ms: None,
            key: None,
            value: None,
            headers: Headers::Lent(&[]),
        }
    }

    /// The key. Records of one key go to one partition, in order. Without it the key is null.
    pub fn key<K: AsRef<[u8]> + ?Sized>(self, key: &'a K) -> Self {
        self.nullable_key(Some(key.as_ref()))
    }

    /// The key, or null.
    pub fn nullable_key(mut self, key: Option<&'a [u8]>) -> Self {
        self.key = key;
        self
    }

    /// The value. Without it the value is null, which deletes the key in a compacted topic.
    pub fn value<V: AsRef<[u8]> + ?Sized>(self, value: &'a V) -> Self {
        self.nullable_value(Some(value.as_ref()))
    }

    /// The value, or null.
    pub fn nullable_value(mut self, value: Option<&'a [u8]>) -> Self {
        self.value = value;
        self
    }

    /// One more header. Names may repeat; the order is kept.
    ///
    /// The first one allocates a list; [`Record::headers`] borrows one.
    pub fn header<V: AsRef<[u8]> + ?Sized>(self, name: &'a str, value: &'a V) -> Self {
        self.nullable_header(name, Some(value.as_ref()))
    }

    /// One more header, whose value may be null.
    pub fn nullable_header(mut self, name: &'a str, value: Option<&'a [u8]>) -> Self {
        let header = Header { key: name, value };
        match &mut self.headers {
            Headers::Own(headers) => headers.push(header),
            Headers::Lent(lent) => {
                let mut headers = lent.to_vec();
                headers.push(header);
                self.headers = Headers::Own(headers);
            }
        }
        self
    }

    /// All headers at once, borrowed, in place of those added so far.
    pub fn headers(mut self, headers: &'a [Header<'a>]) -> Self {
        self.headers = Headers::Lent(headers);
        self
    }

    /// The partition, from 0. Without it the key decides, and without a key the producer.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// When it happened, in milliseconds since 1970, not negative. Without it: when it is sent,
    /// give or take a few milliseconds.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// Where it goes, and the rest.
    pub(crate) fn split(self) -> (To, Record<'a>) {
        let rest = Record {
            to: (),
            partition: self.partition,
            timestamp_ms: self.timestamp_ms,
            key: self.key,
            value: self.value,
            headers: self.headers,
        };
        (self.to, rest)
    }

    /// All headers at once, in place of those added so far.
    pub(crate) fn own_headers(mut self, headers: Vec<Header<'a>>) -> Self {
        self.headers = Headers::Own(headers);
        self
    }

    pub(crate) fn all_headers(&self) -> &[Header<'a>] {
        match &self.headers {
            Headers::Lent(headers) => headers,
            Headers::Own(headers) => headers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_differ() {
        let null = Record::new();
        assert_eq!((null.key, null.value), (None, None));
        let empty = Record::new().key("").value(b"");
        assert_eq!((empty.key, empty.value), (Some(&b""[..]), Some(&b""[..])));
    }

    #[test]
    fn headers_keep_order_and_duplicates() {
        let record = Record::new()
            .header("a", "1")
            .nullable_header("a", None)
            .header("b", "");
        let headers: Vec<_> = record
            .all_headers()
            .iter()
            .map(|h| (h.key, h.value))
            .collect();
        let expected = [("a", Some(&b"1"[..])), ("a", None), ("b", Some(&b""[..]))];
        assert_eq!(headers, expected);
    }

    #[test]
    fn a_lent_list_of_headers_is_not_copied() {
        let lent = [Header {
            key: "a",
            value: None,
        }];
        let record = Record::new().headers(&lent);
        assert!(std::ptr::eq(record.all_headers(), &lent[..]));
    }

    #[test]
    fn a_lent_list_of_headers_is_added_to() {
        let lent = [Header {
            key: "a",
            value: None,
        }];
        let record = Record::new().headers(&lent).header("b", "1");
        let names: Vec<_> = record.all_headers().iter().map(|h| h.key).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_record_is_made_of_whatever_holds_bytes() {
        let (owned, text) = (vec![1_u8, 2], String::from("text"));
        let record = Record::to("orders").key(&owned).value(&text);
        assert_eq!(record.key, Some(&[1, 2][..]));
        assert_eq!(record.value, Some(&b"text"[..]));
    }
}
