//! What a [`Reader`](super::reader::Reader) has read, as a tree of named fields.
//!
//! A reader walks every field of a message by its name, or the message does not read to its end.
//! So the tree needs no second schema, and no field can be missing from it.
//!
//! *Invariants*
//! 1. A field that is read is in the tree once; of two with one name the later is told apart.
//! 2. The tree holds nothing that was not read.

use serde_json::{Map, Value};

/// The structures that are being read, outermost first.
#[derive(Clone, Debug)]
pub(super) struct Trace(Vec<Map<String, Value>>);

impl Trace {
    /// At the beginning of a message.
    pub(super) fn new() -> Self {
        Self(vec![Map::new()])
    }

    /// A structure begins.
    pub(super) fn open(&mut self) {
        self.0.push(Map::new());
    }

    /// The innermost structure ends. One of a single field is that field's value, so that a list
    /// of numbers is one.
    pub(super) fn close(&mut self) -> Value {
        let fields = self.0.pop().unwrap_or_default();
        match fields.values().next() {
            Some(only) if fields.len() == 1 => only.clone(),
            _ => Value::Object(fields),
        }
    }

    /// The innermost structure ends, of however many fields.
    pub(super) fn close_whole(&mut self) -> Value {
        Value::Object(self.0.pop().unwrap_or_default())
    }

    /// A field of the innermost structure was read.
    pub(super) fn note(&mut self, field: &str, value: impl Into<Value>) {
        let Some(fields) = self.0.last_mut() else {
            return;
        };
        let mut name = field.to_owned();
        while fields.contains_key(&name) {
            name.push('\'');
        }
        fields.insert(name, value.into());
    }

    /// The whole message.
    pub(super) fn finish(mut self) -> Value {
        Value::Object(self.0.pop().unwrap_or_default())
    }
}
